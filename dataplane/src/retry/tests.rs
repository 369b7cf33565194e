//! What is tried again, and what the budget allows.

use http::Request;

use super::*;
use crate::{
    body::RequestBody,
    config::{Percent, RetryBudget, RetryOn},
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
        late: false,
        silent: false,
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
