//! The rulebook of EndpointSlices: every address that Kubernetes names becomes a peer, ready or not,
//! because a peer that was dropped could not be explained.
//!
//! As kube-proxy has it: several slices make one set, an endpoint's addresses are the same pod (the
//! first is used), and of a dual-stack Service one family is used: the first of its `ipFamilies` that
//! has endpoints. Counting a pod once for each family would break thresholds and shares.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use hale_dataplane::{
    addresses::check_peer,
    config::{Peer, Readiness},
};
use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
};

use crate::{
    cluster::Cluster,
    finding::{FindingReason, Severity},
    settings::{ObjectKey, Settings},
};

use super::{Findings, service::reference};

/// Where checks go, if not to the port of the traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CheckAt {
    /// This port of the pod.
    Number(u16),
    /// The Service port of this name.
    Name(String),
}

/// An address family, as `ipFamilies` and `addressType` call it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }
}

/// The peers of a Service port, sorted by address.
pub(super) fn peers(
    key: &ObjectKey,
    service: &Service,
    port: &ServicePort,
    check_at: Option<&CheckAt>,
    cluster: &Cluster,
    settings: &Settings,
    findings: &mut Findings,
) -> Vec<Peer> {
    let slices = cluster.endpoint_slices(key);
    for slice in slices {
        if Family::parse(&slice.address_type).is_none() {
            findings.add(
                reference(key),
                FindingReason::EndpointInvalid,
                Severity::Warning,
                format!(
                    "EndpointSlice {} is left out: addresses of type {} are not served",
                    slice.metadata.name.as_deref().unwrap_or_default(),
                    slice.address_type
                ),
            );
        }
    }
    for family in families(service) {
        let mut peers = BTreeMap::new();
        for slice in slices {
            if Family::parse(&slice.address_type) == Some(family)
                && let Some(ports) = Ports::of(slice, port, check_at)
            {
                add_slice(key, slice, ports, cluster, settings, &mut peers, findings);
            }
        }
        if !peers.is_empty() {
            return peers.into_values().collect();
        }
    }
    Vec::new()
}

fn families(service: &Service) -> Vec<Family> {
    let families: Vec<Family> = service
        .spec
        .iter()
        .flat_map(|spec| spec.ip_families.iter().flatten())
        .filter_map(|family| Family::parse(family))
        .collect();
    if families.is_empty() {
        vec![Family::V4, Family::V6]
    } else {
        families
    }
}

/// What a slice calls the ports.
#[derive(Clone, Copy)]
struct Ports {
    traffic: u16,
    /// Of checks, if they go elsewhere.
    check: Option<u16>,
}

impl Ports {
    fn of(slice: &EndpointSlice, port: &ServicePort, check_at: Option<&CheckAt>) -> Option<Self> {
        let traffic = slice_port(slice, port.name.as_deref().unwrap_or_default())?;
        let check = check_at.and_then(|at| match at {
            CheckAt::Number(number) => Some(*number),
            CheckAt::Name(name) => slice_port(slice, name),
        });
        let check = check.filter(|check| *check != traffic);
        Some(Self { traffic, check })
    }
}

fn add_slice(
    key: &ObjectKey,
    slice: &EndpointSlice,
    ports: Ports,
    cluster: &Cluster,
    settings: &Settings,
    peers: &mut BTreeMap<SocketAddr, Peer>,
    findings: &mut Findings,
) {
    for endpoint in slice.endpoints.iter().flatten() {
        let Some(address) = endpoint.addresses.first() else {
            continue;
        };
        match usable(address, settings) {
            Ok(ip) => insert_better(peers, peer(ip, ports, endpoint, cluster)),
            Err(why) => findings.add(
                reference(key),
                FindingReason::EndpointInvalid,
                Severity::Warning,
                format!("endpoint {address:?} is left out: {why}"),
            ),
        }
    }
}

/// The number of the slice's TCP port of this name.
fn slice_port(slice: &EndpointSlice, name: &str) -> Option<u16> {
    let fits = |port: &&EndpointPort| {
        port.name.as_deref().unwrap_or_default() == name
            && matches!(port.protocol.as_deref(), None | Some("TCP"))
    };
    let port = slice.ports.iter().flatten().find(fits)?.port?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn peer(ip: IpAddr, ports: Ports, endpoint: &Endpoint, cluster: &Cluster) -> Peer {
    let pod = endpoint
        .target_ref
        .as_ref()
        .filter(|target| target.kind.as_deref() == Some("Pod"));
    let uid = pod.and_then(|pod| pod.uid.clone()).unwrap_or_default();
    Peer {
        address: SocketAddr::new(ip, ports.traffic),
        check_port: ports.check,
        check: None,
        readiness: readiness(endpoint, cluster.leaves(&uid)),
        uid,
        pod: pod.and_then(|pod| pod.name.clone()),
        node: endpoint.node_name.clone(),
        trouble: None,
    }
}

/// Absent conditions have the meaning that the API gives them: `ready` absent is ready, `serving` absent
/// is as `ready`, `terminating` absent is no. A pod that is being deleted terminates: the slice will say so.
fn readiness(endpoint: &Endpoint, leaves: bool) -> Readiness {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|it| it.ready).unwrap_or(true);
    let serving = conditions.and_then(|it| it.serving).unwrap_or(ready);
    let terminating = leaves || conditions.and_then(|it| it.terminating).unwrap_or(false);
    match (terminating, serving, ready) {
        (true, true, _) => Readiness::Draining,
        (true, false, _) => Readiness::Gone,
        (false, _, true) => Readiness::Ready,
        (false, _, false) => Readiness::Unready,
    }
}

/// An address may stand in several slices while endpoints move between them, and a new pod may have the
/// address of one that is gone: the best readiness wins.
fn insert_better(peers: &mut BTreeMap<SocketAddr, Peer>, peer: Peer) {
    fn rank(peer: &Peer) -> (Readiness, bool, &str) {
        (peer.readiness, peer.uid.is_empty(), &peer.uid)
    }
    match peers.get(&peer.address) {
        Some(known) if rank(known) <= rank(&peer) => {}
        _ => {
            peers.insert(peer.address, peer);
        }
    }
}

/// A tenant may write EndpointSlices, too.
fn usable(address: &str, settings: &Settings) -> Result<IpAddr, &'static str> {
    let ip: IpAddr = address.parse().map_err(|_| "it is no IP address")?;
    check_peer(ip, settings.allow_loopback_endpoints)?;
    Ok(ip)
}
