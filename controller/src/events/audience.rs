//! Which objects an Event is about, with the UIDs by which `kubectl describe` finds it.

use std::collections::BTreeMap;

use hale_dataplane::config::{ObjectRef, UpstreamId};
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use crate::{
    cluster::{Cluster, key},
    publish::Published,
    settings::ObjectKey,
};

/// The objects of a snapshot, and whom an upstream concerns.
pub(super) struct Audience<'a> {
    published: &'a Published,
    ingresses: BTreeMap<ObjectKey, &'a ObjectMeta>,
    policies: BTreeMap<ObjectKey, &'a ObjectMeta>,
}

impl<'a> Audience<'a> {
    pub(super) fn new(published: &'a Published) -> Self {
        let cluster: &Cluster = &published.cluster;
        let ingresses = cluster.ingresses().iter().map(|object| &object.metadata);
        let policies = cluster.policies().iter().map(|object| &object.metadata);
        Self {
            published,
            ingresses: ingresses.map(|meta| (key(meta), meta)).collect(),
            policies: policies.map(|meta| (key(meta), meta)).collect(),
        }
    }

    /// The object, if it is in the snapshot.
    pub(super) fn reference(&self, object: &ObjectRef) -> Option<ObjectReference> {
        let cluster = &self.published.cluster;
        let key = ObjectKey::new(&object.namespace, &object.name);
        let (api_version, meta) = match object.kind {
            "Ingress" => ("networking.k8s.io/v1", *self.ingresses.get(&key)?),
            "UpstreamPolicy" => ("hale-ingress.io/v1alpha1", *self.policies.get(&key)?),
            "Service" => ("v1", &cluster.services().get(&key)?.metadata),
            "Secret" => ("v1", &cluster.secrets().get(&key)?.metadata),
            _ => return None,
        };
        Some(ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(object.kind.to_owned()),
            namespace: Some(object.namespace.clone()),
            name: Some(object.name.clone()),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        })
    }

    /// The generation of an Ingress.
    pub(super) fn generation(&self, ingress: &ObjectRef) -> Option<i64> {
        let key = ObjectKey::new(&ingress.namespace, &ingress.name);
        self.ingresses.get(&key)?.generation
    }

    /// Those who care for the peers of an upstream: its Service, and the policies that are about it.
    pub(super) fn of_peers(&self, upstream: &UpstreamId) -> Vec<ObjectReference> {
        let service = ObjectRef {
            kind: "Service",
            namespace: upstream.namespace.clone(),
            name: upstream.service.clone(),
        };
        let policies = self
            .published
            .translation
            .policies
            .iter()
            .filter(|outcome| {
                let mut targets = outcome.targets.iter();
                targets.any(|target| target.upstreams.contains(upstream))
            });
        let policies = policies.map(|outcome| ObjectRef {
            kind: "UpstreamPolicy",
            namespace: outcome.namespace.clone(),
            name: outcome.name.clone(),
        });
        std::iter::once(service)
            .chain(policies)
            .filter_map(|object| self.reference(&object))
            .collect()
    }

    /// The Ingresses whose routes lead to an upstream.
    pub(super) fn of_routes(&self, upstream: &UpstreamId) -> Vec<ObjectReference> {
        let ingresses = &self.published.translation.ingresses;
        ingresses
            .iter()
            .filter(|outcome| outcome.upstreams.contains(upstream))
            .filter_map(|outcome| {
                self.reference(&ObjectRef {
                    kind: "Ingress",
                    namespace: outcome.namespace.clone(),
                    name: outcome.name.clone(),
                })
            })
            .collect()
    }
}
