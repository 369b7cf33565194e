//! What is learnt about one peer.
//!
//! Successive tables share it, so a change of configuration forgets nothing. Requests only touch
//! atomics here; what people read (messages, stamps) is swapped in whole by its one writer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::time::Instant;

mod changing;

use changing::{Changing, readiness_code, verdict, verdict_code};

use super::{
    Verdict,
    latency::Latency,
    outlier::{Ejection, Outcome, Outcomes, Phase},
};
use crate::{config::Readiness, reason::Reason, report::CheckReport, waiting};

/// How long a peer is avoided after its first connect error; doubles with each later one.
const AVOID_FIRST: Duration = Duration::from_secs(1);
/// The longest that one connect error makes a peer avoided.
const AVOID_MAX: Duration = Duration::from_secs(10);

/// What is learnt about one peer.
#[derive(Debug)]
pub(crate) struct Vitals {
    born: Instant,
    requests: AtomicU64,
    in_flight: AtomicU32,
    answers: AtomicU64,
    /// One more than `answers` was when the peer fell silent; 0 is not at all.
    silent_at: AtomicU64,
    /// Connect errors since the last connection that was made.
    connect_errors: AtomicU32,
    /// How often the avoidance was prolonged since the last success.
    avoided: AtomicU32,
    /// Milliseconds after `born`; 0 is not at all.
    avoid_until: AtomicU64,
    failure: ArcSwapOption<ConnectFailure>,
    lost: ArcSwapOption<LostRequests>,
    probe: Changing,
    outlier: Changing,
    outcomes: Outcomes,
    ejection: ArcSwapOption<Ejection>,
    readiness: Changing,
    trouble: ArcSwapOption<String>,
    last_check: ArcSwapOption<CheckReport>,
    latency: Latency,
}

/// The connect errors since the last connection that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectFailure {
    /// `ConnectRefused`, `ConnectTimeout` or `TlsError`.
    pub(crate) reason: Reason,
    /// What happened, for people.
    pub(crate) message: String,
    /// When the first of them happened.
    pub(crate) first: Timestamp,
    /// When the last of them happened.
    pub(crate) last: Timestamp,
}

/// The requests without an answer since the last that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostRequests {
    /// `UpstreamReset`, `UpstreamTimeout` or `ProtocolError`.
    pub(crate) reason: Reason,
    /// What happened to the last of them, for people.
    pub(crate) message: String,
    /// When the last of them was lost.
    pub(crate) last: Timestamp,
    /// How many there are; of those lost at the same moment some may not be counted.
    pub(crate) in_a_row: u32,
}

impl Vitals {
    /// Nothing is known yet but what Kubernetes says.
    pub(crate) fn new(readiness: Readiness, now: Instant) -> Self {
        let at = Timestamp::now();
        let unknown = verdict_code(Verdict::Unknown);
        Self {
            born: now,
            requests: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            answers: AtomicU64::new(0),
            silent_at: AtomicU64::new(0),
            connect_errors: AtomicU32::new(0),
            avoided: AtomicU32::new(0),
            avoid_until: AtomicU64::new(0),
            failure: ArcSwapOption::empty(),
            lost: ArcSwapOption::empty(),
            probe: Changing::new(unknown, at),
            outlier: Changing::new(unknown, at),
            outcomes: Outcomes::default(),
            ejection: ArcSwapOption::empty(),
            readiness: Changing::new(readiness_code(readiness), at),
            trouble: ArcSwapOption::empty(),
            last_check: ArcSwapOption::empty(),
            latency: Latency::default(),
        }
    }

    /// What the active check says. It outlives the check: see [`standing`](super::standing).
    pub(crate) fn probe(&self) -> Verdict {
        verdict(self.probe.get())
    }

    /// Since when the active check says so.
    pub(crate) fn probe_since(&self) -> Timestamp {
        self.probe.since()
    }

    /// What the outlier detector says.
    pub(crate) fn outlier(&self) -> Verdict {
        verdict(self.outlier.get())
    }

    /// Since when the outlier detector says so.
    pub(crate) fn outlier_since(&self) -> Timestamp {
        self.outlier.since()
    }

    /// Why the outlier detector says `Fail`; `None` while it does not.
    pub(crate) fn ejection(&self) -> Option<Arc<Ejection>> {
        self.ejection.load_full()
    }

    /// Whether one request, and no other, may go to the ejected peer.
    pub(crate) fn on_trial(&self) -> bool {
        self.outlier() == Verdict::Fail
            && !matches!(self.outcomes.phase(), Phase::Out | Phase::Admitted)
    }

    /// Takes the one trial of an ejected peer; see [`Outcomes::claim_trial`].
    pub(crate) fn claim_trial(&self, repeatable: bool, early: bool, now: Instant) -> bool {
        self.outcomes
            .claim_trial(repeatable, early, self.elapsed(now))
    }

