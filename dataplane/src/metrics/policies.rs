//! What is counted of one policy: whom its `auth` let in and whom not, and what its limits turned away.

use std::sync::atomic::{AtomicU64, Ordering};

use super::shard;
use crate::auth::{Kind, Outcome};

/// Every kind of method, and none.
const METHODS: usize = Kind::ALL.len() + 1;

/// The counters of one policy. Adding is one atomic addition that hardly anybody else wants.
#[derive(Debug)]
pub(crate) struct PolicyMetrics {
    shards: Box<[Shard]>,
}

/// The counters of one thread, as those of upstreams.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    auth: [[AtomicU64; Outcome::ALL.len()]; METHODS],
    limited: AtomicU64,
    denied: AtomicU64,
}

/// All shards of one policy, added up.
#[derive(Debug, Default)]
pub(super) struct PolicySums {
    auth: [[u64; Outcome::ALL.len()]; METHODS],
    pub(super) limited: u64,
    pub(super) denied: u64,
}

impl PolicyMetrics {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
        }
    }

    /// `auth` decided; `by` is the method that did.
    pub(crate) fn decided(&self, by: Option<Kind>, outcome: Outcome) {
        let method = by.map_or(0, |kind| 1 + kind as usize);
        if let Some(counter) =
            (self.shard().auth.get(method)).and_then(|outcomes| outcomes.get(outcome as usize))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `rateLimit` refused a request.
    pub(crate) fn limited(&self) {
        self.shard().limited.fetch_add(1, Ordering::Relaxed);
    }

    /// `access` refused a request.
    pub(crate) fn denied(&self) {
        self.shard().denied.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sums(&self) -> PolicySums {
        let mut sums = PolicySums::default();
        for shard in &self.shards {
            let counters = shard.auth.as_flattened().iter();
            for (sum, counter) in sums.auth.as_flattened_mut().iter_mut().zip(counters) {
                *sum += counter.load(Ordering::Relaxed);
            }
            sums.limited += shard.limited.load(Ordering::Relaxed);
            sums.denied += shard.denied.load(Ordering::Relaxed);
        }
        sums
    }

    fn shard(&self) -> &Shard {
        &self.shards[shard::current() % self.shards.len()]
    }
}

impl PolicySums {
    /// Decisions by the labels of method and outcome.
    pub(super) fn decisions(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let methods = std::iter::once("none").chain(Kind::ALL.map(Kind::as_str));
        methods.zip(&self.auth).flat_map(|(method, outcomes)| {
            let outcomes = Outcome::ALL.into_iter().zip(outcomes);
            outcomes.map(move |(outcome, count)| (method, outcome.as_str(), *count))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_and_outcome_has_its_own_place() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
        }
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
    }
}
