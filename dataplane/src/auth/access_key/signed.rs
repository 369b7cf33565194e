//! A request as a signature sees it: nothing in it was changed since it arrived.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, Method, header::AUTHORIZATION};

use crate::{auth::Outcome, config::SignedBody};

/// The longest header that a signature is read from.
pub(super) const LONGEST_HEADER: usize = 8 * 1024;

/// What can be read in no way, or in more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<Malformed> for Outcome {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A request as a signature sees it, and how strictly it is looked at.
pub(super) struct Signed<'a> {
    pub(super) method: &'a Method,
    /// As received.
    pub(super) path: &'a str,
    /// The canonical path that goes upstream.
    pub(super) forwarded: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    /// Host and port, as the client wrote them.
    pub(super) authority: &'a str,
    pub(super) https: bool,
    pub(super) has_body: bool,
    /// Seconds of Unix time.
    pub(super) now: i64,
    /// Seconds.
    pub(super) skew: i64,
    pub(super) body: SignedBody,
}

impl<'a> Signed<'a> {
    /// What `Authorization` says under this scheme.
    pub(super) fn authorization(&self, scheme: &str) -> Result<Option<&'a str>, Malformed> {
        let values = self.headers.get_all(AUTHORIZATION);
        let ours = values.iter().find_map(|value| {
            let (head, rest) = value.as_bytes().split_at_checked(scheme.len())?;
            let ends = rest.first().is_none_or(|byte| *byte == b' ');
            (ends && head.eq_ignore_ascii_case(scheme.as_bytes())).then_some(value)
        });
        let Some(value) = ours else {
            return Ok(None);
        };
        if values.iter().nth(1).is_some() || value.len() > LONGEST_HEADER {
            return Err(Malformed);
        }
        let text = value.to_str().map_err(|_| Malformed)?;
        let rest = text.get(scheme.len()..).ok_or(Malformed)?;
        Ok(Some(rest.trim_matches(' ')))
    }

    /// The only field of this name.
    pub(super) fn one(&self, name: &str) -> Result<Option<&'a str>, Malformed> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        match (values.next(), value.to_str()) {
            (None, Ok(text)) => Ok(Some(text)),
            _ => Err(Malformed),
        }
    }

    /// The fields of this name, trimmed and joined as RFC 9421 §2.1 says, up to a length.
    pub(super) fn list(&self, name: &HeaderName, most: usize) -> Result<Vec<u8>, Malformed> {
        let value = self.field(name.as_str())?;
        if value.len() > most {
            return Err(Malformed);
        }
        Ok(value)
    }

    /// The same; `host` is what the client wrote, in whatever version.
    pub(super) fn field(&self, name: &str) -> Result<Vec<u8>, Malformed> {
        if name == "host" {
            return Ok(self.authority.as_bytes().to_vec());
        }
        if !self.headers.contains_key(name) {
            return Err(Malformed);
        }
        let values = self.headers.get_all(name).iter();
        let values: Vec<&[u8]> = values.map(|value| value.as_bytes().trim_ascii()).collect();
        Ok(values.join(&b", "[..]))
    }

    /// Whether a date is near enough.
    pub(super) fn in_time(&self, at: i64) -> Result<(), Outcome> {
        if self.now.abs_diff(at) > self.skew.unsigned_abs() {
            return Err(Outcome::ClockSkew);
        }
        Ok(())
    }
}

/// `Name=value, Name=value`: these names, each once, in any order.
pub(super) fn named_parameters<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<[&'a str; N], Malformed> {
    let mut found = [""; N];
    for part in text.split(',') {
        let (name, value) = part.trim_matches(' ').split_once('=').ok_or(Malformed)?;
        let at = names.iter().position(|wanted| *wanted == name);
        let slot = at.and_then(|at| found.get_mut(at)).ok_or(Malformed)?;
        if value.is_empty() || !std::mem::replace(slot, value).is_empty() {
            return Err(Malformed);
        }
    }
    match found.iter().all(|value| !value.is_empty()) {
        true => Ok(found),
        false => Err(Malformed),
    }
}

/// 64 digits, lower case.
pub(super) fn hexadecimal(text: &str) -> Result<[u8; 32], Malformed> {
    let mut out = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != out.len() || !rest.is_empty() {
        return Err(Malformed);
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Malformed),
    };
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Ok(out)
}

pub(super) fn to_hex(bytes: &[u8]) -> Vec<u8> {
    let digits = b"0123456789abcdef";
    let pairs = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    pairs.map(|nibble| digits[usize::from(nibble)]).collect()
}

/// `Tue, 20 Apr 2021 02:07:55 GMT` in seconds of Unix time.
pub(super) fn http_time(text: &str) -> Result<i64, Malformed> {
    httpdate::parse_http_date(text)
        .map(unix)
        .map_err(|_| Malformed)
}

pub(super) fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
