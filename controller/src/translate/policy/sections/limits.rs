//! `spec.circuitBreaker`.

use std::time::Duration;

use hale_crds::CircuitBreaker;
use hale_dataplane::config::{Queue, UpstreamLimits};

use super::{Judged, duration, number};

pub(super) fn limits(section: &CircuitBreaker) -> Judged<UpstreamLimits> {
    let limit = |field: &str, value: Option<i32>| {
        let limit = |value| number(&format!("circuitBreaker.{field}"), value, 1..=1_000_000);
        value.map(limit).transpose()
    };
    let peer = section.per_peer.clone().unwrap_or_default();
    Ok(UpstreamLimits {
        max_connections: limit("maxConnections", section.max_connections)?,
        max_parallel_requests: limit("maxParallelRequests", section.max_parallel_requests)?,
        peer_max_connections: limit("perPeer.maxConnections", peer.max_connections)?,
        peer_max_parallel_requests: limit(
            "perPeer.maxParallelRequests",
            peer.max_parallel_requests,
        )?,
        queue: Queue {
            max: number("circuitBreaker.queue.max", section.queue.max, 0..=100_000)?,
            timeout: duration(
                "circuitBreaker.queue.timeout",
                &section.queue.timeout,
                Duration::from_millis(1)..=Duration::from_secs(60),
            )?,
        },
    })
}
