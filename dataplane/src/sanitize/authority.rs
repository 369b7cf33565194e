//! Which host a request is for: one answer, or none.
//!
//! `:authority` of HTTP/2 and the authority of an absolute-form target win over `Host`, as RFC 9112 §3.2.2
//! and RFC 9113 §8.3.1 say. But only after `Host` was found to be one: a request that names two hosts is
//! refused, because the next server may take the other one. HTTP/1.0 needs a `Host` like HTTP/1.1.

use std::net::Ipv6Addr;

use http::{HeaderValue, Version, header::HOST, request::Parts};

use super::Bad;

/// The host of a request. Cheap to clone; allocates for HTTP/2, absolute-form targets and hosts that have
/// upper-case letters.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    value: HeaderValue,
    port: Option<u16>,
    /// Length of the host within `value`, without its trailing dot.
    len: usize,
    /// The host, if it is not normal as it stands in `value`.
    lowered: Option<Box<str>>,
}

impl Authority {
    /// For matching: lower case, without port and trailing dot. IPv6 keeps its brackets.
    pub(crate) fn host(&self) -> &str {
        match &self.lowered {
            Some(host) => host,
            None => self
                .value
                .as_bytes()
                .get(..self.len)
                .and_then(|host| std::str::from_utf8(host).ok())
                .unwrap_or_default(),
        }
    }

    /// As the client wrote it, for the `Host` that goes upstream.
    pub(crate) fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The port, if the client wrote one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    fn parse(value: HeaderValue) -> Result<Self, Bad> {
        let bytes = value.as_bytes();
        let (host, port) = split_port(bytes)?;
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut upper = false;
        if host.starts_with(b"[") {
            check_ipv6(host)?;
            upper = host.iter().any(u8::is_ascii_uppercase);
        } else {
            if host.is_empty() || host.len() > 253 {
                return Err(Bad::HostSyntax);
            }
            // An empty label is none: `shop.test..` is not left for the next server to make `shop.test` of.
            let mut label = false;
            for byte in host {
                match byte {
                    b'.' if !label => return Err(Bad::HostSyntax),
                    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {}
                    b'A'..=b'Z' => upper = true,
                    _ => return Err(Bad::HostSyntax),
                }
                label = *byte != b'.';
            }
            if !label {
                return Err(Bad::HostSyntax);
            }
        }
        let lowered = upper.then(|| String::from_utf8_lossy(host).to_ascii_lowercase().into());
        Ok(Self {
            port,
            len: host.len(),
            lowered,
            value,
        })
    }

    fn same_as(&self, other: &Self) -> bool {
        self.host() == other.host() && self.port == other.port
    }
}

