//! The process-wide part: threads, the table of the moment, and the few doors through which the
//! controller comes in.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::{oneshot, watch};

use crate::{
    Options, StartError, TryError,
    access_log::Log,
    auth::jwt::Feeds,
    config::Config,
    hashing::Hashing,
    health::{Detector, ProbeKey, Prober},
    listen::{self, Bound},
    metrics::Metrics,
    report::{self, Report, Trial, WhyReport, WhyRequest},
    table::PeerTable,
    tls,
    worker::{self, Stage},
};

/// For how long a request is tried.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) table: Arc<ArcSwap<PeerTable>>,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) hsts: Option<HeaderValue>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Option<Log>,
    /// For work that would keep a data thread from its connections.
    pub(crate) hashing: Hashing,
    pub(crate) connections: AtomicUsize,
    /// Ticks with each table and each change of an eligible set.
    pub(crate) changes: watch::Sender<u64>,
    /// Ticks when a worker wants others to close an idle connection.
    pub(crate) reclaim: watch::Sender<u64>,
    pub(crate) stage: watch::Sender<Stage>,
}

impl Shared {
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// A verdict changed: the upstream's eligible set is computed again.
    fn verdict(&self, key: &ProbeKey) {
        let table = self.table.load();
        let found = table
            .upstreams
            .binary_search_by(|upstream| upstream.config.id.cmp(&key.upstream));
        if let Some(upstream) = found.ok().and_then(|index| table.upstreams.get(index)) {
            upstream.refresh();
            self.changed();
        }
    }
}

/// A running proxy. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Dataplane {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    prober: Prober,
    detector: Detector,
    feeds: Feeds,
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    /// One publish at a time.
    publish: Mutex<()>,
    workers: Mutex<Vec<JoinHandle<usize>>>,
}

