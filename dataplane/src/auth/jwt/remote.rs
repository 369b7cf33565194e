//! Keys that are fetched (RFC 7517 §5), and kept while their endpoint does not answer.
//!
//! A feed asks for the keys of one URL, on the health thread and never on a data thread. All policies that name the same URL
//! in the same way share it, from table to table. A token by a key that is not there asks for the keys once
//! more, because keys rotate; how often that may happen, and how many requests may wait for it, is bounded.

mod feed;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::KeySet;
use crate::{addresses::Reach, config::RemoteKeys, health::Prober};
pub(super) use feed::Feed;

/// Where the keys of a policy come from.
pub(crate) struct Endpoint {
    config: RemoteKeys,
    /// There once the table is published.
    pub(super) feed: OnceLock<Arc<Feed>>,
}

impl Endpoint {
    pub(super) fn new(config: RemoteKeys) -> Self {
        Self {
            config,
            feed: OnceLock::new(),
        }
    }

    /// The keys of the moment, and a number that no other keys have.
    pub(super) fn keys(&self) -> Option<(KeySet, u64)> {
        self.feed.get()?.keys()
    }

    /// Why there are no keys.
    pub(super) fn unavailable(&self) -> Option<String> {
        match self.feed.get() {
            Some(feed) => feed.unavailable(),
            None => Some("its keys are not fetched yet".into()),
        }
    }

    /// Has the keys fetched if that may be, and waits a little: whether there are others than those.
    pub(super) async fn has_newer(&self, than: u64) -> bool {
        match self.feed.get() {
            Some(feed) => feed.has_newer(than).await,
            None => false,
        }
    }
}

/// The feeds of all policies.
pub(crate) struct Feeds {
    reach: Reach,
    known: Mutex<Vec<Weak<Feed>>>,
}

impl Feeds {
    /// Feeds that ask addresses within `reach`.
    pub(crate) fn new(reach: Reach) -> Self {
        Self {
            reach,
            known: Mutex::new(Vec::new()),
        }
    }

    /// Gives every endpoint its feed. A feed ends with the last endpoint that has it.
    pub(crate) fn sync<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a Arc<Endpoint>>,
        prober: &Prober,
    ) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|feed| feed.strong_count() > 0);
        for endpoint in endpoints {
            let feed = || {
                let of = |fits: fn(&RemoteKeys, &RemoteKeys) -> bool| {
                    let mut known = known.iter().filter_map(Weak::upgrade);
                    known.find(|feed| fits(&feed.config, &endpoint.config))
                };
                if let Some(feed) = of(|one, other| one == other) {
                    return feed;
                }
                // The same keys, to be asked for at other times.
                let like = of(|one, other| one.url == other.url && one.roots == other.roots);
                let feed = Arc::new(Feed::new(
                    &endpoint.config,
                    self.reach.clone(),
                    like.as_deref(),
                ));
                prober.spawn(Feed::run(Arc::downgrade(&feed)));
                known.push(Arc::downgrade(&feed));
                feed
            };
            endpoint.feed.get_or_init(feed);
        }
    }
}
