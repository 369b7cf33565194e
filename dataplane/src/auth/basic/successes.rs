//! Passwords that were right a moment ago.
//!
//! What is kept is a keyed digest of user, password and the hash that it was compared with. The key is made when the
//! process starts and never leaves it, so that neither the memory of the cache nor the time to look something up tells
//! of passwords. Another hash is another digest: what a rotated password was is forgotten with it.
//!
//! Each namespace has a cache of its own, whichever of its policies was asked: the tenants of a cluster evict nothing
//! of each other, and many policies with one Secret need no more memory than one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use moka::{policy::EvictionPolicy, sync::Cache};

use crate::auth::password::User;

/// Passwords of one namespace.
const MOST: u64 = 8192;
const LIFETIME: Duration = Duration::from_secs(300);

/// Those of all namespaces. Goes from table to table.
pub(crate) struct Memory {
    /// `None` if the system has no randomness: then nothing is remembered.
    key: Option<hmac::Key>,
    namespaces: Mutex<BTreeMap<String, Arc<Successes>>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            namespaces: Mutex::default(),
        }
    }
}

impl Memory {
    /// Those of one namespace.
    pub(super) fn of(&self, namespace: &str) -> Arc<Successes> {
        let mut all = (self.namespaces.lock()).unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(namespace.to_owned());
        Arc::clone(known.or_insert_with(|| Arc::new(Successes::new(self.key.clone()))))
    }

    /// Forgets those of namespaces without a policy.
    pub(crate) fn sweep(&self) {
        let mut all = (self.namespaces.lock()).unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, successes| Arc::strong_count(successes) > 1);
    }
}

/// Those of one namespace.
pub(super) struct Successes {
    key: Option<hmac::Key>,
    cache: Cache<Mark, ()>,
}

/// Stands for a user, a password and a hash.
pub(super) type Mark = [u8; 32];

impl Successes {
    fn new(key: Option<hmac::Key>) -> Self {
        let cache = Cache::builder()
            .max_capacity(MOST)
            .time_to_live(LIFETIME)
            .eviction_policy(EvictionPolicy::lru());
        Self {
            key,
            cache: cache.build(),
        }
    }

    pub(super) fn mark(&self, user: &User, password: &[u8]) -> Option<Mark> {
        let mut context = hmac::Context::with_key(self.key.as_ref()?);
        // Both begin with what has a fixed length, so that no two triples are joined to the same bytes.
        context.update(&user.hash.identity);
        context.update(&user.name.len().to_le_bytes());
        context.update(user.name.as_bytes());
        context.update(password);
        context.sign().as_ref().try_into().ok()
    }

    pub(super) fn has(&self, mark: Option<&Mark>) -> bool {
        mark.is_some_and(|mark| self.cache.get(mark).is_some())
    }

    pub(super) fn add(&self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.cache.insert(mark, ());
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_of_a_namespace_share_a_cache_and_namespaces_do_not() {
        let memory = Memory::default();
        let (shop, bank) = (memory.of("shop"), memory.of("bank"));
        shop.add(Some([1; 32]));
        assert!(memory.of("shop").has(Some(&[1; 32])));
        assert!(!bank.has(Some(&[1; 32])));
        for number in 0..4 * MOST {
            let mut mark = [0; 32];
            mark[..8].copy_from_slice(&number.to_le_bytes());
            bank.add(Some(mark));
        }
        assert!(bank.count() <= MOST);
        assert!(shop.has(Some(&[1; 32])));
    }

    #[test]
    fn a_namespace_without_a_policy_is_forgotten() {
        let memory = Memory::default();
        let shop = memory.of("shop");
        shop.add(Some([1; 32]));
        memory.sweep();
        assert!(memory.of("shop").has(Some(&[1; 32])));
        drop(shop);
        memory.sweep();
        assert!(!memory.of("shop").has(Some(&[1; 32])));
    }
}
