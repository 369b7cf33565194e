//! The loop of one peer in paused time with scripted checks, and the whole thread with real ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::{
    config::{CheckKind, Initial, Percent, TcpCheck},
    health::{
        Verdict,
        check::{Check, Deadline, Outcome},
        origin::{Act, Origin, answer, refusing, target},
        testing,
    },
    reason::Reason,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a scripted check was asked, and when.
#[derive(Clone, Default)]
struct Script {
    results: Arc<Mutex<VecDeque<bool>>>,
    asked: Arc<Mutex<Vec<Instant>>>,
    takes: Duration,
    under_way: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Script {
    /// `+` passes, `-` fails; `+` for ever after.
    fn new(results: &str) -> Self {
        let script = Self::default();
        script.then(results);
        script
    }

    fn then(&self, results: &str) {
        let mut queue = self.results.lock().unwrap();
        queue.extend(results.chars().map(|c| c == '+'));
    }

    /// Milliseconds from `start` at which checks started.
    fn asked(&self, start: Instant) -> Vec<u128> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|at| (*at - start).as_millis()).collect()
    }
}

impl Check for Script {
    async fn check(&mut self, _: &Plan, _: &ProbeTarget, deadline: Deadline) -> Outcome {
        assert!(deadline.at > Instant::now());
        self.asked.lock().unwrap().push(Instant::now());
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        sleep(self.takes).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let pass = self.results.lock().unwrap().pop_front().unwrap_or(true);
        Outcome {
            pass,
            message: format!("GET /healthz: {pass}"),
            connected: true,
        }
    }

    fn forget(&mut self) {}
}

/// A task that checks one peer by a script.
struct Bench {
    start: Instant,
    slot: Arc<Slot>,
    vitals: Arc<Vitals>,
    runner: Runner,
    script: Script,
}

impl Bench {
    fn new(script: Script, check: ActiveCheck, readiness: Readiness) -> Self {
        let start = Instant::now();
        let check = Arc::new(check);
        let mut target = target(&check, "127.0.0.1:1".parse().unwrap());
        target.readiness = readiness;
        let vitals = target.vitals.clone();
        let plan = Arc::new(Plan::new(check));
        let slot = Arc::new(Slot::new(Assignment { target, plan }));
        let runner = Runner::new();
        let common = runner.common.clone();
        tokio::spawn(peer::run(
            slot.clone(),
            script.clone(),
            common,
            Duration::ZERO,
            0,
        ));
        Self {
            start,
            slot,
            vitals,
            runner,
            script,
        }
    }

    /// Waits until `milliseconds` after the start and gives the verdict, the transitions since the last
    /// time, and the last check's place in its row.
    async fn at(&mut self, milliseconds: u64) -> (Verdict, usize, u32) {
        tokio::time::sleep_until(self.start + Duration::from_millis(milliseconds)).await;
        let mut transitions = 0;
        while self.runner.transitions.try_recv().is_ok() {
            transitions += 1;
        }
        let in_a_row = self.vitals.last_check().map_or(0, |last| last.in_a_row);
        (self.vitals.probe(), transitions, in_a_row)
    }

    fn assign(&self, change: impl FnOnce(&mut ProbeTarget)) {
        let old = self.slot.assignment();
        let mut target = old.target.clone();
        change(&mut target);
        let plan = match Arc::ptr_eq(&target.check, &old.target.check) {
            true => old.plan.clone(),
            false => Arc::new(Plan::new(target.check.clone())),
        };
        self.slot.assign(Assignment { target, plan });
    }
}

