//! The rulebook of Services: which port a backend means, and what its `appProtocol` says.

use hale_dataplane::{
    config::{ObjectRef, Problem, Protocol, UpstreamId},
    reason::Reason,
};
use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::settings::ObjectKey;

/// The port of a Service, as a backend names it.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortRef<'a> {
    /// By name.
    Name(&'a str),
    /// By number.
    Number(i32),
    /// The first.
    First,
}

/// The reference to a Service.
pub(super) fn reference(key: &ObjectKey) -> ObjectRef {
    ObjectRef {
        kind: "Service",
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// The port that is meant, or why there is none.
pub(super) fn port<'a>(
    key: &ObjectKey,
    service: Option<&'a Service>,
    wanted: PortRef<'_>,
) -> Result<&'a ServicePort, Problem> {
    let problem = |reason, message| Err(Problem { reason, message });
    let Some(service) = service else {
        return problem(
            Reason::ServiceNotFound,
            format!("Service {key} does not exist"),
        );
    };
    if is_external_name(service) {
        return problem(
            Reason::ExternalNameRefused,
            format!("Service {key} is of type ExternalName, which is not served"),
        );
    }
    let found = ports(service).find(|port| match wanted {
        PortRef::Name(name) => port.name.as_deref() == Some(name),
        PortRef::Number(number) => port.port == number && is_tcp(port),
        PortRef::First => is_tcp(port),
    });
    match found {
        Some(port) if is_tcp(port) => Ok(port),
        Some(port) => problem(
            Reason::PortNotFound,
            format!(
                "port {} of Service {key} is {}, not TCP",
                port_name(port),
                port.protocol.as_deref().unwrap_or_default()
            ),
        ),
        None => problem(
            Reason::PortNotFound,
            format!(
                "Service {key} has no port {}; {}",
                match wanted {
                    PortRef::Name(name) => name.to_owned(),
                    PortRef::Number(number) => number.to_string(),
                    PortRef::First => "for TCP".to_owned(),
                },
                offered(service)
            ),
        ),
    }
}

/// The ports of a Service.
pub(super) fn ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten())
}

/// Whether traffic can go to a port.
pub(super) fn is_tcp(port: &ServicePort) -> bool {
    matches!(port.protocol.as_deref(), None | Some("TCP"))
}

/// Whether a Service is a DNS name.
pub(super) fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// The name of a port, or its number where it has none.
pub(super) fn port_name(port: &ServicePort) -> String {
    match port.name.as_deref() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => port.port.to_string(),
    }
}

/// The identity of the upstream of a port.
pub(super) fn upstream_id(key: &ObjectKey, port: &ServicePort) -> UpstreamId {
    UpstreamId {
        namespace: key.namespace.clone(),
        service: key.name.clone(),
        port: port_name(port),
    }
}

fn offered(service: &Service) -> String {
    let ports: Vec<String> = ports(service)
        .map(|port| match port.name.as_deref() {
            Some(name) if !name.is_empty() => format!("{name} ({})", port.port),
            _ => port.port.to_string(),
        })
        .collect();
    if ports.is_empty() {
        "it has none".to_owned()
    } else {
        format!("it has {}", ports.join(", "))
    }
}

/// What an `appProtocol` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AppProtocol {
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// Whether over TLS.
    pub(super) tls: bool,
}

/// Reads an `appProtocol`; `None` if it is not known, in which case HTTP/1.1 is tried.
pub(super) fn app_protocol(name: Option<&str>) -> Option<AppProtocol> {
    let plain = |protocol| AppProtocol {
        protocol,
        tls: false,
    };
    let over_tls = |protocol| AppProtocol {
        protocol,
        tls: true,
    };
    // Names without a slash are IANA service names, which have no case.
    match name.unwrap_or("http").to_ascii_lowercase().as_str() {
        "" | "http" | "ws" | "kubernetes.io/ws" => Some(plain(Protocol::Http1)),
        "h2c" | "kubernetes.io/h2c" | "grpc" => Some(plain(Protocol::Http2)),
        "https" | "wss" | "kubernetes.io/wss" => Some(over_tls(Protocol::Http1)),
        "grpcs" => Some(over_tls(Protocol::Http2)),
        _ => None,
    }
}
