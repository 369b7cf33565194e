//! For how long a client waits, as far as it or the policy says.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use crate::{config::RequestPolicy, exchange::Exchange, retry::is_grpc};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// When the request must have been answered, all tries included. `grpc-timeout` means something in calls of gRPC, and
/// nothing in other requests.
pub(super) fn deadline(
    exchange: &Exchange,
    policy: &RequestPolicy,
    headers: &HeaderMap,
) -> Option<Instant> {
    let asked = headers
        .get(GRPC_TIMEOUT)
        .filter(|_| is_grpc(headers))
        .and_then(|value| grpc_timeout(value.as_bytes()));
    let limit = match (policy.timeouts.request, asked) {
        (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
        (ours, theirs) => ours.or(theirs),
    };
    limit.and_then(|limit| exchange.started.checked_add(limit))
}

/// `grpc-timeout`: up to 8 digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}
