//! How the requests of a route are treated.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Access, Auth, Cors, Percent, RateLimit, duration, is_default};

/// How the requests of one route are treated.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RequestPolicy {
    /// How their paths are forwarded. A route has its rule by the name `path`.
    #[serde(rename = "pathHandling", skip_serializing_if = "is_default")]
    pub path: PathHandling,
    /// Deadlines.
    #[serde(skip_serializing_if = "is_default")]
    pub timeouts: Timeouts,
    /// What may be tried again; `None` tries again only what was never sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Who may send them.
    #[serde(skip_serializing_if = "Auth::is_open")]
    pub auth: Auth,
    /// From where.
    #[serde(skip_serializing_if = "Access::is_open")]
    pub access: Access,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<Arc<RateLimit>>,
    /// From which web pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Arc<Cors>>,
}

/// How paths are forwarded that servers read in several ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PathHandling {
    /// Of `%2F`.
    pub escaped_slashes: EscapedSlashes,
    /// Of `//`.
    pub repeated_slashes: RepeatedSlashes,
}

/// How `%2F` in a path is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EscapedSlashes {
    /// Forwarded as sent.
    #[default]
    Keep,
    /// Answered with 400.
    Reject,
    /// Forwarded as `/`, and matched again.
    Decode,
}

/// How repeated slashes in a path are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepeatedSlashes {
    /// Forwarded as sent.
    #[default]
    Keep,
    /// Forwarded as one, and matched again.
    Merge,
}

/// Deadlines of a request. `None` is no deadline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeouts {
    /// To connect to a peer, TLS handshake included. Default 1 s.
    #[serde(with = "duration")]
    pub connect: Option<Duration>,
    /// From the request's head to the last byte of the response, all tries included. Default none.
    #[serde(with = "duration")]
    pub request: Option<Duration>,
    /// For one peer to answer with a response head, from the moment the request was handed to it.
    /// Default 60 s.
    #[serde(with = "duration")]
    pub backend_request: Option<Duration>,
    /// Without a byte in either direction, upgraded connections included. Default 60 s.
    #[serde(with = "duration")]
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(1)),
            request: None,
            backend_request: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(60)),
        }
    }
}

/// What may be tried again after a failure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retry {
    /// Tries after the first. 0–10, default 2.
    pub attempts: u32,
    /// Response statuses of a peer that are tried again, 400–599.
    pub codes: Vec<u16>,
    /// Failures without a response that are tried again.
    pub on: RetryOn,
    /// Upper bound of the random wait before the first retry; doubles with each. Full jitter.
    #[serde(with = "duration::plain")]
    pub backoff: Duration,
    /// For one try to answer with a response head; `None` leaves `Timeouts::backend_request`.
    #[serde(with = "duration")]
    pub per_try_timeout: Option<Duration>,
    /// Whether a request that was sent and is not idempotent may be sent again.
    pub non_idempotent: NonIdempotent,
    /// Whether the peer that failed may be tried again.
    pub same_peer: SamePeer,
    /// gRPC status codes (1–16) of a response without messages that are tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grpc_codes: Vec<u32>,
    /// Retries that an upstream may have under way, so that retries do not become the outage.
    pub budget: RetryBudget,
}

/// Failures without a response that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RetryOn {
    /// Refused, unreachable, timed out while connecting, TLS failed: nothing was sent.
    pub connect_error: bool,
    /// The connection ended after the request was sent and before the response began.
    pub reset: bool,
    /// The peer did not answer in time.
    pub timeout: bool,
}

/// Requests that are not idempotent, once they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NonIdempotent {
    /// Are never sent again.
    Never,
    /// Are sent again if they carry an `Idempotency-Key`.
    WithIdempotencyKey,
    /// Are sent again.
    Always,
}

/// The peer that failed, on the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SamePeer {
    /// Is tried when there is no other.
    LastResort,
    /// Is not tried again for this request.
    Never,
}

/// A bound on the retries of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RetryBudget {
    /// Retries for each hundred requests within `interval`.
    pub percent: Percent,
    /// The window.
    #[serde(with = "duration::plain")]
    pub interval: Duration,
    /// Retries within `interval` that are always allowed.
    pub min_retries: u32,
}
