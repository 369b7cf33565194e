//! The rules, the bounds and the trial, by the calls that data threads and tables make.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;

use proptest::prelude::*;
use tokio::time::{Instant, advance};

use super::{detector::History, *};
use crate::{
    config::{ErrorPercent, HealthPolicy, Initial, Percent, Readiness, Terminating, UpstreamId},
    health::{
        Verdict, Vitals,
        testing::{passive, policy},
    },
};

const SECOND: Duration = Duration::from_secs(1);

type Changes = Arc<Mutex<Vec<String>>>;
type Heard = Box<dyn Fn(&ProbeKey) + Send>;

/// Peers of one upstream, with the detector that judges them.
struct Ward {
    judge: detector::Judge<Heard>,
    targets: Vec<OutlierTarget>,
    changes: Changes,
}

fn key(number: usize) -> ProbeKey {
    ProbeKey {
        upstream: UpstreamId {
            namespace: "shop".into(),
            service: "web".into(),
            port: "http".into(),
        },
        address: ([10, 0, 0, number as u8], 80).into(),
        uid: String::new(),
    }
}

fn target(number: usize, health: &Arc<HealthPolicy>) -> OutlierTarget {
    OutlierTarget {
        key: key(number),
        vitals: Arc::new(Vitals::new(Readiness::Ready, Instant::now())),
        readiness: Readiness::Ready,
        health: Arc::clone(health),
        counters: Arc::default(),
    }
}

fn health(passive: OutlierPolicy) -> HealthPolicy {
    HealthPolicy {
        passive: Some(passive),
        ..policy(Some(Initial::Healthy), false, Terminating::LastResort)
    }
}

fn targets(peers: usize, passive: OutlierPolicy) -> Vec<OutlierTarget> {
    let health = Arc::new(health(passive));
    (0..peers).map(|number| target(number, &health)).collect()
}

impl Ward {
    fn new(peers: usize, passive: OutlierPolicy) -> Self {
        let changes = Changes::default();
        let heard = Arc::clone(&changes);
        let on_transition: Heard =
            Box::new(move |key| heard.lock().unwrap().push(key.address.to_string()));
        let mut ward = Self {
            judge: detector::Judge::new(on_transition),
            targets: targets(peers, passive),
            changes,
        };
        ward.sync();
        ward
    }

    fn sync(&mut self) {
        self.judge.sync(self.targets.clone());
    }

    fn vitals(&self, peer: usize) -> &Arc<Vitals> {
        &self.targets[peer].vitals
    }

    /// What the health thread would do now.
    fn settle(&mut self) {
        while let Ok(alarm) = self.judge.alarms.try_recv() {
            self.judge.alarm(alarm, Instant::now());
        }
        self.judge.offer_trials(Instant::now());
    }

    fn fail(&mut self, peer: usize, times: usize) {
        for _ in 0..times {
            self.vitals(peer)
                .failed("connection reset", None, Instant::now());
        }
        self.settle();
    }

    fn answer(&mut self, peer: usize, status: u16, times: usize) {
        for _ in 0..times {
            self.vitals(peer).answered(status, None, Instant::now());
        }
        self.settle();
    }

    /// A request on trial, and what comes of it; `None` if there is no trial to be had.
    fn trial(&mut self, peer: usize, status: u16) -> Option<()> {
        let vitals = Arc::clone(self.vitals(peer));
        vitals
            .claim_trial(true, false, Instant::now())
            .then_some(())?;
        let guard = vitals.track();
        vitals.answered(status, Some(&guard), Instant::now());
        drop(guard);
        self.settle();
        Some(())
    }

