//! The readinessProbes of pods, where a policy asks for checks from them.
//!
//! Pods are not watched: a big cluster has a hundred for each that matters, and they change all day. A probe cannot change
//! while its pod lives, so each pod is read once, by its UID: a few new ones by name, many by the Service's selector. One
//! request is under way at a time, and what comes is trimmed at the door.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_dataplane::config::{CheckKind, Upstream};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use tokio::{sync::Notify, time::Instant};

use super::pods::selector;
use crate::{
    api_error::explain,
    cluster::{ContainerView, PodView},
    publish::{Newest, Published},
    settings::ObjectKey,
};

/// So many new pods of a Service are read one by one; more by its selector.
const ONE_BY_ONE: usize = 8;
/// Pods in one answer.
const PAGE: u32 = 250;
/// When a Service whose pods could not be read is tried again, and when it is looked whether there is one.
const AGAIN: Duration = Duration::from_secs(20);

/// What was found, shared with the snapshots. Cheap to clone; all clones are the same one.
#[derive(Clone, Default)]
pub struct PodProbes {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By UID; `None` for a pod that was gone.
    known: HashMap<String, Option<Arc<PodView>>>,
    /// Services whose pods could not be read, why, and when.
    unread: BTreeMap<ObjectKey, (String, Instant)>,
}

/// The pods of a Service that a policy wants to be checked by their probes.
struct Wanted {
    service: ObjectKey,
    selector: Option<String>,
    /// Names by UID.
    pods: BTreeMap<String, String>,
}

/// Lists pods, page by page.
trait Lister {
    /// One page from `next` on, and where the following one begins.
    fn page(
        &self,
        namespace: &str,
        params: ListParams,
    ) -> impl Future<Output = Result<(Vec<Pod>, Option<String>), String>> + Send;
}

impl Lister for Client {
    async fn page(
        &self,
        namespace: &str,
        params: ListParams,
    ) -> Result<(Vec<Pod>, Option<String>), String> {
        let api = Api::<Pod>::namespaced(self.clone(), namespace);
        let list = api.list(&params).await.map_err(|error| explain(&error))?;
        let next = list.metadata.continue_.filter(|next| !next.is_empty());
        Ok((list.items, next))
    }
}

impl PodProbes {
    /// The pods that were read.
    pub fn pods(&self) -> Vec<Arc<PodView>> {
        self.state().known.values().flatten().cloned().collect()
    }

    /// Services whose pods could not be read, and why.
    pub fn unread(&self) -> BTreeMap<ObjectKey, String> {
        let state = self.state();
        let unread = state.unread.iter();
        unread
            .map(|(key, (why, _))| (key.clone(), why.clone()))
            .collect()
    }

    /// Reads the pods that snapshots name and that are new. Ticks when something new was found. Never ends but with
    /// the process.
    pub async fn look(self, client: Client, mut newest: Newest, ticks: Arc<Notify>) {
        loop {
            if let Ok(Err(_)) = tokio::time::timeout(AGAIN, newest.changed()).await {
                return;
            }
            let Some(published) = newest.borrow_and_update().clone() else {
                continue;
            };
            if self.round(&wanted(&published), &client).await {
                ticks.notify_one();
            }
        }
    }

    /// Reads what is new and forgets what is not wanted any more. Returns whether something new was found.
    async fn round(&self, wanted: &[Wanted], lister: &impl Lister) -> bool {
        let mut changed = self.forget(wanted);
        for service in wanted {
            let unknown = self.unknown(service);
            if unknown.is_empty() {
                continue;
            }
            let result = read(service, &unknown, lister).await;
            let mut state = self.state();
            let before = state.unread.remove(&service.service);
            match result {
                Ok(found) => {
                    changed |= before.is_some() || found.values().any(Option::is_some);
                    state.known.extend(found);
                }
                Err(why) => {
                    tracing::warn!(service = %service.service, error = why, "cannot read the readinessProbes of pods");
                    changed |= before.is_none_or(|(before, _)| before != why);
                    let failed = (why, Instant::now());
                    state.unread.insert(service.service.clone(), failed);
                }
            }
        }
        changed
    }

