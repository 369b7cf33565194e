//! Words about a peer that change seldom, kept so that requests read them without a lock.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use jiff::Timestamp;

use crate::{config::Readiness, health::Verdict};

/// A small value, and since when it is what it is. One writer; a reader may see the value a moment
/// before its stamp, which only a report can notice.
#[derive(Debug)]
pub(super) struct Changing {
    value: AtomicU8,
    since: AtomicI64,
}

impl Changing {
    pub(super) fn new(value: u8, at: Timestamp) -> Self {
        Self {
            value: AtomicU8::new(value),
            since: AtomicI64::new(at.as_millisecond()),
        }
    }

    pub(super) fn get(&self) -> u8 {
        self.value.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, value: u8, at: Timestamp) -> bool {
        if self.value.swap(value, Ordering::Relaxed) == value {
            return false;
        }
        self.since.store(at.as_millisecond(), Ordering::Relaxed);
        true
    }

    pub(super) fn since(&self) -> Timestamp {
        Timestamp::from_millisecond(self.since.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

pub(super) const fn verdict_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Unknown => 0,
        Verdict::Pass => 1,
        Verdict::Fail => 2,
    }
}

pub(super) const fn verdict(code: u8) -> Verdict {
    match code {
        1 => Verdict::Pass,
        2 => Verdict::Fail,
        _ => Verdict::Unknown,
    }
}

pub(super) const fn readiness_code(readiness: Readiness) -> u8 {
    match readiness {
        Readiness::Ready => 0,
        Readiness::Draining => 1,
        Readiness::Unready => 2,
        Readiness::Gone => 3,
    }
}
