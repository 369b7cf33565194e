//! Secrets and ConfigMaps that policies refer to, each watched by its name or by its labels: a cluster may be full of
//! others that are none of our business.
//!
//! What could not be listed is not there for translation, which refuses the requests that need it; why it is not there
//! is a finding about the policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_crds::{CaKind, UpstreamPolicy};
use hale_dataplane::config::ObjectRef;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, runtime::watcher};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use super::{
    Store, WATCH_SECONDS,
    follow::{Follow, follow},
    trim::{self, Watched},
};
use crate::{
    cluster::key,
    finding::{Finding, FindingReason, Severity},
    metrics::{KindLabel, Metrics},
};

mod references;

use references::{Part, Reference, Which};

/// Watches of a kind at a time. More than this are a mistake, or an attack on the API server.
const MOST: usize = 512;

/// What is followed.
pub(super) struct Named {
    client: Client,
    metrics: Metrics,
    ticks: Arc<Notify>,
    secrets: Mutex<Followed<Secret>>,
    config_maps: Mutex<Followed<ConfigMap>>,
}

type Followed<K> = BTreeMap<Part, Watch<K>>;

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

/// A kind that policies refer to.
trait Referred: Watched + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope> {
    /// What is kept of it.
    fn trim_of(which: &Which) -> fn(&mut Self);
}

impl Referred for Secret {
    fn trim_of(which: &Which) -> fn(&mut Self) {
        match which {
            Which::Name(_) | Which::Labels(_) => trim::labelled_secret,
            Which::Whole(_) => trim::whole_secret,
        }
    }
}

