//! When a peer may be picked: readiness, checks, ejection.

use std::time::Duration;

use serde::Serialize;

use super::{Percent, duration, is_default, is_false};

/// When a peer may be picked.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HealthPolicy {
    /// Whether a peer that Kubernetes calls not ready may be picked all the same.
    #[serde(skip_serializing_if = "is_false")]
    pub ignore_readiness: bool,
    /// Whether a peer that terminates and still serves may be picked when nothing better is left.
    pub terminating: Terminating,
    /// Below this share of eligible peers, failing verdicts (never readiness) are ignored. 0 is never.
    #[serde(skip_serializing_if = "is_default")]
    pub panic_threshold: Percent,
    /// Our own check of each peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveCheck>,
    /// Which peers are taken out for what they answer requests with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive: Option<OutlierPolicy>,
}

/// When a peer is ejected for what it answers requests with. 0 turns a rule off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlierPolicy {
    /// Connect errors, resets and timeouts in a row. Default 5.
    pub consecutive_errors: u32,
    /// Responses of 500–599 in a row. Default 0.
    pub consecutive_5xx: u32,
    /// Share of errors (those of both rules above) among the requests of a window; `None` is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_percent: Option<ErrorPercent>,
    /// How long a peer is out, times the number of its ejections. Default 10 s.
    #[serde(with = "duration::plain")]
    pub base_ejection: Duration,
    /// The longest that a peer is out at a time. Default 5 min.
    #[serde(with = "duration::plain")]
    pub max_ejection: Duration,
    /// Share of the upstream's peers that may be ejected at a time; where there are two or more, one may
    /// always be. Default 50.
    pub max_ejected: Percent,
}

/// A share of errors in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorPercent {
    /// Errors per hundred requests that eject, 1–100. Default 50.
    pub threshold: Percent,
    /// Requests within the window before the share means anything. Default 20.
    pub min_requests: u32,
    /// The window. Default 10 s.
    #[serde(with = "duration::plain")]
    pub window: Duration,
}

/// Peers that terminate and still serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Terminating {
    /// Are picked when nothing better is left.
    #[default]
    LastResort,
    /// Are never picked.
    Never,
}

/// A check that the health thread makes of each peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActiveCheck {
    /// What is sent and wanted.
    pub kind: CheckKind,
    /// From the start of one check to the start of the next. At least 100 ms.
    #[serde(with = "duration::plain")]
    pub interval: Duration,
    /// For one check, connecting included. At most `interval`.
    #[serde(with = "duration::plain")]
    pub timeout: Duration,
    /// Each wait is changed at random by up to this share of the interval, up or down.
    pub jitter: Percent,
    /// Failures in a row that make a passing peer fail. At least 1.
    pub unhealthy_threshold: u32,
    /// Passes in a row that make a failing peer pass. At least 1. A peer never checked passes with its first.
    pub healthy_threshold: u32,
    /// What an unchecked peer is taken for.
    pub initial: Initial,
}

/// What an unchecked peer is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Initial {
    /// Picked only while no peer has passed.
    #[default]
    Checking,
    /// Picked like one that passed.
    Healthy,
}

/// What a check sends and wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckKind {
    /// An HTTP request. Over TLS where the upstream has it; HTTP/2 where the upstream's protocol is.
    Http(HttpCheck),
    /// A connection. Over TLS where the upstream has it.
    Tcp(TcpCheck),
    /// `grpc.health.v1.Health/Check`, wanting `SERVING`. Over TLS where the upstream has it.
    Grpc(GrpcCheck),
    /// What each peer has in [`Peer::check`](super::Peer::check); a peer without one is not checked.
    OfPeer,
}

/// A gRPC health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GrpcCheck {
    /// The service asked for; empty is the server as a whole.
    pub service: String,
}

/// An HTTP request and the response wanted. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpCheck {
    /// Default GET.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Host`; `None` is the peer's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// More headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Statuses that pass, inclusive ranges.
    pub expected_statuses: Vec<StatusRange>,
    /// What the first 4 KiB of the body must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_body: Option<BodyMatch>,
}

/// An inclusive range of response statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

/// What a body must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyMatch {
    /// This text.
    Contains(String),
    /// A match of this regular expression (syntax of the `regex` crate), known to compile.
    Regex(String),
}

/// A connection, with bytes to send and to want where they are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpCheck {
    /// Sent once connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// Must appear in the first 4 KiB that the peer sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<String>,
}
