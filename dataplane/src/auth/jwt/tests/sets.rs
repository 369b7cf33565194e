//! Key sets that are usable, and that are not.

use super::*;

fn set(keys: &[Value]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({ "keys": keys })).unwrap()
}

fn key(kid: &str) -> Value {
    let keys: Value = serde_json::from_slice(SYMMETRIC).unwrap();
    let keys = keys["keys"].as_array().unwrap();
    keys.iter().find(|key| key["kid"] == kid).unwrap().clone()
}

fn with(kid: &str, name: &str, value: impl Into<Value>) -> Value {
    let mut key = key(kid);
    key[name] = value.into();
    key
}

fn without(kid: &str, name: &str) -> Value {
    let mut key = key(kid);
    key.as_object_mut().unwrap().remove(name);
    key
}

#[test]
fn keys_that_cannot_be_used_are_left_out() {
    let good = key("p256");
    for (other, why) in [
        (key("small"), "2048"),
        (key("enc"), "signatures"),
        (key("p521"), "curve"),
        (key("oct"), "Secret"),
        (with("p256", "alg", "ES384"), "alg"),
        (with("p256", "alg", "RS256"), "alg"),
        (with("rsa", "alg", "RSA-OAEP"), "algorithm"),
        (with("rsa", "alg", "HS256"), "alg"),
        (with("rsa", "alg", "none"), "algorithm"),
        (
            with("rsa", "key_ops", serde_json::json!(["sign"])),
            "verifying",
        ),
        (with("rsa", "key_ops", "verify"), "verifying"),
        (with("rsa", "kty", "DSA"), "kind"),
        (with("rsa", "kty", 1), "string"),
        (with("rsa", "kid", 1), "string"),
        (with("rsa", "n", "A+/="), "base64url"),
        (with("rsa", "e", "AQ"), "exponent"),
        (with("rsa", "e", "Ag"), "exponent"),
        (with("rsa", "e", "AQAAAAE"), "exponent"),
        (with("p256", "x", "AAAA"), "long"),
        (with("p256", "y", key("p256")["x"].clone()), "curve"),
        (with("p256", "crv", "secp256k1"), "curve"),
        (with("ed", "crv", "X25519"), "kind"),
        (without("rsa", "n"), "part"),
        (without("rsa", "kty"), "kty"),
        (Value::Null, "kty"),
    ] {
        let error = KeySet::parse(&set(std::slice::from_ref(&other)), false).unwrap_err();
        assert!(error.contains(why), "{other}: {error}");
        let both = KeySet::parse(&set(&[other, good.clone()]), false).unwrap();
        assert_eq!(both.len(), 1);
    }
}

#[test]
fn symmetric_keys_must_be_allowed_and_long() {
    let b64 = |bytes: usize| "A".repeat((bytes * 8).div_ceil(6));
    for (bytes, may) in [(31, false), (32, true), (48, true), (64, true)] {
        let key = with("oct", "k", b64(bytes));
        let parsed = KeySet::parse(&set(std::slice::from_ref(&key)), true);
        assert_eq!(parsed.is_ok(), may, "{bytes}");
        assert!(KeySet::parse(&set(&[key]), false).is_err());
    }
    // As long as the digest (RFC 7518 §3.2).
    let mut short = with("oct", "k", b64(32));
    short["alg"] = "HS512".into();
    assert!(KeySet::parse(&set(&[short]), true).is_err());
}

#[test]
fn sets_have_bounds() {
    for bad in [
        &b""[..],
        b"{}",
        b"[]",
        b"{\"keys\":{}}",
        b"{\"keys\":[]}",
        b"{\"keys\":[],\"keys\":[]}",
        b"<html>",
    ] {
        assert!(KeySet::parse(bad, true).is_err());
    }
    let many = |count| set(&vec![key("p256"); count]);
    assert_eq!(KeySet::parse(&many(64), false).unwrap().len(), 64);
    assert!(KeySet::parse(&many(65), false).is_err());
    let mut large = many(1);
    large.resize(keys::SET_BYTES, b' ');
    assert!(KeySet::parse(&large, false).is_ok());
    large.push(b' ');
    assert!(KeySet::parse(&large, false).is_err());
}

#[test]
fn sets_compare_by_content_and_are_never_shown() {
    let parse = |json: &[u8]| KeySet::parse(json, true).unwrap();
    let all = parse(SYMMETRIC);
    assert_eq!(all, parse(SYMMETRIC));
    assert_ne!(all, parse(KEYS));
    for changed in [
        with("rsa", "kid", "other"),
        without("rsa", "kid"),
        with("rsa", "alg", "RS256"),
        key("rsa-2"),
    ] {
        assert_ne!(parse(&set(&[key("rsa")])), parse(&set(&[changed])));
    }
    let unread = with("rsa", "x5c", serde_json::json!(["MIIB"]));
    assert_eq!(parse(&set(&[key("rsa")])), parse(&set(&[unread])));
    assert_eq!(format!("{all:?}"), "KeySet(6 keys)");
    assert_eq!(serde_json::to_string(&all).unwrap(), "\"6 keys\"");
    let one = parse(&set(&[key("rsa")]));
    assert_eq!(serde_json::to_string(&one).unwrap(), "\"1 key\"");
}
