//! The rulebook of Ingress: hosts, paths and default backends become claims.

use hale_dataplane::config::{HostPattern, ObjectRef, PathRule};
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressRule, IngressSpec};

use crate::{
    cluster::key,
    finding::{FindingReason, Severity},
};

use super::{
    Findings,
    hosts::{Claim, Hosts, Strength},
};

/// The reference to an Ingress.
pub(super) fn reference(ingress: &Ingress) -> ObjectRef {
    let key = key(&ingress.metadata);
    ObjectRef {
        kind: "Ingress",
        namespace: key.namespace,
        name: key.name,
    }
}

/// Makes the claims of one Ingress. Returns the hosts of its valid rules, in order, for `tls` entries that
/// name none.
pub(super) fn claim<'a>(
    ingress: &'a Ingress,
    hosts: &mut Hosts<'a>,
    findings: &mut Findings,
) -> Vec<HostPattern> {
    let Some(spec) = &ingress.spec else {
        return Vec::new();
    };
    let source = reference(ingress);
    let mut named = Vec::new();
    for rule in spec.rules.iter().flatten() {
        match HostPattern::parse(rule.host.as_deref().unwrap_or_default()) {
            Ok(host) => {
                claim_rule(&host, rule, &source, hosts, findings);
                if !named.contains(&host) {
                    named.push(host);
                }
            }
            Err(error) => findings.add(
                source.clone(),
                FindingReason::HostInvalid,
                Severity::Warning,
                format!("a rule is not served: host {error}"),
            ),
        }
    }
    claim_default(spec, &source, &named, hosts, findings);
    named
}

fn claim_rule<'a>(
    host: &HostPattern,
    rule: &'a IngressRule,
    source: &ObjectRef,
    hosts: &mut Hosts<'a>,
    findings: &mut Findings,
) {
    for path in rule.http.iter().flat_map(|http| &http.paths) {
        match path_rule(path) {
            Ok(rule) => {
                let claim = Claim {
                    ingress: source.clone(),
                    backend: &path.backend,
                    strength: Strength::Rule,
                    tls: false,
                };
                hosts.claim(host, rule, claim, findings);
            }
            Err(error) => findings.add(
                source.clone(),
                FindingReason::PathInvalid,
                Severity::Warning,
                format!("a rule of host {host} is not served: {error}"),
            ),
        }
    }
}

/// The default backend takes what no rule takes: of the Ingress's own hosts, and of hosts that nobody
/// names. It does not reach below hosts that only others name.
fn claim_default<'a>(
    spec: &'a IngressSpec,
    source: &ObjectRef,
    named: &[HostPattern],
    hosts: &mut Hosts<'a>,
    findings: &mut Findings,
) {
    let Some(backend) = &spec.default_backend else {
        return;
    };
    let everything = || PathRule::Prefix(String::new());
    let claim = |strength| Claim {
        ingress: source.clone(),
        backend,
        strength,
        tls: false,
    };
    for host in named {
        hosts.claim(host, everything(), claim(Strength::Default), findings);
    }
    if !named.contains(&HostPattern::Any) {
        let strength = if named.is_empty() {
            Strength::Default
        } else {
            Strength::Spare
        };
        hosts.claim(&HostPattern::Any, everything(), claim(strength), findings);
    }
}

fn path_rule(path: &HTTPIngressPath) -> Result<PathRule, String> {
    let text = path.path.as_deref().filter(|path| !path.is_empty());
    match (path.path_type.as_str(), text) {
        ("Exact", Some(text)) => PathRule::exact(text).map_err(|error| error.to_string()),
        ("Exact", None) => Err("a path of type Exact needs a path".to_owned()),
        ("Prefix" | "ImplementationSpecific" | "", text) => {
            PathRule::prefix(text.unwrap_or("/")).map_err(|error| error.to_string())
        }
        (unknown, _) => Err(format!("pathType {unknown:?} is not known")),
    }
}
