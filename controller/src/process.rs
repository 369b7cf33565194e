//! What `run`, `serve` and `demo` have in common: the proxy, the ports that tell of it, and an orderly end.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hale_dataplane::{Dataplane, StartError, prometheus_client::registry::Registry};
use jiff::Timestamp;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    admin::{self, Api, ControllerState, FindingLine, Health},
    args::{Defaults, ProxyArgs},
    lifecycle::Lifecycle,
    metrics::Metrics,
    publish::{Newest, Publisher},
    settings::Settings,
};

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The proxy did not start.
    #[error(transparent)]
    Dataplane(#[from] StartError),
    /// A port of our own cannot be used.
    #[error("cannot listen on {address} ({flag})")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag that chooses it.
        flag: &'static str,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// SIGTERM cannot be handled.
    #[error("cannot handle signals")]
    Signals(#[source] io::Error),
}

/// A running proxy and its surroundings.
pub struct Process {
    /// The proxy.
    pub dataplane: Dataplane,
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// The controller's metrics.
    pub metrics: Metrics,
    /// What snapshots go through.
    pub publisher: Arc<Publisher>,
    /// `/livez`, `/readyz` and `/metrics`, really bound.
    pub healthz: Vec<SocketAddr>,
    /// `/api/v1/…`, really bound.
    pub admin: SocketAddr,
    shutdown_delay: Duration,
    grace: Duration,
    signals: Signals,
}

impl Process {
    /// Starts the proxy and the ports that tell of it. `leads` says whether this replica writes statuses, where
    /// there are some.
    pub async fn start(
        args: &ProxyArgs,
        defaults: &Defaults,
        settings: Settings,
        waiting_for: &str,
        leads: Option<watch::Receiver<bool>>,
    ) -> Result<Self, ProcessError> {
        let signals = Signals::new().map_err(ProcessError::Signals)?;
        let lifecycle = Lifecycle::new(waiting_for);
        // Our own ports first: they are not shared, so a Hale that runs already is found before requests are taken
        // away from it.
        let mut healthz = Vec::new();
        for ip in args.addresses(defaults) {
            healthz.push(bind(SocketAddr::new(ip, args.healthz_port), "--healthz-port").await?);
        }
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, args.admin_port));
        let admin = bind(loopback, "--admin-port").await?;
        let dataplane = Dataplane::start(args.options(defaults))?;
        let mut registry = Registry::default();
        dataplane.register_metrics(&mut registry);
        let metrics = Metrics::new(&mut registry);
        let publisher = Arc::new(Publisher::new(
            dataplane.clone(),
            settings,
            metrics.clone(),
            lifecycle.clone(),
        ));
        let health = Arc::new(Health {
            lifecycle: lifecycle.clone(),
            registry: Arc::new(registry),
        });
        let api = Arc::new(Api {
            dataplane: dataplane.clone(),
            lifecycle: lifecycle.clone(),
            controller: controller_state(publisher.newest(), leads),
            newest: publisher.newest(),
        });
        let healthz = healthz
            .into_iter()
            .map(|(listener, bound)| {
                admin::serve(listener, health.clone());
                bound
            })
            .collect::<Vec<_>>();
        let (listener, admin) = admin;
        admin::serve(listener, api);
        tracing::info!(
            http = ?dataplane.http_addresses(),
            https = ?dataplane.https_addresses(),
            ?healthz,
            ?admin,
            "listening"
        );
        Ok(Self {
            dataplane,
            lifecycle,
            metrics,
            publisher,
            healthz,
            admin,
            shutdown_delay: args.shutdown_delay.unwrap_or(defaults.shutdown_delay),
            grace: args.shutdown_grace_period,
            signals,
        })
    }

    /// Runs `work`, which has no end of its own, until SIGTERM or SIGINT, and then ends in order: others are asked
    /// to look elsewhere while everything is still served, nothing new is accepted, and what is under way is
    /// finished. A second signal ends at once.
    pub async fn run(mut self, work: impl Future<Output = ()>) {
        let parts = Stop {
            dataplane: self.dataplane.clone(),
            lifecycle: self.lifecycle.clone(),
            delay: self.shutdown_delay,
            grace: self.grace,
        };
        let end = async {
            let name = self.signals.next().await;
            tracing::info!(signal = name, delay = ?parts.delay, "stopping: no longer ready, and still serving");
            tokio::select! {
                () = parts.stop() => {}
                name = self.signals.next() => {
                    tracing::warn!(signal = name, "stopping at once: a second signal");
                }
            }
        };
        tokio::pin!(work, end);
        // Work goes on while the end is under way: peers still come and go.
        tokio::select! {
            () = &mut end => {}
            () = &mut work => end.await,
        }
    }
}

struct Stop {
    dataplane: Dataplane,
    lifecycle: Lifecycle,
    delay: Duration,
    grace: Duration,
}

impl Stop {
    async fn stop(&self) {
        self.lifecycle.stop();
        self.dataplane.announce_shutdown();
        tokio::time::sleep(self.delay).await;
        tracing::info!(grace = ?self.grace, "stopping: accepting nothing new");
        let cut = self.dataplane.drain(self.grace).await;
        if cut > 0 {
            tracing::warn!(cut, "stopped: requests did not end within the grace period");
        } else {
            tracing::info!("stopped: every request was finished");
        }
    }
}

async fn bind(
    address: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), ProcessError> {
    let failed = |source| ProcessError::Bind {
        address,
        flag,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn controller_state(
    newest: Newest,
    leads: Option<watch::Receiver<bool>>,
) -> Box<dyn Fn() -> ControllerState + Send + Sync> {
    Box::new(move || {
        let newest = newest.borrow().clone();
        let findings = newest.iter().flat_map(|published| {
            published
                .findings(Timestamp::now())
                .map(|finding| FindingLine::from(&*finding))
        });
        ControllerState {
            leader: leads.as_ref().map(|leads| *leads.borrow()),
            findings: findings.collect(),
        }
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
