//! Passwords that were right a moment ago.
//!
//! What is kept is a keyed digest of user, password and the hash that it was compared with. The key is made when the
//! process starts and never leaves it, so that neither the memory of the cache nor the time to look something up tells
//! of passwords. Another hash is another digest: what a rotated password was is forgotten with it.

use std::{sync::LazyLock, time::Duration};

use aws_lc_rs::{hmac, rand::SystemRandom};
use moka::{policy::EvictionPolicy, sync::Cache};

use crate::auth::password::User;

const MOST: u64 = 4096;
const LIFETIME: Duration = Duration::from_secs(300);

/// `None` if the system has no randomness: then nothing is remembered.
static KEY: LazyLock<Option<hmac::Key>> =
    LazyLock::new(|| hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok());

/// Those of one policy.
pub(super) struct Successes(Cache<Mark, ()>);

/// Stands for a user, a password and a hash.
pub(super) type Mark = [u8; 32];

impl Default for Successes {
    fn default() -> Self {
        let cache = Cache::builder()
            .max_capacity(MOST)
            .time_to_live(LIFETIME)
            .eviction_policy(EvictionPolicy::lru());
        Self(cache.build())
    }
}

impl Successes {
    pub(super) fn mark(&self, user: &User, password: &[u8]) -> Option<Mark> {
        let mut context = hmac::Context::with_key(KEY.as_ref()?);
        // Both begin with what has a fixed length, so that no two triples are joined to the same bytes.
        context.update(&user.hash.identity);
        context.update(&user.name.len().to_le_bytes());
        context.update(user.name.as_bytes());
        context.update(password);
        context.sign().as_ref().try_into().ok()
    }

    pub(super) fn has(&self, mark: Option<&Mark>) -> bool {
        mark.is_some_and(|mark| self.0.get(mark).is_some())
    }

    pub(super) fn add(&self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.0.insert(mark, ());
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.0.run_pending_tasks();
        self.0.entry_count()
    }
}
