//! Requests signed with a secret key (AK/SK), in four profiles.
//!
//! A profile reads a request into a [`Claim`]: who says to have signed it, the MAC, and over what. Everything is
//! taken from the request as it was received, never from the canonical path, and what could be read in two ways
//! is refused before any key is looked up. Checking a claim is the same for all of them.
//!
//! Where the digest of the body is under the signature, the body streams and is checked on its way
//! ([`Digests`]). Where the signature is over a digest that is not written anywhere, the body has to be read
//! first ([`Pending`]), but only for keys that there are: who has none must not fill our memory.

use std::sync::Arc;

use aws_lc_rs::hmac;
use http::HeaderValue;

use super::{Asked, Decision, Granted, Outcome, Places};
use crate::config::{self, AccessKeyEntry, Resolved, SignatureProfile};

mod aws4;
mod canonical;
mod cavage;
mod claim;
mod digest;
mod explain;
mod keys;
mod message_signatures;
mod replay;
mod sdk;
mod signed;
mod structured;

pub(crate) use claim::{BodyCheck, Pending};
use claim::{Claim, Over, Payload, Rest, is_mac, is_signed, payload};
pub(crate) use digest::{Digester, Digests};
use keys::{Key, Keyring};
pub(crate) use replay::Memory;
use replay::Seen;
use signed::{
    LONGEST_HEADER, Malformed, Signed, hexadecimal, http_time, named_parameters, to_hex, unix,
};

/// A [`config::AccessKey`], compiled.
pub(super) struct AccessKey {
    config: config::AccessKey,
    keys: Keyring,
    /// `None` if signatures are not remembered.
    seen: Option<Arc<Seen>>,
}

impl AccessKey {
    /// What was signed in a namespace and profile is remembered in one place, whatever becomes of the policy: an edit
    /// must not make a signature new again.
    pub(super) fn compile(config: &config::AccessKey, namespace: &str, memory: &Memory) -> Self {
        let entries: &[AccessKeyEntry] = match &config.keys {
            Resolved::Known(keys) => &keys.0,
            Resolved::Unavailable(_) => &[],
        };
        let seen = config.replay_window.map(|window| {
            // No shorter than a signature is good for: the date may be off both ways.
            let horizon = window.max(config.clock_skew.saturating_mul(2)).as_secs();
            let horizon = i64::try_from(horizon).unwrap_or(i64::MAX).saturating_add(1);
            memory.of(namespace, config.profile, horizon)
        });
        Self {
            keys: Keyring::new(config.profile, entries),
            config: config.clone(),
            seen,
        }
    }

    pub(super) fn decide(&self, asked: &Asked<'_>) -> Decision {
        self.judge(&self.signed(asked), asked.worker.is_some())
    }

