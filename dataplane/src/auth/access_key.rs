//! Requests signed with a secret key (AK/SK), in four profiles.
//!
//! A profile reads a request into a [`Claim`]: who says to have signed it, the MAC, and over what. Everything is
//! taken from the request as it was received, never from the canonical path, and what could be read in two ways
//! is refused before any key is looked up. Checking a claim is the same for all of them.
//!
//! Where the digest of the body is under the signature, the body streams and is checked on its way
//! ([`Digests`]). Where the signature is over a digest that is not written anywhere, the body has to be read
//! first ([`Pending`]), but only for keys that there are: who has none must not fill our memory.

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use aws_lc_rs::{constant_time, digest as sha, hmac};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::AUTHORIZATION};

use super::{Asked, Credential, Decision, Granted, Outcome};
use crate::config::{self, AccessKeyEntry, Resolved, SignatureProfile, SignedBody};

mod aws4;
mod canonical;
mod cavage;
mod digest;
mod keys;
mod message_signatures;
mod replay;
mod sdk;
mod structured;

pub(crate) use digest::{Digester, Digests};
use keys::{Key, Keyring};
use replay::{Seen, Sight};

/// The longest header that a signature is read from.
const LONGEST_HEADER: usize = 8 * 1024;
/// The SHA-256 of nothing.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A [`config::AccessKey`], compiled.
pub(super) struct AccessKey {
    config: config::AccessKey,
    keys: Keyring,
    /// `None` if signatures are not remembered.
    seen: Option<Arc<Seen>>,
}

/// What can be read in no way, or in more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Malformed;

impl From<Malformed> for Outcome {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A request as a signature sees it, and how strictly it is looked at.
struct Signed<'a> {
    method: &'a Method,
    /// As received.
    path: &'a str,
    query: Option<&'a str>,
    headers: &'a HeaderMap,
    /// Host and port, as the client wrote them.
    authority: &'a str,
    https: bool,
    has_body: bool,
    /// Seconds of Unix time.
    now: i64,
    /// Seconds.
    skew: i64,
    body: SignedBody,
}

/// A signature, and what it is over.
struct Claim<'a> {
    key_id: Cow<'a, str>,
    /// AWS4: `Credential`, of which the signing key is made.
    scope: Option<Cow<'a, str>>,
    mac: [u8; 32],
    over: Over,
    /// What the body must be, besides what is in [`Over`].
    digests: Option<Digests>,
    credential: Credential,
}

/// What a MAC is over.
enum Over {
    /// This text.
    Text(Vec<u8>),
    /// `head` and the digest of a canonical request, whose last line stands for the body.
    Canonical {
        head: String,
        /// Without their last lines; one of them is the one that was signed.
        requests: Vec<Vec<u8>>,
        /// What the last line may be.
        payloads: Vec<Payload>,
        /// The last line may be the digest of the body, which has not been read.
        of_body: bool,
    },
}

/// The last line of a canonical request.
struct Payload {
    line: Cow<'static, str>,
    /// What the body must be if this is the line that was signed.
    digests: Option<Digests>,
}

/// What must be known of the body before a request is let in.
pub(crate) enum BodyCheck {
    /// That it has these digests; known when it has gone by.
    Digests(Digests),
    /// Its digest, without which the signature cannot be checked.
    Signature(Box<Pending>),
}

/// A signature over a body that was not read yet.
pub(crate) struct Pending {
    mac: [u8; 32],
    key: Arc<hmac::Key>,
    head: String,
    requests: Vec<Vec<u8>>,
    rest: Rest,
}

/// What is left to ask once the MAC is right.
struct Rest {
    expired: bool,
    seen: Option<Arc<Seen>>,
    now: i64,
    /// Whether the request goes on: one that `hale why` asks about is not taken.
    taken: bool,
}

impl AccessKey {
    pub(super) fn compile(config: &config::AccessKey, old: Option<&Self>) -> Self {
        let entries: &[AccessKeyEntry] = match &config.keys {
            Resolved::Known(keys) => &keys.0,
            Resolved::Unavailable(_) => &[],
        };
        let seen = config.replay_window.map(|window| {
            // No shorter than a signature is good for: the date may be off both ways.
            let horizon = window.max(config.clock_skew.saturating_mul(2)).as_secs();
            let horizon = i64::try_from(horizon).unwrap_or(i64::MAX).saturating_add(1);
            match old.and_then(|old| old.seen.as_ref()) {
                Some(seen) => {
                    seen.set_horizon(horizon);
                    Arc::clone(seen)
                }
                None => Arc::new(Seen::new(horizon)),
            }
        });
        Self {
            keys: Keyring::new(config.profile, entries),
            config: config.clone(),
            seen,
        }
    }

