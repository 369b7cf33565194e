//! `spec.circuitBreaker`: how much the peers of a Service port get at a time.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// How much the peers of a Service port get at a time, and what waits for room. Each replica of Hale
/// counts what it does itself. A peer that is full is passed over; only when no peer has room do requests
/// wait in the queue.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections to all peers together. 1–1000000, default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
    /// Requests in flight to all peers together. 1–1000000, default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_parallel_requests: Option<i32>,
    /// Limits of each peer by itself. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_peer: Option<PeerLimits>,
    /// What waits when a limit is reached, or when there is no eligible peer for a moment.
    #[serde(default)]
    pub queue: Queue,
}

/// Limits of each peer by itself.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerLimits {
    /// Connections to one peer. 1–1000000, default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
    /// Requests in flight to one peer. 1–1000000, default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_parallel_requests: Option<i32>,
}

/// Requests that wait for a peer.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('1ms') && duration(self.timeout) <= duration('1m')")
    .message("timeout must be 1ms to 1m; to refuse at once set max to 0")
    .field_path(".timeout"))]
pub struct Queue {
    /// Requests that wait at a time; more are refused at once. 0–100000, 0 is no queue, default 100.
    #[serde(default = "default_max")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max: i32,
    /// How long a request waits at most. 1ms to 1m, default 1s.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,
}

const fn default_max() -> i32 {
    100
}

fn default_timeout() -> Duration {
    Duration::new("1s")
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max: default_max(),
            timeout: default_timeout(),
        }
    }
}
