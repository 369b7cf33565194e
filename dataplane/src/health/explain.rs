//! Why a peer is not served, in words.
//!
//! The cases follow [`standing`](super::standing) one by one. Kubernetes' word goes first: a pod that is
//! not ready fails its check for the same cause, and the pod's own events tell more about it.

use jiff::Timestamp;

use super::{Verdict, Vitals, outlier::Ejection};
use crate::{
    config::{ActiveCheck, CheckKind, HealthPolicy, Initial, Readiness},
    reason::Reason,
    report::EjectionReport,
};

/// The state of a peer for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// Why its standing is not `Serve`; or, where it is, why other peers are preferred. `None` for a
    /// peer with which nothing is wrong.
    pub(crate) reason: Option<Reason>,
    /// The same in a sentence, empty without a reason.
    pub(crate) message: String,
    /// Since when the reason, or its absence, has been what it is.
    pub(crate) since: Timestamp,
}

/// Why a peer's standing is not `Serve`, or why others are preferred to it, and since when.
pub(crate) fn explain(policy: &HealthPolicy, readiness: Readiness, vitals: &Vitals) -> Explanation {
    let told = vitals.readiness_since();
    let found = by_readiness(policy, readiness, vitals)
        .or_else(|| by_check(policy, vitals))
        .or_else(|| by_requests(policy, vitals));
    match found {
        Some((reason, message, since)) => Explanation {
            reason: Some(reason),
            message,
            since: since.max(told),
        },
        None => Explanation {
            reason: None,
            message: String::new(),
            since: match policy.active {
                Some(_) => told.max(vitals.probe_since()),
                None => told,
            },
        },
    }
}

type Found = Option<(Reason, String, Timestamp)>;

fn by_readiness(policy: &HealthPolicy, readiness: Readiness, vitals: &Vitals) -> Found {
    let (reason, message) = match readiness {
        Readiness::Gone => (
            Reason::Terminating,
            "the pod terminates and no longer serves".into(),
        ),
        Readiness::Draining => (
            Reason::Terminating,
            with_check("the pod terminates and still serves", policy, vitals),
        ),
        Readiness::Unready if !policy.ignore_readiness => (
            Reason::NotReady,
            match vitals.trouble() {
                Some(trouble) => format!("Kubernetes calls the pod not ready: {trouble}"),
                None => with_check("Kubernetes calls the pod not ready", policy, vitals),
            },
        ),
        Readiness::Unready | Readiness::Ready => return None,
    };
    Some((reason, message, vitals.readiness_since()))
}

fn by_check(policy: &HealthPolicy, vitals: &Vitals) -> Found {
    let active = policy.active.as_ref()?;
    let since = vitals.probe_since();
    match vitals.probe() {
        Verdict::Fail => Some((Reason::ActiveCheckFailed, failing(active, vitals), since)),
        // An ejected peer is out for that, checked or not.
        Verdict::Unknown if active.initial == Initial::Checking && !is_ejected(policy, vitals) => {
            Some((Reason::NotYetChecked, unproven(active, vitals), since))
        }
        Verdict::Unknown | Verdict::Pass => None,
    }
}

fn by_requests(policy: &HealthPolicy, vitals: &Vitals) -> Found {
    if is_ejected(policy, vitals) {
        let message = match vitals.ejection() {
            Some(ejection) => ejected(&ejection, vitals.on_trial()),
            // It was readmitted between the two looks.
            None => String::new(),
        };
        return Some((Reason::Ejected, message, vitals.outlier_since()));
    }
    let (in_a_row, failure) = vitals.connect_failure()?;
    let message = format!("{}, {in_a_row} in a row", failure.message);
    Some((failure.reason, message, failure.first))
}

fn is_ejected(policy: &HealthPolicy, vitals: &Vitals) -> bool {
    policy.passive.is_some() && vitals.outlier() == Verdict::Fail
}

/// That a peer is ejected, for reports.
pub(crate) fn ejection(policy: &HealthPolicy, vitals: &Vitals) -> Option<EjectionReport> {
    let ejection = vitals.ejection().filter(|_| is_ejected(policy, vitals))?;
    Some(EjectionReport {
        rule: ejection.rule,
        times: ejection.times,
        until: ejection.until,
        on_trial: vitals.on_trial(),
    })
}

/// `5 errors in a row (connection reset), out for 20s, second time, until 2026-11-22T10:00:00Z`.
fn ejected(ejection: &Ejection, on_trial: bool) -> String {
    let Ejection { what, length, .. } = ejection;
    let times = match ejection.times {
        0 | 1 => String::new(),
        2 => ", second time".into(),
        3 => ", third time".into(),
        times => format!(", {times} times"),
    };
    let next = if on_trial {
        "its next request decides".into()
    } else {
        // Whole seconds are what people compare with a clock.
        let until = ejection.until.as_second();
        let until = Timestamp::from_second(until).unwrap_or(ejection.until);
        format!("until {until}")
    };
    format!("{what}, out for {length:?}{times}, {next}")
}

