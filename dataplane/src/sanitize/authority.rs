//! Which host a request is for: one answer, or none.

use http::{HeaderValue, request::Parts};

use super::Bad;

/// The host of a request. Cheap to clone; allocates only for hosts that have upper-case letters, and for
/// HTTP/2.
#[derive(Clone, Debug)]
pub struct Authority {
    value: HeaderValue,
    port: Option<u16>,
    /// Length of the host within `value`, if it is normal as it stands there.
    len: usize,
    lowered: Option<Box<str>>,
}

impl Authority {
    /// For matching: lower case, without port and trailing dot. IPv6 keeps its brackets.
    pub fn host(&self) -> &str {
        match &self.lowered {
            Some(host) => host,
            None => std::str::from_utf8(&self.value.as_bytes()[..self.len]).unwrap_or_default(),
        }
    }

    /// As the client wrote it, for the `Host` that goes upstream.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The port, if the client wrote one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// The host that a request is for.
pub fn authority(parts: &Parts) -> Result<Authority, Bad> {
    let _ = parts;
    Err(Bad::NoHost)
}
