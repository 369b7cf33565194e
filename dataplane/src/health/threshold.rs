//! How many results in a row change a verdict. Pure: no clock, no peer, only counting.
//!
//! A peer that was never judged passes with its first pass, because waiting would only delay a
//! rollout, and fails after as many failures as a passing one, because a pod that still starts
//! refuses its first checks.

use super::Verdict;

/// Counts the results of one peer's checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Threshold {
    verdict: Verdict,
    last: bool,
    in_a_row: u32,
    unhealthy: u32,
    healthy: u32,
}

/// A change of verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    /// What the peer was taken for.
    pub(crate) from: Verdict,
    /// What it is taken for from now on; never `Unknown`.
    pub(crate) to: Verdict,
}

impl Threshold {
    /// A peer that was not judged yet. `unhealthy` failures in a row make it fail, `healthy` passes
    /// in a row make it pass again; 0 counts as 1.
    pub(crate) fn new(unhealthy: u32, healthy: u32) -> Self {
        Self {
            verdict: Verdict::Unknown,
            last: false,
            in_a_row: 0,
            unhealthy: unhealthy.max(1),
            healthy: healthy.max(1),
        }
    }

    /// Takes one result; `Some` if it changed the verdict.
    pub(crate) fn record(&mut self, pass: bool) -> Option<Transition> {
        if self.in_a_row > 0 && self.last == pass {
            self.in_a_row = self.in_a_row.saturating_add(1);
        } else {
            self.in_a_row = 1;
        }
        self.last = pass;
        let wanted = match (self.verdict, pass) {
            (Verdict::Pass, true) | (Verdict::Fail, false) => return None,
            (Verdict::Unknown, true) => 1,
            (Verdict::Fail, true) => self.healthy,
            (Verdict::Unknown | Verdict::Pass, false) => self.unhealthy,
        };
        if self.in_a_row < wanted {
            return None;
        }
        let from = self.verdict;
        self.verdict = if pass { Verdict::Pass } else { Verdict::Fail };
        Some(Transition {
            from,
            to: self.verdict,
        })
    }

    /// Forgets a failing verdict, so that the next pass decides at once: something outside the checks
    /// (Kubernetes calls the pod ready, the check was changed) says that the past tells little.
    pub(crate) fn relearn(&mut self) {
        if self.verdict == Verdict::Fail {
            self.verdict = Verdict::Unknown;
        }
    }

    /// What the results so far make.
    #[cfg(test)]
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How many results in a row were like the last; 0 before the first.
    pub(crate) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(unhealthy: u32, healthy: u32, results: &str) -> String {
        let mut threshold = Threshold::new(unhealthy, healthy);
        results
            .chars()
            .map(|result| {
                let change = threshold.record(result == '+');
                match (threshold.verdict(), change.is_some()) {
                    (Verdict::Unknown, false) => '?',
                    (Verdict::Pass, false) => 'p',
                    (Verdict::Pass, true) => 'P',
                    (Verdict::Fail, false) => 'f',
                    (Verdict::Fail, true) => 'F',
                    (Verdict::Unknown, true) => panic!("nothing changes to unknown"),
                }
            })
            .collect()
    }

    #[test]
    fn verdicts_follow_the_thresholds() {
        for (unhealthy, healthy, results, verdicts) in [
            (3, 2, "+", "P"),
            (3, 2, "---", "??F"),
            (3, 2, "--+", "??P"),
            (3, 2, "+--+---", "PpppppF"),
            (3, 2, "---+-++", "??FfffP"),
            (1, 1, "-+-+", "FPFP"),
            (1, 5, "-+++++", "FffffP"),
            (0, 0, "-+", "FP"),
        ] {
            assert_eq!(
                run(unhealthy, healthy, results),
                verdicts,
                "{unhealthy}/{healthy} {results}"
            );
        }
    }

    #[test]
    fn a_relearning_peer_passes_at_once_and_fails_as_slowly_as_ever() {
        let mut threshold = Threshold::new(2, 3);
        assert_eq!(threshold.record(false), None);
        assert!(threshold.record(false).is_some());
        threshold.relearn();
        assert_eq!(
            threshold.record(true),
            Some(Transition {
                from: Verdict::Unknown,
                to: Verdict::Pass
            })
        );
        threshold.relearn();
        assert_eq!(threshold.verdict(), Verdict::Pass);
        assert_eq!(threshold.record(false), None);
        assert!(threshold.record(false).is_some());
    }

    proptest! {
        /// Against the definition read literally over the whole history.
        #[test]
        fn agrees_with_counting_the_history(
            unhealthy in 1_u32..5,
            healthy in 1_u32..5,
            results in proptest::collection::vec(any::<bool>(), 0..60),
        ) {
            let mut threshold = Threshold::new(unhealthy, healthy);
            let mut verdict = Verdict::Unknown;
            for end in 1..=results.len() {
                let pass = results[end - 1];
                let row = results[..end].iter().rev().take_while(|r| **r == pass).count();
                let next = match (verdict, pass) {
                    (Verdict::Unknown, true) => Verdict::Pass,
                    (Verdict::Fail, true) if row >= healthy as usize => Verdict::Pass,
                    (Verdict::Unknown | Verdict::Pass, false) if row >= unhealthy as usize => Verdict::Fail,
                    (same, _) => same,
                };
                let change = threshold.record(pass);
                prop_assert_eq!(change.is_some(), next != verdict);
                verdict = next;
                prop_assert_eq!(threshold.verdict(), verdict);
                prop_assert_eq!(threshold.in_a_row() as usize, row);
            }
        }
    }
}
