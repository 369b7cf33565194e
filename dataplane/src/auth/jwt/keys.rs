//! Key sets (RFC 7517). Each key is parsed once for each algorithm that it may be used with, so that a token
//! can choose among what the key is for, and nothing else (RFC 8725 §3.1).

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest, hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
        RsaPublicKeyComponents, VerificationAlgorithm,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};

use super::{algorithm, json::Json};
use crate::config::JwtAlgorithm;

/// Bytes of a set.
pub(super) const SET_BYTES: usize = 256 * 1024;
/// Keys of a set, usable or not.
const SET_KEYS: usize = 64;
/// Keys that a token without `kid`, or keys without one, are tried with.
const TRIES: usize = 8;

/// Keys of a JSON Web Key Set (RFC 7517), each with the algorithms that it is for. Compares by content; prints how many there are.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Arc<[Key]>,
}

struct Key {
    kid: Option<String>,
    uses: Vec<(JwtAlgorithm, Verifier)>,
    digest: [u8; 32],
}

enum Verifier {
    Public(ParsedPublicKey),
    Shared(Box<hmac::Key>),
}

/// What came of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// A key made it.
    Good,
    /// No key made it; whether the key was named.
    Bad { named: bool },
    /// There is no such key.
    NoKey,
    /// The key is there, and not for this algorithm.
    OtherAlgorithm,
}

impl KeySet {
    /// Parses a set of at most 256 KiB and 64 keys. Taken are RSA keys of 2048 to 8192 bits, P-256, P-384 and Ed25519 keys and,
    /// where `allow_symmetric`, `oct` keys of at least 32 bytes. Keys of other kinds, and those that are not for
    /// signatures, are left out.
    ///
    /// # Errors
    ///
    /// If it is no key set, or has no key that can be used; in words without anything of the keys.
    pub fn parse(json: &[u8], allow_symmetric: bool) -> Result<Self, String> {
        match Self::read(json, allow_symmetric)? {
            (_, Some(why)) => Err(why),
            (keys, None) => Ok(keys),
        }
    }

    /// The same, but a set without a key that can be used is one; with why it has none.
    pub(super) fn read(
        json: &[u8],
        allow_symmetric: bool,
    ) -> Result<(Self, Option<String>), String> {
        if json.len() > SET_BYTES {
            return Err(format!("it is larger than {SET_BYTES} bytes"));
        }
        // The text of the error says where, and nothing of what is there.
        let set = Json::parse(json).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("it is not JSON, or a name comes twice (line {line}, column {column})")
        })?;
        let Some(Json::Array(found)) = set.get("keys") else {
            return Err("it has no array `keys`".into());
        };
        if found.len() > SET_KEYS {
            return Err(format!("it has more than {SET_KEYS} keys"));
        }
        let mut keys = Vec::new();
        let mut left_out = None;
        for key in found {
            match Key::parse(key, allow_symmetric) {
                Ok(key) => keys.push(key),
                Err(why) => {
                    left_out.get_or_insert(why);
                }
            }
        }
        let why_none = keys.is_empty().then(|| {
            let why = left_out.unwrap_or("it is empty");
            format!("it has no key that can be used: {why}")
        });
        Ok((Self { keys: keys.into() }, why_none))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Holds a signature against the keys that it may come from.
    pub(super) fn verify(
        &self,
        kid: Option<&str>,
        algorithm: JwtAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Signature {
        let is_named = |key: &&Key| kid.is_some() && key.kid.as_deref() == kid;
        let named = self.keys.iter().any(|key| is_named(&key));
        let may = |key: &&Key| match (named, kid) {
            (true, _) => is_named(key),
            (false, Some(_)) => key.kid.is_none(),
            (false, None) => true,
        };
        let mut found = Signature::NoKey;
        let mut tries = 0;
        for key in self.keys.iter().filter(may) {
            let Some(verifier) = key.verifier(algorithm) else {
                if found == Signature::NoKey && (named || kid.is_none()) {
                    found = Signature::OtherAlgorithm;
                }
                continue;
            };
            if verifier.verify(message, signature) {
                return Signature::Good;
            }
            found = Signature::Bad { named };
            tries += 1;
            if tries == TRIES {
                break;
            }
        }
        found
    }
}

