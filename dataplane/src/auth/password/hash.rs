//! One hashed password: read, and compared.
//!
//! What can be recovered in an afternoon is refused, and so is what would keep a processor for seconds: a cost is
//! chosen by whoever writes the Secret, and paid by everybody behind this proxy.

use aws_lc_rs::digest;
use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use subtle::ConstantTimeEq;

use super::{LONGEST_PASSWORD, apr1::apr1, crypt64};

/// bcrypt's base64. Some writers leave bits in the salt's last character that count for nothing.
const BCRYPT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Powers of two of bcrypt's rounds: 14 is about a second.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// Rounds of SHA-crypt: the most is about as slow as bcrypt 12.
const SHA_ROUNDS: std::ops::RangeInclusive<u32> = 1_000..=200_000;
/// The least cost of bcrypt that is a costly one: about half a second.
const BCRYPT_COSTLY: u32 = 13;
const SHA_ROUNDS_DEFAULT: u32 = 5_000;

/// A hash, and how it was made.
#[derive(PartialEq)]
pub(in crate::auth) struct Hash {
    scheme: Scheme,
    salt: Box<[u8]>,
    digest: Box<[u8]>,
    /// The SHA-256 of its text: tells it from any other.
    pub(in crate::auth) identity: [u8; 32],
}

/// How a hash is made, and with that what it costs. Sorted by it, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scheme {
    Sha1,
    Apr1,
    Sha256 { rounds: u32 },
    Sha512 { rounds: u32 },
    Bcrypt { cost: u32 },
}

/// What it costs to compare a hash: the same for two hashes if nobody can tell them apart by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::auth) struct Cost {
    scheme: Scheme,
    salt: usize,
}

/// Why a hash is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHash {
    #[error("has no hash")]
    Empty,
    #[error("the hash is made by DES crypt, which is broken; `htpasswd -B` makes a good one")]
    Des,
    #[error("the hash is made by MD5 crypt ($1$), which is broken; `htpasswd -B` makes a good one")]
    Md5,
    #[error("the hash is of a kind that is not supported; `htpasswd -B` makes a good one")]
    Kind,
    #[error(
        "the password is not hashed, or in a way that is not supported; `htpasswd -B` makes a good hash"
    )]
    Plain,
    #[error("the cost of its bcrypt hash is not in 4–14")]
    BcryptCost,
    #[error("the rounds of its SHA-crypt hash are not in 1,000–200,000")]
    Rounds,
    #[error("the hash is damaged")]
    Damaged,
}

impl Hash {
    pub(super) fn parse(text: &[u8]) -> Result<Self, BadHash> {
        let mut hash = Self::read(text)?;
        let identity = digest::digest(&digest::SHA256, text);
        hash.identity = identity.as_ref().try_into().map_err(|_| BadHash::Damaged)?;
        Ok(hash)
    }

    fn read(text: &[u8]) -> Result<Self, BadHash> {
        if let Some(digest) = text.strip_prefix(b"{SHA}") {
            let digest = STANDARD.decode(digest).map_err(|_| BadHash::Damaged)?;
            return match digest.len() {
                digest::SHA1_OUTPUT_LEN => Ok(Self::new(Scheme::Sha1, &[], &digest)),
                _ => Err(BadHash::Damaged),
            };
        }
        let Some(rest) = text.strip_prefix(b"$") else {
            return Err(match text {
                [] => BadHash::Empty,
                [b'{' | b'_' | b'*' | b'!', ..] => BadHash::Kind,
                _ if is_des(text) => BadHash::Des,
                _ => BadHash::Plain,
            });
        };
        let mut fields = rest.split(|byte| *byte == b'$');
        let kind = fields.next().unwrap_or_default();
        let fields: Vec<&[u8]> = fields.collect();
        match (kind, fields.as_slice()) {
            (b"2a" | b"2b" | b"2y", [cost, rest]) => bcrypt_from(cost, rest),
            (b"5", [.., salt, digest]) => {
                let rounds = rounds_from(&fields)?;
                let digest = crypt64::decode(digest, &crypt64::SHA256).ok_or(BadHash::Damaged)?;
                Self::salted(Scheme::Sha256 { rounds }, salt, 16, &digest)
            }
            (b"6", [.., salt, digest]) => {
                let rounds = rounds_from(&fields)?;
                let digest = crypt64::decode(digest, &crypt64::SHA512).ok_or(BadHash::Damaged)?;
                Self::salted(Scheme::Sha512 { rounds }, salt, 16, &digest)
            }
            (b"apr1", [salt, digest]) => {
                let digest = crypt64::decode(digest, &crypt64::MD5).ok_or(BadHash::Damaged)?;
                Self::salted(Scheme::Apr1, salt, 8, &digest)
            }
            (b"2a" | b"2b" | b"2y" | b"5" | b"6" | b"apr1", _) => Err(BadHash::Damaged),
            (b"1", _) => Err(BadHash::Md5),
            _ => Err(BadHash::Kind),
        }
    }

