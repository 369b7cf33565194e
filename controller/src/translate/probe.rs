//! The rulebook of `fromReadinessProbe`: each pod is checked as its own readinessProbe says.
//!
//! Of the containers with a probe, the one that owns the port of the traffic is asked first. What kubelet does and the
//! health thread cannot (run a command, connect elsewhere) is said by name, and the pod is served unchecked: Kubernetes'
//! word still counts for it.

use std::{collections::BTreeMap, time::Duration};

use hale_dataplane::config::{
    ActiveCheck, CheckKind, GrpcCheck, HttpCheck, Peer, PeerCheck, Readiness, StatusRange, TcpCheck,
};
use k8s_openapi::{
    api::core::v1::{GRPCAction, HTTPGetAction, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    cluster::{Cluster, ContainerView},
    finding::{FindingReason, Severity},
    settings::ObjectKey,
};

use super::{Findings, service::reference};

/// Pods that a finding names.
const NAMED: usize = 3;
/// The longest interval of a check.
const LONGEST: u64 = 3600;
/// Headers that are the connection's own business, in kubelet's client as in ours.
const FRAMING: [&str; 7] = [
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a probe asks for.
struct Asked {
    kind: CheckKind,
    port: u16,
    tls: bool,
}

/// Gives each peer the check of its pod, where `active` is [`CheckKind::OfPeer`].
pub(super) fn attach(
    service: &ObjectKey,
    active: &ActiveCheck,
    peers: &mut [Peer],
    cluster: &Cluster,
    findings: &mut Findings,
) {
    if active.kind != CheckKind::OfPeer {
        return;
    }
    let mut unchecked: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for peer in peers {
        if peer.readiness == Readiness::Gone {
            continue;
        }
        match of_pod(service, active, peer, cluster) {
            Ok(None) => {}
            Ok(Some((check, port))) => {
                peer.check = Some(Box::new(check));
                peer.check_port = Some(port).filter(|port| *port != peer.address.port());
            }
            Err(why) => {
                let name = match &peer.pod {
                    Some(pod) => pod.clone(),
                    None => peer.address.to_string(),
                };
                unchecked.entry(why).or_default().push(name);
            }
        }
    }
    for (why, pods) in unchecked {
        findings.add(
            reference(service),
            FindingReason::ProbeUnusable,
            Severity::Warning,
            format!("{} not checked: {why}", names(&pods)),
        );
    }
    if let Some(error) = cluster.unread_pods(service) {
        findings.add(
            reference(service),
            FindingReason::ProbeUnusable,
            Severity::Warning,
            format!("pods are not checked, because their readinessProbes cannot be read: {error}"),
        );
    }
}

/// `pods a, b, c and 4 more are`.
fn names(pods: &[String]) -> String {
    let first: Vec<&str> = pods.iter().take(NAMED).map(String::as_str).collect();
    let first = first.join(", ");
    match pods.len() {
        1 => format!("pod {first} is"),
        count if count <= NAMED => format!("pods {first} are"),
        count => format!("pods {first} and {} more are", count - NAMED),
    }
}

/// The check of a peer and its port; `None` while nobody has looked at the pod.
fn of_pod(
    service: &ObjectKey,
    active: &ActiveCheck,
    peer: &Peer,
    cluster: &Cluster,
) -> Result<Option<(PeerCheck, u16)>, String> {
    let Some(name) = &peer.pod else {
        return Err("no pod is behind this address".to_owned());
    };
    let key = ObjectKey::new(&*service.namespace, &**name);
    let Some(pod) = cluster.pod(&key, &peer.uid) else {
        return Ok(None);
    };
    let probed = || {
        let with = |container: &&ContainerView| container.readiness_probe.is_some();
        pod.containers.iter().filter(with)
    };
    let owner = probed().find(|container| container.has_port(peer.address.port()));
    let found = owner.or_else(|| probed().next());
    let Some((container, probe)) = found.and_then(|it| Some((it, it.readiness_probe.as_ref()?)))
    else {
        return Err(
            "no container has a readinessProbe; set one, or a check of the policy".to_owned(),
        );
    };
    let asked = asked(container, probe)
        .map_err(|why| format!("the readinessProbe of container {} {why}", container.name))?;
    let check = PeerCheck {
        check: ActiveCheck {
            kind: asked.kind,
            ..paced(active, probe)
        },
        tls: asked.tls,
    };
    Ok(Some((check, asked.port)))
}

/// The policy's check at the probe's pace. What Kubernetes has for a default is one here, too.
fn paced(active: &ActiveCheck, probe: &Probe) -> ActiveCheck {
    let positive = |value: Option<i32>, default: u32| {
        let value = value.and_then(|value| u32::try_from(value).ok());
        value.filter(|value| *value > 0).unwrap_or(default)
    };
    let seconds = |value, default| {
        let seconds = u64::from(positive(value, default));
        Duration::from_secs(seconds.min(LONGEST))
    };
    let interval = seconds(probe.period_seconds, 10);
    ActiveCheck {
        interval,
        timeout: seconds(probe.timeout_seconds, 1).min(interval),
        unhealthy_threshold: positive(probe.failure_threshold, 3),
        healthy_threshold: positive(probe.success_threshold, 1),
        ..active.clone()
    }
}

fn asked(container: &ContainerView, probe: &Probe) -> Result<Asked, String> {
    match (&probe.http_get, &probe.grpc, &probe.tcp_socket) {
        (Some(get), _, _) => http(container, get),
        (_, Some(call), _) => grpc(call),
        (_, _, Some(socket)) => tcp(container, socket),
        (None, None, None) if probe.exec.is_some() => Err(
            "is a command, which only kubelet can run; give the policy an http, grpc or tcp check"
                .to_owned(),
        ),
        (None, None, None) => Err("asks for nothing".to_owned()),
    }
}

fn http(container: &ContainerView, get: &HTTPGetAction) -> Result<Asked, String> {
    own_host(get.host.as_deref())?;
    // Newer clusters may ask for another protocol; without a word it is HTTP/1.1.
    let protocol = get.protocol.as_deref().unwrap_or("HTTP1");
    if !protocol.replace('/', "").starts_with("HTTP1") {
        return Err(format!(
            "speaks {protocol}, and checks that are taken from pods only HTTP/1.1"
        ));
    }
    let path = get.path.as_deref().unwrap_or_default();
    let path = path.split('#').next().unwrap_or_default();
    let path = format!("/{}", path.strip_prefix('/').unwrap_or(path));
    if path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(format!("has the path {path:?}, which no request can have"));
    }
    let mut host = None;
    let mut headers = Vec::new();
    for header in get.http_headers.iter().flatten() {
        let name = header.name.to_ascii_lowercase();
        if http::HeaderName::from_bytes(name.as_bytes()).is_err()
            || http::HeaderValue::from_str(&header.value).is_err()
        {
            return Err(format!("has a header {name:?} that cannot be sent"));
        }
        match name.as_str() {
            "host" => host = Some(header.value.clone()),
            name if FRAMING.contains(&name) => {}
            _ => headers.push((header.name.clone(), header.value.clone())),
        }
    }
    Ok(Asked {
        kind: CheckKind::Http(HttpCheck {
            method: "GET".to_owned(),
            path,
            host,
            headers,
            expected_statuses: vec![StatusRange { from: 200, to: 399 }],
            expected_body: None,
        }),
        port: port(container, &get.port)?,
        tls: get.scheme.as_deref() == Some("HTTPS"),
    })
}

fn grpc(call: &GRPCAction) -> Result<Asked, String> {
    Ok(Asked {
        kind: CheckKind::Grpc(GrpcCheck {
            service: call.service.clone().unwrap_or_default(),
        }),
        port: number(call.port)?,
        tls: call.mode.as_deref() == Some("TLS"),
    })
}

fn tcp(container: &ContainerView, socket: &TCPSocketAction) -> Result<Asked, String> {
    own_host(socket.host.as_deref())?;
    Ok(Asked {
        kind: CheckKind::Tcp(TcpCheck::default()),
        port: port(container, &socket.port)?,
        tls: false,
    })
}

/// A probe of another host says nothing about the way to this pod, and would let whoever may write pods send
/// requests from here to anywhere.
fn own_host(host: Option<&str>) -> Result<(), String> {
    match host {
        None | Some("") => Ok(()),
        Some(host) => Err(format!("goes to the host {host:?} and not to the pod")),
    }
}

fn port(container: &ContainerView, port: &IntOrString) -> Result<u16, String> {
    match port {
        IntOrString::Int(value) => number(*value),
        IntOrString::String(name) => container
            .port(name)
            .ok_or_else(|| format!("names the port {name}, which the container has not")),
    }
}

fn number(port: i32) -> Result<u16, String> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("goes to the port {port}, which does not exist"))
}
