//! The active checks: one thread, so that a loaded worker cannot make a check time out.
//!
//! Each peer has one task that checks, judges and waits. A new set of targets starts and stops tasks and
//! tells those that stay what is new: what a task has learnt is lost only where the check itself, or
//! where it goes, has changed.

mod lanes;
mod peer;
mod schedule;

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    io,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustls_pki_types::ServerName;
use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::Instant,
};

use super::{
    Vitals,
    check::{Checker, Plan},
};
use crate::config::{ActiveCheck, Protocol, Readiness, UpstreamId};
use lanes::Lanes;
use peer::{Assignment, Common, Slot};

/// Connections kept between checks.
const CONNECTIONS_KEPT: usize = 1024;
/// The first checks of new peers are spread over this long at most…
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// …and over this long for each new peer: where a rollout brings one pod, it is checked at once.
const FIRST_EACH: Duration = Duration::from_millis(10);

/// What is checked: a peer of an upstream. A pod that inherits an address is another peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ProbeKey {
    /// The upstream, whose policy wants the check.
    pub(crate) upstream: UpstreamId,
    /// The peer's address for traffic.
    pub(crate) address: SocketAddr,
    /// UID of its pod, empty where there is none.
    pub(crate) uid: String,
}

/// A peer to check, and how.
#[derive(Clone, Debug)]
pub(crate) struct ProbeTarget {
    /// The peer.
    pub(crate) key: ProbeKey,
    /// Where the results go.
    pub(crate) vitals: Arc<Vitals>,
    /// The check.
    pub(crate) check: Arc<ActiveCheck>,
    /// Where checks go: the peer's address, with the check's port where it has one of its own.
    pub(crate) address: SocketAddr,
    /// What Kubernetes says. A peer that becomes `Ready` is checked at once, and its next pass counts
    /// whatever failed before.
    pub(crate) readiness: Readiness,
    /// How the peer is spoken to.
    pub(crate) protocol: Protocol,
    /// TLS to the peer, with the ALPN protocols that the upstream offers; `None` is plain text.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    /// The name sent as SNI and wanted in the certificate; unused without TLS.
    pub(crate) server_name: ServerName<'static>,
    /// Counts the checks; shared by the peers of an upstream.
    pub(crate) counters: Arc<ProbeCounters>,
}

/// Checks of one upstream since the start, for metrics.
#[derive(Debug, Default)]
pub(crate) struct ProbeCounters {
    passed: AtomicU64,
    failed: AtomicU64,
}

/// The health thread. Dropping it ends the checks.
#[derive(Debug)]
pub(crate) struct Prober {
    targets: mpsc::UnboundedSender<Vec<ProbeTarget>>,
    runtime: tokio::runtime::Handle,
}

impl Prober {
    /// Starts the thread. `on_transition` runs there after each change of a peer's verdict, and must
    /// not block.
    pub(crate) fn start(
        on_transition: impl Fn(&ProbeKey) + Send + 'static,
    ) -> Result<Self, io::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (targets, received) = mpsc::unbounded_channel();
        let handle = runtime.handle().clone();
        let runner = Runner::new();
        thread::Builder::new()
            .name("hale-health".into())
            .spawn(move || runtime.block_on(runner.run(received, on_transition)))?;
        Ok(Self {
            targets,
            runtime: handle,
        })
    }

    /// Runs something else on the thread, until it is done or the checks end.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Makes the peers that are checked equal to `targets`. Peers that are checked already, by a check
    /// that is equal, keep what was learnt.
    pub(crate) fn sync(&self, targets: Vec<ProbeTarget>) {
        // The thread ends with its last sender alone.
        let _ = self.targets.send(targets);
    }
}