    pub(super) fn decide(&self, asked: &Asked<'_>) -> Decision {
        let signed = Signed {
            method: asked.method,
            path: asked.uri.path(),
            query: asked.uri.query(),
            headers: asked.headers,
            authority: asked.authority,
            https: asked.https,
            has_body: asked.has_body,
            now: unix(asked.now),
            skew: i64::try_from(self.config.clock_skew.as_secs()).unwrap_or(i64::MAX),
            body: self.config.signed_body,
        };
        self.judge(&signed, asked.worker.is_some())
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
            (Some(digests), _) => match rest.check(&claim.mac) {
                Ok(()) => granted(key, claim.credential, digests, signed.has_body),
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
                Decision::IfBody(
                    grant(key, claim.credential),
                    BodyCheck::Signature(Box::new(pending)),
                )
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

    pub(super) fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static(match self.config.profile {
            SignatureProfile::Aws4 => "AWS4-HMAC-SHA256",
            SignatureProfile::Sdk => "SDK-HMAC-SHA256",
            SignatureProfile::HttpSignature | SignatureProfile::Cavage => "Signature",
        })
    }
}

fn grant(key: &Key, credential: Credential) -> Granted {
    Granted {
        consumer: Some(Arc::clone(&key.consumer)),
        headers: Vec::new(),
        credential,
    }
}

fn granted(
    key: &Key,
    credential: Credential,
    digests: Option<Digests>,
    has_body: bool,
) -> Decision {
    let granted = grant(key, credential);
    match digests {
        Some(digests) if has_body => Decision::IfBody(granted, BodyCheck::Digests(digests)),
        Some(digests) if !digests.clone().are_of_nothing() => {
            Decision::Denied(Outcome::BodyMismatch)
        }
        _ => Decision::Granted(granted),
    }
}

/// Whether a MAC is over one of these requests with this last line.
fn is_signed(
    key: &hmac::Key,
    head: &str,
    requests: &[Vec<u8>],
    line: &[u8],
    mac: &[u8; 32],
) -> bool {
    requests.iter().any(|request| {
        let mut hash = sha::Context::new(&sha::SHA256);
        hash.update(request);
        hash.update(line);
        let mut text = hmac::Context::with_key(key);
        text.update(head.as_bytes());
        text.update(&to_hex(hash.finish().as_ref()));
        is_mac(text.sign(), mac)
    })
}

fn is_mac(made: hmac::Tag, given: &[u8; 32]) -> bool {
    constant_time::verify_slices_are_equal(made.as_ref(), given).is_ok()
}

impl Pending {
    /// The body was read.
    pub(crate) fn settle(&self, sha256: &[u8]) -> Result<(), Outcome> {
        let line = to_hex(sha256);
        if !is_signed(&self.key, &self.head, &self.requests, &line, &self.mac) {
            return Err(Outcome::WrongCredential);
        }
        self.rest.check(&self.mac)
    }
}

impl Rest {
    fn check(&self, mac: &[u8; 32]) -> Result<(), Outcome> {
        if self.expired {
            return Err(Outcome::Expired);
        }
        let Some(seen) = &self.seen else {
            return Ok(());
        };
        match seen.see(mac, self.now, self.taken) {
            Sight::First => Ok(()),
            Sight::Again => Err(Outcome::Replayed),
            Sight::Full => Err(Outcome::Overloaded),
        }
    }
}

impl Payload {
    fn words(line: &'static str) -> Self {
        Self {
            line: Cow::Borrowed(line),
            digests: None,
        }
    }

