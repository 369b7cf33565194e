//! The algorithms by name, and what each does with a key.

use aws_lc_rs::{
    hmac,
    signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
        RsaParameters,
    },
};

use crate::config::JwtAlgorithm;

/// As a token or a key names it; `None` where Hale does not know it, `none` among them.
pub(super) fn named(name: &str) -> Option<JwtAlgorithm> {
    Some(match name {
        "RS256" => JwtAlgorithm::Rs256,
        "RS384" => JwtAlgorithm::Rs384,
        "RS512" => JwtAlgorithm::Rs512,
        "PS256" => JwtAlgorithm::Ps256,
        "PS384" => JwtAlgorithm::Ps384,
        "PS512" => JwtAlgorithm::Ps512,
        "ES256" => JwtAlgorithm::Es256,
        "ES384" => JwtAlgorithm::Es384,
        // The second name is that of RFC 9864.
        "EdDSA" | "Ed25519" => JwtAlgorithm::EdDsa,
        "HS256" => JwtAlgorithm::Hs256,
        "HS384" => JwtAlgorithm::Hs384,
        "HS512" => JwtAlgorithm::Hs512,
        _ => return None,
    })
}

/// As a token names it.
pub(super) const fn name(algorithm: JwtAlgorithm) -> &'static str {
    match algorithm {
        JwtAlgorithm::Rs256 => "RS256",
        JwtAlgorithm::Rs384 => "RS384",
        JwtAlgorithm::Rs512 => "RS512",
        JwtAlgorithm::Ps256 => "PS256",
        JwtAlgorithm::Ps384 => "PS384",
        JwtAlgorithm::Ps512 => "PS512",
        JwtAlgorithm::Es256 => "ES256",
        JwtAlgorithm::Es384 => "ES384",
        JwtAlgorithm::EdDsa => "EdDSA",
        JwtAlgorithm::Hs256 => "HS256",
        JwtAlgorithm::Hs384 => "HS384",
        JwtAlgorithm::Hs512 => "HS512",
    }
}

/// Those of an RSA key.
pub(super) const RSA: [(JwtAlgorithm, &RsaParameters); 6] = [
    (JwtAlgorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (JwtAlgorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (JwtAlgorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
    (JwtAlgorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
    (JwtAlgorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
    (JwtAlgorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
];

/// Those of a symmetric key, with the bytes that it must have (RFC 7518 §3.2).
pub(super) const HMAC: [(JwtAlgorithm, hmac::Algorithm, usize); 3] = [
    (JwtAlgorithm::Hs256, hmac::HMAC_SHA256, 32),
    (JwtAlgorithm::Hs384, hmac::HMAC_SHA384, 48),
    (JwtAlgorithm::Hs512, hmac::HMAC_SHA512, 64),
];
