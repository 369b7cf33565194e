//! A sorted, immutable view of everything that is watched, with the indexes that translation needs.
//!
//! Stores and folders give objects in any order; here they get one, so that the same cluster gives the
//! same config, byte for byte, on every replica. Objects are shared, not copied.

mod pod;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use hale_crds::UpstreamPolicy;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::settings::ObjectKey;

pub use pod::{ContainerView, PodView};

/// The label by which an EndpointSlice names its Service.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Everything that is known, in any order.
#[derive(Clone, Default)]
pub struct Objects {
    /// Ingresses, of every class.
    pub ingresses: Vec<Arc<Ingress>>,
    /// Ingress classes.
    pub ingress_classes: Vec<Arc<IngressClass>>,
    /// Services.
    pub services: Vec<Arc<Service>>,
    /// Endpoint slices.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// Secrets of type `kubernetes.io/tls`, and those that policies name or select by labels.
    pub secrets: Vec<Arc<Secret>>,
    /// The ConfigMaps that policies name.
    pub config_maps: Vec<Arc<ConfigMap>>,
    /// Policies.
    pub policies: Vec<Arc<UpstreamPolicy>>,
    /// Why Services without endpoints have none, as far as someone looked at their pods.
    pub empty_services: BTreeMap<ObjectKey, EmptyCause>,
    /// Pods whose readiness probes policies ask for, as far as someone looked at them.
    pub pods: Vec<Arc<PodView>>,
    /// Services whose pods could not be read, and why.
    pub unread_pods: BTreeMap<ObjectKey, String>,
    /// UIDs of pods that are being deleted, as far as they were heard of.
    pub leaving_pods: BTreeSet<String>,
    /// How many replicas of this Hale are ready; 0 is not known.
    pub replicas: u32,
}

/// Says how much there is and not what: Secrets are among it.
impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects")
            .field("ingresses", &self.ingresses.len())
            .field("services", &self.services.len())
            .field("policies", &self.policies.len())
            .finish_non_exhaustive()
    }
}

/// Why a Service has no endpoints: what a bounded listing of its pods showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmptyCause {
    /// No pod has the labels that the Service selects.
    SelectorMatchesNothing,
    /// The pods wait for a node; with the scheduler's message.
    PodsNotScheduled(String),
    /// There are pods, and none has an address yet; with what they wait for.
    PodsNotReady(String),
    /// There are pods, and one of them does not start or does not go on; with what happens to it.
    PodsFailing(String),
}

/// The view.
#[derive(Clone, Default)]
pub struct Cluster {
    ingresses: Vec<Arc<Ingress>>,
    ingress_classes: BTreeMap<String, Arc<IngressClass>>,
    services: BTreeMap<ObjectKey, Arc<Service>>,
    slices: BTreeMap<ObjectKey, Vec<Arc<EndpointSlice>>>,
    secrets: BTreeMap<ObjectKey, Arc<Secret>>,
    config_maps: BTreeMap<ObjectKey, Arc<ConfigMap>>,
    policies: Vec<Arc<UpstreamPolicy>>,
    empty_services: BTreeMap<ObjectKey, EmptyCause>,
    pods: BTreeMap<ObjectKey, Vec<Arc<PodView>>>,
    unread_pods: BTreeMap<ObjectKey, String>,
    leaving_pods: BTreeSet<String>,
    replicas: u32,
}

