//! What is remembered of a peer, and for how long.

use super::*;

fn after(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

#[test]
fn a_connect_error_makes_a_peer_avoided_for_longer_and_longer() {
    let start = Instant::now();
    let vitals = Vitals::new(Readiness::Ready, start);
    assert!(!vitals.is_avoided(start));
    let mut now = start;
    for seconds in [1, 2, 4, 8, 10, 10] {
        vitals.record_connect_failure(Reason::ConnectRefused, "connection refused", now);
        assert!(
            vitals.is_avoided(after(now, seconds * 1000 - 1)),
            "{seconds} s"
        );
        now = after(now, seconds * 1000);
        assert!(!vitals.is_avoided(now), "{seconds} s");
    }
    assert_eq!(vitals.connect_failure().unwrap().0, 6);
    vitals.record_success();
    assert_eq!(vitals.connect_failure(), None);
    vitals.record_connect_failure(Reason::ConnectRefused, "connection refused", now);
    assert!(!vitals.is_avoided(after(now, 1000)));
}

#[test]
fn errors_of_requests_under_way_together_count_as_one_avoidance() {
    let start = Instant::now();
    let vitals = Vitals::new(Readiness::Ready, start);
    for milliseconds in 0..100 {
        vitals.record_connect_failure(
            Reason::ConnectTimeout,
            "no connection within 1s",
            after(start, milliseconds),
        );
    }
    assert!(vitals.is_avoided(after(start, 999)));
    assert!(!vitals.is_avoided(after(start, 1000)));
    let (in_a_row, failure) = vitals.connect_failure().unwrap();
    assert_eq!((in_a_row, failure.reason), (100, Reason::ConnectTimeout));
    assert!(failure.first <= failure.last);
}

#[test]
fn a_success_ends_the_avoidance_at_once() {
    let now = Instant::now();
    let vitals = Vitals::new(Readiness::Ready, now);
    vitals.record_connect_failure(Reason::TlsError, "certificate expired", now);
    assert!(vitals.is_avoided(now));
    vitals.record_success();
    assert!(!vitals.is_avoided(now));
}

#[test]
fn requests_are_counted_until_they_are_dropped() {
    let vitals = Arc::new(Vitals::new(Readiness::Ready, Instant::now()));
    let first = vitals.track();
    let second = vitals.track();
    assert_eq!((vitals.requests(), vitals.in_flight()), (2, 2));
    drop(first);
    assert_eq!((vitals.requests(), vitals.in_flight()), (2, 1));
    drop(second);
    assert_eq!((vitals.requests(), vitals.in_flight()), (2, 0));
}

#[test]
fn a_repeated_word_keeps_its_stamp() {
    let vitals = Vitals::new(Readiness::Unready, Instant::now());
    let before = vitals.readiness_since();
    vitals.set_readiness(Readiness::Unready, None);
    assert_eq!(vitals.readiness_since(), before);
    let at = Timestamp::from_second(4_000_000_000).unwrap();
    assert!(vitals.set_probe(Verdict::Pass, at));
    assert!(!vitals.set_probe(Verdict::Pass, Timestamp::from_second(5).unwrap()));
    assert_eq!((vitals.probe(), vitals.probe_since()), (Verdict::Pass, at));
    vitals.forget_checks();
    assert_eq!(vitals.probe(), Verdict::Unknown);
    assert!(vitals.probe_since() < at);
}