impl Key {
    fn parse(key: &Json, allow_symmetric: bool) -> Result<Self, &'static str> {
        let text = |name: &str| match key.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err("a member is not a string"),
        };
        if text("use")?.is_some_and(|usage| usage != "sig") {
            return Err("a key is not for signatures");
        }
        match key.get("key_ops") {
            None => {}
            Some(Json::Array(ops)) if ops.iter().any(|op| op.as_str() == Some("verify")) => {}
            Some(_) => return Err("a key is not for verifying"),
        }
        let bytes = |name: &str| {
            let value = text(name)?.ok_or("a key lacks a part")?;
            URL_SAFE_NO_PAD
                .decode(value)
                .map_err(|_| "a part of a key is not base64url")
        };
        let (mut uses, material) = match text("kty")?.ok_or("a key has no kty")? {
            "RSA" => rsa(&bytes("n")?, &bytes("e")?)?,
            "EC" => ec(text("crv")?, &bytes("x")?, &bytes("y")?)?,
            "OKP" if text("crv")? == Some("Ed25519") => ed25519(&bytes("x")?)?,
            "oct" if allow_symmetric => oct(&bytes("k")?)?,
            "oct" => return Err("a symmetric key may be in a Secret alone"),
            _ => return Err("a key is of another kind"),
        };
        if let Some(name) = text("alg")? {
            let wanted = algorithm::named(name).ok_or("a key is for another algorithm")?;
            uses.retain(|(algorithm, _)| *algorithm == wanted);
        }
        if uses.is_empty() {
            return Err("a key does not fit its alg");
        }
        let kid = text("kid")?.map(str::to_owned);
        let mut context = digest::Context::new(&digest::SHA256);
        let name = kid.as_deref().unwrap_or_default();
        context.update(&[u8::from(kid.is_some())]);
        context.update(&name.len().to_le_bytes());
        context.update(name.as_bytes());
        context.update(&[u8::try_from(uses.len()).unwrap_or(u8::MAX)]);
        for (algorithm, _) in &uses {
            context.update(&[*algorithm as u8]);
        }
        context.update(&material);
        let digest = context.finish();
        let digest = <[u8; 32]>::try_from(digest.as_ref()).map_err(|_| "a key has no digest")?;
        Ok(Self { kid, uses, digest })
    }

    fn verifier(&self, wanted: JwtAlgorithm) -> Option<&Verifier> {
        let mut uses = self.uses.iter();
        let found = uses.find(|(algorithm, _)| *algorithm == wanted);
        found.map(|(_, verifier)| verifier)
    }
}

impl Verifier {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(message, signature).is_ok(),
            Self::Shared(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

/// A key for each of its algorithms, and what it is compared by.
type Parsed = Result<(Vec<(JwtAlgorithm, Verifier)>, Vec<u8>), &'static str>;

fn rsa(n: &[u8], e: &[u8]) -> Parsed {
    let trim = |bytes: &[u8]| -> Vec<u8> {
        let zeros = bytes.iter().take_while(|byte| **byte == 0);
        bytes.iter().copied().skip(zeros.count()).collect()
    };
    let (n, e) = (trim(n), trim(e));
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err("an RSA key has not 2048 to 8192 bits");
    }
    // 1 would let everything pass; large ones only cost time.
    let odd = e.last().is_some_and(|byte| byte % 2 == 1);
    if !odd || e == [1] || e.len() > 4 {
        return Err("an RSA key has an exponent that is not used");
    }
    let material = [&n[..], &e[..]].concat();
    let components = RsaPublicKeyComponents { n, e };
    let mut uses = Vec::new();
    for (algorithm, parameters) in algorithm::RSA {
        let key = components
            .to_parsed_public_key(parameters)
            .map_err(|_| "an RSA key cannot be used")?;
        uses.push((algorithm, Verifier::Public(key)));
    }
    Ok((uses, material))
}

fn ec(curve: Option<&str>, x: &[u8], y: &[u8]) -> Parsed {
    let (algorithm, kind, length): (_, &'static dyn VerificationAlgorithm, _) = match curve {
        Some("P-256") => (JwtAlgorithm::Es256, &ECDSA_P256_SHA256_FIXED, 32),
        Some("P-384") => (JwtAlgorithm::Es384, &ECDSA_P384_SHA384_FIXED, 48),
        _ => return Err("a key is of another curve"),
    };
    if x.len() != length || y.len() != length {
        return Err("a point is not as long as its curve wants");
    }
    let point = [&[4][..], x, y].concat();
    let key = ParsedPublicKey::new(kind, &point).map_err(|_| "a point is not on its curve")?;
    Ok((vec![(algorithm, Verifier::Public(key))], point))
}

fn ed25519(x: &[u8]) -> Parsed {
    if x.len() != 32 {
        return Err("a point is not as long as its curve wants");
    }
    let key = ParsedPublicKey::new(&ED25519, x).map_err(|_| "a point is not on its curve")?;
    Ok((
        vec![(JwtAlgorithm::EdDsa, Verifier::Public(key))],
        x.to_vec(),
    ))
}

fn oct(key: &[u8]) -> Parsed {
    let long_enough = algorithm::HMAC
        .into_iter()
        .filter(|(_, _, least)| key.len() >= *least);
    let uses: Vec<_> = long_enough
        .map(|(algorithm, kind, _)| {
            (
                algorithm,
                Verifier::Shared(Box::new(hmac::Key::new(kind, key))),
            )
        })
        .collect();
    if uses.is_empty() {
        return Err("a symmetric key has fewer than 32 bytes");
    }
    Ok((uses, key.to_vec()))
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        let digests = |set: &Self| set.keys.iter().map(|key| key.digest).collect::<Vec<_>>();
        Arc::ptr_eq(&self.keys, &other.keys) || digests(self) == digests(other)
    }
}

impl fmt::Display for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            1 => f.write_str("1 key"),
            keys => write!(f, "{keys} keys"),
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({self})")
    }
}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
