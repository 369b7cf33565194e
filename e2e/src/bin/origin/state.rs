//! What a scenario can change about an origin, and what it can ask of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

pub(crate) struct State {
    pub(crate) pod: String,
    pub(crate) node: String,
    /// Printed in each answer, so that two Services can be told apart.
    pub(crate) name: String,
    pub(crate) exit: Notify,
    ready: AtomicBool,
    check_status: AtomicU16,
    traffic_status: AtomicU16,
    check_delay_ms: AtomicU64,
    requests: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl State {
    pub(crate) fn from_env() -> Self {
        let env = |name: &str| std::env::var(name).unwrap_or_default();
        let status = env("CHECK_STATUS").parse().unwrap_or(200);
        Self {
            pod: env("POD_NAME"),
            node: env("NODE_NAME"),
            name: env("ORIGIN_NAME"),
            exit: Notify::new(),
            ready: AtomicBool::new(env("READY") != "false"),
            check_status: AtomicU16::new(status),
            traffic_status: AtomicU16::new(200),
            check_delay_ms: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            counts: Mutex::default(),
        }
    }

    pub(crate) fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> (u16, u64) {
        (
            self.check_status.load(Ordering::Relaxed),
            self.check_delay_ms.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn set_check_status(&self, status: u16) {
        self.check_status.store(status, Ordering::Relaxed);
    }

    pub(crate) fn traffic_status(&self) -> u16 {
        self.traffic_status.load(Ordering::Relaxed)
    }

    pub(crate) fn set_traffic_status(&self, status: u16) {
        self.traffic_status.store(status, Ordering::Relaxed);
    }

    pub(crate) fn set_check_delay(&self, ms: u64) {
        self.check_delay_ms.store(ms, Ordering::Relaxed);
    }

    /// Counts a request, and how often the one with this id was executed.
    pub(crate) fn count(&self, id: Option<&str>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(id) = id {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(id.to_owned()).or_default() += 1;
        }
    }

    /// Adds what another origin counted.
    pub(crate) fn collect(&self, counts: BTreeMap<String, u64>) {
        let mut own = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, count) in counts {
            *own.entry(id).or_default() += count;
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
