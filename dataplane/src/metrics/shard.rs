//! Counters of one upstream, once per thread (up to a bound), so that cores do not fight for cache lines.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use super::Outcome;

/// Upper bounds of the buckets, in microseconds; one more bucket holds what is longer.
pub(super) const BOUNDS: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Labels of `code_class`.
pub(super) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// More threads than this share shards: an atomic addition that is contended now and then is cheaper than
/// the memory of a shard for each of many cores.
const MOST: usize = 8;

/// How many shards an upstream gets on this machine.
pub(super) fn how_many() -> usize {
    std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(MOST)
}

/// The number of this thread, given out in the order in which threads first count something.
pub(super) fn current() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed));
    }
    MINE.get()
}

/// The counters of one thread. Aligned to two cache lines: the prefetcher fetches in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shard {
    requests: [AtomicU64; CLASSES.len()],
    attempts: [AtomicU64; Outcome::ALL.len()],
    retries: AtomicU64,
    retries_refused: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
}

impl Shard {
    pub(super) fn request(&self, status: Option<u16>, duration: Duration) {
        let class = match status {
            Some(status @ 100..600) => usize::from(status / 100 - 1),
            _ => CLASSES.len() - 1,
        };
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        add(&self.requests[class], 1);
        add(&self.micros, micros);
        add(
            &self.buckets[BOUNDS.partition_point(|bound| *bound < micros)],
            1,
        );
    }

    pub(super) fn attempt(&self, outcome: Outcome) {
        add(&self.attempts[outcome.index()], 1);
    }

    pub(super) fn retry(&self) {
        add(&self.retries, 1);
    }

    pub(super) fn retry_refused(&self) {
        add(&self.retries_refused, 1);
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// All shards of one upstream, added up.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) requests: [u64; CLASSES.len()],
    pub(super) attempts: [u64; Outcome::ALL.len()],
    pub(super) retries: u64,
    pub(super) retries_refused: u64,
    pub(super) micros: u64,
    pub(super) buckets: [u64; BOUNDS.len() + 1],
}

impl Sums {
    pub(super) fn of(shards: &[Shard]) -> Self {
        let mut sums = Self::default();
        for shard in shards {
            sum(&mut sums.requests, &shard.requests);
            sum(&mut sums.attempts, &shard.attempts);
            sum(&mut sums.buckets, &shard.buckets);
            sums.retries += shard.retries.load(Ordering::Relaxed);
            sums.retries_refused += shard.retries_refused.load(Ordering::Relaxed);
            sums.micros = sums
                .micros
                .wrapping_add(shard.micros.load(Ordering::Relaxed));
        }
        sums
    }
}

fn sum(totals: &mut [u64], counters: &[AtomicU64]) {
    for (total, counter) in totals.iter_mut().zip(counters) {
        *total += counter.load(Ordering::Relaxed);
    }
}
