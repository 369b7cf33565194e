//! `spec.loadBalancer`.

use std::time::Duration;

use hale_crds::{ConsistentHash, LoadBalancer, LoadBalancerType};
use hale_dataplane::config::{Balance, HashKey};

use super::{Judged, duration};

/// What `loadBalancer` says.
#[derive(Clone, Default)]
pub(in crate::translate) struct Balancing {
    pub(in crate::translate) balance: Balance,
    pub(in crate::translate) slow_start: Option<Duration>,
}

pub(super) fn balancing(section: &LoadBalancer) -> Judged<Balancing> {
    let balance = match (section.kind, &section.consistent_hash) {
        (LoadBalancerType::RoundRobin, None) => Balance::RoundRobin,
        (LoadBalancerType::LeastRequest, None) => Balance::LeastRequest,
        (LoadBalancerType::PeakEwma, None) => Balance::PeakEwma,
        (LoadBalancerType::ConsistentHash, Some(hash)) => Balance::ConsistentHash(key(hash)?),
        (LoadBalancerType::ConsistentHash, None) => {
            return wrong("type: ConsistentHash needs consistentHash, which says what is hashed");
        }
        (_, Some(_)) => return wrong("consistentHash: is for type ConsistentHash alone"),
    };
    let slow_start = match (&section.slow_start, section.kind) {
        (None, _) => None,
        (Some(_), LoadBalancerType::ConsistentHash) => {
            return wrong(
                "slowStart: does not go with type ConsistentHash: a key has its peer from the beginning",
            );
        }
        (Some(slow_start), _) => Some(duration(
            "loadBalancer.slowStart.window",
            &slow_start.window,
            Duration::from_secs(1)..=Duration::from_secs(3600),
        )?),
    };
    Ok(Balancing {
        balance,
        slow_start,
    })
}

fn key(hash: &ConsistentHash) -> Judged<HashKey> {
    let header = hash.header.as_deref().map(header);
    let cookie = hash.cookie.as_deref().map(cookie);
    let source_ip = hash.source_ip.as_ref().map(|_| Ok(HashKey::SourceIp));
    let uri = hash.uri.as_ref().map(|_| Ok(HashKey::Uri));
    let mut keys = [header, cookie, source_ip, uri].into_iter().flatten();
    match (keys.next(), keys.next()) {
        (Some(key), None) => key,
        _ => wrong("consistentHash: set exactly one of header, cookie, sourceIP and uri"),
    }
}

/// Headers that are no longer there, or say nothing of the client, when a peer is picked.
const OF_CONNECTION: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header(name: &str) -> Judged<HashKey> {
    let wrong = |why: &str| wrong(&format!("consistentHash.header: {name:?} {why}"));
    match http::HeaderName::from_bytes(name.as_bytes()) {
        Err(_) => wrong("is not the name of a header"),
        Ok(header) if OF_CONNECTION.contains(&header.as_str()) => {
            wrong("is about the connection and tells no client from another")
        }
        Ok(header) if header.as_str().contains('_') => {
            wrong("has an underscore: such headers are dropped")
        }
        Ok(header) => Ok(HashKey::Header(header.as_str().to_owned())),
    }
}

/// A cookie's name has the characters of a header's, and a case.
fn cookie(name: &str) -> Judged<HashKey> {
    match http::HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(HashKey::Cookie(name.to_owned())),
        Err(_) => wrong(&format!(
            "consistentHash.cookie: {name:?} is not the name of a cookie"
        )),
    }
}

fn wrong<T>(why: &str) -> Judged<T> {
    Err(format!("loadBalancer.{why}"))
}
