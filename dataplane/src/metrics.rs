//! What is counted, and how it is shown to Prometheus.
//!
//! Handles ([`UpstreamMetrics`]) sit in the compiled table: the request path adds to atomics and looks
//! nothing up. They are kept by [`Metrics`] as long as the upstream exists, so that a new table does not
//! reset them. Labels come from closed enums and configured names only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{config::UpstreamId, reason::Reason, report::Report};

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer answered with this status.
    Answered(u16),
    /// Nothing listens there.
    ConnectRefused,
    /// The connection was not made in time, or the address is unreachable.
    ConnectTimeout,
    /// The TLS handshake failed.
    TlsError,
    /// The connection ended before the response began.
    UpstreamReset,
    /// The response did not begin in time.
    UpstreamTimeout,
    /// The answer is not HTTP.
    ProtocolError,
    /// The peer was at its limit.
    Saturated,
    /// The client went away first.
    Cancelled,
}

/// What is counted of one upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    retries: AtomicU64,
}

impl UpstreamMetrics {
    /// A request ended. `status` is what the client got; `None` if it went away before.
    pub fn request(&self, status: Option<u16>, duration: Duration) {
        let _ = (status, duration);
    }

    /// An attempt ended.
    pub fn attempt(&self, outcome: Outcome) {
        let _ = outcome;
    }

    /// An attempt is made again.
    pub fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A check ended.
    pub fn probe(&self, pass: bool) {
        let _ = pass;
    }
}

/// A listener, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// Nothing counted yet. `log_dropped` is [`Log::dropped_counter`](crate::access_log::Log::dropped_counter).
    pub fn new(log_dropped: Arc<AtomicU64>) -> Self {
        let _ = log_dropped;
        Self::default()
    }

    /// The handle of an upstream, to be put into a table; the same one for the same id.
    pub fn upstream(&self, id: &UpstreamId) -> Arc<UpstreamMetrics> {
        let _ = id;
        Arc::new(UpstreamMetrics {
            retries: AtomicU64::new(0),
        })
    }

    /// Forgets the upstreams for which `keep` is false. Called with each publish.
    pub fn retain(&self, keep: impl FnMut(&UpstreamId) -> bool) {
        let _ = keep;
    }

    /// The proxy answered by itself.
    pub fn reject(&self, reason: Reason) {
        let _ = reason;
    }

    /// A connection was accepted; it counts as open until the guard is dropped.
    pub fn connection(self: &Arc<Self>, listener: Listener) -> ConnectionGuard {
        ConnectionGuard {
            _metrics: Arc::clone(self),
            _listener: listener,
        }
    }

    /// A connection was refused because there are too many.
    pub fn connection_refused(&self) {}

    /// A handshake with a client failed.
    pub fn tls_failure(&self) {}

    /// Makes these metrics, and the standings of `report`, part of a registry.
    pub fn register(
        self: &Arc<Self>,
        registry: &mut prometheus_client::registry::Registry,
        report: impl Fn() -> Report + Send + Sync + 'static,
    ) {
        let _ = (registry, report);
    }
}

/// Counts a connection as open while it lives.
#[derive(Debug)]
pub struct ConnectionGuard {
    _metrics: Arc<Metrics>,
    _listener: Listener,
}
