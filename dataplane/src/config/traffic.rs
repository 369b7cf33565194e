//! Which addresses may send requests, how many, and from which web pages.

use std::{sync::Arc, time::Duration};

use ipnet::IpNet;
use serde::Serialize;

use super::{ObjectRef, Problem, duration, is_false};

/// Which client addresses may send requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// All.
    #[default]
    Everybody,
    /// By these rules.
    Rules(Arc<AccessRules>),
    /// None: what the policy says cannot be used.
    Unavailable(Problem),
}

impl Access {
    /// Whether all may.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Everybody)
    }

    /// The policy that says which.
    pub fn source(&self) -> Option<&ObjectRef> {
        match self {
            Self::Rules(rules) => Some(&rules.source),
            Self::Everybody | Self::Unavailable(_) => None,
        }
    }
}

/// Addresses by network. An address in both lists is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRules {
    /// The policy.
    pub source: ObjectRef,
    /// Who may; empty is everybody who is not in `deny`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<IpNet>,
    /// Who may not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<IpNet>,
}

/// How many requests are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// The policy.
    pub source: ObjectRef,
    /// So many within `interval`, over all replicas. At least 1.
    pub requests: u32,
    /// 1 s to 1 h.
    #[serde(with = "duration::plain")]
    pub interval: Duration,
    /// So many more at once, over all replicas, after a pause.
    pub burst: u32,
    /// What is counted by itself.
    pub key: RateLimitKey,
    /// Replicas that share it: each takes its part, rounded up. At least 1.
    pub replicas: u32,
}

/// What is counted by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RateLimitKey {
    /// All requests of a route together.
    Route,
    /// Each client address; of IPv6 each network of 64 bits.
    Address,
    /// Each value of this header, lower case; requests without it by their address.
    Header(String),
    /// Each consumer that the route's auth names; requests without one by their address.
    Consumer,
}

/// Which web pages of other origins may read answers (Fetch standard, "CORS protocol").
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// The policy.
    pub source: ObjectRef,
    /// Origins, exact or with a `*` that stands for labels (`https://*.example.com`), or `*`.
    pub allow_origins: Vec<String>,
    /// Methods; `*` is all.
    pub allow_methods: Vec<String>,
    /// Request headers; `*` is all.
    pub allow_headers: Vec<String>,
    /// Response headers that pages may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// Whether pages may send cookies and other credentials.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_credentials: bool,
    /// For how long browsers remember the answer to a preflight. Default 5 s.
    #[serde(with = "duration::plain")]
    pub max_age: Duration,
}
