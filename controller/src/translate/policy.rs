//! The rulebook of UpstreamPolicy: which policy has which section of which target.
//!
//! The older policy has a section; the other is told by whom it lost. Sections are never merged. What
//! is nearer to a request goes first: a policy for a port before one for its whole Service, and a
//! policy for an Ingress before those for the Services behind it. That is precedence, not conflict.

mod outcome;
mod sections;
mod tls;

use std::collections::{BTreeMap, BTreeSet};

use hale_crds::{TargetKind, TargetRef, UpstreamPolicy};
use hale_dataplane::config::{
    ObjectRef, RequestPolicy, SessionPersistence, UpstreamId, UpstreamLimits,
};

use crate::{
    cluster::{Cluster, key, namespace},
    settings::{ObjectKey, Settings},
};

use super::{
    class,
    endpoints::CheckAt,
    service::{is_external_name, is_tcp, port_name, ports},
};

pub(super) use outcome::Reached;
pub(super) use sections::Health;
pub(super) use tls::TlsParts;

use sections::{Balancing, Sections};

/// A target, by what it is and not by how it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    kind: TargetKind,
    object: ObjectKey,
    /// The port, by name.
    port: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    HealthCheck,
    LoadBalancer,
    SessionPersistence,
    CircuitBreaker,
    Tls,
    Retry,
    Timeouts,
}

impl Section {
    const ALL: [Self; 7] = [
        Self::HealthCheck,
        Self::LoadBalancer,
        Self::SessionPersistence,
        Self::CircuitBreaker,
        Self::Tls,
        Self::Retry,
        Self::Timeouts,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::HealthCheck => "healthCheck",
            Self::LoadBalancer => "loadBalancer",
            Self::SessionPersistence => "sessionPersistence",
            Self::CircuitBreaker => "circuitBreaker",
            Self::Tls => "tls",
            Self::Retry => "retry",
            Self::Timeouts => "timeouts",
        }
    }

    /// Whether it describes peers, and not requests.
    const fn is_of_peers(self) -> bool {
        match self {
            Self::HealthCheck
            | Self::LoadBalancer
            | Self::SessionPersistence
            | Self::CircuitBreaker
            | Self::Tls => true,
            Self::Retry | Self::Timeouts => false,
        }
    }
}

/// A policy that was read.
struct Entry<'a> {
    policy: &'a UpstreamPolicy,
    sections: Sections,
    targets: Vec<Attachment>,
}

/// A policy on one of its targets.
struct Attachment {
    target: Target,
    /// What is wrong with the policy for this target alone.
    errors: Vec<String>,
    /// Why there is nothing to attach to.
    missing: Option<String>,
    /// Sections that an older policy has, and its index.
    lost: Vec<(Section, usize)>,
}

/// All policies, and who has what.
pub(super) struct Policies<'a> {
    entries: Vec<Entry<'a>>,
    owners: BTreeMap<(Target, Section), usize>,
    /// What took part in the config.
    in_force: BTreeSet<(Target, Section)>,
}

/// What policies say of the peers of a Service port.
#[derive(Default)]
pub(super) struct PeerSections {
    /// `healthCheck`.
    pub(super) health_check: Option<Health>,
    /// `loadBalancer`.
    pub(super) load_balancer: Option<Balancing>,
    /// `sessionPersistence`.
    pub(super) session: Option<SessionPersistence>,
    /// `circuitBreaker`.
    pub(super) limits: Option<UpstreamLimits>,
    /// `tls`, or why requests are refused.
    pub(super) tls: Option<Result<TlsParts, String>>,
}

impl<'a> Policies<'a> {
    /// Reads all policies and decides who has what.
    pub(super) fn read(cluster: &'a Cluster, settings: &Settings) -> Self {
        let mut policies = Self {
            entries: Vec::new(),
            owners: BTreeMap::new(),
            in_force: BTreeSet::new(),
        };
        let ingresses: BTreeSet<ObjectKey> = match cluster.policies() {
            [] => BTreeSet::new(),
            _ => cluster
                .ingresses()
                .iter()
                .map(|it| key(&it.metadata))
                .collect(),
        };
        for policy in cluster.policies() {
            let own = namespace(&policy.metadata);
            if !class::watched(settings, own) {
                continue;
            }
            let tls = policy.spec.tls.as_ref();
            let tls = tls.map(|section| tls::read(section, own, cluster));
            let sections = Sections::read(&policy.spec, tls);
            let targets = policy
                .spec
                .target_refs
                .iter()
                .map(|target| attach(target, own, &sections, cluster, &ingresses))
                .collect();
            policies.entries.push(Entry {
                policy,
                sections,
                targets,
            });
            policies.own(policies.entries.len() - 1);
        }
        policies
    }

