//! How many of an upstream's requests may be retries.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use crate::config::{Retry, RetryBudget};

/// Retries under way for each hundred requests under way, where no policy has a budget.
const DEFAULT_PERCENT: u64 = 20;
/// Retries under way that are always allowed, where no policy has a budget.
const DEFAULT_LEAST: u64 = 3;

/// Retries in proportion to requests. With a policy, in windows: of each interval's requests a share, and
/// always a few. Without, a share of the requests under way. Counters, no lock; a race at the turn of a window
/// miscounts by a request.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Milliseconds of the process' clock, when the window began.
    window: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    /// Retries under way that no policy bounds.
    under_way: Arc<AtomicU32>,
}

/// A retry that the budget allowed; it is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Option<Arc<AtomicU32>>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(under_way) = &self.0 {
            under_way.fetch_sub(1, Relaxed);
        }
    }
}

impl Budget {
    /// A request came.
    pub(crate) fn deposit(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// One more retry now (`now_ms` is any monotonic clock), `active` requests being under way; `None` if
    /// there is no room for it.
    pub(crate) fn withdraw(
        &self,
        retry: Option<&Retry>,
        active: impl FnOnce() -> u64,
        now_ms: u64,
    ) -> Option<Permit> {
        match retry {
            Some(retry) => self
                .within_window(retry.budget, now_ms)
                .then_some(Permit(None)),
            None => {
                let permit = Permit(Some(Arc::clone(&self.under_way)));
                let allowed = DEFAULT_LEAST.max(active() * DEFAULT_PERCENT / 100);
                let taken = self.under_way.fetch_add(1, Relaxed);
                (u64::from(taken) < allowed).then_some(permit)
            }
        }
    }

    fn within_window(&self, budget: RetryBudget, now_ms: u64) -> bool {
        let interval = u64::try_from(budget.interval.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let began = self.window.load(Relaxed);
        if now_ms.saturating_sub(began) >= interval
            && self
                .window
                .compare_exchange(began, now_ms, Relaxed, Relaxed)
                .is_ok()
        {
            self.requests.store(1, Relaxed);
            self.retries.store(0, Relaxed);
        }
        let share = self.requests.load(Relaxed) * u64::from(budget.percent.get()) / 100;
        let allowed = share.max(u64::from(budget.min_retries));
        let taken = self.retries.fetch_add(1, Relaxed);
        if taken >= allowed {
            self.retries.fetch_sub(1, Relaxed);
            return false;
        }
        true
    }
}
