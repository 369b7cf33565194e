//! The task that checks one peer: wait, check, judge, tell.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

use super::{FIRST_WINDOW, ProbeKey, ProbeTarget, lanes::Lanes, schedule::Schedule};
use crate::{
    config::Readiness,
    health::{
        Threshold,
        check::{Check, Deadline, Plan},
        pulse::Pulse,
    },
    report::CheckReport,
};

/// What a task has to do.
pub(super) struct Assignment {
    pub(super) target: ProbeTarget,
    pub(super) plan: Arc<Plan>,
}

/// Where a task finds what it has to do, and hears that this has changed.
pub(super) struct Slot {
    assignment: Mutex<Arc<Assignment>>,
    changed: Notify,
}

/// What all tasks share.
pub(super) struct Common {
    /// What the ticks of schedules are counted from.
    pub(super) epoch: Instant,
    pub(super) lanes: Lanes,
    pub(super) transitions: mpsc::UnboundedSender<ProbeKey>,
}

impl Common {
    /// What is known of the peer is news to requests.
    fn tell(&self, target: &ProbeTarget) {
        // The runner outlives its tasks, or ends with them.
        let _ = self.transitions.send(target.key.clone());
    }
}

impl Slot {
    pub(super) fn new(assignment: Assignment) -> Self {
        Self {
            assignment: Mutex::new(Arc::new(assignment)),
            changed: Notify::new(),
        }
    }

    pub(super) fn assignment(&self) -> Arc<Assignment> {
        let assignment = self.assignment.lock();
        Arc::clone(&assignment.unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the task what is new, if anything is.
    pub(super) fn assign(&self, next: Assignment) {
        let mut assignment = self
            .assignment
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !assignment.same(&next) {
            *assignment = Arc::new(next);
            self.changed.notify_one();
        }
    }
}

impl Assignment {
    /// Whether there is nothing to tell.
    fn same(&self, other: &Self) -> bool {
        let tls = match (&self.target.tls, &other.target.tls) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        tls && self.same_question(other) && self.target.readiness == other.target.readiness
    }

    /// Whether the same is asked of the same peer, so that earlier answers count. New TLS settings are
    /// not another question: certificates rotate.
    fn same_question(&self, other: &Self) -> bool {
        let (a, b) = (&self.target, &other.target);
        Arc::ptr_eq(&self.plan, &other.plan)
            && Arc::ptr_eq(&a.vitals, &b.vitals)
            && a.address == b.address
            && a.protocol == b.protocol
            && a.tls.is_some() == b.tls.is_some()
            && a.server_name == b.server_name
    }

    fn threshold(&self) -> Threshold {
        let check = &self.plan.check;
        Threshold::new(check.unhealthy_threshold, check.healthy_threshold)
    }

    fn pulse(&self) -> Pulse {
        Pulse::new(self.target.vitals.answers(), Instant::now())
    }

    fn schedule(&self, epoch: Instant, window: Duration, hash: u64) -> Schedule {
        let check = &self.plan.check;
        let now = Instant::now();
        Schedule::new(epoch, now, check.interval, check.jitter, window, hash)
    }
}

/// Checks one peer until it is aborted.
pub(super) async fn run(
    slot: Arc<Slot>,
    mut checker: impl Check,
    common: Arc<Common>,
    window: Duration,
    hash: u64,
) {
    let mut current = slot.assignment();
    let mut threshold = current.threshold();
    let mut schedule = current.schedule(common.epoch, window, hash);
    let mut pulse = current.pulse();
    let mut slow = false;
    loop {
        let due = async {
            sleep_until(schedule.due()).await;
            common.lanes.enter(slow).await
        };
        let place = tokio::select! {
            biased;
            () = slot.changed.notified() => None,
            place = due => match place {
                Some(place) => Some(place),
                None => return,
            },
        };
        let Some(place) = place else {
            let next = slot.assignment();
            checker.forget();
            if !next.same_question(&current) {
                threshold = next.threshold();
                schedule = next.schedule(common.epoch, FIRST_WINDOW, hash);
                pulse = next.pulse();
            } else if next.target.readiness == Readiness::Ready
                && current.target.readiness != Readiness::Ready
            {
                threshold.relearn();
                schedule.hurry(Instant::now());
            }
            current = next;
            continue;
        };
        slow = place
            .run(check(
                &mut checker,
                &current,
                &mut threshold,
                &mut pulse,
                &common,
            ))
            .await;
        schedule.advance(Instant::now());
    }
}

/// Makes one check and tells what it found.
async fn check(
    checker: &mut impl Check,
    assignment: &Assignment,
    threshold: &mut Threshold,
    pulse: &mut Pulse,
    common: &Common,
) {
    let Assignment { target, plan } = assignment;
    let vitals = &target.vitals;
    let started = Instant::now();
    pulse.begin(vitals.answers(), started);
    let deadline = Deadline::after(plan.check.timeout, started);
    let outcome = checker.check(plan, target, deadline).await;
    if outcome.signs.is_own() {
        // Neither the verdict nor what is known of the peer changes.
        tracing::debug!(
            upstream = %target.key.upstream,
            peer = %target.key.address,
            message = outcome.message,
            "Hale could not make an active check",
        );
        return;
    }
    let took = started.elapsed();
    if took < plan.check.timeout {
        vitals.speaks();
    } else if pulse.stopped(vitals.answers(), took) {
        vitals.fell_silent(vitals.answers());
        common.tell(target);
    }
    let silent = match outcome.signs.fault {
        Some(fault) => fault.is_silence(),
        None => !outcome.pass && took >= plan.check.timeout,
    };
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let at = Timestamp::now();
    let transition = threshold.record(outcome.pass);
    vitals.set_last_check(CheckReport {
        at,
        duration_ms,
        pass: outcome.pass,
        message: outcome.message,
        in_a_row: threshold.in_a_row(),
        silent,
    });
    target.counters.count(outcome.pass);
    if outcome.pass && outcome.signs.connected && target.address == target.key.address {
        vitals.record_success();
    }
    if let Some(transition) = transition
        && vitals.set_probe(transition.to, at)
    {
        tracing::info!(
            upstream = %target.key.upstream,
            peer = %target.key.address,
            verdict = ?transition.to,
            message = vitals.last_check().map(|last| last.message.clone()),
            "the active check's verdict has changed",
        );
        common.tell(target);
    }
}
