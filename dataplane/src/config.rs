//! The seam: everything the dataplane is told, as plain data.
//!
//! The controller builds a [`Config`] from Kubernetes objects (or from manifests) and the
//! dataplane compiles it into a table. Values are parsed into newtypes on the way in, so a `Config`
//! that exists is a `Config` that can be served. The routing model knows hosts, paths and upstreams,
//! not Ingresses, so that another API can be translated into it.
//!
//! `Serialize` is for people: golden files, dumps and the fingerprint. Secrets do not take part in it.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use serde::Serialize;

use crate::{reason::Reason, tls::Certificate};

mod host;
mod path;

pub use host::{HostPattern, Hostname, HostnameError};
pub use path::{PathError, PathRule};

/// Everything that is served, at one moment.
///
/// Sorted, so that equal clusters give equal configs on every replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// Virtual hosts, sorted by pattern, each pattern once.
    pub hosts: Vec<VirtualHost>,
    /// What answers when no virtual host or none of its routes takes a request; `None` answers 404
    /// `NoRoute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_route: Option<Route>,
    /// Upstreams that routes name, sorted by id, each id once.
    pub upstreams: Vec<Upstream>,
    /// Certificates for TLS handshakes, by the hosts that they serve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<HostCertificate>,
    /// The certificate for a server name that `certificates` do not know; `None` is a self-made one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<Certificate>,
}

/// A certificate and the hosts that it is presented for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostCertificate {
    /// Server names (SNI) that get this certificate.
    pub host: HostPattern,
    /// Where it came from: the Secret.
    pub source: ObjectRef,
    /// Chain and key.
    pub certificate: Certificate,
}

/// One host pattern and the routes below it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VirtualHost {
    /// The requests' authority that this host takes.
    pub host: HostPattern,
    /// Whether plain HTTP is answered with 308 to `https` (ACME HTTP-01 challenges excepted).
    #[serde(skip_serializing_if = "is_false")]
    pub https_redirect: bool,
    /// Routes, sorted by precedence, each path rule once.
    pub routes: Vec<Route>,
}

/// A path rule and what happens to the requests that it takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// The paths that this route takes.
    pub path: PathRule,
    /// The object that declared it.
    pub source: ObjectRef,
    /// What happens to a request.
    pub action: Action,
    /// How requests of this route are treated.
    #[serde(flatten)]
    pub policy: RequestPolicy,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Proxy to the peers of this upstream.
    Forward(UpstreamId),
    /// Answer with this reason: the route exists and cannot be served.
    Reject(Problem),
}

/// Why something cannot be served, for the people who read the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The code of the closed list.
    pub reason: Reason,
    /// One sentence that names the object to mend.
    pub message: String,
}

/// Timeouts and retries of the requests of one route.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RequestPolicy {
    /// Deadlines.
    #[serde(skip_serializing_if = "is_default")]
    pub timeouts: Timeouts,
    /// What may be tried again; `None` tries again only what was never sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// Deadlines of a request. `None` is no deadline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeouts {
    /// To connect to a peer, TLS handshake included. Default 1 s.
    #[serde(with = "duration")]
    pub connect: Option<Duration>,
    /// From the request's head to the last byte of the response, all tries included. Default none.
    #[serde(with = "duration")]
    pub request: Option<Duration>,
    /// For one peer to answer with a response head, from the moment the request was handed to it.
    /// Default 60 s.
    #[serde(with = "duration")]
    pub backend_request: Option<Duration>,
    /// Without a byte in either direction, upgraded connections included. Default 60 s.
    #[serde(with = "duration")]
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Some(Duration::from_secs(1)),
            request: None,
            backend_request: Some(Duration::from_secs(60)),
            idle: Some(Duration::from_secs(60)),
        }
    }
}

/// What may be tried again after a failure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retry {
    /// Tries after the first. 0–10, default 2.
    pub attempts: u32,
    /// Response statuses of a peer that are tried again, 400–599.
    pub codes: Vec<u16>,
    /// Failures without a response that are tried again.
    pub on: RetryOn,
    /// Upper bound of the random wait before the first retry; doubles with each. Full jitter.
    #[serde(with = "duration::plain")]
    pub backoff: Duration,
    /// For one try to answer with a response head; `None` leaves `Timeouts::backend_request`.
    #[serde(with = "duration")]
    pub per_try_timeout: Option<Duration>,
    /// Whether a request that was sent and is not idempotent may be sent again.
    pub non_idempotent: NonIdempotent,
    /// Whether the peer that failed may be tried again.
    pub same_peer: SamePeer,
    /// gRPC status codes (1–16) of a response without messages that are tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grpc_codes: Vec<u32>,
    /// Retries that an upstream may have under way, so that retries do not become the outage.
    pub budget: RetryBudget,
}

/// Failures without a response that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RetryOn {
    /// Refused, unreachable, timed out while connecting, TLS failed: nothing was sent.
    pub connect_error: bool,
    /// The connection ended after the request was sent and before the response began.
    pub reset: bool,
    /// The peer did not answer in time.
    pub timeout: bool,
}

/// Requests that are not idempotent, once they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NonIdempotent {
    /// Are never sent again.
    Never,
    /// Are sent again if they carry an `Idempotency-Key`.
    WithIdempotencyKey,
    /// Are sent again.
    Always,
}

/// The peer that failed, on the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SamePeer {
    /// Is tried when there is no other.
    LastResort,
    /// Is not tried again for this request.
    Never,
}

