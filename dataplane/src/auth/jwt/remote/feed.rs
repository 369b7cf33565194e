//! One endpoint: asked, and asked again.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use super::super::{KeySet, keys::SET_BYTES};
use crate::{
    addresses::Reach,
    config::{RemoteKeys, Resolved},
    outbound::{Client, Limits},
};

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(5),
    head: 16 * 1024,
    body: SET_BYTES,
};
/// Keys are asked for once more because of tokens at most so often, in milliseconds.
const AGAIN: u64 = 10_000;
/// For how long a request waits for keys.
const WAIT: Duration = Duration::from_secs(1);
/// Requests that wait.
const WAITING: usize = 256;
/// After the first failure; doubles with each…
const RETRY: Duration = Duration::from_secs(1);
/// …up to this.
const RETRY_MOST: Duration = Duration::from_secs(10);
/// Keys are asked for no more often, whatever a policy says.
const REFRESH_LEAST: Duration = Duration::from_secs(10);

/// Numbers of fetched key sets, so that no two have the same; 0 is none.
static GENERATION: AtomicU64 = AtomicU64::new(1);

pub(crate) struct Feed {
    pub(crate) config: RemoteKeys,
    client: Result<Client, String>,
    state: ArcSwap<State>,
    /// Ticks after each answer, or failure to get one.
    asked: watch::Sender<u64>,
    /// Whether it is asked now, or about to be.
    asking: AtomicBool,
    /// When a token had it asked, in milliseconds since `epoch`, plus 1; 0 is never.
    again: AtomicU64,
    epoch: Instant,
    wake: Arc<Notify>,
    waiting: Semaphore,
}

#[derive(Clone, Default)]
struct State {
    fetched: Option<Fetched>,
    /// What went wrong last, if the last time went wrong.
    problem: Option<String>,
}

#[derive(Clone)]
struct Fetched {
    keys: KeySet,
    generation: u64,
    at: Instant,
}

impl Feed {
    /// Not asked yet; begins with what `like` has.
    pub(crate) fn new(config: &RemoteKeys, reach: Reach, like: Option<&Self>) -> Self {
        let roots = match &config.roots {
            None => Ok(None),
            Some(Resolved::Known(roots)) => Ok(Some(roots)),
            Some(Resolved::Unavailable(why)) => Err(why.clone()),
        };
        let client = roots.and_then(|roots| {
            Client::new(&config.url, roots, reach).map_err(|error| error.to_string())
        });
        let state = like.map_or_else(Arc::default, |like| like.state.load_full());
        Self {
            config: config.clone(),
            client,
            state: ArcSwap::new(state),
            asked: watch::Sender::new(0),
            asking: AtomicBool::new(true),
            again: AtomicU64::new(0),
            epoch: Instant::now(),
            wake: Arc::new(Notify::new()),
            waiting: Semaphore::new(WAITING),
        }
    }

    /// Those of the moment, unless they are too old.
    pub(crate) fn keys(&self) -> Option<(KeySet, u64)> {
        let state = self.state.load();
        let fetched = state.fetched.as_ref()?;
        let fresh = fetched.at.elapsed() < self.config.stale.max(self.refresh());
        fresh.then(|| (fetched.keys.clone(), fetched.generation))
    }

    pub(crate) fn unavailable(&self) -> Option<String> {
        if self.keys().is_some() {
            return None;
        }
        let state = self.state.load();
        let why = state.problem.as_deref().unwrap_or("no answer yet");
        Some(match &self.client {
            Ok(client) => format!("no keys from {}: {why}", client.origin()),
            Err(_) => format!("no keys: {why}"),
        })
    }

