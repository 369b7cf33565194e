//! Peers that are taken out for what they answer requests with.
//!
//! Data threads count in [`Outcomes`], with a few atomics and neither a lock nor an allocation, and say
//! once that a threshold was crossed. The [`Detector`] decides, on the health thread: it alone writes
//! the outlier verdict, because how many peers may be out is a question of the whole upstream.
//!
//! An ejected peer is not simply let back in when its time is over, because then every request that
//! came together would find out together that it is still broken. It is put on trial: one request goes
//! to it at a time, and what comes of that one decides.

mod detector;
mod window;

pub(crate) use detector::{Detector, EjectionCounters, OutlierTarget};

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::ProbeKey;
use crate::config::OutlierPolicy;
use window::{Counts, Window};

/// For so long, a trial is left to requests that could be repeated.
const PREFER_REPEATABLE: Duration = Duration::from_secs(1);
/// A trial that was taken and not begun for so long is free again. Nothing waits between the two.
const CLAIM: Duration = Duration::from_secs(1);

/// Why a peer was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// Connect errors, resets and timeouts in a row; responses that broke off in a row.
    ConsecutiveErrors,
    /// Responses of 500–599 in a row.
    #[serde(rename = "consecutive5xx")]
    Consecutive5xx,
    /// The share of errors in the window.
    ErrorPercent,
    /// The one request that was to show that it is well again failed.
    Trial,
}

impl Rule {
    /// Every rule; the position of each is its index in counters.
    pub(crate) const ALL: [Self; 4] = [
        Self::ConsecutiveErrors,
        Self::Consecutive5xx,
        Self::ErrorPercent,
        Self::Trial,
    ];

    /// As label: the name of the field that sets it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveErrors => "consecutiveErrors",
            Self::Consecutive5xx => "consecutive5xx",
            Self::ErrorPercent => "errorPercent",
            Self::Trial => "trial",
        }
    }
}

/// That a peer is ejected. Swapped in whole by the health thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ejection {
    pub(crate) rule: Rule,
    /// `5 errors in a row (connection reset)`.
    pub(crate) what: String,
    /// How often it was ejected, less the times that were forgotten since.
    pub(crate) times: u32,
    /// How long it is out before it is tried again.
    pub(crate) length: Duration,
    /// When it is tried again.
    pub(crate) until: Timestamp,
}

/// What the end of one attempt says of its peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'a> {
    /// It answered with this status.
    Answered(u16),
    /// It did not answer, and that is its fault: the error, for people.
    Failed(&'a str),
    /// Its answer broke off: the error, for people. It was recorded as `Answered` before.
    BrokeOff(&'a str),
}

/// Where a peer is between being served and being out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Its requests are counted.
    Admitted,
    /// A threshold was crossed, and the health thread was told.
    Tripped,
    /// Ejected.
    Out,
    /// Ejected, and waiting for one request.
    Trial,
    /// That request is on its way to the peer…
    Claimed,
    /// …has been handed over…
    Running,
    /// …and is over; the health thread was told.
    Judged,
}

impl Phase {
    const fn of(code: u8) -> Self {
        match code {
            1 => Self::Tripped,
            2 => Self::Out,
            3 => Self::Trial,
            4 => Self::Claimed,
            5 => Self::Running,
            6 => Self::Judged,
            _ => Self::Admitted,
        }
    }
}

/// What the health thread is told, at most once for each change of phase.
#[derive(Debug)]
struct Alarm {
    key: ProbeKey,
    cause: Cause,
}

#[derive(Debug, PartialEq, Eq)]
enum Cause {
    Crossed(Rule, String),
    TrialPassed,
    TrialFailed(String),
}

/// What data threads need to judge a peer's requests. There for as long as its upstream has a policy.
#[derive(Debug)]
struct Watch {
    key: ProbeKey,
    policy: OutlierPolicy,
    alarms: mpsc::UnboundedSender<Alarm>,
}

impl Watch {
    fn counts_5xx(&self) -> bool {
        self.policy.consecutive_5xx > 0 || self.policy.error_percent.is_some()
    }

