//! The life of one watch: list, watch, and try again, for ever.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use hale_dataplane::prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use kube::{
    Api,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{sync::Notify, time::Instant};

use super::{
    Store,
    definition::{Definition, POLICY_DEFINITION, definition},
    trim::Watched,
};
use crate::{cluster::key, settings::ObjectKey};

/// What one watch needs.
pub(super) struct Follow<K> {
    pub(super) api: Api<K>,
    pub(super) config: watcher::Config,
    pub(super) trim: fn(&mut K),
    pub(super) store: Store<K>,
    pub(super) ticks: Arc<Notify>,
    pub(super) watching: Gauge,
    pub(super) objects: Gauge,
    pub(super) errors: Counter,
}

/// The first wait after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest wait. Short, because an API server that comes back should find us soon, and there are few watches.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long listings must be empty before objects that no watch reported as deleted are dropped.
const BELIEVED: Duration = Duration::from_secs(30);
/// How long the definition of policies must be missing before Hale serves without policies. An API server that starts
/// does not know all of its kinds at once.
const BELIEVED_AT_START: Duration = Duration::from_secs(10);
/// How often a failure that lasts is logged again.
const REMIND: Duration = Duration::from_secs(300);

/// Fills the store and keeps it up to date, for ever.
pub(super) async fn follow<K: Watched>(follow: Follow<K>) {
    let mut failure = Failure::default();
    loop {
        match follow.watch(&mut failure).await {
            Ended::Failed(error) => follow.failed(&error, &mut failure).await,
            Ended::Emptied => follow.emptied(&mut failure),
        }
        tokio::time::sleep(failure.pause()).await;
    }
}

/// Why everything is listed again.
pub(super) enum Ended {
    /// A listing or a watch failed.
    Failed(watcher::Error),
    /// A listing without objects, where there were some and none was deleted.
    Emptied,
}

impl<K: Watched> Follow<K> {
    /// Lists and watches until something fails. After a failure everything is listed anew: a watch that is resumed
    /// does not tell that it works again before something happens to change.
    pub(super) async fn watch(&self, failure: &mut Failure) -> Ended {
        let mut events = pin!(watcher(self.api.clone(), self.config.clone()));
        let mut listing = HashMap::new();
        while let Some(event) = events.next().await {
            let changed = match event {
                Ok(Event::Init) => false,
                Ok(Event::InitApply(mut object)) => {
                    if object.matters() {
                        (self.trim)(&mut object);
                        listing.insert(key(object.meta()), Arc::new(object));
                    }
                    false
                }
                Ok(Event::InitDone)
                    if self.is_doubtful(&listing) && !failure.absent_for(BELIEVED, true) =>
                {
                    return Ended::Emptied;
                }
                Ok(Event::InitDone) => {
                    failure.over(K::KIND);
                    self.watching.set(1);
                    self.store.replace(std::mem::take(&mut listing))
                }
                Ok(Event::Apply(mut object)) if object.matters() => {
                    (self.trim)(&mut object);
                    self.store.insert(object)
                }
                Ok(Event::Apply(object) | Event::Delete(object)) => self.store.remove(&object),
                Err(error) => return Ended::Failed(error),
            };
            self.changed(changed);
        }
        // kube's stream has no end; if it had one, a new listing is what helps.
        Ended::Failed(watcher::Error::NoResourceVersion)
    }

    /// Whether a listing is empty that should not be. An API server that has just started, or was restored, may list
    /// nothing for a moment.
    fn is_doubtful(&self, listing: &HashMap<ObjectKey, Arc<K>>) -> bool {
        K::EMPTY_IS_DOUBTFUL && listing.is_empty() && !self.store.is_empty()
    }

    /// Keeps what is known and reports the empty listing.
    pub(super) fn emptied(&self, failure: &mut Failure) {
        self.errors.inc();
        self.watching.set(0);
        let text = "the API server lists no object, but reported no deletion".to_owned();
        failure.log(|| {
            tracing::warn!(
                kind = K::KIND,
                "{text}; the last known state stays in force"
            );
        });
        self.stale(text);
    }

    /// Reports that the known objects may be out of date.
    fn stale(&self, why: String) {
        if self.store.set_stale(why) {
            self.ticks.notify_one();
        }
    }

    fn changed(&self, changed: bool) {
        let count = i64::try_from(self.store.len()).unwrap_or(i64::MAX);
        self.objects.set(count);
        if changed {
            self.ticks.notify_one();
        }
    }

