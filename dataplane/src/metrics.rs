//! What is counted, and how it is shown to Prometheus.
//!
//! Handles ([`UpstreamMetrics`]) sit in the compiled table: the request path adds to atomics of its own
//! thread's shard and looks nothing up. [`Metrics`] keeps the handles as long as their upstream exists, so
//! that a new table does not reset them. Labels come from closed enums and configured names only; series
//! of one upstream appear with their first count, so that a thousand idle upstreams cost a scrape nothing.
//!
//! | name | labels | what |
//! |---|---|---|
//! | `hale_requests_total` | `upstream`, `code_class` (`1xx`…`5xx`, `none`: the client went away) | requests that were routed to an upstream, by the status that the client got |
//! | `hale_request_duration_seconds` | `upstream` | from the request's head to the last byte of the response |
//! | `hale_upstream_attempts_total` | `upstream`, `outcome` | attempts, by what came of them |
//! | `hale_upstream_retries_total` | `upstream` | attempts after the first |
//! | `hale_upstream_retries_refused_total` | `upstream` | attempts that the retry budget had no room for |
//! | `hale_upstream_in_flight` | `upstream` | requests that peers are answering |
//! | `hale_upstream_waiting` | `upstream` | requests that wait for a peer |
//! | `hale_upstream_waits_total` | `upstream`, `result` (`served`, `timeout`, `refused`, `left`: the client went away) | requests that had to wait for a peer |
//! | `hale_probes_total` | `upstream`, `result` (`pass`, `fail`) | active checks |
//! | `hale_ejections_total` | `upstream`, `rule` | peers taken out for what they answered |
//! | `hale_upstream_panic` | `upstream` | 1 while failing verdicts are ignored |
//! | `hale_peers` | `upstream`, `standing`, `reason` | peers now; `reason` is empty where all is well |
//! | `hale_auth_requests_total` | `policy`, `method` (`none`: no method decided), `outcome` | requests that `auth` decided about |
//! | `hale_access_denied_requests_total` | `policy` | requests that `access` refused |
//! | `hale_rate_limited_requests_total` | `policy` | requests that `rateLimit` refused |
//! | `hale_rejects_total` | `reason` | answers that the proxy gave by itself |
//! | `hale_connections` | `listener` | connections that are open |
//! | `hale_connections_accepted_total` | `listener` | connections accepted |
//! | `hale_connections_refused_total` | | connections closed at once, because there were too many |
//! | `hale_tls_handshake_failures_total` | | handshakes with clients that failed |
//! | `hale_table_generation` | | counts the tables published |
//! | `hale_table_age_seconds` | | since the last was published |
//! | `hale_table_info` | `fingerprint` | equal on replicas that serve the same |
//! | `hale_access_log_dropped_total` | | lines lost because the log's writer was behind |

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::registry::Registry;

use crate::{
    config::{ObjectRef, UpstreamId},
    health::{EjectionCounters, ProbeCounters},
    reason::Reason,
    report::Report,
};

use shard::Shard;

pub(crate) use policies::PolicyMetrics;
pub(crate) use queue::{QueueCounters, Wait, Waited};

mod exposition;
mod policies;
mod queue;
mod shard;

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
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
    /// The peer was found failing while it was waited for.
    PeerFailed,
    /// The client went away first.
    Cancelled,
    /// Hale itself was at a limit: no connection could be tried, or it was ended by a limit of Hale's.
    Overloaded,
}

impl Outcome {
    /// Every outcome; the position of each is its index in a shard.
    const ALL: [Self; 11] = [
        Self::Answered(0),
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::TlsError,
        Self::UpstreamReset,
        Self::UpstreamTimeout,
        Self::ProtocolError,
        Self::Saturated,
        Self::PeerFailed,
        Self::Cancelled,
        Self::Overloaded,
    ];

    /// As label and in the access log; where there is a [`Reason`] for it, its code.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Answered(_) => "Answered",
            Self::ConnectRefused => Reason::ConnectRefused.as_str(),
            Self::ConnectTimeout => Reason::ConnectTimeout.as_str(),
            Self::TlsError => Reason::TlsError.as_str(),
            Self::UpstreamReset => Reason::UpstreamReset.as_str(),
            Self::UpstreamTimeout => Reason::UpstreamTimeout.as_str(),
            Self::ProtocolError => Reason::ProtocolError.as_str(),
            Self::Saturated => Reason::Saturated.as_str(),
            Self::PeerFailed => "PeerFailed",
            Self::Cancelled => "Cancelled",
            Self::Overloaded => Reason::Overloaded.as_str(),
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Answered(_) => 0,
            Self::ConnectRefused => 1,
            Self::ConnectTimeout => 2,
            Self::TlsError => 3,
            Self::UpstreamReset => 4,
            Self::UpstreamTimeout => 5,
            Self::ProtocolError => 6,
            Self::Saturated => 7,
            Self::PeerFailed => 8,
            Self::Cancelled => 9,
            Self::Overloaded => 10,
        }
    }
}

/// What is counted of one upstream. Adding costs one or a few uncontended atomic additions.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    shards: Box<[Shard]>,
    probes: Arc<ProbeCounters>,
    queue: QueueCounters,
    ejections: Arc<EjectionCounters>,
}

