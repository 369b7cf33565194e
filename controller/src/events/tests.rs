#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use hale_crds::{TargetKind, TargetRef};
use hale_dataplane::{
    config::{ByReason, Readiness},
    health::{Standing, Verdict},
};
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::{
    cluster::{Cluster, Objects},
    finding::{Finding, FindingReason},
    settings::Settings,
    translate::{
        AcceptedReason, IngressOutcome, Judgement, PolicyOutcome, ProgrammedReason, TargetOutcome,
        Translation,
    },
};

fn id() -> UpstreamId {
    UpstreamId {
        namespace: "shop".into(),
        service: "checkout".into(),
        port: "http".into(),
    }
}

fn object<K: serde::de::DeserializeOwned>(name: &str, generation: i64) -> Arc<K> {
    let meta = json!({"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "generation": generation});
    Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": {"targetRefs": []}})).unwrap())
}

fn published(findings: Vec<Finding>, generation: i64) -> Published {
    let objects = Objects {
        ingresses: vec![object("web", generation)],
        services: vec![object("checkout", 1)],
        policies: vec![object("checkout", 1)],
        ..Objects::default()
    };
    let translation = Translation {
        findings,
        ingresses: vec![IngressOutcome {
            namespace: "shop".into(),
            name: "web".into(),
            tls: false,
            upstreams: vec![id()],
        }],
        ..Translation::default()
    };
    Published {
        sequence: 1,
        cluster: Cluster::new(objects),
        translation,
        settings: Settings::default(),
        read_findings: Vec::new(),
    }
}

fn report(failing: &[bool]) -> Report {
    let peers = (1u8..).zip(failing).map(|(last, failing)| PeerReport {
        address: ([10, 244, 0, last], 8080).into(),
        pod: Some(format!("checkout-{last}")),
        node: None,
        readiness: Readiness::Ready,
        probe: if *failing {
            Verdict::Fail
        } else {
            Verdict::Pass
        },
        standing: if *failing {
            Standing::Exclude
        } else {
            Standing::Serve
        },
        serving: !failing,
        reason: failing.then_some(Reason::ActiveCheckFailed),
        message: if *failing {
            "GET /: HTTP 503, 3 in a row".into()
        } else {
            String::new()
        },
        since: Timestamp::UNIX_EPOCH,
        last_check: None,
        ejection: None,
        last_error: None,
        requests: 0,
        in_flight: 0,
    });
    let peers: Vec<_> = peers.collect();
    let out = failing.iter().filter(|failing| **failing).count();
    Report {
        generation: 1,
        fingerprint: String::new(),
        published: None,
        upstreams: vec![UpstreamReport {
            id: id(),
            checked: true,
            serving: peers.len() - out,
            panic: false,
            reason: None,
            message: String::new(),
            by_reason: ByReason::from([(Reason::ActiveCheckFailed, out)]),
            peers,
        }],
        unavailable: Vec::new(),
    }
}

/// One look at everything.
fn look_at(memory: &mut Memory, world: &Published, report: &Report, now: Instant) -> Vec<Note> {
    let findings: Vec<_> = world.findings(Timestamp::UNIX_EPOCH).collect();
    memory.compare(world, &findings, report, now)
}

fn told(notes: &[Note]) -> Vec<String> {
    let line = |note: &Note| {
        format!(
            "{} {}",
            note.regarding.kind.clone().unwrap_or_default(),
            note.reason
        )
    };
    notes.iter().map(line).collect()
}

#[test]
fn a_term_begins_with_what_is_known() {
    let mut memory = Memory::default();
    let notes = look_at(
        &mut memory,
        &published(Vec::new(), 1),
        &report(&[true, false]),
        Instant::now(),
    );
    assert_eq!(told(&notes), Vec::<String>::new());
}

#[test]
fn a_peer_that_fails_and_comes_back_is_told_once_each() {
    let mut memory = Memory::default();
    let world = published(Vec::new(), 1);
    let mut look =
        |failing: &[bool]| look_at(&mut memory, &world, &report(failing), Instant::now());
    look(&[false, false]);
    let notes = look(&[true, false]);
    assert_eq!(told(&notes), ["Service PeerUnhealthy"]);
    assert_eq!(notes[0].regarding.uid.as_deref(), Some("uid-checkout"));
    let wanted = "checkout-1 (10.244.0.1:8080) of shop/checkout:http gets no requests: ActiveCheckFailed: GET /: HTTP 503";
    assert_eq!(notes[0].note, wanted);
    assert_eq!(look(&[true, false]), []);
    let notes = look(&[true, true]);
    assert_eq!(
        told(&notes),
        [
            "Service PeerUnhealthy",
            "Service NoEligiblePeer",
            "Ingress NoEligiblePeer"
        ]
    );
    assert_eq!(told(&look(&[false, true])), ["Service PeerRecovered"]);
}

#[test]
fn policies_hear_of_an_ejected_peer_and_of_its_return() {
    let mut memory = Memory::default();
    let mut world = published(Vec::new(), 1);
    let target = TargetRef {
        group: String::new(),
        kind: TargetKind::Service,
        name: "checkout".into(),
        section_name: None,
    };
    world.translation.policies = vec![PolicyOutcome {
        namespace: "shop".into(),
        name: "checkout".into(),
        generation: None,
        targets: vec![TargetOutcome {
            target,
            accepted: Judgement {
                reason: AcceptedReason::Accepted,
                message: String::new(),
            },
            programmed: Judgement {
                reason: ProgrammedReason::Programmed,
                message: String::new(),
            },
            upstreams: vec![id()],
            methods: Vec::new(),
        }],
    }];
    let mut look = |report: &Report| told(&look_at(&mut memory, &world, report, Instant::now()));
    look(&report(&[false, false]));
    let mut ejected = report(&[true, false]);
    ejected.upstreams[0].peers[0].reason = Some(Reason::Ejected);
    assert_eq!(
        look(&ejected),
        ["Service PeerEjected", "UpstreamPolicy PeerEjected"]
    );
    assert!(look(&ejected).is_empty());
    assert_eq!(
        look(&report(&[false, false])),
        ["Service PeerRecovered", "UpstreamPolicy PeerRecovered"]
    );
}

/// Nobody looks at the first pod of a Deployment before it is there.
#[test]
fn a_first_peer_has_time_to_become_ready() {
    let unready = || {
        let mut report = report(&[true]);
        report.upstreams[0].peers[0].reason = Some(Reason::NotReady);
        report
    };
    let mut memory = Memory::default();
    let world = published(Vec::new(), 1);
    let start = Instant::now();
    let mut look = |report: &Report, seconds| {
        let now = start + Duration::from_secs(seconds);
        told(&look_at(&mut memory, &world, report, now))
    };
    let outage = ["Service NoEligiblePeer", "Ingress NoEligiblePeer"];
    look(&report(&[]), 0);
    assert!(look(&unready(), 1).is_empty());
    assert!(look(&unready(), 10).is_empty());
    assert_eq!(look(&unready(), 11), outage);
    assert!(look(&unready(), 99).is_empty());
    assert!(look(&report(&[false]), 100).is_empty());
    assert_eq!(look(&unready(), 101), outage, "it served before");
    assert!(look(&report(&[]), 102).is_empty());
    assert!(look(&unready(), 103).is_empty(), "scaled up from zero");
    assert!(look(&report(&[false]), 104).is_empty());
}

#[test]
fn a_finding_is_told_when_it_appears_and_again_while_it_lasts() {
    let finding = Finding {
        object: ObjectRef {
            kind: "Ingress",
            namespace: "shop".into(),
            name: "web".into(),
        },
        reason: FindingReason::ServiceNotFound,
        severity: Severity::Warning,
        message: "there is no Service shop/cart".into(),
    };
    let mut memory = Memory::default();
    let world = published(vec![finding], 1);
    let start = Instant::now();
    let mut look = |world: &Published, now| told(&look_at(&mut memory, world, &report(&[]), now));
    assert_eq!(look(&world, start), ["Ingress ServiceNotFound"]);
    assert!(look(&world, start + REMIND / 2).is_empty());
    assert_eq!(look(&world, start + REMIND), ["Ingress ServiceNotFound"]);
    assert!(look(&published(Vec::new(), 1), start + REMIND).is_empty());
    assert_eq!(look(&world, start + REMIND), ["Ingress ServiceNotFound"]);
}

#[test]
fn a_changed_ingress_is_told_to_be_served() {
    let mut memory = Memory::default();
    let mut look = |generation| {
        let world = published(Vec::new(), generation);
        told(&look_at(&mut memory, &world, &report(&[]), Instant::now()))
    };
    assert!(look(1).is_empty());
    assert!(look(1).is_empty());
    assert_eq!(look(2), ["Ingress Synced"]);
}