    /// Reports a failure. What is known stays in force: only a deletion that the API server reports, or a listing,
    /// removes an object.
    pub(super) async fn failed(&self, error: &watcher::Error, failure: &mut Failure) {
        // The server ended a watch that was too far behind: not a failure.
        if let watcher::Error::WatchError(status) = error
            && status.code == 410
        {
            return;
        }
        self.errors.inc();
        self.watching.set(0);
        let mut text = explain(error);
        let mut undefined = false;
        if is_absent(error) && K::KIND == "UpstreamPolicy" && self.store.missing().is_some() {
            match definition(self.api.clone().into_client(), POLICY_DEFINITION).await {
                Definition::Missing => undefined = true,
                Definition::Exists => text.push_str("; it is defined, but not served"),
                Definition::Unknown(why) => {
                    text = format!(
                        "{text}; cannot tell whether it is defined: {why}. To define it: hale crds | kubectl apply -f -"
                    );
                }
            }
        }
        if failure.absent_for(BELIEVED_AT_START, undefined) {
            // Without the definition there are no policies. Ingresses are served all the same.
            self.changed(self.store.replace(HashMap::new()));
            failure.log(|| {
                tracing::warn!(
                    "UpstreamPolicy is not defined in this cluster: Ingresses are served WITHOUT policies. To define it: hale crds | kubectl apply -f -"
                );
            });
            return;
        }
        failure.log(|| {
            tracing::warn!(
                kind = K::KIND,
                error = text,
                "cannot list or watch; the last known state stays in force"
            );
        });
        if is_answer(error) && !self.store.is_empty() {
            self.stale(text.clone());
        }
        if self.store.set_problem(text, is_refused(error)) {
            self.ticks.notify_one();
        }
    }
}

/// Failures in a row.
#[derive(Default)]
pub(super) struct Failure {
    count: u32,
    logged: Option<Instant>,
    absent: Option<Instant>,
    believed: bool,
}

impl Failure {
    fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE * 2u32.saturating_pow(self.count.min(10));
        self.count = self.count.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }

    /// Logs the first failure, and reminds of one that lasts.
    fn log(&mut self, write: impl FnOnce()) {
        let now = Instant::now();
        if self
            .logged
            .is_none_or(|logged| now.duration_since(logged) >= REMIND)
        {
            self.logged = Some(now);
            write();
        }
    }

    /// Whether the definition has been away for long enough to believe that there is none. Another failure in between
    /// says nothing of it, and the time begins anew.
    fn absent_for(&mut self, patience: Duration, absent: bool) -> bool {
        let now = Instant::now();
        if !absent {
            self.absent = None;
            self.believed = false;
            return false;
        }
        let away = now.duration_since(*self.absent.get_or_insert(now));
        if away >= patience && !self.believed {
            // That is another message, and has not been logged yet.
            self.believed = true;
            self.logged = None;
        }
        self.believed
    }

    fn over(&mut self, kind: &'static str) {
        if self.count > 0 {
            tracing::info!(kind, failures = self.count, "watching again");
            *self = Self::default();
        }
    }
}

fn api_error(error: &watcher::Error) -> Option<&kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(error),
        _ => None,
    }
}

fn is_absent(error: &watcher::Error) -> bool {
    matches!(api_error(error), Some(kube::Error::Api(status)) if status.code == 404)
}

/// Whether the API server answered, but not with objects of the kind. One that is away or overloaded does not answer.
fn is_answer(error: &watcher::Error) -> bool {
    match api_error(error) {
        Some(kube::Error::Api(status)) => {
            (400..500).contains(&status.code) && status.code != 410 && status.code != 429
        }
        Some(kube::Error::SerdeError(_)) => true,
        _ => false,
    }
}

fn is_refused(error: &watcher::Error) -> bool {
    matches!(api_error(error), Some(kube::Error::Api(status)) if status.code == 403)
}

fn explain(error: &watcher::Error) -> String {
    api_error(error).map_or_else(|| error.to_string(), crate::api_error::explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut failure = Failure::default();
        let pauses: Vec<_> = (0..20).map(|_| failure.pause()).collect();
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_definition_must_be_away_for_a_while() {
        let mut failure = Failure::default();
        let absent = |failure: &mut Failure| failure.absent_for(BELIEVED, true);
        assert!(!absent(&mut failure));
        tokio::time::advance(BELIEVED / 2).await;
        assert!(!absent(&mut failure));
        failure.count = 1;
        failure.over("UpstreamPolicy");
        tokio::time::advance(BELIEVED / 2).await;
        assert!(!absent(&mut failure), "it was there in between");
        tokio::time::advance(BELIEVED).await;
        assert!(absent(&mut failure));
        assert!(absent(&mut failure));
        assert!(!failure.absent_for(BELIEVED, false));
        assert!(!absent(&mut failure), "the server was away in between");
    }
}
