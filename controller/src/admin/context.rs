//! What the controller adds to `hale why`: Ingresses for the host that are not served, and what is wrong with the
//! objects that the answer depends on. The dataplane knows only what was served in the end.

use std::collections::BTreeMap;

use hale_crds::TargetKind;
use hale_dataplane::{
    config::{HostPattern, ObjectRef},
    reason::Reason,
    report::{WhyReport, WhyRequest},
};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;

use super::FindingLine;
use crate::{
    cluster::key,
    publish::Published,
    settings::ObjectKey,
    translate::{AcceptedReason, PolicyOutcome, TargetOutcome, why_not_ours},
};

/// Lines of each kind that people still read.
const MOST: usize = 12;

/// What the dataplane cannot know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Ingresses for the host that are not served, why, and what to do; the nearest host first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_served: Vec<FindingLine>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_not_served: usize,
    /// What is wrong with the objects that the answer depends on; the nearest object first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingLine>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_findings: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// How near an object is to an answer; the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    /// The Ingress that has the rule, and the policies that the dataplane names.
    Named,
    /// A policy for that Ingress.
    IngressPolicy,
    /// A policy for the port or the Service that the rule leads to.
    ServicePolicy,
    /// That Service.
    Service,
    /// The Service that a policy asks.
    Asked,
    /// Another Ingress for the host, by how well it fits.
    Ingress(u8),
}

/// Looks for what belongs to an answer.
pub(super) fn of(
    published: &Published,
    request: &WhyRequest,
    why: &WhyReport,
    now: Timestamp,
) -> Context {
    let mut involved = involved(published, why);
    let not_served = ingresses(published, request, why, &mut involved);
    let mut findings: Vec<(Nearness, FindingLine)> = published
        .findings(now)
        .filter_map(|finding| {
            let near = *involved.get(&finding.object)?;
            Some((near, FindingLine::from(&*finding)))
        })
        .collect();
    // Stable: what is equally near stays in the order of objects.
    findings.sort_by_key(|(near, _)| *near);
    let (not_served, more_not_served) = nearest(not_served);
    let (findings, more_findings) = nearest(findings);
    Context {
        not_served,
        more_not_served,
        findings,
        more_findings,
    }
}

/// The first lines, and how many there are besides.
fn nearest<N>(lines: Vec<(N, FindingLine)>) -> (Vec<FindingLine>, usize) {
    let more = lines.len().saturating_sub(MOST);
    let lines = lines.into_iter().map(|(_, line)| line).take(MOST);
    (lines.collect(), more)
}

/// Objects that the answer depends on: those that it names, and the policies for just this rule, whether they are in
/// force or lost to others. Policies of other Ingresses before the same Service say nothing of it.
fn involved(published: &Published, why: &WhyReport) -> BTreeMap<ObjectRef, Nearness> {
    let mut involved = BTreeMap::new();
    let mut add = |object: ObjectRef, near: Nearness| {
        let known = involved.entry(object).or_insert(near);
        *known = near.min(*known);
    };
    if let Some(source) = &why.source {
        add(source.clone(), Nearness::Named);
    }
    for source in why.policies.iter().flat_map(|it| it.sources()) {
        add(source.clone(), Nearness::Named);
    }
    for (upstream, near) in [
        (&why.upstream, Nearness::Service),
        (&why.auth_upstream, Nearness::Asked),
    ] {
        if let Some(upstream) = upstream {
            let service = ObjectKey::new(&*upstream.id.namespace, &*upstream.id.service);
            add(reference("Service", &service), near);
        }
    }
    for outcome in &published.translation.policies {
        let near = |target: &TargetOutcome| match target.target.kind {
            TargetKind::Ingress => {
                is_source(why, outcome, target).then_some(Nearness::IngressPolicy)
            }
            TargetKind::Service => {
                is_service(why, outcome, target).then_some(Nearness::ServicePolicy)
            }
        };
        if let Some(near) = outcome.targets.iter().filter_map(near).min() {
            let key = ObjectKey::new(&*outcome.namespace, &*outcome.name);
            add(reference("UpstreamPolicy", &key), near);
        }
    }
    involved
}

/// Whether a target is the Ingress that has the rule.
fn is_source(why: &WhyReport, policy: &PolicyOutcome, target: &TargetOutcome) -> bool {
    why.source.as_ref().is_some_and(|source| {
        source.kind == "Ingress"
            && *source.namespace == *policy.namespace
            && *source.name == *target.target.name
    })
}

/// Whether a target is the Service that the rule leads to, or its port, or one that the Service does not have: that
/// may keep everybody out of the others.
fn is_service(why: &WhyReport, policy: &PolicyOutcome, target: &TargetOutcome) -> bool {
    why.upstream.as_ref().is_some_and(|upstream| {
        let port = target.target.section_name.as_deref();
        *upstream.id.namespace == *policy.namespace
            && *upstream.id.service == *target.target.name
            && (port.is_none_or(|port| port == &*upstream.id.port)
                || target.accepted.reason == AcceptedReason::TargetNotFound)
    })
}

/// The Ingresses for the host: those that are not served, the nearest first; the others are involved.
fn ingresses(
    published: &Published,
    request: &WhyRequest,
    why: &WhyReport,
    involved: &mut BTreeMap<ObjectRef, Nearness>,
) -> Vec<(u8, FindingLine)> {
    let host = request.host.trim_end_matches('.').to_ascii_lowercase();
    let unrouted = why.reason == Some(Reason::NoRoute);
    let mut not_served = Vec::new();
    for ingress in published.cluster.ingresses() {
        // A rule for every host is near only where nothing else is.
        let Some(distance) = distance(ingress, &host).filter(|at| unrouted || *at < 2) else {
            continue;
        };
        let object = reference("Ingress", &key(&ingress.metadata));
        match why_not_ours(ingress, &published.cluster, &published.settings) {
            Some(message) => not_served.push((
                distance,
                FindingLine {
                    object: object.to_string(),
                    reason: "IngressNotOurs".to_owned(),
                    message,
                },
            )),
            None => {
                involved
                    .entry(object)
                    .or_insert(Nearness::Ingress(distance));
            }
        }
    }
    not_served.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.object.cmp(&b.1.object)));
    not_served
}

/// How well an Ingress fits a host: 0 by name, 1 by a wildcard, 2 because it takes every host; `None` not at all.
fn distance(ingress: &Ingress, host: &str) -> Option<u8> {
    let spec = ingress.spec.as_ref()?;
    let rules = spec
        .rules
        .iter()
        .flatten()
        .filter_map(|rule| {
            let text = rule.host.as_deref().unwrap_or_default();
            let pattern = HostPattern::parse(text).ok()?;
            match pattern {
                HostPattern::Exact(name) => (name.as_str() == host).then_some(0),
                HostPattern::Wildcard(suffix) => host
                    .split_once('.')
                    .is_some_and(|(_, rest)| rest == suffix.as_str())
                    .then_some(1),
                HostPattern::Any => Some(2),
            }
        })
        .min();
    rules.or(spec.default_backend.as_ref().map(|_| 2))
}

fn reference(kind: &'static str, key: &ObjectKey) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
