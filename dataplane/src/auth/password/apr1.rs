//! `$apr1$`: what `htpasswd -m` makes, a thousand rounds of MD5.

use md5::{Digest, Md5};

/// The digest of a password.
pub(super) fn apr1(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let inner: [u8; 16] = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize()
        .into();
    let mut first = Md5::new()
        .chain_update(password)
        .chain_update(b"$apr1$")
        .chain_update(salt);
    for part in password.chunks(inner.len()) {
        first.update(inner.get(..part.len()).unwrap_or_default());
    }
    let mut length = password.len();
    while length > 0 {
        if length & 1 == 1 {
            first.update([0]);
        } else {
            first.update(password.get(..1).unwrap_or_default());
        }
        length >>= 1;
    }
    let mut digest: [u8; 16] = first.finalize().into();
    for round in 0..1000 {
        let mut hasher = Md5::new();
        let odd = round % 2 == 1;
        hasher.update(if odd { password } else { &digest });
        if round % 3 != 0 {
            hasher.update(salt);
        }
        if round % 7 != 0 {
            hasher.update(password);
        }
        hasher.update(if odd { &digest } else { password });
        digest = hasher.finalize().into();
    }
    digest
}
