//! What the dataplane tells: the health of every peer, and how a request would be answered.
//!
//! Made on demand, off the request path, for status, `hale status`, `hale why` and the admin API.

use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    admission,
    config::{ByReason, Readiness, UpstreamId},
    health::{self, EjectionRule, Standing, Verdict},
    reason::Reason,
    reject,
    table::{Peer, PeerTable, Upstream},
};

mod policies;
mod trial;
mod why;

pub use policies::{AuthReport, MethodReport, PoliciesReport, SectionReport, Unavailable};
pub use trial::{PreflightReport, Trial, TrialReport};
pub use why::{WhyReport, WhyRequest};
pub(crate) use why::{why, why_trying};

/// For how long a request that was lost says how the next one would go.
const LOST_COUNTS: SignedDuration = SignedDuration::from_secs(60);
/// Peers that a message names.
const NAMED: usize = 3;

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
    /// Policies that cannot let in whom they should, and what to mend.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<Unavailable>,
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
    /// Why it has no peer at all, `NoEligiblePeer`, or what the last request to every peer that is served
    /// failed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Peers that are not served, or that are and fail, counted by reason.
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
    /// That it is out for what it answered requests with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejection: Option<EjectionReport>,
    /// The last request to it, if that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorReport>,
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
    /// Whether the peer refused the connection, or sent nothing in time.
    #[serde(skip)]
    pub silent: bool,
}

/// Why a peer is ejected, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EjectionReport {
    /// The rule that it broke.
    pub rule: EjectionRule,
    /// How often it was ejected; fewer times the longer it is quiet.
    pub times: u32,
    /// When one request is tried.
    pub until: Timestamp,
    /// Whether that time has come: the next request decides.
    pub on_trial: bool,
}

/// Requests to a peer that failed, with none answered since.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorReport {
    /// When the last of them failed.
    pub at: Timestamp,
    /// What the last of them failed with.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
    /// How many there are.
    pub in_a_row: u32,
}

/// The state of a table.
pub(crate) fn report(table: &PeerTable) -> Report {
    Report {
        generation: table.generation,
        fingerprint: table.fingerprint.clone(),
        published: table.published,
        upstreams: table
            .upstreams
            .iter()
            .map(|upstream| upstream_report(upstream))
            .collect(),
        unavailable: policies::unavailable(table),
    }
}

fn upstream_report(upstream: &Upstream) -> UpstreamReport {
    let eligible = upstream.eligible();
    let mut serving = vec![false; upstream.peers.len()];
    for &index in &eligible.peers {
        if let Some(serving) = serving.get_mut(index as usize) {
            *serving = true;
        }
    }
    let peers: Vec<PeerReport> = upstream
        .peers
        .iter()
        .zip(serving)
        .map(|(peer, serving)| peer_report(upstream, peer, serving))
        .collect();
    let mut by_reason = ByReason::new();
    for reason in peers
        .iter()
        .filter(|peer| !peer.serving || peer.fails())
        .filter_map(|peer| peer.reason)
    {
        *by_reason.entry(reason).or_default() += 1;
    }
    let (reason, message) = match (&upstream.config.problem, eligible.peers.is_empty()) {
        (Some(problem), _) => (Some(problem.reason), problem.message.clone()),
        (None, true) => (
            Some(Reason::NoEligiblePeer),
            no_peer_message(peers.len(), &by_reason),
        ),
        (None, false) => match every_peer_fails(&peers, Timestamp::now()) {
            Some(error) => (Some(error.reason), failing_message(&peers, error)),
            None => (None, String::new()),
        },
    };
    UpstreamReport {
        id: upstream.config.id.clone(),
        checked: upstream.config.health.active.is_some(),
        serving: eligible.peers.len(),
        panic: eligible.panic,
        reason,
        message,
        by_reason,
        peers,
    }
}

/// Why nobody would answer a question to this upstream now.
pub(crate) fn trouble(upstream: &Upstream) -> Option<(Reason, String)> {
    let report = upstream_report(upstream);
    let reason = report.reason?;
    Some((
        reason,
        format!("{}: {reason}: {}", report.id, report.message),
    ))
}

