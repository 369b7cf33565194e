//! `spec.rateLimit`.

use std::{sync::Arc, time::Duration};

use hale_dataplane::config::{ObjectRef, RateLimit, RateLimitKey};

use super::{
    super::names::{self, Use},
    Judged, duration, number,
};

pub(super) fn read(
    section: &hale_crds::RateLimit,
    source: &ObjectRef,
    replicas: u32,
) -> Judged<Arc<RateLimit>> {
    Ok(Arc::new(RateLimit {
        source: source.clone(),
        requests: number("rateLimit.requests", section.requests, 1..=1_000_000)?,
        interval: duration(
            "rateLimit.interval",
            &section.interval,
            Duration::from_secs(1)..=Duration::from_secs(3600),
        )?,
        burst: number("rateLimit.burst", section.burst, 0..=1_000_000)?,
        key: match &section.key {
            Some(key) => self::key(key)?,
            None => RateLimitKey::Address,
        },
        replicas: replicas.max(1),
    }))
}

fn key(key: &hale_crds::RateLimitKey) -> Judged<RateLimitKey> {
    match (&key.route, &key.client_address, &key.header, &key.consumer) {
        (Some(_), None, None, None) => Ok(RateLimitKey::Route),
        (None, Some(_), None, None) => Ok(RateLimitKey::Address),
        (None, None, Some(name), None) => {
            names::header("rateLimit.key.header", name, Use::Count).map(RateLimitKey::Header)
        }
        (None, None, None, Some(_)) => Ok(RateLimitKey::Consumer),
        _ => Err(
            "rateLimit.key: set exactly one of route, clientAddress, header and consumer"
                .to_owned(),
        ),
    }
}
