//! Slow start: a peer that is new among others gets a share that grows from a tenth to all.
//!
//! What counts is its age beside that of the oldest peer: where all are equally new there is nobody to spare
//! them, and all get full shares. It is worked out when the eligible change; a request that meets no new peer
//! only compares two instants.

use std::time::Duration;

use tokio::time::Instant;

/// The share of a peer that has just become eligible.
const FIRST: f32 = 0.1;

/// Since when a peer gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// It never got any, or it has failed since: it begins anew.
    Fresh,
    /// Longer than anybody remembers.
    Always,
    At(Instant),
}

/// The peers that are new among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warming {
    window: Duration,
    /// When the last of them is not new any more.
    until: Instant,
    /// Since when the oldest gets requests; `None` is longer ago than the window.
    oldest: Option<Instant>,
    /// By number; `None` is longer ago than the window.
    since: Vec<Option<Instant>>,
}

impl Warming {
    /// Looks at the eligible, given as numbers and by the time that they have been so.
    pub(crate) fn new(
        window: Duration,
        eligible: &[u32],
        since: impl Fn(u32) -> Since,
        now: Instant,
    ) -> Option<Self> {
        let recent = |number| match since(number) {
            Since::At(at) if now < at + window => Some(at),
            _ => None,
        };
        // `None`, which is oldest, is the least.
        let (oldest, newest) = eligible.iter().fold((None, None), |(old, new), number| {
            let at = recent(*number);
            let old = Some(old.map_or(at, |old: Option<Instant>| old.min(at)));
            (old, new.max(at))
        });
        let newest = newest.filter(|newest| oldest != Some(Some(*newest)))?;
        let mut by_number = vec![None; eligible.last().map_or(0, |last| *last as usize + 1)];
        for &number in eligible {
            if let Some(slot) = by_number.get_mut(number as usize) {
                *slot = recent(number);
            }
        }
        Some(Self {
            window,
            until: newest + window,
            oldest: oldest.flatten(),
            since: by_number,
        })
    }

    /// Whether there is a new peer still.
    pub(crate) fn lasts(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Whether a peer that was drawn takes the request: as often as its share says. `random` decides.
    pub(crate) fn takes(&self, number: u32, random: u64, now: Instant) -> bool {
        let since = self.since.get(number as usize).copied().flatten();
        if since.is_none() {
            return true;
        }
        let share = self.share(since, now) / self.share(self.oldest, now);
        ((random >> 40) as f32) < share * (1_u32 << 24) as f32
    }

    fn share(&self, since: Option<Instant>, now: Instant) -> f32 {
        since.map_or(1.0, |since| {
            let age = now.saturating_duration_since(since).as_secs_f32();
            let part = age / self.window.as_secs_f32().max(f32::MIN_POSITIVE);
            FIRST + (1.0 - FIRST) * part.min(1.0)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::balance::mix;

    const WINDOW: Duration = Duration::from_secs(30);

    fn rate(warming: &Warming, number: u32, now: Instant) -> f32 {
        let taken = (0..10_000).filter(|i| warming.takes(number, mix(*i), now));
        taken.count() as f32 / 10_000.0
    }

    #[test]
    fn a_new_peer_gets_more_and_more() {
        let start = Instant::now();
        let since = |number| match number {
            0 => Since::Always,
            _ => Since::At(start),
        };
        let warming = Warming::new(WINDOW, &[0, 2], since, start).unwrap();
        for (seconds, wanted) in [(0, 0.1), (10, 0.4), (20, 0.7), (29, 0.97)] {
            let now = start + Duration::from_secs(seconds);
            assert!(warming.lasts(now));
            assert!(
                (rate(&warming, 2, now) - wanted).abs() < 0.03,
                "{seconds} s"
            );
            assert!((rate(&warming, 0, now) - 1.0).abs() < f32::EPSILON);
        }
        assert!(!warming.lasts(start + WINDOW));
        assert_eq!(Warming::new(WINDOW, &[0, 2], since, start + WINDOW), None);
    }

    #[test]
    fn where_all_are_new_none_is() {
        let now = Instant::now();
        assert_eq!(Warming::new(WINDOW, &[], |_| Since::Fresh, now), None);
        assert_eq!(Warming::new(WINDOW, &[4], |_| Since::At(now), now), None);
        assert_eq!(Warming::new(WINDOW, &[1, 4], |_| Since::At(now), now), None);
        assert_eq!(Warming::new(WINDOW, &[1, 4], |_| Since::Always, now), None);
    }

    #[test]
    fn the_oldest_of_the_new_has_all_of_its_share() {
        let start = Instant::now();
        let since = |number: u32| Since::At(start + Duration::from_secs(u64::from(number)));
        let now = start + Duration::from_secs(10);
        let warming = Warming::new(WINDOW, &[0, 10], since, now).unwrap();
        assert!((rate(&warming, 0, now) - 1.0).abs() < f32::EPSILON);
        assert!((rate(&warming, 10, now) - 0.25).abs() < 0.03);
    }
}
