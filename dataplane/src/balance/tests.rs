//! Properties of picking: always a peer where there is one, the wanted ones first, fair shares.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    config::{HashKey, Readiness},
    health::Standing,
    reason::Reason,
};

/// One upstream's peers, as a pick sees them.
struct Scene {
    picker: Picker,
    balance: Balance,
    candidates: Candidates,
    vitals: Vec<Vitals>,
}

impl Scene {
    fn new(balance: Balance, eligible: &[u32], vitals: Vec<Vitals>) -> Self {
        let ring = Ring::new((0..vitals.len() as u64).map(mix));
        let eligible = Eligible {
            class: Standing::Serve,
            peers: eligible.to_vec(),
            panic: false,
        };
        Self {
            picker: Picker::new(7),
            balance,
            candidates: Candidates::new(eligible, Some(&ring), None),
            vitals,
        }
    }

    /// Of so many peers, all of them eligible.
    fn of(balance: Balance, count: u32, now: Instant) -> Self {
        let all: Vec<u32> = (0..count).collect();
        Self::new(balance, &all, peers(count as usize, now))
    }

    fn wanting(&self, hash: Option<u64>, tried: &[u32], now: Instant) -> Option<u32> {
        self.admitting(hash, tried, now, |_| true)
    }

    fn admitting(
        &self,
        hash: Option<u64>,
        tried: &[u32],
        now: Instant,
        admits: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let wanted = Wanted {
            balance: &self.balance,
            candidates: &self.candidates,
            hash,
            tried,
            now,
        };
        let vitals = |peer: u32| &self.vitals[peer as usize];
        self.picker.pick(&wanted, vitals, admits)
    }

    fn pick(&self, now: Instant) -> u32 {
        self.wanting(None, &[], now).unwrap()
    }

    fn loads(&self) -> Vec<u32> {
        self.vitals.iter().map(Vitals::in_flight).collect()
    }
}

fn hashing() -> Balance {
    Balance::ConsistentHash(HashKey::SourceIp)
}

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
    let eligible = [0, 2, 5, 7];
    let scene = Scene::new(Balance::RoundRobin, &eligible, peers(8, now));
    let picks: Vec<u32> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1000).map(|_| scene.pick(now)).collect::<Vec<_>>()))
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
    let scene = Scene::of(Balance::RoundRobin, 3, now);
    refuse(&scene.vitals[1], now);
    let avoided = shares((0..1000).map(|_| scene.pick(now)));
    assert_eq!(avoided, BTreeMap::from([(0, 500), (2, 500)]));
    let later = now + Duration::from_secs(1);
    let after = shares((0..999).map(|_| scene.pick(later)));
    assert_eq!(after, BTreeMap::from([(0, 333), (1, 333), (2, 333)]));
}

#[test]
fn least_request_spreads_what_stays_and_leaves_the_loaded_alone() {
    let now = Instant::now();
    let scene = Scene::of(Balance::LeastRequest, 5, now);
    for _ in 0..1000 {
        scene.vitals[3].begin_request();
    }
    for _ in 0..1000 {
        scene.vitals[scene.pick(now) as usize].begin_request();
    }
    let loads = scene.loads();
    assert_eq!(loads[3], 1000, "always lost against the other of two");
    for other in [0, 1, 2, 4] {
        assert!((245..=255).contains(&loads[other]), "{loads:?}");
    }
}

#[test]
fn ties_are_broken_evenly() {
    let now = Instant::now();
    for balance in [Balance::LeastRequest, Balance::PeakEwma, hashing()] {
        for count in [2, 3, 10] {
            let scene = Scene::of(balance.clone(), count, now);
            let rounds = 3000 * count;
            for (peer, share) in shares((0..rounds).map(|_| scene.pick(now))) {
                assert!((2700..=3300).contains(&share), "{peer} of {count}: {share}");
            }
        }
    }
}

#[test]
fn a_slow_peer_gets_less_and_one_that_nothing_is_known_of_its_share() {
    let start = Instant::now();
    let scene = Scene::of(Balance::PeakEwma, 4, start);
    let slow = |peer| match peer {
        0 => Duration::from_millis(200),
        _ => Duration::from_millis(10),
    };
    // Answered one after another, so that loads say nothing; the fourth never answers with good news.
    let mut picks = BTreeMap::<u32, usize>::new();
    for i in 0..4000 {
        let now = start + Duration::from_millis(i);
        let peer = scene.pick(now);
        *picks.entry(peer).or_default() += 1;
        if peer != 3 {
            scene.vitals[peer as usize].record_latency(slow(peer), true, now);
        }
    }
    // Of a pair with the unknown one either is picked: a quarter of all.
    assert!(picks[&0] < 600, "{picks:?}");
    assert!((700..=1300).contains(&picks[&3]), "{picks:?}");
    assert!(picks[&1] > 900 && picks[&2] > 900, "{picks:?}");
    // What waits on the unknown one counts against it.
    let now = start + Duration::from_secs(4);
    for _ in 0..5 {
        scene.vitals[3].begin_request();
    }
    let picks = shares((0..1000).map(|_| scene.pick(now)));
    assert_eq!(picks.get(&3), None, "{picks:?}");
}

