//! Properties of picking: always a peer where there is one, the wanted ones first, fair shares.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{config::Readiness, reason::Reason};

fn peers(count: usize, now: Instant) -> Vec<Vitals> {
    (0..count)
        .map(|_| Vitals::new(Readiness::Ready, now))
        .collect()
}

fn refuse(vitals: &Vitals, now: Instant) {
    vitals.record_connect_failure(Reason::ConnectRefused, "connection refused", now);
}

fn shares(picks: impl Iterator<Item = u32>) -> BTreeMap<u32, usize> {
    picks.fold(BTreeMap::new(), |mut shares, peer| {
        *shares.entry(peer).or_default() += 1;
        shares
    })
}

#[test]
fn round_robin_takes_turns_over_all_threads() {
    let now = Instant::now();
    let vitals = peers(8, now);
    let picker = Picker::new(7);
    let eligible = [0, 2, 5, 7];
    let pick = || {
        picker.pick(
            &Balance::RoundRobin,
            &eligible,
            |i| &vitals[i as usize],
            &[],
            now,
        )
    };
    let picks: Vec<u32> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1000).map(|_| pick().unwrap()).collect::<Vec<_>>()))
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    let wanted = eligible.map(|peer| (peer, 1000)).into();
    assert_eq!(shares(picks.into_iter()), wanted);
}

#[test]
fn round_robin_stays_fair_around_an_avoided_peer() {
    let now = Instant::now();
    let vitals = peers(3, now);
    refuse(&vitals[1], now);
    let picker = Picker::new(0);
    let pick = |now| {
        picker.pick(
            &Balance::RoundRobin,
            &[0, 1, 2],
            |i| &vitals[i as usize],
            &[],
            now,
        )
    };
    let avoided = shares((0..1000).map(|_| pick(now).unwrap()));
    assert_eq!(avoided, BTreeMap::from([(0, 500), (2, 500)]));
    let later = now + Duration::from_secs(1);
    let after = shares((0..999).map(|_| pick(later).unwrap()));
    assert_eq!(after, BTreeMap::from([(0, 333), (1, 333), (2, 333)]));
}

#[test]
fn least_request_spreads_what_stays_and_leaves_the_loaded_alone() {
    let now = Instant::now();
    let vitals = peers(5, now);
    for _ in 0..1000 {
        vitals[3].begin_request();
    }
    let picker = Picker::new(1);
    let eligible = [0, 1, 2, 3, 4];
    for _ in 0..1000 {
        let peer = picker
            .pick(
                &Balance::LeastRequest,
                &eligible,
                |i| &vitals[i as usize],
                &[],
                now,
            )
            .unwrap();
        vitals[peer as usize].begin_request();
    }
    assert_eq!(
        vitals[3].in_flight(),
        1000,
        "always lost against the other of two"
    );
    for other in [0, 1, 2, 4] {
        let load = vitals[other].in_flight();
        assert!((245..=255).contains(&load), "{other}: {load}");
    }
}

#[test]
fn ties_are_broken_evenly() {
    let now = Instant::now();
    for count in [2, 3, 10] {
        let vitals = peers(count, now);
        let eligible: Vec<u32> = (0..count as u32).collect();
        let picker = Picker::new(99);
        let rounds = 3000 * count;
        let shares = shares((0..rounds).map(|_| {
            picker
                .pick(
                    &Balance::LeastRequest,
                    &eligible,
                    |i| &vitals[i as usize],
                    &[],
                    now,
                )
                .unwrap()
        }));
        for (peer, share) in shares {
            assert!((2700..=3300).contains(&share), "{peer} of {count}: {share}");
        }
    }
}

proptest! {
    /// A peer is picked whenever there is one, and never one that is wanted less than another,
    /// as long as the draws can tell.
    #[test]
    fn the_least_reluctant_peer_is_picked(
        seed: u64,
        round_robin: bool,
        facts in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), 0_u32..4), 0..12),
        repeat in 1_usize..20,
    ) {
        let now = Instant::now();
        let vitals = peers(facts.len(), now);
        let (mut eligible, mut tried) = (Vec::new(), Vec::new());
        for (i, (is_eligible, is_tried, is_avoided, load)) in facts.iter().enumerate() {
            if *is_eligible {
                eligible.push(i as u32);
            }
            if *is_tried {
                tried.push(i as u32);
            }
            if *is_avoided {
                refuse(&vitals[i], now);
            }
            for _ in 0..*load {
                vitals[i].begin_request();
            }
        }
        let reluctance = |i: &u32| {
            let (_, tried, avoided, _) = facts[*i as usize];
            (tried, avoided)
        };
        let balance = if round_robin { Balance::RoundRobin } else { Balance::LeastRequest };
        let picker = Picker::new(seed);
        for _ in 0..repeat {
            let picked = picker.pick(&balance, &eligible, |i| &vitals[i as usize], &tried, now);
            prop_assert_eq!(picked.map(|peer| reluctance(&peer)), eligible.iter().map(reluctance).min());
            prop_assert!(picked.is_none_or(|peer| eligible.contains(&peer)));
        }
    }
}