/// Splits `host:port`. An empty port is none (RFC 3986 §3.2.3).
fn split_port(authority: &[u8]) -> Result<(&[u8], Option<u16>), Bad> {
    let from = match authority.first() {
        Some(b'[') => memchr::memchr(b']', authority).ok_or(Bad::HostSyntax)? + 1,
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(from);
    match rest.split_first() {
        None => Ok((host, None)),
        Some((b':', [])) => Ok((host, None)),
        Some((b':', digits)) if digits.iter().all(u8::is_ascii_digit) => {
            let port = std::str::from_utf8(digits)
                .ok()
                .and_then(|port| port.parse().ok());
            Ok((host, Some(port.ok_or(Bad::HostSyntax)?)))
        }
        Some(_) => Err(Bad::HostSyntax),
    }
}

fn check_ipv6(host: &[u8]) -> Result<(), Bad> {
    host.strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"))
        .and_then(|host| std::str::from_utf8(host).ok())
        .and_then(|host| host.parse::<Ipv6Addr>().ok())
        .map(|_| ())
        .ok_or(Bad::HostSyntax)
}

/// The host that a request is for.
pub(crate) fn authority(parts: &Parts) -> Result<Authority, Bad> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(Bad::ManyHosts);
    }
    let header = header.cloned().map(Authority::parse).transpose()?;
    let Some(target) = parts.uri.authority() else {
        return header.ok_or(Bad::NoHost);
    };
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Bad::Scheme);
    }
    let target = HeaderValue::from_str(target.as_str())
        .map_err(|_| Bad::HostSyntax)
        .and_then(Authority::parse)?;
    match header {
        Some(header) if parts.version >= Version::HTTP_2 && !header.same_as(&target) => {
            Err(Bad::HostsDiffer)
        }
        None if parts.version < Version::HTTP_2 => Err(Bad::NoHost),
        _ => Ok(target),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn parts(version: Version, uri: &str, hosts: &[&[u8]]) -> Parts {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn http1(host: &str) -> Result<(String, Option<u16>), Bad> {
        let parts = parts(Version::HTTP_11, "/", &[host.as_bytes()]);
        authority(&parts).map(|authority| (authority.host().to_owned(), authority.port()))
    }

    #[test]
    fn hosts_are_normalised() {
        for (host, wanted, port) in [
            ("example.com", "example.com", None),
            ("EXAMPLE.com", "example.com", None),
            ("example.com.", "example.com", None),
            ("Example.com.:8080", "example.com", Some(8080)),
            ("example.com:", "example.com", None),
            ("a_b.example.com", "a_b.example.com", None),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::1]:443", "[2001:db8::1]", Some(443)),
        ] {
            assert_eq!(http1(host), Ok((wanted.to_owned(), port)), "{host}");
        }
    }

    #[test]
    fn hosts_that_are_not_hosts_are_refused() {
        for host in [
            "",
            ".",
            "..",
            "a..",
            "a..b",
            ".a",
            "a..:80",
            ":80",
            "user@example.com",
            "a,b",
            "a b",
            "a/b",
            "example.com/",
            "http://a",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:-1",
            "a:+1",
            "[::1",
            "::1",
            "[zz]",
            "[::1]a",
            "[::1]:x",
            "a%2eb",
            "a?b",
            "a#b",
            "a\tb",
            "a\\b",
            "*",
            "a;b",
            "\"a\"",
        ] {
            assert_eq!(http1(host), Err(Bad::HostSyntax), "{host:?}");
        }
        let high = parts(Version::HTTP_11, "/", &[b"a\xff"]);
        assert_eq!(authority(&high).err(), Some(Bad::HostSyntax));
        let long = "a.".repeat(127) + "a";
        assert_eq!(http1(&long), Err(Bad::HostSyntax));
    }

    #[test]
    fn http1_has_exactly_one_host() {
        let of = |uri, hosts: &[&[u8]]| {
            authority(&parts(Version::HTTP_11, uri, hosts)).map(|a| a.host().to_owned())
        };
        assert_eq!(of("/", &[]), Err(Bad::NoHost));
        assert_eq!(of("/", &[b"a", b"a"]), Err(Bad::ManyHosts));
        assert_eq!(of("/", &[b"a", b"b"]), Err(Bad::ManyHosts));
        assert_eq!(of("http://a/", &[]), Err(Bad::NoHost));
        assert_eq!(of("http://a/", &[b"x", b"y"]), Err(Bad::ManyHosts));
        assert_eq!(
            of("http://a/", &[b"b"]),
            Ok("a".into()),
            "absolute-form replaces Host"
        );
        assert_eq!(of("http://a/", &[b"b@c"]), Err(Bad::HostSyntax));
        assert_eq!(of("http://u:p@a/", &[b"a"]), Err(Bad::HostSyntax));
        assert_eq!(of("ftp://a/", &[b"a"]), Err(Bad::Scheme));
        let old = parts(Version::HTTP_10, "/", &[]);
        assert_eq!(authority(&old).err(), Some(Bad::NoHost));
    }

    #[test]
    fn http2_authority_wins_and_may_not_be_contradicted() {
        let of = |uri, hosts: &[&[u8]]| {
            authority(&parts(Version::HTTP_2, uri, hosts)).map(|a| a.host().to_owned())
        };
        assert_eq!(of("https://a/", &[]), Ok("a".into()));
        assert_eq!(of("https://a/", &[b"A"]), Ok("a".into()));
        assert_eq!(of("https://a:1/", &[b"a:1"]), Ok("a".into()));
        assert_eq!(of("https://a/", &[b"b"]), Err(Bad::HostsDiffer));
        assert_eq!(of("https://a:1/", &[b"a:2"]), Err(Bad::HostsDiffer));
        assert_eq!(of("https://a/", &[b"a", b"a"]), Err(Bad::ManyHosts));
        assert_eq!(of("/", &[b"a"]), Ok("a".into()));
        assert_eq!(of("/", &[]), Err(Bad::NoHost));
    }

    #[test]
    fn the_value_is_what_the_client_wrote() {
        let parts = parts(Version::HTTP_11, "/", &[b"Example.com.:8080"]);
        assert_eq!(authority(&parts).unwrap().value(), "Example.com.:8080");
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_a_plain_name(host in "[ -~]{0,20}") {
            if let Ok((host, _)) = http1(&host) {
                let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
                prop_assert!(!host.is_empty());
                prop_assert!(host.bytes().all(name) || host.starts_with('[') && host.ends_with(']'), "{}", host);
            }
        }
    }
}
