//! Headers and trailers, in both directions.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method, Version};

use super::{Authority, ClientInfo};

/// What [`request_headers`] needs to know besides the headers.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The connection.
    pub client: &'a ClientInfo,
    /// What [`client_address`](super::client_address) said.
    pub address: IpAddr,
    /// What [`authority`](super::authority) said.
    pub authority: &'a Authority,
    /// What [`request_id`](super::request_id) said.
    pub request_id: &'a HeaderValue,
    /// The request's method.
    pub method: &'a Method,
    /// The version that the request came in.
    pub version: Version,
    /// Whether it is a websocket handshake that goes upstream over HTTP/1.
    pub websocket: bool,
}

/// Makes a client's headers fit to be sent upstream: removes what concerns its connection alone or is not
/// a client's to say, and adds ours. Sets `Host`; for HTTP/2 upstream take it away again.
pub fn request_headers(headers: &mut HeaderMap, forwarding: &Forwarding<'_>) {
    let _ = (headers, forwarding);
}

/// Makes a peer's response headers fit to be sent to the client. `switching` keeps what a 101 needs;
/// `version` is the peer's.
pub fn response_headers(headers: &mut HeaderMap, version: Version, switching: bool) {
    let _ = (headers, version, switching);
}

/// Drops what may not be said in trailers, in either direction.
pub fn trailers(trailers: &mut HeaderMap) {
    let _ = trailers;
}
