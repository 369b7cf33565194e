//! Secrets and ConfigMaps that policies name, each watched by its name: a cluster may be full of others that are
//! none of our business.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hale_crds::{CaKind, UpstreamPolicy};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, runtime::watcher};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use super::{
    Store, WATCH_SECONDS,
    follow::{Follow, follow},
    trim::Watched,
};
use crate::{
    cluster::namespace,
    metrics::{KindLabel, Metrics},
    settings::ObjectKey,
};

/// Watches at a time. More names than this are a mistake, or an attack on the API server.
const MOST: usize = 512;
/// How long snapshots wait for the first listing of a name.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names that are followed.
pub(super) struct Named {
    client: Client,
    metrics: Metrics,
    ticks: Arc<Notify>,
    secrets: Mutex<Followed<Secret>>,
    config_maps: Mutex<Followed<ConfigMap>>,
}

type Followed<K> = BTreeMap<ObjectKey, Watch<K>>;

struct Watch<K> {
    store: Store<K>,
    task: JoinHandle<()>,
    began: Instant,
}

impl<K> Drop for Watch<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Named {
    pub(super) fn new(client: Client, metrics: Metrics, ticks: Arc<Notify>) -> Self {
        Self {
            client,
            metrics,
            ticks,
            secrets: Mutex::default(),
            config_maps: Mutex::default(),
        }
    }

    /// Follows what these policies name, and nothing else.
    pub(super) fn follow(&self, policies: &[Arc<UpstreamPolicy>]) {
        let names = |kind: CaKind| -> BTreeSet<ObjectKey> {
            policies
                .iter()
                .flat_map(|policy| named(policy, kind))
                .collect()
        };
        self.adjust(&self.secrets, &names(CaKind::Secret));
        self.adjust(&self.config_maps, &names(CaKind::ConfigMap));
    }

    /// Waits until each name was listed once, and for each no longer than a while after it was first named: one that
    /// cannot be read delays one snapshot, and not all.
    pub(super) async fn listed(&self) {
        for (store, until) in unlisted(&self.secrets) {
            let _ = tokio::time::timeout_at(until, store.listed()).await;
        }
        for (store, until) in unlisted(&self.config_maps) {
            let _ = tokio::time::timeout_at(until, store.listed()).await;
        }
    }

    /// What was found.
    pub(super) fn all(&self) -> (Vec<Arc<Secret>>, Vec<Arc<ConfigMap>>) {
        let secrets = stores(&self.secrets);
        let config_maps = stores(&self.config_maps);
        (
            secrets.iter().flat_map(Store::all).collect(),
            config_maps.iter().flat_map(Store::all).collect(),
        )
    }

    fn adjust<K>(&self, followed: &Mutex<Followed<K>>, wanted: &BTreeSet<ObjectKey>)
    where
        K: Watched + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if followed.contains_key(key) {
                continue;
            }
            if followed.len() >= MOST {
                tracing::error!(
                    kind = K::KIND,
                    most = MOST,
                    "policies name too many objects; the rest is not read"
                );
                break;
            }
            followed.insert(key.clone(), self.start(key));
        }
    }

    fn start<K>(&self, key: &ObjectKey) -> Watch<K>
    where
        K: Watched + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let store = Store::new(K::KIND);
        let label = KindLabel { kind: K::KIND };
        let config = watcher::Config::default()
            .fields(&format!("metadata.name={}", key.name))
            .timeout(WATCH_SECONDS + 14);
        let task = tokio::spawn(follow(Follow {
            api: Api::namespaced(self.client.clone(), &key.namespace),
            config,
            trim: K::trim,
            store: store.clone(),
            ticks: Arc::clone(&self.ticks),
            // One name is not the kind: its state is not what the kind's metrics tell.
            watching: Default::default(),
            objects: Default::default(),
            errors: self.metrics.watch_errors.get_or_create_owned(&label),
        }));
        Watch {
            store,
            task,
            began: Instant::now(),
        }
    }
}

/// Names that were not listed yet, and until when that is waited for.
fn unlisted<K: Watched>(followed: &Mutex<Followed<K>>) -> Vec<(Store<K>, Instant)> {
    let followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
    let waits = followed
        .values()
        .filter(|watch| watch.store.missing().is_some());
    waits
        .map(|watch| (watch.store.clone(), watch.began + PATIENCE))
        .collect()
}

fn stores<K>(followed: &Mutex<Followed<K>>) -> Vec<Store<K>> {
    let followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
    followed.values().map(|watch| watch.store.clone()).collect()
}

/// The objects of a kind that a policy names, all of its own namespace. Client certificates are of the type that is
/// watched anyway.
fn named(policy: &UpstreamPolicy, kind: CaKind) -> impl Iterator<Item = ObjectKey> + '_ {
    let references = policy
        .spec
        .tls
        .iter()
        .flat_map(|tls| &tls.ca_certificate_refs);
    references
        .filter(move |reference| reference.kind == kind)
        .map(|reference| ObjectKey::new(namespace(&policy.metadata), reference.name.clone()))
}