    /// The request as signatures see it.
    fn signed<'a>(&self, asked: &Asked<'a>) -> Signed<'a> {
        Signed {
            method: asked.method,
            path: asked.uri.path(),
            forwarded: asked.path,
            query: asked.uri.query(),
            headers: asked.headers,
            authority: asked.authority,
            https: asked.https,
            has_body: asked.has_body,
            now: unix(asked.now),
            skew: i64::try_from(self.config.clock_skew.as_secs()).unwrap_or(i64::MAX),
            body: self.config.signed_body,
        }
    }

    fn judge(&self, signed: &Signed<'_>, taken: bool) -> Decision {
        let claims = match self.read(signed) {
            Ok(claims) if claims.is_empty() => return Decision::Absent,
            claims => claims,
        };
        if let Some(why) = self.unavailable() {
            return Decision::Unavailable(Outcome::Unavailable, why.to_owned());
        }
        let claims = match claims {
            Ok(claims) => claims,
            Err(outcome) => return Decision::Denied(outcome),
        };
        let mut first = None;
        for claim in claims {
            let decision = match claim {
                Ok(claim) => self.check(signed, claim, taken),
                Err(outcome) => Decision::Denied(outcome),
            };
            match decision {
                Decision::Denied(outcome) => first = first.or(Some(outcome)),
                decision => return decision,
            }
        }
        Decision::Denied(first.unwrap_or(Outcome::Malformed))
    }

    /// The signatures of a request.
    fn read<'a>(&self, signed: &Signed<'a>) -> Result<Vec<Result<Claim<'a>, Outcome>>, Outcome> {
        let one = match self.config.profile {
            SignatureProfile::Aws4 => aws4::read(signed)?,
            SignatureProfile::Sdk => sdk::read(signed)?,
            SignatureProfile::Cavage => cavage::read(signed)?,
            SignatureProfile::HttpSignature => return message_signatures::read(signed),
        };
        Ok(one.map(Ok).into_iter().collect())
    }

    fn check(&self, signed: &Signed<'_>, claim: Claim<'_>, taken: bool) -> Decision {
        let verifier = self.keys.verifier(&claim);
        let good = match &claim.over {
            Over::Text(text) => {
                is_mac(hmac::sign(&verifier.mac, text), &claim.mac).then(|| claim.digests.clone())
            }
            Over::Canonical {
                head,
                requests,
                payloads,
                ..
            } => payloads
                .iter()
                .find(|payload| {
                    let line = payload.line.as_bytes();
                    is_signed(&verifier.mac, head, requests, line, &claim.mac)
                })
                .map(|payload| payload.digests.clone()),
        };
        let Some(key) = verifier.key else {
            self.keys.even_out(&claim, &verifier);
            return Decision::Denied(Outcome::UnknownConsumer);
        };
        if good.is_some() {
            self.keys.keep(&claim, &verifier);
        } else {
            self.keys.even_out(&claim, &verifier);
        }
        let rest = Rest {
            expired: key.has_expired(signed.now),
            seen: self.seen.clone(),
            now: signed.now,
            taken,
        };
        match (good, claim.over) {
            // Taken before the body was looked at: it may stream, and a peer that acts on the head alone would act
            // twice if the second of two requests were refused at the end of its body. So who reads a request on its
            // way can spoil it by being faster, but nobody can have it executed twice.
            (Some(digests), _) => match rest.check(&claim.mac) {
                Ok(()) => granted(key, digests, signed.has_body),
                Err(Outcome::Overloaded) => {
                    let why = "too many signatures are remembered".to_owned();
                    Decision::Unavailable(Outcome::Overloaded, why)
                }
                Err(outcome) => Decision::Denied(outcome),
            },
            (
                None,
                Over::Canonical {
                    head,
                    requests,
                    of_body: true,
                    ..
                },
            ) => {
                let pending = Pending {
                    mac: claim.mac,
                    key: verifier.mac,
                    head,
                    requests,
                    rest,
                };
                Decision::IfBody(grant(key), BodyCheck::Signature(Box::new(pending)))
            }
            (None, _) => Decision::Denied(Outcome::WrongCredential),
        }
    }

    pub(super) fn unavailable(&self) -> Option<&str> {
        match &self.config.keys {
            Resolved::Known(_) => None,
            Resolved::Unavailable(why) => Some(why),
        }
    }

    pub(super) fn places(&self) -> Places {
        match self.config.profile {
            SignatureProfile::Aws4 => {
                Places::scheme(aws4::SCHEME).and(Places::parameter(aws4::SIGNATURE))
            }
            SignatureProfile::Sdk => Places::scheme(sdk::SCHEME),
            SignatureProfile::HttpSignature => Places::headers(&message_signatures::HEADERS),
            SignatureProfile::Cavage => Places::scheme(cavage::SCHEME),
        }
    }

    pub(super) fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static(match self.config.profile {
            SignatureProfile::Aws4 => "AWS4-HMAC-SHA256",
            SignatureProfile::Sdk => "SDK-HMAC-SHA256",
            SignatureProfile::HttpSignature | SignatureProfile::Cavage => "Signature",
        })
    }
}

fn grant(key: &Key) -> Granted {
    Granted {
        consumer: Some(Arc::clone(&key.consumer)),
        headers: Vec::new(),
    }
}

fn granted(key: &Key, digests: Option<Digests>, has_body: bool) -> Decision {
    let granted = grant(key);
    match digests {
        Some(digests) if has_body => Decision::IfBody(granted, BodyCheck::Digests(digests)),
        Some(digests) if !digests.clone().are_of_nothing() => {
            Decision::Denied(Outcome::BodyMismatch)
        }
        _ => Decision::Granted(granted),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
