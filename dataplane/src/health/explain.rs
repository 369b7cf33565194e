//! Why a peer is not served, in words.
//!
//! The cases follow [`standing`](super::standing) one by one. Kubernetes' word goes first: a pod that is
//! not ready fails its check for the same cause, and the pod's own events tell more about it.

use jiff::Timestamp;

use super::{Verdict, Vitals};
use crate::{
    config::{ActiveCheck, CheckKind, HealthPolicy, Initial, Readiness},
    reason::Reason,
};

/// The state of a peer for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Why its standing is not `Serve`; or, where it is, why other peers are preferred. `None` for a
    /// peer with which nothing is wrong.
    pub reason: Option<Reason>,
    /// The same in a sentence, empty without a reason.
    pub message: String,
    /// Since when the reason, or its absence, has been what it is.
    pub since: Timestamp,
}

/// Why a peer's standing is not `Serve`, with a message for people; or the connect error for which
/// other peers are preferred to it.
pub fn reason(
    policy: &HealthPolicy,
    readiness: Readiness,
    vitals: &Vitals,
) -> Option<(Reason, String)> {
    let explanation = explain(policy, readiness, vitals);
    explanation
        .reason
        .map(|reason| (reason, explanation.message))
}

/// Since when the peer's reason, or its having none, has been what it is.
pub fn since(policy: &HealthPolicy, readiness: Readiness, vitals: &Vitals) -> Timestamp {
    explain(policy, readiness, vitals).since
}

/// Reason, message and stamp in one go.
pub fn explain(policy: &HealthPolicy, readiness: Readiness, vitals: &Vitals) -> Explanation {
    let active = policy.active.as_ref();
    let probe = match active {
        Some(_) => vitals.probe(),
        None => Verdict::Unknown,
    };
    let told = vitals.readiness_since();
    let because = |reason, message: String, since| Explanation {
        reason: Some(reason),
        message,
        since,
    };
    match readiness {
        Readiness::Gone => {
            let message = "the pod terminates and no longer serves";
            return because(Reason::Terminating, message.into(), told);
        }
        Readiness::Draining => {
            let message = "the pod terminates and still serves";
            return because(
                Reason::Terminating,
                with_check(message, probe, vitals),
                told,
            );
        }
        Readiness::Unready if !policy.ignore_readiness => {
            let message = "Kubernetes calls the pod not ready";
            return because(Reason::NotReady, with_check(message, probe, vitals), told);
        }
        Readiness::Unready | Readiness::Ready => {}
    }
    match (probe, active) {
        (Verdict::Fail, Some(active)) => {
            let message = failing(active, vitals);
            return because(
                Reason::ActiveCheckFailed,
                message,
                told.max(vitals.probe_since()),
            );
        }
        (Verdict::Unknown, Some(active))
            if active.initial == Initial::Checking && vitals.outlier() != Verdict::Fail =>
        {
            let message = unproven(active, vitals);
            return because(
                Reason::NotYetChecked,
                message,
                told.max(vitals.probe_since()),
            );
        }
        _ => {}
    }
    if vitals.outlier() == Verdict::Fail {
        let message = "taken out for the errors that it answered requests with";
        return because(
            Reason::Ejected,
            message.into(),
            told.max(vitals.outlier_since()),
        );
    }
    if let Some((in_a_row, failure)) = vitals.connect_failure() {
        let message = format!("{}, {in_a_row} in a row", failure.message);
        return because(failure.reason, message, told.max(failure.first));
    }
    Explanation {
        reason: None,
        message: String::new(),
        since: match active {
            Some(_) => told.max(vitals.probe_since()),
            None => told,
        },
    }
}

/// What a check does, as in `GET /healthz`.
pub(super) fn describe(check: &ActiveCheck) -> String {
    match &check.kind {
        CheckKind::Http(http) => format!("{} {}", http.method, http.path),
        CheckKind::Tcp(_) => "TCP".into(),
    }
}

/// Kubernetes' word, and the check's where that is bad news, too.
fn with_check(message: &str, probe: Verdict, vitals: &Vitals) -> String {
    match vitals.last_check() {
        Some(last) if probe == Verdict::Fail && !last.pass => {
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
    use tokio::time::Instant;

    use super::*;
    use crate::{
        config::Terminating,
        health::{Standing, standing, testing::policy},
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
        });
    }

    fn checking() -> HealthPolicy {
        policy(Some(Initial::Checking), false, Terminating::LastResort)
    }

    fn say(policy: &HealthPolicy, readiness: Readiness, vitals: &Vitals) -> String {
        match reason(policy, readiness, vitals) {
            Some((reason, message)) => format!("{reason}: {message}"),
            None => String::new(),
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
        assert_eq!(since(&policy, Readiness::Ready, &vitals), stamp(9));
        assert_eq!(
            say(&policy, Readiness::Unready, &vitals),
            "NotReady: Kubernetes calls the pod not ready; GET /healthz: HTTP 503, want 200-399, 7 in a row"
        );
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
        assert_eq!(since(&policy, Readiness::Ready, &vitals), stamp(12));

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

    #[test]
    fn a_check_that_was_taken_away_says_nothing() {
        let vitals = Vitals::new(Readiness::Ready, Instant::now());
        vitals.set_probe(Verdict::Fail, stamp(1));
        let policy = policy(None, false, Terminating::LastResort);
        assert_eq!(reason(&policy, Readiness::Ready, &vitals), None);
        assert!(since(&policy, Readiness::Ready, &vitals) < stamp(0));
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
                        let standing = standing(&policy, readiness, probe, vitals.outlier());
                        assert_eq!(
                            reason(&policy, readiness, &vitals).is_none(),
                            standing == Standing::Serve,
                            "{policy:?} {readiness:?} {probe:?}"
                        );
                    }
                }
            }
        }
    }
}