/// What a check does, as in `GET /healthz`.
pub(super) fn describe(check: &ActiveCheck) -> String {
    match &check.kind {
        CheckKind::Http(http) => format!("{} {}", http.method, http.path),
        CheckKind::Tcp(_) => "TCP".into(),
        CheckKind::Grpc(grpc) if grpc.service.is_empty() => "grpc.health.v1".into(),
        CheckKind::Grpc(grpc) => format!("grpc.health.v1 {}", grpc.service),
        CheckKind::OfPeer => "readinessProbe".into(),
    }
}

/// Kubernetes' word, and the check's where that is bad news, too.
fn with_check(message: &str, policy: &HealthPolicy, vitals: &Vitals) -> String {
    let failing = policy.active.is_some() && vitals.probe() == Verdict::Fail;
    match vitals.last_check() {
        Some(last) if failing && !last.pass => {
            format!("{message}; {}, {} in a row", last.message, last.in_a_row)
        }
        _ => message.into(),
    }
}

fn failing(active: &ActiveCheck, vitals: &Vitals) -> String {
    match vitals.last_check() {
        Some(last) if last.pass => format!(
            "{}, {} of {} passes in a row",
            last.message, last.in_a_row, active.healthy_threshold
        ),
        Some(last) => format!("{}, {} in a row", last.message, last.in_a_row),
        None => format!("{} failed", describe(active)),
    }
}

