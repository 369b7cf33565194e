//! Signed tokens (RFC 7519, RFC 8725).
//!
//! A token is read in the order of trust: its outside (`token`), its signature by a key that the policy has
//! (`keys`, `remote`), and only then its claims (`claims`). The policy says which algorithms there are, each key
//! which of them it is for, and the token only chooses among what is left.
//!
//! What was read of a good token is remembered under its SHA-256, until it expires and for no longer than five
//! minutes; other keys or other rules make what is remembered worthless.

mod algorithm;
mod claims;
mod explain;
mod json;
mod keys;
mod remote;
mod token;

pub use keys::KeySet;
pub(crate) use remote::{Endpoint, Feeds};

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use http::{HeaderName, HeaderValue};
use moka::sync::Cache;

use super::{
    Asked, Decision, Granted, Outcome,
    names::{self, Use},
};
use crate::config::{self, JwtKeys, Resolved};
use claims::Said;
use keys::Signature;
use token::Token;

/// Tokens remembered for each policy, where none has more than 1 KiB to remember.
const REMEMBERED: u64 = 10_000;
/// For how long.
const REMEMBERED_FOR: Duration = Duration::from_secs(300);

/// A [`config::Jwt`], compiled.
pub(super) struct Jwt {
    config: config::Jwt,
    keys: Keys,
    /// `config.claims_to_headers`, with names that can be sent.
    headers: Vec<(String, HeaderName)>,
    remembered: Arc<Cache<[u8; 32], Arc<Remembered>>>,
}

enum Keys {
    Inline(KeySet),
    Remote(Arc<Endpoint>),
    Unavailable(String),
}

/// What a good token says, and which keys it was good by.
struct Remembered {
    said: Said,
    generation: u64,
}

/// What came of a token by the keys of the moment.
enum Judged {
    Decided(Decision),
    /// Other keys may decide otherwise.
    ByOtherKeys {
        generation: u64,
        outcome: Outcome,
    },
}

impl Jwt {
    pub(super) fn compile(config: &config::Jwt, old: Option<&Self>) -> Self {
        if let Some(old) = old.filter(|old| old.config == *config) {
            return Self {
                config: config.clone(),
                keys: old.keys.share(),
                headers: old.headers.clone(),
                remembered: Arc::clone(&old.remembered),
            };
        }
        let headers = config.claims_to_headers.iter().filter_map(|claim| {
            let name = HeaderName::try_from(&claim.header).ok()?;
            let barred = names::is_barred(name.as_str(), Use::Claim);
            (!barred).then(|| (claim.claim.clone(), name))
        });
        Self {
            keys: Keys::compile(&config.keys),
            headers: headers.collect(),
            remembered: Arc::new(cache()),
            config: config.clone(),
        }
    }

    pub(super) async fn decide(&self, asked: &Asked<'_>) -> Decision {
        let token = match token::bearer(asked.headers) {
            None => return Decision::Absent,
            Some(Err(outcome)) => return Decision::Denied(outcome),
            Some(Ok(token)) => token,
        };
        let now = unix(asked.now);
        match (self.judge(token, now), &self.keys) {
            (Judged::Decided(decision), _) => decision,
            (
                Judged::ByOtherKeys {
                    generation,
                    outcome,
                },
                Keys::Remote(endpoint),
            ) => {
                if !endpoint.has_newer(generation).await {
                    return self.without_newer(endpoint, outcome);
                }
                match self.judge(token, now) {
                    Judged::Decided(decision) => decision,
                    Judged::ByOtherKeys { outcome, .. } => self.without_newer(endpoint, outcome),
                }
            }
            (Judged::ByOtherKeys { outcome, .. }, _) => Decision::Denied(outcome),
        }
    }

    /// The decision on a token that no key of the moment made.
    fn without_newer(&self, endpoint: &Endpoint, outcome: Outcome) -> Decision {
        match endpoint.unavailable() {
            Some(why) => Decision::Unavailable(Outcome::Unavailable, why),
            None => Decision::Denied(outcome),
        }
    }

    /// Decides by the keys that are there.
    fn judge(&self, token: &[u8], now: u64) -> Judged {
        let fetched;
        let (keys, generation) = match &self.keys {
            Keys::Inline(keys) => (keys, 0),
            Keys::Unavailable(why) => {
                let decision = Decision::Unavailable(Outcome::Unavailable, why.clone());
                return Judged::Decided(decision);
            }
            Keys::Remote(endpoint) => match endpoint.keys() {
                Some((keys, generation)) => {
                    fetched = keys;
                    (&fetched, generation)
                }
                None => {
                    return Judged::ByOtherKeys {
                        generation: 0,
                        outcome: Outcome::Unavailable,
                    };
                }
            },
        };
        let digest = sha256(token);
        if let Some(remembered) = digest.and_then(|digest| self.remembered.get(&digest))
            && remembered.generation == generation
        {
            return Judged::Decided(remembered.said.decide(now));
        }
        match self.read(keys, token, now) {
            Ok(said) => {
                let decision = said.decide(now);
                let remembered = Arc::new(Remembered { said, generation });
                if let Some(digest) = digest {
                    self.remembered.insert(digest, remembered);
                }
                Judged::Decided(decision)
            }
            Err(Failed::Outcome(outcome)) => Judged::Decided(Decision::Denied(outcome)),
            Err(Failed::OtherKeys(outcome)) => Judged::ByOtherKeys {
                generation,
                outcome,
            },
        }
    }