#[test]
fn latency_and_load_weigh_together() {
    let now = Instant::now();
    let scene = Scene::of(Balance::PeakEwma, 2, now);
    scene.vitals[0].record_latency(Duration::from_millis(100), true, now);
    scene.vitals[1].record_latency(Duration::from_millis(10), true, now);
    for _ in 0..110 {
        scene.vitals[scene.pick(now) as usize].begin_request();
    }
    let loads = scene.loads();
    assert!(
        (9..=11).contains(&loads[0]),
        "ten times as slow, a tenth of the load: {loads:?}"
    );
}

#[test]
fn a_new_peer_gets_a_share_that_grows() {
    let start = Instant::now();
    let window = Duration::from_secs(30);
    for balance in [
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::PeakEwma,
    ] {
        for (count, new) in [(2, 1), (10, 1), (10, 9)] {
            let mut scene = Scene::of(balance.clone(), count, start);
            // The last ones are new.
            let since = |peer: u32| match peer {
                peer if peer < count - new => Since::Always,
                _ => Since::At(start),
            };
            let all: Vec<u32> = (0..count).collect();
            scene.candidates.warming = Warming::new(window, &all, since, start);
            for (seconds, weight) in [(0, 0.1), (15, 0.55), (30, 1.0)] {
                let now = start + Duration::from_secs(seconds);
                let picks = (0..20_000).filter(|_| scene.pick(now) >= count - new);
                let share = picks.count() as f64 / 20_000.0;
                let (old, new) = (f64::from(count - new), f64::from(new));
                let wanted = new * weight / (old + new * weight);
                // Two choices count a peer in twice as many draws, and half of those are ties.
                assert!(
                    (0.5..1.35).contains(&(share / wanted)),
                    "{balance:?}, {new} of {count} new, {seconds} s: {share}, wanted {wanted}"
                );
            }
        }
    }
}

#[test]
fn a_key_stays_with_its_peer_while_little_is_in_flight_and_spreads_when_much_is() {
    let now = Instant::now();
    let scene = Scene::of(hashing(), 10, now);
    let home = scene.wanting(Some(42), &[], now).unwrap();
    for _ in 0..UNBOUNDED {
        assert_eq!(scene.wanting(Some(42), &[], now), Some(home));
        scene.vitals[home as usize].begin_request();
    }
    let next = scene.wanting(Some(42), &[], now).unwrap();
    assert_ne!(next, home, "full");
    // The next on the ring is also where it goes when its own is tried, or avoided.
    assert_eq!(scene.wanting(Some(42), &[home], now), Some(next));
    let calm = Scene::of(hashing(), 10, now);
    assert_eq!(calm.wanting(Some(42), &[home], now), Some(next));
    refuse(&calm.vitals[home as usize], now);
    assert_eq!(calm.wanting(Some(42), &[], now), Some(next));
    assert_eq!(calm.admitting(Some(7), &[], now, |_| false), None);
}

proptest! {
    /// However few the keys, no peer gets more than its bound.
    #[test]
    fn no_peer_is_above_the_bound(
        count in 1_u32..12,
        keys in proptest::collection::vec(any::<u64>(), 1..5),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..400),
    ) {
        let now = Instant::now();
        let scene = Scene::of(hashing(), count, now);
        let mut begun = Vec::new();
        for (key, ends) in picks {
            let key = keys[key.index(keys.len())];
            let peer = scene.wanting(Some(key), &[], now).unwrap();
            scene.vitals[peer as usize].begin_request();
            begun.push(peer);
            let all = begun.len() as f64;
            let bound = (1.25 * all / f64::from(count)).ceil().max(f64::from(UNBOUNDED));
            prop_assert!(f64::from(scene.vitals[peer as usize].in_flight()) <= bound);
            if ends {
                scene.vitals[begun.swap_remove(0) as usize].end_request();
            }
        }
    }

    /// A peer that is full is passed over, and if all are none is picked.
    #[test]
    fn a_full_peer_is_never_picked(
        balance in prop_oneof![Just(Balance::RoundRobin), Just(Balance::LeastRequest), Just(Balance::PeakEwma), Just(hashing())],
        room in proptest::collection::vec(any::<bool>(), 0..12),
        hash: Option<u64>,
    ) {
        let now = Instant::now();
        let scene = Scene::of(balance, room.len() as u32, now);
        for _ in 0..10 {
            let picked = scene.admitting(hash, &[], now, |peer| room[peer as usize]);
            prop_assert_eq!(picked.is_some(), room.contains(&true));
            prop_assert!(picked.is_none_or(|peer| room[peer as usize]));
        }
    }

    /// A peer is picked whenever there is one, and never one that is wanted less than another,
    /// as long as the draws can tell.
    #[test]
    fn the_least_reluctant_peer_is_picked(
        balance in prop_oneof![Just(Balance::RoundRobin), Just(Balance::LeastRequest), Just(Balance::PeakEwma), Just(hashing())],
        hash: Option<u64>,
        warms: bool,
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
        let mut scene = Scene::new(balance, &eligible, vitals);
        if warms {
            let since = |peer| if peer % 2 == 0 { Since::Always } else { Since::At(now) };
            scene.candidates.warming = Warming::new(Duration::from_secs(9), &eligible, since, now);
        }
        for _ in 0..repeat {
            let picked = scene.wanting(hash, &tried, now);
            prop_assert_eq!(picked.map(|peer| reluctance(&peer)), eligible.iter().map(reluctance).min());
            prop_assert!(picked.is_none_or(|peer| eligible.contains(&peer)));
        }
    }
}
