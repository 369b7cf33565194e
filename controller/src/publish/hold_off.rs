//! A pause after a change, so that a rollout is a handful of rebuilds and not hundreds.

use std::time::Duration;

use tokio::{sync::Notify, time::Instant};

/// Quiet time that ends the wait.
const QUIET: Duration = Duration::from_millis(50);
/// The longest wait, when changes do not end.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits for a change, and then until there was none for 50 ms, or for 1 s in all.
pub async fn changed(ticks: &Notify) {
    ticks.notified().await;
    let end = Instant::now() + LONGEST;
    loop {
        let quiet = (Instant::now() + QUIET).min(end);
        match tokio::time::timeout_at(quiet, ticks.notified()).await {
            Ok(()) if Instant::now() < end => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_change_waits_for_quiet() {
        let ticks = Notify::new();
        ticks.notify_one();
        let start = Instant::now();
        changed(&ticks).await;
        assert_eq!(start.elapsed(), QUIET);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_without_end_wait_no_longer_than_a_second() {
        let ticks = Arc::new(Notify::new());
        let sender = Arc::clone(&ticks);
        let storm = tokio::spawn(async move {
            loop {
                sender.notify_one();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let start = Instant::now();
        changed(&ticks).await;
        assert!(
            start.elapsed() <= LONGEST + Duration::from_millis(20),
            "{:?}",
            start.elapsed()
        );
        assert!(
            start.elapsed() >= LONGEST - Duration::from_millis(20),
            "{:?}",
            start.elapsed()
        );
        storm.abort();
    }
}
