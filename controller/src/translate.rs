//! `translate(&Cluster, &Settings) -> Translation`: what is served, and what is wrong, decided from a
//! snapshot alone. No clock, no randomness, no I/O, no log; it cannot fail. One rulebook per kind.

mod annotations;
mod certificates;
mod class;
mod endpoints;
mod findings;
mod hosts;
mod ingress;
mod policy;
mod probe;
mod secret;
mod service;
mod upstreams;

use hale_crds::TargetRef;
use hale_dataplane::{
    config::{Action, Config, ObjectRef, PathRule, Route, UpstreamId, VirtualHost},
    tls::Certificate,
};
use serde::Serialize;

use crate::{
    cluster::{Cluster, key},
    finding::{Finding, FindingReason, Severity},
    settings::{ObjectKey, Settings},
};

pub(crate) use annotations::trim as trim_annotations;
pub(crate) use class::{CLASS_ANNOTATION, why_not_ours};

use certificates::Certificates;
use findings::Findings;
use hosts::Hosts;
use policy::{Policies, Reached};
use service::PortRef;
use upstreams::Upstreams;

/// What translation gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Translation {
    /// What is served.
    pub config: Config,
    /// What is wrong with which object, sorted, each once.
    pub findings: Vec<Finding>,
    /// The Ingresses that are ours, sorted by namespace and name: their `status.loadBalancer` is ours to
    /// write.
    pub ingresses: Vec<IngressOutcome>,
    /// What became of every policy, sorted by namespace and name.
    pub policies: Vec<PolicyOutcome>,
}

/// An Ingress that is ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressOutcome {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it asks for TLS: its address answers on 443, too.
    pub tls: bool,
    /// The upstreams that its routes reach, sorted.
    pub upstreams: Vec<UpstreamId>,
}

/// What became of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyOutcome {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The `metadata.generation` that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// One for each of `spec.targetRefs`, in their order.
    pub targets: Vec<TargetOutcome>,
}

/// What became of a policy for one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetOutcome {
    /// The target, as it was written.
    pub target: TargetRef,
    /// Whether it is valid and has all its sections.
    pub accepted: Judgement<AcceptedReason>,
    /// Whether the proxy serves by it.
    pub programmed: Judgement<ProgrammedReason>,
    /// The upstreams whose peers the policy is about: those of the Service, or those that the Ingress's
    /// routes reach. Sorted.
    pub upstreams: Vec<UpstreamId>,
    /// The methods of which requests to the target need one, in the order in which they are asked; empty where
    /// this policy does not protect it. They are named where nobody is let in, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<&'static str>,
}

/// A condition's reason and message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement<R> {
    /// The code.
    pub reason: R,
    /// One sentence.
    pub message: String,
}

/// Reasons of the condition `Accepted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AcceptedReason {
    /// True.
    Accepted,
    /// False: something in the spec cannot be.
    Invalid,
    /// False: an older policy has a section.
    Conflicted,
    /// False: there is no such Service, port or Ingress.
    TargetNotFound,
}

impl AcceptedReason {
    /// The condition's status.
    pub const fn status(self) -> bool {
        matches!(self, Self::Accepted)
    }

    /// The code, `CamelCase`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Invalid => "Invalid",
            Self::Conflicted => "Conflicted",
            Self::TargetNotFound => "TargetNotFound",
        }
    }
}

/// Reasons of the condition `Programmed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProgrammedReason {
    /// True: at least one section is in force, or there is none that could be.
    Programmed,
    /// False: other policies have all its sections, or some.
    Overridden,
    /// False: no route reaches the target, or the policy is not accepted.
    Pending,
}

impl ProgrammedReason {
    /// The condition's status.
    pub const fn status(self) -> bool {
        matches!(self, Self::Programmed)
    }

    /// The code, `CamelCase`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Programmed => "Programmed",
            Self::Overridden => "Overridden",
            Self::Pending => "Pending",
        }
    }
}

