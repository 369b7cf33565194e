#![allow(clippy::unwrap_used, clippy::expect_used)]

use hale_crds::{CONTROLLER_NAME, TargetKind, TargetRef};
use hale_dataplane::{
    config::ByReason,
    health::{Standing, Verdict},
};

use super::*;
use crate::translate::{AcceptedReason, Judgement, ProgrammedReason};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn id(service: &str) -> UpstreamId {
    UpstreamId {
        namespace: "shop".into(),
        service: service.into(),
        port: "http".into(),
    }
}

fn peer(last: u8, reason: Option<Reason>, message: &str, since: i64) -> PeerReport {
    let failing = reason == Some(Reason::ActiveCheckFailed);
    PeerReport {
        address: ([10, 244, 0, last], 8080).into(),
        pod: Some(format!("checkout-{last}")),
        node: Some("node-1".into()),
        readiness: match reason {
            Some(Reason::NotReady) => Readiness::Unready,
            Some(Reason::Terminating) => Readiness::Draining,
            _ => Readiness::Ready,
        },
        probe: if failing {
            Verdict::Fail
        } else {
            Verdict::Pass
        },
        standing: if reason.is_none() {
            Standing::Serve
        } else {
            Standing::Exclude
        },
        serving: reason.is_none(),
        reason,
        message: message.into(),
        since: at(since),
        last_check: None,
        ejection: None,
        last_error: None,
        requests: 0,
        in_flight: 0,
    }
}

fn report(peers: Vec<PeerReport>) -> Report {
    let upstream = UpstreamReport {
        id: id("checkout"),
        checked: true,
        serving: peers.iter().filter(|peer| peer.serving).count(),
        panic: false,
        reason: None,
        message: String::new(),
        by_reason: ByReason::new(),
        peers,
    };
    Report {
        generation: 1,
        fingerprint: String::new(),
        published: None,
        upstreams: vec![upstream],
        unavailable: Vec::new(),
    }
}

fn outcome() -> PolicyOutcome {
    PolicyOutcome {
        namespace: "shop".into(),
        name: "checkout".into(),
        generation: Some(4),
        targets: vec![TargetOutcome {
            target: TargetRef {
                group: String::new(),
                kind: TargetKind::Service,
                name: "checkout".into(),
                section_name: None,
            },
            accepted: Judgement {
                reason: AcceptedReason::Accepted,
                message: "in force".into(),
            },
            programmed: Judgement {
                reason: ProgrammedReason::Programmed,
                message: "served".into(),
            },
            upstreams: vec![id("checkout")],
            methods: Vec::new(),
        }],
    }
}

fn status(report: &Report, there: Option<&UpstreamPolicyStatus>, now: i64) -> UpstreamPolicyStatus {
    let mut disagreements = Disagreements::default();
    disagreements.observe(report, at(now));
    policy_status(
        &outcome(),
        &Upstreams::new(report),
        &disagreements,
        there,
        CONTROLLER_NAME,
        at(now),
    )
}

fn condition(status: &UpstreamPolicyStatus, type_: &str) -> [String; 4] {
    let all = &status.ancestors[0].conditions;
    let found = all
        .iter()
        .find(|condition| condition.type_ == type_)
        .expect("a condition");
    let since = found.last_transition_time.0.as_second() - 1_800_000_000;
    [
        found.status.clone(),
        found.reason.clone(),
        found.message.clone(),
        since.to_string(),
    ]
}

const FAILED: &str = "GET /healthz: HTTP 503, want 200-399, 7 in a row";

#[test]
fn everything_is_told_without_another_command() {
    let report = report(vec![
        peer(1, None, "", 0),
        peer(2, None, "", 0),
        peer(3, Some(Reason::NotReady), "the pod is not ready", -500),
        peer(4, Some(Reason::ActiveCheckFailed), FAILED, -10),
        peer(5, Some(Reason::ActiveCheckFailed), FAILED, -20),
    ]);
    let status = status(&report, None, 0);
    assert_eq!(status.observed_generation, Some(4));
    assert_eq!(status.summary.as_deref(), Some("2/5 peers serving"));
    assert_eq!(status.healthy.as_deref(), Some("2/5"));
    let [value, reason, message, _] = condition(&status, "Healthy");
    assert_eq!(
        (value.as_str(), reason.as_str()),
        ("False", "SomePeersUnhealthy")
    );
    let wanted = "2/5 serving: 1 NotReady (the pod is not ready), 2 ActiveCheckFailed (GET /healthz: HTTP 503, want 200-399)";
    assert_eq!(message, wanted);
    let told: Vec<_> = status
        .unhealthy_peers
        .iter()
        .map(|peer| peer.pod.clone().unwrap())
        .collect();
    assert_eq!(
        told,
        ["checkout-5", "checkout-4", "checkout-3"],
        "failing first, the longest first"
    );
    assert_eq!(
        status.unhealthy_peers[0].message,
        "GET /healthz: HTTP 503, want 200-399"
    );
    assert_eq!(status.targets[0].by_reason["ActiveCheckFailed"], 2);
}

