//! The conditions of a policy for one target.

use std::fmt::Write;

use hale_dataplane::{
    reason::Reason,
    report::{PeerReport, UpstreamReport},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Count, Disagreements, counted, shortened, whole_seconds, without_count};
use crate::translate::TargetOutcome;

/// Readiness and the check may differ for this long before that is told: after a start or a failure one of the two is
/// always first.
const DISAGREEMENT: SignedDuration = SignedDuration::from_secs(30);
/// A peer that is asked and fails is unhealthy after this time: in a rollout the first refused connection comes
/// before the news that the pod is going.
const LASTING: SignedDuration = SignedDuration::from_secs(5);
/// Peers that a message names.
const NAMED: usize = 3;
/// Bytes of a message that people still read.
const MAX_MESSAGE: usize = 2048;

/// `Accepted`, `Programmed`, and, where the target has upstreams, `Healthy` and (with an active check)
/// `ReadinessAgrees`.
pub(super) fn of(
    target: &TargetOutcome,
    upstreams: &[&UpstreamReport],
    disagreements: &Disagreements,
    before: Before<'_>,
) -> Vec<Condition> {
    let (accepted, programmed) = (&target.accepted, &target.programmed);
    let mut all = vec![
        Judged {
            type_: "Accepted",
            status: Some(accepted.reason.status()),
            reason: accepted.reason.as_str(),
            message: accepted.message.clone(),
        },
        Judged {
            type_: "Programmed",
            status: Some(programmed.reason.status()),
            reason: programmed.reason.as_str(),
            message: protected(&programmed.message, &target.methods),
        },
    ];
    if !upstreams.is_empty() {
        all.push(healthy(upstreams, before.now));
    }
    if upstreams.iter().any(|upstream| upstream.checked) {
        all.push(readiness_agrees(upstreams, disagreements, before.now));
    }
    all.into_iter()
        .map(|judged| judged.condition(before))
        .collect()
}

/// The message with the methods of which a request needs one: `in force: auth; protected by basic, jwt`.
fn protected(message: &str, methods: &[&str]) -> String {
    if methods.is_empty() {
        return message.to_owned();
    }
    format!("{message}; protected by {}", methods.join(", "))
}

/// What conditions are written upon.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    /// The policy's generation.
    pub(super) generation: Option<i64>,
    /// The conditions that are there.
    pub(super) conditions: &'a [Condition],
    /// The time.
    pub(super) now: Timestamp,
}

struct Judged {
    type_: &'static str,
    /// `None` is not known.
    status: Option<bool>,
    reason: &'static str,
    message: String,
}

impl Judged {
    /// The time of the last transition stays, unless the status is another than before.
    fn condition(self, before: Before<'_>) -> Condition {
        let status = match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let since = before
            .conditions
            .iter()
            .find(|condition| condition.type_ == self.type_ && condition.status == status)
            .map_or_else(
                || Time(whole_seconds(before.now)),
                |condition| condition.last_transition_time.clone(),
            );
        Condition {
            type_: self.type_.to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_owned(),
            message: shortened(&self.message, MAX_MESSAGE),
            observed_generation: before.generation,
            last_transition_time: since,
        }
    }
}

fn healthy(upstreams: &[&UpstreamReport], now: Timestamp) -> Judged {
    let count = Count::of(upstreams);
    let goes_on_failing =
        |peer: &PeerReport| peer.fails() && now.duration_since(peer.since) >= LASTING;
    let panic = upstreams.iter().any(|upstream| upstream.panic);
    let reason = if count.serving == 0 {
        "NoPeerServing"
    } else if panic {
        "Panic"
    } else if count.serving < count.peers || counted(upstreams).any(goes_on_failing) {
        "SomePeersUnhealthy"
    } else {
        "AllPeersServing"
    };
    let mut message = format!("{} serving", count.fraction());
    if panic {
        message.push_str(" (too few peers pass their check, so failing ones are served, too)");
    }
    let reasons: Vec<_> = count
        .by_reason
        .iter()
        .map(|(reason, peers)| explain(upstreams, *reason, *peers))
        .collect();
    if !reasons.is_empty() {
        let _ = write!(message, ": {}", reasons.join(", "));
    }
    for upstream in upstreams
        .iter()
        .filter(|upstream| upstream.peers.is_empty())
    {
        let reason = upstream.reason.unwrap_or(Reason::NoEndpoints);
        let _ = write!(message, "; {}: {reason}", upstream.id);
        if !upstream.message.is_empty() {
            let _ = write!(message, " ({})", upstream.message);
        }
    }
    Judged {
        type_: "Healthy",
        status: Some(reason == "AllPeersServing"),
        reason,
        message,
    }
}

/// `2 ActiveCheckFailed (GET /healthz: HTTP 503, want 200-399)`; what the peers say in parentheses, if they agree.
fn explain(upstreams: &[&UpstreamReport], reason: Reason, peers: usize) -> String {
    let mut messages = counted(upstreams)
        .filter(|peer| (!peer.serving || peer.fails()) && peer.reason == Some(reason))
        .map(|peer| without_count(&peer.message));
    let first = messages.next().unwrap_or_default();
    if first.is_empty() || messages.any(|message| message != first) {
        format!("{peers} {reason}")
    } else {
        format!("{peers} {reason} ({first})")
    }
}

fn readiness_agrees(
    upstreams: &[&UpstreamReport],
    disagreements: &Disagreements,
    now: Timestamp,
) -> Judged {
    let (mut failing, mut passing) = (Vec::new(), Vec::new());
    for upstream in upstreams.iter().filter(|upstream| upstream.checked) {
        for peer in &upstream.peers {
            match disagreements.since(&upstream.id, peer) {
                Some((since, _)) if now.duration_since(since) < DISAGREEMENT => {}
                Some((since, true)) => failing.push((since, peer)),
                Some((since, false)) => passing.push((since, peer)),
                None => {}
            }
        }
    }
    let mut checked = upstreams.iter().filter(|upstream| upstream.checked);
    let nobody = checked.all(|upstream| upstream.peers.is_empty());
    let (reason, message) = if nobody {
        ("NoPeers", "there is no pod that is checked".to_owned())
    } else if !failing.is_empty() {
        let what = "Ready for Kubernetes but fails the policy's check";
        ("ReadyButFailingChecks", disagreement(failing, what))
    } else if !passing.is_empty() {
        let what = "not Ready for Kubernetes but passes the policy's check";
        ("NotReadyButPassing", disagreement(passing, what))
    } else {
        (
            "Agrees",
            "the pods' readiness and the policy's check agree".to_owned(),
        )
    };
    Judged {
        type_: "ReadinessAgrees",
        status: (!nobody).then_some(reason == "Agrees"),
        reason,
        message,
    }
}

fn disagreement(mut peers: Vec<(Timestamp, &PeerReport)>, what: &str) -> String {
    peers.sort_by_key(|(since, peer)| (since.as_second(), peer.address));
    let named: Vec<_> = peers
        .iter()
        .take(NAMED)
        .map(|(since, peer)| {
            let name = peer.pod.clone().unwrap_or_else(|| peer.address.to_string());
            format!(
                "{name} is {what} since {}",
                since.strftime("%Y-%m-%dT%H:%M:%SZ")
            )
        })
        .collect();
    let mut message = named.join("; ");
    if peers.len() > NAMED {
        let _ = write!(message, "; and {} more", peers.len() - NAMED);
    }
    message
}
