//! Which peer gets a request.
//!
//! Who is eligible is worked out off the request's path, whenever a fact or a verdict changes
//! ([`eligible`]); what is left for a request is to choose among them ([`Picker::pick`]), without a lock and
//! without looking at every peer. Choosing first and refusing afterwards would answer 503 while
//! other peers are fine.

mod candidates;
mod eligible;
mod ring;
mod warming;
mod wish;

pub(crate) use candidates::Candidates;
pub(crate) use eligible::{Eligible, eligible};
pub(crate) use ring::{KeyHash, Ring};
pub(crate) use warming::{Since, Warming};
pub(crate) use wish::Wish;

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::{config::Balance, health::Vitals};

/// Draws before all peers are looked at, for the case that those drawn are not wanted.
const DRAWS: u32 = 4;
/// Requests in flight up to which a hashed key stays with its peer, however little the others have.
const UNBOUNDED: u32 = 8;

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
    /// It has as much as it may have.
    Full,
}

/// What a pick goes by.
pub(crate) struct Wanted<'a> {
    pub(crate) balance: &'a Balance,
    pub(crate) candidates: &'a Candidates,
    /// The hash of the request's key, where it has one.
    pub(crate) hash: Option<u64>,
    /// Peers that failed this request.
    pub(crate) tried: &'a [u32],
    pub(crate) now: Instant,
}

impl Picker {
    /// Begins anywhere: `seed` keeps upstreams and replicas from beginning with the same peer.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            ticket: AtomicU64::new(mix(seed)),
        }
    }

    /// The number of an eligible peer; `None` if there is none that `admits` one more.
    ///
    /// Peers that this request has tried, and peers that no connection could be made to a moment ago, are
    /// picked when there is no other: whether a tried one is acceptable is for the caller to say.
    pub(crate) fn pick<'v>(
        &self,
        wanted: &Wanted<'_>,
        vitals: impl Fn(u32) -> &'v Vitals,
        admits: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let view = View {
            wanted,
            vitals,
            admits,
            warming: wanted
                .candidates
                .warming
                .as_ref()
                .filter(|warming| warming.lasts(wanted.now)),
        };
        let picked = match (wanted.balance, view.peers(), wanted.hash) {
            (_, [], _) => return None,
            (_, [only], _) => *only,
            (Balance::RoundRobin, peers, _) => self.in_turn(peers, &view)?,
            (Balance::ConsistentHash(_), peers, Some(hash)) => by_hash(peers, hash, &view)?,
            (Balance::LeastRequest | Balance::PeakEwma | Balance::ConsistentHash(_), peers, _) => {
                self.of_two(peers, &view)?
            }
        };
        (view.admits)(picked).then_some(picked)
    }

    fn in_turn<'v, V, A>(&self, peers: &[u32], view: &View<'_, V, A>) -> Option<u32>
    where
        V: Fn(u32) -> &'v Vitals,
        A: Fn(u32) -> bool,
    {
        let (mut turn, mut random) = (0, 0);
        for _ in 0..DRAWS {
            let ticket = self.next();
            (turn, random) = (below(peers.len(), ticket), mix(ticket));
            let peer = *peers.get(turn)?;
            if view.is_fine(peer) && view.takes(peer, random) {
                return Some(peer);
            }
        }
        least(peers, turn, |peer| {
            (view.reluctance(peer), !view.takes(peer, random))
        })
    }

    fn of_two<'v, V, A>(&self, peers: &[u32], view: &View<'_, V, A>) -> Option<u32>
    where
        V: Fn(u32) -> &'v Vitals,
        A: Fn(u32) -> bool,
    {
        for _ in 0..DRAWS {
            let random = mix(self.next());
            let (first, second) = two(peers, random)?;
            match (view.is_fine(first), view.is_fine(second)) {
                (true, true) => match (view.takes(first, random), view.takes(second, random)) {
                    (true, true) if view.is_better(second, first) => return Some(second),
                    (true, _) => return Some(first),
                    (false, true) => return Some(second),
                    (false, false) => {}
                },
                // Of two peers there is no better pair to hope for.
                (true, false) if peers.len() == 2 => return Some(first),
                (false, true) if peers.len() == 2 => return Some(second),
                _ => {}
            }
        }
        let random = mix(self.next());
        least(peers, scale(peers.len(), random >> 32), |peer| {
            let refuses = !view.takes(peer, random);
            (view.reluctance(peer), refuses, view.load(peer))
        })
    }

    fn next(&self) -> u64 {
        self.ticket.fetch_add(1, Ordering::Relaxed)
    }
}

