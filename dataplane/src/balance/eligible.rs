//! Who may be picked: the best class that is not empty, and below the panic threshold failing peers, too.

use crate::{
    config::{HealthPolicy, Readiness},
    health::{Standing, Verdict, standing},
};

/// The peers that may be picked, until a fact or a verdict changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eligible {
    /// The class that they are of; `Exclude` if there is none. In panic, the class that they would be
    /// of if nothing were failing.
    pub(crate) class: Standing,
    /// Their numbers, ascending.
    pub(crate) peers: Vec<u32>,
    /// Whether failing verdicts are ignored, because too few peers were left.
    pub(crate) panic: bool,
}

/// Works out who is eligible among the peers of an upstream, given in the order of their numbers as
/// readiness and the verdicts of check and outlier detector.
///
/// The panic threshold compares the peers that are not failing with all those that readiness admits to
/// the same class: peers that Kubernetes calls not ready make no panic, and none of them is picked in one.
/// In a panic the failing peers come on top of those that would be picked without it.
pub(crate) fn eligible(
    policy: &HealthPolicy,
    peers: impl Iterator<Item = (Readiness, Verdict, Verdict)>,
) -> Eligible {
    let peers: Vec<Classes> = peers
        .map(|(readiness, probe, outlier)| Classes {
            real: standing(policy, readiness, probe, outlier),
            admitted: standing(policy, readiness, Verdict::Pass, Verdict::Pass),
        })
        .collect();
    let best = |class: fn(&Classes) -> Standing| peers.iter().map(class).max();
    let real = best(|peer| peer.real).unwrap_or(Standing::Exclude);
    let admitted = best(|peer| peer.admitted).unwrap_or(Standing::Exclude);
    let candidates = || peers.iter().filter(|peer| peer.admitted == admitted);
    let all = candidates().count();
    let sound = candidates()
        .filter(|peer| peer.real != Standing::Exclude)
        .count();
    let panic = admitted != Standing::Exclude
        && sound < all
        && sound * 100 < all * usize::from(policy.panic_threshold.get());
    let chosen = |peer: &Classes| {
        (real != Standing::Exclude && peer.real == real) || (panic && peer.admitted == admitted)
    };
    Eligible {
        class: if panic { admitted } else { real },
        peers: (0_u32..)
            .zip(&peers)
            .filter_map(|(number, peer)| chosen(peer).then_some(number))
            .collect(),
        panic,
    }
}

