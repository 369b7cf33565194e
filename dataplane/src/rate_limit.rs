//! How many requests are taken.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::{config, reject::Reject, route::Found};

/// A [`config::RateLimit`] and its counters. Goes from table to table.
pub(crate) struct Limiter {
    pub(crate) config: Arc<config::RateLimit>,
}

/// What is known of a request when it is counted.
pub(crate) struct Counted<'a> {
    pub(crate) route: Option<Found>,
    pub(crate) client: IpAddr,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) consumer: Option<&'a str>,
}

/// What a response says of the limit.
pub(crate) type Said = Vec<(HeaderName, HeaderValue)>;

impl Limiter {
    /// Compiles the limit; the counters of `old` are kept where they count the same.
    pub(crate) fn compile(config: &Arc<config::RateLimit>, _old: Option<&Self>) -> Self {
        Self {
            config: Arc::clone(config),
        }
    }

    /// Whether it counts consumers, who are known only after authorization.
    pub(crate) fn counts_consumers(&self) -> bool {
        self.config.key == config::RateLimitKey::Consumer
    }

    /// Counts a request, or refuses it.
    pub(crate) fn take(&self, _counted: &Counted<'_>, _now: Instant) -> Result<Said, Reject> {
        Err(Reject::new(crate::reason::Reason::RateLimited))
    }
}