/// A bound on the retries of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RetryBudget {
    /// Retries for each hundred requests within `interval`.
    pub percent: Percent,
    /// The window.
    #[serde(with = "duration::plain")]
    pub interval: Duration,
    /// Retries within `interval` that are always allowed.
    pub min_retries: u32,
}

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

/// When a peer may be picked.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HealthPolicy {
    /// Whether a peer that Kubernetes calls not ready may be picked all the same.
    #[serde(skip_serializing_if = "is_false")]
    pub ignore_readiness: bool,
    /// Whether a peer that terminates and still serves may be picked when nothing better is left.
    pub terminating: Terminating,
    /// Below this share of eligible peers, failing verdicts (never readiness) are ignored. 0 is never.
    #[serde(skip_serializing_if = "is_default")]
    pub panic_threshold: Percent,
    /// Our own check of each peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveCheck>,
    /// Which peers are taken out for what they answer requests with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive: Option<OutlierPolicy>,
}

/// When a peer is ejected for what it answers requests with. 0 turns a rule off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlierPolicy {
    /// Connect errors, resets and timeouts in a row. Default 5.
    pub consecutive_errors: u32,
    /// Responses of 500–599 in a row. Default 0.
    pub consecutive_5xx: u32,
    /// Share of errors (those of both rules above) among the requests of a window; `None` is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_percent: Option<ErrorPercent>,
    /// How long a peer is out, times the number of its ejections. Default 10 s.
    #[serde(with = "duration::plain")]
    pub base_ejection: Duration,
    /// The longest that a peer is out at a time. Default 5 min.
    #[serde(with = "duration::plain")]
    pub max_ejection: Duration,
    /// Share of the upstream's peers that may be ejected at a time; where there are two or more, one may
    /// always be. Default 50.
    pub max_ejected: Percent,
}

/// A share of errors in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorPercent {
    /// Errors per hundred requests that eject, 1–100. Default 50.
    pub threshold: Percent,
    /// Requests within the window before the share means anything. Default 20.
    pub min_requests: u32,
    /// The window. Default 10 s.
    #[serde(with = "duration::plain")]
    pub window: Duration,
}

/// Peers that terminate and still serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Terminating {
    /// Are picked when nothing better is left.
    #[default]
    LastResort,
    /// Are never picked.
    Never,
}

/// A check that the health thread makes of each peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActiveCheck {
    /// What is sent and wanted.
    pub kind: CheckKind,
    /// From the start of one check to the start of the next. At least 100 ms.
    #[serde(with = "duration::plain")]
    pub interval: Duration,
    /// For one check, connecting included. At most `interval`.
    #[serde(with = "duration::plain")]
    pub timeout: Duration,
    /// Each wait is changed at random by up to this share of the interval, up or down.
    pub jitter: Percent,
    /// Failures in a row that make a passing peer fail. At least 1.
    pub unhealthy_threshold: u32,
    /// Passes in a row that make a failing peer pass. At least 1. A peer never checked passes with its first.
    pub healthy_threshold: u32,
    /// What an unchecked peer is taken for.
    pub initial: Initial,
}

/// What an unchecked peer is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Initial {
    /// Picked only while no peer has passed.
    #[default]
    Checking,
    /// Picked like one that passed.
    Healthy,
}

/// What a check sends and wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckKind {
    /// An HTTP request. Over TLS where the upstream has it; HTTP/2 where the upstream's protocol is.
    Http(HttpCheck),
    /// A connection. Over TLS where the upstream has it.
    Tcp(TcpCheck),
    /// `grpc.health.v1.Health/Check`, wanting `SERVING`. Over TLS where the upstream has it.
    Grpc(GrpcCheck),
    /// What each peer has in [`Peer::check`]; a peer without one is not checked.
    OfPeer,
}

/// A gRPC health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GrpcCheck {
    /// The service asked for; empty is the server as a whole.
    pub service: String,
}

/// An HTTP request and the response wanted. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpCheck {
    /// Default GET.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Host`; `None` is the peer's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// More headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Statuses that pass, inclusive ranges.
    pub expected_statuses: Vec<StatusRange>,
    /// What the first 4 KiB of the body must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_body: Option<BodyMatch>,
}

/// An inclusive range of response statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatusRange {
    /// The first.
    pub from: u16,
    /// The last.
    pub to: u16,
}

/// What a body must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyMatch {
    /// This text.
    Contains(String),
    /// A match of this regular expression (syntax of the `regex` crate), known to compile.
    Regex(String),
}

/// A connection, with bytes to send and to want where they are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpCheck {
    /// Sent once connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<String>,
    /// Must appear in the first 4 KiB that the peer sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive: Option<String>,
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The port that checks go to; `None` is the traffic's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_port: Option<u16>,
    /// The check of this peer alone, where the upstream's is [`CheckKind::OfPeer`].
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

/// A reference to a Kubernetes object, for messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// `Ingress`, `Service`, …
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A share in percent, 0–100.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Percent(u8);

impl Percent {
    /// `None` above 100.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 100 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// As a number from 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Counts by reason, in a stable order.
pub type ByReason = BTreeMap<Reason, usize>;

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Durations as people write them: `1.5s`, `250ms`, `none`.
mod duration {
    use std::time::Duration;

    use serde::Serializer;

    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => plain::serialize(value, serializer),
            None => serializer.serialize_str("none"),
        }
    }

    pub(super) mod plain {
        use std::time::Duration;

        use serde::Serializer;

        pub(in super::super) fn serialize<S: Serializer>(
            value: &Duration,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.collect_str(&format_args!("{value:?}"))
        }
    }
}
