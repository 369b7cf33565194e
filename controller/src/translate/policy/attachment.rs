//! A policy on one of its targets: whether the target is there, and what the policy has for it.

use std::collections::BTreeSet;

use hale_crds::{TargetKind, TargetRef};

use crate::{cluster::Cluster, settings::ObjectKey};

use super::{
    super::{
        endpoints::CheckAt,
        service::{is_external_name, is_tcp, port_name, ports},
    },
    Target,
    section::Section,
    sections::Sections,
};

/// A policy on one of its targets.
pub(super) struct Attachment {
    pub(super) target: Target,
    /// What is wrong with the policy for this target alone.
    pub(super) errors: Vec<String>,
    /// Why there is nothing to attach to.
    pub(super) missing: Option<String>,
    /// Sections that an older policy has, and its index.
    pub(super) lost: Vec<(Section, usize)>,
}

impl Attachment {
    /// Whether the policy has this section for this target. A section that is not valid leaves the place to
    /// others, but for three: TLS that cannot be had refuses requests, and never becomes plain text; `auth` and
    /// `access` keep everybody out, and never give way to a younger policy that lets more in.
    pub(super) fn can_have(&self, section: Section, sections: &Sections) -> bool {
        let valid = match section {
            Section::HealthCheck => {
                sections.health_check.as_ref().is_some_and(Result::is_ok) && self.errors.is_empty()
            }
            Section::LoadBalancer => sections.load_balancer.as_ref().is_some_and(Result::is_ok),
            Section::SessionPersistence => sections.session.as_ref().is_some_and(Result::is_ok),
            Section::CircuitBreaker => sections.circuit_breaker.as_ref().is_some_and(Result::is_ok),
            Section::Tls => sections.tls.is_some(),
            Section::Retry => sections.retry.as_ref().is_some_and(Result::is_ok),
            Section::Timeouts => sections.timeouts.as_ref().is_some_and(Result::is_ok),
            Section::Path => sections.path.is_some(),
            Section::Auth => sections.auth.is_some(),
            Section::Access => sections.access.is_some(),
            Section::RateLimit => sections.rate_limit.as_ref().is_some_and(Result::is_ok),
            Section::Cors => sections.cors.as_ref().is_some_and(Result::is_ok),
        };
        valid && (self.target.kind == TargetKind::Service || !section.is_of_peers())
    }
}

/// Looks at what a target names.
pub(super) fn attach(
    reference: &TargetRef,
    namespace: &str,
    sections: &Sections,
    cluster: &Cluster,
    ingresses: &BTreeSet<ObjectKey>,
) -> Attachment {
    let object = ObjectKey::new(namespace, reference.name.clone());
    let mut errors = Vec::new();
    let group = match reference.kind {
        TargetKind::Service => "",
        TargetKind::Ingress => "networking.k8s.io",
    };
    if reference.group != group {
        errors.push(format!(
            "group of kind {} is {group:?}, not {:?}",
            reference.kind.as_str(),
            reference.group
        ));
    }
    let missing = match reference.kind {
        TargetKind::Service => service_missing(&object, reference.section_name.as_deref(), cluster),
        TargetKind::Ingress => {
            if sections.has_peer_sections() {
                errors.push(
                    "healthCheck, loadBalancer, sessionPersistence, circuitBreaker and tls describe the peers of a Service, not an Ingress"
                        .to_owned(),
                );
            }
            if reference.section_name.is_some() {
                errors.push("an Ingress has no sectionName".to_owned());
            }
            (!ingresses.contains(&object)).then(|| format!("Ingress {object} does not exist"))
        }
    };
    if let (TargetKind::Service, None, Some(CheckAt::Name(name))) =
        (reference.kind, &missing, sections.check_at())
        && !has_port(&object, name, cluster)
    {
        errors.push(format!(
            "healthCheck.active.port: Service {object} has no port {name}"
        ));
    }
    Attachment {
        target: Target {
            kind: reference.kind,
            object,
            port: match reference.kind {
                TargetKind::Service => reference.section_name.clone(),
                TargetKind::Ingress => None,
            },
        },
        errors,
        missing,
        lost: Vec::new(),
    }
}

fn service_missing(key: &ObjectKey, port: Option<&str>, cluster: &Cluster) -> Option<String> {
    let Some(service) = cluster.services().get(key) else {
        return Some(format!("Service {key} does not exist"));
    };
    if is_external_name(service) {
        return Some(format!(
            "Service {key} is of type ExternalName, which has no peers"
        ));
    }
    let port = port?;
    (!has_port(key, port, cluster)).then(|| format!("Service {key} has no port {port}"))
}

fn has_port(key: &ObjectKey, name: &str, cluster: &Cluster) -> bool {
    cluster
        .services()
        .get(key)
        .is_some_and(|service| ports(service).any(|port| is_tcp(port) && port_name(port) == name))
}