#[test]
fn a_probe_that_repeats_its_result_changes_nothing() {
    let first = report(vec![
        peer(1, None, "", 0),
        peer(2, Some(Reason::ActiveCheckFailed), FAILED, 0),
    ]);
    let later = FAILED.replace('7', "8");
    let second = report(vec![
        peer(1, None, "", 0),
        peer(2, Some(Reason::ActiveCheckFailed), &later, 0),
    ]);
    let written = status(&first, None, 10);
    // What comes back from the API server has been JSON.
    let read: UpstreamPolicyStatus =
        serde_json::from_value(serde_json::to_value(&written).unwrap()).unwrap();
    assert_eq!(status(&second, Some(&read), 15), read);
}

#[test]
fn a_condition_keeps_the_time_of_its_transition() {
    let good = report(vec![peer(1, None, "", 0)]);
    let bad = report(vec![peer(1, Some(Reason::ActiveCheckFailed), FAILED, 20)]);
    let first = status(&good, None, 10);
    assert_eq!(condition(&first, "Healthy")[3], "10");
    let second = status(&bad, Some(&first), 20);
    assert_eq!(condition(&second, "Healthy")[1], "NoPeerServing");
    assert_eq!(condition(&second, "Healthy")[3], "20");
    assert_eq!(condition(&second, "Accepted")[3], "10");
}

#[test]
fn a_pod_that_is_being_replaced_is_not_sick() {
    let rolling = report(vec![
        peer(1, None, "", 0),
        peer(2, Some(Reason::Terminating), "", 0),
    ]);
    let status = status(&rolling, None, 10);
    assert_eq!(status.healthy.as_deref(), Some("1/1"));
    assert_eq!(condition(&status, "Healthy")[1], "AllPeersServing");
    assert_eq!(status.unhealthy_peers, []);
}

#[test]
fn readiness_and_check_may_differ_for_a_while() {
    let report = report(vec![
        peer(1, None, "", 0),
        peer(2, Some(Reason::ActiveCheckFailed), FAILED, 0),
    ]);
    assert_eq!(
        condition(&status(&report, None, 29), "ReadinessAgrees")[1],
        "Agrees"
    );
    let [value, reason, message, _] = condition(&status(&report, None, 30), "ReadinessAgrees");
    assert_eq!(
        (value.as_str(), reason.as_str()),
        ("False", "ReadyButFailingChecks")
    );
    assert!(
        message.starts_with("checkout-2 is Ready for Kubernetes but fails"),
        "{message}"
    );
    let other = self::report(vec![peer(1, Some(Reason::NotReady), "", 0)]);
    assert_eq!(
        condition(&status(&other, None, 31), "ReadinessAgrees")[1],
        "NotReadyButPassing"
    );
}

#[test]
fn a_peer_that_begins_to_pass_has_not_passed_for_long() {
    let unready = report(vec![peer(1, Some(Reason::NotReady), "", 0)]);
    let mut unknown = unready.clone();
    unknown.upstreams[0].peers[0].probe = Verdict::Unknown;
    let mut disagreements = Disagreements::default();
    disagreements.observe(&unknown, at(1000));
    let mut reason = |now| {
        disagreements.observe(&unready, at(now));
        let status = policy_status(
            &outcome(),
            &Upstreams::new(&unready),
            &disagreements,
            None,
            CONTROLLER_NAME,
            at(now),
        );
        condition(&status, "ReadinessAgrees")[1].clone()
    };
    assert_eq!(
        reason(1001),
        "Agrees",
        "it has not been ready for long, and passes since now"
    );
    assert_eq!(reason(1030), "Agrees");
    assert_eq!(reason(1031), "NotReadyButPassing");
}

#[test]
fn another_leader_does_not_make_a_peer_younger() {
    let old = report(vec![peer(1, Some(Reason::ActiveCheckFailed), FAILED, 0)]);
    let new = report(vec![peer(1, Some(Reason::ActiveCheckFailed), FAILED, 40)]);
    let written = status(&old, None, 35);
    let next = status(&new, Some(&written), 45);
    assert_eq!(next.unhealthy_peers, written.unhealthy_peers);
    let other = report(vec![peer(1, Some(Reason::TlsError), "", 40)]);
    assert_eq!(
        status(&other, Some(&written), 45).unhealthy_peers[0]
            .since
            .0,
        at(40)
    );
}

#[test]
fn the_status_is_bounded() {
    let failing = |last| peer(last, Some(Reason::ActiveCheckFailed), &"x".repeat(5000), 0);
    let status = status(&report((1..=100).map(failing).collect()), None, 0);
    assert_eq!(status.unhealthy_peers.len(), MAX_UNHEALTHY_PEERS);
    assert_eq!(status.unhealthy_peers_omitted, 68);
    assert_eq!(status.unhealthy_peers[0].message.len(), 1024);
    assert!(serde_json::to_string(&status).unwrap().len() < 64 * 1024);
}

