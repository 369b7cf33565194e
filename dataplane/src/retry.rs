//! May this be tried again?
//!
//! What was certainly not processed may go to another peer, whatever its method. What was sent may be
//! sent again only if that cannot do harm (it is idempotent, or its policy says so) and can be done (its
//! body was kept). Retries have a budget for each upstream, because the moment when everything fails is
//! the moment when retries would double the load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use jiff::Timestamp;

use crate::{
    config::{NonIdempotent, Protocol, Retry, RetryBudget, SamePeer},
    forward::{AttemptError, Phase},
    reason::Reason,
};

/// Tries of a request that was never sent, without a policy: the first and two more.
const CONNECT_TRIES: u32 = 3;
/// Refused connections of one request that count as no try while there is a peer that was not asked: they cost
/// next to nothing, and in a rollout several pods may be gone before Kubernetes says so.
const REFUSALS: u32 = 8;
/// Retries under way for each hundred requests under way, where no policy has a budget.
const DEFAULT_PERCENT: u64 = 20;
/// Retries under way that are always allowed, where no policy has a budget.
const DEFAULT_LEAST: u64 = 3;
/// The longest `Retry-After` that is waited for; a peer that asks for more has its answer passed on, because
/// the client can wait better than we.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(1);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What is known of a request before its first attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// Sending it twice does what sending it once does (RFC 9110 §9.2.2), or its client or policy says
    /// that it may be sent twice.
    pub(crate) repeatable: bool,
    /// It is gRPC, and its policy names codes that may be tried again.
    grpc: bool,
    /// Its peer can say that it did not look at it, after it was sent.
    refusable: bool,
}

impl Nature {
    pub(crate) fn of(
        method: &Method,
        headers: &HeaderMap,
        retry: Option<&Retry>,
        protocol: Protocol,
    ) -> Self {
        let declared = || match retry.map(|retry| retry.non_idempotent) {
            Some(NonIdempotent::Always) => true,
            Some(NonIdempotent::WithIdempotencyKey) => headers.contains_key("idempotency-key"),
            Some(NonIdempotent::Never) | None => false,
        };
        Self {
            repeatable: is_idempotent(method) || declared(),
            grpc: retry.is_some_and(|retry| !retry.grpc_codes.is_empty()) && is_grpc(headers),
            refusable: protocol == Protocol::Http2,
        }
    }

    /// An upgrade, which is never sent again.
    pub(crate) const fn upgrade() -> Self {
        Self {
            repeatable: false,
            grpc: false,
            refusable: false,
        }
    }

    /// Whether there are outcomes after which it would be sent again, so that it should be kept.
    pub(crate) const fn kept(self) -> bool {
        self.repeatable || self.grpc || self.refusable
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// What decides whether an answer is passed on or the request tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    /// Of an answer without messages: its gRPC status is in the head.
    grpc: Option<u32>,
    /// `Retry-After`, where it can be read.
    wait: Duration,
}

impl Reply {
    pub(crate) fn of<B>(response: &Response<B>) -> Self {
        let status = response.status();
        let headers = response.headers();
        let number = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
        let asks = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let wait = headers.get(header::RETRY_AFTER).filter(|_| asks);
        Self {
            status,
            grpc: headers.get(GRPC_STATUS).and_then(number),
            wait: wait.and_then(retry_after).unwrap_or_default(),
        }
    }

