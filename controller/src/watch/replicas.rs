//! How many replicas of this Hale are ready: as many as its own Service has ready pods.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// Pods that are ready, each once: a Service of two address families has a slice for each, with the same pods. 0 where
/// nothing is known of any.
pub(super) fn ready(slices: &[Arc<EndpointSlice>]) -> u32 {
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten());
    let pods: BTreeSet<&str> = endpoints
        .filter(|it| is_ready(it))
        .filter_map(pod)
        .collect();
    u32::try_from(pods.len()).unwrap_or(u32::MAX)
}

fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|it| it.ready).unwrap_or(true)
}

/// Who an endpoint is: its pod, or an address where somebody else than Kubernetes wrote the slice.
fn pod(endpoint: &Endpoint) -> Option<&str> {
    let target = endpoint.target_ref.as_ref();
    target
        .and_then(|it| it.uid.as_deref().or(it.name.as_deref()))
        .or_else(|| endpoint.addresses.first().map(String::as_str))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(endpoints: &[(&str, Option<&str>, Option<bool>)]) -> Arc<EndpointSlice> {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(address, uid, ready)| {
                let target = uid.map(|uid| json!({"kind": "Pod", "name": uid, "uid": uid}));
                json!({"addresses": [address], "conditions": {"ready": ready}, "targetRef": target})
            })
            .collect();
        let slice =
            json!({"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": endpoints});
        Arc::new(serde_json::from_value(slice).unwrap())
    }

    #[test]
    fn each_ready_pod_is_counted_once() {
        assert_eq!(ready(&[]), 0);
        let v4 = slice(&[
            ("10.0.0.1", Some("a"), Some(true)),
            ("10.0.0.2", Some("b"), None),
            ("10.0.0.3", Some("c"), Some(false)),
        ]);
        let v6 = slice(&[
            ("fd00::1", Some("a"), Some(true)),
            ("fd00::2", Some("b"), Some(true)),
        ]);
        assert_eq!(ready(&[v4.clone(), v6]), 2);
        let by_hand = slice(&[("10.0.0.8", None, None), ("10.0.0.9", None, None)]);
        assert_eq!(ready(&[v4, by_hand]), 4);
    }
}
