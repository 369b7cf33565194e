//! How long one peer takes to begin its answers: a moving average that jumps up to peaks at once and
//! comes down slowly, so that a peer that stalls is noticed with its first slow answer, and believed
//! again only after a while of quick ones (as in Finagle's and Linkerd's peak EWMA).
//!
//! Average and stamp share one word: an update is one compare-and-swap, a reading one load.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// After this time an old average counts for 1/e of what it was.
const DECAY_MS: f32 = 10_000.0;
/// An average that nothing was added to for so long says nothing any more.
const STALE_MS: u32 = 60_000;

/// The recent latency of a peer. Times are milliseconds of a clock of the caller's; they may wrap at 32 bits.
#[derive(Debug, Default)]
pub(crate) struct Latency(AtomicU64);

/// An average above 0 in microseconds, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Average {
    micros: f32,
    at: u32,
}

impl Average {
    /// 0 is no average: the bits of `micros` are never all clear.
    fn unpack(word: u64) -> Option<Self> {
        (word != 0).then(|| Self {
            micros: f32::from_bits((word >> 32) as u32),
            at: word as u32,
        })
    }

    fn pack(self) -> u64 {
        u64::from(self.micros.to_bits()) << 32 | u64::from(self.at)
    }

    /// How long ago it was made. A stamp from the future is another thread's, a moment ago.
    fn age(self, at: u32) -> u32 {
        let age = at.wrapping_sub(self.at);
        if age > u32::MAX / 2 { 0 } else { age }
    }

    /// What is left of its weight.
    fn weight(self, at: u32) -> f32 {
        match self.age(at) {
            0 => 1.0,
            age => (-(age as f32) / DECAY_MS).exp(),
        }
    }
}

impl Latency {
    /// An answer began after `took`.
    pub(crate) fn record(&self, took: Duration, at_ms: u64) {
        self.update(took, at_ms, |average, sample, weight| {
            average * weight + sample * (1.0 - weight)
        });
    }

    /// Something failed after `took`. A failure is never good news, however quick it was.
    pub(crate) fn record_failure(&self, took: Duration, at_ms: u64) {
        if Average::unpack(self.0.load(Relaxed)).is_some() {
            self.update(took, at_ms, |average, _, _| average);
        } else {
            // A quick failure must not be the first thing that is known of a peer.
            self.update(took.max(Duration::from_millis(100)), at_ms, |_, s, _| s);
        }
    }

    fn update(&self, took: Duration, at_ms: u64, quicker: impl Fn(f32, f32, f32) -> f32) {
        let at = at_ms as u32;
        let sample = (took.as_secs_f32() * 1e6).max(1.0);
        let next = |word| {
            let next = match Average::unpack(word) {
                Some(old) if old.age(at) < STALE_MS => {
                    let micros = if sample >= old.micros {
                        sample
                    } else {
                        quicker(old.micros, sample, old.weight(at)).max(1.0)
                    };
                    Average { micros, at }
                }
                _ => Average { micros: sample, at },
            };
            Some(next.pack())
        };
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
    }

    /// The average in microseconds, less for the time that has passed since its last answer: a peer that was
    /// slow is tried again. `None` if the peer has not answered of late.
    pub(crate) fn read(&self, at_ms: u64) -> Option<f32> {
        let at = at_ms as u32;
        Average::unpack(self.0.load(Relaxed))
            .filter(|average| average.age(at) < STALE_MS)
            .map(|average| average.micros * average.weight(at))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let latency = Latency::default();
        assert_eq!(latency.read(0), None);
        latency.record(10 * MS, 0);
        assert_eq!(latency.read(0), Some(10_000.0));
        latency.record(500 * MS, 5);
        assert_eq!(latency.read(5), Some(500_000.0));
        // One quick answer does not make it quick.
        latency.record(10 * MS, 6);
        assert!(latency.read(6).unwrap() > 499_000.0);
        // Ten seconds of them nearly do.
        for at in 7..=30_000 {
            latency.record(10 * MS, at);
        }
        let settled = latency.read(30_000).unwrap();
        assert!((10_000.0..40_000.0).contains(&settled), "{settled}");
    }

    #[test]
    fn silence_makes_a_slow_peer_worth_a_try() {
        let latency = Latency::default();
        latency.record(1000 * MS, 0);
        let later = latency.read(10_000).unwrap();
        assert!((360_000.0..375_000.0).contains(&later), "{later}");
        assert_eq!(latency.read(60_000), None, "nothing is known any more");
        latency.record(2 * MS, 60_000);
        assert!((latency.read(60_000).unwrap() - 2000.0).abs() < 1.0);
    }

    #[test]
    fn a_quick_failure_is_no_good_news() {
        let latency = Latency::default();
        latency.record_failure(MS, 0);
        assert_eq!(latency.read(0), Some(100_000.0));
        latency.record(200 * MS, 0);
        latency.record_failure(MS, 1);
        assert_eq!(latency.read(1), Some(200_000.0));
        latency.record_failure(2000 * MS, 2);
        assert_eq!(latency.read(2), Some(2_000_000.0));
    }

    proptest! {
        #[test]
        fn between_the_least_and_the_most_that_was_seen(
            samples in proptest::collection::vec((1_u64..10_000, 0_u64..5_000), 1..50),
            start: u32,
        ) {
            let latency = Latency::default();
            let (mut least, mut most, mut at) = (f32::MAX, 0.0_f32, u64::from(start));
            for (millis, pause) in samples {
                at += pause;
                let took = Duration::from_millis(millis);
                latency.record(took, at);
                let micros = took.as_secs_f32() * 1e6;
                (least, most) = (least.min(micros), most.max(micros));
                let read = latency.read(at).unwrap();
                prop_assert!(read >= micros * 0.999 && read <= most * 1.001, "{} {} {}", read, least, most);
            }
        }
    }
}
