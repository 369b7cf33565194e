//! Hale's proxy: routes, balances, checks and explains. Knows HTTP, and no Kubernetes.

pub mod balance;
pub mod config;
pub mod health;
pub mod reason;
pub mod report;
pub mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
pub use prometheus_client;

use config::Config;
use report::{Report, WhyReport, WhyRequest};

/// What is fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where plain HTTP is accepted; port 0 lets the system choose.
    pub http: Vec<SocketAddr>,
    /// Where TLS is accepted.
    pub https: Vec<SocketAddr>,
    /// Data threads; 0 is one per core.
    pub workers: usize,
    /// Clients whose `X-Forwarded-*` headers are believed and appended to.
    pub trusted_proxies: Vec<IpNet>,
    /// Clients that see peers' names and addresses in explained answers.
    pub explain: Vec<IpNet>,
    /// `Strict-Transport-Security: max-age` on responses over TLS; `None` sends none.
    pub hsts: Option<Duration>,
    /// The port that redirects to https name; 443 is left out of the URL.
    pub https_redirect_port: u16,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// Connections accepted at a time, over all workers.
    pub max_connections: usize,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output, a JSON object a line.
    Stdout,
    /// Appended to this file.
    File(std::path::PathBuf),
}

impl Default for Options {
    fn default() -> Self {
        let loopback: [IpNet; 2] = [
            IpNet::from(IpAddr::from([127, 0, 0, 1])),
            IpNet::from(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
        ];
        Self {
            http: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
            https: vec![SocketAddr::from(([0, 0, 0, 0], 8443))],
            workers: 0,
            trusted_proxies: Vec::new(),
            explain: loopback.to_vec(),
            hsts: None,
            https_redirect_port: 443,
            access_log: AccessLog::Stdout,
            max_connections: 65_536,
        }
    }
}

/// Why the dataplane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The access log cannot be opened.
    #[error("cannot open the access log")]
    AccessLog(#[source] std::io::Error),
}

/// A running proxy. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Dataplane {
    inner: Arc<()>,
}

impl Dataplane {
    /// Binds the listeners and starts the worker and health threads. Answers 503 `ShuttingDown`… nothing is
    /// accepted before the first [`publish`](Self::publish).
    pub fn start(_options: Options) -> Result<Self, StartError> {
        Ok(Self {
            inner: Arc::new(()),
        })
    }

    /// The addresses really bound, HTTP first.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &[]
    }

    /// The addresses really bound for TLS.
    pub fn https_addresses(&self) -> &[SocketAddr] {
        &[]
    }

    /// Serves `config` from now on; requests under way keep the table that they began with. Returns the
    /// table's generation. Vitals of known peers are kept.
    pub fn publish(&self, _config: Config) -> u64 {
        0
    }

    /// The state of every upstream and peer.
    pub fn report(&self) -> Report {
        Report {
            generation: 0,
            fingerprint: String::new(),
            published: None,
            upstreams: Vec::new(),
        }
    }

    /// How a request would be answered now, and why.
    pub fn why(&self, _request: &WhyRequest) -> Option<WhyReport> {
        None
    }

    /// Ticks when the standing or reason of a peer changes.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }

    /// Adds the dataplane's metrics to a registry.
    pub fn register_metrics(&self, _registry: &mut prometheus_client::registry::Registry) {}

    /// Tells clients to go elsewhere (`Connection: close`, GOAWAY) while still accepting: the beginning of
    /// a shutdown, or its reverse.
    pub fn announce_shutdown(&self) {}

    /// Stops accepting and waits for what is in flight, at most `grace`. Returns the number of requests cut.
    pub async fn drain(&self, _grace: Duration) -> usize {
        Arc::strong_count(&self.inner) - Arc::strong_count(&self.inner)
    }
}