    /// The peer answered an attempt, of which `in_flight` was the guard.
    pub(crate) fn answered(&self, status: u16, in_flight: Option<&InFlight>, now: Instant) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.record_success();
        let trial = in_flight.is_some_and(|guard| guard.trial);
        self.outcomes
            .record(Outcome::Answered(status), trial, self.elapsed(now));
    }

    /// The peer did not answer an attempt, of which `in_flight` was the guard, and is to blame for it.
    pub(crate) fn failed(&self, message: &str, in_flight: Option<&InFlight>, now: Instant) {
        let trial = in_flight.is_some_and(|guard| guard.trial);
        self.outcomes
            .record(Outcome::Failed(message), trial, self.elapsed(now));
    }

    /// What the outlier detector's thread works on.
    pub(super) fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// The peer is out. Like all that follows about ejections, for the health thread alone.
    pub(super) fn eject(&self, ejection: Ejection, at: Timestamp) {
        self.ejection.store(Some(Arc::new(ejection)));
        self.outcomes.eject();
        self.outlier.set(verdict_code(Verdict::Fail), at);
    }

    /// The ejected peer's time is over: one request may be tried.
    pub(super) fn offer_trial(&self, now: Instant) {
        self.outcomes.offer_trial(self.elapsed(now));
    }

    /// The peer is back.
    pub(super) fn readmit(&self, at: Timestamp) {
        self.outlier.set(verdict_code(Verdict::Pass), at);
        self.outcomes.admit();
        self.ejection.store(None);
    }

    /// There is no outlier detection any more: what it said is void. Returns whether that changes a thing.
    pub(super) fn forget_outlier(&self) -> bool {
        let changed = self
            .outlier
            .set(verdict_code(Verdict::Unknown), Timestamp::now());
        self.outcomes.forget();
        self.ejection.store(None);
        changed
    }

    /// Since when Kubernetes says what it says.
    pub(crate) fn readiness_since(&self) -> Timestamp {
        self.readiness.since()
    }

    /// Takes note of what Kubernetes says, and of why; called with each table that the peer is in.
    pub(crate) fn set_readiness(&self, readiness: Readiness, trouble: Option<&str>) {
        self.readiness
            .set(readiness_code(readiness), Timestamp::now());
        let known = self.trouble.load();
        if known.as_deref().map(String::as_str) != trouble {
            self.trouble
                .store(trouble.map(|it| Arc::new(it.to_owned())));
        }
    }

    /// Why the pod does not become ready, as far as its containers tell.
    pub(crate) fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    /// The last check that ended.
    pub(crate) fn last_check(&self) -> Option<Arc<CheckReport>> {
        self.last_check.load_full()
    }

    /// The active check's verdict; its one writer is the health thread. Returns whether it changed.
    pub(crate) fn set_probe(&self, verdict: Verdict, at: Timestamp) -> bool {
        self.probe.set(verdict_code(verdict), at)
    }

    /// A check ended.
    pub(crate) fn set_last_check(&self, report: CheckReport) {
        self.last_check.store(Some(Arc::new(report)));
    }

    /// There is no active check any more: what it said is void.
    pub(crate) fn forget_checks(&self) {
        self.set_probe(Verdict::Unknown, Timestamp::now());
        self.last_check.store(None);
    }

    /// A request is handed to the peer. Each needs its [`end_request`](Self::end_request), or comes
    /// from [`track`](Self::track).
    pub(crate) fn begin_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// The peer's answer is complete, or given up.
    pub(crate) fn end_request(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// [`begin_request`](Self::begin_request) that ends by being dropped, however the request ends.
    pub(crate) fn track(self: &Arc<Self>) -> InFlight {
        self.begin_request();
        InFlight {
            trial: self.outcomes.begin_trial(),
            vitals: Arc::clone(self),
        }
    }

    /// [`track`](Self::track), if fewer than `most` requests are in flight.
    pub(crate) fn track_below(self: &Arc<Self>, most: u32) -> Option<InFlight> {
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                (count < most).then_some(count + 1)
            })
            .ok()?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        Some(InFlight {
            trial: self.outcomes.begin_trial(),
            vitals: Arc::clone(self),
        })
    }

    /// Requests sent to the peer, since this process knows it.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests that the peer is answering now.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// No connection could be made: the peer is avoided (not excluded) for 1 s, and for twice as long
    /// each time that it fails again after that, up to 10 s.
    ///
    /// Errors while it is avoided anyway are those of requests that were under way together: they
    /// are one fact, and prolong nothing.
    pub(crate) fn record_connect_failure(
        &self,
        reason: Reason,
        message: impl Into<String>,
        now: Instant,
    ) {
        let last = Timestamp::now();
        let streak = self.connect_errors.fetch_add(1, Ordering::Relaxed);
        let first = match self.failure.load().as_deref() {
            Some(failure) if streak > 0 => failure.first,
            _ => last,
        };
        self.failure.store(Some(Arc::new(ConnectFailure {
            reason,
            message: message.into(),
            first,
            last,
        })));
        let until = self.avoid_until.load(Ordering::Relaxed);
        let elapsed = self.elapsed_ms(now);
        if elapsed < until {
            return;
        }
        let doublings = self.avoided.load(Ordering::Relaxed).min(16);
        let length = AVOID_FIRST.saturating_mul(1 << doublings).min(AVOID_MAX);
        let next = elapsed.saturating_add(millis(length)).max(1);
        let won = self
            .avoid_until
            .compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if won {
            self.avoided.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request was sent and not answered. Nothing follows from it here: it is only told.
    pub(crate) fn record_lost_request(&self, reason: Reason, message: impl Into<String>) {
        let before = self.lost.load().as_deref().map_or(0, |lost| lost.in_a_row);
        self.lost.store(Some(Arc::new(LostRequests {
            reason,
            message: message.into(),
            last: Timestamp::now(),
            in_a_row: before.saturating_add(1),
        })));
    }

    /// The requests without an answer since the last that was answered.
    pub(crate) fn lost_requests(&self) -> Option<Arc<LostRequests>> {
        self.lost.load_full()
    }

    /// A connection was made, or used to good effect: the peer is not avoided any more.
    pub(crate) fn record_success(&self) {
        if self.lost.load().is_some() {
            self.lost.store(None);
        }
        if self.connect_errors.load(Ordering::Relaxed) != 0 {
            self.connect_errors.store(0, Ordering::Relaxed);
            self.avoided.store(0, Ordering::Relaxed);
            self.avoid_until.store(0, Ordering::Relaxed);
            self.failure.store(None);
        }
    }

    /// Attempts that the peer answered, since this process knows it.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// The peer used to answer, and has not since it gave the last of so many `answers`. True until it answers again
    /// or [`speaks`](Self::speaks).
    pub(super) fn fell_silent(&self, answers: u64) {
        self.silent_at.store(answers + 1, Ordering::Relaxed);
        waiting::announce();
    }

    /// The peer answered a check, in whatever way.
    pub(super) fn speaks(&self) {
        if self.silent_at.load(Ordering::Relaxed) != 0 {
            self.silent_at.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it [fell silent](Self::fell_silent).
    pub(crate) fn is_silent(&self) -> bool {
        let silent_at = self.silent_at.load(Ordering::Relaxed);
        silent_at != 0 && silent_at == self.answers() + 1
    }

    /// Whether other peers are to be preferred at `now`.
    pub(crate) fn is_avoided(&self, now: Instant) -> bool {
        self.is_unreachable(now) || self.is_silent()
    }

    /// Whether no connection could be made to it a moment ago.
    pub(crate) fn is_unreachable(&self, now: Instant) -> bool {
        let until = self.avoid_until.load(Ordering::Relaxed);
        until != 0 && self.elapsed_ms(now) < until
    }

    /// Connect errors since the last connection that was made, and the last of them.
    pub(crate) fn connect_failure(&self) -> Option<(u32, Arc<ConnectFailure>)> {
        let failure = self.failure.load_full()?;
        let in_a_row = self.connect_errors.load(Ordering::Relaxed);
        (in_a_row > 0).then_some((in_a_row, failure))
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.born)
    }

    /// The head of a response came after `took`; `fine` is whether it was no 5xx.
    pub(crate) fn record_latency(&self, took: Duration, fine: bool, now: Instant) {
        let at = self.elapsed_ms(now);
        if fine {
            self.latency.record(took, at);
        } else {
            self.latency.record_failure(took, at);
        }
    }

    /// How many microseconds the peer takes to begin an answer, of late; `None` if that is not known.
    pub(crate) fn latency(&self, now: Instant) -> Option<f32> {
        self.latency.read(self.elapsed_ms(now))
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        millis(self.elapsed(now))
    }
}

/// A request that a peer is answering; dropping it ends it.
#[derive(Debug)]
pub(crate) struct InFlight {
    vitals: Arc<Vitals>,
    /// Whether what comes of it decides if an ejected peer is back.
    trial: bool,
}

impl InFlight {
    /// The peer's answer is complete.
    pub(crate) fn completed(&self) {
        self.vitals.outcomes.completed();
    }

    /// The peer's answer broke off.
    pub(crate) fn broke_off(&self, message: &str, now: Instant) {
        let outcome = Outcome::BrokeOff(message);
        let now = self.vitals.elapsed(now);
        self.vitals.outcomes.record(outcome, self.trial, now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.vitals.end_request();
        if self.trial {
            self.vitals.outcomes.end_trial();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
