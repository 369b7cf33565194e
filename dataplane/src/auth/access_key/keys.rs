//! Access keys, ready to check signatures with.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use aws_lc_rs::{
    hmac::{HMAC_SHA256, Key as Mac, sign},
    rand,
};
use moka::{policy::EvictionPolicy, sync::Cache};

use super::Claim;
use crate::config::{AccessKeyEntry, SignatureProfile};

/// Signing keys of AWS4 that are remembered: one for each key, day, region and service that is in use.
const MOST_DERIVED: u64 = 4_096;

/// The keys of a method.
pub(super) struct Keyring {
    keys: HashMap<Box<str>, Key>,
    /// In place of keys that there are not, so that they take as long.
    nobody: Arc<Mac>,
    /// By what `Credential` says. Only what a good signature was made with comes in here.
    derived: Cache<Box<str>, Arc<Mac>>,
}

/// One access key.
pub(super) struct Key {
    root: Arc<Mac>,
    pub(super) consumer: Arc<str>,
    /// Seconds of Unix time.
    not_after: Option<i64>,
}

/// What a signature is checked with.
pub(super) struct Verifier<'k> {
    /// `None` if nobody has the key id.
    pub(super) key: Option<&'k Key>,
    pub(super) mac: Arc<Mac>,
    /// It was derived before.
    cached: bool,
}

impl Key {
    pub(super) fn has_expired(&self, now: i64) -> bool {
        self.not_after.is_some_and(|end| now >= end)
    }
}

impl Keyring {
    pub(super) fn new(profile: SignatureProfile, entries: &[AccessKeyEntry]) -> Self {
        let root = |secret: &[u8]| match profile {
            SignatureProfile::Aws4 => Arc::new(Mac::new(HMAC_SHA256, &[b"AWS4", secret].concat())),
            _ => Arc::new(Mac::new(HMAC_SHA256, secret)),
        };
        let keys = entries.iter().map(|entry| {
            let key = Key {
                root: root(entry.secret.expose()),
                consumer: Arc::clone(&entry.consumer),
                not_after: entry.not_after.map(jiff::Timestamp::as_second),
            };
            (Box::from(entry.id.as_str()), key)
        });
        // What is signed with it is refused all the same, so it does no harm were it guessed.
        let mut nobody = [0; 32];
        let _ = rand::fill(&mut nobody);
        Self {
            keys: keys.collect(),
            nobody: root(&nobody),
            derived: Cache::builder()
                .max_capacity(MOST_DERIVED)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
        }
    }

    /// What the claim is to be checked with.
    pub(super) fn verifier(&self, claim: &Claim<'_>) -> Verifier<'_> {
        let key = self.keys.get(&*claim.key_id);
        let root = key.map_or(&self.nobody, |key| &key.root);
        let Some(scope) = claim.scope.as_deref() else {
            let mac = Arc::clone(root);
            return Verifier {
                key,
                mac,
                cached: false,
            };
        };
        match self.derived.get(scope) {
            Some(mac) if key.is_some() => Verifier {
                key,
                mac,
                cached: true,
            },
            _ => Verifier {
                key,
                mac: Arc::new(derive(root, scope, &claim.key_id)),
                cached: false,
            },
        }
    }

    /// The signature was good.
    pub(super) fn keep(&self, claim: &Claim<'_>, verifier: &Verifier<'_>) {
        if let Some(scope) = &claim.scope
            && !verifier.cached
        {
            self.derived
                .insert(Box::from(&**scope), Arc::clone(&verifier.mac));
        }
    }

    /// The signature was not good: that takes as long with a key that is remembered as with one that there is not.
    pub(super) fn even_out(&self, claim: &Claim<'_>, verifier: &Verifier<'_>) {
        if let Some(scope) = &claim.scope
            && verifier.cached
        {
            black_box(derive(&self.nobody, scope, &claim.key_id));
        }
    }
}

/// The signing key of a day, region and service.
fn derive(root: &Mac, scope: &str, key_id: &str) -> Mac {
    let rest = scope.get(key_id.len() + 1..).unwrap_or_default();
    let next = |key: &Mac, part: &str| Mac::new(HMAC_SHA256, sign(key, part.as_bytes()).as_ref());
    let (date, rest) = rest.split_once('/').unwrap_or((rest, ""));
    rest.split('/')
        .fold(next(root, date), |key, part| next(&key, part))
}
