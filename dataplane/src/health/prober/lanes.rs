//! How many checks are under way at a time, so that peers that do not answer delay no verdict about others.
//!
//! A check that ends soon costs work, and few of those at a time are enough. A check that waits costs a socket
//! and no work, and there may be many: a node that is lost takes hundreds of peers with it, and each of them holds
//! its check until the timeout. So a check begins in the quick lane and moves to the slow one when it takes long;
//! a peer whose last check took long begins there. Peers that are not known to be slow wait for each other alone.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

/// Checks of the quick lane.
const QUICK: usize = 256;
/// Checks of the slow lane, where the process may open enough files.
const SLOW: usize = 4096;
/// A check that takes longer moves to the slow lane.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// Both lanes.
pub(super) struct Lanes {
    quick: Semaphore,
    slow: Semaphore,
}

/// A place for one check.
pub(super) enum Place<'a> {
    Quick(SemaphorePermit<'a>, &'a Semaphore),
    Slow(SemaphorePermit<'a>),
}

impl Lanes {
    /// As wide as the process's limit on open files allows: checks take a quarter of it at most, and the rest is for
    /// traffic.
    pub(super) fn new() -> Self {
        let quarter = open_files().map_or(SLOW, |files| files / 4);
        Self::of(QUICK, SLOW.min(quarter).max(QUICK))
    }

    /// So many checks at a time.
    pub(super) fn of(quick: usize, slow: usize) -> Self {
        Self {
            quick: Semaphore::new(quick),
            slow: Semaphore::new(slow),
        }
    }

    /// Waits for a place, first come first served. `None` when there will never be one again.
    pub(super) async fn enter(&self, slow: bool) -> Option<Place<'_>> {
        if slow {
            return Some(Place::Slow(self.slow.acquire().await.ok()?));
        }
        let permit = self.quick.acquire().await.ok()?;
        Some(Place::Quick(permit, &self.slow))
    }
}

impl Place<'_> {
    /// Makes a check. Returns whether it was slow.
    pub(super) async fn run(self, check: impl Future<Output = ()>) -> bool {
        // Boxed, so that the thousands of tasks that wait are small.
        let mut check = Box::pin(check);
        match self {
            Self::Slow(_permit) => {
                let started = Instant::now();
                check.await;
                started.elapsed() >= PATIENCE
            }
            Self::Quick(permit, slow) => {
                if timeout(PATIENCE, &mut check).await.is_ok() {
                    return false;
                }
                // Where the slow lane is full, the check stays where it is.
                let _place = match slow.try_acquire() {
                    Ok(place) => {
                        drop(permit);
                        place
                    }
                    Err(_) => permit,
                };
                check.await;
                true
            }
        }
    }
}

/// The process's soft limit on open files.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|it| it.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
