//! `spec.retry` and `spec.timeouts`: how the requests of a target are treated.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// What is tried again after a failure. Never after the first byte of a response.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.backoff) <= duration('1m')")
    .message("backoff must be at most 1m")
    .field_path(".backoff"))]
#[x_kube(validation = Rule::new("!has(self.perTryTimeout) || (duration(self.perTryTimeout) >= duration('1ms') && duration(self.perTryTimeout) <= duration('24h'))")
    .message("perTryTimeout must be 1ms to 24h")
    .field_path(".perTryTimeout"))]
pub struct Retry {
    /// Tries after the first. 0–10, default 2.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: i32,
    /// Response statuses of a peer that are tried again. 400–599, at most 16, default 502, 503, 504.
    #[serde(default = "default_codes")]
    #[schemars(length(max = 16), inner(range(min = 400, max = 599)))]
    pub codes: Vec<i32>,
    /// Codes of a gRPC response without messages that are tried again, by name: `UNAVAILABLE`,
    /// `RESOURCE_EXHAUSTED` and so on. Such a response says that the call was not taken on, so this holds
    /// whatever `nonIdempotent` says. At most 16, default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub grpc_codes: Vec<GrpcCode>,
    /// Failures without a response that are tried again. `ConnectError`: nothing was sent. `Reset`: the
    /// connection ended before the response began. `Timeout`: the peer did not answer in time.
    /// Default all three.
    // Not `on`: YAML 1.1, which kubectl reads, takes that key for a boolean.
    #[serde(default = "default_failures")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub failures: Vec<Failure>,
    /// Upper bound of the random wait before the first retry; it doubles with each. 0s to 1m,
    /// default 25ms.
    #[serde(default = "default_backoff")]
    pub backoff: Duration,
    /// For one try to be answered. Default: `timeouts.backendRequest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// Requests that are not idempotent (POST, PATCH), once they were sent. `Never`: not sent again.
    /// `WithIdempotencyKey`: sent again if they carry an `Idempotency-Key`. `Always`: sent again.
    /// What was not sent is always safe to try again. Default `Never`.
    #[serde(default)]
    pub non_idempotent: NonIdempotent,
    /// The peer that failed. `LastResort`: tried again when there is no other. `Never`: not tried again
    /// for this request. Default `LastResort`.
    #[serde(default)]
    pub same_peer: SamePeer,
    /// A bound on the retries of an upstream, so that retries do not become the outage.
    #[serde(default)]
    pub budget: RetryBudget,
}

const fn default_attempts() -> i32 {
    2
}

fn default_codes() -> Vec<i32> {
    vec![502, 503, 504]
}

fn default_failures() -> Vec<Failure> {
    vec![Failure::ConnectError, Failure::Reset, Failure::Timeout]
}

fn default_backoff() -> Duration {
    Duration::new("25ms")
}

/// Status codes of gRPC, but for `OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GrpcCode {
    /// 1: the call was given up, usually by the caller.
    Cancelled,
    /// 2: an error of another kind.
    Unknown,
    /// 3: the arguments are wrong, whatever the state of the server.
    InvalidArgument,
    /// 4: the deadline passed.
    DeadlineExceeded,
    /// 5: something that was asked for does not exist.
    NotFound,
    /// 6: what was to be made exists.
    AlreadyExists,
    /// 7: the caller may not do it.
    PermissionDenied,
    /// 8: a quota, or a resource of the server, is used up.
    ResourceExhausted,
    /// 9: the state of the server does not allow it.
    FailedPrecondition,
    /// 10: a conflict, as of transactions.
    Aborted,
    /// 11: beyond the valid range.
    OutOfRange,
    /// 12: the method is not there.
    Unimplemented,
    /// 13: something in the server is broken.
    Internal,
    /// 14: the server cannot serve at the moment.
    Unavailable,
    /// 15: data is lost or damaged.
    DataLoss,
    /// 16: the caller is not known.
    Unauthenticated,
}

impl GrpcCode {
    /// As in the header `grpc-status`.
    pub const fn number(self) -> u32 {
        match self {
            Self::Cancelled => 1,
            Self::Unknown => 2,
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::OutOfRange => 11,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::DataLoss => 15,
            Self::Unauthenticated => 16,
        }
    }
}

/// Failures without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Failure {
    /// Refused, unreachable, timed out while connecting, or the TLS handshake failed.
    ConnectError,
    /// The connection ended after the request was sent and before the response began.
    Reset,
    /// The peer did not answer in time.
    Timeout,
}

/// Requests that are not idempotent, once they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NonIdempotent {
    /// Are not sent again.
    #[default]
    Never,
    /// Are sent again if they carry an `Idempotency-Key`.
    WithIdempotencyKey,
    /// Are sent again.
    Always,
}

/// The peer that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SamePeer {
    /// Is tried again when there is no other.
    #[default]
    LastResort,
    /// Is not tried again for this request.
    Never,
}

/// A bound on the retries of an upstream.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.interval) >= duration('1s') && duration(self.interval) <= duration('1h')")
    .message("interval must be 1s to 1h")
    .field_path(".interval"))]
pub struct RetryBudget {
    /// Retries for each hundred requests within `interval`. 0–100, default 20.
    #[serde(default = "default_percent")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: i32,
    /// The window in which requests and retries are counted. 1s to 1h, default 10s.
    #[serde(default = "default_budget_interval")]
    pub interval: Duration,
    /// Retries within `interval` that are always allowed. 0–1000, default 10.
    #[serde(default = "default_min_retries")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_retries: i32,
}

const fn default_percent() -> i32 {
    20
}

fn default_budget_interval() -> Duration {
    Duration::new("10s")
}

const fn default_min_retries() -> i32 {
    10
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: default_percent(),
            interval: default_budget_interval(),
            min_retries: default_min_retries(),
        }
    }
}

/// Deadlines of a request. 0s is no deadline. Each at most 24h.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[self.connect, self.request, self.backendRequest, self.idle].all(d, duration(d) <= duration('24h'))")
    .message("a timeout must be at most 24h; 0s is none"))]
pub struct Timeouts {
    /// To connect to a peer, TLS handshake included. Default 1s.
    #[serde(default = "default_connect")]
    pub connect: Duration,
    /// From the request's head to the last byte of the response, all tries included. Default 0s: none.
    #[serde(default = "default_request")]
    pub request: Duration,
    /// For one peer to begin its response, from the moment the request was handed to it. Default 60s.
    #[serde(default = "default_backend_request")]
    pub backend_request: Duration,
    /// Without a byte in either direction, WebSockets included. Default 60s.
    #[serde(default = "default_idle")]
    pub idle: Duration,
}

fn default_connect() -> Duration {
    Duration::new("1s")
}

fn default_request() -> Duration {
    Duration::new("0s")
}

fn default_backend_request() -> Duration {
    Duration::new("60s")
}

fn default_idle() -> Duration {
    Duration::new("60s")
}
