//! The objects of one kind, as they were last heard of.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hale_dataplane::config::ObjectRef;
use tokio::sync::watch;

use super::trim::Watched;
use crate::{
    cluster::key,
    finding::{Finding, FindingReason, Severity},
    settings::ObjectKey,
};

/// The objects of one kind. Cheap to clone; all clones are the same one.
pub struct Store<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    kind: &'static str,
    objects: Mutex<HashMap<ObjectKey, Arc<K>>>,
    /// Why there was no listing yet, as far as somebody knows.
    problem: Mutex<Option<String>>,
    /// Why the objects may be out of date, although the API server answers.
    stale: Mutex<Option<String>>,
    seen: watch::Sender<Seen>,
}

/// What the API server has said of a kind.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// That there was a listing.
    listed: bool,
    /// That we may not have one; another answer than this one takes it back.
    refused: bool,
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
                stale: Mutex::default(),
                seen: watch::Sender::default(),
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
        if self.inner.seen.borrow().listed {
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
        self.until(|seen| seen.listed).await;
    }

    /// Waits until there was a listing, or the API server has said that there will be none.
    pub(super) async fn answered(&self) {
        self.until(|seen| seen.listed || seen.refused).await;
    }

    async fn until(&self, wanted: impl Fn(&Seen) -> bool) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.inner.seen.subscribe().wait_for(wanted).await;
    }

    /// Why what is here is not what the cluster has: it may not be read, or was not heard of yet. An API server that is
    /// away for a while is no such reason.
    pub(super) fn trouble(&self) -> Option<String> {
        let Seen { listed, refused } = *self.inner.seen.borrow();
        if listed && !refused {
            return None;
        }
        let problem = lock(&self.inner.problem).clone();
        Some(problem.unwrap_or_else(|| "the API server has not answered yet".to_owned()))
    }

    /// Keeps the objects, which may be out of date, and why. Returns whether that is new.
    pub(super) fn set_stale(&self, why: String) -> bool {
        lock(&self.inner.stale).replace(why).is_none()
    }

    /// A finding about the kind, while its objects may be out of date.
    pub(super) fn finding(&self) -> Option<Finding> {
        let why = lock(&self.inner.stale).clone()?;
        let (kind, count) = (self.inner.kind, self.len());
        Some(Finding {
            object: ObjectRef {
                kind: "APIResource",
                namespace: String::new(),
                name: kind.to_owned(),
            },
            reason: FindingReason::KindUnavailable,
            severity: Severity::Warning,
            message: format!(
                "cannot list or watch {kind}: {why}. The last known state ({count} objects) stays in force, and changes are not seen"
            ),
        })
    }

    /// What stands in the way of a listing, and whether the API server refuses it. Returns whether it does so anew.
    pub(super) fn set_problem(&self, problem: String, refused: bool) -> bool {
        *lock(&self.inner.problem) = Some(problem);
        let mut anew = false;
        self.inner.seen.send_if_modified(|seen| {
            anew = refused && !seen.refused;
            let changed = refused != seen.refused;
            seen.refused = refused;
            changed
        });
        anew
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
        *lock(&self.inner.problem) = None;
        let was_stale = lock(&self.inner.stale).take().is_some();
        let before = self.inner.seen.send_replace(Seen {
            listed: true,
            refused: false,
        });
        !before.listed || before.refused || was_stale || !same
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

    #[tokio::test]
    async fn a_refusal_is_an_answer_and_is_told_once() {
        let store = Store::<Secret>::new("Secret");
        assert_eq!(
            store.trouble().as_deref(),
            Some("the API server has not answered yet")
        );
        assert!(!store.set_problem("away".into(), false));
        assert!(store.set_problem("forbidden".into(), true));
        assert!(!store.set_problem("forbidden".into(), true));
        store.answered().await;
        assert_eq!(store.trouble().as_deref(), Some("forbidden"));
        assert!(store.replace(HashMap::new()));
        assert_eq!(store.trouble(), None);
        assert!(!store.set_problem("away".into(), false));
        assert_eq!(store.trouble(), None, "what is known is believed");
        assert!(store.set_problem("forbidden".into(), true));
        assert_eq!(store.trouble().as_deref(), Some("forbidden"));
        assert_eq!(store.missing(), None);
        assert!(store.replace(HashMap::new()), "the refusal is over");
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