    /// Whether any policy could want another try after it.
    pub(crate) fn worth_a_look(self) -> bool {
        self.status.as_u16() >= 400 || self.grpc.is_some_and(|code| code != 0)
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()?;
    Duration::try_from(at.duration_since(Timestamp::now())).ok()
}

/// RFC 9110 §9.2.2; TRACE never gets here.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}

impl Next {
    /// At once, and without asking the budget.
    const fn at_once(reuse: bool) -> Self {
        Self::Again {
            reuse,
            backoff: Duration::ZERO,
            at_least: Duration::ZERO,
            budgeted: false,
        }
    }
}

/// The tries of one request.
pub(crate) struct Tries<'a> {
    retry: Option<&'a Retry>,
    nature: Nature,
    /// Attempts made.
    made: u32,
    /// Attempts that failed after something was sent.
    sent: u32,
    /// Connections that were refused while there was another peer.
    refused: u32,
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
        /// The wait before, at least: the peer asked for it.
        at_least: Duration,
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
            refused: 0,
        }
    }

    /// Whether the peer that failed may be tried again when no other is left.
    pub(crate) fn same_peer(&self) -> bool {
        self.retry
            .is_some_and(|retry| retry.same_peer == SamePeer::LastResort)
    }

    /// After an attempt without a response. `replayable`: the whole request can be made again; `others`:
    /// there is an eligible peer that it was not sent to.
    pub(crate) fn after_error(
        &mut self,
        error: &AttemptError,
        replayable: bool,
        others: bool,
    ) -> Next {
        // The peer was found failing, and there is another that is not: nothing was wrong with the request.
        // This ends, because no peer is given up twice.
        if error.gave_up {
            return if error.unsent() || (self.nature.repeatable && replayable) {
                Next::at_once(true)
            } else {
                Next::Stop
            };
        }
        let refused = error.phase == Phase::Connect && error.reason == Reason::ConnectRefused;
        if refused && others && self.refused < REFUSALS && self.retries_connect_errors() {
            self.refused += 1;
            return Next::at_once(true);
        }
        self.made += 1;
        if error.unsent() {
            let most = self
                .retry
                .map_or(CONNECT_TRIES, |retry| CONNECT_TRIES.max(retry.attempts + 1));
            let wanted = self.retries_connect_errors();
            let again = self.made < most && wanted && (error.request.is_some() || replayable);
            // Refusing a stream or closing an idle connection is no sign of trouble; refusing a
            // connection is one of this peer alone. Neither is worth a wait.
            return if again {
                Next::at_once(error.phase != Phase::Unsent)
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
            _ if error.reused && !timeout && self.sent == 1 => Next::at_once(false),
            None if !timeout && self.sent == 1 => Next::Again {
                reuse: false,
                backoff: Duration::ZERO,
                at_least: Duration::ZERO,
                budgeted: true,
            },
            Some(retry) if self.made <= retry.attempts => {
                let wanted = if timeout {
                    retry.on.timeout
                } else {
                    retry.on.reset
                };
                if wanted {
                    self.paced(retry, timeout, Duration::ZERO)
                } else {
                    Next::Stop
                }
            }
            _ => Next::Stop,
        }
    }

    fn retries_connect_errors(&self) -> bool {
        self.retry.is_none_or(|retry| retry.on.connect_error)
    }

    /// After a response, none of which was passed on yet.
    ///
    /// A gRPC status that the policy names is tried again whatever `nonIdempotent` says: every gRPC call is a
    /// POST, and an answer without a message is how servers say that they did not take it on.
    pub(crate) fn after_answer(&mut self, reply: Reply, replayable: bool) -> Next {
        self.made += 1;
        self.sent += 1;
        match self.retry {
            Some(retry)
                if self.made <= retry.attempts
                    && replayable
                    && reply.wait <= RETRY_AFTER_MOST
                    && self.unwelcome(retry, reply) =>
            {
                self.paced(retry, true, reply.wait)
            }
            _ => Next::Stop,
        }
    }

    fn unwelcome(&self, retry: &Retry, reply: Reply) -> bool {
        let by_status = self.nature.repeatable && retry.codes.contains(&reply.status.as_u16());
        let by_code = |code: u32| self.nature.grpc && retry.grpc_codes.contains(&code);
        by_status || reply.grpc.is_some_and(by_code)
    }

    fn paced(&self, retry: &Retry, reuse: bool, at_least: Duration) -> Next {
        let factor = 1 << (self.made - 1).min(6);
        Next::Again {
            reuse,
            backoff: retry.backoff * factor,
            at_least,
            budgeted: true,
        }
    }
}

/// Retries in proportion to requests. With a policy, in windows: of each interval's requests a share, and
/// always a few. Without, a share of the requests under way. Counters, no lock; a race at the turn of a window
/// miscounts by a request.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    /// Milliseconds of the process' clock, when the window began.
    window: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    /// Retries under way that no policy bounds.
    under_way: Arc<AtomicU32>,
}

/// A retry that the budget allowed; it is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Option<Arc<AtomicU32>>);

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(under_way) = &self.0 {
            under_way.fetch_sub(1, Relaxed);
        }
    }
}

impl Budget {
    /// A request came.
    pub(crate) fn deposit(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// One more retry now (`now_ms` is any monotonic clock), `active` requests being under way; `None` if
    /// there is no room for it.
    pub(crate) fn withdraw(
        &self,
        retry: Option<&Retry>,
        active: impl FnOnce() -> u64,
        now_ms: u64,
    ) -> Option<Permit> {
        match retry {
            Some(retry) => self
                .within_window(retry.budget, now_ms)
                .then_some(Permit(None)),
            None => {
                let permit = Permit(Some(Arc::clone(&self.under_way)));
                let allowed = DEFAULT_LEAST.max(active() * DEFAULT_PERCENT / 100);
                let taken = self.under_way.fetch_add(1, Relaxed);
                (u64::from(taken) < allowed).then_some(permit)
            }
        }
    }

    fn within_window(&self, budget: RetryBudget, now_ms: u64) -> bool {
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
            gave_up: false,
            request: unsent.then(|| Request::new(RequestBody::empty())),
        }
    }

