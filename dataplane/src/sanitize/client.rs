//! Who the client is: the connection's peer, or whom a trusted proxy says that it speaks for.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::headers::names::{X_FORWARDED_FOR, X_FORWARDED_PROTO};

/// What is known of a client from its connection. Made once for each connection, so that the headers
/// that tell of it are built once, too.
#[derive(Clone, Debug)]
pub(crate) struct ClientInfo {
    /// The connection's remote address; IPv4-mapped IPv6 is IPv4.
    pub ip: IpAddr,
    /// The same, for `X-Forwarded-For` and `X-Real-IP`.
    pub ip_value: HeaderValue,
    /// The `Forwarded` element for this connection (RFC 7239), where the client speaks its scheme.
    pub forwarded: HeaderValue,
    /// Whether its `X-Forwarded-*` are believed.
    pub trusted: bool,
    /// Whether its connection is TLS.
    pub https: bool,
}

impl ClientInfo {
    /// Of a connection from `ip`.
    pub(crate) fn new(ip: IpAddr, https: bool, trusted_proxies: &[IpNet]) -> Self {
        let ip = ip.to_canonical();
        Self {
            ip,
            ip_value: value(&ip.to_string()),
            forwarded: forwarded(ip, https),
            trusted: contains(trusted_proxies, ip),
            https,
        }
    }
}

/// The `Forwarded` element of a connection from `ip` whose client speaks https or not.
pub(super) fn forwarded(ip: IpAddr, https: bool) -> HeaderValue {
    let scheme = scheme(https);
    value(&match ip {
        IpAddr::V4(ip) => format!("for={ip};proto={scheme}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\";proto={scheme}"),
    })
}

pub(super) const fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

/// A header value of text that is known to be fit for one.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Whether one of the networks holds the address. IPv4-mapped IPv6 is IPv4.
pub(crate) fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

/// Who counts as one client: an IPv4 address, or an IPv6 network of 64 bits, since who has one of its addresses
/// has them all.
pub(crate) fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

/// The address of the client: behind trusted proxies the right-most `X-Forwarded-For` address that is not
/// a trusted proxy's, else the connection's. Reading stops at what is not an address: nothing to the left
/// of it was written by somebody we trust.
pub(crate) fn client_address(
    headers: &HeaderMap,
    client: &ClientInfo,
    trusted: &[IpNet],
) -> IpAddr {
    let mut address = client.ip;
    if !client.trusted {
        return address;
    }
    let lines = headers.get_all(X_FORWARDED_FOR);
    for line in lines.iter().rev() {
        for hop in line.as_bytes().rsplit(|byte| *byte == b',') {
            // No proxy is reached over the network from a loopback address: who says so wants to pass for local.
            let Some(ip) = parse_hop(hop).filter(|ip| !ip.is_loopback()) else {
                return address;
            };
            address = ip;
            if !contains(trusted, ip) {
                return address;
            }
        }
    }
    address
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .map(|ip| ip.to_canonical())
        .ok()
}

/// Whether the client speaks https: over this connection, or as a trusted proxy says. Of several proxies the first
/// saw the client.
pub(crate) fn is_https(headers: &HeaderMap, client: &ClientInfo) -> bool {
    match trusted_first(headers, client, &X_FORWARDED_PROTO) {
        Some(proto) => [&b"https"[..], b"wss"]
            .iter()
            .any(|secure| proto.eq_ignore_ascii_case(secure)),
        None => client.https,
    }
}

/// The first value of a header that a trusted proxy set: each proxy on the way may have added its own, in the same
/// line or in one more. `None` if there is none, or the first is empty.
pub(super) fn trusted_first<'a>(
    headers: &'a HeaderMap,
    client: &ClientInfo,
    name: &HeaderName,
) -> Option<&'a [u8]> {
    if !client.trusted {
        return None;
    }
    let line = headers.get(name)?.as_bytes();
    let first = line.split(|byte| *byte == b',').next()?.trim_ascii();
    (!first.is_empty()).then_some(first)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn address(ip: &str, lines: &[&'static str]) -> String {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let client = ClientInfo::new(ip.parse().unwrap(), false, &trusted);
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        client_address(&headers, &client, &trusted).to_string()
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_client() {
        for (ip, lines, wanted) in [
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                vec!["1.1.1.1, 198.51.100.7, 10.2.2.2"],
                "198.51.100.7",
            ),
            (
                "10.0.0.1",
                vec!["1.1.1.1", "198.51.100.7", "10.2.2.2"],
                "198.51.100.7",
            ),
            ("10.0.0.1", vec!["198.51.100.7:1234"], "198.51.100.7"),
            ("10.0.0.1", vec!["[2001:db8::1]:1234"], "2001:db8::1"),
            ("10.0.0.1", vec!["[2001:db8::1]"], "2001:db8::1"),
            ("fd00::1", vec!["2001:db8::1 "], "2001:db8::1"),
            ("10.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", vec!["1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1,"], "10.0.0.1"),
            ("10.0.0.1", vec!["127.0.0.1"], "10.0.0.1"),
            ("10.0.0.1", vec!["::1"], "10.0.0.1"),
            ("10.0.0.1", vec!["::ffff:127.9.9.9"], "10.0.0.1"),
            ("10.0.0.1", vec!["127.0.0.1, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", vec!["127.0.0.1, 10.2.2.2"], "10.2.2.2"),
        ] {
            assert_eq!(address(ip, &lines), wanted, "{ip} {lines:?}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_speaks_of_https() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let proxy = ClientInfo::new("10.0.0.1".parse().unwrap(), false, &trusted);
        let stranger = ClientInfo::new("192.0.2.1".parse().unwrap(), false, &trusted);
        let mut headers = HeaderMap::new();
        assert!(!is_https(&headers, &proxy));
        headers.append(X_FORWARDED_PROTO, HeaderValue::from_static("HTTPS"));
        assert!(is_https(&headers, &proxy));
        assert!(!is_https(&headers, &stranger));
        headers.append(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        assert!(is_https(&headers, &proxy), "the first line counts");
        for (value, wanted) in [
            ("https, http", true),
            ("https,https", true),
            ("http, https", false),
            (" wss", true),
            (", https", false),
            ("", false),
        ] {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(value));
            assert_eq!(is_https(&headers, &proxy), wanted, "{value:?}");
        }
    }

    #[test]
    fn the_forwarded_element_quotes_ipv6() {
        let of = |ip: &str| ClientInfo::new(ip.parse().unwrap(), true, &[]).forwarded;
        assert_eq!(of("192.0.2.1"), "for=192.0.2.1;proto=https");
        assert_eq!(of("2001:db8::1"), "for=\"[2001:db8::1]\";proto=https");
        assert_eq!(of("::ffff:192.0.2.1"), "for=192.0.2.1;proto=https");
    }
}