    fn tell(&self, cause: Cause) {
        // The health thread outlives the data threads, or nobody is served any more.
        let _ = self.alarms.send(Alarm {
            key: self.key.clone(),
            cause,
        });
    }
}

/// The outcomes of one peer's requests, as far as they decide about it.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    watch: ArcSwapOption<Watch>,
    phase: AtomicU8,
    errors_in_a_row: AtomicU32,
    /// Since the last response that was complete: the head of one proves nothing here.
    broken_in_a_row: AtomicU32,
    fives_in_a_row: AtomicU32,
    window: Window,
    /// When the phase became `Trial`, or `Claimed`: microseconds after the peer became known.
    since: AtomicU64,
}

impl Outcomes {
    /// An attempt ended; `now` after the peer became known. `trial`: it was the one that decides.
    pub(crate) fn record(&self, outcome: Outcome<'_>, trial: bool, now: Duration) {
        let watch = self.watch.load();
        let Some(watch) = &*watch else {
            return;
        };
        let phase = self.phase();
        if trial && phase == Phase::Running {
            self.judge(watch, outcome);
        } else if phase == Phase::Admitted {
            self.count(watch, outcome, now);
        }
    }

    /// A response came to its end.
    pub(crate) fn completed(&self) {
        clear(&self.broken_in_a_row);
    }

    fn count(&self, watch: &Watch, outcome: Outcome<'_>, now: Duration) {
        let policy = &watch.policy;
        let counts = match outcome {
            Outcome::Answered(status) if is_failure(status) => {
                clear(&self.errors_in_a_row);
                if watch.counts_5xx() {
                    Counts::FAILED
                } else {
                    Counts::ANSWERED
                }
            }
            Outcome::Answered(_) => {
                clear(&self.errors_in_a_row);
                clear(&self.fives_in_a_row);
                Counts::ANSWERED
            }
            Outcome::Failed(_) => Counts::FAILED,
            Outcome::BrokeOff(_) => Counts::FAILED_LATER,
        };
        if let Some(percent) = &policy.error_percent {
            self.window.record(counts, percent.window, now);
        }
        // Only what fails ejects: a peer that has just answered well may be on its way back.
        if counts.errors > 0
            && let Some((rule, what)) = self.crossed(policy, outcome, now)
            && self.change(Phase::Admitted, Phase::Tripped)
        {
            watch.tell(Cause::Crossed(rule, what));
        }
    }

    fn crossed(
        &self,
        policy: &OutlierPolicy,
        outcome: Outcome<'_>,
        now: Duration,
    ) -> Option<(Rule, String)> {
        let (counter, limit, rule, noun) = match outcome {
            Outcome::Failed(_) => (
                &self.errors_in_a_row,
                policy.consecutive_errors,
                Rule::ConsecutiveErrors,
                "errors",
            ),
            Outcome::BrokeOff(_) => (
                &self.broken_in_a_row,
                policy.consecutive_errors,
                Rule::ConsecutiveErrors,
                "responses that broke off",
            ),
            Outcome::Answered(_) => (
                &self.fives_in_a_row,
                policy.consecutive_5xx,
                Rule::Consecutive5xx,
                "responses of 5xx",
            ),
        };
        let in_a_row = counter.fetch_add(1, Relaxed).saturating_add(1);
        if limit > 0 && in_a_row >= limit {
            let what = format!("{in_a_row} {noun} in a row ({})", words(outcome));
            return Some((rule, what));
        }
        let percent = policy.error_percent?;
        let counts = self.window.counts(percent.window, now);
        let enough = counts.requests >= u64::from(percent.min_requests.max(1));
        let share = counts.errors * 100 >= counts.requests * u64::from(percent.threshold.get());
        (enough && share).then(|| {
            let what = format!(
                "{} of {} requests within {:?} failed ({} at last)",
                counts.errors,
                counts.requests,
                percent.window,
                words(outcome)
            );
            (Rule::ErrorPercent, what)
        })
    }

