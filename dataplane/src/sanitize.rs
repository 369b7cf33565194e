//! The only place that edits what clients and peers sent: authority, path and headers.
//!
//! Everything behind it (routing, auth, limits, log, forwarding) sees one host, one path and headers that
//! mean what they say. A request passes through in this order: [`framing`], [`authority`],
//! [`canonical_path`], [`request_id`], [`client_address`], and once its route is known
//! [`request_headers`]; its response through [`response_headers`].

mod authority;
mod client;
mod headers;
mod path;
mod request_id;
mod upgrade;

pub use authority::{Authority, authority};
pub use client::{ClientInfo, client_address, contains, is_https};
pub(crate) use headers::names;
pub use headers::{Forwarding, request_headers, response_headers, trailers};
pub use path::{PathError, canonical_path, target};
pub use request_id::request_id;
pub use upgrade::{framing, is_extended_websocket, is_websocket_accept, is_websocket_upgrade};

/// Why a request is not proxied, before any route was looked for. Reflects nothing of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// HTTP/1 without `Host`, or HTTP/2 with neither `:authority` nor `host`.
    #[error("the request names no host")]
    NoHost,
    /// More than one `Host`.
    #[error("the request has more than one Host header")]
    ManyHosts,
    /// `Host` and `:authority` differ.
    #[error("Host and :authority differ")]
    HostsDiffer,
    /// Userinfo, path, comma, space or another byte that no host name has.
    #[error("the host is not a host name or IP address with an optional port")]
    HostSyntax,
    /// An absolute-form target that is not http or https.
    #[error("the request target's scheme is neither http nor https")]
    Scheme,
    /// See [`PathError`].
    #[error("{0}")]
    Path(#[from] PathError),
    /// A `Transfer-Encoding` that is not exactly `chunked`.
    #[error("Transfer-Encoding other than chunked is not supported")]
    TransferEncoding,
    /// `Content-Length` that is not one number.
    #[error("Content-Length is not one number")]
    ContentLength,
}
