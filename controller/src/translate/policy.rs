//! The rulebook of UpstreamPolicy: which policy has which section of which target.
//!
//! The older policy has a section; the other is told by whom it lost. Sections are never merged. What
//! is nearer to a request goes first: a policy for a port before one for its whole Service, and a
//! policy for an Ingress before those for the Services behind it. That is precedence, not conflict.

mod attachment;
mod auth;
mod names;
mod outcome;
mod requests;
mod section;
mod sections;
mod tls;

use std::collections::{BTreeMap, BTreeSet};

use hale_crds::{TargetKind, UpstreamPolicy};
use hale_dataplane::config::{ObjectRef, PathHandling, SessionPersistence, UpstreamLimits};

use crate::{
    cluster::{Cluster, key, namespace},
    settings::{ObjectKey, Settings},
};

use super::class;

pub(super) use auth::Question;
pub(super) use outcome::Reached;
pub(super) use sections::Health;
pub(super) use tls::TlsParts;

use attachment::{Attachment, attach};
use section::Section;
use sections::{Balancing, Place, Sections};

/// A target, by what it is and not by how it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    kind: TargetKind,
    object: ObjectKey,
    /// The port, by name.
    port: Option<String>,
}

/// A policy that was read.
struct Entry<'a> {
    policy: &'a UpstreamPolicy,
    sections: Sections,
    targets: Vec<Attachment>,
}

/// All policies, and who has what.
pub(super) struct Policies<'a> {
    entries: Vec<Entry<'a>>,
    owners: BTreeMap<(Target, Section), usize>,
    /// Protection of ports that their Service does not have. A port that was renamed must not stand open, so
    /// until the policy is mended, it keeps everybody out of what no other policy of that Service protects.
    strays: BTreeMap<(ObjectKey, Section), (usize, Target)>,
    /// What took part in the config.
    in_force: BTreeSet<(Target, Section)>,
    /// How paths are handled where no policy sets it.
    path: PathHandling,
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
            strays: BTreeMap::new(),
            in_force: BTreeSet::new(),
            path: PathHandling {
                escaped_slashes: settings.escaped_slashes,
                repeated_slashes: settings.repeated_slashes,
            },
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
            let place = Place {
                policy: reference(policy),
                cluster,
                settings,
            };
            let sections = Sections::read(&policy.spec, &place);
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
                } else if section.protects()
                    && attachment.missing.is_some()
                    && attachment.target.port.is_some()
                {
                    let place = (attachment.target.object.clone(), section);
                    let stray = (index, attachment.target.clone());
                    self.strays.entry(place).or_insert(stray);
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
        Some(reference(self.entries.get(index)?.policy))
    }
}

fn reference(policy: &UpstreamPolicy) -> ObjectRef {
    let key = key(&policy.metadata);
    ObjectRef {
        kind: "UpstreamPolicy",
        namespace: key.namespace,
        name: key.name,
    }
}