/// The newest failure, if the last request to every peer that is served failed. A lost request may have been
/// that request's own fault, so it counts for a while; that no connection could be made, until one was.
fn every_peer_fails(peers: &[PeerReport], now: Timestamp) -> Option<&ErrorReport> {
    let mut newest: Option<&ErrorReport> = None;
    for peer in peers.iter().filter(|peer| peer.serving) {
        let error = peer.last_error.as_ref()?;
        let counts = peer.fails() || now.duration_since(error.at) <= LOST_COUNTS;
        if !counts {
            return None;
        }
        if newest.is_none_or(|newest| newest.at < error.at) {
            newest = Some(error);
        }
    }
    newest
}

fn failing_message(peers: &[PeerReport], error: &ErrorReport) -> String {
    let serving = peers.iter().filter(|peer| peer.serving);
    let named: Vec<String> = serving
        .clone()
        .take(NAMED)
        .map(|peer| match &peer.pod {
            Some(pod) => format!("{pod} ({})", peer.address),
            None => peer.address.to_string(),
        })
        .collect();
    let more = match serving.count() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the last request to {}{more} failed: {}",
        named.join(", "),
        error.message
    )
}

fn no_peer_message(total: usize, by_reason: &ByReason) -> String {
    let counts: Vec<String> = by_reason
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    let counts = counts.join(", ");
    match total {
        1 => format!("its only peer cannot serve: {counts}"),
        total => format!("none of {total} peers can serve: {counts}"),
    }
}

/// Why a peer is not served, or not now: one with which nothing is wrong may still be at its limit.
fn explain(upstream: &Upstream, peer: &Peer) -> health::Explanation {
    let health = upstream.health(peer);
    let mut explanation = health::explain(health, peer.config.readiness, &peer.state.vitals);
    if explanation.reason.is_none()
        && let Some(message) = admission::saturation(upstream, peer)
    {
        explanation.reason = Some(Reason::Saturated);
        explanation.message = message;
    }
    explanation
}

fn peer_report(upstream: &Upstream, peer: &Peer, serving: bool) -> PeerReport {
    let vitals = &peer.state.vitals;
    let explanation = explain(upstream, peer);
    PeerReport {
        address: peer.config.address,
        pod: peer.config.pod.clone(),
        node: peer.config.node.clone(),
        readiness: peer.config.readiness,
        probe: vitals.probe(),
        standing: upstream.standing(peer),
        serving,
        reason: explanation.reason,
        message: explanation.message,
        since: explanation.since,
        last_check: vitals.last_check().map(|check| (*check).clone()),
        ejection: health::ejection(upstream.health(peer), vitals),
        requests: vitals.requests(),
        in_flight: vitals.in_flight(),
        last_error: last_error(vitals),
    }
}

fn last_error(vitals: &health::Vitals) -> Option<ErrorReport> {
    let connect = vitals
        .connect_failure()
        .map(|(in_a_row, failure)| ErrorReport {
            at: failure.last,
            reason: failure.reason,
            message: failure.message.clone(),
            in_a_row,
        });
    let lost = vitals.lost_requests().map(|lost| ErrorReport {
        at: lost.last,
        reason: lost.reason,
        message: lost.message.clone(),
        in_a_row: lost.in_a_row,
    });
    match (connect, lost) {
        (Some(connect), Some(lost)) if lost.at > connect.at => Some(lost),
        (connect, lost) => connect.or(lost),
    }
}

impl PeerReport {
    /// Whether our check, or requests, found that it does not serve; not what Kubernetes says of it.
    pub fn fails(&self) -> bool {
        matches!(
            self.reason,
            Some(
                Reason::ActiveCheckFailed
                    | Reason::Ejected
                    | Reason::ConnectRefused
                    | Reason::ConnectTimeout
                    | Reason::TlsError
                    | Reason::ProtocolError
            )
        )
    }
}

/// The peers of an upstream, for an answer that explains why none of them served.
pub(crate) fn reject_peers(upstream: &Upstream, detail: bool) -> reject::Peers {
    let mut peers = reject::Peers {
        total: upstream.peers.len(),
        ..reject::Peers::default()
    };
    for peer in &upstream.peers {
        let explanation = explain(upstream, peer);
        let Some(reason) = explanation.reason else {
            continue;
        };
        *peers.by_reason.entry(reason).or_default() += 1;
        if detail {
            peers.detail.push(reject::PeerDetail {
                peer: peer.config.address,
                pod: peer.config.pod.clone(),
                reason,
                message: explanation.message,
                since: explanation.since,
            });
        }
    }
    peers
}
