//! `spec.rateLimit`: how many requests are taken.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// How many requests are taken. What is above is answered with 429 `RateLimited` and `Retry-After`. The limit is for
/// all replicas of Hale together: each takes its part, by the number of replicas that are ready.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.interval) >= duration('1s') && duration(self.interval) <= duration('1h')")
    .message("interval must be 1s to 1h")
    .field_path(".interval"))]
pub struct RateLimit {
    /// So many requests within `interval`. 1–1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: i32,
    /// The time that `requests` is for. 1s to 1h, default 1s.
    #[serde(default = "default_interval")]
    pub interval: Duration,
    /// So many more at once, after a pause. 0–1000000, default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub burst: i32,
    /// What is counted by itself. Default: each client address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<RateLimitKey>,
}

fn default_interval() -> Duration {
    Duration::new("1s")
}

/// What is counted by itself: exactly one of `route`, `clientAddress`, `header` and `consumer`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.route), has(self.clientAddress), has(self.header), has(self.consumer)].exists_one(it, it)")
    .message("set exactly one of route, clientAddress, header and consumer"))]
pub struct RateLimitKey {
    /// All requests of a route together: `{}`. Exactly one of `route`, `clientAddress`, `header` and `consumer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<WholeRoute>,
    /// Each client address, as trusted proxies tell it; of IPv6 each network of 64 bits: `{}`. Exactly one of
    /// `route`, `clientAddress`, `header` and `consumer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<ClientAddress>,
    /// Each value of this request header; requests without it by their address. Clients choose it: it tells friends
    /// apart and stops no foe. Exactly one of `route`, `clientAddress`, `header` and `consumer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^`|~]+$")
    )]
    pub header: Option<String>,
    /// Each consumer that the section `auth` in force finds; requests without one by their address: `{}`. Exactly one
    /// of `route`, `clientAddress`, `header` and `consumer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Consumer>,
}

/// All requests of a route.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeRoute {}

/// The client's address.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAddress {}

/// Who it is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumer {}