fn unproven(active: &ActiveCheck, vitals: &Vitals) -> String {
    match vitals.last_check() {
        Some(last) if !last.pass => format!(
            "{}, {} of {} failures in a row",
            last.message, last.in_a_row, active.unhealthy_threshold
        ),
        _ => format!("{}: no check has ended yet", describe(active)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{
        config::Terminating,
        health::{
            EjectionRule, Standing, standing,
            testing::{passive, policy},
        },
        report::CheckReport,
    };

    fn stamp(second: i64) -> Timestamp {
        Timestamp::from_second(4_000_000_000 + second).unwrap()
    }

    fn ended(vitals: &Vitals, pass: bool, message: &str, in_a_row: u32) {
        vitals.set_last_check(CheckReport {
            at: stamp(0),
            duration_ms: 1,
            pass,
            message: message.into(),
            in_a_row,
            silent: false,
        });
    }

    fn checking() -> HealthPolicy {
        policy(Some(Initial::Checking), false, Terminating::LastResort)
    }

    fn say(policy: &HealthPolicy, readiness: Readiness, vitals: &Vitals) -> String {
        let explanation = explain(policy, readiness, vitals);
        match explanation.reason {
            Some(reason) => format!("{reason}: {}", explanation.message),
            None => explanation.message,
        }
    }

    #[test]
    fn each_reason_has_its_words() {
        let now = Instant::now();
        let vitals = Vitals::new(Readiness::Ready, now);
        let policy = checking();
        let ready = |vitals: &Vitals| say(&policy, Readiness::Ready, vitals);
        assert_eq!(
            ready(&vitals),
            "NotYetChecked: GET /healthz: no check has ended yet"
        );

        ended(&vitals, false, "GET /healthz: HTTP 503, want 200-399", 2);
        assert_eq!(
            ready(&vitals),
            "NotYetChecked: GET /healthz: HTTP 503, want 200-399, 2 of 3 failures in a row"
        );

        ended(&vitals, false, "GET /healthz: HTTP 503, want 200-399", 7);
        vitals.set_probe(Verdict::Fail, stamp(9));
        assert_eq!(
            ready(&vitals),
            "ActiveCheckFailed: GET /healthz: HTTP 503, want 200-399, 7 in a row"
        );
        assert_eq!(explain(&policy, Readiness::Ready, &vitals).since, stamp(9));
        assert_eq!(
            say(&policy, Readiness::Unready, &vitals),
            "NotReady: Kubernetes calls the pod not ready; GET /healthz: HTTP 503, want 200-399, 7 in a row"
        );
        vitals.set_readiness(Readiness::Unready, Some("CrashLoopBackOff: back-off 10s"));
        assert_eq!(
            say(&policy, Readiness::Unready, &vitals),
            "NotReady: Kubernetes calls the pod not ready: CrashLoopBackOff: back-off 10s"
        );
        vitals.set_readiness(Readiness::Ready, None);
        assert_eq!(
            say(&policy, Readiness::Gone, &vitals),
            "Terminating: the pod terminates and no longer serves"
        );

        ended(&vitals, true, "GET /healthz: HTTP 200", 1);
        assert_eq!(
            ready(&vitals),
            "ActiveCheckFailed: GET /healthz: HTTP 200, 1 of 2 passes in a row"
        );

        vitals.set_probe(Verdict::Pass, stamp(12));
        assert_eq!(ready(&vitals), "");
        assert_eq!(explain(&policy, Readiness::Ready, &vitals).since, stamp(12));

        vitals.record_connect_failure(Reason::ConnectRefused, "connection refused", now);
        vitals.record_connect_failure(Reason::ConnectRefused, "connection refused", now);
        assert_eq!(
            ready(&vitals),
            "ConnectRefused: connection refused, 2 in a row"
        );
        vitals.record_success();
        assert_eq!(ready(&vitals), "");
        assert_eq!(
            say(&policy, Readiness::Draining, &vitals),
            "Terminating: the pod terminates and still serves"
        );
    }

    fn ejecting(policy: HealthPolicy) -> HealthPolicy {
        HealthPolicy {
            passive: Some(passive()),
            ..policy
        }
    }

    fn without(policy: HealthPolicy) -> HealthPolicy {
        HealthPolicy {
            passive: None,
            ..policy
        }
    }

    fn errors() -> Ejection {
        Ejection {
            rule: EjectionRule::ConsecutiveErrors,
            what: "5 errors in a row (connection reset)".into(),
            times: 1,
            length: Duration::from_secs(10),
            until: stamp(10),
        }
    }

    #[test]
    fn an_ejection_is_told_with_its_end() {
        let (vitals, policy) = (
            Vitals::new(Readiness::Ready, Instant::now()),
            ejecting(policy(None, false, Terminating::LastResort)),
        );
        let mut ejection = errors();
        vitals.eject(ejection.clone(), stamp(0));
        assert_eq!(
            say(&policy, Readiness::Ready, &vitals),
            "Ejected: 5 errors in a row (connection reset), out for 10s, until 2096-10-02T07:06:50Z"
        );
        assert_eq!(explain(&policy, Readiness::Ready, &vitals).since, stamp(0));
        ejection.times = 3;
        ejection.length = Duration::from_secs(30);
        vitals.eject(ejection, stamp(0));
        vitals.offer_trial(Instant::now());
        assert_eq!(
            say(&policy, Readiness::Ready, &vitals),
            "Ejected: 5 errors in a row (connection reset), out for 30s, third time, its next request decides"
        );
        let report = super::ejection(&policy, &vitals).unwrap();
        assert_eq!((report.times, report.on_trial), (3, true));
        vitals.readmit(stamp(1));
        assert_eq!(say(&policy, Readiness::Ready, &vitals), "");
        assert_eq!(super::ejection(&policy, &vitals), None);
    }

    #[test]
    fn a_check_that_was_taken_away_says_nothing() {
        let vitals = Vitals::new(Readiness::Ready, Instant::now());
        vitals.set_probe(Verdict::Fail, stamp(1));
        let policy = policy(None, false, Terminating::LastResort);
        assert_eq!(say(&policy, Readiness::Ready, &vitals), "");
        assert!(explain(&policy, Readiness::Ready, &vitals).since < stamp(0));
    }

    fn agree(policy: &HealthPolicy, readiness: Readiness, vitals: &Vitals) {
        let standing = standing(policy, readiness, vitals.probe(), vitals.outlier());
        let explanation = explain(policy, readiness, vitals);
        assert_eq!(
            explanation.reason.is_none(),
            standing == Standing::Serve,
            "{policy:?} {readiness:?} {vitals:?}"
        );
    }

    /// There is a reason exactly where the standing is not the best.
    #[test]
    fn reasons_agree_with_standings() {
        for initial in [None, Some(Initial::Checking), Some(Initial::Healthy)] {
            for ignore_readiness in [false, true] {
                for readiness in [
                    Readiness::Ready,
                    Readiness::Draining,
                    Readiness::Unready,
                    Readiness::Gone,
                ] {
                    for probe in [Verdict::Unknown, Verdict::Pass, Verdict::Fail] {
                        let policy = policy(initial, ignore_readiness, Terminating::LastResort);
                        let vitals = Vitals::new(readiness, Instant::now());
                        vitals.set_probe(probe, stamp(0));
                        agree(&policy, readiness, &vitals);
                        let policy = ejecting(policy);
                        agree(&policy, readiness, &vitals);
                        vitals.eject(errors(), stamp(0));
                        agree(&policy, readiness, &vitals);
                        agree(&without(policy), readiness, &vitals);
                    }
                }
            }
        }
    }
}