impl Referred for ConfigMap {
    fn trim_of(_: &Which) -> fn(&mut Self) {
        Self::trim
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

    /// Follows what these policies refer to, and nothing else.
    pub(super) fn follow(&self, policies: &[Arc<UpstreamPolicy>]) {
        let parts = |kind: CaKind| -> BTreeSet<Part> {
            let all = policies.iter().flat_map(|policy| references::of(policy));
            all.filter(|reference| reference.kind == kind)
                .map(|reference| reference.part)
                .collect()
        };
        self.adjust(&self.secrets, &parts(CaKind::Secret));
        self.adjust(&self.config_maps, &parts(CaKind::ConfigMap));
    }

    /// Waits until each part was listed once or refused, and for each no longer than `patience` after it was first
    /// wanted: one that cannot be read delays one snapshot, and not all.
    pub(super) async fn listed(&self, patience: Duration) {
        for (store, began) in unlisted(&self.secrets) {
            let _ = tokio::time::timeout_at(began + patience, store.answered()).await;
        }
        for (store, began) in unlisted(&self.config_maps) {
            let _ = tokio::time::timeout_at(began + patience, store.answered()).await;
        }
    }

    /// What was found. What has all of its data comes last.
    pub(super) fn all(&self) -> (Vec<Arc<Secret>>, Vec<Arc<ConfigMap>>) {
        (found(&self.secrets), found(&self.config_maps))
    }

    /// What could not be read, for which policy, and why.
    pub(super) fn findings(&self, policies: &[Arc<UpstreamPolicy>]) -> Vec<Finding> {
        let (secrets, config_maps) = (lock(&self.secrets), lock(&self.config_maps));
        let mut findings = Vec::new();
        for policy in policies {
            for reference in references::of(policy) {
                let trouble = match reference.kind {
                    CaKind::Secret => trouble(&secrets, &reference.part),
                    CaKind::ConfigMap => trouble(&config_maps, &reference.part),
                };
                if let Some(why) = trouble {
                    findings.push(unread(policy, &reference, &why));
                }
            }
        }
        findings.sort();
        findings.dedup();
        findings
    }

    fn adjust<K: Referred>(&self, followed: &Mutex<Followed<K>>, wanted: &BTreeSet<Part>) {
        let mut followed = lock(followed);
        let wanted = in_turn(wanted, MOST);
        followed.retain(|part, _| wanted.contains(part));
        for part in wanted {
            if !followed.contains_key(part) {
                followed.insert(part.clone(), self.start(part));
            }
        }
    }

    fn start<K: Referred>(&self, part: &Part) -> Watch<K> {
        let store = Store::new(K::KIND);
        let label = KindLabel { kind: K::KIND };
        let config = match &part.which {
            Which::Name(name) | Which::Whole(name) => {
                watcher::Config::default().fields(&format!("metadata.name={name}"))
            }
            Which::Labels(selector) => watcher::Config::default().labels(selector),
        };
        let task = tokio::spawn(follow(Follow {
            api: Api::namespaced(self.client.clone(), &part.namespace),
            config: config.timeout(WATCH_SECONDS + 14),
            trim: K::trim_of(&part.which),
            store: store.clone(),
            ticks: Arc::clone(&self.ticks),
            // A part is not the kind: its state is not what the kind's metrics tell.
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

/// So many of what is wanted. Namespaces take turns: one that wants too much takes nothing from those that want little.
fn in_turn(wanted: &BTreeSet<Part>, most: usize) -> BTreeSet<&Part> {
    let mut turns: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<(usize, &Part)> = wanted
        .iter()
        .map(|part| {
            let turn = turns.entry(&part.namespace).or_default();
            *turn += 1;
            (*turn, part)
        })
        .collect();
    all.sort();
    all.into_iter().take(most).map(|(_, part)| part).collect()
}

/// A panic while the lock was held cannot have left a map half written.
fn lock<K>(followed: &Mutex<Followed<K>>) -> MutexGuard<'_, Followed<K>> {
    followed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was neither listed yet nor refused, and since when it is wanted.
fn unlisted<K: Watched>(followed: &Mutex<Followed<K>>) -> Vec<(Store<K>, Instant)> {
    let followed = lock(followed);
    let waits = followed
        .values()
        .filter(|watch| watch.store.missing().is_some());
    waits
        .map(|watch| (watch.store.clone(), watch.began))
        .collect()
}

fn found<K: Watched>(followed: &Mutex<Followed<K>>) -> Vec<Arc<K>> {
    let followed = lock(followed);
    let mut watches: Vec<_> = followed.iter().collect();
    watches.sort_by_key(|(part, _)| matches!(part.which, Which::Whole(_)));
    let stores = watches.into_iter().map(|(_, watch)| &watch.store);
    stores.flat_map(Store::all).collect()
}

fn trouble<K: Watched>(followed: &Followed<K>, part: &Part) -> Option<String> {
    match followed.get(part) {
        Some(watch) => watch.store.trouble(),
        None => Some(format!(
            "policies refer to more than {MOST} of them, and no more are followed"
        )),
    }
}

fn unread(policy: &UpstreamPolicy, reference: &Reference, why: &str) -> Finding {
    let key = key(&policy.metadata);
    Finding {
        object: ObjectRef {
            kind: "UpstreamPolicy",
            namespace: key.namespace,
            name: key.name,
        },
        reason: FindingReason::ReferenceUnreadable,
        severity: Severity::Warning,
        message: format!(
            "{}: cannot read {}: {why}; requests that need it are refused",
            reference.field,
            reference.name()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_take_turns() {
        let part = |namespace: &str, name: &str| Part {
            namespace: namespace.to_owned(),
            which: Which::Name(name.to_owned()),
        };
        let wanted: BTreeSet<Part> = ["1", "2", "3", "4"]
            .map(|name| part("a", name))
            .into_iter()
            .chain([part("b", "1"), part("b", "2"), part("c", "1")])
            .collect();
        let chosen = |most: usize| -> Vec<String> {
            let chosen = in_turn(&wanted, most).into_iter();
            chosen
                .map(|part| match &part.which {
                    Which::Name(name) => format!("{}{name}", part.namespace),
                    other => format!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(chosen(3), ["a1", "b1", "c1"]);
        assert_eq!(chosen(5), ["a1", "a2", "b1", "b2", "c1"]);
        assert_eq!(chosen(100).len(), 7);
    }
}
