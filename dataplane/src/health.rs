//! Which peers may be picked: Kubernetes' readiness and our own verdicts, merged in one place.
//!
//! `standing` is the whole policy. What feeds it is learnt by the `Prober` and the outlier `Detector` on
//! a thread of their own and kept in `Vitals`; `explain` puts the same facts into words, and never disagrees with it.

mod check;
mod explain;
mod grpc_check;
mod http_check;
mod latency;
#[cfg(test)]
mod origin;
pub(crate) mod outlier;
mod prober;
mod pulse;
mod tcp_check;
mod threshold;
mod vitals;

pub(crate) use explain::{Explanation, ejection, explain};
pub use outlier::Rule as EjectionRule;
pub(crate) use outlier::{Detector, EjectionCounters, OutlierTarget};
pub(crate) use prober::{ProbeCounters, ProbeKey, ProbeTarget, Prober};
use threshold::Threshold;
pub(crate) use vitals::{InFlight, Vitals};

use serde::Serialize;

use crate::config::{HealthPolicy, Initial, Readiness, Terminating};

/// What one source (the active check, the outlier detector) says of a peer. Three values, never a
/// boolean: "not looked yet" is not "healthy". Each verdict has one writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Verdict {
    /// Not looked yet.
    #[default]
    Unknown,
    /// Fine.
    Pass,
    /// Not fine.
    Fail,
}

/// What the sources make together. `Ord`: better is greater; the pick takes the best class that is
/// not empty, and never `Exclude`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Standing {
    /// Not picked.
    Exclude,
    /// Terminating and still serving.
    Draining,
    /// Ready, and not checked yet.
    Unproven,
    /// Ready, and passing what is checked.
    Serve,
}

/// The whole policy of health, as a table.
///
/// Without an active check, or without outlier detection, its verdict is void: what was said before it
/// was taken away must not keep a peer out for ever.
pub(crate) fn standing(
    policy: &HealthPolicy,
    readiness: Readiness,
    probe: Verdict,
    outlier: Verdict,
) -> Standing {
    let unproven = match &policy.active {
        Some(active) if active.initial == Initial::Checking => Standing::Unproven,
        _ => Standing::Serve,
    };
    let probe = match &policy.active {
        Some(_) => probe,
        None => Verdict::Unknown,
    };
    let outlier = match &policy.passive {
        Some(_) => outlier,
        None => Verdict::Unknown,
    };
    match (readiness, probe, outlier) {
        (_, Verdict::Fail, _) | (_, _, Verdict::Fail) | (Readiness::Gone, _, _) => {
            Standing::Exclude
        }
        (Readiness::Unready, _, _) if !policy.ignore_readiness => Standing::Exclude,
        (Readiness::Draining, _, _) => match policy.terminating {
            Terminating::LastResort => Standing::Draining,
            Terminating::Never => Standing::Exclude,
        },
        (Readiness::Ready | Readiness::Unready, Verdict::Pass, _) => Standing::Serve,
        (Readiness::Ready | Readiness::Unready, Verdict::Unknown, _) => unproven,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::health::testing::{passive, policy};

    const VERDICTS: [Verdict; 3] = [Verdict::Unknown, Verdict::Pass, Verdict::Fail];

    /// One row per readiness and probe verdict, one letter per policy: what is left of each fact when
    /// the outlier detector has nothing against the peer.
    #[test]
    fn the_whole_table() {
        // Columns: no check | Checking | Healthy, then the same three with readiness ignored, then
        // the same six with terminating peers never picked.
        let table = [
            (
                Readiness::Ready,
                "SUS SUS SUS SUS",
                "SSS SSS SSS SSS",
                "SXX SXX SXX SXX",
            ),
            (
                Readiness::Unready,
                "XXX SUS XXX SUS",
                "XXX SSS XXX SSS",
                "XXX SXX XXX SXX",
            ),
            (
                Readiness::Draining,
                "DDD DDD XXX XXX",
                "DDD DDD XXX XXX",
                "DXX DXX XXX XXX",
            ),
            (
                Readiness::Gone,
                "XXX XXX XXX XXX",
                "XXX XXX XXX XXX",
                "XXX XXX XXX XXX",
            ),
        ];
        for (readiness, unknown, pass, fail) in table {
            for (probe, row) in VERDICTS.into_iter().zip([unknown, pass, fail]) {
                let mut wanted = row.chars().filter(|c| *c != ' ');
                for terminating in [Terminating::LastResort, Terminating::Never] {
                    for ignore_readiness in [false, true] {
                        for initial in [None, Some(Initial::Checking), Some(Initial::Healthy)] {
                            let policy = policy(initial, ignore_readiness, terminating);
                            let wanted = match wanted.next().unwrap() {
                                'S' => Standing::Serve,
                                'U' => Standing::Unproven,
                                'D' => Standing::Draining,
                                'X' => Standing::Exclude,
                                other => panic!("{other}"),
                            };
                            for outlier in VERDICTS {
                                assert_eq!(standing(&policy, readiness, probe, outlier), wanted);
                                let policy = HealthPolicy {
                                    passive: Some(passive()),
                                    ..policy.clone()
                                };
                                let wanted = match outlier {
                                    Verdict::Fail => Standing::Exclude,
                                    Verdict::Unknown | Verdict::Pass => wanted,
                                };
                                assert_eq!(
                                    standing(&policy, readiness, probe, outlier),
                                    wanted,
                                    "{readiness:?} {probe:?} {outlier:?} {policy:?}"
                                );
                            }
                        }
                    }
                }
                assert_eq!(wanted.next(), None);
            }
        }
    }

    #[test]
    fn better_standings_are_greater() {
        assert!(Standing::Serve > Standing::Unproven);
        assert!(Standing::Unproven > Standing::Draining);
        assert!(Standing::Draining > Standing::Exclude);
    }
}

/// Values that several test modules of health and balance want.
#[cfg(test)]
pub(crate) mod testing {
    use std::time::Duration;

    use crate::config::{
        ActiveCheck, CheckKind, HealthPolicy, HttpCheck, Initial, OutlierPolicy, Percent,
        StatusRange, Terminating,
    };

    /// 5 errors in a row; 10 s, at most a minute; half of the peers.
    pub(crate) fn passive() -> OutlierPolicy {
        OutlierPolicy {
            consecutive_errors: 5,
            consecutive_5xx: 0,
            error_percent: None,
            base_ejection: Duration::from_secs(10),
            max_ejection: Duration::from_secs(60),
            max_ejected: Percent::new(50).unwrap_or_default(),
        }
    }

    pub(crate) fn http_check(path: &str) -> HttpCheck {
        HttpCheck {
            method: "GET".into(),
            path: path.into(),
            host: None,
            headers: Vec::new(),
            expected_statuses: vec![StatusRange { from: 200, to: 399 }],
            expected_body: None,
        }
    }

    /// Every 5 s, 3 failures, 2 passes, no jitter.
    pub(crate) fn check(kind: CheckKind) -> ActiveCheck {
        ActiveCheck {
            kind,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            jitter: Percent::default(),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            initial: Initial::Checking,
        }
    }

    pub(crate) fn policy(
        initial: Option<Initial>,
        ignore_readiness: bool,
        terminating: Terminating,
    ) -> HealthPolicy {
        HealthPolicy {
            ignore_readiness,
            terminating,
            panic_threshold: Percent::default(),
            active: initial.map(|initial| ActiveCheck {
                initial,
                ..check(CheckKind::Http(http_check("/healthz")))
            }),
            passive: None,
        }
    }
}
