//! The objects of one kind, as they were last heard of.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::trim::Watched;
use crate::{cluster::key, settings::ObjectKey};

/// The objects of one kind. Cheap to clone; all clones are the same one.
pub struct Store<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    kind: &'static str,
    objects: Mutex<HashMap<ObjectKey, Arc<K>>>,
    /// Why there was no listing yet, as far as somebody knows.
    problem: Mutex<Option<String>>,
    listed: watch::Sender<bool>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

/// A panic while the lock was held cannot have left a map half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Watched> Store<K> {
    /// An empty store that was not listed yet.
    pub fn new(kind: &'static str) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind,
                objects: Mutex::default(),
                problem: Mutex::default(),
                listed: watch::Sender::new(false),
            }),
        }
    }

    /// Every object, in any order.
    pub fn all(&self) -> Vec<Arc<K>> {
        lock(&self.inner.objects).values().cloned().collect()
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        lock(&self.inner.objects).get(key).cloned()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        lock(&self.inner.objects).len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is missing and why, before the first listing.
    pub fn missing(&self) -> Option<String> {
        if *self.inner.listed.borrow() {
            return None;
        }
        let kind = self.inner.kind;
        Some(match &*lock(&self.inner.problem) {
            Some(problem) => format!("the first listing of kind {kind}: {problem}"),
            None => format!("the first listing of kind {kind}"),
        })
    }

    /// Waits for the first listing.
    pub async fn listed(&self) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self
            .inner
            .listed
            .subscribe()
            .wait_for(|listed| *listed)
            .await;
    }

    /// What stands in the way of a listing.
    pub(super) fn set_problem(&self, problem: String) {
        *lock(&self.inner.problem) = Some(problem);
    }

    /// Everything was listed. Returns whether that is a change.
    pub(super) fn replace(&self, listing: HashMap<ObjectKey, Arc<K>>) -> bool {
        let mut objects = lock(&self.inner.objects);
        let same = objects.len() == listing.len()
            && listing
                .iter()
                .all(|(key, new)| objects.get(key).is_some_and(|old| old.same(new)));
        *objects = listing;
        drop(objects);
        let first = !self.inner.listed.send_replace(true);
        *lock(&self.inner.problem) = None;
        first || !same
    }

    /// An object is new or was changed. Returns whether in something that matters.
    pub(super) fn insert(&self, object: K) -> bool {
        let object = Arc::new(object);
        let before = lock(&self.inner.objects).insert(key(object.meta()), Arc::clone(&object));
        before.is_none_or(|before| !before.same(&object))
    }

    /// An object is gone. Returns whether it was known.
    pub(super) fn remove(&self, object: &K) -> bool {
        lock(&self.inner.objects)
            .remove(&key(object.meta()))
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;

    fn secret(name: &str, version: &str) -> Secret {
        let mut secret = Secret {
            metadata: ObjectMeta {
                namespace: Some("shop".into()),
                name: Some(name.into()),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        };
        secret.trim();
        secret
    }

    #[test]
    fn what_was_dropped_does_not_count_as_a_change() {
        let store = Store::new("Secret");
        assert!(store.missing().is_some());
        assert!(
            store.replace(HashMap::new()),
            "the first listing is news, even when it is empty"
        );
        assert_eq!(store.missing(), None);
        assert!(store.insert(secret("a", "1")));
        assert!(!store.insert(secret("a", "2")));
        let relisted = HashMap::from([(ObjectKey::new("shop", "a"), Arc::new(secret("a", "3")))]);
        assert!(!store.replace(relisted));
        assert!(store.remove(&secret("a", "4")));
        assert!(!store.remove(&secret("a", "4")));
    }
}
