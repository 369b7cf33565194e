//! Authentication of connections: NTLM, and Negotiate where the server remembers it (RFC 4559, MS-NTHT). Who has logged in
//! to a connection is logged in with every request on it, so nobody else's may follow there.

use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};

/// Whether a request logs in to its connection.
pub(crate) fn logs_in(headers: &HeaderMap) -> bool {
    has_scheme(headers, &AUTHORIZATION)
}

/// Whether a server asks to log in to the connection, or goes on with that.
pub(crate) fn asks_to_log_in<B>(response: &Response<B>) -> bool {
    has_scheme(response.headers(), &WWW_AUTHENTICATE)
}

fn has_scheme(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(name).iter().any(of_connections)
}

/// Whether a value has such a scheme, alone or as one of several challenges.
fn of_connections(value: &HeaderValue) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|part| {
        let part = part.trim_ascii();
        let scheme = part.split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_found_wherever_they_are() {
        for (value, wanted) in [
            ("NTLM", true),
            ("ntlm TlRMTVNTUAAB", true),
            ("Negotiate", true),
            ("NEGOTIATE oYG2MIGz", true),
            ("Basic realm=\"x\", NTLM", true),
            ("Basic realm=\"x\",Negotiate abc", true),
            ("Basic bnRsbQ==", false),
            ("Bearer negotiate", false),
            ("", false),
        ] {
            assert_eq!(
                of_connections(&HeaderValue::from_static(value)),
                wanted,
                "{value}"
            );
        }
    }
}
