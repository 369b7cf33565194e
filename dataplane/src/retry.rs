//! May this be tried again?
//!
//! What was certainly not processed may go to another peer, whatever its method. What was sent may be
//! sent again only if that cannot do harm (it is idempotent, or its policy says so) and can be done (its
//! body was kept). Retries have a budget for each upstream, because the moment when everything fails is
//! the moment when retries would double the load.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode};

use crate::{
    config::{NonIdempotent, Retry, RetryBudget, SamePeer},
    forward::{AttemptError, Phase},
    reason::Reason,
};

/// Tries of a request that was never sent, without a policy: the first and two more.
const CONNECT_TRIES: u32 = 3;
const DEFAULT_BUDGET: RetryBudget = RetryBudget {
    percent: match crate::config::Percent::new(20) {
        Some(percent) => percent,
        None => unreachable!(),
    },
    interval: Duration::from_secs(10),
    min_retries: 10,
};

/// What is known of a request before its first attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// Sending it twice does what sending it once does (RFC 9110 §9.2.2), or its client or policy says
    /// that it may be sent twice.
    pub(crate) repeatable: bool,
}

impl Nature {
    pub(crate) fn of(method: &Method, headers: &HeaderMap, retry: Option<&Retry>) -> Self {
        let declared = || match retry.map(|retry| retry.non_idempotent) {
            Some(NonIdempotent::Always) => true,
            Some(NonIdempotent::WithIdempotencyKey) => headers.contains_key("idempotency-key"),
            Some(NonIdempotent::Never) | None => false,
        };
        Self {
            repeatable: is_idempotent(method) || declared(),
        }
    }
}

/// RFC 9110 §9.2.2; TRACE never gets here.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}

/// The tries of one request.
pub(crate) struct Tries<'a> {
    retry: Option<&'a Retry>,
    nature: Nature,
    /// Attempts made.
    made: u32,
    /// Attempts that failed after something was sent.
    sent: u32,
}

/// Whether and how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Answer with what there is.
    Stop,
    /// Try again. What was sent counts in the budget, and may wait.
    Again {
        /// A kept connection may be used.
        reuse: bool,
        /// The wait before, at most; the caller draws.
        backoff: Duration,
        /// Whether the budget must be asked.
        budgeted: bool,
    },
}

impl<'a> Tries<'a> {
    pub(crate) fn new(retry: Option<&'a Retry>, nature: Nature) -> Self {
        Self {
            retry,
            nature,
            made: 0,
            sent: 0,
        }
    }

    /// Whether the peer that failed may be tried again when no other is left.
    pub(crate) fn same_peer(&self) -> bool {
        self.retry
            .is_some_and(|retry| retry.same_peer == SamePeer::LastResort)
    }

    /// After an attempt without a response. `replayable`: the whole request can be made again.
    pub(crate) fn after_error(&mut self, error: &AttemptError, replayable: bool) -> Next {
        self.made += 1;
        if error.unsent() {
            let most = self
                .retry
                .map_or(CONNECT_TRIES, |retry| CONNECT_TRIES.max(retry.attempts + 1));
            let wanted = self.retry.is_none_or(|retry| retry.on.connect_error);
            let again = self.made < most && wanted && error.request.is_some();
            // Refusing a stream or closing an idle connection is no sign of trouble; refusing a
            // connection is one of this peer alone. Neither is worth a wait.
            return if again {
                Next::Again {
                    reuse: error.phase != Phase::Unsent,
                    backoff: Duration::ZERO,
                    budgeted: false,
                }
            } else {
                Next::Stop
            };
        }
        self.sent += 1;
        if !(self.nature.repeatable && replayable) {
            return Next::Stop;
        }
        let timeout = error.reason == Reason::UpstreamTimeout;
        match self.retry {
            // An idle connection that was closed under the request: once, at once, on a fresh one.
            _ if error.reused && !timeout && self.sent == 1 => Next::Again {
                reuse: false,
                backoff: Duration::ZERO,
                budgeted: false,
            },
            None if !timeout && self.sent == 1 => Next::Again {
                reuse: false,
                backoff: Duration::ZERO,
                budgeted: true,
            },
            Some(retry) if self.made <= retry.attempts => {
                let wanted = if timeout {
                    retry.on.timeout
                } else {
                    retry.on.reset
                };
                if wanted {
                    self.paced(retry)
                } else {
                    Next::Stop
                }
            }
            _ => Next::Stop,
        }
    }

    /// After a response with this status, none of which was passed on yet.
    pub(crate) fn after_status(&mut self, status: StatusCode, replayable: bool) -> Next {
        self.made += 1;
        self.sent += 1;
        match self.retry {
            Some(retry)
                if self.made <= retry.attempts
                    && self.nature.repeatable
                    && replayable
                    && retry.codes.contains(&status.as_u16()) =>
            {
                self.paced(retry)
            }
            _ => Next::Stop,
        }
    }

    fn paced(&self, retry: &Retry) -> Next {
        let factor = 1 << (self.made - 1).min(6);
        Next::Again {
            reuse: true,
            backoff: retry.backoff * factor,
            budgeted: true,
        }
    }
}