    fn judge(&self, watch: &Watch, outcome: Outcome<'_>) {
        let failed = match outcome {
            Outcome::Answered(status) => is_failure(status) && watch.counts_5xx(),
            Outcome::Failed(_) | Outcome::BrokeOff(_) => true,
        };
        if self.change(Phase::Running, Phase::Judged) {
            watch.tell(if failed {
                Cause::TrialFailed(format!("the trial request failed ({})", words(outcome)))
            } else {
                Cause::TrialPassed
            });
        }
    }

    /// Where the peer is.
    pub(crate) fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Relaxed))
    }

    /// Takes the peer's one trial, if it is free; who has it calls [`begin_trial`](Self::begin_trial) at
    /// once. `early`: also before its time, because nothing else is left.
    pub(crate) fn claim_trial(&self, repeatable: bool, early: bool, now: Duration) -> bool {
        let now = micros(now);
        let waited =
            |least: Duration| now.saturating_sub(self.since.load(Relaxed)) >= micros(least);
        let from = match self.phase() {
            Phase::Out if early => Phase::Out,
            Phase::Trial if repeatable || early || waited(PREFER_REPEATABLE) => Phase::Trial,
            // Between taking and beginning a trial nothing is awaited; a claim this old was lost.
            Phase::Claimed if waited(CLAIM) => {
                let before = self.since.load(Relaxed);
                let swap = self.since.compare_exchange(before, now, Relaxed, Relaxed);
                return swap.is_ok();
            }
            _ => return false,
        };
        let taken = self.change(from, Phase::Claimed);
        if taken {
            self.since.store(now, Relaxed);
        }
        taken
    }

    /// A request is handed to the peer. Whether it is the one of the trial: that one needs its
    /// [`end_trial`](Self::end_trial).
    pub(crate) fn begin_trial(&self) -> bool {
        self.phase() == Phase::Claimed && self.change(Phase::Claimed, Phase::Running)
    }

    /// The trial's request is over. If nothing came of it, because its client went away, the next one has it.
    pub(crate) fn end_trial(&self) {
        self.change(Phase::Running, Phase::Trial);
    }

    fn change(&self, from: Phase, to: Phase) -> bool {
        self.phase
            .compare_exchange(from as u8, to as u8, Relaxed, Relaxed)
            .is_ok()
    }

    /// Requests count from now on, by this policy. For the health thread, as is all that follows.
    fn watch(&self, watch: Watch) {
        self.watch.store(Some(Arc::new(watch)));
        self.window.clear();
        self.change(Phase::Tripped, Phase::Admitted);
    }

    /// Requests do not count any more.
    pub(super) fn forget(&self) {
        self.watch.store(None);
        self.admit();
    }

    /// Served again, without a past.
    pub(super) fn admit(&self) {
        clear(&self.errors_in_a_row);
        clear(&self.broken_in_a_row);
        clear(&self.fives_in_a_row);
        self.window.clear();
        self.phase.store(Phase::Admitted as u8, Relaxed);
    }

    /// The threshold was crossed, and the peer stays. The next error says so again.
    fn spare(&self) {
        self.change(Phase::Tripped, Phase::Admitted);
    }

    pub(super) fn eject(&self) {
        self.phase.store(Phase::Out as u8, Relaxed);
    }

    pub(super) fn offer_trial(&self, now: Duration) {
        self.since.store(micros(now), Relaxed);
        self.change(Phase::Out, Phase::Trial);
    }
}

/// Writes only where there is something to write: the word stays in every core's cache.
fn clear(counter: &AtomicU32) {
    if counter.load(Relaxed) != 0 {
        counter.store(0, Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn words(outcome: Outcome<'_>) -> String {
    match outcome {
        Outcome::Answered(status) => format!("HTTP {status}"),
        Outcome::Failed(error) | Outcome::BrokeOff(error) => error.to_owned(),
    }
}

/// Whether a status is held against its peer. 508 says that the way of the request is a circle (RFC 5842 §7.2).
fn is_failure(status: u16) -> bool {
    (500..600).contains(&status) && status != 508
}

#[cfg(test)]
mod tests;
