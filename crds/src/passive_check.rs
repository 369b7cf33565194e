//! `spec.healthCheck.passive`: which peers are ejected for how they answer requests.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Which peers are ejected for how they answer requests. Each replica of Hale judges by the requests
/// that it makes itself. After its ejection a peer is let in again with one request as a trial.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.consecutiveErrors > 0 || self.consecutive5xx > 0 || has(self.errorPercent)")
    .message("no rule is left that ejects: set consecutiveErrors, consecutive5xx or errorPercent, or remove passive"))]
#[x_kube(validation = Rule::new("duration(self.baseEjection) >= duration('100ms') && duration(self.baseEjection) <= duration('24h')")
    .message("baseEjection must be 100ms to 24h")
    .field_path(".baseEjection"))]
#[x_kube(validation = Rule::new("!has(self.maxEjection) || duration(self.maxEjection) <= duration('24h')")
    .message("maxEjection must be at most 24h")
    .field_path(".maxEjection"))]
#[x_kube(validation = Rule::new("!has(self.maxEjection) || duration(self.maxEjection) >= duration(self.baseEjection)")
    .message("maxEjection must not be shorter than baseEjection")
    .field_path(".maxEjection"))]
pub struct PassiveCheck {
    /// Failures without a response in a row that eject: connect errors, resets and timeouts. As many responses in a
    /// row that broke off eject, too.
    /// 0–1000, 0 is off, default 5.
    #[serde(default = "default_consecutive_errors")]
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_errors: i32,
    /// Responses of status 500–599 in a row that eject. 0–1000, default 0: off, because an
    /// application may answer so to requests that are to blame themselves.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_5xx: i32,
    /// Ejects by the share of errors: failures without a response, and responses of status 500–599.
    /// `{}` turns it on. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_percent: Option<ErrorPercent>,
    /// How long a peer is out, times the number of its ejections so far; the number falls again while
    /// the peer does well. 100ms to 24h, default 10s.
    #[serde(default = "default_base_ejection")]
    pub base_ejection: Duration,
    /// The longest that a peer is out at a time. `baseEjection` to 24h, default 5m (or `baseEjection`,
    /// where that is longer).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection: Option<Duration>,
    /// Percent of a Service port's peers that may be ejected at a time. Where there are two or more
    /// peers one may always be, and a single peer never is. A failing active check is not held back by
    /// this. 0–100, default 50.
    #[serde(default = "default_max_ejected")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejected_percent: i32,
}

const fn default_consecutive_errors() -> i32 {
    5
}

fn default_base_ejection() -> Duration {
    Duration::new("10s")
}

const fn default_max_ejected() -> i32 {
    50
}

/// A share of errors among the requests of a window.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.window) >= duration('1s') && duration(self.window) <= duration('10m')")
    .message("window must be 1s to 10m")
    .field_path(".window"))]
pub struct ErrorPercent {
    /// Errors per hundred requests that eject. 1–100, default 50.
    #[serde(default = "default_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub threshold: i32,
    /// Requests to the peer within the window before the share means anything. 1–1000000, default 20.
    #[serde(default = "default_min_requests")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: i32,
    /// The time that is looked back at. 1s to 10m, default 10s.
    #[serde(default = "default_window")]
    pub window: Duration,
}

const fn default_threshold() -> i32 {
    50
}

const fn default_min_requests() -> i32 {
    20
}

fn default_window() -> Duration {
    Duration::new("10s")
}