    /// That of no body.
    fn nothing() -> Self {
        Self::words(NOTHING)
    }
}

/// What a header says of the body: its SHA-256, or that it is not signed.
fn payload(signed: &Signed<'_>, given: &str) -> Result<Payload, Outcome> {
    if let Ok(digest) = hexadecimal(given) {
        return Ok(Payload {
            line: Cow::Owned(given.to_owned()),
            digests: Some(Digests::sha256(digest)),
        });
    }
    let free = !signed.has_body || signed.body == SignedBody::Optional;
    match given {
        "UNSIGNED-PAYLOAD" if free => Ok(Payload::words("UNSIGNED-PAYLOAD")),
        "UNSIGNED-PAYLOAD" => Err(Outcome::BodyMismatch),
        // Bodies whose chunks are signed one by one: nothing here would check those.
        given if given.starts_with("STREAMING-") => Err(Outcome::BodyMismatch),
        _ => Err(Outcome::Malformed),
    }
}

impl<'a> Signed<'a> {
    /// What `Authorization` says under this scheme.
    fn authorization(&self, scheme: &str) -> Result<Option<&'a str>, Malformed> {
        let values = self.headers.get_all(AUTHORIZATION);
        let ours = values.iter().find_map(|value| {
            let (head, rest) = value.as_bytes().split_at_checked(scheme.len())?;
            let ends = rest.first().is_none_or(|byte| *byte == b' ');
            (ends && head.eq_ignore_ascii_case(scheme.as_bytes())).then_some(value)
        });
        let Some(value) = ours else {
            return Ok(None);
        };
        if values.iter().nth(1).is_some() || value.len() > LONGEST_HEADER {
            return Err(Malformed);
        }
        let text = value.to_str().map_err(|_| Malformed)?;
        let rest = text.get(scheme.len()..).ok_or(Malformed)?;
        Ok(Some(rest.trim_matches(' ')))
    }

    /// The only field of this name.
    fn one(&self, name: &str) -> Result<Option<&'a str>, Malformed> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        match (values.next(), value.to_str()) {
            (None, Ok(text)) => Ok(Some(text)),
            _ => Err(Malformed),
        }
    }

    /// The fields of this name, trimmed and joined as RFC 9421 §2.1 says, up to a length.
    fn list(&self, name: &HeaderName, most: usize) -> Result<Vec<u8>, Malformed> {
        let value = self.field(name.as_str())?;
        if value.len() > most {
            return Err(Malformed);
        }
        Ok(value)
    }

    /// The same; `host` is what the client wrote, in whatever version.
    fn field(&self, name: &str) -> Result<Vec<u8>, Malformed> {
        if name == "host" {
            return Ok(self.authority.as_bytes().to_vec());
        }
        if !self.headers.contains_key(name) {
            return Err(Malformed);
        }
        let values = self.headers.get_all(name).iter();
        let values: Vec<&[u8]> = values.map(|value| value.as_bytes().trim_ascii()).collect();
        Ok(values.join(&b", "[..]))
    }

    /// Whether a date is near enough.
    fn in_time(&self, at: i64) -> Result<(), Outcome> {
        if self.now.abs_diff(at) > self.skew.unsigned_abs() {
            return Err(Outcome::ClockSkew);
        }
        Ok(())
    }
}

/// `Name=value, Name=value`: these names, each once, in any order.
fn named_parameters<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<[&'a str; N], Malformed> {
    let mut found = [""; N];
    for part in text.split(',') {
        let (name, value) = part.trim_matches(' ').split_once('=').ok_or(Malformed)?;
        let at = names.iter().position(|wanted| *wanted == name);
        let slot = at.and_then(|at| found.get_mut(at)).ok_or(Malformed)?;
        if value.is_empty() || !std::mem::replace(slot, value).is_empty() {
            return Err(Malformed);
        }
    }
    match found.iter().all(|value| !value.is_empty()) {
        true => Ok(found),
        false => Err(Malformed),
    }
}

/// 64 digits, lower case.
fn hexadecimal(text: &str) -> Result<[u8; 32], Malformed> {
    let mut out = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != out.len() || !rest.is_empty() {
        return Err(Malformed);
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(Malformed),
    };
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Ok(out)
}

fn to_hex(bytes: &[u8]) -> Vec<u8> {
    let digits = b"0123456789abcdef";
    let pairs = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    pairs.map(|nibble| digits[usize::from(nibble)]).collect()
}

/// `Tue, 20 Apr 2021 02:07:55 GMT` in seconds of Unix time.
fn http_time(text: &str) -> Result<i64, Malformed> {
    httpdate::parse_http_date(text)
        .map(unix)
        .map_err(|_| Malformed)
}

fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
