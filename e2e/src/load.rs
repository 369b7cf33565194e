//! Constant load from an open loop: a request starts when it is due, whether or
//! not the ones before it have been answered, so that a stall is seen as
//! failures and long waits, and not as fewer requests.
//!
//! Connections are kept alive and used in turn, as those of a busy proxy before
//! Hale would be: several, so that each replica of Hale has some. Only a request
//! that provably never left is sent on another connection; whatever else goes
//! wrong is counted, with its reason.

use anyhow::ensure;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Connections that are opened before one is used again.
const CONNECTIONS: u64 = 16;
/// An answer later than this is a failure.
const LIMIT: Duration = Duration::from_secs(10);

/// What to send.
#[derive(Clone)]
pub struct Plan {
    /// Where to.
    pub server: SocketAddr,
    /// The Host.
    pub host: String,
    /// GET, or another method.
    pub method: Method,
    /// What each request carries; empty is no body.
    pub body: Bytes,
    /// The path.
    pub path: String,
    /// Requests per second.
    pub rate: u32,
}

/// Load that goes on until it is stopped.
pub struct Load {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

struct Shared {
    plan: Plan,
    began: Instant,
    stop: Notify,
    idle: Mutex<VecDeque<SendRequest<Full<Bytes>>>>,
    /// Requests that looked for a connection: the first ones open theirs.
    asked: AtomicU64,
    report: Mutex<Report>,
}

/// What became of the requests.
#[derive(Clone, Default)]
pub struct Report {
    /// Requests that were due, and sent.
    pub sent: u64,
    /// Requests that got a 200 and its whole body.
    pub good: u64,
    /// The others by reason: how many, and when the first was, in seconds from the start.
    pub failures: BTreeMap<String, (u64, f64)>,
    /// Good answers by the pod that gave them.
    pub pods: BTreeMap<String, u64>,
    /// When the last of the requests was due that a pod answered.
    pub last: BTreeMap<String, Instant>,
    waits: Vec<Duration>,
}

impl Load {
    /// Begins to send.
    #[must_use]
    pub fn start(plan: Plan) -> Self {
        let shared = Arc::new(Shared {
            plan,
            began: Instant::now(),
            stop: Notify::new(),
            idle: Mutex::default(),
            asked: AtomicU64::new(0),
            report: Mutex::default(),
        });
        Self {
            driver: tokio::spawn(drive(shared.clone())),
            shared,
        }
    }

    /// What is known so far.
    #[must_use]
    pub fn so_far(&self) -> Report {
        lock(&self.shared.report).clone()
    }

    /// Forgets what was counted by pod so far, so that a later look sees later answers only.
    pub fn forget_pods(&self) {
        lock(&self.shared.report).pods.clear();
    }

    /// Stops sending, waits for the answers that are due, and reports.
    ///
    /// # Errors
    /// When the generator itself broke.
    pub async fn stop(self) -> anyhow::Result<Report> {
        self.shared.stop.notify_one();
        self.driver.await?;
        Ok(lock(&self.shared.report).clone())
    }
}

impl Report {
    /// Fails if one request did, or if there were too few to mean anything.
    ///
    /// # Errors
    /// With the whole report.
    pub fn none_failed(&self, at_least: u64) -> anyhow::Result<()> {
        ensure!(
            self.sent >= at_least,
            "only {} requests were sent, {at_least} were wanted",
            self.sent
        );
        ensure!(self.failures.is_empty(), "{self}");
        Ok(())
    }

    /// Requests that did not get a whole 200.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().map(|(count, _)| count).sum()
    }

