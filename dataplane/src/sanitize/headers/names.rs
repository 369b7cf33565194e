//! Names of headers that `http` has no constants for, and what each name means to a proxy.

use http::{HeaderName, header};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_HALE_REASON: HeaderName = HeaderName::from_static("x-hale-reason");
/// Upstream: who sent the request.
pub(crate) const X_HALE_CONSUMER: HeaderName = HeaderName::from_static("x-hale-consumer");
/// Upstream: how that is known.
pub(crate) const X_HALE_AUTH: HeaderName = HeaderName::from_static("x-hale-auth");

/// Headers of a connection rather than of a message. The index of each is its bit in a [`HopSet`].
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
];

/// What a name means to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Concerns the two ends.
    EndToEnd,
    /// Concerns one connection: the index in `HOP_BY_HOP`.
    Hop(u8),
    Expect,
    Cookie,
    ContentLength,
    Host,
    Server,
    /// `x-forwarded-*`: for proxies to say.
    Forwarded,
    /// `x-hale-*`: for us to say.
    Hale,
    /// Has something else than letters, digits and `-`: CGI and its kin take all of that for the same `_`.
    Odd,
}

/// Classifies a name in lower case.
pub(super) fn class(name: &str) -> Class {
    match name {
        "connection" => Class::Hop(0),
        "te" => Class::Hop(1),
        "transfer-encoding" => Class::Hop(2),
        "upgrade" => Class::Hop(3),
        "keep-alive" => Class::Hop(4),
        "proxy-connection" => Class::Hop(5),
        "proxy-authenticate" => Class::Hop(6),
        "proxy-authorization" => Class::Hop(7),
        "http2-settings" => Class::Hop(8),
        "expect" => Class::Expect,
        "cookie" => Class::Cookie,
        "content-length" => Class::ContentLength,
        "host" => Class::Host,
        "server" => Class::Server,
        // By these, servers let a proxy before them say another path than that of the request line.
        "x-original-url" | "x-original-uri" | "x-rewrite-url" => Class::Forwarded,
        _ if !name.bytes().all(is_plain) => Class::Odd,
        _ if name.starts_with("x-forwarded-") => Class::Forwarded,
        _ if name.starts_with("x-hale-") => Class::Hale,
        _ => Class::EndToEnd,
    }
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// Which hop-by-hop headers a message has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HopSet(u16);

impl HopSet {
    pub(super) const CONNECTION: u8 = 0;
    pub(super) const TE: u8 = 1;

    pub(super) fn add(&mut self, hop: u8) {
        self.0 |= 1 << hop;
    }

    pub(super) fn has(self, hop: u8) -> bool {
        self.0 & 1 << hop != 0
    }

    /// The names in the set.
    pub(super) fn names(self) -> impl Iterator<Item = &'static HeaderName> {
        static NAMES: [HeaderName; 9] = HOP_BY_HOP;
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let bit = rest.checked_ilog2()?;
            rest ^= 1 << bit;
            NAMES.get(bit as usize)
        })
    }
}

/// Whether a `Connection` header must not take this one away: what requests are routed, framed and
/// authorised by, and what proxies say (a client could otherwise make our word disappear).
pub(super) fn is_protected(name: &str) -> bool {
    match name {
        "host" | "content-length" | "authorization" | "cookie" | "forwarded" | "via"
        | "cdn-loop" | "x-real-ip" | "x-request-id" | "x-original-url" | "x-original-uri"
        | "x-rewrite-url" => true,
        _ => name.starts_with("x-forwarded-") || name.starts_with("x-hale-"),
    }
}

/// Whether a field may not be sent in trailers: what frames, routes, authorises or is interpreted before
/// the body (RFC 9110 §6.5.1).
pub(super) fn is_barred_from_trailers(name: &str) -> bool {
    is_protected(name)
        || matches!(class(name), Class::Hop(_) | Class::Expect | Class::Odd)
        || matches!(
            name,
            "trailer"
                | "content-encoding"
                | "content-type"
                | "content-range"
                | "set-cookie"
                | "cache-control"
                | "max-forwards"
                | "range"
                | "www-authenticate"
                | "location"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hop_by_hop_name_is_classified_as_its_own_bit() {
        for (index, name) in HOP_BY_HOP.iter().enumerate() {
            let Class::Hop(hop) = class(name.as_str()) else {
                unreachable!("{name} is not hop-by-hop");
            };
            assert_eq!(usize::from(hop), index, "{name}");
            let mut set = HopSet::default();
            set.add(hop);
            assert!(set.names().eq([name]));
        }
    }
}