    fn nature(method: Method, retry: Option<&Retry>) -> Nature {
        Nature::of(&method, &HeaderMap::new(), retry, Protocol::Http1)
    }

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Reply {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            let value = value.parse().unwrap();
            response.headers_mut().insert(*name, value);
        }
        Reply::of(&response)
    }

    fn goes_on(next: Next) -> bool {
        next != Next::Stop
    }

    #[test]
    fn what_was_not_sent_is_tried_three_times_whatever_the_method() {
        for method in [Method::GET, Method::POST, Method::PATCH] {
            let mut tries = Tries::new(None, nature(method, None));
            let refused = error(Phase::Connect, Reason::ConnectRefused, false);
            assert!(goes_on(tries.after_error(&refused, false, false)));
            assert!(goes_on(tries.after_error(&refused, false, false)));
            assert!(!goes_on(tries.after_error(&refused, false, false)));
        }
    }

    #[test]
    fn refusals_count_as_tries_only_where_no_other_peer_is_left() {
        let mut post = Tries::new(None, nature(Method::POST, None));
        let refused = error(Phase::Connect, Reason::ConnectRefused, false);
        for _ in 0..REFUSALS {
            assert!(goes_on(post.after_error(&refused, false, true)));
        }
        let slow = error(Phase::Connect, Reason::ConnectTimeout, false);
        assert!(goes_on(post.after_error(&slow, false, true)));
        assert!(goes_on(post.after_error(&refused, false, true)));
        assert!(!goes_on(post.after_error(&refused, false, true)));
    }

    #[test]
    fn what_was_sent_is_repeated_only_if_idempotent_and_kept() {
        let reset = error(Phase::Sent, Reason::UpstreamReset, true);
        let mut get = Tries::new(None, nature(Method::GET, None));
        let fresh = Next::at_once(false);
        assert_eq!(get.after_error(&reset, true, false), fresh);
        assert!(!goes_on(get.after_error(&reset, true, false)), "once");
        let mut put = Tries::new(None, nature(Method::PUT, None));
        assert!(
            !goes_on(put.after_error(&reset, false, false)),
            "its body is gone"
        );
        let mut post = Tries::new(None, nature(Method::POST, None));
        assert!(!goes_on(post.after_error(&reset, true, false)));
    }

    #[test]
    fn an_idempotency_key_counts_where_the_policy_says_so() {
        let mut retry = policy();
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", "1".parse().unwrap());
        let post = |headers: &HeaderMap, retry: &Retry| {
            Nature::of(&Method::POST, headers, Some(retry), Protocol::Http1).repeatable
        };
        assert!(!post(&headers, &retry));
        retry.non_idempotent = NonIdempotent::WithIdempotencyKey;
        assert!(post(&headers, &retry));
        assert!(!post(&HeaderMap::new(), &retry));
    }

    #[test]
    fn timeouts_and_statuses_are_tried_again_only_by_policy() {
        let retry = policy();
        let late = error(Phase::Sent, Reason::UpstreamTimeout, false);
        let get = || nature(Method::GET, None);
        assert!(!goes_on(
            Tries::new(None, get()).after_error(&late, true, false)
        ));
        assert!(!goes_on(
            Tries::new(Some(&retry), get()).after_error(&late, true, false)
        ));
        let bad = answer(503, &[]);
        assert!(!goes_on(Tries::new(None, get()).after_answer(bad, true)));
        let mut tries = Tries::new(Some(&retry), get());
        assert!(
            !goes_on(tries.after_answer(answer(502, &[]), true)),
            "not listed"
        );
        let mut tries = Tries::new(Some(&retry), get());
        let first = tries.after_answer(bad, true);
        let second = tries.after_answer(bad, true);
        let wait = |backoff| Next::Again {
            reuse: true,
            backoff: Duration::from_millis(backoff),
            at_least: Duration::ZERO,
            budgeted: true,
        };
        assert_eq!((first, second), (wait(25), wait(50)));
        assert!(
            !goes_on(tries.after_answer(bad, true)),
            "attempts are spent"
        );
    }

    #[test]
    fn a_peer_that_is_given_up_costs_no_try() {
        let given_up = |phase| AttemptError {
            gave_up: true,
            ..error(phase, Reason::NoEligiblePeer, true)
        };
        let mut get = Tries::new(None, nature(Method::GET, None));
        for _ in 0..10 {
            let next = get.after_error(&given_up(Phase::Sent), true, true);
            assert_eq!(next, Next::at_once(true));
        }
        let reset = error(Phase::Sent, Reason::UpstreamReset, false);
        assert!(
            goes_on(get.after_error(&reset, true, false)),
            "the first failure"
        );
        let mut post = Tries::new(None, nature(Method::POST, None));
        assert!(!goes_on(post.after_error(
            &given_up(Phase::Sent),
            true,
            true
        )));
        assert!(goes_on(post.after_error(
            &given_up(Phase::Connect),
            false,
            true
        )));
    }

    #[test]
    fn a_stream_that_was_refused_is_sent_again_whatever_the_method() {
        let post = Nature::of(&Method::POST, &HeaderMap::new(), None, Protocol::Http2);
        assert!(post.kept() && !post.repeatable);
        let mut refused = error(Phase::Unsent, Reason::UpstreamReset, true);
        refused.request = None;
        let mut tries = Tries::new(None, post);
        assert!(
            !goes_on(tries.after_error(&refused, false, false)),
            "its body is gone"
        );
        assert!(goes_on(tries.after_error(&refused, true, false)));
        let reset = error(Phase::Sent, Reason::UpstreamReset, true);
        assert!(!goes_on(
            Tries::new(None, post).after_error(&reset, true, false)
        ));
    }

    #[test]
    fn a_peer_may_ask_for_a_short_wait() {
        let retry = policy();
        let after =
            |answer| Tries::new(Some(&retry), nature(Method::GET, None)).after_answer(answer, true);
        let wait = |at_least| Next::Again {
            reuse: true,
            backoff: Duration::from_millis(25),
            at_least,
            budgeted: true,
        };
        let asking = |value| after(answer(503, &[("retry-after", value)]));
        assert_eq!(asking("1"), wait(Duration::from_secs(1)));
        assert_eq!(asking("0"), wait(Duration::ZERO));
        assert_eq!(asking("2"), Next::Stop);
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(asking(past), wait(Duration::ZERO));
        assert_eq!(asking("Fri, 01 Jan 2100 00:00:00 GMT"), Next::Stop);
        assert_eq!(asking("soon"), wait(Duration::ZERO));
    }

    #[test]
    fn a_grpc_status_in_the_head_is_tried_again_if_it_is_named() {
        let retry = Retry {
            grpc_codes: vec![14],
            ..policy()
        };
        let mut headers = HeaderMap::new();
        let call =
            |headers: &HeaderMap| Nature::of(&Method::POST, headers, Some(&retry), Protocol::Http2);
        let unavailable = answer(200, &[("grpc-status", "14")]);
        let after = |nature, answer| Tries::new(Some(&retry), nature).after_answer(answer, true);
        assert!(!goes_on(after(call(&headers), unavailable)), "not gRPC");
        headers.insert("content-type", "application/grpc".parse().unwrap());
        assert!(goes_on(after(call(&headers), unavailable)));
        let unknown = answer(200, &[("grpc-status", "2")]);
        assert!(!goes_on(after(call(&headers), unknown)), "not named");
        assert!(
            !goes_on(after(call(&headers), answer(200, &[]))),
            "messages"
        );
        assert!(!goes_on(after(call(&headers), answer(503, &[]))), "a POST");
    }

    #[test]
    fn without_a_policy_a_share_of_what_is_under_way_may_be_retries() {
        let budget = Budget::default();
        let withdraw = |active| budget.withdraw(None, || active, 0);
        let few: Vec<Permit> = std::iter::from_fn(|| withdraw(10)).collect();
        assert_eq!(few.len(), 3, "the least that is always allowed");
        let more: Vec<Permit> = std::iter::from_fn(|| withdraw(100)).collect();
        assert_eq!(more.len(), 17, "20 % of 100, of which 3 are under way");
        drop((few, more));
        assert!(withdraw(1).is_some(), "those have ended");
    }

    #[test]
    fn the_budget_is_a_share_of_the_requests_in_a_window() {
        let (budget, retry) = (Budget::default(), policy());
        let taken = |now| {
            (0..100)
                .filter(|_| budget.withdraw(Some(&retry), || 0, now).is_some())
                .count()
        };
        assert_eq!(taken(1), 2, "the least that is always allowed");
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(taken(2), 18, "20 % of 100, of which 2 are spent");
        assert_eq!(taken(10_002), 2, "a new window");
    }
}
