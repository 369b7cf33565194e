//! A signature that was read from a request, and what it is over.

use std::{borrow::Cow, sync::Arc};

use aws_lc_rs::{constant_time, digest as sha, hmac};

use super::{
    Digests, Signed, hexadecimal,
    replay::{Seen, Sight},
    to_hex,
};
use crate::{auth::Outcome, config::SignedBody};

/// The SHA-256 of nothing.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A signature, and what it is over.
pub(super) struct Claim<'a> {
    pub(super) key_id: Cow<'a, str>,
    /// AWS4: `Credential`, of which the signing key is made.
    pub(super) scope: Option<Cow<'a, str>>,
    pub(super) mac: [u8; 32],
    pub(super) over: Over,
    /// What the body must be, besides what is in [`Over`].
    pub(super) digests: Option<Digests>,
}

/// What a MAC is over.
pub(super) enum Over {
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
pub(super) struct Payload {
    pub(super) line: Cow<'static, str>,
    /// What the body must be if this is the line that was signed.
    pub(super) digests: Option<Digests>,
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
    pub(super) mac: [u8; 32],
    pub(super) key: Arc<hmac::Key>,
    pub(super) head: String,
    pub(super) requests: Vec<Vec<u8>>,
    pub(super) rest: Rest,
}

/// What is left to ask once the MAC is right.
pub(super) struct Rest {
    pub(super) expired: bool,
    pub(super) seen: Option<Arc<Seen>>,
    pub(super) now: i64,
    /// Whether the request goes on: one that `hale why` asks about is not taken.
    pub(super) taken: bool,
}

/// Whether a MAC is over one of these requests with this last line.
pub(super) fn is_signed(
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

pub(super) fn is_mac(made: hmac::Tag, given: &[u8; 32]) -> bool {
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
    pub(super) fn check(&self, mac: &[u8; 32]) -> Result<(), Outcome> {
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
    pub(super) fn words(line: &'static str) -> Self {
        Self {
            line: Cow::Borrowed(line),
            digests: None,
        }
    }

    /// That of no body.
    pub(super) fn nothing() -> Self {
        Self::words(NOTHING)
    }
}

/// What a header says of the body: its SHA-256, or that it is not signed.
pub(super) fn payload(signed: &Signed<'_>, given: &str) -> Result<Payload, Outcome> {
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
