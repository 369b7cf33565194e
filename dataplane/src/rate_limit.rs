//! How many requests are taken.
//!
//! Each key has a bucket of `requests` + `burst` tokens that is filled up again evenly, `requests` within
//! `interval`; a request takes one. What is remembered of a bucket is one number, when it will be full
//! ([`cells`]): a full one needs no memory at all, so that only those who sent something lately cost any.
//!
//! Replicas count for themselves. Each takes its share of what is configured, rounded up, and says its share in
//! `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use crate::{
    auth::Kind,
    config::{self, HostPattern, RateLimitKey, Route},
    reason::Reason,
    reject::Reject,
    sanitize,
};

mod cells;

use cells::{Cells, Rate, Taken};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A [`config::RateLimit`] and its counters. Goes from table to table.
pub(crate) struct Limiter {
    pub(crate) config: Arc<config::RateLimit>,
    rate: Rate,
    counters: Arc<Counters>,
    /// `RateLimit-Policy`, the same on every answer.
    policy: HeaderValue,
}

/// What was counted; outlives the limit that it was counted for.
struct Counters {
    /// Keyed anew in each process: nobody outside can choose keys that meet.
    hasher: RandomState,
    cells: Cells,
    /// What times are counted from.
    epoch: Instant,
}

/// What is known of a request when it is counted.
pub(crate) struct Counted<'a> {
    /// `None` is the route that takes what no other takes.
    pub(crate) route: Option<(&'a HostPattern, &'a Route)>,
    pub(crate) client: IpAddr,
    pub(crate) headers: &'a HeaderMap,
    /// Who it is, and which kind of method says so.
    pub(crate) consumer: Option<(Kind, &'a str)>,
}

/// What a response says of the limit.
pub(crate) type Said = Vec<(HeaderName, HeaderValue)>;

/// What is counted by itself. Of routes that what names them, and not their place in a table: the next table may
/// have it elsewhere.
#[derive(Hash)]
enum Key<'a> {
    Route(Option<(&'a HostPattern, &'a config::PathRule, &'a config::ObjectRef)>),
    Address(IpAddr),
    Header(&'a [u8]),
    /// What one method calls somebody is nobody to another: who may choose names in tokens must not spend what is others'.
    Consumer(Kind, &'a str),
}

impl Limiter {
    /// Compiles the limit; the counters of `old` are kept where they count the same.
    pub(crate) fn compile(config: &Arc<config::RateLimit>, old: Option<&Self>) -> Self {
        let counters = match old.filter(|old| old.config.key == config.key) {
            Some(old) => Arc::clone(&old.counters),
            None => Arc::new(Counters {
                hasher: RandomState::new(),
                cells: Cells::default(),
                epoch: Instant::now(),
            }),
        };
        let share = |count: u32| count.div_ceil(config.replicas.max(1));
        let requests = share(config.requests).max(1);
        let rate = Rate::new(requests, config.interval, share(config.burst));
        let window = seconds(config.interval);
        let policy = format!("\"default\";q={requests};w={window}");
        Self {
            rate,
            counters,
            policy: value(policy),
            config: Arc::clone(config),
        }
    }

    /// Whether it counts consumers, who are known only after authorization.
    pub(crate) fn counts_consumers(&self) -> bool {
        self.config.key == RateLimitKey::Consumer
    }

    /// Counts a request, or refuses it; both with what the answer says of the limit.
    pub(crate) fn take(&self, counted: &Counted<'_>, now: Instant) -> Result<Said, Reject> {
        let counters = &*self.counters;
        let hash = counters.hasher.hash_one(self.key(counted));
        let now = now.saturating_duration_since(counters.epoch);
        match counters.cells.take(hash, self.rate, now) {
            Taken::Yes { left, full } => Ok(vec![
                (RATELIMIT, remaining(left, full)),
                (RATELIMIT_POLICY, self.policy.clone()),
            ]),
            Taken::No { wait, full } => Err(Reject::new(Reason::RateLimited)
                .with(header::RETRY_AFTER, HeaderValue::from(seconds(wait).max(1)))
                .with(RATELIMIT, remaining(0, full))
                .with(RATELIMIT_POLICY, self.policy.clone())),
        }
    }

    /// Who lacks what is counted is counted by address: leaving it out gives nobody more.
    fn key<'a>(&self, counted: &Counted<'a>) -> Key<'a> {
        let by_address = || Key::Address(sanitize::network(counted.client));
        match &self.config.key {
            RateLimitKey::Route => Key::Route(
                counted
                    .route
                    .map(|(host, route)| (host, &route.path, &route.source)),
            ),
            RateLimitKey::Address => by_address(),
            RateLimitKey::Header(name) => match counted.headers.get(name.as_str()) {
                Some(value) if !value.is_empty() => Key::Header(value.as_bytes()),
                _ => by_address(),
            },
            RateLimitKey::Consumer => match counted.consumer {
                Some((kind, consumer)) => Key::Consumer(kind, consumer),
                None => by_address(),
            },
        }
    }
}

/// Rounded up: who comes back then is not too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// `RateLimit`: what is left, and when all of it is there again.
fn remaining(left: u64, full: Duration) -> HeaderValue {
    value(format!("\"default\";r={left};t={}", seconds(full)))
}

/// Of text that is fit for one.
fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text))
        .unwrap_or(HeaderValue::from_static("\"default\""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
