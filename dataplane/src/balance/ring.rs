//! Consistent hashing: each peer has many points on a ring of hashes, and a key belongs to the next point
//! after it. A peer that goes gives its keys to the points that follow its own, and no other key moves.
//!
//! A ring and not a Maglev table, which moves a few keys of others, too; and not rendezvous hashing, which
//! looks at every peer for each request. The points of all peers are sorted once for each table; a change of
//! the eligible only leaves points out.

use super::mix;

/// Points of one peer. Shares of peers differ by about one part in the square root of it.
const POINTS: u64 = 256;

/// Points of peers in the order of their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ring(Vec<(u64, u32)>);

impl Ring {
    /// All peers, numbered as they come, by what names them for ever.
    pub(crate) fn new(keys: impl Iterator<Item = u64>) -> Self {
        let mut points: Vec<(u64, u32)> = (0_u32..)
            .zip(keys)
            .flat_map(|(number, key)| (0..POINTS).map(move |i| (mix(key ^ mix(i)), number)))
            .collect();
        points.sort_unstable();
        Self(points)
    }

    /// The same with some peers only, given as ascending numbers.
    pub(crate) fn only(&self, peers: &[u32]) -> Self {
        let kept = |(_, number): &&(u64, u32)| peers.binary_search(number).is_ok();
        Self(self.0.iter().filter(kept).copied().collect())
    }

    /// The peer that a hash belongs to, then those that follow on the ring, each as often as it has points.
    pub(crate) fn from(&self, hash: u64) -> impl Iterator<Item = u32> {
        let at = self.0.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.0.split_at(at);
        after.iter().chain(before).map(|(_, number)| *number)
    }
}

/// A hash that is the same in every process and every replica: FNV-1a, and SplitMix64's finalizer, because
/// FNV's high bits hardly know of the last bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn write(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    pub(crate) fn finish(self) -> u64 {
        mix(self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn key(i: u32) -> u64 {
        KeyHash::new()
            .write(format!("user-{i}").as_bytes())
            .finish()
    }

    fn ring(peers: &BTreeSet<u64>) -> (Ring, Vec<u64>) {
        (
            Ring::new(peers.iter().copied()),
            peers.iter().copied().collect(),
        )
    }

    #[test]
    fn hashes_are_the_same_everywhere() {
        assert_eq!(
            KeyHash::new().write(b"alice").finish(),
            0x1a04_6f57_3e1e_5475
        );
    }

    #[test]
    fn shares_are_even() {
        for count in [2_u64, 3, 10, 50] {
            let ring = Ring::new((0..count).map(mix));
            let mut shares = vec![0_u32; count as usize];
            for i in 0..20_000 {
                shares[ring.from(key(i)).next().unwrap() as usize] += 1;
            }
            let mean = 20_000 / count as u32;
            for share in shares {
                assert!(
                    (mean * 7 / 10..=mean * 14 / 10).contains(&share),
                    "{share} of {mean}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_peer_that_goes_moves_its_own_keys_alone(
            peers in proptest::collection::btree_set(any::<u64>(), 2..30),
            gone: prop::sample::Index,
        ) {
            let (before, names) = ring(&peers);
            let mut rest = peers.clone();
            let gone = names[gone.index(names.len())];
            rest.remove(&gone);
            let (after, rest_names) = ring(&rest);
            for i in 0..500 {
                let owner = names[before.from(key(i)).next().unwrap() as usize];
                let heir = rest_names[after.from(key(i)).next().unwrap() as usize];
                if owner == gone {
                    prop_assert_ne!(heir, gone);
                } else {
                    prop_assert_eq!(owner, heir);
                }
            }
        }

        #[test]
        fn leaving_out_is_as_never_having_been(
            peers in proptest::collection::btree_set(any::<u64>(), 1..20),
            mask: u32,
        ) {
            let (all, names) = ring(&peers);
            let kept: Vec<u32> = (0..names.len() as u32).filter(|i| mask >> i & 1 == 1).collect();
            let few = all.only(&kept);
            let fresh = Ring::new(kept.iter().map(|i| names[*i as usize]));
            for i in 0..200 {
                prop_assert_eq!(
                    few.from(key(i)).next(),
                    fresh.from(key(i)).next().map(|number| kept[number as usize])
                );
            }
        }
    }
}