/// Says how much there is and not what: Secrets are among it.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("ingresses", &self.ingresses.len())
            .field("services", &self.services.len())
            .field("policies", &self.policies.len())
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Sorts and indexes. Where two objects of a kind have the same namespace and name (which only
    /// files can have), the first in the order of age is kept.
    pub fn new(objects: Objects) -> Self {
        let mut ingresses = objects.ingresses;
        ingresses.sort_by(|a, b| by_age(&a.metadata, &b.metadata));
        let mut policies = objects.policies;
        policies.sort_by(|a, b| by_age(&a.metadata, &b.metadata));

        let mut slices: BTreeMap<ObjectKey, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
        for slice in objects.endpoint_slices {
            let Some(service) = slice.labels().get(SERVICE_NAME_LABEL) else {
                continue;
            };
            let key = ObjectKey::new(namespace(&slice.metadata), service.clone());
            slices.entry(key).or_default().push(slice);
        }
        for slices in slices.values_mut() {
            slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        }

        let mut pods: BTreeMap<ObjectKey, Vec<Arc<PodView>>> = BTreeMap::new();
        for pod in objects.pods {
            pods.entry(pod.key.clone()).or_default().push(pod);
        }
        for pods in pods.values_mut() {
            pods.sort_by(|a, b| a.uid.cmp(&b.uid));
        }

        Self {
            ingresses,
            ingress_classes: objects
                .ingress_classes
                .into_iter()
                .map(|class| (class.name_any(), class))
                .collect(),
            services: by_key(objects.services, |object| &object.metadata),
            slices,
            secrets: by_key(objects.secrets, |object| &object.metadata),
            config_maps: by_key(objects.config_maps, |object| &object.metadata),
            policies,
            empty_services: objects.empty_services,
            pods,
            unread_pods: objects.unread_pods,
            leaving_pods: objects.leaving_pods,
            replicas: objects.replicas,
        }
    }

    /// Ingresses of every class, the oldest first.
    pub fn ingresses(&self) -> &[Arc<Ingress>] {
        &self.ingresses
    }

    /// Ingress classes by name.
    pub fn ingress_classes(&self) -> &BTreeMap<String, Arc<IngressClass>> {
        &self.ingress_classes
    }

    /// Services by key.
    pub fn services(&self) -> &BTreeMap<ObjectKey, Arc<Service>> {
        &self.services
    }

    /// The slices of a Service, sorted by name.
    pub fn endpoint_slices(&self, service: &ObjectKey) -> &[Arc<EndpointSlice>] {
        self.slices.get(service).map_or(&[], Vec::as_slice)
    }

    /// Secrets by key.
    pub fn secrets(&self) -> &BTreeMap<ObjectKey, Arc<Secret>> {
        &self.secrets
    }

    /// ConfigMaps by key.
    pub fn config_maps(&self) -> &BTreeMap<ObjectKey, Arc<ConfigMap>> {
        &self.config_maps
    }

    /// Policies, the oldest first.
    pub fn policies(&self) -> &[Arc<UpstreamPolicy>] {
        &self.policies
    }

    /// Why a Service has no endpoints, as far as someone looked.
    pub fn empty_cause(&self, service: &ObjectKey) -> Option<&EmptyCause> {
        self.empty_services.get(service)
    }

    /// A pod of this name and UID, if someone looked at it.
    pub fn pod(&self, key: &ObjectKey, uid: &str) -> Option<&PodView> {
        let pods = self.pods.get(key)?;
        pods.iter().map(AsRef::as_ref).find(|pod| pod.is(uid))
    }

    /// Whether a pod is being deleted, whatever the slices say yet.
    pub fn leaves(&self, uid: &str) -> bool {
        self.leaving_pods.contains(uid)
    }

    /// Why the pods of a Service could not be read.
    pub fn unread_pods(&self, service: &ObjectKey) -> Option<&str> {
        self.unread_pods.get(service).map(String::as_str)
    }

    /// How many replicas of this Hale are ready, this one included: 1 where that is not known, and never 0. What is
    /// limited for all of them together is divided by it.
    pub fn replicas(&self) -> u32 {
        self.replicas.max(1)
    }
}

/// The namespace, `default` where none is set (which only files can have).
pub fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().unwrap_or("default")
}

