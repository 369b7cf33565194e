//! A pause after a change, so that a rollout is a handful of rebuilds and not hundreds.
//!
//! The first change starts the pause and later ones do not prolong it: waiting for quiet would make every
//! change wait for its longest where a big cluster is never quiet. What bounds the work instead is a distance
//! from the last rebuild that grows with what that one took. A change after quiet waits for the pause alone.
//!
//! A pod that begins to terminate is not made to wait: kubelet was told at the same time.

use std::time::Duration;

use tokio::{sync::Notify, time::Instant};

/// From the first change to the rebuild.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that a change waits.
const LONGEST: Duration = Duration::from_secs(1);
/// From the end of a rebuild to the next one is so many times what it took: rebuilding never takes more than a
/// quarter of a processor.
const TIMES: u32 = 3;

/// Waits for a change, and then for 50 ms, or not at all once there is an `urgent` one; for longer (up to 1 s) where a
/// rebuild that took `cost` has only just ended when this is called.
pub async fn changed(ticks: &Notify, urgent: &Notify, cost: Duration) {
    let distance = Instant::now() + cost.saturating_mul(TIMES);
    let mut end = None;
    loop {
        // What comes meanwhile is in the next snapshot.
        let pause = tokio::select! {
            () = ticks.notified() => PAUSE,
            () = urgent.notified() => Duration::ZERO,
            () = at(end) => return,
        };
        let now = Instant::now();
        let wanted = distance.clamp(now + pause, now + LONGEST);
        end = Some(end.map_or(wanted, |end: Instant| end.min(wanted)));
    }
}

async fn at(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_for_the_shortest_pause() {
        let (ticks, urgent) = (Notify::new(), Notify::new());
        ticks.notify_one();
        let start = Instant::now();
        changed(&ticks, &urgent, Duration::from_millis(2)).await;
        assert_eq!(start.elapsed(), PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_meanwhile_neither_prolongs_the_pause_nor_starts_another() {
        let (ticks, urgent) = (Arc::new(Notify::new()), Notify::new());
        let sender = Arc::clone(&ticks);
        ticks.notify_one();
        let start = Instant::now();
        tokio::join!(
            async move {
                for _ in 0..4 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    sender.notify_one();
                }
            },
            changed(&ticks, &urgent, Duration::ZERO)
        );
        assert_eq!(start.elapsed(), PAUSE);
        let next = tokio::time::timeout(LONGEST, changed(&ticks, &urgent, Duration::ZERO)).await;
        assert!(next.is_err(), "nothing changed since");
    }

    #[tokio::test(start_paused = true)]
    async fn rebuilds_that_follow_each_other_keep_a_distance_of_a_second_at_most() {
        for (cost, wanted) in [(20, 60), (100, 300), (5000, 1000)] {
            let (ticks, urgent) = (Notify::new(), Notify::new());
            ticks.notify_one();
            let start = Instant::now();
            changed(&ticks, &urgent, Duration::from_millis(cost)).await;
            assert_eq!(start.elapsed(), Duration::from_millis(wanted));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_quiet_a_change_waits_for_the_pause_alone() {
        let (ticks, urgent) = (Notify::new(), Notify::new());
        let start = Instant::now();
        let quiet = Duration::from_secs(1);
        tokio::join!(
            changed(&ticks, &urgent, Duration::from_millis(200)),
            async {
                tokio::time::sleep(quiet).await;
                ticks.notify_one();
            }
        );
        assert_eq!(start.elapsed(), quiet + PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_urgent_change_does_not_wait_but_for_the_distance() {
        for (cost, wanted) in [(0, 0), (2, 6), (5000, 1000)] {
            let (ticks, urgent) = (Notify::new(), Notify::new());
            urgent.notify_one();
            let start = Instant::now();
            changed(&ticks, &urgent, Duration::from_millis(cost)).await;
            assert_eq!(start.elapsed(), Duration::from_millis(wanted));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_urgent_change_ends_the_pause_of_another() {
        let (ticks, urgent) = (Notify::new(), Notify::new());
        ticks.notify_one();
        let start = Instant::now();
        let soon = Duration::from_millis(10);
        tokio::join!(changed(&ticks, &urgent, Duration::ZERO), async {
            tokio::time::sleep(soon).await;
            urgent.notify_one();
        });
        assert_eq!(start.elapsed(), soon);
    }
}