    fn wait(&self, percent: usize) -> Duration {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits
            .get(waits.len().saturating_sub(1) * percent / 100)
            .copied()
            .unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed();
        let (p50, p99, max) = (self.wait(50), self.wait(99), self.wait(100));
        write!(
            f,
            "{} sent, {} good, {failed} failed; p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}",
            self.sent, self.good
        )?;
        // Bodies tell more than the reason, and differ: one of each kind is enough.
        let mut kinds: BTreeMap<String, (u64, f64, &str)> = BTreeMap::new();
        for (reason, (count, first)) in &self.failures {
            let kind = reason.split(' ').take(2).collect::<Vec<_>>().join(" ");
            let entry = kinds.entry(kind).or_insert((0, *first, reason));
            *entry = (entry.0 + count, entry.1.min(*first), entry.2);
        }
        for (count, first, reason) in kinds.values() {
            write!(f, "\n  {count} from {first:.2} s on: {reason}")?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn drive(shared: Arc<Shared>) {
    let mut due = interval(Duration::from_secs(1) / shared.plan.rate);
    // Late ticks are made up for: the rate is kept over the whole run.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = tokio::task::JoinSet::new();
    loop {
        let scheduled = tokio::select! {
            tick = due.tick() => tick,
            Some(_) = requests.join_next() => continue,
            () = shared.stop.notified() => break,
        };
        let number = {
            let mut report = lock(&shared.report);
            report.sent += 1;
            report.sent
        };
        requests.spawn(one(shared.clone(), scheduled, number));
    }
    requests.join_all().await;
}

async fn one(shared: Arc<Shared>, scheduled: Instant, number: u64) {
    let outcome = timeout(LIMIT, exchange(&shared, number)).await;
    let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
    let mut report = lock(&shared.report);
    report.waits.push(scheduled.elapsed());
    match outcome {
        Ok(pod) => {
            report.good += 1;
            report.last.insert(pod.clone(), scheduled);
            *report.pods.entry(pod).or_default() += 1;
        }
        Err(reason) => {
            let at = scheduled.duration_since(shared.began).as_secs_f64();
            report.failures.entry(reason).or_insert((0, at)).0 += 1;
        }
    }
}

/// One request; the pod that answered it, or why it failed.
async fn exchange(shared: &Shared, number: u64) -> Result<String, String> {
    loop {
        let mut sender = match idle(shared) {
            Some(sender) => sender,
            None => connect(shared.plan.server).await?,
        };
        // By its number the backend knows whether it gets a request twice.
        let request = Request::builder()
            .method(&shared.plan.method)
            .uri(&shared.plan.path)
            .header("host", &shared.plan.host)
            .header("x-test-id", number)
            .body(Full::new(shared.plan.body.clone()));
        let response = match sender
            .try_send_request(request.map_err(|error| error.to_string())?)
            .await
        {
            Ok(response) => response,
            // The server had closed the connection, and the request never left.
            Err(error) if error.message().is_some() => continue,
            Err(error) => return Err(format!("client: {}", chain(&error.into_error()))),
        };
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| format!("body: {}", chain(&error)))?
            .to_bytes();
        let header = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        if parts.status != http::StatusCode::OK {
            let text: String = String::from_utf8_lossy(&body).chars().take(400).collect();
            return Err(format!(
                "{} {} {}",
                parts.status.as_u16(),
                header("x-hale-reason"),
                without_ids(&text)
            ));
        }
        let pod = header("x-pod").to_owned();
        if sender.ready().await.is_ok() {
            lock(&shared.idle).push_back(sender);
        }
        return Ok(pod);
    }
}

/// The open connection that waits longest for a request, once there are enough.
fn idle(shared: &Shared) -> Option<SendRequest<Full<Bytes>>> {
    if shared.asked.fetch_add(1, Ordering::Relaxed) < CONNECTIONS {
        return None;
    }
    let mut idle = lock(&shared.idle);
    while let Some(sender) = idle.pop_front() {
        if sender.is_ready() {
            return Some(sender);
        }
    }
    None
}

async fn connect(server: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(server)
        .await
        .map_err(|error| format!("connect: {error}"))?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Equal failures are to be counted together, though each body has an id of its own.
fn without_ids(text: &str) -> &str {
    text.split("\"requestId\"").next().unwrap_or(text)
}