/// The class that a peer is of, and the one that it would be of if no verdict were failing.
struct Classes {
    real: Standing,
    admitted: Standing,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{Initial, Percent, Terminating},
        health::testing,
    };

    fn policy(panic_threshold: u8) -> HealthPolicy {
        HealthPolicy {
            panic_threshold: Percent::new(panic_threshold).unwrap(),
            passive: Some(testing::passive()),
            ..testing::policy(Some(Initial::Checking), false, Terminating::LastResort)
        }
    }

    /// Peers as two letters: readiness (r, d, u, g), then the check's verdict (?, +, -), or `x` for one that
    /// passes and is ejected.
    fn peers(text: &str) -> Vec<(Readiness, Verdict, Verdict)> {
        text.split_whitespace()
            .map(|peer| {
                let readiness = match peer.as_bytes()[0] {
                    b'r' => Readiness::Ready,
                    b'd' => Readiness::Draining,
                    b'u' => Readiness::Unready,
                    _ => Readiness::Gone,
                };
                match peer.as_bytes()[1] {
                    b'+' => (readiness, Verdict::Pass, Verdict::Unknown),
                    b'-' => (readiness, Verdict::Fail, Verdict::Unknown),
                    b'x' => (readiness, Verdict::Pass, Verdict::Fail),
                    _ => (readiness, Verdict::Unknown, Verdict::Unknown),
                }
            })
            .collect()
    }

    #[test]
    fn the_best_class_that_is_not_empty() {
        for (threshold, text, class, numbers, panic) in [
            (0, "", Standing::Exclude, vec![], false),
            (0, "r+ r- r? d+ u+", Standing::Serve, vec![0], false),
            (0, "r? r- r? d+", Standing::Unproven, vec![0, 2], false),
            (0, "r- d+ d- d? g?", Standing::Draining, vec![1, 3], false),
            (0, "r- u+ g+", Standing::Exclude, vec![], false),
            // Panic: never readiness, never at 0, and only while something is failing.
            (50, "r+ r- r- u+", Standing::Serve, vec![0, 1, 2], true),
            (50, "r+ r- u+ u+", Standing::Serve, vec![0], false),
            (50, "r+ u? u? u? u?", Standing::Serve, vec![0], false),
            (50, "r- r- d+ d-", Standing::Serve, vec![0, 1, 2], true),
            (50, "d- d- u+", Standing::Draining, vec![0, 1], true),
            (100, "r+ r? r+", Standing::Serve, vec![0, 2], false),
            (100, "r+ r? r-", Standing::Serve, vec![0, 1, 2], true),
            (1, "r- g-", Standing::Serve, vec![0], true),
            (0, "r- r-", Standing::Exclude, vec![], false),
            // The ejected are out, and count in a panic as those that fail their check.
            (0, "r+ rx dx", Standing::Serve, vec![0], false),
            (0, "rx d+", Standing::Draining, vec![1], false),
            (50, "r+ rx r-", Standing::Serve, vec![0, 1, 2], true),
            (50, "r+ rx r+", Standing::Serve, vec![0, 2], false),
        ] {
            assert_eq!(
                eligible(&policy(threshold), peers(text).into_iter()),
                Eligible {
                    class,
                    peers: numbers,
                    panic
                },
                "{threshold} {text}"
            );
        }
    }

    fn any_peer() -> impl Strategy<Value = (Readiness, Verdict, Verdict)> {
        let verdict = || {
            prop_oneof![
                Just(Verdict::Unknown),
                Just(Verdict::Pass),
                Just(Verdict::Fail)
            ]
        };
        let readiness = prop_oneof![
            Just(Readiness::Ready),
            Just(Readiness::Draining),
            Just(Readiness::Unready),
            Just(Readiness::Gone)
        ];
        (readiness, verdict(), verdict())
    }

    proptest! {
        #[test]
        fn whoever_is_eligible_may_be_picked(
            threshold in 0_u8..=100,
            initial in prop_oneof![Just(None), Just(Some(Initial::Checking)), Just(Some(Initial::Healthy))],
            ignore_readiness: bool,
            never: bool,
            ejects: bool,
            peers in proptest::collection::vec(any_peer(), 0..30),
        ) {
            let terminating = if never { Terminating::Never } else { Terminating::LastResort };
            let mut policy = testing::policy(initial, ignore_readiness, terminating);
            policy.panic_threshold = Percent::new(threshold).unwrap();
            policy.passive = ejects.then(testing::passive);
            let result = eligible(&policy, peers.iter().copied());
            let class = |i: &u32| {
                let (readiness, probe, outlier) = peers[*i as usize];
                standing(&policy, readiness, probe, outlier)
            };
            let best = (0..peers.len() as u32).map(|i| class(&i)).max().unwrap_or(Standing::Exclude);
            prop_assert!(result.peers.is_sorted());
            prop_assert_eq!(result.peers.is_empty(), result.class == Standing::Exclude);
            for i in &result.peers {
                let (readiness, ..) = peers[*i as usize];
                prop_assert_ne!(readiness, Readiness::Gone);
                prop_assert!(ignore_readiness || readiness != Readiness::Unready);
            }
            if result.panic {
                prop_assert!(threshold > 0);
                prop_assert!(result.peers.iter().any(|i| class(i) == Standing::Exclude));
            } else {
                let wanted: Vec<u32> = (0..peers.len() as u32)
                    .filter(|i| best != Standing::Exclude && class(i) == best)
                    .collect();
                prop_assert_eq!(result.class, best);
                prop_assert_eq!(result.peers, wanted);
            }
        }
    }
}
