//! Who is ejected, for how long, and who may come back: the one writer of the outlier verdict.
//!
//! A task of the health thread. It hears of thresholds from data threads and of peers from each table,
//! and knows the whole upstream, which a data thread does not: how many are out already, and whether
//! anybody would be left.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Alarm, Cause, Ejection, Phase, Rule, Watch};
use crate::{
    config::{HealthPolicy, OutlierPolicy, Readiness, UpstreamId},
    health::{ProbeKey, Standing, Verdict, Vitals, standing},
};

/// A peer of an upstream with an outlier policy.
#[derive(Clone, Debug)]
pub(crate) struct OutlierTarget {
    /// The peer.
    pub(crate) key: ProbeKey,
    /// Where its requests are counted and the verdict goes.
    pub(crate) vitals: Arc<Vitals>,
    /// What Kubernetes says.
    pub(crate) readiness: Readiness,
    /// The upstream's policy.
    pub(crate) health: Arc<HealthPolicy>,
    /// Counts ejections; shared by the peers of an upstream.
    pub(crate) counters: Arc<EjectionCounters>,
}

/// Ejections of one upstream since the start, for metrics.
#[derive(Debug, Default)]
pub(crate) struct EjectionCounters([AtomicU64; Rule::ALL.len()]);

impl EjectionCounters {
    pub(crate) fn count(&self, rule: Rule) {
        if let Some(counter) = self.0.get(rule as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// In the order of [`Rule::ALL`].
    pub(crate) fn counts(&self) -> [u64; Rule::ALL.len()] {
        self.0.each_ref().map(|counter| counter.load(Relaxed))
    }
}

/// Tells the detector's task which peers there are. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Detector {
    targets: mpsc::UnboundedSender<Vec<OutlierTarget>>,
}

impl Detector {
    /// A detector, and the task that it needs. `on_transition` runs there after each change of a peer's
    /// verdict, and must not block.
    pub(crate) fn new(
        on_transition: impl Fn(&ProbeKey) + Send + 'static,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (targets, received) = mpsc::unbounded_channel();
        (Self { targets }, Judge::new(on_transition).run(received))
    }

    /// Makes the peers that are watched equal to `targets`. What is no longer among them is not ejected
    /// any more.
    pub(crate) fn sync(&self, targets: Vec<OutlierTarget>) {
        // The task ends with its last sender alone.
        let _ = self.targets.send(targets);
    }
}

/// What the task knows.
pub(super) struct Judge<F> {
    upstreams: HashMap<UpstreamId, HashMap<ProbeKey, Watched>>,
    sender: mpsc::UnboundedSender<Alarm>,
    pub(super) alarms: mpsc::UnboundedReceiver<Alarm>,
    on_transition: F,
}

struct Watched {
    target: OutlierTarget,
    policy: OutlierPolicy,
    history: History,
    /// When it is put on trial.
    due: Option<Instant>,
}

/// A peer's ejections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    times: u32,
    /// When the last one ended.
    ended: Option<Instant>,
}

impl History {
    /// Once more. Returns for how long; one earlier ejection is forgotten for each `base_ejection` that
    /// was quiet since the last.
    pub(super) fn eject(&mut self, policy: &OutlierPolicy, now: Instant) -> Duration {
        let base = policy.base_ejection.max(Duration::from_millis(1));
        let longest = policy.max_ejection.max(base);
        if let Some(ended) = self.ended.take() {
            let quiet = now.saturating_duration_since(ended).as_nanos() / base.as_nanos();
            let quiet = u32::try_from(quiet).unwrap_or(u32::MAX);
            self.times = self.times.saturating_sub(quiet);
        }
        // More than makes the longest ejection would only have to be forgotten again.
        let most = longest.as_nanos().div_ceil(base.as_nanos());
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        self.times = self.times.saturating_add(1).min(most);
        base.saturating_mul(self.times).min(longest)
    }

    /// The last ejection is over.
    pub(super) fn end(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    pub(super) fn times(self) -> u32 {
        self.times
    }
}

impl<F: Fn(&ProbeKey)> Judge<F> {
    pub(super) fn new(on_transition: F) -> Self {
        let (sender, alarms) = mpsc::unbounded_channel();
        Self {
            upstreams: HashMap::new(),
            sender,
            alarms,
            on_transition,
        }
    }

    async fn run(mut self, mut targets: mpsc::UnboundedReceiver<Vec<OutlierTarget>>) {
        loop {
            let due = self.due();
            let timer = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                sync = targets.recv() => match sync {
                    Some(targets) => self.sync(targets),
                    None => return,
                },
                Some(alarm) = self.alarms.recv() => self.alarm(alarm, Instant::now()),
                () = timer => self.offer_trials(Instant::now()),
            }
        }
    }

