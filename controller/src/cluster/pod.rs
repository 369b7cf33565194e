//! What is known of a pod: its readiness probes, and the ports that these name. A probe cannot be changed while its pod
//! lives, so this is read once for each pod.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};

use super::key;
use crate::settings::ObjectKey;

/// A pod, as far as checks are concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct PodView {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Its UID; empty only in files.
    pub uid: String,
    /// Its containers, the sidecars among the init containers last. Pods of a Deployment share them.
    pub containers: Arc<[ContainerView]>,
}

/// A container, as far as checks are concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Its ports, with their names.
    pub ports: Vec<(Option<String>, u16)>,
    /// Its readiness probe.
    pub readiness_probe: Option<Probe>,
}

impl PodView {
    /// What is kept of a pod.
    pub fn of(pod: Pod) -> Self {
        let key = key(&pod.metadata);
        let spec = pod.spec.unwrap_or_default();
        let sidecars = spec.init_containers.into_iter().flatten();
        let sidecars = sidecars.filter(|it| it.restart_policy.as_deref() == Some("Always"));
        Self {
            key,
            uid: pod.metadata.uid.unwrap_or_default(),
            containers: spec
                .containers
                .into_iter()
                .chain(sidecars)
                .map(ContainerView::of)
                .collect(),
        }
    }

    /// Whether this is the pod of a reference. What has no UID is a file's, and only the name is known of it.
    pub fn is(&self, uid: &str) -> bool {
        self.uid == uid || self.uid.is_empty() || uid.is_empty()
    }
}

impl ContainerView {
    fn of(container: Container) -> Self {
        let ports = container.ports.into_iter().flatten();
        Self {
            name: container.name,
            ports: ports
                .filter_map(|port| Some((port.name, u16::try_from(port.container_port).ok()?)))
                .collect(),
            readiness_probe: container.readiness_probe,
        }
    }

    /// Whether one of its ports has this number.
    pub fn has_port(&self, number: u16) -> bool {
        self.ports.iter().any(|(_, port)| *port == number)
    }

    /// The number of the port of this name.
    pub fn port(&self, name: &str) -> Option<u16> {
        let mut ports = self.ports.iter();
        let found = ports.find(|(port, _)| port.as_deref() == Some(name));
        found.map(|(_, number)| *number)
    }
}
