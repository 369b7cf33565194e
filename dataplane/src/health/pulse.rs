//! Whether a peer that does not answer its check is silent to requests, too.
//!
//! One check that times out proves little: checks have a threshold because single ones fail for nothing. But a
//! peer that has just answered many requests, and answered none of them while it did not answer the check either,
//! has stopped, long before the threshold says so. Nobody excludes it for that: requests that do no harm elsewhere
//! stop waiting for it, and new ones prefer others.

use std::time::Duration;

use tokio::time::Instant;

/// So many answers would have come while the check was waited for, had the peer gone on as before: by chance alone
/// none comes in one of 3,000 cases.
const EXPECTED: f64 = 8.0;

/// What is known of the rate of a peer's answers from check to check.
pub(super) struct Pulse {
    /// The beginning of the last check, and how many answers there were.
    began: Instant,
    answers: u64,
    /// Answers per second before that check, and before the one before it: where the peer stops right after a check,
    /// there are none before the next.
    rates: [f64; 2],
}

impl Pulse {
    /// Of a peer that gave so many answers until now.
    pub(super) fn new(answers: u64, now: Instant) -> Self {
        Self {
            began: now,
            answers,
            rates: [0.0; 2],
        }
    }

    /// A check begins.
    pub(super) fn begin(&mut self, answers: u64, now: Instant) {
        let span = now.saturating_duration_since(self.began).as_secs_f64();
        if span > 0.0 {
            let given = answers.saturating_sub(self.answers);
            self.rates = [given as f64 / span, self.rates[0]];
        }
        self.began = now;
        self.answers = answers;
    }

    /// Whether a peer has stopped that did not answer its check for so long, and gave so many answers in all.
    pub(super) fn stopped(&self, answers: u64, waited: Duration) -> bool {
        let rate = self.rates[0].max(self.rates[1]);
        answers == self.answers && rate * waited.as_secs_f64() >= EXPECTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

    /// Checks every half second, before each of which there were so many answers.
    fn after(answers: &[u64]) -> (Pulse, u64) {
        let start = Instant::now();
        let mut pulse = Pulse::new(0, start);
        let (mut now, mut all) = (start, 0);
        for answers in answers {
            now += INTERVAL;
            all += answers;
            pulse.begin(all, now);
        }
        (pulse, all)
    }

    #[test]
    fn a_busy_peer_that_answers_nothing_has_stopped() {
        let (pulse, all) = after(&[50, 50]);
        assert!(pulse.stopped(all, INTERVAL));
        assert!(!pulse.stopped(all + 1, INTERVAL), "it answers requests");
        assert!(
            !pulse.stopped(all, INTERVAL / 10),
            "it may be about to answer"
        );
    }

    #[test]
    fn when_it_stopped_between_the_checks_does_not_matter() {
        let (pulse, all) = after(&[50, 0]);
        assert!(pulse.stopped(all, INTERVAL));
        let (pulse, all) = after(&[50, 0, 0]);
        assert!(
            !pulse.stopped(all, INTERVAL),
            "there were no requests for long"
        );
    }

    #[test]
    fn a_peer_that_answers_little_is_only_slow() {
        let (pulse, all) = after(&[3, 3]);
        assert!(!pulse.stopped(all, INTERVAL));
        let (pulse, all) = after(&[]);
        assert!(!pulse.stopped(all, INTERVAL), "nothing is known");
    }
}