    fn forget(&self, wanted: &[Wanted]) -> bool {
        let uids: BTreeSet<&String> = wanted.iter().flat_map(|it| it.pods.keys()).collect();
        let services: BTreeSet<&ObjectKey> = wanted.iter().map(|it| &it.service).collect();
        let mut state = self.state();
        state.known.retain(|uid, _| uids.contains(uid));
        let before = state.unread.len();
        state.unread.retain(|key, _| services.contains(key));
        state.unread.len() != before
    }

    /// Pods of a Service that were not read yet; none while the last failure is recent.
    fn unknown(&self, wanted: &Wanted) -> BTreeMap<String, String> {
        let state = self.state();
        let failed = state.unread.get(&wanted.service);
        if failed.is_some_and(|(_, at)| at.elapsed() < AGAIN) {
            return BTreeMap::new();
        }
        let pods = wanted.pods.iter();
        pods.filter(|(uid, _)| !state.known.contains_key(*uid))
            .map(|(uid, name)| (uid.clone(), name.clone()))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads pods of a Service, by UID. A pod that is not there any more will not come back.
async fn read(
    wanted: &Wanted,
    unknown: &BTreeMap<String, String>,
    lister: &impl Lister,
) -> Result<HashMap<String, Option<Arc<PodView>>>, String> {
    let queries: Vec<ListParams> = match &wanted.selector {
        Some(selector) if unknown.len() > ONE_BY_ONE => {
            vec![ListParams::default().labels(selector)]
        }
        _ => {
            let by_name = |name: &String| format!("metadata.name={name}");
            let names = unknown.values().map(by_name);
            names
                .map(|name| ListParams::default().fields(&name))
                .collect()
        }
    };
    let mut found: HashMap<_, _> = unknown.keys().map(|uid| (uid.clone(), None)).collect();
    let mut shared: Option<Arc<[ContainerView]>> = None;
    for query in queries {
        let mut params = query.limit(PAGE);
        loop {
            let namespace = &wanted.service.namespace;
            let (pods, next) = lister.page(namespace, params.clone()).await?;
            for mut pod in pods.into_iter().map(PodView::of) {
                let Some(place) = found.get_mut(&pod.uid) else {
                    continue;
                };
                match &shared {
                    Some(same) if **same == *pod.containers => pod.containers = Arc::clone(same),
                    _ => shared = Some(Arc::clone(&pod.containers)),
                }
                *place = Some(Arc::new(pod));
            }
            match next {
                Some(next) => params = params.continue_token(&next),
                None => break,
            }
        }
    }
    Ok(found)
}

/// The pods whose probes a snapshot asks for, by Service.
fn wanted(published: &Published) -> Vec<Wanted> {
    let mut wanted: BTreeMap<ObjectKey, BTreeMap<String, String>> = BTreeMap::new();
    let asks = |upstream: &&Upstream| {
        let active = upstream.health.active.as_ref();
        active.is_some_and(|active| active.kind == CheckKind::OfPeer)
    };
    for upstream in published.translation.config.upstreams.iter().filter(asks) {
        let key = ObjectKey::new(&upstream.id.namespace, &upstream.id.service);
        let pods = wanted.entry(key).or_default();
        for peer in &upstream.peers {
            if let (Some(name), false) = (&peer.pod, peer.uid.is_empty()) {
                pods.insert(peer.uid.clone(), name.clone());
            }
        }
    }
    let services = published.cluster.services();
    wanted
        .into_iter()
        .map(|(service, pods)| Wanted {
            selector: services.get(&service).and_then(|it| selector(it)),
            service,
            pods,
        })
        .collect()
}

#[cfg(test)]
mod tests;
