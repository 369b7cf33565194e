//! The only place that edits what clients and peers sent: authority, path and headers.
//!
//! Everything behind it (routing, auth, limits, log, forwarding) sees one host, one path and headers that
//! mean what they say. A request passes through in this order: [`framing`], [`authority`],
//! [`canonical_path`], [`request_id`], [`client_address`], and once its route is known
//! [`request_headers`]; its response through [`response_headers`].

use std::fmt;

mod authority;
mod client;
mod headers;
mod login;
mod loops;
mod path;
mod readings;
mod request_id;
mod upgrade;

pub(crate) use authority::{Authority, authority};
pub(crate) use client::{ClientInfo, client_address, contains, is_https, network};
pub(crate) use headers::names;
pub(crate) use headers::{Forwarding, request_headers, response_headers, takes_away, trailers};
pub(crate) use login::{asks_to_log_in, logs_in};
pub(crate) use loops::{CDN_LOOP, MOST_PASSES, add_pass, passes};
pub(crate) use path::{PathError, canonical, canonical_path, target, unescaped_equals};
pub(crate) use readings::{comparable, decoded_slashes, merged, visit_readings};
pub(crate) use request_id::request_id;
pub(crate) use upgrade::{
    content_length, framing, is_extended_websocket, is_framed_once, is_websocket_accept,
    is_websocket_upgrade,
};

/// Why a request is not proxied, before any route was looked for. Says nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Bad {
    /// HTTP/1 without `Host`, or HTTP/2 with neither `:authority` nor `host`.
    NoHost,
    /// More than one `Host`.
    ManyHosts,
    /// `Host` and `:authority` differ.
    HostsDiffer,
    /// Userinfo, path, comma, space or another byte that no host name has.
    HostSyntax,
    /// An absolute-form target that is not http or https.
    Scheme,
    /// The path has no canonical form.
    Path(#[from] PathError),
    /// A `Transfer-Encoding` that is not exactly `chunked`.
    TransferEncoding,
    /// `Content-Length` that is not one number.
    ContentLength,
}

impl Bad {
    /// In words, for the client.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoHost => "The request names no host",
            Self::ManyHosts => "The request has more than one Host header",
            Self::HostsDiffer => "Host and :authority differ",
            Self::HostSyntax => "The host is not a name or address with an optional port",
            Self::Scheme => "The scheme of the request target is neither http nor https",
            Self::Path(error) => error.as_str(),
            Self::TransferEncoding => "Transfer-Encoding other than chunked is not supported",
            Self::ContentLength => "Content-Length is not one number",
        }
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
