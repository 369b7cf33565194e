//! A sliding window of requests and errors that many threads count in, without a lock.
//!
//! A ring of buckets, each one word: when it began, and its two counts. Whoever comes first in a new
//! slice of time takes the oldest bucket over, so nothing ever has to tick. What is counted is at most a
//! window old, and at least nine tenths of one are remembered.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

const BUCKETS: usize = 10;
/// Bits of each count; the rest is the bucket's slice of time.
const COUNT_BITS: u32 = 18;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const SLICE_BITS: u32 = 64 - 2 * COUNT_BITS;
const SLICE_MASK: u64 = (1 << SLICE_BITS) - 1;

/// A bucket that is ahead by more than this is one from before the numbers ran over.
const LATER: u64 = 1000;

/// Requests and errors of the last while.
#[derive(Debug, Default)]
pub(super) struct Window {
    buckets: [AtomicU64; BUCKETS],
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) errors: u64,
}

impl Counts {
    /// A request that was answered.
    pub(super) const ANSWERED: Self = Self {
        requests: 1,
        errors: 0,
    };
    /// A request that failed.
    pub(super) const FAILED: Self = Self {
        requests: 1,
        errors: 1,
    };
    /// That a request which counts as answered failed later.
    pub(super) const FAILED_LATER: Self = Self {
        requests: 0,
        errors: 1,
    };
}

/// A bucket, unpacked.
#[derive(Clone, Copy)]
struct Bucket {
    slice: u64,
    counts: Counts,
}

impl Bucket {
    fn unpack(word: u64) -> Self {
        Self {
            slice: word >> (2 * COUNT_BITS),
            counts: Counts {
                requests: (word >> COUNT_BITS) & COUNT_MAX,
                errors: word & COUNT_MAX,
            },
        }
    }

    fn pack(self) -> u64 {
        (self.slice << (2 * COUNT_BITS)) | (self.counts.requests << COUNT_BITS) | self.counts.errors
    }

    /// One more of either, or of both. A full bucket is halved, which keeps the share.
    fn add(mut self, one: Counts) -> Self {
        if self.counts.requests == COUNT_MAX || self.counts.errors == COUNT_MAX {
            self.counts.requests /= 2;
            self.counts.errors /= 2;
        }
        self.counts.requests += one.requests;
        self.counts.errors += one.errors;
        self
    }
}

impl Window {
    /// A request ended so, `now` after any fixed moment.
    pub(super) fn record(&self, one: Counts, length: Duration, now: Duration) {
        let slice = slice(length, now);
        let Some(bucket) = self.buckets.get(index(slice)) else {
            return;
        };
        // Only a thread that was held up for a window or longer finds a bucket of later; its request is
        // too old to be counted.
        let _ = bucket.fetch_update(Relaxed, Relaxed, |word| {
            let found = Bucket::unpack(word);
            let fresh = Bucket {
                slice,
                counts: Counts::default(),
            };
            let later = age(found.slice, slice);
            match later {
                0 => Some(found.add(one).pack()),
                1..=LATER if found.counts.requests > 0 => None,
                _ => Some(fresh.add(one).pack()),
            }
        });
    }

    /// What was recorded within `length` before `now`.
    pub(super) fn counts(&self, length: Duration, now: Duration) -> Counts {
        let slice = slice(length, now);
        let mut sum = Counts::default();
        for bucket in &self.buckets {
            let found = Bucket::unpack(bucket.load(Relaxed));
            if age(slice, found.slice) < BUCKETS as u64 {
                sum.requests += found.counts.requests;
                sum.errors += found.counts.errors;
            }
        }
        sum
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }
}

/// The number of the slice of time that `now` is in.
fn slice(length: Duration, now: Duration) -> u64 {
    // Divisions of 64 bits: those of 128 take longer than all else here.
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let slice = (micros(length) / BUCKETS as u64).max(1);
    (micros(now) / slice) & SLICE_MASK
}

fn index(slice: u64) -> usize {
    usize::try_from(slice % BUCKETS as u64).unwrap_or(0)
}

/// How many slices `then` is before `now`, around the end of the numbers.
fn age(now: u64, then: u64) -> u64 {
    now.wrapping_sub(then) & SLICE_MASK
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn one(error: bool) -> Counts {
        if error {
            Counts::FAILED
        } else {
            Counts::ANSWERED
        }
    }

    /// Remembers everything.
    struct Naive(Vec<(u64, bool)>);

    impl Naive {
        fn counts(&self, length: Duration, now: Duration) -> Counts {
            let slice = length.as_micros() as u64 / 10;
            let first = (now.as_micros() as u64 / slice).saturating_sub(9);
            let kept = self.0.iter().filter(|(at, _)| at / slice >= first);
            Counts {
                requests: kept.clone().count() as u64,
                errors: kept.filter(|(_, error)| *error).count() as u64,
            }
        }
    }

    proptest! {
        #[test]
        fn it_counts_as_one_that_remembers_everything(
            length in 100_u64..100_000,
            steps in proptest::collection::vec((0_u64..50_000, any::<bool>()), 1..200),
        ) {
            let length = Duration::from_millis(length / 100 * 100);
            let length = length.max(Duration::from_millis(100));
            let (window, mut naive) = (Window::default(), Naive(Vec::new()));
            let mut now = Duration::ZERO;
            for (wait, error) in steps {
                now += Duration::from_millis(wait);
                window.record(one(error), length, now);
                naive.0.push((now.as_micros() as u64, error));
                prop_assert_eq!(window.counts(length, now), naive.counts(length, now));
            }
            prop_assert_eq!(window.counts(length, now + length), Counts::default());
        }
    }

    #[test]
    fn a_full_bucket_keeps_its_share() {
        let window = Window::default();
        for request in 0..COUNT_MAX * 2 {
            window.record(one(request % 4 == 0), SECOND, SECOND);
        }
        let counts = window.counts(SECOND, SECOND);
        let share = counts.errors * 1000 / counts.requests;
        assert!((249..=251).contains(&share), "{counts:?}");
        window.clear();
        assert_eq!(window.counts(SECOND, SECOND), Counts::default());
    }

    #[test]
    fn threads_that_count_together_lose_nothing() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let window = &window;
                scope.spawn(move || {
                    for request in 0..1000_u64 {
                        let now = SECOND + Duration::from_micros(request * 500);
                        window.record(one(thread == 0), SECOND, now);
                    }
                });
            }
        });
        let counts = window.counts(SECOND, SECOND + Duration::from_micros(499_500));
        assert_eq!(
            counts,
            Counts {
                requests: 4000,
                errors: 1000
            }
        );
    }

    #[test]
    fn the_numbers_of_slices_may_run_over() {
        let window = Window::default();
        let end = SECOND / 10 * (SLICE_MASK as u32);
        window.record(Counts::FAILED, SECOND, end);
        window.record(Counts::ANSWERED, SECOND, end + SECOND / 10);
        let counts = window.counts(SECOND, end + SECOND / 10 * 2);
        assert_eq!(
            counts,
            Counts {
                requests: 2,
                errors: 1
            }
        );
    }
}
