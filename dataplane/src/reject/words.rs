//! What each reason is called, and which codes it has, in one table.

use http::StatusCode;

use crate::{config::ByReason, reason::Reason};

/// The HTTP status of an answer with this reason.
pub(crate) const fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::BadRequest => StatusCode::BAD_REQUEST,
        Reason::AuthRequired => StatusCode::UNAUTHORIZED,
        Reason::AuthDenied | Reason::AddressDenied => StatusCode::FORBIDDEN,
        Reason::NoRoute => StatusCode::NOT_FOUND,
        Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Reason::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::UriTooLong => StatusCode::URI_TOO_LONG,
        Reason::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Reason::UpstreamReset | Reason::ProtocolError => StatusCode::BAD_GATEWAY,
        Reason::LoopDetected => StatusCode::LOOP_DETECTED,
        Reason::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Reason::NotReady
        | Reason::Terminating
        | Reason::NotYetChecked
        | Reason::ActiveCheckFailed
        | Reason::Ejected
        | Reason::Saturated
        | Reason::ConnectRefused
        | Reason::ConnectTimeout
        | Reason::TlsError
        | Reason::ServiceNotFound
        | Reason::PortNotFound
        | Reason::ExternalNameRefused
        | Reason::NoEndpoints
        | Reason::SelectorMatchesNothing
        | Reason::PodsNotScheduled
        | Reason::NoEligiblePeer
        | Reason::CircuitOpen
        | Reason::QueueTimeout
        | Reason::RetryBudgetExhausted
        | Reason::NotAccepted
        | Reason::AuthUnavailable
        | Reason::Overloaded
        | Reason::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The `grpc-status` of a call whose deadline has passed.
pub(super) const DEADLINE_EXCEEDED: u8 = 4;

/// The `grpc-status` of an answer with this reason. What may pass is `UNAVAILABLE` (14): clients try that
/// again; a limit that the same request meets again is `RESOURCE_EXHAUSTED` (8).
pub(crate) const fn grpc_status(reason: Reason) -> u8 {
    match reason {
        Reason::UpstreamTimeout | Reason::BodyTimeout => DEADLINE_EXCEEDED,
        Reason::AuthDenied | Reason::AddressDenied => 7,
        Reason::RateLimited
        | Reason::BodyTooLarge
        | Reason::HeadersTooLarge
        | Reason::UriTooLong => 8,
        Reason::NoRoute | Reason::MethodNotAllowed => 12,
        Reason::BadRequest | Reason::ProtocolError | Reason::LoopDetected => 13,
        Reason::AuthRequired => 16,
        _ => 14,
    }
}

/// When to try again, in seconds, for what is known to pass.
pub(super) const fn retry_after(reason: Reason) -> Option<u16> {
    match reason {
        Reason::Overloaded
        | Reason::ShuttingDown
        | Reason::Saturated
        | Reason::CircuitOpen
        | Reason::QueueTimeout
        | Reason::RetryBudgetExhausted
        | Reason::RateLimited => Some(1),
        Reason::NoEligiblePeer
        | Reason::NoEndpoints
        | Reason::PodsNotScheduled
        | Reason::ConnectRefused
        | Reason::ConnectTimeout
        | Reason::AuthUnavailable => Some(5),
        _ => None,
    }
}

/// The reason in plain words.
pub(crate) const fn title(reason: Reason) -> &'static str {
    match reason {
        Reason::NotReady => "Upstream not ready",
        Reason::Terminating => "Upstream is terminating",
        Reason::NotYetChecked => "Upstream not checked yet",
        Reason::ActiveCheckFailed => "Upstream fails its health check",
        Reason::Ejected => "Upstream ejected after errors",
        Reason::Saturated => "Upstream at its limit",
        Reason::ConnectRefused => "Upstream refused the connection",
        Reason::ConnectTimeout => "Upstream could not be reached in time",
        Reason::TlsError => "TLS with the upstream failed",
        Reason::ServiceNotFound => "Service not found",
        Reason::PortNotFound => "Service port not found",
        Reason::ExternalNameRefused => "External services are not allowed",
        Reason::NoEndpoints => "Upstream has no endpoints",
        Reason::SelectorMatchesNothing => "The Service selects no pods",
        Reason::PodsNotScheduled => "The Service's pods are waiting for a node",
        Reason::NoEligiblePeer => "No healthy upstream",
        Reason::CircuitOpen => "Upstream at its limit",
        Reason::QueueTimeout => "Waited too long for the upstream",
        Reason::RetryBudgetExhausted => "Upstream failed, and its retries are spent",
        Reason::UpstreamTimeout => "Upstream did not answer in time",
        Reason::UpstreamReset => "Upstream closed the connection",
        Reason::ProtocolError => "Upstream's answer is not valid HTTP",
        Reason::NoRoute => "No route for this host and path",
        Reason::NotAccepted => "Route not accepted",
        Reason::BadRequest => "Bad request",
        Reason::HeadersTooLarge => "Request headers too large",
        Reason::UriTooLong => "Request target too long",
        Reason::BodyTooLarge => "Request body too large",
        Reason::BodyTimeout => "Request body did not arrive in time",
        Reason::MethodNotAllowed => "Method not allowed",
        Reason::AuthRequired => "Authentication required",
        Reason::AuthDenied => "Access denied",
        Reason::AuthUnavailable => "Authentication unavailable",
        Reason::RateLimited => "Too many requests",
        Reason::AddressDenied => "Address not allowed",
        Reason::MisdirectedRequest => "Host not served over this connection",
        Reason::LoopDetected => "The request goes in circles",
        Reason::Overloaded => "Too busy",
        Reason::ShuttingDown => "Shutting down",
    }
}

/// `4 ActiveCheckFailed, 1 NotReady`: most frequent first.
pub(super) fn counts(by_reason: &ByReason) -> String {
    let mut counts: Vec<_> = by_reason.iter().collect();
    counts.sort_by(|(_, a), (_, b)| b.cmp(a));
    let words: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    words.join(", ")
}