    fn read(&self, keys: &KeySet, token: &[u8], now: u64) -> Result<Said, Failed> {
        let token = Token::parse(token).map_err(Failed::Outcome)?;
        if !self.config.algorithms.contains(&token.algorithm) {
            return Err(Failed::Outcome(Outcome::NotForUs));
        }
        let kid = token.kid.as_deref();
        match keys.verify(kid, token.algorithm, token.message, &token.signature) {
            Signature::Good => {}
            Signature::Bad { named: true } => {
                return Err(Failed::Outcome(Outcome::WrongCredential));
            }
            Signature::Bad { named: false } => {
                return Err(Failed::OtherKeys(Outcome::WrongCredential));
            }
            Signature::NoKey => return Err(Failed::OtherKeys(Outcome::UnknownConsumer)),
            Signature::OtherAlgorithm => return Err(Failed::Outcome(Outcome::NotForUs)),
        }
        let claims = token.claims().map_err(Failed::Outcome)?;
        claims::read(&self.config, &self.headers, &claims, now).map_err(Failed::Outcome)
    }

    pub(super) fn unavailable(&self) -> Option<Cow<'_, str>> {
        match &self.keys {
            Keys::Inline(_) => None,
            Keys::Remote(endpoint) => endpoint.unavailable().map(Cow::Owned),
            Keys::Unavailable(why) => Some(Cow::Borrowed(why)),
        }
    }

    /// The same for everybody: what was wrong with a token is not for whoever sent it.
    pub(super) fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static("Bearer realm=\"Hale\"")
    }

    /// What whoever lacks a claim or a scope is told (RFC 6750 §3.1).
    pub(super) fn forbidden() -> HeaderValue {
        HeaderValue::from_static("Bearer realm=\"Hale\", error=\"insufficient_scope\"")
    }

    /// Headers that it may set upstream.
    pub(super) fn sets(&self) -> Vec<HeaderName> {
        self.headers.iter().map(|(_, name)| name.clone()).collect()
    }

    /// Where its keys come from, if they are fetched.
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        match &self.keys {
            Keys::Remote(endpoint) => Some(endpoint),
            Keys::Inline(_) | Keys::Unavailable(_) => None,
        }
    }
}

enum Failed {
    Outcome(Outcome),
    OtherKeys(Outcome),
}

impl Keys {
    fn compile(keys: &JwtKeys) -> Self {
        match keys {
            JwtKeys::Inline(Resolved::Known(keys)) => Self::Inline(keys.clone()),
            JwtKeys::Inline(Resolved::Unavailable(why)) => Self::Unavailable(why.clone()),
            JwtKeys::Remote(remote) => match &remote.roots {
                Some(Resolved::Unavailable(why)) => Self::Unavailable(why.clone()),
                _ => Self::Remote(Arc::new(Endpoint::new(remote.clone()))),
            },
        }
    }

    fn share(&self) -> Self {
        match self {
            Self::Inline(keys) => Self::Inline(keys.clone()),
            Self::Remote(endpoint) => Self::Remote(Arc::clone(endpoint)),
            Self::Unavailable(why) => Self::Unavailable(why.clone()),
        }
    }
}

impl Said {
    fn decide(&self, now: u64) -> Decision {
        if now >= self.until {
            return Decision::Denied(Outcome::Expired);
        }
        match &self.verdict {
            Ok(passed) => Decision::Granted(Granted {
                consumer: passed.consumer.clone(),
                headers: passed.headers.clone(),
            }),
            Err(outcome) => Decision::Denied(*outcome),
        }
    }
}

fn cache() -> Cache<[u8; 32], Arc<Remembered>> {
    Cache::builder()
        .max_capacity(REMEMBERED)
        .weigher(|_, remembered: &Arc<Remembered>| {
            let headers = match &remembered.said.verdict {
                Ok(passed) => passed.headers.iter().map(|(_, value)| value.len()).sum(),
                Err(_) => 0,
            };
            1 + u32::try_from(headers / 1024).unwrap_or(u32::MAX - 1)
        })
        .time_to_live(REMEMBERED_FOR)
        .build()
}

fn sha256(token: &[u8]) -> Option<[u8; 32]> {
    digest::digest(&digest::SHA256, token)
        .as_ref()
        .try_into()
        .ok()
}

fn unix(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