/// The peer that the key belongs to, or the first after it on the ring that is not tried, avoided or full.
///
/// A peer is full when one request more would give it more than 1.25 times the mean of all (consistent
/// hashing with bounded loads, Mirrokni, Thorup and Zadimoghaddam). Up to [`UNBOUNDED`] requests it never is:
/// where little is in flight, keys would leave their peers for nothing.
fn by_hash<'v, V, A>(peers: &[u32], hash: u64, view: &View<'_, V, A>) -> Option<u32>
where
    V: Fn(u32) -> &'v Vitals,
    A: Fn(u32) -> bool,
{
    let mut bound = None;
    let ring = view.wanted.candidates.ring.as_ref()?;
    // Enough points to meet nearly every peer once, and any one of a few for certain.
    for peer in ring.from(hash).take(4 * peers.len() + 64) {
        let load = view.load(peer);
        let fits = load < UNBOUNDED || load < *bound.get_or_insert_with(|| bound_of(peers, view));
        if fits && view.is_fine(peer) {
            return Some(peer);
        }
    }
    least(peers, scale(peers.len(), hash >> 32), |peer| {
        (view.reluctance(peer), view.load(peer))
    })
}

/// The most requests that one of the peers may have in flight, with the one that comes.
fn bound_of<'v, V, A>(peers: &[u32], view: &View<'_, V, A>) -> u32
where
    V: Fn(u32) -> &'v Vitals,
    A: Fn(u32) -> bool,
{
    let all: u64 = peers.iter().map(|peer| u64::from(view.load(*peer))).sum();
    let bound = (5 * (all + 1)).div_ceil(4 * peers.len() as u64);
    u32::try_from(bound).unwrap_or(u32::MAX)
}

/// Two different peers, each pair in each order equally likely.
fn two(peers: &[u32], random: u64) -> Option<(u32, u32)> {
    let first = scale(peers.len(), random >> 32);
    let other = scale(peers.len() - 1, random & 0xffff_ffff);
    let second = if other < first { other } else { other + 1 };
    Some((*peers.get(first)?, *peers.get(second)?))
}

/// What a pick sees of peers.
struct View<'w, V, A> {
    wanted: &'w Wanted<'w>,
    vitals: V,
    admits: A,
    warming: Option<&'w Warming>,
}

impl<'w, 'v, V, A> View<'w, V, A>
where
    V: Fn(u32) -> &'v Vitals,
    A: Fn(u32) -> bool,
{
    fn peers(&self) -> &'w [u32] {
        &self.wanted.candidates.peers
    }

    fn reluctance(&self, peer: u32) -> Reluctance {
        let avoided = || (self.vitals)(peer).is_avoided(self.wanted.now);
        match (self.wanted.tried.contains(&peer), avoided()) {
            _ if !(self.admits)(peer) => Reluctance::Full,
            (false, false) => Reluctance::None,
            (false, true) => Reluctance::Avoided,
            (true, false) => Reluctance::Tried,
            (true, true) => Reluctance::Both,
        }
    }

    fn is_fine(&self, peer: u32) -> bool {
        self.reluctance(peer) == Reluctance::None
    }

    /// Whether a peer takes the request although it may be new.
    fn takes(&self, peer: u32, random: u64) -> bool {
        self.warming.is_none_or(|warming| {
            warming.takes(peer, mix(random ^ u64::from(peer)), self.wanted.now)
        })
    }

    fn load(&self, peer: u32) -> u32 {
        (self.vitals)(peer).in_flight()
    }

    /// Whether one of two peers is to be preferred to the other.
    fn is_better(&self, peer: u32, other: u32) -> bool {
        let (load, other_load) = (self.load(peer), self.load(other));
        if *self.wanted.balance != Balance::PeakEwma {
            return load < other_load;
        }
        let latency = |peer| (self.vitals)(peer).latency(self.wanted.now);
        // A peer that nothing is known of is taken for no better and no worse than the other.
        let (mine, others) = match (latency(peer), latency(other)) {
            (Some(mine), Some(others)) => (mine, others),
            _ => (1.0, 1.0),
        };
        mine * (load as f32 + 1.0) < others * (other_load as f32 + 1.0)
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
