//! What is dropped at the door: everything that translation and statuses do not read. With a thousand Services and
//! ten thousand endpoints this is most of the memory.

use std::{collections::BTreeMap, fmt::Debug};

use hale_crds::UpstreamPolicy;
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Pod, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, core::PartialObjectMeta};
use serde::de::DeserializeOwned;

use crate::{
    cluster::SERVICE_NAME_LABEL,
    status::MANAGER,
    translate::{CLASS_ANNOTATION, trim_annotations},
};

/// A kind that is watched.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// Its name.
    const KIND: &'static str;

    /// Whether an empty listing is checked again before objects are dropped that no watch reported as deleted. Not
    /// for credentials: one that was deleted must not stay valid.
    const EMPTY_IS_DOUBTFUL: bool = false;

    /// Drops what nobody reads.
    fn trim(&mut self);

    /// Whether translation would read the same.
    fn same(&self, other: &Self) -> bool;

    /// Whether it is kept at all; asked before it is trimmed.
    fn matters(&self) -> bool {
        true
    }
}

/// Keeps who and how old an object is, and the labels and annotations that are named.
fn metadata(meta: &mut ObjectMeta, labels: &[&str], annotations: &[&str]) {
    let keep = |map: &mut Option<BTreeMap<String, String>>, keys: &[&str]| {
        if let Some(map) = map {
            map.retain(|key, _| keys.contains(&key.as_str()));
        }
        if map.as_ref().is_some_and(BTreeMap::is_empty) {
            *map = None;
        }
    };
    keep(&mut meta.labels, labels);
    keep(&mut meta.annotations, annotations);
    meta.managed_fields = None;
    meta.owner_references = None;
    meta.finalizers = None;
    meta.generate_name = None;
    meta.self_link = None;
    meta.resource_version = None;
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
}

impl Watched for Ingress {
    const KIND: &'static str = "Ingress";
    const EMPTY_IS_DOUBTFUL: bool = true;

    fn trim(&mut self) {
        let ours = self.metadata.managed_fields.take();
        let annotations = self.metadata.annotations.take();
        metadata(&mut self.metadata, &[], &[]);
        self.metadata.annotations = annotations
            .map(|mut annotations| {
                trim_annotations(&mut annotations, CLASS_ANNOTATION);
                annotations
            })
            .filter(|kept| !kept.is_empty());
        // Whether its status is a Hale's to take back.
        let ours: Vec<_> = ours
            .into_iter()
            .flatten()
            .filter(|entry| {
                let manager = entry.manager.as_deref().unwrap_or_default();
                manager.starts_with(MANAGER)
                    && entry.operation.as_deref() == Some("Apply")
                    && entry.subresource.as_deref() == Some("status")
            })
            .map(|mut entry| {
                entry.fields_v1 = None;
                entry.time = None;
                entry
            })
            .collect();
        self.metadata.managed_fields = (!ours.is_empty()).then_some(ours);
    }

    fn same(&self, other: &Self) -> bool {
        let read = |metadata: &ObjectMeta| ObjectMeta {
            managed_fields: None,
            ..metadata.clone()
        };
        read(&self.metadata) == read(&other.metadata) && self.spec == other.spec
    }
}

impl Watched for IngressClass {
    const KIND: &'static str = "IngressClass";
    const EMPTY_IS_DOUBTFUL: bool = true;

