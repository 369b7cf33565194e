//! Which peer gets a request.
//!
//! Who is eligible is worked out off the request's path, whenever a fact or a verdict changes
//! ([`eligible`]); what is left for a request is to choose among them ([`Picker::pick`]), without a lock and
//! without looking at every peer. Choosing first and refusing afterwards would answer 503 while
//! other peers are fine.

mod eligible;

pub(crate) use eligible::{Eligible, eligible};

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::{config::Balance, health::Vitals};

/// Draws before all peers are looked at, for the case that those drawn are not wanted.
const DRAWS: u32 = 4;

/// Chooses among the eligible peers of one upstream. Shared by all workers, so that taking turns is fair
/// over all of them.
#[derive(Debug)]
pub(crate) struct Picker {
    /// Counts picks. Turns go by it, and randomness is made from it, so that one atomic addition is all that
    /// workers contend for.
    ticket: AtomicU64,
}

/// How little a peer is wanted. The least is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reluctance {
    None,
    /// No connection could be made a moment ago.
    Avoided,
    /// This request has failed there.
    Tried,
    Both,
}

impl Picker {
    /// Begins anywhere: `seed` keeps upstreams and replicas from beginning with the same peer.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            ticket: AtomicU64::new(mix(seed)),
        }
    }

    /// A peer of `eligible`, as the number that it has there; `None` if there is none.
    ///
    /// Peers in `tried`, and peers that no connection could be made to a moment ago, are picked when there
    /// is no other: whether a tried one is acceptable is for the caller to say.
    pub(crate) fn pick<'v>(
        &self,
        balance: &Balance,
        eligible: &[u32],
        vitals: impl Fn(u32) -> &'v Vitals,
        tried: &[u32],
        now: Instant,
    ) -> Option<u32> {
        let reluctance = |peer: u32| match (tried.contains(&peer), vitals(peer).is_avoided(now)) {
            (false, false) => Reluctance::None,
            (false, true) => Reluctance::Avoided,
            (true, false) => Reluctance::Tried,
            (true, true) => Reluctance::Both,
        };
        match (balance, eligible) {
            (_, []) => None,
            (_, [only]) => Some(*only),
            (Balance::RoundRobin, _) => {
                let mut turn = 0;
                for _ in 0..DRAWS {
                    turn = below(eligible.len(), self.next());
                    let peer = *eligible.get(turn)?;
                    if reluctance(peer) == Reluctance::None {
                        return Some(peer);
                    }
                }
                least(eligible, turn, reluctance)
            }
            (Balance::LeastRequest | Balance::PeakEwma | Balance::ConsistentHash(_), _) => {
                let load = |peer: u32| vitals(peer).in_flight();
                for _ in 0..DRAWS {
                    let (first, second) = self.two(eligible)?;
                    let fine = |peer| reluctance(peer) == Reluctance::None;
                    match (fine(first), fine(second)) {
                        (true, true) if load(second) < load(first) => return Some(second),
                        (true, true) => return Some(first),
                        // Of two peers there is no better pair to hope for.
                        (true, false) if eligible.len() == 2 => return Some(first),
                        (false, true) if eligible.len() == 2 => return Some(second),
                        _ => {}
                    }
                }
                let from = below(eligible.len(), mix(self.next()));
                least(eligible, from, |peer| (reluctance(peer), load(peer)))
            }
        }
    }

    fn next(&self) -> u64 {
        self.ticket.fetch_add(1, Ordering::Relaxed)
    }

    /// Two different peers, each pair in each order equally likely.
    fn two(&self, eligible: &[u32]) -> Option<(u32, u32)> {
        let random = mix(self.next());
        let first = scale(eligible.len(), random >> 32);
        let other = scale(eligible.len() - 1, random & 0xffff_ffff);
        let second = if other < first { other } else { other + 1 };
        Some((*eligible.get(first)?, *eligible.get(second)?))
    }
}

/// The peer that comes off best by `key`, the first from `from` on among equals.
fn least<K: Ord>(eligible: &[u32], from: usize, key: impl Fn(u32) -> K) -> Option<u32> {
    let (before, after) = eligible.split_at(from.min(eligible.len()));
    after
        .iter()
        .chain(before)
        .copied()
        .min_by_key(|peer| key(*peer))
}

/// `ticket` as a turn among `length`.
fn below(length: usize, ticket: u64) -> usize {
    usize::try_from(ticket % (length as u64).max(1)).unwrap_or(0)
}

/// `random`, 32 bits of it, as an index below `length`, without a division.
fn scale(length: usize, random: u64) -> usize {
    usize::try_from((random * length as u64) >> 32).unwrap_or(0)
}

/// The finalizer of SplitMix64: neighbouring numbers become independent ones.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
