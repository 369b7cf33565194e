//! Events: what happened to which object, for `kubectl describe`.
//!
//! What there is to say is found by comparing: findings and peers now with those of the last look. A term of
//! leadership begins with what is known then, so that a change of leader does not tell old news as new; findings are
//! told again, because they are still true, and Events do not last.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    time::Duration,
};

use hale_dataplane::{
    config::{ObjectRef, UpstreamId},
    reason::Reason,
    report::{PeerReport, Report, UpstreamReport},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::EventType;
use tokio::time::Instant;

use crate::{
    finding::{Finding, FindingReason, Severity},
    publish::Published,
    status::{shortened, without_count},
};

mod audience;
mod teller;

use audience::Audience;
pub use teller::Teller;

/// How often a finding that lasts is told again: Events live for an hour.
const REMIND: Duration = Duration::from_secs(30 * 60);
/// How long an upstream that never served may have no eligible peer before that is told: the first pod of a new
/// Deployment needs a moment.
const FIRST_PEER: Duration = Duration::from_secs(10);

/// One thing to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// About which object.
    pub regarding: ObjectReference,
    /// Which pod it is about.
    pub related: Option<ObjectReference>,
    /// How bad it is.
    pub type_: EventType,
    /// A code.
    pub reason: &'static str,
    /// A sentence.
    pub note: String,
}

/// What was known at the last look.
pub struct Events {
    teller: Teller,
    memory: Memory,
}

impl Events {
    /// A memory without anything in it.
    pub fn new(teller: Teller) -> Self {
        Self {
            teller,
            memory: Memory::default(),
        }
    }

    /// Tells what is new.
    pub fn tell(&mut self, published: &Published, report: &Report, now: Instant) {
        let findings: Vec<_> = published.findings(Timestamp::now()).collect();
        for note in self.memory.compare(published, &findings, report, now) {
            self.teller.tell(note, now);
        }
    }
}

/// A peer, over time.
type PeerKey = (UpstreamId, std::net::SocketAddr, Option<String>);