    fn trim(&mut self) {
        let default = "ingressclass.kubernetes.io/is-default-class";
        metadata(&mut self.metadata, &[], &[default]);
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Watched for Service {
    const KIND: &'static str = "Service";
    const EMPTY_IS_DOUBTFUL: bool = true;

    fn trim(&mut self) {
        metadata(&mut self.metadata, &[], &[]);
        self.status = None;
        if let Some(spec) = &mut self.spec {
            spec.cluster_ips = None;
            spec.load_balancer_source_ranges = None;
            spec.session_affinity_config = None;
        }
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// The Service of `--publish-service`: its status is what it is watched for.
pub(super) fn publish_service(service: &mut Service) {
    metadata(&mut service.metadata, &[], &[]);
}

/// Of pods, only that they are being deleted.
impl Watched for PartialObjectMeta<Pod> {
    const KIND: &'static str = "Pod";

    fn trim(&mut self) {
        self.types = None;
        metadata(&mut self.metadata, &[], &[]);
    }

    fn same(&self, other: &Self) -> bool {
        self.metadata.uid == other.metadata.uid
    }

    fn matters(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

impl Watched for EndpointSlice {
    const KIND: &'static str = "EndpointSlice";
    const EMPTY_IS_DOUBTFUL: bool = true;

    fn trim(&mut self) {
        metadata(&mut self.metadata, &[SERVICE_NAME_LABEL], &[]);
        for endpoint in self.endpoints.iter_mut().flatten() {
            endpoint.deprecated_topology = None;
            endpoint.hints = None;
            endpoint.hostname = None;
            endpoint.zone = None;
            endpoint.addresses.shrink_to_fit();
            if let Some(target) = &mut endpoint.target_ref {
                target.api_version = None;
                target.field_path = None;
                target.resource_version = None;
                target.namespace = None;
            }
        }
        if let Some(endpoints) = &mut self.endpoints {
            endpoints.shrink_to_fit();
        }
    }

    fn same(&self, other: &Self) -> bool {
        // A rewrite of a slice that says the same of its endpoints bumps the generation alone.
        let named = |slice: &Self| {
            let meta = &slice.metadata;
            (
                meta.namespace.clone(),
                meta.name.clone(),
                meta.labels.clone(),
            )
        };
        named(self) == named(other)
            && self.address_type == other.address_type
            && self.endpoints == other.endpoints
            && self.ports == other.ports
    }
}

/// The keys of Secrets and ConfigMaps that are read, but for those whose every key is the name of somebody.
const KEYS: [&str; 9] = [
    // Certificates and roots.
    "tls.crt",
    "tls.key",
    "ca.crt",
    // Users, and keys of issuers.
    "auth",
    "jwks.json",
    // An access key.
    "accessKeyId",
    "secretAccessKey",
    "consumer",
    "notAfter",
];

impl Watched for Secret {
    const KIND: &'static str = "Secret";

    fn trim(&mut self) {
        metadata(&mut self.metadata, &[], &[]);
        keys(self);
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// A Secret that a policy names or selects: which one it is depends on its labels.
pub(super) fn labelled_secret(secret: &mut Secret) {
    whole_secret(secret);
    keys(secret);
}

/// A Secret with a key for each user: nobody but the translation knows which of them are read.
pub(super) fn whole_secret(secret: &mut Secret) {
    let labels = secret.metadata.labels.take();
    metadata(&mut secret.metadata, &[], &[]);
    secret.metadata.labels = labels;
    secret.string_data = None;
}

fn keys(secret: &mut Secret) {
    secret.string_data = None;
    if let Some(data) = &mut secret.data {
        data.retain(|key, _| KEYS.contains(&key.as_str()));
    }
}

impl Watched for ConfigMap {
    const KIND: &'static str = "ConfigMap";

    fn trim(&mut self) {
        metadata(&mut self.metadata, &[], &[]);
        self.binary_data = None;
        if let Some(data) = &mut self.data {
            data.retain(|key, _| KEYS.contains(&key.as_str()));
        }
    }

    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Watched for UpstreamPolicy {
    const KIND: &'static str = "UpstreamPolicy";
    const EMPTY_IS_DOUBTFUL: bool = true;

    fn trim(&mut self) {
        // By its version a write of the status tells which one it was made for.
        let version = self.metadata.resource_version.take();
        metadata(&mut self.metadata, &[], &[]);
        self.metadata.resource_version = version;
    }

    fn same(&self, other: &Self) -> bool {
        let read = |metadata: &ObjectMeta| ObjectMeta {
            resource_version: None,
            ..metadata.clone()
        };
        read(&self.metadata) == read(&other.metadata) && self.spec == other.spec
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_service_what_translation_reads_is_kept() {
        let spec = json!({
            "type": "ExternalName", "externalName": "a.example.com", "selector": {"app": "web"},
            "clusterIP": "None", "ipFamilies": ["IPv6", "IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "appProtocol": "grpc"}],
        });
        let mut service: Service = serde_json::from_value(json!({"spec": spec})).unwrap();
        service.trim();
        assert_eq!(serde_json::to_value(service).unwrap()["spec"], spec);
    }

    #[test]
    fn of_annotations_those_that_are_told_are_kept_without_their_values() {
        let trimmed = |annotations: serde_json::Value| {
            let metadata = json!({"name": "a", "annotations": annotations});
            let mut ingress: Ingress =
                serde_json::from_value(json!({"metadata": metadata})).unwrap();
            ingress.trim();
            ingress
        };
        let snippet = "nginx.ingress.kubernetes.io/server-snippet";
        let given = json!({CLASS_ANNOTATION: "hale", snippet: "x".repeat(10_000), "other": "x".repeat(10_000)});
        let ingress = trimmed(given);
        let kept = ingress.metadata.annotations.clone().unwrap();
        assert_eq!(kept[CLASS_ANNOTATION], "hale");
        assert_eq!(kept.len(), 2);
        assert!(kept[snippet].len() < 10, "{kept:?}");
        let again = json!({CLASS_ANNOTATION: "hale", snippet: "y", "other": "y"});
        assert!(trimmed(again).same(&ingress), "nothing that is read");
        assert_eq!(trimmed(json!({"other": "y"})).metadata.annotations, None);
    }
}
