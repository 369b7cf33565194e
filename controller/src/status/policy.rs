//! The status of a policy, as a pure function: what became of it, what its peers are like, what was written before,
//! and the time.
//!
//! Nothing in it changes while nothing happens. Counters (`7 in a row`) are left out, and times are the beginnings of
//! states, in whole seconds: a probe that repeats its result gives the same document.

use std::collections::{BTreeMap, BTreeSet};

use hale_crds::{
    AncestorRef, AncestorStatus, MAX_UNHEALTHY_PEERS, TargetStatus, UnhealthyPeer,
    UpstreamPolicyStatus,
};
use hale_dataplane::{
    config::{Readiness, UpstreamId},
    reason::Reason,
    report::{PeerReport, Report, UpstreamReport},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::translate::{PolicyOutcome, TargetOutcome};

mod conditions;
mod disagreements;
mod share;

pub use disagreements::Disagreements;
pub use share::{Share, Shares};

/// Rows in `status.targets`, as the CRD bounds them.
const MAX_TARGETS: usize = 64;

/// The upstreams of a report by their identity.
pub struct Upstreams<'a>(BTreeMap<&'a UpstreamId, &'a UpstreamReport>);

impl<'a> Upstreams<'a> {
    /// An index of the report.
    pub fn new(report: &'a Report) -> Self {
        Self(
            report
                .upstreams
                .iter()
                .map(|upstream| (&upstream.id, upstream))
                .collect(),
        )
    }

    /// The upstreams of these identities that are served.
    fn select(&self, ids: &[UpstreamId]) -> Vec<&'a UpstreamReport> {
        ids.iter()
            .filter_map(|id| self.0.get(id).copied())
            .collect()
    }
}

/// The status that a policy should have, as an installation of the class `controller` sees it. `there` is the status
/// that it has: conditions keep the time of their last transition from it.
pub fn policy_status(
    outcome: &PolicyOutcome,
    upstreams: &Upstreams<'_>,
    disagreements: &Disagreements,
    there: Option<&UpstreamPolicyStatus>,
    controller: &str,
    now: Timestamp,
) -> UpstreamPolicyStatus {
    let ancestors = outcome.targets.iter().map(|target| {
        let ancestor_ref = ancestor_ref(target);
        let before = there
            .iter()
            .flat_map(|status| &status.ancestors)
            .find(|it| it.ancestor_ref == ancestor_ref && it.controller_name == controller)
            .map_or(&[][..], |ancestor| &ancestor.conditions);
        AncestorStatus {
            conditions: conditions::of(
                target,
                &upstreams.select(&target.upstreams),
                disagreements,
                conditions::Before {
                    generation: outcome.generation,
                    conditions: before,
                    now,
                },
            ),
            ancestor_ref,
            controller_name: controller.to_owned(),
        }
    });
    // Two targets may lead to the same upstream: it is counted once.
    let ids: BTreeSet<_> = outcome
        .targets
        .iter()
        .flat_map(|target| &target.upstreams)
        .collect();
    let ids: Vec<_> = ids.into_iter().cloned().collect();
    let reached = upstreams.select(&ids);
    let known = there.map_or(&[][..], |status| &status.unhealthy_peers);
    let (unhealthy_peers, omitted) = unhealthy(&reached, known);
    let count = Count::of(&reached);
    let refused = reached
        .iter()
        .find(|it| it.peers.is_empty() && it.reason == Some(Reason::TlsError));
    let (healthy, summary) = if reached.is_empty() {
        (None, "no route reaches a target".to_owned())
    } else if let (Some(upstream), 0) = (refused, count.peers) {
        // There are pods, and requests are refused before one is thought of: 0/0 would say that there are none.
        (None, format!("requests are refused: {}", upstream.message))
    } else {
        (
            Some(count.fraction()),
            format!("{} peers serving", count.fraction()),
        )
    };
    UpstreamPolicyStatus {
        observed_generation: outcome.generation,
        summary: Some(summary),
        healthy,
        ancestors: ancestors.collect(),
        targets: reached
            .iter()
            .take(MAX_TARGETS)
            .map(|upstream| target_status(upstream))
            .collect(),
        unhealthy_peers,
        unhealthy_peers_omitted: omitted,
    }
}