    /// The numbers of the peers that are ejected.
    fn out(&self) -> Vec<usize> {
        (0..self.targets.len())
            .filter(|peer| self.vitals(*peer).outlier() == Verdict::Fail)
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn errors_in_a_row_eject_and_an_answer_interrupts_them() {
    let mut ward = Ward::new(3, passive());
    ward.fail(0, 4);
    ward.answer(0, 503, 1);
    ward.fail(0, 4);
    assert_eq!(ward.out(), [] as [usize; 0]);
    ward.fail(0, 1);
    assert_eq!(ward.out(), [0]);
    assert_eq!(*ward.changes.lock().unwrap(), ["10.0.0.0:80"]);
    let ejection = ward.vitals(0).ejection().unwrap();
    assert_eq!(ejection.what, "5 errors in a row (connection reset)");
    assert_eq!((ejection.times, ejection.length), (1, 10 * SECOND));
    assert_eq!(ward.targets[0].counters.counts(), [1, 0, 0, 0]);
    // 5xx are no rule here.
    ward.answer(1, 500, 100);
    assert_eq!(ward.out(), [0]);
}

/// A response whose body breaks off, or not.
fn respond(ward: &mut Ward, peer: usize, whole: bool) {
    let guard = ward.vitals(peer).track();
    ward.answer(peer, 200, 1);
    if whole {
        guard.completed();
    } else {
        guard.broke_off("unexpected end of file", Instant::now());
    }
    ward.settle();
}

#[tokio::test(start_paused = true)]
async fn responses_that_break_off_eject_although_they_had_begun() {
    let mut ward = Ward::new(3, passive());
    for whole in [false, false, false, false, true, false, false, false, false] {
        respond(&mut ward, 0, whole);
    }
    assert_eq!(ward.out(), [] as [usize; 0]);
    respond(&mut ward, 0, false);
    assert_eq!(ward.out(), [0]);
    assert_eq!(
        ward.vitals(0).ejection().unwrap().what,
        "5 responses that broke off in a row (unexpected end of file)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_one_failed_request() {
    let mut ward = Ward::new(2, percent(50, 20));
    for whole in [true, false].repeat(9) {
        respond(&mut ward, 0, whole);
    }
    respond(&mut ward, 0, true);
    assert_eq!(ward.out(), [] as [usize; 0]);
    respond(&mut ward, 0, false);
    assert_eq!(ward.out(), [0]);
    let what = &ward.vitals(0).ejection().unwrap().what;
    assert!(what.starts_with("10 of 20 requests"), "{what}");
}

#[tokio::test(start_paused = true)]
async fn responses_of_5xx_in_a_row_eject_where_they_are_a_rule() {
    let mut ward = Ward::new(
        2,
        OutlierPolicy {
            consecutive_5xx: 3,
            ..passive()
        },
    );
    ward.answer(0, 500, 2);
    ward.answer(0, 404, 1);
    ward.answer(0, 599, 2);
    // Where there was no answer, there was no good one.
    ward.fail(0, 1);
    assert_eq!(ward.out(), [] as [usize; 0]);
    ward.answer(0, 503, 1);
    assert_eq!(ward.out(), [0]);
    let what = &ward.vitals(0).ejection().unwrap().what;
    assert_eq!(what, "3 responses of 5xx in a row (HTTP 503)");
}

fn percent(threshold: u8, min_requests: u32) -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: 0,
        error_percent: Some(ErrorPercent {
            threshold: Percent::new(threshold).unwrap(),
            min_requests,
            window: 10 * SECOND,
        }),
        ..passive()
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_of_errors_ejects_once_there_are_enough_requests() {
    let mut ward = Ward::new(2, percent(50, 20));
    for _ in 0..9 {
        ward.answer(0, 500, 1);
        ward.answer(0, 200, 1);
    }
    ward.answer(0, 200, 1);
    assert_eq!(ward.out(), [] as [usize; 0]);
    // The twentieth is the tenth error.
    ward.fail(0, 1);
    assert_eq!(ward.out(), [0]);
    let what = &ward.vitals(0).ejection().unwrap().what;
    assert_eq!(
        what,
        "10 of 20 requests within 10s failed (connection reset at last)"
    );
    // What is older than the window does not count.
    ward.answer(1, 500, 19);
    advance(10 * SECOND).await;
    ward.answer(1, 500, 19);
    assert_eq!(ward.out(), [0]);
}

proptest! {
    /// A peer is ejected by an error after which the share in the window is reached, and by nothing else.
    #[test]
    fn the_share_is_that_of_one_who_remembers_everything(
        threshold in 1_u8..=100,
        least in 1_u32..30,
        requests in proptest::collection::vec((0_u64..3, any::<bool>()), 1..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _guard = runtime.enter();
        let mut ward = Ward::new(2, percent(threshold, least));
        let start = Instant::now();
        let mut second = 0;
        let mut past: Vec<(u64, bool)> = Vec::new();
        for (wait, error) in requests {
            second += wait;
            past.push((second, error));
            past.retain(|(at, _)| at + 10 > second);
            let errors = past.iter().filter(|(_, error)| *error).count();
            let wanted = error
                && past.len() >= least as usize
                && errors * 100 >= past.len() * usize::from(threshold);
            // A moment later than the peer became known, so that seconds fall into slices alike.
            let now = start + Duration::from_millis(second * 1000 + 500);
            let status = if error { 500 } else { 200 };
            ward.vitals(0).answered(status, None, now);
            ward.settle();
            prop_assert_eq!(ward.out().len(), usize::from(wanted));
            if wanted {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_always_room_for_one_and_always_one_left() {
    for (peers, share, out) in [
        (1, 100, 0),
        (2, 0, 1),
        (2, 50, 1),
        (2, 100, 1),
        (3, 10, 1),
        (3, 50, 1),
        (3, 67, 2),
        (3, 100, 2),
        (4, 50, 2),
        (10, 25, 2),
    ] {
        let mut ward = Ward::new(
            peers,
            OutlierPolicy {
                max_ejected: Percent::new(share).unwrap(),
                ..passive()
            },
        );
        for peer in 0..peers {
            ward.fail(peer, 5);
        }
        assert_eq!(ward.out(), Vec::from_iter(0..out), "{peers} {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_ejection_is_asked_for_again() {
    let mut ward = Ward::new(3, passive());
    ward.fail(0, 5);
    ward.fail(1, 5);
    assert_eq!(ward.out(), [0]);
    advance(10 * SECOND).await;
    ward.settle();
    ward.trial(0, 200).unwrap();
    assert_eq!(ward.out(), [] as [usize; 0]);
    ward.fail(1, 1);
    assert_eq!(ward.out(), [1]);
}

/// What a check says is not the detector's business: it neither takes a place nor saves one.
#[tokio::test(start_paused = true)]
async fn only_ejections_count_and_the_last_that_serves_stays() {
    let at = Timestamp::now();
    let mut ward = Ward::new(3, passive());
    ward.vitals(2).set_probe(Verdict::Fail, at);
    ward.fail(2, 5);
    assert_eq!(ward.out(), [] as [usize; 0], "out already");
    ward.fail(0, 5);
    assert_eq!(ward.out(), [0]);

    let mut ward = Ward::new(2, passive());
    ward.vitals(1).set_probe(Verdict::Fail, at);
    ward.fail(0, 5);
    assert_eq!(ward.out(), [] as [usize; 0], "nobody else serves");
    ward.vitals(1).set_probe(Verdict::Pass, at);
    ward.fail(0, 1);
    assert_eq!(ward.out(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_drains_is_not_ejected() {
    let mut ward = Ward::new(3, passive());
    ward.targets[0].readiness = Readiness::Draining;
    ward.sync();
    ward.fail(0, 50);
    assert_eq!(ward.out(), [] as [usize; 0]);
}

#[tokio::test(start_paused = true)]
async fn one_trial_decides() {
    let mut ward = Ward::new(
        2,
        OutlierPolicy {
            consecutive_5xx: 5,
            ..passive()
        },
    );
    ward.fail(0, 5);
    assert!(ward.trial(0, 200).is_none(), "before its time");
    // What was under way, or comes in a panic, decides nothing.
    ward.answer(0, 200, 10);
    ward.fail(0, 10);
    // Nor does a check that passes.
    ward.vitals(0).set_probe(Verdict::Pass, Timestamp::now());
    ward.settle();
    assert_eq!(ward.out(), [0]);

    for (seconds, times) in [
        (10, 2),
        (20, 3),
        (30, 4),
        (40, 5),
        (50, 6),
        (60, 6),
        (60, 6),
    ] {
        advance(seconds * SECOND - Duration::from_millis(1)).await;
        ward.settle();
        assert!(ward.trial(0, 200).is_none());
        advance(Duration::from_millis(1)).await;
        ward.settle();
        assert!(ward.vitals(0).on_trial());
        ward.trial(0, 500).unwrap();
        let ejection = ward.vitals(0).ejection().unwrap();
        assert_eq!((ejection.rule, ejection.times), (Rule::Trial, times));
        assert_eq!(ejection.what, "the trial request failed (HTTP 500)");
        assert!(!ward.vitals(0).on_trial());
    }
    advance(60 * SECOND).await;
    ward.settle();
    ward.trial(0, 404).unwrap();
    assert_eq!(ward.vitals(0).outlier(), Verdict::Pass);
    assert_eq!(ward.vitals(0).ejection(), None);
    // It has no past but the number of its ejections.
    ward.fail(0, 4);
    assert_eq!(ward.out(), [] as [usize; 0]);
    assert_eq!(ward.targets[0].counters.counts(), [1, 0, 0, 7]);
}

#[tokio::test(start_paused = true)]
async fn one_request_has_the_trial_and_gives_it_back_if_nothing_came_of_it() {
    let mut ward = Ward::new(2, passive());
    ward.fail(0, 5);
    advance(10 * SECOND).await;
    ward.settle();
    let vitals = Arc::clone(ward.vitals(0));
    let now = Instant::now();
    let claims: usize = std::thread::scope(|scope| {
        let claim = || {
            (0..100)
                .filter(|_| vitals.claim_trial(true, false, now))
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(claim)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(claims, 1);
    let guard = vitals.track();
    assert!(!vitals.claim_trial(true, false, now));
    // Another request that ends meanwhile, as in a panic, is not the trial.
    let other = vitals.track();
    vitals.failed("connection reset", Some(&other), now);
    drop(other);
    assert!(!vitals.claim_trial(true, false, now));
    drop(guard);
    assert!(vitals.claim_trial(true, false, now));
    // A claim that nobody used is free again after a while.
    assert!(!vitals.claim_trial(true, false, now));
    advance(SECOND).await;
    assert!(vitals.claim_trial(true, false, Instant::now()));
    assert_eq!(ward.out(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_trial_is_left_to_what_can_be_repeated_for_a_while() {
    let mut ward = Ward::new(2, passive());
    ward.fail(0, 5);
    let vitals = Arc::clone(ward.vitals(0));
    let claim = |repeatable, early| {
        let claimed = vitals.claim_trial(repeatable, early, Instant::now());
        if claimed {
            drop(vitals.track());
        }
        claimed
    };
    assert!(claim(false, true), "nothing else is left");
    ward.settle();
    assert_eq!(ward.out(), [0]);
    advance(10 * SECOND).await;
    ward.settle();
    assert!(!claim(false, false));
    assert!(claim(true, false));
    advance(SECOND).await;
    assert!(claim(false, false));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_goes_takes_its_ejections_along() {
    let mut ward = Ward::new(2, passive());
    ward.fail(0, 5);
    let without = Arc::new(HealthPolicy {
        passive: None,
        ..(*ward.targets[0].health).clone()
    });
    for target in &mut ward.targets {
        target.health = Arc::clone(&without);
    }
    ward.sync();
    assert_eq!(ward.vitals(0).outlier(), Verdict::Unknown);
    assert_eq!(ward.changes.lock().unwrap().len(), 2);
    ward.fail(0, 50);
    assert_eq!(ward.out(), [] as [usize; 0]);
    let again = Arc::new(health(passive()));
    for target in &mut ward.targets {
        target.health = Arc::clone(&again);
    }
    ward.sync();
    ward.fail(0, 5);
    assert_eq!(ward.out(), [0]);
    assert_eq!(ward.vitals(0).ejection().unwrap().times, 1);
}

#[test]
fn ejections_grow_and_are_forgotten() {
    let now = Instant::now();
    let policy = passive();
    let mut history = History::default();
    let mut at = now;
    for seconds in [10, 20, 30] {
        assert_eq!(history.eject(&policy, at), Duration::from_secs(seconds));
        history.end(at);
        at += 9 * SECOND;
    }
    assert_eq!(history.times(), 3);
    at += 11 * SECOND;
    assert_eq!(history.eject(&policy, at), 20 * SECOND, "two are forgotten");
    history.end(at);
    at += 1000 * SECOND;
    assert_eq!(history.eject(&policy, at), 10 * SECOND);
    for _ in 0..100 {
        assert!(history.eject(&policy, at) <= 60 * SECOND);
    }
    assert_eq!(history.times(), 6);
}

#[tokio::test(start_paused = true)]
async fn the_task_reacts_at_once_and_keeps_the_time() {
    let (sender, mut changes) = mpsc::unbounded_channel();
    let (detector, task) = Detector::new(move |key: &ProbeKey| sender.send(key.clone()).unwrap());
    let task = tokio::spawn(task);
    let targets = targets(2, passive());
    detector.sync(targets.clone());
    tokio::task::yield_now().await;
    let start = Instant::now();
    let vitals = &targets[0].vitals;
    for _ in 0..5 {
        vitals.failed("connection refused", None, start);
    }
    assert_eq!(changes.recv().await.unwrap(), key(0));
    assert_eq!(
        (vitals.outlier(), start.elapsed()),
        (Verdict::Fail, Duration::ZERO)
    );
    assert_eq!(changes.recv().await.unwrap(), key(0));
    assert!(vitals.on_trial());
    let late = start.elapsed() - 10 * SECOND;
    assert!(late <= Duration::from_millis(2), "{late:?}");
    assert!(vitals.claim_trial(true, false, Instant::now()));
    let guard = vitals.track();
    vitals.answered(200, Some(&guard), Instant::now());
    assert_eq!(changes.recv().await.unwrap(), key(0));
    assert_eq!(vitals.outlier(), Verdict::Pass);
    drop(detector);
    task.await.unwrap();
}
