//! A record as a line of JSON, by hand: no tree, no allocation, no formatting machinery.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::Version;

use super::{Attempt, Record};
use crate::metrics::Outcome;

impl Record<'_> {
    /// Appends the record as a line.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        text(out, "{\"time\":\"");
        time(out, self.time);
        text(out, "\",\"client\":\"");
        address(out, self.client);
        text(out, "\",\"method\":\"");
        escape(out, self.method.as_str().as_bytes());
        text(out, "\",\"host\":\"");
        escape(out, self.host.as_bytes());
        text(out, "\",\"path\":\"");
        escape(out, self.path.as_bytes());
        text(out, "\",\"query_len\":");
        number(out, self.query_len as u64);
        text(out, ",\"protocol\":\"");
        text(out, protocol(self.version));
        text(out, "\",\"tls\":");
        text(out, if self.https { "true" } else { "false" });
        if let Some(sni) = self.sni {
            text(out, ",\"sni\":\"");
            escape(out, sni.as_bytes());
            text(out, "\"");
        }
        text(out, ",\"status\":");
        number(out, self.status.into());
        text(out, ",\"bytes_in\":");
        number(out, self.bytes_in);
        text(out, ",\"bytes_out\":");
        number(out, self.bytes_out);
        text(out, ",\"duration_ms\":");
        milliseconds(out, self.duration);
        text(out, ",\"request_id\":\"");
        escape(out, self.request_id.as_bytes());
        text(out, "\"");
        self.write_route(out);
        self.write_auth(out);
        if let Some(agent) = self.user_agent {
            text(out, ",\"user_agent\":\"");
            escape(out, agent);
            text(out, "\"");
        }
        text(out, ",\"attempts\":[");
        for (at, attempt) in self.attempts.iter().enumerate() {
            if at > 0 {
                text(out, ",");
            }
            attempt.write_json(out);
        }
        text(out, "]}\n");
    }

    fn write_route(&self, out: &mut Vec<u8>) {
        if let Some(route) = self.route {
            text(out, ",\"route\":\"");
            for part in [route.kind, " ", &route.namespace, "/", &route.name] {
                escape(out, part.as_bytes());
            }
            text(out, "\"");
        }
        if let Some(upstream) = self.upstream {
            text(out, ",\"upstream\":\"");
            let (namespace, service) = (&upstream.namespace, &upstream.service);
            for part in [namespace, "/", service, ":", &upstream.port] {
                escape(out, part.as_bytes());
            }
            text(out, "\"");
        }
        if let Some(reason) = self.reason {
            text(out, ",\"reason\":\"");
            text(out, reason.as_str());
            text(out, "\"");
        }
    }

    fn write_auth(&self, out: &mut Vec<u8>) {
        let Some(note) = self.auth else { return };
        if let Some(consumer) = &note.consumer {
            text(out, ",\"consumer\":\"");
            escape(out, consumer.as_bytes());
            text(out, "\"");
        }
        if let Some(kind) = note.kind {
            text(out, ",\"authMethod\":\"");
            text(out, kind.as_str());
            text(out, "\"");
        }
        text(out, ",\"authOutcome\":\"");
        text(out, note.outcome.as_str());
        text(out, "\"");
    }
}

impl Attempt {
    fn write_json(&self, out: &mut Vec<u8>) {
        text(out, "{\"peer\":\"");
        socket(out, self.peer);
        if let Outcome::Answered(status) = self.outcome {
            text(out, "\",\"status\":");
            number(out, status.into());
            text(out, "}");
        } else {
            text(out, "\",\"outcome\":\"");
            text(out, self.outcome.as_str());
            text(out, "\"}");
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, number: u64) {
    text(out, itoa::Buffer::new().format(number));
}

/// The decimal digits of a number, with leading zeros.
#[allow(clippy::cast_possible_truncation)]
fn digits<const WIDTH: usize>(mut number: u64) -> [u8; WIDTH] {
    let mut digits = [b'0'; WIDTH];
    for digit in digits.iter_mut().rev() {
        *digit += (number % 10) as u8;
        number /= 10;
    }
    digits
}

/// Microseconds as `1.234`.
fn milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1_000);
    out.push(b'.');
    out.extend_from_slice(&digits::<3>(micros % 1_000));
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                number(out, octet.into());
            }
        }
        IpAddr::V6(ip) => text(out, &ip.to_string()),
    }
}

fn socket(out: &mut Vec<u8>, peer: SocketAddr) {
    if peer.is_ipv6() {
        out.push(b'[');
        address(out, peer.ip());
        out.push(b']');
    } else {
        address(out, peer.ip());
    }
    out.push(b':');
    number(out, peer.port().into());
}

/// RFC 3339 in UTC with milliseconds. Days to a date as in Howard Hinnant's "chrono-Compatible Low-Level Date
/// Algorithms": years begin with March, so that the leap day comes last.
fn time(out: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    text[..4].copy_from_slice(&digits::<4>(year));
    text[5..7].copy_from_slice(&digits::<2>(month));
    text[8..10].copy_from_slice(&digits::<2>(day));
    text[11..13].copy_from_slice(&digits::<2>(second / 3_600));
    text[14..16].copy_from_slice(&digits::<2>(second / 60 % 60));
    text[17..19].copy_from_slice(&digits::<2>(second % 60));
    text[20..23].copy_from_slice(&digits::<3>(since.subsec_millis().into()));
    out.extend_from_slice(&text);
}

/// The inside of a JSON string. Runs that need nothing are copied whole. Bytes that are not UTF-8 become
/// U+FFFD, and control characters, DEL and the line separators of JavaScript are escaped, so that no line
/// can break a terminal or a parser.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let run = plain_run(rest);
        let (copied, left) = rest.split_at(run);
        out.extend_from_slice(copied);
        let Some(chunk) = left.utf8_chunks().next() else {
            return;
        };
        match chunk.valid().chars().next() {
            Some(char) => {
                escape_char(out, char);
                rest = &left[char.len_utf8()..];
            }
            None => {
                text(out, "\u{fffd}");
                rest = &left[chunk.invalid().len()..];
            }
        }
    }
}

/// How many leading bytes need no escape. Whole chunks are judged without a branch, which becomes vector
/// instructions.
fn plain_run(bytes: &[u8]) -> usize {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    let (chunks, _) = bytes.as_chunks::<16>();
    let whole = chunks
        .iter()
        .take_while(|chunk| chunk.iter().fold(true, |all, byte| all & plain(*byte)))
        .count();
    let (_, rest) = bytes.split_at(16 * whole);
    let more = rest.iter().position(|byte| !plain(*byte));
    16 * whole + more.unwrap_or(rest.len())
}

fn escape_char(out: &mut Vec<u8>, char: char) {
    match char {
        '"' => text(out, "\\\""),
        '\\' => text(out, "\\\\"),
        '\n' => text(out, "\\n"),
        '\r' => text(out, "\\r"),
        '\t' => text(out, "\\t"),
        char if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let code = u32::from(char);
            text(out, "\\u");
            for shift in [12, 8, 4, 0] {
                out.push(DIGITS[(code >> shift & 15) as usize]);
            }
        }
        char => text(out, char.encode_utf8(&mut [0; 4])),
    }
}