/// Decides what is served.
pub fn translate(cluster: &Cluster, settings: &Settings) -> Translation {
    let mut findings = Findings::default();
    let ours = class::ours(cluster, settings);

    // Who has which host and path.
    let mut hosts = Hosts::default();
    let named: Vec<_> = ours
        .iter()
        .map(|ingress| ingress::claim(ingress, &mut hosts, &mut findings))
        .collect();

    // Which certificate is for which host.
    let mut certificates = Certificates::new(cluster);
    let mut outcomes = Vec::new();
    for (ingress, named) in ours.iter().zip(&named) {
        let secured = certificates.add(ingress, named, &hosts, &mut findings);
        for host in named {
            if secured
                .iter()
                .any(|secured| certificates::covers(secured, host))
            {
                hosts.with_tls(host, &ingress::reference(ingress));
            }
        }
        let key = key(&ingress.metadata);
        outcomes.push(IngressOutcome {
            namespace: key.namespace,
            name: key.name,
            tls: !secured.is_empty(),
            upstreams: Vec::new(),
        });
    }

    // Where requests go, and how they are treated there.
    let mut policies = Policies::read(cluster, settings);
    let mut upstreams = Upstreams::new(cluster, settings);
    let mut reached = Reached::default();
    let mut build = Build {
        policies: &mut policies,
        upstreams: &mut upstreams,
        reached: &mut reached,
        findings: &mut findings,
    };
    let hosts = build.hosts(hosts, settings);
    let default_route = build.default_route(settings);
    annotations::tell(&ours, &hosts, &mut findings);

    outcomes.sort();
    for outcome in &mut outcomes {
        let key = ObjectKey::new(&*outcome.namespace, &*outcome.name);
        let upstreams = reached.by_ingress.get(&key);
        outcome.upstreams = upstreams.into_iter().flatten().cloned().collect();
    }
    let policies = policies.outcomes(&reached, &mut findings);
    let default_certificate = default_certificate(cluster, settings, &mut findings);
    let certificates = certificates.into_sorted(default_certificate.as_ref(), &mut findings);
    Translation {
        config: Config {
            hosts,
            default_route,
            upstreams: upstreams.into_sorted(),
            certificates,
            default_certificate,
        },
        findings: findings.into_sorted(),
        ingresses: outcomes,
        policies,
    }
}

/// What routes are built with.
struct Build<'b, 'a> {
    policies: &'b mut Policies<'a>,
    upstreams: &'b mut Upstreams<'a>,
    reached: &'b mut Reached,
    findings: &'b mut Findings,
}

impl Build<'_, '_> {
    fn hosts(&mut self, hosts: Hosts<'_>, settings: &Settings) -> Vec<VirtualHost> {
        hosts
            .into_sorted()
            .map(|(pattern, host)| VirtualHost {
                routes: host
                    .paths
                    .into_iter()
                    .map(|(path, claim)| {
                        let action = self.upstreams.backend(
                            &claim.ingress,
                            claim.backend,
                            self.policies,
                            self.findings,
                        );
                        let owner = ObjectKey::new(&*claim.ingress.namespace, &*claim.ingress.name);
                        let port = self.upstreams.wanted(&claim.ingress, claim.backend);
                        Route {
                            https_redirect: settings.ssl_redirect && claim.tls,
                            ..self.route(path, claim.ingress, Some(&owner), port, action)
                        }
                    })
                    .collect(),
                host: pattern,
            })
            .collect()
    }

    /// What answers where no rule does, as the command line has it.
    fn default_route(&mut self, settings: &Settings) -> Option<Route> {
        let key = settings.default_backend.as_ref()?;
        let source = service::reference(key);
        let action =
            self.upstreams
                .service(key, PortRef::First, &source, self.policies, self.findings);
        let port = Some(UpstreamId {
            namespace: key.namespace.clone(),
            service: key.name.clone(),
            port: String::new(),
        });
        Some(self.route(PathRule::Prefix(String::new()), source, None, port, action))
    }

    /// `port` is what the route names, whether or not it can be served: what protects it, protects its refusals.
    fn route(
        &mut self,
        path: PathRule,
        source: ObjectRef,
        ingress: Option<&ObjectKey>,
        port: Option<UpstreamId>,
        action: Action,
    ) -> Route {
        let (port, forwards) = match &action {
            Action::Forward(id) => {
                self.reached.add(id, ingress);
                (Some(id.clone()), true)
            }
            Action::Reject(_) => (port, false),
        };
        self.answer(ingress, port.as_ref());
        let policy = self.policies.requests(ingress, port.as_ref(), forwards);
        Route {
            path,
            source,
            https_redirect: false,
            action,
            policy,
        }
    }

    /// Makes an upstream of the Service that the route's `auth` asks.
    fn answer(&mut self, ingress: Option<&ObjectKey>, port: Option<&UpstreamId>) {
        let Some((policy, question)) = self.policies.question(ingress, port) else {
            return;
        };
        let action = self.upstreams.service(
            &question.service,
            question.port(),
            &question.policy,
            self.policies,
            self.findings,
        );
        if let Action::Forward(id) = &action {
            self.reached.add(id, None);
        }
        self.policies.answer(policy, action);
    }
}

fn default_certificate(
    cluster: &Cluster,
    settings: &Settings,
    findings: &mut Findings,
) -> Option<Certificate> {
    let key = settings.default_certificate.as_ref()?;
    match secret::certificate(key, cluster) {
        Ok(certificate) => Some(certificate),
        Err(error) => {
            findings.add(
                ObjectRef {
                    kind: "Secret",
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                },
                FindingReason::TlsSecretInvalid,
                Severity::Warning,
                format!("{error}; a self-made certificate is presented"),
            );
            None
        }
    }
}
