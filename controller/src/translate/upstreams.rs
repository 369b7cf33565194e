//! Backends become upstreams: each Service port that a route names, once, with its peers and the
//! policies that are for it.

use std::collections::BTreeMap;

use hale_dataplane::{
    config::{
        Action, ObjectRef, Peer, Problem, Protocol, Readiness, Upstream, UpstreamId, UpstreamTls,
    },
    reason::Reason,
};
use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    networking::v1::{IngressBackend, IngressServiceBackend},
};

use crate::{
    cluster::{Cluster, EmptyCause},
    finding::{FindingReason, Severity},
    settings::{ObjectKey, Settings},
};

use super::{
    Findings, endpoints,
    policy::{Policies, TlsParts},
    probe,
    service::{self, AppProtocol, PortRef},
};

/// The upstreams that routes name so far.
pub(super) struct Upstreams<'a> {
    cluster: &'a Cluster,
    settings: &'a Settings,
    built: BTreeMap<UpstreamId, Upstream>,
}

impl<'a> Upstreams<'a> {
    pub(super) fn new(cluster: &'a Cluster, settings: &'a Settings) -> Self {
        Self {
            cluster,
            settings,
            built: BTreeMap::new(),
        }
    }

    /// What a route to the backend of an Ingress does. What cannot be served is refused with the reason, for
    /// the paths of this backend alone.
    pub(super) fn backend(
        &mut self,
        ingress: &ObjectRef,
        backend: &IngressBackend,
        policies: &mut Policies<'_>,
        findings: &mut Findings,
    ) -> Action {
        let Some(reference) = &backend.service else {
            let message = match &backend.resource {
                Some(resource) => format!(
                    "a backend of kind {} is not served: only Services are",
                    resource.kind
                ),
                None => "a rule has no backend".to_owned(),
            };
            return refuse(
                ingress.clone(),
                FindingReason::BackendUnsupported,
                Problem {
                    reason: Reason::NotAccepted,
                    message,
                },
                findings,
            );
        };
        let key = ObjectKey::new(&*ingress.namespace, &*reference.name);
        self.service(&key, port_ref(reference), ingress, policies, findings)
    }

    /// The port that a backend names, as well as that can be said: it need not be there, nor be served.
    pub(super) fn wanted(
        &self,
        ingress: &ObjectRef,
        backend: &IngressBackend,
    ) -> Option<UpstreamId> {
        let reference = backend.service.as_ref()?;
        let key = ObjectKey::new(&*ingress.namespace, &*reference.name);
        let port = match port_ref(reference) {
            PortRef::Name(name) => name.to_owned(),
            PortRef::Number(number) => {
                let service = self.cluster.services().get(&key);
                let mut ports = service.into_iter().flat_map(|it| service::ports(it));
                let named = ports.find(|port| port.port == number);
                named.map_or_else(|| number.to_string(), service::port_name)
            }
            PortRef::First => String::new(),
        };
        Some(UpstreamId {
            namespace: key.namespace,
            service: key.name,
            port,
        })
    }

    /// What a route to a Service does; what is wrong is told to `blame`.
    pub(super) fn service(
        &mut self,
        key: &ObjectKey,
        wanted: PortRef<'_>,
        blame: &ObjectRef,
        policies: &mut Policies<'_>,
        findings: &mut Findings,
    ) -> Action {
        let service = self.cluster.services().get(key).map(AsRef::as_ref);
        match service::port(key, service, wanted) {
            Ok(port) => {
                let id = service::upstream_id(key, port);
                if let (false, Some(service)) = (self.built.contains_key(&id), service) {
                    let upstream = self.build(key, service, port, policies, findings);
                    self.built.insert(id.clone(), upstream);
                }
                Action::Forward(id)
            }
            Err(problem) => {
                let reason = match problem.reason {
                    Reason::ServiceNotFound => FindingReason::ServiceNotFound,
                    Reason::ExternalNameRefused => FindingReason::ExternalNameRefused,
                    _ => FindingReason::PortNotFound,
                };
                refuse(blame.clone(), reason, problem, findings)
            }
        }
    }

    fn build(
        &self,
        key: &ObjectKey,
        service: &Service,
        port: &ServicePort,
        policies: &mut Policies<'_>,
        findings: &mut Findings,
    ) -> Upstream {
        let id = service::upstream_id(key, port);
        let app_protocol = app_protocol(key, port, findings);
        let sections = policies.peers(key, &id.port);
        let (health, check_at) = match sections.health_check {
            Some(health) => (health.policy, health.check_at),
            None => Default::default(),
        };
        let balancing = sections.load_balancer.unwrap_or_default();
        let mut peers = Vec::new();
        let (tls, problem) = match tls(sections.tls, app_protocol, key) {
            Ok(tls) => {
                peers = endpoints::peers(
                    key,
                    service,
                    port,
                    check_at.as_ref(),
                    self.cluster,
                    self.settings,
                    findings,
                );
                if let Some(active) = &health.active {
                    probe::attach(key, active, &mut peers, self.cluster, findings);
                }
                self.tell_failing(key, &mut peers, findings);
                let problem = peers
                    .is_empty()
                    .then(|| self.empty(key, service, port, findings));
                (tls, problem)
            }
            // Without peers, nothing can be sent in plain text.
            Err(problem) => (None, Some(problem)),
        };
        Upstream {
            id,
            protocol: app_protocol.protocol,
            tls,
            balance: balancing.balance,
            slow_start: balancing.slow_start,
            session: sections.session,
            limits: sections.limits.unwrap_or_default(),
            health,
            peers,
            problem,
        }
    }

