//! When a peer is checked: on a grid of its own, with jitter around the grid's points.
//!
//! The grid is what keeps the promise of the thresholds: with each wait drawn at random on its own, three
//! of them could be three jitters too long. Here any number of waits together is at most one jitter off.
//!
//! Times are rounded up to ticks that all peers share, so that the thread wakes for several checks at a
//! time: most of what a check costs is waking for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::{balance::mix, config::Percent};

/// The longest tick; short intervals have shorter ones.
const TICK: Duration = Duration::from_millis(50);

/// The times of one peer's checks.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// What ticks are counted from.
    epoch: Instant,
    due: Instant,
    /// The grid's point after `due`.
    grid: Instant,
    interval: Duration,
    jitter: Percent,
    random: u64,
}

impl Schedule {
    /// Begins at `now`. `hash` tells peers apart and decides where in `window` the first check is, and
    /// where in `interval` the grid lies, so that the checks of many peers are spread.
    pub(super) fn new(
        epoch: Instant,
        now: Instant,
        interval: Duration,
        jitter: Percent,
        window: Duration,
        hash: u64,
    ) -> Self {
        let due = now + share(window.min(interval), hash);
        let mut grid = now + share(interval, hash);
        if grid <= due {
            grid += interval;
        }
        Self {
            epoch,
            due,
            grid,
            interval,
            jitter,
            random: hash,
        }
    }

    /// When the next check starts.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Puts a check at `now` in before the next one.
    pub(super) fn hurry(&mut self, now: Instant) {
        if now < self.due {
            self.due = now;
            self.grid = self.grid.checked_sub(self.interval).unwrap_or(now);
        }
    }

    /// A check has ended: the next one is due at the next point of the grid, or at once where that has
    /// passed. Points that were missed altogether are left out.
    pub(super) fn advance(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.grid);
        let missed = late.as_nanos() / self.interval.as_nanos().max(1);
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        let point = self.grid + self.interval.saturating_mul(missed);
        self.grid = point + self.interval;
        self.random = mix(self.random);
        let spread = self.interval * u32::from(self.jitter.get()) / 100;
        let due = (point + share(spread, self.random)).checked_sub(spread / 2);
        self.due = self.tick(due.unwrap_or(point)).max(now);
    }

    /// The first tick that is not before `at`.
    fn tick(&self, at: Instant) -> Instant {
        let tick = (self.interval / 20).min(TICK).as_nanos().max(1);
        let beyond = at.saturating_duration_since(self.epoch).as_nanos() % tick;
        let wait = if beyond == 0 { 0 } else { tick - beyond };
        at + Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
    }
}

/// A part of `whole` by a random number: 0 is nothing, the greatest number almost all.
fn share(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn percent(value: u8) -> Percent {
        Percent::new(value).unwrap()
    }

    #[test]
    fn many_peers_are_spread_over_the_window_and_the_interval() {
        let now = Instant::now();
        let mut first = [0; 10];
        let mut second = [0; 10];
        for peer in 0..1000 {
            let mut schedule = Schedule::new(now, now, 5 * SECOND, percent(0), SECOND, mix(peer));
            let due = schedule.due() - now;
            assert!(due < SECOND);
            first[due.as_millis() as usize / 100] += 1;
            schedule.advance(schedule.due());
            let due = schedule.due() - now;
            assert!(due <= 5 * SECOND);
            second[(due.as_millis() as usize / 500).min(9)] += 1;
        }
        for count in first.into_iter().chain(second) {
            assert!((60..=140).contains(&count), "{first:?} {second:?}");
        }
    }

    #[test]
    fn a_short_interval_does_not_check_twice_at_once() {
        let now = Instant::now();
        for peer in 0..100 {
            let mut schedule = Schedule::new(now, now, SECOND, percent(0), SECOND, mix(peer));
            let first = schedule.due();
            schedule.advance(first);
            assert!((SECOND..=SECOND + TICK).contains(&(schedule.due() - first)));
            assert_eq!((schedule.due() - now).as_millis() % 50, 0);
        }
    }

    #[test]
    fn a_late_check_leaves_out_what_it_missed() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, now, SECOND, percent(0), Duration::ZERO, 0);
        assert_eq!(schedule.due(), now);
        schedule.advance(now + SECOND * 7 / 2);
        assert_eq!(schedule.due(), now + SECOND * 7 / 2);
        schedule.advance(now + SECOND * 7 / 2);
        assert_eq!(schedule.due(), now + SECOND * 4);
    }

    #[test]
    fn a_hurried_check_comes_on_top() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now, now, SECOND, percent(0), Duration::ZERO, 0);
        schedule.advance(now);
        assert_eq!(schedule.due(), now + SECOND);
        schedule.hurry(now + SECOND / 2);
        assert_eq!(schedule.due(), now + SECOND / 2);
        schedule.advance(now + SECOND / 2);
        assert_eq!(schedule.due(), now + SECOND);
        schedule.hurry(now + SECOND);
        schedule.advance(now + SECOND);
        assert_eq!(schedule.due(), now + SECOND * 2);
    }

    proptest! {
        /// Any number of waits together is as long as as many intervals, but for one jitter and one tick.
        #[test]
        fn waits_never_add_up_to_more_than_one_jitter(
            hash: u64,
            jitter in 0_u8..=100,
            interval in 100_u64..60_000,
            waits in 1_u32..10,
        ) {
            let start = Instant::now();
            let interval = Duration::from_millis(interval);
            let mut schedule = Schedule::new(start, start, interval, percent(jitter), SECOND, hash);
            for _ in 0..5 {
                schedule.advance(schedule.due());
            }
            let from = schedule.due();
            for _ in 0..waits {
                schedule.advance(schedule.due());
            }
            let took = schedule.due() - from;
            let slack = interval * u32::from(jitter) / 100 + TICK.min(interval / 20);
            prop_assert!(took <= interval * waits + slack, "{took:?}");
            prop_assert!(took + slack >= interval * waits, "{took:?}");
        }
    }
}
