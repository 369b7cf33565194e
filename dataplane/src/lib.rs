//! Hale's proxy: routes, balances, checks and explains. Knows HTTP, and no Kubernetes.
//!
//! The story of one request:
//!
//! 1. A worker accepts its connection (`listen`), which never leaves that worker's thread.
//! 2. Its head is read and made unambiguous (`sanitize`), the table of the moment is loaded (`table`), and
//!    the route found (`route`).
//! 3. The route's policies say whether it is let in (`access`, `cors`, `rate_limit`, `auth`).
//! 4. `pipeline` makes attempts: a peer is picked among the eligible (`balance`) that have room (`admission`),
//!    and the request sent on a pooled connection (`forward`, `pool`). What fails is tried again where that is right (`retry`).
//! 5. The response streams to the client (`response`), or the proxy explains why there is none (`reject`).
//! 6. When its last byte is sent, the request is counted and logged (`exchange`, `metrics`, `access_log`).
//!
//! Meanwhile the health thread checks peers (`health`), and the controller publishes tables (`dataplane`).

pub mod addresses;
pub mod auth;
pub mod config;
pub mod reason;
pub mod report;
pub mod tls;

mod dataplane;
mod table;
mod worker;

mod access;
mod admission;
mod attempts;
mod cors;
mod exchange;
mod listen;
mod pipeline;
mod rate_limit;
mod route;
mod sanitize;
mod session;
mod tunnel;

mod balance;
mod body;
mod fair;
mod fault;
mod forward;
mod hashing;
pub mod health;
mod outbound;
mod pool;
mod retry;
mod waiting;

mod access_log;
mod metrics;
mod quoted;
mod reject;
mod response;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
pub use prometheus_client;

pub use dataplane::Dataplane;

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
    /// Whether connections from `trusted_proxies` begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Clients that see peers' names and addresses in explained answers.
    pub explain: Vec<IpNet>,
    /// `Strict-Transport-Security: max-age` on responses over TLS; `None` sends none.
    pub hsts: Option<Duration>,
    /// The port that redirects to https name; 443 is left out of the URL.
    pub https_redirect_port: u16,
    /// Where the access log goes.
    pub access_log: AccessLog,
    /// Whether requests to pods carry `Via`, for which some servers do not compress. Default false.
    pub via: bool,
    /// Connections accepted at a time, over all workers.
    pub max_connections: usize,
    /// Whether what policies have Hale ask (keys of tokens, external authorization) may be on loopback
    /// addresses. Default false.
    pub allow_loopback_outbound: bool,
    /// Private networks whose addresses those URLs may have. Default none. Link-local addresses and the metadata services
    /// of clouds are never asked.
    pub allow_outbound: Vec<IpNet>,
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
            proxy_protocol: false,
            explain: loopback.to_vec(),
            hsts: None,
            https_redirect_port: 443,
            access_log: AccessLog::Stdout,
            via: false,
            max_connections: 65_536,
            allow_loopback_outbound: false,
            allow_outbound: Vec::new(),
        }
    }
}

impl Options {
    /// The addresses that URLs of policies may have; `plain` allows them to be asked without TLS.
    pub(crate) fn reach(&self, plain: bool) -> addresses::Reach {
        addresses::Reach {
            loopback: self.allow_loopback_outbound,
            plain,
            networks: self.allow_outbound.clone().into(),
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
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The access log cannot be opened.
    #[error("cannot open the access log")]
    AccessLog(#[source] std::io::Error),
}

/// Why a request could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum TryError {
    /// There is no thread for it.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// The policies did not decide in time.
    #[error("the policies gave no answer within 5 s")]
    Unanswered,
}
