//! What makes a request something else than one message: its framing and its wish to switch protocols.

use http::request::Parts;

use super::Bad;

/// Refuses a body whose end is not certain.
pub fn framing(parts: &Parts) -> Result<(), Bad> {
    let _ = parts;
    Ok(())
}

/// Whether this is a websocket handshake of HTTP/1.1 (RFC 6455 §4.1). Every other `Upgrade` is ignored.
pub fn is_websocket_upgrade(parts: &Parts) -> bool {
    let _ = parts;
    false
}

/// Whether this is a websocket handshake of HTTP/2 (RFC 8441).
pub fn is_extended_websocket(parts: &Parts) -> bool {
    let _ = parts;
    false
}