impl ProbeCounters {
    /// A check ended.
    pub(crate) fn count(&self, pass: bool) {
        let counter = if pass { &self.passed } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks that passed, and checks that failed.
    pub(crate) fn counts(&self) -> [u64; 2] {
        [&self.passed, &self.failed].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// What the thread runs.
struct Runner {
    running: HashMap<ProbeKey, Running>,
    /// The plans of each upstream, for the peers that come later. There are several where pods bring checks
    /// of their own and a rollout changes them.
    plans: HashMap<UpstreamId, Vec<Weak<Plan>>>,
    common: Arc<Common>,
    kept: Arc<Semaphore>,
    transitions: mpsc::UnboundedReceiver<ProbeKey>,
}

struct Running {
    slot: Arc<Slot>,
    task: AbortHandle,
}

impl Runner {
    fn new() -> Self {
        let (sender, transitions) = mpsc::unbounded_channel();
        Self {
            running: HashMap::new(),
            plans: HashMap::new(),
            common: Arc::new(Common {
                epoch: Instant::now(),
                lanes: Lanes::new(),
                transitions: sender,
            }),
            kept: Arc::new(Semaphore::new(CONNECTIONS_KEPT)),
            transitions,
        }
    }

    async fn run(
        mut self,
        mut targets: mpsc::UnboundedReceiver<Vec<ProbeTarget>>,
        on_transition: impl Fn(&ProbeKey),
    ) {
        loop {
            tokio::select! {
                sync = targets.recv() => match sync {
                    Some(targets) => self.sync(targets),
                    None => return,
                },
                Some(key) = self.transitions.recv() => {
                    // A peer that has left meanwhile is nobody's business any more.
                    if self.running.contains_key(&key) {
                        on_transition(&key);
                    }
                }
            }
        }
    }

    fn sync(&mut self, targets: Vec<ProbeTarget>) {
        let wanted: HashSet<&ProbeKey> = targets.iter().map(|target| &target.key).collect();
        self.running.retain(|key, running| {
            let stays = wanted.contains(key) && !running.task.is_finished();
            if !stays {
                running.task.abort();
                running.slot.assignment().target.vitals.forget_checks();
            }
            stays
        });
        let is_new = |target: &&ProbeTarget| !self.running.contains_key(&target.key);
        let new = targets.iter().filter(is_new).count();
        let window = FIRST_EACH
            .saturating_mul(u32::try_from(new).unwrap_or(u32::MAX))
            .min(FIRST_WINDOW);
        for target in targets {
            let plan = self.plan(&target);
            let key = target.key.clone();
            let assignment = Assignment { target, plan };
            match self.running.get(&key) {
                Some(running) => running.slot.assign(assignment),
                None => self.begin(key, assignment, window),
            }
        }
        self.plans.retain(|_, plans| {
            plans.retain(|plan| plan.strong_count() > 0);
            !plans.is_empty()
        });
    }

    fn begin(&mut self, key: ProbeKey, assignment: Assignment, window: Duration) {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&key);
        let slot = Arc::new(Slot::new(assignment));
        let task = peer::run(
            Arc::clone(&slot),
            Checker::new(Arc::clone(&self.kept)),
            Arc::clone(&self.common),
            window,
            hash,
        );
        let task = tokio::spawn(task).abort_handle();
        self.running.insert(key, Running { slot, task });
    }

    fn plan(&mut self, target: &ProbeTarget) -> Arc<Plan> {
        let same = |plan: &Arc<Plan>| {
            Arc::ptr_eq(&plan.check, &target.check) || plan.check == target.check
        };
        if let Some(running) = self.running.get(&target.key) {
            let plan = &running.slot.assignment().plan;
            if same(plan) {
                return Arc::clone(plan);
            }
        }
        let known = self.plans.entry(target.key.upstream.clone()).or_default();
        if let Some(plan) = known.iter().filter_map(Weak::upgrade).find(same) {
            return plan;
        }
        let plan = Arc::new(Plan::new(Arc::clone(&target.check)));
        known.push(Arc::downgrade(&plan));
        plan
    }
}

#[cfg(test)]
mod tests;