/// Namespace and name.
pub fn key(metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        namespace(metadata),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// The older first, then by namespace and name. What has no timestamp (only in files) is oldest.
fn by_age(a: &ObjectMeta, b: &ObjectMeta) -> Ordering {
    let age = |metadata: &ObjectMeta| metadata.creation_timestamp.as_ref().map(|time| time.0);
    age(a)
        .cmp(&age(b))
        .then_with(|| namespace(a).cmp(namespace(b)))
        .then_with(|| a.name.cmp(&b.name))
}

fn by_key<T>(
    mut objects: Vec<Arc<T>>,
    metadata: fn(&T) -> &ObjectMeta,
) -> BTreeMap<ObjectKey, Arc<T>> {
    objects.sort_by(|a, b| by_age(metadata(b), metadata(a)));
    objects
        .into_iter()
        .map(|object| (key(metadata(&object)), object))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn object<T: serde::de::DeserializeOwned>(metadata: serde_json::Value) -> Arc<T> {
        let object = serde_json::json!({"metadata": metadata});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn names(ingresses: &[Arc<Ingress>]) -> Vec<&str> {
        let names = ingresses.iter().map(|it| it.metadata.name.as_deref());
        names.map(Option::unwrap).collect()
    }

    #[test]
    fn the_oldest_is_first_then_namespace_and_name() {
        let cluster = Cluster::new(Objects {
            ingresses: vec![
                object(
                    serde_json::json!({"name": "d", "namespace": "a", "creationTimestamp": "2026-01-02T00:00:00Z"}),
                ),
                object(
                    serde_json::json!({"name": "b", "namespace": "b", "creationTimestamp": "2026-01-01T00:00:00Z"}),
                ),
                object(
                    serde_json::json!({"name": "c", "namespace": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}),
                ),
                object(serde_json::json!({"name": "from-a-file"})),
            ],
            ..Objects::default()
        });
        assert_eq!(names(cluster.ingresses()), ["from-a-file", "c", "b", "d"]);
    }

    #[test]
    fn of_two_of_a_name_the_first_by_age_is_kept() {
        let service = |uid: &str, time: &str| {
            object(serde_json::json!({"name": "a", "uid": uid, "creationTimestamp": time}))
        };
        let cluster = Cluster::new(Objects {
            services: vec![
                service("old", "2026-01-01T00:00:00Z"),
                service("new", "2026-01-02T00:00:00Z"),
            ],
            ..Objects::default()
        });
        let kept = &cluster.services()[&ObjectKey::new("default", "a")];
        assert_eq!(kept.metadata.uid.as_deref(), Some("old"));
    }

    #[test]
    fn secrets_are_not_told_by_debug() {
        let secret =
            serde_json::json!({"metadata": {"name": "s"}, "stringData": {"users": "confidential"}});
        let objects = Objects {
            secrets: vec![Arc::new(serde_json::from_value(secret).unwrap())],
            ..Objects::default()
        };
        let told = format!("{objects:?} {:?}", Cluster::new(objects.clone()));
        assert!(
            !told.contains("confidential") && told.contains("Cluster"),
            "{told}"
        );
    }

    #[test]
    fn there_is_always_a_replica() {
        for (known, wanted) in [(0, 1), (1, 1), (3, 3)] {
            let objects = Objects {
                replicas: known,
                ..Objects::default()
            };
            assert_eq!(Cluster::new(objects).replicas(), wanted);
        }
    }

    #[test]
    fn slices_are_found_by_their_service_in_its_namespace() {
        let slice = |name: &str, namespace: &str, service: &str| -> Arc<EndpointSlice> {
            let labels = serde_json::json!({SERVICE_NAME_LABEL: service});
            let object = serde_json::json!({
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "addressType": "IPv4",
                "endpoints": [],
            });
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let cluster = Cluster::new(Objects {
            endpoint_slices: vec![
                slice("b", "shop", "checkout"),
                slice("a", "shop", "checkout"),
                slice("c", "shop", "cart"),
                slice("d", "other", "checkout"),
                object(serde_json::json!({"name": "no-label", "namespace": "shop"})),
            ],
            ..Objects::default()
        });
        let slices = cluster.endpoint_slices(&ObjectKey::new("shop", "checkout"));
        let names: Vec<_> = slices
            .iter()
            .map(|it| it.metadata.name.clone().unwrap())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }
}
