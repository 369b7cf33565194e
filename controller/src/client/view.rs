//! What the commands read of the admin port's answers. Fields that are not known are ignored, and those that
//! are missing have defaults: the command may be older or newer than the process that it asks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// `/api/v1/status`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) phase: String,
    pub(super) leader: Option<bool>,
    pub(super) generation: u64,
    pub(super) fingerprint: String,
    pub(super) published: Option<Timestamp>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) findings: Vec<Finding>,
    pub(super) unavailable: Vec<Finding>,
}

/// What is wrong with an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Finding {
    pub(super) object: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// One upstream.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Upstream {
    pub(super) id: String,
    pub(super) checked: bool,
    pub(super) serving: usize,
    pub(super) panic: bool,
    pub(super) reason: Option<String>,
    pub(super) message: String,
    pub(super) by_reason: BTreeMap<String, usize>,
    pub(super) peers: Vec<Peer>,
}

/// One peer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) pod: Option<String>,
    pub(super) standing: String,
    pub(super) serving: bool,
    pub(super) reason: Option<String>,
    pub(super) message: String,
    pub(super) since: Option<Timestamp>,
    pub(super) last_check: Option<Check>,
    pub(super) last_error: Option<LastError>,
    pub(super) requests: u64,
    pub(super) in_flight: u64,
}

/// Requests that failed, with none answered since.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LastError {
    pub(super) at: Option<Timestamp>,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) in_a_row: u64,
}

/// One check.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Check {
    pub(super) at: Option<Timestamp>,
    pub(super) duration_ms: u64,
    pub(super) pass: bool,
    pub(super) in_a_row: u32,
}

/// `/api/v1/why`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Why {
    pub(super) canonical_path: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    pub(super) source: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) message: String,
    pub(super) nearest: Vec<String>,
    pub(super) not_served: Vec<Finding>,
    pub(super) more_not_served: usize,
    pub(super) findings: Vec<Finding>,
    pub(super) more_findings: usize,
    pub(super) upstream: Option<Upstream>,
    pub(super) auth_upstream: Option<Upstream>,
    pub(super) policies: Policies,
    pub(super) trial: Option<Trial>,
}

/// What policies say.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Policies {
    pub(super) auth: Option<Auth>,
    pub(super) access: Option<Section>,
    pub(super) rate_limit: Option<Section>,
    pub(super) cors: Option<Section>,
}

/// One section.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Section {
    pub(super) source: Option<String>,
    pub(super) message: String,
}

/// `auth`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Auth {
    pub(super) source: Option<String>,
    pub(super) exempt: bool,
    pub(super) methods: Vec<Method>,
    pub(super) unavailable: String,
}

/// One of its methods.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Method {
    pub(super) method: String,
    pub(super) wants: String,
    pub(super) unavailable: Option<String>,
}

/// What they make of a request that was tried.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Trial {
    pub(super) access: Option<String>,
    pub(super) preflight: Option<Preflight>,
    pub(super) method: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) consumer: Option<String>,
    pub(super) message: String,
}

/// What a preflight of CORS is told.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Preflight {
    pub(super) allowed: bool,
    pub(super) message: String,
}

impl Why {
    /// Whether the request would be served; of a preflight, whether the request that it asks for may be sent.
    pub(super) fn is_served(&self) -> bool {
        let preflight = self
            .trial
            .as_ref()
            .and_then(|trial| trial.preflight.as_ref());
        self.reason.is_none() && preflight.is_none_or(|preflight| preflight.allowed)
    }
}