    pub(super) fn sync(&mut self, targets: Vec<OutlierTarget>) {
        let mut before = std::mem::take(&mut self.upstreams);
        for target in targets {
            let Some(policy) = target.health.passive.clone() else {
                continue;
            };
            let key = target.key.clone();
            let known = before
                .get_mut(&key.upstream)
                .and_then(|peers| peers.remove(&key))
                .filter(|known| Arc::ptr_eq(&known.target.vitals, &target.vitals));
            let same = known.as_ref().is_some_and(|known| known.policy == policy);
            if !same {
                target.vitals.outcomes().watch(Watch {
                    key: key.clone(),
                    policy: policy.clone(),
                    alarms: self.sender.clone(),
                });
            }
            let (history, due) =
                known.map_or_else(Default::default, |known| (known.history, known.due));
            let watched = Watched {
                target,
                policy,
                history,
                due,
            };
            let peers = self.upstreams.entry(key.upstream.clone()).or_default();
            peers.insert(key, watched);
        }
        for (key, gone) in before.into_values().flatten() {
            if gone.target.vitals.forget_outlier() {
                (self.on_transition)(&key);
            }
        }
    }

    fn find(&self, key: &ProbeKey) -> Option<&Watched> {
        self.upstreams.get(&key.upstream)?.get(key)
    }

    fn find_mut(&mut self, key: &ProbeKey) -> Option<&mut Watched> {
        self.upstreams.get_mut(&key.upstream)?.get_mut(key)
    }

    pub(super) fn alarm(&mut self, alarm: Alarm, now: Instant) {
        let Alarm { key, cause } = alarm;
        let Some(watched) = self.find(&key) else {
            return;
        };
        let vitals = &watched.target.vitals;
        // What was told of a peer that has changed since is of no use.
        let expected = match cause {
            Cause::Crossed(..) => Phase::Tripped,
            Cause::TrialPassed | Cause::TrialFailed(_) => Phase::Judged,
        };
        if vitals.outcomes().phase() != expected {
            return;
        }
        match cause {
            Cause::Crossed(..) if !self.may_eject(&key) => {
                vitals.outcomes().spare();
                return;
            }
            Cause::Crossed(rule, what) => self.eject(&key, rule, what, now),
            Cause::TrialFailed(what) => self.eject(&key, Rule::Trial, what, now),
            Cause::TrialPassed => self.readmit(&key, now),
        }
        (self.on_transition)(&key);
    }

    /// Whether the policy leaves room for one more, and a peer that is at least as good would stay.
    fn may_eject(&self, key: &ProbeKey) -> bool {
        let Some(peers) = self.upstreams.get(&key.upstream) else {
            return false;
        };
        let Some(watched) = peers.get(key) else {
            return false;
        };
        // What terminates fails for that, and is on its way out by itself.
        if matches!(
            watched.target.readiness,
            Readiness::Draining | Readiness::Gone
        ) {
            return false;
        }
        let own = watched.standing();
        // Out already: its last requests say nothing new, and others may need the place.
        if own == Standing::Exclude {
            return false;
        }
        let out = |peer: &&Watched| peer.target.vitals.outlier() == Verdict::Fail;
        let there = peers
            .values()
            .filter(|peer| peer.target.readiness != Readiness::Gone)
            .count();
        let share = there * usize::from(watched.policy.max_ejected.get()) / 100;
        let most = if there >= 2 { share.max(1) } else { share };
        let spare = peers
            .iter()
            .any(|(other, peer)| other != key && peer.standing() >= own);
        spare && peers.values().filter(out).count() < most
    }

    fn eject(&mut self, key: &ProbeKey, rule: Rule, what: String, now: Instant) {
        let Some(watched) = self.find_mut(key) else {
            return;
        };
        let length = watched.history.eject(&watched.policy, now);
        watched.due = Some(now + length);
        watched.target.counters.count(rule);
        let times = watched.history.times();
        tracing::info!(
            upstream = %key.upstream,
            peer = %key.address,
            rule = rule.as_str(),
            what,
            out_for = ?length,
            times,
            "a peer is ejected",
        );
        let at = Timestamp::now();
        watched.target.vitals.eject(
            Ejection {
                rule,
                what,
                times,
                length,
                until: at.checked_add(length).unwrap_or(at),
            },
            at,
        );
    }

    fn readmit(&mut self, key: &ProbeKey, now: Instant) {
        let Some(watched) = self.find_mut(key) else {
            return;
        };
        watched.due = None;
        watched.history.end(now);
        watched.target.vitals.readmit(Timestamp::now());
        tracing::info!(
            upstream = %key.upstream,
            peer = %key.address,
            "an ejected peer answered its trial request, and is back",
        );
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.upstreams
            .values()
            .flat_map(HashMap::values)
            .filter_map(|watched| watched.due)
            .min()
    }

    pub(super) fn offer_trials(&mut self, now: Instant) {
        let peers = self.upstreams.values_mut().flatten();
        for (key, watched) in peers {
            if watched.due.is_some_and(|due| due <= now) {
                watched.due = None;
                watched.target.vitals.offer_trial(now);
                (self.on_transition)(key);
            }
        }
    }
}

impl Watched {
    fn standing(&self) -> Standing {
        let OutlierTarget {
            vitals,
            readiness,
            health,
            ..
        } = &self.target;
        standing(health, *readiness, vitals.probe(), vitals.outlier())
    }
}
