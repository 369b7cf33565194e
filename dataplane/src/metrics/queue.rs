//! Requests that wait for a peer: how many, and what became of them. Only touched by those that do wait.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// With a peer.
    Served,
    /// Without one.
    TimedOut,
    /// At once: the queue was full.
    Refused,
    /// The client went away.
    Left,
}

impl Waited {
    pub(super) const ALL: [Self; 4] = [Self::Served, Self::TimedOut, Self::Refused, Self::Left];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::TimedOut => "timeout",
            Self::Refused => "refused",
            Self::Left => "left",
        }
    }
}

/// The waits of one upstream.
#[derive(Debug, Default)]
pub(crate) struct QueueCounters {
    waiting: AtomicU64,
    ended: [AtomicU64; Waited::ALL.len()],
}

impl QueueCounters {
    /// A request found the queue full.
    pub(crate) fn refused(&self) {
        self.count(Waited::Refused);
    }

    /// Requests that wait now.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Waits that ended, in the order of [`Waited::ALL`].
    pub(super) fn ended(&self) -> [u64; Waited::ALL.len()] {
        self.ended
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }

    fn count(&self, how: Waited) {
        self.ended[how as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// One request that waits, until dropped.
pub(crate) struct Wait<'a> {
    counters: &'a QueueCounters,
    how: Waited,
}

impl<'a> Wait<'a> {
    pub(crate) fn begin(counters: &'a QueueCounters) -> Self {
        counters.waiting.fetch_add(1, Ordering::Relaxed);
        Self {
            counters,
            how: Waited::Left,
        }
    }

    /// Says how it ended, if not by the client going away.
    pub(crate) fn ended(&mut self, how: Waited) {
        self.how = how;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        self.counters.count(self.how);
    }
}