    /// Gives the newest entry the sections that nobody has.
    fn own(&mut self, index: usize) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        for attachment in &mut entry.targets {
            for section in Section::ALL {
                if !attachment.can_have(section, &entry.sections) {
                    continue;
                }
                let owner = *self
                    .owners
                    .entry((attachment.target.clone(), section))
                    .or_insert(index);
                if owner != index {
                    attachment.lost.push((section, owner));
                }
            }
        }
    }

    /// What policies say of the peers of a Service port.
    pub(super) fn peers(&mut self, service: &ObjectKey, port: &str) -> PeerSections {
        let mut find = |section| self.of_service(service, port, section);
        let health_check = find(Section::HealthCheck);
        let load_balancer = find(Section::LoadBalancer);
        let session = find(Section::SessionPersistence);
        let circuit_breaker = find(Section::CircuitBreaker);
        let tls = find(Section::Tls);
        let sections = |index: Option<usize>| Some(&self.entries.get(index?)?.sections);
        PeerSections {
            health_check: sections(health_check)
                .and_then(|it| it.health_check.as_ref()?.as_ref().ok().cloned()),
            load_balancer: sections(load_balancer)
                .and_then(|it| it.load_balancer.as_ref()?.as_ref().ok().cloned()),
            session: sections(session)
                .and_then(|it| it.session.as_ref()?.as_ref().ok())
                .map(|session| session.for_port(service, port)),
            limits: sections(circuit_breaker)
                .and_then(|it| it.circuit_breaker.as_ref()?.as_ref().ok().cloned()),
            tls: sections(tls).and_then(|it| it.tls.clone()).map(|judged| {
                judged.map_err(|error| match tls.and_then(|index| self.reference(index)) {
                    Some(policy) => format!("{policy}: {error}"),
                    None => error,
                })
            }),
        }
    }

    /// How requests of an Ingress to an upstream are treated; without an Ingress, those that the flag for
    /// a default backend takes.
    pub(super) fn requests(
        &mut self,
        ingress: Option<&ObjectKey>,
        upstream: &UpstreamId,
    ) -> RequestPolicy {
        let service = ObjectKey::new(&*upstream.namespace, &*upstream.service);
        let mut find = |section| {
            ingress
                .and_then(|ingress| self.of_ingress(ingress, section))
                .or_else(|| self.of_service(&service, &upstream.port, section))
        };
        let retry = find(Section::Retry);
        let timeouts = find(Section::Timeouts);
        let sections = |index: Option<usize>| Some(&self.entries.get(index?)?.sections);
        RequestPolicy {
            retry: sections(retry).and_then(|it| it.retry.as_ref()?.as_ref().ok().cloned()),
            timeouts: sections(timeouts)
                .and_then(|it| it.timeouts.as_ref()?.as_ref().ok().cloned())
                .unwrap_or_default(),
            ..RequestPolicy::default()
        }
    }

    fn of_ingress(&mut self, ingress: &ObjectKey, section: Section) -> Option<usize> {
        self.take(TargetKind::Ingress, ingress, None, section)
    }

    fn of_service(&mut self, service: &ObjectKey, port: &str, section: Section) -> Option<usize> {
        self.take(TargetKind::Service, service, Some(port), section)
            .or_else(|| self.take(TargetKind::Service, service, None, section))
    }

    /// The owner, which is thereby in force.
    fn take(
        &mut self,
        kind: TargetKind,
        object: &ObjectKey,
        port: Option<&str>,
        section: Section,
    ) -> Option<usize> {
        if self.owners.is_empty() {
            return None;
        }
        let target = Target {
            kind,
            object: object.clone(),
            port: port.map(str::to_owned),
        };
        let place = (target, section);
        let owner = *self.owners.get(&place)?;
        self.in_force.insert(place);
        Some(owner)
    }

    fn reference(&self, index: usize) -> Option<ObjectRef> {
        let key = key(&self.entries.get(index)?.policy.metadata);
        Some(ObjectRef {
            kind: "UpstreamPolicy",
            namespace: key.namespace,
            name: key.name,
        })
    }
}

impl Attachment {
    /// Whether the policy has this section for this target. A section that is not valid leaves the place to
    /// others, but for `tls`: TLS that cannot be had refuses requests, and never becomes plain text.
    fn can_have(&self, section: Section, sections: &Sections) -> bool {
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
        };
        valid && (self.target.kind == TargetKind::Service || !section.is_of_peers())
    }
}

/// Looks at what a target names.
fn attach(
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
