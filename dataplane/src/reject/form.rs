//! What a client can read: JSON, a page, or gRPC trailers.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::reason::Reason;

/// What a client wants to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// `application/problem+json` (RFC 9457).
    #[default]
    Json,
    /// A page for people.
    Html,
    /// HTTP 200 with `grpc-status`, without a body.
    Grpc,
}

impl Form {
    /// By `Content-Type` and `Accept` of the request.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let grpc = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| is_grpc(kind.as_bytes()));
        if grpc {
            return Self::Grpc;
        }
        let (mut html, mut json) = (0, 0);
        for line in headers.get_all(header::ACCEPT) {
            for range in line.as_bytes().split(|byte| *byte == b',') {
                let mut parameters = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                let name = parameters.next().unwrap_or_default();
                let quality = parameters.find_map(quality).unwrap_or(1_000);
                if name.eq_ignore_ascii_case(b"text/html") {
                    html = quality;
                } else if is_json(name) {
                    json = json.max(quality);
                }
            }
        }
        if html > json { Self::Html } else { Self::Json }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/problem+json",
            Self::Html => "text/html; charset=utf-8",
            Self::Grpc => "application/grpc",
        })
    }
}

/// `application/grpc`, or that with a suffix or parameters; not `application/grpc-web`.
fn is_grpc(kind: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    kind.get(..GRPC.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
        && matches!(kind.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}

fn is_json(range: &[u8]) -> bool {
    range.eq_ignore_ascii_case(b"application/json")
        || range.eq_ignore_ascii_case(b"application/problem+json")
}

/// `q=0.8` in thousandths.
fn quality(parameter: &[u8]) -> Option<u16> {
    let value = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="))?;
    let value: f32 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some((value.clamp(0.0, 1.0) * 1_000.0) as u16)
}

/// Trailers-only: status and message in the head, END_STREAM with it.
pub(super) fn grpc_headers(headers: &mut HeaderMap, status: u8, reason: Reason, message: &str) {
    const STATUS: HeaderName = HeaderName::from_static("grpc-status");
    const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
    headers.insert(STATUS, HeaderValue::from(u16::from(status)));
    let text = percent_encode(&format!("{reason}: {message}"));
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert(MESSAGE, text);
    }
}

/// As gRPC wants it: everything but printable ASCII, and `%`, as `%XX`.
fn percent_encode(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}
