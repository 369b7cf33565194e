//! The upstreams: their peers, and how one of these is picked and spoken to.

use std::{fmt, net::SocketAddr, time::Duration};

use serde::Serialize;

use super::{ActiveCheck, HealthPolicy, Hostname, Problem, duration, is_default, is_false};
use crate::tls::Certificate;

/// One Service port: a set of interchangeable peers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Upstream {
    /// Its identity.
    pub id: UpstreamId,
    /// How its peers are spoken to.
    pub protocol: Protocol,
    /// TLS to the peers; `None` is plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// How a peer is picked.
    pub balance: Balance,
    /// A peer that is new gets a share of requests that grows from a tenth to all within this time;
    /// `None` gives it all at once.
    #[serde(with = "duration", skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// Whether a client stays with its peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionPersistence>,
    /// How much the upstream and each of its peers get at a time.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: UpstreamLimits,
    /// When a peer may be picked.
    pub health: HealthPolicy,
    /// Every peer that Kubernetes names, eligible or not, sorted by address, each identity once.
    pub peers: Vec<Peer>,
    /// Why there is no peer, as far as the cluster tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// The identity of an upstream, printed as `namespace/service:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamId {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the Service's port, or its number where it has no name.
    pub port: String,
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}:{}", self.namespace, self.service, self.port)
    }
}

impl Serialize for UpstreamId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The protocol spoken to peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// HTTP/1.1; over TLS, `http/1.1` by ALPN.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3); over TLS, `h2` by ALPN only.
    Http2,
}

/// TLS to the peers of an upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpstreamTls {
    /// The name sent as SNI and wanted in the certificate; `None` is the peer's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<Hostname>,
    /// Who is trusted.
    pub trust: Trust,
    /// The certificate to present to a peer that asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<Certificate>,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Trust {
    /// The system's roots.
    System,
    /// These roots alone.
    Roots(crate::tls::Roots),
    /// Anyone: encryption without authentication.
    Anyone,
}

/// How a peer is picked among the eligible.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The less loaded of two random peers.
    #[default]
    LeastRequest,
    /// Of two random peers the one with the lower product of recent latency (a moving average that jumps
    /// to peaks and decays) and requests in flight.
    PeakEwma,
    /// The same peer for the same key, as far as peers and their load allow.
    ConsistentHash(HashKey),
}

/// What a request is hashed by. A request without it is balanced as by [`Balance::LeastRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HashKey {
    /// The value of this request header, lower case.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The client's address.
    SourceIp,
    /// Canonical path and query.
    Uri,
}

/// A cookie keeps a client with its peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionPersistence {
    /// Name of the cookie.
    pub cookie: String,
    /// Lifetime of the cookie from when it was first set; `None` is the browser's session.
    #[serde(with = "duration", skip_serializing_if = "Option::is_none")]
    pub absolute_timeout: Option<Duration>,
}

/// How much an upstream and each of its peers get at a time, and what waits for room. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamLimits {
    /// Connections to all peers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Requests in flight to all peers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel_requests: Option<u32>,
    /// Connections to one peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_max_connections: Option<u32>,
    /// Requests in flight to one peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_max_parallel_requests: Option<u32>,
    /// What waits when a limit is reached, or when there is no eligible peer for a moment.
    #[serde(skip_serializing_if = "is_default")]
    pub queue: Queue,
}

/// Requests that wait for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// At most so many; more are refused at once. 0 is no queue. Default 100.
    pub max: u32,
    /// For so long at most. Default 1 s.
    #[serde(with = "duration::plain")]
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max: 100,
            timeout: Duration::from_secs(1),
        }
    }
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The port that checks go to; `None` is the traffic's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_port: Option<u16>,
    /// The check of this peer alone, where the upstream's is [`CheckKind::OfPeer`](super::CheckKind::OfPeer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Box<PeerCheck>>,
    /// UID of the pod, empty where there is none: a reused address does not inherit a history.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Name of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Name of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What Kubernetes says of it.
    pub readiness: Readiness,
    /// Why a pod that is not ready does not become it: `CrashLoopBackOff: back-off 5m0s restarting failed container`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A check that was taken from the pod itself (its readinessProbe).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerCheck {
    /// How, how often and how strictly.
    pub check: ActiveCheck,
    /// Whether it is made over TLS (without looking at the certificate, as kubelet does).
    #[serde(skip_serializing_if = "is_false")]
    pub tls: bool,
}

/// What Kubernetes says of a peer: EndpointSlice `ready`, `serving`, `terminating`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Readiness {
    /// Takes traffic.
    Ready,
    /// Terminates, and still serves.
    Draining,
    /// Not ready.
    Unready,
    /// Terminating and no longer serving.
    Gone,
}
