//! What the dataplane tells: the health of every peer, and how a request would be answered.
//!
//! Made on demand, off the request path, for status, `hale status`, `hale why` and the admin API.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    config::{ByReason, ObjectRef, Readiness, UpstreamId},
    health::{Standing, Verdict},
    reason::Reason,
};

/// The state of everything that is served.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Counts the tables that were published; 0 before the first.
    pub generation: u64,
    /// Digest of the config that is served: equal on replicas that serve the same.
    pub fingerprint: String,
    /// When it was published.
    pub published: Option<Timestamp>,
    /// Every upstream, sorted by id.
    pub upstreams: Vec<UpstreamReport>,
}

/// The state of one upstream.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamReport {
    /// Its identity.
    pub id: UpstreamId,
    /// Whether an active check is configured.
    pub checked: bool,
    /// Peers that are served now: those of the best class, when that is not `Exclude`.
    pub serving: usize,
    /// Whether failing verdicts are ignored now, because too few peers were left.
    pub panic: bool,
    /// Why it has no peer at all, or `NoEligiblePeer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Peers that are not served, counted by reason.
    pub by_reason: ByReason,
    /// Every peer, sorted by address.
    pub peers: Vec<PeerReport>,
}

/// The state of one peer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// Its address.
    pub address: SocketAddr,
    /// Its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Kubernetes' word.
    pub readiness: Readiness,
    /// The active check's verdict.
    pub probe: Verdict,
    /// What the two make together.
    pub standing: Standing,
    /// Whether requests go to it now.
    pub serving: bool,
    /// Why it is not in the best standing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people: `GET /healthz: HTTP 503, want 200-399, 7 in a row`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when its reason (or its standing) has been what it is.
    pub since: Timestamp,
    /// The last check that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check: Option<CheckReport>,
    /// Requests sent to it, since this process knows it.
    pub requests: u64,
    /// Requests that it is answering now.
    pub in_flight: u32,
}

/// One check of one peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// When it ended.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Whether it passed.
    pub pass: bool,
    /// `GET /healthz: HTTP 200`.
    pub message: String,
    /// How many checks in a row have had this result.
    pub in_a_row: u32,
}

/// A request to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyRequest {
    /// Whether it would come over TLS.
    pub https: bool,
    /// The authority, without its port.
    pub host: String,
    /// The path, as a client would send it.
    pub path: String,
}

/// How a request would be answered now, and why.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyReport {
    /// The path as it is matched; `None` if it would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_path: Option<String>,
    /// The host pattern that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path rule that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The object that declared the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectRef>,
    /// `Serve`, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people.
    pub message: String,
    /// Host patterns and path rules that came nearest, where none took the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
    /// The upstream that would get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamReport>,
}