impl UpstreamMetrics {
    fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            probes: Arc::default(),
            queue: QueueCounters::default(),
            ejections: Arc::default(),
        }
    }

    /// A request ended. `status` is what the client got; `None` if it went away before.
    pub(crate) fn request(&self, status: Option<u16>, duration: Duration) {
        self.shard().request(status, duration);
    }

    /// An attempt ended.
    pub(crate) fn attempt(&self, outcome: Outcome) {
        self.shard().attempt(outcome);
    }

    /// An attempt is made again.
    pub(crate) fn retry(&self) {
        self.shard().retry();
    }

    /// The budget had no room for another attempt.
    pub(crate) fn retry_refused(&self) {
        self.shard().retry_refused();
    }

    /// Where the checks of the upstream's peers are counted.
    pub(crate) fn probes(&self) -> &Arc<ProbeCounters> {
        &self.probes
    }

    /// Where requests that wait for a peer are counted.
    pub(crate) fn queue(&self) -> &QueueCounters {
        &self.queue
    }

    /// Where the ejections of the upstream's peers are counted.
    pub(crate) fn ejections(&self) -> &Arc<EjectionCounters> {
        &self.ejections
    }

    fn shard(&self) -> &Shard {
        &self.shards[shard::current() % self.shards.len()]
    }
}

/// A listener, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Listener {
    const ALL: [Self; 2] = [Self::Http, Self::Https];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Locked when a table is published and at a scrape, never for a request.
    upstreams: Mutex<BTreeMap<UpstreamId, Arc<UpstreamMetrics>>>,
    /// As `upstreams`.
    policies: Mutex<BTreeMap<ObjectRef, Arc<PolicyMetrics>>>,
    shards: usize,
    rejects: [AtomicU64; Reason::ALL.len()],
    open: [AtomicU64; 2],
    accepted: [AtomicU64; 2],
    refused: AtomicU64,
    tls_failures: AtomicU64,
    log_dropped: Arc<AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Metrics {
    /// Nothing counted yet. `log_dropped` is [`Log::dropped_counter`](crate::access_log::Log::dropped_counter).
    pub(crate) fn new(log_dropped: Arc<AtomicU64>) -> Self {
        Self {
            upstreams: Mutex::default(),
            policies: Mutex::default(),
            shards: shard::how_many(),
            rejects: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            open: Default::default(),
            accepted: Default::default(),
            refused: AtomicU64::new(0),
            tls_failures: AtomicU64::new(0),
            log_dropped,
        }
    }

    /// The handle of an upstream, to be put into a table; the same one for the same id.
    pub(crate) fn upstream(&self, id: &UpstreamId) -> Arc<UpstreamMetrics> {
        let mut upstreams = self.upstreams();
        if let Some(known) = upstreams.get(id) {
            return Arc::clone(known);
        }
        let new = Arc::new(UpstreamMetrics::new(self.shards));
        upstreams.insert(id.clone(), Arc::clone(&new));
        new
    }

    /// Forgets the upstreams for which `keep` is false. Called with each publish.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&UpstreamId) -> bool) {
        self.upstreams().retain(|id, _| keep(id));
    }

    /// The handle of a policy, to be put into a table; the same one for the same policy.
    pub(crate) fn policy(&self, source: &ObjectRef) -> Arc<PolicyMetrics> {
        let mut policies = self.policies();
        if let Some(known) = policies.get(source) {
            return Arc::clone(known);
        }
        let new = Arc::new(PolicyMetrics::new(self.shards));
        policies.insert(source.clone(), Arc::clone(&new));
        new
    }

    /// Forgets the policies for which `keep` is false. Called with each publish.
    pub(crate) fn retain_policies(&self, mut keep: impl FnMut(&ObjectRef) -> bool) {
        self.policies().retain(|source, _| keep(source));
    }

    /// The proxy answered by itself.
    pub(crate) fn reject(&self, reason: Reason) {
        if let Some(counter) = self.rejects.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection was accepted; it counts as open until the guard is dropped.
    pub(crate) fn connection(self: &Arc<Self>, listener: Listener) -> ConnectionGuard {
        self.accepted[listener as usize].fetch_add(1, Ordering::Relaxed);
        self.open[listener as usize].fetch_add(1, Ordering::Relaxed);
        ConnectionGuard {
            metrics: Arc::clone(self),
            listener,
        }
    }

    /// A connection was refused because there are too many.
    pub(crate) fn connection_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A handshake with a client failed.
    pub(crate) fn tls_failure(&self) {
        self.tls_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes these metrics, and the standings of `report`, part of a registry. The names are whole: the
    /// registry should have no prefix.
    pub(crate) fn register(
        self: &Arc<Self>,
        registry: &mut Registry,
        report: impl Fn() -> Report + Send + Sync + 'static,
    ) {
        registry.register_collector(Box::new(exposition::Exposition::new(
            Arc::clone(self),
            Box::new(report),
        )));
    }

    fn upstreams(&self) -> std::sync::MutexGuard<'_, BTreeMap<UpstreamId, Arc<UpstreamMetrics>>> {
        self.upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn policies(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectRef, Arc<PolicyMetrics>>> {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a connection as open while it lives.
pub(crate) struct ConnectionGuard {
    metrics: Arc<Metrics>,
    listener: Listener,
}

impl fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectionGuard")
            .field(&self.listener)
            .finish()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.metrics.open[self.listener as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
