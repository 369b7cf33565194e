//! Names of headers in policies: which may be read, and which may be written.
//!
//! One list for whoever reads policies and for whoever acts on them: a name that one of them takes and the other drops
//! would be one that clients can still set. What frames a message, belongs to the connection, or is for Hale to say
//! or to believe, is nobody else's; every other name is.

/// What is done with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A credential is in it.
    Credential,
    /// A claim goes upstream in it.
    Claim,
    /// It goes to the service that is asked.
    Question,
    /// It goes from that service upstream.
    Answer,
    /// Requests are counted by it.
    Count,
}

/// Whether a policy must not name a header for this; the name is in lower case. Names that CGI and its kin take for
/// the same one are the same here.
pub fn is_barred(name: &str, what: Use) -> bool {
    let plain = plain(name);
    let name = plain.as_str();
    let is_of_connection = matches!(
        name,
        "host"
            | "content-length"
            | "transfer-encoding"
            | "connection"
            | "upgrade"
            | "te"
            | "trailer"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "expect"
            | "http2-settings"
    );
    let is_of_message = matches!(name, "content-type" | "content-encoding");
    let is_forwarded = name.starts_with("x-forwarded-");
    if is_of_connection || name.starts_with("x-hale-") {
        return true;
    }
    match what {
        Use::Credential => name == "cookie" || is_forwarded,
        Use::Claim => {
            let is_credential = matches!(name, "authorization" | "cookie" | "set-cookie");
            is_credential || is_of_message || is_of_proxies(name) || is_forwarded
        }
        // Cookies of an answer are the client's, and it gets them anyway.
        Use::Answer => name == "set-cookie" || is_of_message || is_of_proxies(name),
        Use::Question => is_of_proxies(name) && !is_always_told(name),
        Use::Count => false,
    }
}

/// What Hale tells pods of the way of a request, or believes of it, or what servers take for its path.
fn is_of_proxies(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "via"
            | "cdn-loop"
            | "x-real-ip"
            | "x-request-id"
            | "x-forwarded-for"
            | "x-forwarded-proto"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-prefix"
            | "x-forwarded-method"
            | "x-forwarded-uri"
            | "x-original-method"
            | "x-original-url"
            | "x-original-uri"
            | "x-original-host"
            | "x-rewrite-url"
    )
}

/// What every question to an external service has, as Hale knows it: to name it changes nothing.
pub(super) fn is_always_told(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "cookie"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-method"
            | "x-forwarded-proto"
            | "x-forwarded-uri"
            | "x-original-method"
            | "x-original-url"
            | "x-real-ip"
            | "x-request-id"
    )
}

/// A name as CGI and its kin read it: whatever is no letter or digit is the same to them.
pub(super) fn plain(name: &str) -> String {
    let plain = |byte: char| {
        if byte.is_ascii_alphanumeric() {
            byte
        } else {
            '-'
        }
    };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Use; 5] = [
        Use::Credential,
        Use::Claim,
        Use::Question,
        Use::Answer,
        Use::Count,
    ];

    #[test]
    fn nobody_has_what_frames_or_what_is_ours() {
        for what in ALL {
            for name in [
                "host",
                "connection",
                "content-length",
                "proxy-authorization",
                "x-hale-consumer",
                "x.hale.consumer",
            ] {
                assert!(is_barred(name, what), "{name} {what:?}");
            }
            assert!(!is_barred("x-user", what), "{what:?}");
        }
    }

    #[test]
    fn answers_name_people_and_not_the_way_of_a_request() {
        for name in [
            "x-forwarded-user",
            "x-forwarded-email",
            "x-forwarded-groups",
            "x-forwarded-preferred-username",
            "x-forwarded-access-token",
            "x-original-user",
            "x-auth-request-user",
            "authorization",
        ] {
            assert!(!is_barred(name, Use::Answer), "{name}");
        }
        for name in [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-prefix",
            "x.forwarded.for",
            "x-original-url",
            "x-original-uri",
            "x-original-method",
            "x-original-host",
            "x-rewrite-url",
            "x-real-ip",
            "forwarded",
            "set-cookie",
            "content-type",
        ] {
            assert!(is_barred(name, Use::Answer), "{name}");
            assert!(is_barred(name, Use::Claim), "{name}");
        }
        assert!(is_barred("authorization", Use::Claim));
    }

    #[test]
    fn a_question_has_what_it_names_or_the_name_is_refused() {
        for name in ["forwarded", "via", "x-forwarded-port", "x-original-uri"] {
            assert!(is_barred(name, Use::Question), "{name}");
        }
        for name in ["authorization", "cookie", "x-forwarded-for", "x-request-id"] {
            assert!(
                !is_barred(name, Use::Question) && is_always_told(name),
                "{name}"
            );
        }
        assert!(!is_barred("x-forwarded-user", Use::Question));
    }
}
