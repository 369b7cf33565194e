//! The loop of one peer in paused time with scripted checks, and the whole thread with real ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::{sleep, timeout};

use super::*;
use crate::{
    config::{CheckKind, Initial, Percent, TcpCheck},
    fault::Fault,
    health::{
        Verdict,
        check::{Check, Deadline, Outcome, Signs},
        origin::{Act, Origin, answer, refusing, target},
        testing,
    },
    reason::Reason,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a scripted check was asked, and when.
#[derive(Clone, Default)]
struct Script {
    results: Arc<Mutex<VecDeque<char>>>,
    asked: Arc<Mutex<Vec<Instant>>>,
    takes: Duration,
    under_way: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Script {
    /// `+` passes, `-` fails, `!` cannot be made; `+` for ever after.
    fn new(results: &str) -> Self {
        let script = Self::default();
        script.then(results);
        script
    }

    fn then(&self, results: &str) {
        let mut queue = self.results.lock().unwrap();
        queue.extend(results.chars());
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
        let result = self.results.lock().unwrap().pop_front().unwrap_or('+');
        let pass = result == '+';
        Outcome {
            pass,
            message: format!("GET /healthz: {pass}"),
            signs: Signs {
                connected: result != '!',
                fault: (result == '!').then_some(Fault::Own),
            },
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
async fn a_busy_peer_that_answers_nobody_is_silent_at_its_first_failed_check() {
    let script = Script {
        takes: SECOND,
        ..Script::new("----------")
    };
    let check = ActiveCheck {
        unhealthy_threshold: 10,
        ..every_second()
    };
    let mut bench = Bench::new(script, check, Readiness::Ready);
    let answer = |bench: &Bench, times: u32| {
        for _ in 0..times {
            bench.vitals.answered(200, None, Instant::now());
        }
    };
    bench.at(500).await;
    answer(&bench, 7);
    bench.at(2500).await;
    assert!(!bench.vitals.is_silent(), "it might just be slow");
    answer(&bench, 20);
    assert_eq!(bench.at(3500).await, (Verdict::Unknown, 0, 3));
    assert!(!bench.vitals.is_silent(), "it answered requests");
    assert_eq!(bench.at(4500).await, (Verdict::Unknown, 1, 4));
    assert!(bench.vitals.is_silent());
    assert!(bench.vitals.is_avoided(Instant::now()));
    assert!(!bench.vitals.is_unreachable(Instant::now()));
    answer(&bench, 1);
    assert!(!bench.vitals.is_silent(), "it answers again");
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

/// No file descriptor, no port: what is known of the peer stays, and failures before and after are in a row.
#[tokio::test(start_paused = true)]
async fn a_check_that_hale_cannot_make_says_nothing_about_the_peer() {
    let script = Script::new("+--!!!!!-");
    let mut bench = Bench::new(script, every_second(), Readiness::Ready);
    assert_eq!(bench.at(500).await, (Verdict::Pass, 1, 1));
    assert_eq!(bench.at(2500).await, (Verdict::Pass, 0, 2));
    let last = bench.vitals.last_check();
    assert_eq!(bench.at(7500).await, (Verdict::Pass, 0, 2));
    assert_eq!(bench.vitals.last_check(), last);
    assert_eq!(bench.at(8500).await, (Verdict::Fail, 1, 3));
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

/// Many tasks over the same lanes: peers `0..count`, which check as `script` says.
fn crowd(lanes: Lanes, count: u64, check: &ActiveCheck, script: impl Fn(u64) -> Script) -> Crowd {
    let (sender, transitions) = mpsc::unbounded_channel();
    let common = Arc::new(Common {
        epoch: Instant::now(),
        lanes,
        transitions: sender,
    });
    let check = Arc::new(check.clone());
    let plan = Arc::new(Plan::new(Arc::clone(&check)));
    let mut vitals = Vec::new();
    for peer in 0..count {
        let target = target(&check, "127.0.0.1:1".parse().unwrap());
        vitals.push(target.vitals.clone());
        let plan = plan.clone();
        let slot = Arc::new(Slot::new(Assignment { target, plan }));
        let task = peer::run(
            slot,
            script(peer),
            common.clone(),
            FIRST_WINDOW,
            crate::balance::mix(peer),
        );
        tokio::spawn(task);
    }
    Crowd {
        vitals,
        _transitions: transitions,
    }
}

struct Crowd {
    vitals: Vec<Arc<Vitals>>,
    _transitions: mpsc::UnboundedReceiver<ProbeKey>,
}

#[tokio::test(start_paused = true)]
async fn checks_under_way_are_bounded() {
    let most = |takes| async move {
        let script = Script {
            takes,
            ..Script::new("")
        };
        let _crowd = crowd(Lanes::of(20, 50), 200, &every_second(), |_| script.clone());
        sleep(SECOND * 10).await;
        script.most.load(Ordering::SeqCst)
    };
    assert_eq!(most(lanes::PATIENCE - Duration::from_millis(1)).await, 20);
    assert_eq!(most(SECOND / 2).await, 70);
}

/// Half of a cluster is lost: its checks end with their timeouts. That must neither delay the verdict on the lost, nor
/// disturb the checks of the others.
#[tokio::test(start_paused = true)]
async fn peers_that_do_not_answer_delay_nobody() {
    const PEERS: u64 = 4000;
    let start = Instant::now();
    let check = testing::check(CheckKind::Tcp(TcpCheck::default()));
    let lost = Script {
        takes: check.timeout,
        ..Script::new(&"-".repeat(PEERS as usize * 20))
    };
    let well = Script {
        takes: Duration::from_millis(2),
        ..Script::new("")
    };
    let crowd = crowd(Lanes::of(256, 4096), PEERS, &check, |peer| {
        if peer % 2 == 0 {
            lost.clone()
        } else {
            well.clone()
        }
    });
    // The first check within a second, the third two intervals later at most, and one timeout.
    let promised = FIRST_WINDOW + 2 * check.interval + check.timeout + Duration::from_millis(50);
    tokio::time::sleep_until(start + promised).await;
    let verdicts = |rest| {
        let of = crowd.vitals.iter().skip(rest).step_by(2);
        of.map(|it| it.probe()).collect::<HashSet<_>>()
    };
    assert_eq!(verdicts(0), HashSet::from([Verdict::Fail]));
    assert_eq!(verdicts(1), HashSet::from([Verdict::Pass]));
    tokio::time::sleep_until(start + 60 * SECOND).await;
    let asked = well.asked.lock().unwrap().len() as u64;
    let wanted = PEERS / 2 * 60 / 5;
    assert!(asked.abs_diff(wanted) <= PEERS / 2, "{asked} of {wanted}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_peers_are_checked_evenly() {
    let check = ActiveCheck {
        jitter: Percent::new(20).unwrap(),
        ..testing::check(CheckKind::Tcp(TcpCheck::default()))
    };
    let start = Instant::now();
    let script = Script::new("");
    let _crowd = crowd(Lanes::of(256, 4096), 1000, &check, |_| script.clone());
    tokio::time::sleep_until(start + 70 * SECOND).await;
    let mut by_second = vec![0; 60];
    let mut by_tick = HashMap::<u128, u32>::new();
    for at in script.asked(start) {
        if let Some(count) = at
            .checked_sub(10_000)
            .and_then(|at| by_second.get_mut((at / 1000) as usize))
        {
            *count += 1;
            *by_tick.entry(at / 50).or_default() += 1;
        }
    }
    // 200 in a second and 10 in a tick, but for chance.
    assert!(
        by_second.iter().all(|count| (150..=250).contains(count)),
        "{by_second:?}"
    );
    let most = by_tick.values().max();
    assert!(most.is_some_and(|most| *most <= 30), "{most:?}");
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
