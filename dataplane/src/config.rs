//! The seam: everything the dataplane is told, as plain data.
//!
//! The controller builds a [`Config`] from Kubernetes objects (or from manifests) and the
//! dataplane compiles it into a table. Values are parsed into newtypes on the way in, so a `Config`
//! that exists is a `Config` that can be served. The routing model knows hosts, paths and upstreams,
//! not Ingresses, so that another API can be translated into it.
//!
//! `Serialize` is for people: golden files, dumps and the fingerprint. Secrets do not take part in it.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{reason::Reason, tls::Certificate};

mod auth;
mod health;
mod host;
mod path;
mod requests;
mod traffic;
mod upstream;

pub use auth::{
    AccessKey, AccessKeyEntry, AccessKeys, ApiKey, ApiKeyEntry, ApiKeys, Auth, AuthMethod,
    AuthRules, Basic, ClaimToHeader, CredentialPlace, External, ExternalService, Jwt, JwtAlgorithm,
    JwtKeys, RemoteKeys, RequiredClaim, Resolved, SecretBytes, SignatureProfile, SignedBody,
};
pub use health::{
    ActiveCheck, BodyMatch, CheckKind, ErrorPercent, GrpcCheck, HealthPolicy, HttpCheck, Initial,
    OutlierPolicy, StatusRange, TcpCheck, Terminating,
};
pub use host::{HostPattern, Hostname, HostnameError};
pub use path::{PathError, PathRule};
pub use requests::{
    EscapedSlashes, NonIdempotent, PathHandling, RepeatedSlashes, RequestPolicy, Retry,
    RetryBudget, RetryOn, SamePeer, Timeouts,
};
pub use traffic::{Access, AccessRules, Cors, RateLimit, RateLimitKey};
pub use upstream::{
    Balance, HashKey, Peer, PeerCheck, Protocol, Queue, Readiness, SessionPersistence, Trust,
    Upstream, UpstreamId, UpstreamLimits, UpstreamTls,
};

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
    /// Whether plain HTTP is answered with 308 to `https` (ACME HTTP-01 challenges excepted). Default: false.
    #[serde(skip_serializing_if = "is_false")]
    pub https_redirect: bool,
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
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
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