#[derive(Default)]
struct Memory {
    /// Findings, and when they were told.
    findings: HashMap<(ObjectRef, &'static str, String), Instant>,
    /// Peers that fail, and the reason that was told; `None` before the first look.
    failing: Option<HashMap<PeerKey, Reason>>,
    /// Upstreams with peers.
    upstreams: HashMap<UpstreamId, Alive>,
    /// Generations of the Ingresses that are served; `None` before the first look.
    synced: Option<HashMap<ObjectRef, Option<i64>>>,
}

/// Whether an upstream with peers can serve.
#[derive(Clone, Copy, Debug)]
enum Alive {
    /// It does.
    Yes,
    /// Since when it has not, not having served before: not told yet.
    NotYet(Instant),
    /// It does not, and that was told.
    Told,
}

impl Memory {
    fn compare(
        &mut self,
        published: &Published,
        findings: &[Cow<'_, Finding>],
        report: &Report,
        now: Instant,
    ) -> Vec<Note> {
        let audience = Audience::new(published);
        let mut notes = self.findings(findings, &audience, now);
        notes.extend(self.peers(report, &audience, now));
        notes.extend(self.synced(published, &audience));
        notes
    }

    fn findings(
        &mut self,
        findings: &[Cow<'_, Finding>],
        audience: &Audience<'_>,
        now: Instant,
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut current = HashSet::new();
        for finding in findings {
            // A Service passes through this at each scale-up; what lasts gets a better name from its pods.
            if finding.reason == FindingReason::NoEndpoints {
                continue;
            }
            let reason = finding.reason.as_str();
            let key = (finding.object.clone(), reason, finding.message.clone());
            current.insert(key.clone());
            let told = self.findings.get(&key);
            if told.is_some_and(|told| now.duration_since(*told) < REMIND) {
                continue;
            }
            self.findings.insert(key, now);
            let Some(regarding) = audience.reference(&finding.object) else {
                continue;
            };
            notes.push(Note {
                regarding,
                related: None,
                type_: match finding.severity {
                    Severity::Warning => EventType::Warning,
                    Severity::Notice => EventType::Normal,
                },
                reason,
                note: finding.message.clone(),
            });
        }
        self.findings.retain(|key, _| current.contains(key));
        notes
    }

    fn peers(&mut self, report: &Report, audience: &Audience<'_>, now: Instant) -> Vec<Note> {
        let first = self.failing.is_none();
        let before = self.failing.take().unwrap_or_default();
        let mut failing = HashMap::new();
        let mut notes = Vec::new();
        for upstream in &report.upstreams {
            for peer in &upstream.peers {
                let key = (upstream.id.clone(), peer.address, peer.pod.clone());
                let was = before.get(&key);
                // Readiness and termination are told by Kubernetes itself.
                match peer.reason.filter(|_| peer.fails()) {
                    Some(reason) => {
                        if !first && was != Some(&reason) {
                            notes.extend(unhealthy(upstream, peer, reason, audience));
                        }
                        failing.insert(key, reason);
                    }
                    None if peer.serving && was.is_some() => {
                        notes.extend(recovered(upstream, peer, audience));
                    }
                    // Back in Kubernetes' hands (not ready, terminating): neither failing nor recovered.
                    None => {}
                }
            }
        }
        self.failing = Some(failing);
        notes.extend(self.outages(report, audience, first, now));
        notes
    }

    /// Upstreams of which no peer is left. One without any peer has a finding of its own, and begins anew.
    fn outages(
        &mut self,
        report: &Report,
        audience: &Audience<'_>,
        first: bool,
        now: Instant,
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut upstreams = HashMap::new();
        let with_peers = report.upstreams.iter().filter(|it| !it.peers.is_empty());
        for upstream in with_peers {
            let before = self.upstreams.get(&upstream.id).copied();
            let alive = if upstream.serving > 0 {
                Alive::Yes
            } else if first {
                Alive::Told
            } else {
                match before.unwrap_or(Alive::NotYet(now)) {
                    Alive::NotYet(since) if now.duration_since(since) < FIRST_PEER => {
                        Alive::NotYet(since)
                    }
                    Alive::Told => Alive::Told,
                    Alive::Yes | Alive::NotYet(_) => {
                        notes.extend(nobody_left(upstream, audience));
                        Alive::Told
                    }
                }
            };
            upstreams.insert(upstream.id.clone(), alive);
        }
        self.upstreams = upstreams;
        notes
    }

    fn synced(&mut self, published: &Published, audience: &Audience<'_>) -> Vec<Note> {
        let before = self.synced.take();
        let mut notes = Vec::new();
        let mut current = HashMap::new();
        for outcome in &published.translation.ingresses {
            let object = ObjectRef {
                kind: "Ingress",
                namespace: outcome.namespace.clone(),
                name: outcome.name.clone(),
            };
            let generation = audience.generation(&object);
            let known = before
                .as_ref()
                .is_none_or(|before| before.get(&object) == Some(&generation));
            if !known && let Some(regarding) = audience.reference(&object) {
                notes.push(Note {
                    regarding,
                    related: None,
                    type_: EventType::Normal,
                    reason: "Synced",
                    note: "The Ingress is served".to_owned(),
                });
            }
            current.insert(object, generation);
        }
        self.synced = Some(current);
        notes
    }
}

fn name(peer: &PeerReport) -> String {
    match &peer.pod {
        Some(pod) => format!("{pod} ({})", peer.address),
        None => peer.address.to_string(),
    }
}

fn unhealthy(
    upstream: &UpstreamReport,
    peer: &PeerReport,
    reason: Reason,
    audience: &Audience<'_>,
) -> Vec<Note> {
    let code = if reason == Reason::Ejected {
        "PeerEjected"
    } else {
        "PeerUnhealthy"
    };
    let fate = match (peer.serving, upstream.panic) {
        (true, true) => "still gets requests, because too few peers pass",
        (true, false) => "gets requests only where no other peer does",
        (false, _) => "gets no requests",
    };
    let message = without_count(&peer.message);
    let note = format!(
        "{} of {} {fate}: {reason}: {message}",
        name(peer),
        upstream.id
    );
    about_peer(upstream, peer, EventType::Warning, code, &note, audience)
}

fn recovered(upstream: &UpstreamReport, peer: &PeerReport, audience: &Audience<'_>) -> Vec<Note> {
    let note = format!("{} of {} gets requests again", name(peer), upstream.id);
    about_peer(
        upstream,
        peer,
        EventType::Normal,
        "PeerRecovered",
        &note,
        audience,
    )
}

fn about_peer(
    upstream: &UpstreamReport,
    peer: &PeerReport,
    type_: EventType,
    reason: &'static str,
    note: &str,
    audience: &Audience<'_>,
) -> Vec<Note> {
    let related = peer.pod.as_ref().map(|pod| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(upstream.id.namespace.clone()),
        name: Some(pod.clone()),
        ..ObjectReference::default()
    });
    audience
        .of_peers(&upstream.id)
        .into_iter()
        .map(|regarding| Note {
            regarding,
            related: related.clone(),
            type_,
            reason,
            note: note.to_owned(),
        })
        .collect()
}

fn nobody_left(upstream: &UpstreamReport, audience: &Audience<'_>) -> Vec<Note> {
    let reasons: Vec<_> = upstream
        .by_reason
        .iter()
        .map(|(reason, peers)| format!("{peers} {reason}"))
        .collect();
    let note = format!(
        "Requests to {} are answered with 503: none of its {} peers may be picked ({})",
        upstream.id,
        upstream.peers.len(),
        reasons.join(", ")
    );
    let all = audience.of_peers(&upstream.id).into_iter();
    all.chain(audience.of_routes(&upstream.id))
        .map(|regarding| Note {
            regarding,
            related: None,
            type_: EventType::Warning,
            reason: "NoEligiblePeer",
            note: note.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
