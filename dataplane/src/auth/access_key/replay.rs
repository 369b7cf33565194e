//! Signatures that were taken, so that each is taken once.
//!
//! Two generations: what was seen is known for at least the horizon, and forgotten within two. A full one
//! takes no more signatures instead of forgetting early: a flood must not make an old signature new again.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use crate::config::SignatureProfile;

/// Signatures of one generation: with both, at most about 70 MB.
const MOST: usize = 1 << 20;
/// Each behind a lock of its own, so that threads hardly meet.
const SHARDS: usize = 64;

/// Signatures, by the first half of their MAC.
type Generation = HashSet<[u8; 16]>;

/// What was seen.
pub(super) struct Seen {
    /// Seconds.
    horizon: AtomicI64,
    most: usize,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
struct Shard {
    began: i64,
    current: Generation,
    previous: Generation,
}

/// What was seen, by namespace and profile. It goes from table to table.
#[derive(Default)]
pub(crate) struct Memory(Mutex<BTreeMap<(String, SignatureProfile), Arc<Seen>>>);

impl Memory {
    /// Where signatures are remembered for so many seconds at least.
    pub(super) fn of(&self, namespace: &str, profile: SignatureProfile, horizon: i64) -> Arc<Seen> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry((namespace.to_owned(), profile));
        let seen = seen.or_insert_with(|| Arc::new(Seen::new(horizon)));
        seen.extend_horizon(horizon);
        Arc::clone(seen)
    }

    /// Forgets what no policy asks for and what is too old to matter. `now` is in seconds of Unix time.
    pub(crate) fn sweep(&self, now: i64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, seen| Arc::strong_count(seen) > 1 || !seen.is_over(now));
    }
}

/// What is known of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    First,
    Again,
    /// There is no room to remember it.
    Full,
}

impl Seen {
    pub(super) fn new(horizon: i64) -> Self {
        Self::with_room(horizon, MOST)
    }

    fn with_room(horizon: i64, most: usize) -> Self {
        Self {
            horizon: AtomicI64::new(horizon),
            most: most / SHARDS,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Remembers for so many seconds from now on, or for longer where somebody asked for that.
    fn extend_horizon(&self, horizon: i64) {
        self.horizon.fetch_max(horizon, Relaxed);
    }

    /// Whether all that was seen is older than it is remembered.
    fn is_over(&self, now: i64) -> bool {
        let horizon = self.horizon.load(Relaxed).saturating_mul(2);
        self.shards.iter().all(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            now.saturating_sub(shard.began) >= horizon
        })
    }

    /// Looks a signature up, and remembers it where it is `taken`.
    pub(super) fn see(&self, mac: &[u8; 32], now: i64, taken: bool) -> Sight {
        let mut key = [0; 16];
        key.copy_from_slice(&mac[..16]);
        let Some(shard) = self.shards.get(usize::from(mac[16]) % SHARDS) else {
            return Sight::Full;
        };
        let horizon = self.horizon.load(Relaxed);
        // A set of numbers is whole, whoever held it when a thread died.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.turn(now, horizon);
        if shard.current.contains(&key) || shard.previous.contains(&key) {
            return Sight::Again;
        }
        if shard.current.len() >= self.most {
            return Sight::Full;
        }
        if taken {
            shard.current.insert(key);
        }
        Sight::First
    }
}

impl Shard {
    fn turn(&mut self, now: i64, horizon: i64) {
        let age = now.saturating_sub(self.began);
        if age < horizon {
            return;
        }
        let current = std::mem::take(&mut self.current);
        // Nothing in it is younger than the time since this generation ended.
        self.previous = if age < horizon.saturating_mul(2) {
            current
        } else {
            Generation::new()
        };
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn mac(number: u64) -> [u8; 32] {
        let mut mac = [0; 32];
        mac[..8].copy_from_slice(&number.to_le_bytes());
        mac[16] = mac[0];
        mac
    }

    #[test]
    fn a_signature_is_known_for_its_horizon_at_least() {
        let seen = Seen::new(600);
        assert_eq!(seen.see(&mac(1), 1_000, true), Sight::First);
        assert_eq!(seen.see(&mac(1), 1_000, true), Sight::Again);
        assert_eq!(seen.see(&mac(2), 1_599, true), Sight::First);
        for now in [1_600, 1_999, 2_198] {
            assert_eq!(seen.see(&mac(2), now, true), Sight::Again, "{now}");
        }
        assert_eq!(seen.see(&mac(2), 2_900, true), Sight::First, "forgotten");
        assert_eq!(seen.see(&mac(3), 9_000, false), Sight::First);
        assert_eq!(seen.see(&mac(3), 9_000, true), Sight::First, "only looked");
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_when_it_is_over() {
        let memory = Memory::default();
        let of = || memory.of("shop", SignatureProfile::Sdk, 600);
        assert_eq!(of().see(&mac(1), 10_000, true), Sight::First);
        memory.sweep(11_199);
        assert_eq!(of().see(&mac(1), 10_001, true), Sight::Again);
        let held = of();
        memory.sweep(99_000);
        assert!(Arc::ptr_eq(&held, &of()), "a policy has it");
        drop(held);
        memory.sweep(99_000);
        assert!(memory.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_full_memory_takes_no_more_and_forgets_nothing() {
        let seen = Seen::with_room(600, 2 * SHARDS);
        let same_shard = |number: u64| mac(number * 256);
        assert_eq!(seen.see(&same_shard(1), 1_000, true), Sight::First);
        assert_eq!(seen.see(&same_shard(2), 1_000, true), Sight::First);
        assert_eq!(seen.see(&same_shard(3), 1_000, true), Sight::Full);
        assert_eq!(seen.see(&same_shard(1), 1_000, true), Sight::Again);
        assert_eq!(seen.see(&same_shard(3), 1_600, true), Sight::First);
        assert_eq!(seen.see(&same_shard(1), 1_600, true), Sight::Again);
    }
}