/// Retries in proportion to requests, in windows: of each interval's requests a share, and always a
/// few. Two counters, no lock; a race at the turn of a window miscounts by a request.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Milliseconds of the process' clock, when the window began.
    window: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A request came.
    pub(crate) fn deposit(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Whether one more retry may be made now (`now_ms` is any monotonic clock).
    pub(crate) fn withdraw(&self, retry: Option<&Retry>, now_ms: u64) -> bool {
        let budget = retry.map_or(DEFAULT_BUDGET, |retry| retry.budget);
        let interval = u64::try_from(budget.interval.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let began = self.window.load(Relaxed);
        if now_ms.saturating_sub(began) >= interval
            && self
                .window
                .compare_exchange(began, now_ms, Relaxed, Relaxed)
                .is_ok()
        {
            self.requests.store(1, Relaxed);
            self.retries.store(0, Relaxed);
        }
        let share = self.requests.load(Relaxed) * u64::from(budget.percent.get()) / 100;
        let allowed = share.max(u64::from(budget.min_retries));
        let taken = self.retries.fetch_add(1, Relaxed);
        if taken >= allowed {
            self.retries.fetch_sub(1, Relaxed);
            return false;
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{
        body::RequestBody,
        config::{Percent, RetryOn},
    };

    fn policy() -> Retry {
        Retry {
            attempts: 2,
            codes: vec![503],
            on: RetryOn {
                connect_error: true,
                reset: true,
                timeout: false,
            },
            backoff: Duration::from_millis(25),
            per_try_timeout: None,
            non_idempotent: NonIdempotent::Never,
            same_peer: SamePeer::LastResort,
            grpc_codes: Vec::new(),
            budget: RetryBudget {
                percent: Percent::new(20).unwrap(),
                interval: Duration::from_secs(10),
                min_retries: 2,
            },
        }
    }

    fn error(phase: Phase, reason: Reason, reused: bool) -> AttemptError {
        let unsent = phase < Phase::Sent;
        AttemptError {
            phase,
            reason,
            message: String::new(),
            reused,
            request: unsent.then(|| Request::new(RequestBody::empty())),
        }
    }

    fn nature(method: Method, retry: Option<&Retry>) -> Nature {
        Nature::of(&method, &HeaderMap::new(), retry)
    }

    fn goes_on(next: Next) -> bool {
        next != Next::Stop
    }

    #[test]
    fn what_was_not_sent_is_tried_three_times_whatever_the_method() {
        for method in [Method::GET, Method::POST, Method::PATCH] {
            let mut tries = Tries::new(None, nature(method, None));
            let refused = error(Phase::Connect, Reason::ConnectRefused, false);
            assert!(goes_on(tries.after_error(&refused, false)));
            assert!(goes_on(tries.after_error(&refused, false)));
            assert!(!goes_on(tries.after_error(&refused, false)));
        }
    }

    #[test]
    fn what_was_sent_is_repeated_only_if_idempotent_and_kept() {
        let reset = error(Phase::Sent, Reason::UpstreamReset, true);
        let mut get = Tries::new(None, nature(Method::GET, None));
        let fresh = Next::Again {
            reuse: false,
            backoff: Duration::ZERO,
            budgeted: false,
        };
        assert_eq!(get.after_error(&reset, true), fresh);
        assert!(!goes_on(get.after_error(&reset, true)), "once");
        let mut put = Tries::new(None, nature(Method::PUT, None));
        assert!(!goes_on(put.after_error(&reset, false)), "its body is gone");
        let mut post = Tries::new(None, nature(Method::POST, None));
        assert!(!goes_on(post.after_error(&reset, true)));
    }

    #[test]
    fn an_idempotency_key_counts_where_the_policy_says_so() {
        let mut retry = policy();
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "1".parse().unwrap());
        assert!(!Nature::of(&Method::POST, &headers, Some(&retry)).repeatable);
        retry.non_idempotent = NonIdempotent::WithIdempotencyKey;
        assert!(Nature::of(&Method::POST, &headers, Some(&retry)).repeatable);
        assert!(!Nature::of(&Method::POST, &HeaderMap::new(), Some(&retry)).repeatable);
    }

    #[test]
    fn timeouts_and_statuses_are_tried_again_only_by_policy() {
        let retry = policy();
        let late = error(Phase::Sent, Reason::UpstreamTimeout, false);
        let get = || nature(Method::GET, None);
        assert!(!goes_on(Tries::new(None, get()).after_error(&late, true)));
        assert!(!goes_on(
            Tries::new(Some(&retry), get()).after_error(&late, true)
        ));
        let bad = StatusCode::SERVICE_UNAVAILABLE;
        assert!(!goes_on(Tries::new(None, get()).after_status(bad, true)));
        let mut tries = Tries::new(Some(&retry), get());
        assert!(
            !goes_on(tries.after_status(StatusCode::BAD_GATEWAY, true)),
            "not listed"
        );
        let mut tries = Tries::new(Some(&retry), get());
        let first = tries.after_status(bad, true);
        let second = tries.after_status(bad, true);
        let wait = |backoff| Next::Again {
            reuse: true,
            backoff: Duration::from_millis(backoff),
            budgeted: true,
        };
        assert_eq!((first, second), (wait(25), wait(50)));
        assert!(
            !goes_on(tries.after_status(bad, true)),
            "attempts are spent"
        );
    }

    #[test]
    fn the_budget_is_a_share_of_the_requests_in_a_window() {
        let (budget, retry) = (Budget::new(), policy());
        let taken = |now| {
            (0..100)
                .filter(|_| budget.withdraw(Some(&retry), now))
                .count()
        };
        assert_eq!(taken(1), 2, "the least that is always allowed");
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(taken(2), 18, "20 % of 100, of which 2 are spent");
        assert_eq!(taken(10_002), 2, "a new window");
    }
}