impl Dataplane {
    /// Binds the listeners and starts the worker threads and the health thread. Connections wait in the
    /// listeners' queues until the first [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// If an address cannot be bound, a thread cannot be started or the access log cannot be opened.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let workers = match options.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        };
        let mut bound: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
        let http = bind_all(&options.http, false, &mut bound)?;
        let https = bind_all(&options.https, true, &mut bound)?;
        let log = Log::open(&options.access_log).map_err(StartError::AccessLog)?;
        let dropped = log
            .as_ref()
            .map_or_else(|| Arc::new(AtomicU64::new(0)), Log::dropped_counter);
        let table = Arc::new(ArcSwap::from_pointee(PeerTable::empty()));
        let hsts = options.hsts.map(|age| format!("max-age={}", age.as_secs()));
        let shared = Arc::new(Shared {
            tls: tls::server_config(Arc::clone(&table)).map_err(StartError::Tls)?,
            table,
            hsts: hsts.and_then(|value| HeaderValue::try_from(value).ok()),
            metrics: Arc::new(Metrics::new(dropped)),
            log,
            hashing: Hashing::start().map_err(StartError::Thread)?,
            connections: AtomicUsize::new(0),
            changes: watch::Sender::new(0),
            reclaim: watch::Sender::new(0),
            stage: watch::Sender::new(Stage::Serving),
            options,
        });
        let weak: Weak<Shared> = Arc::downgrade(&shared);
        let on_transition = move |key: &ProbeKey| {
            if let Some(shared) = weak.upgrade() {
                shared.verdict(key);
            }
        };
        let prober = Prober::start(on_transition.clone()).map_err(StartError::Thread)?;
        let (detector, task) = Detector::new(on_transition);
        prober.spawn(task);
        let feeds = Feeds::new(shared.options.reach(false));
        let workers = spawn_workers(&shared, bound)?;
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                prober,
                detector,
                feeds,
                http,
                https,
                publish: Mutex::new(()),
                workers: Mutex::new(workers),
            }),
        })
    }

    /// The addresses really bound for plain HTTP, in the order of the options.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.inner.http
    }

    /// The addresses really bound for TLS, in the order of the options.
    pub fn https_addresses(&self) -> &[SocketAddr] {
        &self.inner.https
    }

    /// Serves `config` from now on; requests under way keep the table that they began with. Returns the
    /// table's generation. Vitals of known peers are kept, and unchanged upstreams shared.
    pub fn publish(&self, config: Config) -> u64 {
        let _one = self
            .inner
            .publish
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let shared = &self.inner.shared;
        let old = shared.table.load_full();
        let next = Arc::new(old.next(config, &shared.metrics));
        let generation = next.generation;
        self.inner
            .feeds
            .sync(next.key_endpoints(), &self.inner.prober);
        shared.table.store(Arc::clone(&next));
        old.retire_missing(&next);
        // A verdict may have come between compiling and swapping, and was told to the old table.
        for upstream in &next.upstreams {
            upstream.refresh();
        }
        // Whoever waits looks for new peers, new limits, or the end of the upstream.
        for upstream in old.upstreams.iter().chain(&next.upstreams) {
            upstream.gate.wake();
        }
        self.inner.prober.sync(next.probe_targets());
        self.inner.detector.sync(next.outlier_targets());
        shared.metrics.retain(|id| {
            next.upstreams
                .binary_search_by(|upstream| upstream.config.id.cmp(id))
                .is_ok()
        });
        let policies = next.counted_policies();
        shared
            .metrics
            .retain_policies(|source| policies.contains(source));
        shared.changed();
        generation
    }

    /// The state of every upstream and peer.
    pub fn report(&self) -> Report {
        report::report(&self.inner.shared.table.load())
    }

    /// How a request would be answered now, and why; `None` before the first table.
    pub fn why(&self, request: &WhyRequest) -> Option<WhyReport> {
        let table = self.inner.shared.table.load();
        (table.generation > 0).then(|| report::why(&table, request))
    }

    /// The same, and what the policies of the route make of a request that carries this; limits do not count it, and
    /// external services are not asked.
    ///
    /// # Errors
    ///
    /// If it cannot be tried.
    pub async fn why_trying(
        &self,
        request: WhyRequest,
        trial: Trial,
    ) -> Result<Option<WhyReport>, TryError> {
        let table = self.inner.shared.table.load_full();
        if table.generation == 0 {
            return Ok(None);
        }
        let shared = Arc::clone(&self.inner.shared);
        let (sender, answer) = oneshot::channel();
        // What methods wait for may be bound to a thread, and the caller's tasks may not be: this question, which a
        // person asks now and then, gets a thread of its own.
        std::thread::Builder::new()
            .name("hale-why".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let tried = runtime.map_err(TryError::Thread).and_then(|runtime| {
                    let why = report::why_trying(&table, &shared, &request, &trial);
                    let why = async { tokio::time::timeout(PATIENCE, why).await };
                    let why = tokio::task::LocalSet::new().block_on(&runtime, why);
                    why.map(Some).map_err(|_| TryError::Unanswered)
                });
                // Whoever asked may have gone.
                let _ = sender.send(tried);
            })
            .map_err(TryError::Thread)?;
        answer.await.unwrap_or(Err(TryError::Unanswered))
    }

    /// Ticks with each published table and whenever a peer's standing changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.shared.changes.subscribe()
    }

    /// Adds the dataplane's metrics to a registry.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        let table = Arc::clone(&self.inner.shared.table);
        self.inner
            .shared
            .metrics
            .register(registry, move || report::report(&table.load()));
    }

    /// Tells clients to go elsewhere while still accepting: HTTP/1 responses carry `Connection: close`,
    /// HTTP/2 connections get a GOAWAY and finish their streams. The beginning of a shutdown.
    pub fn announce_shutdown(&self) {
        self.advance(Stage::Announced);
    }

    /// Stops accepting and waits for what is in flight, at most `grace`. Returns the number of requests
    /// and tunnels cut.
    pub async fn drain(&self, grace: Duration) -> usize {
        self.advance(Stage::Draining);
        let workers = std::mem::take(
            &mut *self
                .inner
                .workers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let deadline = tokio::time::Instant::now() + grace;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !workers.iter().all(JoinHandle::is_finished) {
            tick.tick().await;
            if tokio::time::Instant::now() >= deadline {
                self.advance(Stage::Stopped);
            }
        }
        // A worker that panicked has cut what it had; how much is not known any more.
        let cut = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or(1))
            .sum();
        if let Some(log) = &self.inner.shared.log {
            log.close();
        }
        cut
    }

    fn advance(&self, stage: Stage) {
        self.inner.shared.stage.send_if_modified(|current| {
            let forward = stage > *current;
            if forward {
                *current = stage;
            }
            forward
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody can be told of what is cut any more.
        self.shared.stage.send_replace(Stage::Stopped);
    }
}

fn bind_all(
    addresses: &[SocketAddr],
    tls: bool,
    workers: &mut [Vec<Bound>],
) -> Result<Vec<SocketAddr>, StartError> {
    let mut found = Vec::new();
    for &address in addresses {
        let failed = |source| StartError::Bind { address, source };
        let mut address = address;
        for worker in workers.iter_mut() {
            let listener = listen::bind(address).map_err(failed)?;
            // With port 0 the first bind decides, and the others join it.
            address = listener.local_addr().map_err(failed)?;
            worker.push(Bound { listener, tls });
        }
        found.push(address);
    }
    Ok(found)
}

fn spawn_workers(
    shared: &Arc<Shared>,
    bound: Vec<Vec<Bound>>,
) -> Result<Vec<JoinHandle<usize>>, StartError> {
    let spawn = |(index, bound): (usize, Vec<Bound>)| {
        let shared = Arc::clone(shared);
        std::thread::Builder::new()
            .name(format!("hale-data-{index}"))
            .spawn(move || {
                worker::run(shared, index as u64, bound).unwrap_or_else(|error| {
                    tracing::error!(%error, "a data thread has no runtime and serves nothing");
                    0
                })
            })
            .map_err(StartError::Thread)
    };
    bound.into_iter().enumerate().map(spawn).collect()
}