    /// Why none of the pods that are there is ready: of the Service, and of the pod that was looked at.
    fn tell_failing(&self, key: &ObjectKey, peers: &mut [Peer], findings: &mut Findings) {
        let none_ready =
            !peers.is_empty() && !peers.iter().any(|it| it.readiness == Readiness::Ready);
        if none_ready && let Some(EmptyCause::PodsFailing(why)) = self.cluster.empty_cause(key) {
            findings.add(
                service::reference(key),
                FindingReason::PodsFailing,
                Severity::Warning,
                format!("no pod of Service {key} is ready: {why}"),
            );
            let (pod, trouble) = why.split_once(": ").unwrap_or_default();
            for peer in peers.iter_mut().filter(|it| it.pod.as_deref() == Some(pod)) {
                peer.trouble = Some(trouble.to_owned());
            }
        }
    }

    /// Why a Service has no endpoints.
    fn empty(
        &self,
        key: &ObjectKey,
        service: &Service,
        port: &ServicePort,
        findings: &mut Findings,
    ) -> Problem {
        let selects = service
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.as_ref())
            .is_some_and(|selector| !selector.is_empty());
        let (reason, finding, message) = match self.cluster.empty_cause(key) {
            Some(EmptyCause::SelectorMatchesNothing) => (
                Reason::SelectorMatchesNothing,
                FindingReason::SelectorMatchesNothing,
                format!("the selector of Service {key} matches no pod"),
            ),
            Some(EmptyCause::PodsNotScheduled(why)) => (
                Reason::PodsNotScheduled,
                FindingReason::PodsNotScheduled,
                format!("the pods of Service {key} wait for a node: {why}"),
            ),
            Some(EmptyCause::PodsNotReady(why) | EmptyCause::PodsFailing(why)) => (
                Reason::NoEndpoints,
                FindingReason::NoEndpoints,
                format!("no pod of Service {key} has an address yet: {why}"),
            ),
            None if selects => (
                Reason::NoEndpoints,
                FindingReason::NoEndpoints,
                format!(
                    "Service {key} has no endpoints for port {}",
                    service::port_name(port)
                ),
            ),
            None => (
                Reason::NoEndpoints,
                FindingReason::NoEndpoints,
                format!(
                    "Service {key} has no selector, and no EndpointSlice names endpoints for port {}",
                    service::port_name(port)
                ),
            ),
        };
        findings.add(
            service::reference(key),
            finding,
            Severity::Warning,
            message.clone(),
        );
        Problem { reason, message }
    }

    /// Sorted by id.
    pub(super) fn into_sorted(self) -> Vec<Upstream> {
        self.built.into_values().collect()
    }
}

fn port_ref(reference: &IngressServiceBackend) -> PortRef<'_> {
    let port = reference.port.as_ref();
    match (
        port.and_then(|port| port.name.as_deref()),
        port.and_then(|port| port.number),
    ) {
        (Some(name), _) => PortRef::Name(name),
        (None, Some(number)) => PortRef::Number(number),
        // The API server refuses it; a file may have it. The meaning is clear where there is one port.
        (None, None) => PortRef::First,
    }
}

fn refuse(
    blame: ObjectRef,
    reason: FindingReason,
    problem: Problem,
    findings: &mut Findings,
) -> Action {
    findings.add(blame, reason, Severity::Warning, problem.message.clone());
    Action::Reject(problem)
}

fn app_protocol(key: &ObjectKey, port: &ServicePort, findings: &mut Findings) -> AppProtocol {
    let name = port.app_protocol.as_deref();
    service::app_protocol(name).unwrap_or_else(|| {
        findings.add(
            service::reference(key),
            FindingReason::AppProtocolUnknown,
            Severity::Notice,
            format!(
                "appProtocol {:?} of port {} is not known: HTTP/1.1 is spoken",
                name.unwrap_or_default(),
                service::port_name(port)
            ),
        );
        AppProtocol {
            protocol: Protocol::Http1,
            tls: false,
        }
    })
}

fn tls(
    section: Option<Result<TlsParts, String>>,
    app_protocol: AppProtocol,
    key: &ObjectKey,
) -> Result<Option<UpstreamTls>, Problem> {
    match section {
        Some(Ok(parts)) => Ok(Some(parts.for_service(key))),
        Some(Err(message)) => Err(Problem {
            reason: Reason::TlsError,
            message: format!("TLS to Service {key} cannot be made: {message}"),
        }),
        None if app_protocol.tls => Ok(Some(TlsParts::anyone().for_service(key))),
        None => Ok(None),
    }
}