fn every_second() -> ActiveCheck {
    ActiveCheck {
        interval: SECOND,
        timeout: SECOND,
        ..testing::check(CheckKind::Tcp(TcpCheck::default()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_leaves_and_comes_back_by_its_thresholds() {
    let mut bench = Bench::new(Script::new("+---+-++"), every_second(), Readiness::Ready);
    assert_eq!(bench.at(500).await, (Verdict::Pass, 1, 1));
    assert_eq!(bench.at(2500).await, (Verdict::Pass, 0, 2));
    assert_eq!(bench.at(3500).await, (Verdict::Fail, 1, 3));
    assert_eq!(bench.at(4500).await, (Verdict::Fail, 0, 1));
    assert_eq!(bench.at(6500).await, (Verdict::Fail, 0, 1));
    assert_eq!(bench.at(7500).await, (Verdict::Pass, 1, 2));
    assert_eq!(bench.at(99_500).await, (Verdict::Pass, 0, 94));
    let asked = bench.script.asked(bench.start);
    assert_eq!(asked[..4], [0, 1000, 2000, 3000]);
    assert_eq!(bench.slot.assignment().target.counters.counts(), [96, 4]);
}

#[tokio::test(start_paused = true)]
async fn jitter_moves_the_checks_and_not_their_pace() {
    let check = ActiveCheck {
        jitter: Percent::new(20).unwrap(),
        ..every_second()
    };
    let mut bench = Bench::new(Script::new(""), check, Readiness::Ready);
    bench.at(1_000_500).await;
    let asked = bench.script.asked(bench.start);
    assert_eq!(asked.len(), 1001);
    let waits: Vec<u128> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.iter().all(|wait| (800..=1250).contains(wait)));
    assert!(waits.iter().any(|wait| *wait < 900) && waits.iter().any(|wait| *wait > 1100));
    for (number, at) in asked.iter().enumerate() {
        assert!(at.abs_diff(number as u128 * 1000) <= 151, "{number}: {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_check_does_not_make_the_next_one_early() {
    let script = Script {
        takes: Duration::from_millis(2300),
        ..Script::new("")
    };
    let mut bench = Bench::new(script, every_second(), Readiness::Ready);
    bench.at(10_000).await;
    assert_eq!(bench.script.asked(bench.start), [0, 2300, 4600, 6900, 9200]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_becomes_ready_is_checked_at_once_and_its_pass_counts() {
    let mut bench = Bench::new(Script::new("---"), every_second(), Readiness::Unready);
    assert_eq!(bench.at(2300).await, (Verdict::Fail, 1, 3));
    bench.assign(|target| target.readiness = Readiness::Ready);
    assert_eq!(bench.at(2301).await, (Verdict::Pass, 1, 1));
    // The other way nothing happens before its time.
    bench.assign(|target| target.readiness = Readiness::Draining);
    assert_eq!(bench.at(2900).await, (Verdict::Pass, 0, 1));
    assert_eq!(bench.at(3100).await, (Verdict::Pass, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn another_check_begins_anew_and_keeps_the_verdict_meanwhile() {
    let mut bench = Bench::new(Script::new("+--"), every_second(), Readiness::Ready);
    assert_eq!(bench.at(2300).await, (Verdict::Pass, 1, 2));
    let changed = Arc::new(ActiveCheck {
        unhealthy_threshold: 2,
        initial: Initial::Healthy,
        ..every_second()
    });
    bench.script.then("--");
    bench.assign(|target| target.check = changed);
    assert_eq!(bench.at(2301).await, (Verdict::Pass, 0, 1));
    assert_eq!(bench.at(3301).await, (Verdict::Fail, 1, 2));
    assert_eq!(bench.script.asked(bench.start), [0, 1000, 2000, 2300, 3300]);
    // A failing verdict of another check goes with the first pass.
    bench.assign(|target| target.address = "127.0.0.1:2".parse().unwrap());
    assert_eq!(bench.at(3302).await, (Verdict::Pass, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_new_disturbs_nothing() {
    let mut bench = Bench::new(Script::new("--+"), every_second(), Readiness::Ready);
    bench.at(500).await;
    bench.assign(|_| {});
    assert_eq!(bench.at(1500).await, (Verdict::Unknown, 0, 2));
    bench.assign(|_| {});
    assert_eq!(bench.at(2500).await, (Verdict::Pass, 1, 1));
    assert_eq!(bench.script.asked(bench.start), [0, 1000, 2000]);
}

#[tokio::test(start_paused = true)]
async fn a_pass_on_a_new_connection_ends_the_avoidance_by_requests() {
    let mut bench = Bench::new(Script::new(""), every_second(), Readiness::Ready);
    bench.at(500).await;
    let now = Instant::now();
    bench
        .vitals
        .record_connect_failure(Reason::ConnectRefused, "connection refused", now);
    bench.at(900).await;
    assert!(bench.vitals.connect_failure().is_some());
    bench.at(1100).await;
    assert_eq!(bench.vitals.connect_failure(), None);
    // A port of its own says nothing about the traffic's.
    bench.assign(|target| target.address = "127.0.0.1:2".parse().unwrap());
    bench
        .vitals
        .record_connect_failure(Reason::ConnectRefused, "connection refused", now);
    bench.at(5000).await;
    assert!(bench.vitals.connect_failure().is_some());
}

#[tokio::test(start_paused = true)]
async fn checks_under_way_are_bounded() {
    let script = Script {
        takes: SECOND / 2,
        ..Script::new("")
    };
    let first = Bench::new(script.clone(), every_second(), Readiness::Ready);
    for _ in 0..400 {
        tokio::spawn(peer::run(
            first.slot.clone(),
            script.clone(),
            first.runner.common.clone(),
            Duration::ZERO,
            0,
        ));
    }
    advance(SECOND * 10).await;
    sleep(SECOND).await;
    assert_eq!(script.most.load(Ordering::SeqCst), CHECKS_AT_A_TIME as u64);
}

/// A prober and the transitions that it tells, with a real thread, time and sockets.
struct Whole {
    prober: Prober,
    told: mpsc::UnboundedReceiver<ProbeKey>,
}

impl Whole {
    fn start() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let prober = Prober::start(move |key| {
            let _ = tell.send(key.clone());
        })
        .unwrap();
        Self { prober, told }
    }

    async fn told(&mut self) -> ProbeKey {
        timeout(20 * SECOND, self.told.recv())
            .await
            .expect("a transition in time")
            .unwrap()
    }
}

fn quick(kind: CheckKind) -> Arc<ActiveCheck> {
    Arc::new(ActiveCheck {
        interval: Duration::from_millis(100),
        unhealthy_threshold: 2,
        // So long that no check fails for a machine under load.
        timeout: 5 * SECOND,
        ..testing::check(kind)
    })
}

#[tokio::test]
async fn the_thread_checks_real_peers() {
    let sick = Arc::new(AtomicU64::new(0));
    let state = sick.clone();
    let origin = Origin::start(move |_, _| {
        let status = if state.load(Ordering::SeqCst) == 0 {
            200
        } else {
            503
        };
        Act::Answer(answer(status, ""))
    })
    .await;
    let (_held, refusing) = refusing();
    let mut whole = Whole::start();
    let check = quick(CheckKind::Http(testing::http_check("/healthz")));
    let [up, mut down] = [target(&check, origin.address), target(&check, refusing)];
    down.key.address.set_port(8080);
    whole.prober.sync(vec![up.clone(), down.clone()]);

    let mut told = [whole.told().await, whole.told().await];
    told.sort_by_key(|key| key != &up.key);
    assert_eq!(told, [up.key.clone(), down.key.clone()]);
    assert_eq!(
        (up.vitals.probe(), down.vitals.probe()),
        (Verdict::Pass, Verdict::Fail)
    );
    let message = format!(
        "GET /healthz on port {}: connection refused",
        refusing.port()
    );
    assert_eq!(down.vitals.last_check().unwrap().message, message);
    let counts = (up.counters.counts(), down.counters.counts());
    assert!(counts.0[0] >= 1 && counts.1[1] >= 2, "{counts:?}");

    // The same again, in a new table: nothing is lost.
    let mut again = up.clone();
    again.check = Arc::new((*check).clone());
    whole.prober.sync(vec![again]);
    sick.store(1, Ordering::SeqCst);
    assert_eq!(whole.told().await, up.key);
    assert_eq!(up.vitals.probe(), Verdict::Fail);
    let last = up.vitals.last_check().unwrap();
    assert_eq!(last.message, "GET /healthz: HTTP 503, want 200-399");
    // The one that is not checked any more is taken for unchecked.
    assert_eq!(down.vitals.probe(), Verdict::Unknown);
    assert_eq!(down.vitals.last_check(), None);

    sick.store(0, Ordering::SeqCst);
    assert_eq!(whole.told().await, up.key);
    assert_eq!(up.vitals.probe(), Verdict::Pass);
}
