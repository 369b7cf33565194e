//! Which peers may be picked: Kubernetes' readiness and our own verdicts, merged in one place.
//!
//! `standing` is the whole policy. What feeds it is learnt by the `Prober` on its own thread and
//! kept in `Vitals`; `explain` puts the same facts into words, and never disagrees with it.

mod check;
mod explain;
mod http_check;
#[cfg(test)]
mod origin;
mod prober;
mod tcp_check;
mod threshold;
mod vitals;

pub(crate) use explain::{Explanation, explain};
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
/// Without an active check its verdict is void: what a check said before it was taken away must not
/// keep a peer out for ever.
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
    use crate::health::testing::policy;

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
        ActiveCheck, CheckKind, HealthPolicy, HttpCheck, Initial, Percent, StatusRange, Terminating,
    };

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