fn ancestor_ref(target: &TargetOutcome) -> AncestorRef {
    AncestorRef {
        group: target.target.group.clone(),
        kind: target.target.kind.as_str().to_owned(),
        name: target.target.name.clone(),
        section_name: target.target.section_name.clone(),
    }
}

fn target_status(upstream: &UpstreamReport) -> TargetStatus {
    let count = Count::of(&[upstream]);
    TargetStatus {
        kind: "Service".to_owned(),
        name: upstream.id.service.clone(),
        port: upstream.id.port.clone(),
        peers: number(count.peers),
        serving: number(count.serving),
        by_reason: count
            .by_reason
            .iter()
            .map(|(reason, peers)| (reason.as_str().to_owned(), number(*peers)))
            .collect(),
    }
}

/// Peers, counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    peers: usize,
    serving: usize,
    by_reason: BTreeMap<Reason, usize>,
}

impl Count {
    fn of(upstreams: &[&UpstreamReport]) -> Self {
        let mut count = Self::default();
        for peer in counted(upstreams) {
            count.peers += 1;
            count.serving += usize::from(peer.serving);
            if let Some(reason) = peer.reason.filter(|_| !peer.serving || peer.fails()) {
                *count.by_reason.entry(reason).or_default() += 1;
            }
        }
        count
    }

    fn fraction(&self) -> String {
        format!("{}/{}", self.serving, self.peers)
    }
}

/// Peers that are on their way out and get no requests are not counted: a pod that is being replaced is not a sick
/// pod, and a rolling restart of healthy pods leaves a policy healthy.
fn counted<'a>(upstreams: &'a [&UpstreamReport]) -> impl Iterator<Item = &'a PeerReport> {
    let leaves = |peer: &&PeerReport| {
        !peer.serving && matches!(peer.readiness, Readiness::Draining | Readiness::Gone)
    };
    upstreams
        .iter()
        .flat_map(|upstream| &upstream.peers)
        .filter(move |peer| !leaves(peer))
}

/// The worst peers, and how many more there are. Failing peers come first, then those that Kubernetes calls not
/// ready; among them the one that has been out for longest.
///
/// Each replica began to look at another time. Where what is `there` knows the same peer to be out for longer, it is
/// believed: a change of leader is no news of a peer.
fn unhealthy(upstreams: &[&UpstreamReport], there: &[UnhealthyPeer]) -> (Vec<UnhealthyPeer>, i32) {
    let mut out: Vec<(&PeerReport, Reason)> = counted(upstreams)
        .filter_map(|peer| Some((peer, peer.reason?)))
        // Below the panic threshold failing peers serve, and so do those that no connection can be made to
        // for the moment; they are no less unhealthy.
        .filter(|(peer, _)| !peer.serving || peer.fails())
        .collect();
    out.sort_by_key(|(peer, reason)| {
        (!peer.fails(), *reason, peer.since.as_second(), peer.address)
    });
    out.dedup_by_key(|(peer, _)| peer.address);
    let omitted = out.len().saturating_sub(MAX_UNHEALTHY_PEERS);
    let told = out.into_iter().take(MAX_UNHEALTHY_PEERS);
    let peers = told.map(|(peer, reason)| {
        let mut told = UnhealthyPeer {
            address: peer.address.to_string(),
            pod: peer.pod.clone(),
            node: peer.node.clone(),
            reason: reason.as_str().to_owned(),
            message: shortened(without_count(&peer.message), 1024),
            since: Time(whole_seconds(peer.since)),
        };
        let same = |before: &&UnhealthyPeer| {
            before.address == told.address && before.pod == told.pod && before.reason == told.reason
        };
        if let Some(before) = there.iter().find(same)
            && before.since.0 < told.since.0
        {
            told.since = before.since.clone();
        }
        told
    });
    (peers.collect(), number(omitted))
}

/// The message without `, 7 in a row` at its end, which grows with every check.
pub(crate) fn without_count(message: &str) -> &str {
    message
        .strip_suffix(" in a row")
        .map(|head| head.trim_end_matches(|c: char| c.is_ascii_digit()))
        .and_then(|head| head.strip_suffix(", "))
        .unwrap_or(message)
}

/// At most `most` bytes, cut between characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Kubernetes keeps seconds: more would differ from what is read back.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
