//! A pause after a change, so that a rollout is a handful of rebuilds and not hundreds.
//!
//! The first change starts the pause and later ones do not prolong it: waiting for quiet would make every
//! change wait for its longest where a big cluster is never quiet. What bounds the work instead is that the
//! pause grows with what the last rebuild took.

use std::time::Duration;

use tokio::{sync::Notify, time::Instant};

/// The shortest pause.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(1);
/// A pause lasts so many times what the last rebuild took: rebuilding never takes more than a tenth of a
/// processor.
const TIMES: u32 = 9;

/// Waits for a change, and then for 50 ms, or for longer (up to 1 s) where the last rebuild took `cost`.
pub async fn changed(ticks: &Notify, cost: Duration) {
    ticks.notified().await;
    let pause = cost.saturating_mul(TIMES).clamp(SHORTEST, LONGEST);
    let end = Instant::now() + pause;
    // What comes meanwhile is in the next snapshot.
    while tokio::time::timeout_at(end, ticks.notified()).await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_for_the_shortest_pause() {
        let ticks = Notify::new();
        ticks.notify_one();
        let start = Instant::now();
        changed(&ticks, Duration::from_millis(2)).await;
        assert_eq!(start.elapsed(), SHORTEST);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_meanwhile_neither_prolongs_the_pause_nor_starts_another() {
        let ticks = Arc::new(Notify::new());
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
            changed(&ticks, Duration::ZERO)
        );
        assert_eq!(start.elapsed(), SHORTEST);
        let next = tokio::time::timeout(LONGEST, changed(&ticks, Duration::ZERO)).await;
        assert!(next.is_err(), "nothing changed since");
    }

    #[tokio::test(start_paused = true)]
    async fn an_expensive_rebuild_makes_the_pause_longer_and_never_longer_than_a_second() {
        for (cost, wanted) in [(20, 180), (100, 900), (5000, 1000)] {
            let ticks = Notify::new();
            ticks.notify_one();
            let start = Instant::now();
            changed(&ticks, Duration::from_millis(cost)).await;
            assert_eq!(start.elapsed(), Duration::from_millis(wanted));
        }
    }
}