    fn new(scheme: Scheme, salt: &[u8], digest: &[u8]) -> Self {
        Self {
            scheme,
            salt: salt.into(),
            digest: digest.into(),
            identity: [0; 32],
        }
    }

    fn salted(scheme: Scheme, salt: &[u8], most: usize, digest: &[u8]) -> Result<Self, BadHash> {
        let good = (1..=most).contains(&salt.len()) && salt.iter().all(u8::is_ascii_graphic);
        match good {
            true => Ok(Self::new(scheme, salt, digest)),
            false => Err(BadHash::Damaged),
        }
    }

    /// A hash of this cost that stands for nobody.
    pub(super) fn unmatched(cost: Cost) -> Self {
        let length = match cost.scheme {
            Scheme::Sha1 => 20,
            Scheme::Apr1 => 16,
            Scheme::Sha256 { .. } => 32,
            Scheme::Sha512 { .. } => 64,
            Scheme::Bcrypt { .. } => 23,
        };
        Self::new(cost.scheme, &vec![b'.'; cost.salt], &vec![0; length])
    }

    pub(in crate::auth) fn cost(&self) -> Cost {
        Cost {
            scheme: self.scheme,
            salt: self.salt.len(),
        }
    }

    /// Whether comparing takes so little that it need not wait for a thread of its own.
    pub(in crate::auth) fn is_quick(&self) -> bool {
        self.scheme == Scheme::Sha1
    }

    /// Whether comparing takes half a second or more.
    pub(in crate::auth) fn is_costly(&self) -> bool {
        matches!(self.scheme, Scheme::Bcrypt { cost } if cost >= BCRYPT_COSTLY)
    }

    /// Whether this is the password. Takes as long for another of the same length.
    pub(in crate::auth) fn verify(&self, password: &[u8]) -> bool {
        if password.len() > LONGEST_PASSWORD {
            return false;
        }
        let salt = &*self.salt;
        match self.scheme {
            Scheme::Sha1 => {
                let made = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                self.is(made.as_ref())
            }
            Scheme::Apr1 => self.is(&apr1(password, salt)),
            Scheme::Sha256 { rounds } => sha_crypt::Params::new(rounds)
                .is_ok_and(|params| self.is(&sha_crypt::sha256_crypt(password, salt, params))),
            Scheme::Sha512 { rounds } => sha_crypt::Params::new(rounds)
                .is_ok_and(|params| self.is(&sha_crypt::sha512_crypt(password, salt, params))),
            Scheme::Bcrypt { cost } => {
                let Ok(salt) = <[u8; 16]>::try_from(salt) else {
                    return false;
                };
                // The end of the string is hashed with it; of more than 72 bytes the rest is not looked at.
                let mut key = [0; 72];
                let length = password.len().min(key.len());
                for (byte, from) in key.iter_mut().zip(password) {
                    *byte = *from;
                }
                let used = key.get(..(length + 1).min(72)).unwrap_or(&key);
                let made = bcrypt::bcrypt(cost, salt, used);
                self.is(made.get(..23).unwrap_or_default())
            }
        }
    }

    fn is(&self, made: &[u8]) -> bool {
        self.digest.ct_eq(made).into()
    }
}

/// The two fields behind `$2y$`: a cost of two digits; 22 characters of salt and 31 of digest.
fn bcrypt_from(cost: &[u8], rest: &[u8]) -> Result<Hash, BadHash> {
    let cost = match cost {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
            u32::from(tens - b'0') * 10 + u32::from(ones - b'0')
        }
        _ => return Err(BadHash::Damaged),
    };
    let (salt, digest) = rest.split_at_checked(22).ok_or(BadHash::Damaged)?;
    let salt = BCRYPT.decode(salt).map_err(|_| BadHash::Damaged)?;
    let digest = BCRYPT.decode(digest).map_err(|_| BadHash::Damaged)?;
    if (salt.len(), digest.len()) != (16, 23) {
        return Err(BadHash::Damaged);
    }
    match BCRYPT_COSTS.contains(&cost) {
        true => Ok(Hash::new(Scheme::Bcrypt { cost }, &salt, &digest)),
        false => Err(BadHash::BcryptCost),
    }
}

/// `rounds=N`, which may stand before salt and digest.
fn rounds_from(fields: &[&[u8]]) -> Result<u32, BadHash> {
    let rounds = match fields {
        [_, _] => return Ok(SHA_ROUNDS_DEFAULT),
        [rounds, _, _] => rounds.strip_prefix(b"rounds=").ok_or(BadHash::Damaged)?,
        _ => return Err(BadHash::Damaged),
    };
    let digits = std::str::from_utf8(rounds).map_err(|_| BadHash::Damaged)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadHash::Damaged);
    }
    let rounds = digits.parse().map_err(|_| BadHash::Rounds)?;
    match SHA_ROUNDS.contains(&rounds) {
        true => Ok(rounds),
        false => Err(BadHash::Rounds),
    }
}

/// 13 characters of crypt's alphabet. A password of that length is told the same, and refused all the same.
fn is_des(text: &[u8]) -> bool {
    text.len() == 13
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
}
