//! `status.loadBalancer` of an Ingress: where its hosts should point.

use std::net::IpAddr;

use k8s_openapi::api::{
    core::v1::Service,
    networking::v1::{Ingress, IngressLoadBalancerIngress},
};

/// The addresses that Ingresses should have, from the flag or from the Service; `None` where neither is given, or the
/// Service is not known: then Ingresses are left as they are.
pub(super) fn wanted(
    flag: &[String],
    service: Option<&Service>,
) -> Option<Vec<IngressLoadBalancerIngress>> {
    if !flag.is_empty() {
        return Some(sorted(
            flag.iter().map(|text| address(text.trim())).collect(),
        ));
    }
    let service = service?;
    let spec = service.spec.as_ref()?;
    let status = service.status.as_ref();
    let balancers = status
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .into_iter()
        .flatten()
        .map(|balancer| IngressLoadBalancerIngress {
            ip: balancer.ip.clone(),
            hostname: balancer.hostname.clone(),
            ports: None,
        });
    let external = spec.external_ips.iter().flatten().map(|ip| address(ip));
    let mut found: Vec<_> = balancers.chain(external).collect();
    if found.is_empty() {
        // Nothing outside of the cluster leads here, but something inside does.
        match spec.type_.as_deref() {
            Some("ExternalName") => found.extend(spec.external_name.as_deref().map(address)),
            Some("LoadBalancer") => {}
            _ => found.extend(
                spec.cluster_ip
                    .as_deref()
                    .filter(|ip| !matches!(*ip, "" | "None"))
                    .map(address),
            ),
        }
    }
    Some(sorted(found))
}

/// The addresses that an Ingress has.
pub(super) fn written(ingress: &Ingress) -> Vec<IngressLoadBalancerIngress> {
    let status = ingress.status.as_ref();
    let written = status.and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
    sorted(written.unwrap_or_default())
}

fn address(text: &str) -> IngressLoadBalancerIngress {
    let is_ip = text.parse::<IpAddr>().is_ok();
    IngressLoadBalancerIngress {
        ip: is_ip.then(|| text.to_owned()),
        hostname: (!is_ip).then(|| text.to_owned()),
        ports: None,
    }
}

fn sorted(mut addresses: Vec<IngressLoadBalancerIngress>) -> Vec<IngressLoadBalancerIngress> {
    let key = |address: &IngressLoadBalancerIngress| (address.ip.clone(), address.hostname.clone());
    addresses.sort_by_key(key);
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: &Value, status: &Value) -> Service {
        serde_json::from_value(json!({"spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn the_flag_goes_before_the_service() {
        let flag = ["lb.example.com".to_owned(), "192.0.2.1".to_owned()];
        let wanted = wanted(
            &flag,
            Some(&service(&json!({"clusterIP": "10.0.0.1"}), &json!({}))),
        );
        let wanted = serde_json::to_value(wanted.unwrap()).unwrap();
        assert_eq!(
            wanted,
            json!([{"hostname": "lb.example.com"}, {"ip": "192.0.2.1"}])
        );
    }

    #[test]
    fn a_service_gives_what_leads_to_it() {
        let balanced =
            json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "x.example"}]}});
        let cases = [
            (
                json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}),
                balanced,
                json!([{"hostname": "x.example"}, {"ip": "192.0.2.9"}]),
            ),
            (
                json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}),
                json!({}),
                json!([]),
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"}),
                json!({}),
                json!([{"ip": "10.0.0.1"}]),
            ),
            (
                json!({"type": "NodePort", "clusterIP": "10.0.0.1", "externalIPs": ["192.0.2.7"]}),
                json!({}),
                json!([{"ip": "192.0.2.7"}]),
            ),
            (json!({"clusterIP": "None"}), json!({}), json!([])),
        ];
        for (spec, status, expected) in cases {
            let wanted = wanted(&[], Some(&service(&spec, &status))).unwrap();
            assert_eq!(serde_json::to_value(wanted).unwrap(), expected, "{spec}");
        }
        assert_eq!(wanted(&[], None), None);
    }
}
