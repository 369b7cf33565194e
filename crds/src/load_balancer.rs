//! `spec.loadBalancer`: how a peer is picked among the eligible.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// How a peer is picked among the eligible.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'ConsistentHash' || has(self.consistentHash)")
    .message("type ConsistentHash needs consistentHash, which says what is hashed")
    .field_path(".type"))]
#[x_kube(validation = Rule::new("!has(self.consistentHash) || self.type == 'ConsistentHash'")
    .message("consistentHash is for type ConsistentHash alone")
    .field_path(".consistentHash"))]
#[x_kube(validation = Rule::new("!has(self.slowStart) || self.type != 'ConsistentHash'")
    .message("slowStart does not go with type ConsistentHash: a key has its peer from the beginning")
    .field_path(".slowStart"))]
pub struct LoadBalancer {
    /// `RoundRobin`: each in turn. `LeastRequest`: of two random peers the one with fewer requests in
    /// flight. `PeakEwma`: of two random peers the one with the lower product of recent latency and
    /// requests in flight. `ConsistentHash`: the same peer for the same key, as far as peers and their
    /// load allow. Default `LeastRequest`.
    #[serde(default, rename = "type")]
    pub kind: LoadBalancerType,
    /// What is hashed, for type `ConsistentHash`, which needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
    /// Spares peers that are new among others: their share of requests grows. Not with type
    /// `ConsistentHash`. `{}` turns it on. Default: a new peer gets its whole share at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
}

/// How a peer is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancerType {
    /// Each in turn.
    RoundRobin,
    /// The less loaded of two random peers.
    #[default]
    LeastRequest,
    /// The quicker of two random peers, by recent latency and requests in flight.
    PeakEwma,
    /// The same peer for the same key.
    ConsistentHash,
}

/// What is hashed. A request that does not have it is balanced as by `LeastRequest`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.header), has(self.cookie), has(self.sourceIP), has(self.uri)].exists_one(it, it)")
    .message("set exactly one of header, cookie, sourceIP and uri"))]
pub struct ConsistentHash {
    /// The value of this request header. Exactly one of `header`, `cookie`, `sourceIP` and `uri`.
    // Headers with an underscore are dropped before a peer is picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^`|~]+$")
    )]
    #[x_kube(validation = Rule::new("!(self.lowerAscii() in ['content-length', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'keep-alive', 'proxy-connection'])")
        .message("this header is about the connection and tells no client from another"))]
    pub header: Option<String>,
    /// The value of this cookie. Exactly one of `header`, `cookie`, `sourceIP` and `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
    )]
    pub cookie: Option<String>,
    /// The client's address, as trusted proxies tell it: `{}`. Exactly one of `header`, `cookie`, `sourceIP`
    /// and `uri`.
    #[serde(default, rename = "sourceIP", skip_serializing_if = "Option::is_none")]
    pub source_ip: Option<SourceIp>,
    /// Path and query of the request: `{}`. Exactly one of `header`, `cookie`, `sourceIP` and `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<Uri>,
}

/// The client's address.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIp {}

/// Path and query.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uri {}

/// The time in which a new peer comes to its whole share.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.window) >= duration('1s') && duration(self.window) <= duration('1h')")
    .message("window must be 1s to 1h")
    .field_path(".window"))]
pub struct SlowStart {
    /// From the first requests of a peer, with a tenth of its share, until it has all of it. 1s to 1h,
    /// default 30s.
    #[serde(default = "default_window")]
    pub window: Duration,
}

fn default_window() -> Duration {
    Duration::new("30s")
}