    /// Waits while the endpoint is asked, and has it asked if tokens did not do that for a while: whether there are
    /// keys other than `than`, which is 0 for none.
    pub(crate) async fn has_newer(&self, than: u64) -> bool {
        let newer = || {
            self.keys()
                .is_some_and(|(_, generation)| generation != than)
        };
        let mut asked = self.asked.subscribe();
        if newer() {
            return true;
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return false;
        };
        let wait = async {
            // The answer that was under way when the token came may be older than its key.
            while !newer() {
                // Without keys it is asked all the time anyway, and a token has nothing to add.
                let asked_again = || than != 0 && self.ask_again();
                if !(self.asking.load(Ordering::Acquire) || asked_again()) {
                    return false;
                }
                if asked.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(WAIT, wait).await.unwrap_or(false)
    }

    /// Whether it is asked once more, for this token or for another at the same time.
    fn ask_again(&self) -> bool {
        let millis = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        let (now, last) = (millis + 1, self.again.load(Ordering::Relaxed));
        if last != 0 && now.saturating_sub(last) < AGAIN {
            return false;
        }
        // First, so that nobody finds it neither asked nor to be asked.
        self.asking.store(true, Ordering::Release);
        let order = Ordering::Relaxed;
        if self.again.compare_exchange(last, now, order, order).is_ok() {
            self.wake.notify_one();
        }
        true
    }

    #[cfg(test)]
    pub(crate) fn is_asking(&self) -> bool {
        self.asking.load(Ordering::Acquire)
    }

    fn refresh(&self) -> Duration {
        self.config.refresh.max(REFRESH_LEAST)
    }

    /// Asks until the feed is gone.
    pub(crate) async fn run(feed: Weak<Self>) {
        let mut failures = 0;
        while let Some(this) = feed.upgrade() {
            this.asking.store(true, Ordering::Release);
            let wait = match this.fetch().await {
                Ok(()) => {
                    failures = 0;
                    this.refresh()
                }
                Err(problem) => {
                    this.failed(problem);
                    let wait = RETRY.saturating_mul(1 << failures.min(6));
                    failures += 1;
                    wait.min(RETRY_MOST).min(this.refresh())
                }
            };
            this.asking.store(false, Ordering::Release);
            this.asked.send_modify(|count| *count += 1);
            let wake = Arc::clone(&this.wake);
            drop(this);
            tokio::select! {
                () = sleep(jittered(wait)) => {}
                () = wake.notified() => {}
            }
        }
    }

    /// Asks once.
    pub(crate) async fn fetch(&self) -> Result<(), String> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let mut question = Request::new(Bytes::new());
        *question.uri_mut() = client.origin().path.clone().into();
        let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
        question.headers_mut().insert(header::ACCEPT, accept);
        let agent = HeaderValue::from_static("hale");
        question.headers_mut().insert(header::USER_AGENT, agent);
        let answer = client.ask(question, &LIMITS).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("status {}", answer.status().as_u16()));
        }
        // Who gave the keys is not who the secrets are kept from: none is symmetric.
        // What is no set says nothing of the keys; a set without one says that there are none any more.
        let (keys, why_none) = KeySet::read(answer.body(), false)?;
        self.succeeded(keys, why_none);
        Ok(())
    }

    fn succeeded(&self, keys: KeySet, why_none: Option<String>) {
        let old = self.state.load();
        let known = old.fetched.as_ref().filter(|old| old.keys == keys);
        let (keys, generation) = match known {
            Some(known) => (known.keys.clone(), known.generation),
            None => {
                let url = self.shown();
                match &why_none {
                    None => tracing::info!(%url, %keys, "keys of tokens fetched"),
                    Some(problem) => {
                        tracing::warn!(%url, %problem, "no token is good: the key set says that there are no keys");
                    }
                }
                (keys, GENERATION.fetch_add(1, Ordering::Relaxed))
            }
        };
        let at = Instant::now();
        self.state.store(Arc::new(State {
            fetched: Some(Fetched {
                keys,
                generation,
                at,
            }),
            problem: None,
        }));
    }

    pub(crate) fn failed(&self, problem: String) {
        let old = self.state.load();
        if old.problem.as_ref() != Some(&problem) {
            let url = self.shown();
            match self.keys() {
                Some(_) => {
                    tracing::warn!(%url, %problem, "keys of tokens cannot be fetched; the old ones are used");
                }
                None => {
                    tracing::warn!(%url, %problem, "keys of tokens cannot be fetched; there are none");
                }
            }
        }
        self.state.store(Arc::new(State {
            fetched: old.fetched.clone(),
            problem: Some(problem),
        }));
    }

    fn shown(&self) -> String {
        match &self.client {
            Ok(client) => client.origin().to_string(),
            Err(_) => "a URL that cannot be used".into(),
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // Its task looks, and ends.
        self.wake.notify_one();
    }
}

/// Up to a tenth less, so that replicas do not ask at the same time.
fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 1000;
    wait.saturating_sub(wait.mul_f64(random as f64 / 10_000.0))
}