#[test]
fn without_an_upstream_there_is_no_health_to_tell() {
    let mut nowhere = outcome();
    nowhere.targets[0].upstreams.clear();
    let empty = report(Vec::new());
    let status = policy_status(
        &nowhere,
        &Upstreams::new(&empty),
        &Disagreements::default(),
        None,
        CONTROLLER_NAME,
        at(0),
    );
    let types: Vec<_> = status.ancestors[0]
        .conditions
        .iter()
        .map(|condition| condition.type_.as_str())
        .collect();
    assert_eq!(types, ["Accepted", "Programmed"]);
    assert_eq!(status.healthy, None);
}

#[test]
fn a_service_without_endpoints_says_why() {
    let mut report = report(Vec::new());
    report.upstreams[0].reason = Some(Reason::SelectorMatchesNothing);
    report.upstreams[0].message = "no pod has the labels app=checkout".into();
    let [_, reason, message, _] = condition(&status(&report, None, 0), "Healthy");
    assert_eq!(reason, "NoPeerServing");
    let wanted = "0/0 serving; shop/checkout:http: SelectorMatchesNothing (no pod has the labels app=checkout)";
    assert_eq!(message, wanted);
}

#[test]
fn counts_at_the_end_of_messages_are_cut_off() {
    assert_eq!(
        without_count(FAILED),
        "GET /healthz: HTTP 503, want 200-399"
    );
    assert_eq!(without_count("connection refused"), "connection refused");
    assert_eq!(without_count("twice in a row"), "twice in a row");
}

#[test]
fn panic_is_told_and_who_fails_in_it() {
    let failing = |last| {
        let mut peer = peer(last, Some(Reason::ActiveCheckFailed), FAILED, 0);
        peer.serving = true;
        peer
    };
    let mut report = report(vec![failing(1), failing(2), peer(3, None, "", 0)]);
    report.upstreams[0].panic = true;
    let status = status(&report, None, 0);
    let [value, reason, message, _] = condition(&status, "Healthy");
    assert_eq!((value.as_str(), reason.as_str()), ("False", "Panic"));
    let wanted = "3/3 serving (too few peers pass their check, so failing ones are served, too): 2 ActiveCheckFailed (GET /healthz: HTTP 503, want 200-399)";
    assert_eq!(message, wanted);
    assert_eq!(status.unhealthy_peers.len(), 2);
}

#[test]
fn a_peer_that_goes_on_refusing_connections_is_unhealthy_though_it_is_asked() {
    let mut refusing = peer(1, Some(Reason::ConnectRefused), "connect: refused", 0);
    refusing.serving = true;
    let report = report(vec![refusing]);
    assert_eq!(
        condition(&status(&report, None, 1), "Healthy")[0],
        "True",
        "it may be on its way out"
    );
    let [value, reason, message, _] = condition(&status(&report, None, 9), "Healthy");
    let told = (value.as_str(), reason.as_str());
    assert_eq!(told, ("False", "SomePeersUnhealthy"));
    assert_eq!(message, "1/1 serving: 1 ConnectRefused (connect: refused)");
}

/// Its peers are withheld: nobody knows how they are.
#[test]
fn tls_that_cannot_be_had_is_neither_health_nor_agreement() {
    let mut report = report(Vec::new());
    report.upstreams[0].reason = Some(Reason::TlsError);
    report.upstreams[0].message = "ConfigMap shop/ca does not exist".into();
    let status = status(&report, None, 0);
    assert_eq!(status.healthy, None);
    let summary = "requests are refused: ConfigMap shop/ca does not exist";
    assert_eq!(status.summary.as_deref(), Some(summary));
    let [value, reason, message, _] = condition(&status, "Healthy");
    assert_eq!(
        (value.as_str(), reason.as_str()),
        ("False", "NoPeerServing")
    );
    assert!(message.contains("TlsError"), "{message}");
    let [value, reason, ..] = condition(&status, "ReadinessAgrees");
    assert_eq!((value.as_str(), reason.as_str()), ("Unknown", "NoPeers"));
}

#[test]
fn the_methods_that_protect_a_target_are_told() {
    let empty = report(Vec::new());
    let message = |methods: &[&'static str]| {
        let mut outcome = outcome();
        outcome.targets[0].methods = methods.to_vec();
        let (upstreams, disagreements) = (Upstreams::new(&empty), Disagreements::default());
        let status = policy_status(
            &outcome,
            &upstreams,
            &disagreements,
            None,
            CONTROLLER_NAME,
            at(0),
        );
        condition(&status, "Programmed")[2].clone()
    };
    assert_eq!(message(&[]), "served");
    assert_eq!(
        message(&["basic", "accessKey"]),
        "served; protected by basic, accessKey"
    );
}
