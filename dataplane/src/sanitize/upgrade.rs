//! What makes a request something else than one message: its framing, and its wish to switch protocols.

use http::{
    HeaderMap, HeaderName, Method, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};

use super::Bad;

/// Refuses a body whose end is not certain.
///
/// hyper refuses differing lengths. It drops a length beside chunks in silence; the listener's head scan
/// sees both, and the pipeline has refused that with 400 before it asks here. Left to refuse are codings besides `chunked`, which we would have to undo, and what is not one plain number.
pub(crate) fn framing(parts: &Parts) -> Result<(), Bad> {
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        return Err(Bad::TransferEncoding);
    }
    for length in parts.headers.get_all(CONTENT_LENGTH) {
        let digits = length.as_bytes();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Bad::ContentLength);
        }
    }
    Ok(())
}

/// Whether the end of a peer's response is certain: no coding besides `chunked`, no length beside it, no coding in
/// HTTP/1.0, and a length that is one number. hyper believes the chunks, accepts a length that is said twice, and
/// looks at none of this where a response has no body; but what it passes on is framed by these headers, and a peer,
/// or a cache before it, that says both is not to be trusted with the connection (RFC 9112 §6.3).
pub(crate) fn is_framed_once(version: Version, headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), lengths.next()) {
        (None, None) => true,
        (None, Some(length)) => is_length(length.as_bytes()) && lengths.next().is_none(),
        (Some(coding), None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && codings.next().is_none()
                && version == Version::HTTP_11
        }
        (Some(_), Some(_)) => false,
    }
}

/// Whether it is the decimal number of a length that somebody may have (RFC 9110 §8.6).
fn is_length(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(text).is_ok_and(|text| text.parse::<u64>().is_ok())
}

/// The `Content-Length`, if it is one number.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let length = values.next()?.to_str().ok()?.parse().ok()?;
    values.next().is_none().then_some(length)
}

/// The items of a header that is a comma-separated list of tokens, over all its lines.
pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn is_only(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    let mut tokens = tokens(headers, name);
    tokens
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case(token))
        && tokens.next().is_none()
}

/// Whether this is a websocket handshake of HTTP/1.1 (RFC 6455 §4.1). Every other `Upgrade` is ignored, as
/// RFC 9110 §7.8 allows, and the request goes on as a plain one.
pub(crate) fn is_websocket_upgrade(parts: &Parts) -> bool {
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && parts.headers.contains_key(UPGRADE)
        && is_only(&parts.headers, &UPGRADE, b"websocket")
        && tokens(&parts.headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
        && !parts.headers.contains_key(TRANSFER_ENCODING)
        && parts
            .headers
            .get(CONTENT_LENGTH)
            .is_none_or(|length| length == "0")
}

/// Whether this is a websocket handshake of HTTP/2 (RFC 8441).
pub(crate) fn is_extended_websocket(parts: &Parts) -> bool {
    parts.method == Method::CONNECT
        && parts
            .extensions
            .get::<hyper::ext::Protocol>()
            .is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// Whether a 101 of a peer is one to a websocket handshake.
pub(crate) fn is_websocket_accept(headers: &HeaderMap) -> bool {
    is_only(headers, &UPGRADE, b"websocket")
        && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(lines: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/").version(Version::HTTP_11);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_websocket_upgrades() {
        for (lines, wanted) in [
            (
                vec![("connection", "Upgrade"), ("upgrade", "websocket")],
                true,
            ),
            (
                vec![
                    ("connection", "keep-alive, upgrade"),
                    ("upgrade", "WebSocket"),
                ],
                true,
            ),
            (vec![("connection", "upgrade"), ("upgrade", "h2c")], false),
            (
                vec![("connection", "upgrade"), ("upgrade", "websocket, h2c")],
                false,
            ),
            (
                vec![
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("upgrade", "h2c"),
                ],
                false,
            ),
            (vec![("upgrade", "websocket")], false),
            (vec![("connection", "upgrade")], false),
            (
                vec![
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("content-length", "5"),
                ],
                false,
            ),
            (
                vec![
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("content-length", "0"),
                ],
                true,
            ),
            (
                vec![
                    ("connection", "upgrade"),
                    ("upgrade", "websocket"),
                    ("transfer-encoding", "chunked"),
                ],
                false,
            ),
        ] {
            assert_eq!(is_websocket_upgrade(&parts(&lines)), wanted, "{lines:?}");
        }
        let mut post = parts(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        post.method = Method::POST;
        assert!(!is_websocket_upgrade(&post));
        post.method = Method::GET;
        post.version = Version::HTTP_2;
        assert!(!is_websocket_upgrade(&post));
    }

    #[test]
    fn extended_connect_is_websocket_only() {
        let mut connect = parts(&[]);
        connect.method = Method::CONNECT;
        assert!(!is_extended_websocket(&connect));
        connect
            .extensions
            .insert(hyper::ext::Protocol::from_static("websocket"));
        assert!(is_extended_websocket(&connect));
        connect
            .extensions
            .insert(hyper::ext::Protocol::from_static("connect-udp"));
        assert!(!is_extended_websocket(&connect));
    }

    #[test]
    fn bodies_of_uncertain_end_are_refused() {
        for (lines, wanted) in [
            (vec![], Ok(())),
            (vec![("transfer-encoding", "chunked")], Ok(())),
            (vec![("transfer-encoding", "Chunked")], Ok(())),
            (
                vec![("transfer-encoding", "gzip, chunked")],
                Err(Bad::TransferEncoding),
            ),
            (
                vec![("transfer-encoding", "chunked, chunked")],
                Err(Bad::TransferEncoding),
            ),
            (
                vec![("transfer-encoding", "identity")],
                Err(Bad::TransferEncoding),
            ),
            (
                vec![
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                Err(Bad::TransferEncoding),
            ),
            (vec![("content-length", "12")], Ok(())),
            (vec![("content-length", "12, 12")], Err(Bad::ContentLength)),
            (vec![("content-length", "+12")], Err(Bad::ContentLength)),
            (vec![("content-length", "")], Err(Bad::ContentLength)),
        ] {
            assert_eq!(framing(&parts(&lines)), wanted, "{lines:?}");
        }
    }
}
