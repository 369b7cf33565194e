//! What `hale why` says of tokens that are refused.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use serde_json::json;

use super::*;

/// What is said of a token, and its outcome.
fn explain(jwt: &Jwt, token: &str) -> (Option<String>, Option<Outcome>) {
    let mut headers = HeaderMap::new();
    let Ok(value) = format!("Bearer {token}").parse() else {
        return (None, None);
    };
    headers.insert(header::AUTHORIZATION, value);
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let given = token::bearer(&headers).unwrap().unwrap();
    let outcome = told(jwt.judge(given, NOW)).err();
    (jwt.explain(&headers, now), outcome)
}

/// A token of our own, with the symmetric key.
fn signed(claims: &Value) -> String {
    let set: Value = serde_json::from_slice(SYMMETRIC).unwrap();
    let key = URL_SAFE_NO_PAD.decode(set["keys"][0]["k"].as_str().unwrap());
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({"alg": "HS256", "kid": "oct"}));
    let text = format!("{head}.{}", part(claims.clone()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap());
    let mac = hmac::sign(&key, text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac))
}

#[test]
fn every_hostile_token_is_explained_without_its_signature_and_no_good_one() {
    let tokens = tokens();
    let jwt = Jwt::compile(&inline(), None);
    for case in tokens["hostile"].as_array().unwrap() {
        let token = case["token"].as_str().unwrap();
        let (told, outcome) = explain(&jwt, token);
        let specific = matches!(outcome, Some(Outcome::NotForUs | Outcome::Expired));
        assert!(told.is_some() || !specific, "{}", case["name"]);
        let told = told.unwrap_or_default();
        assert!(
            told.len() < 1_000 && !told.chars().any(char::is_control),
            "{told:?}"
        );
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!told.contains(part), "{told}");
        }
    }
    for case in tokens["valid"].as_array().unwrap() {
        let (told, outcome) = explain(&jwt, case["token"].as_str().unwrap());
        assert_eq!((told, outcome), (None, None), "{}", case["name"]);
    }
}

/// A policy that wants something of every claim, and claims that have it.
fn strict() -> (Jwt, Value) {
    let mut rules = symmetric();
    rules.required_scopes = vec!["read".into(), "write".into()];
    rules.required_claims = vec![RequiredClaim {
        claim: "groups".into(),
        values: vec!["staff".into()],
    }];
    let good = json!({
        "iss": "https://issuer.test", "aud": "shop", "sub": "ada", "exp": NOW + 60,
        "groups": ["staff"], "scope": "read write",
    });
    (Jwt::compile(&rules, None), good)
}

/// Checks what is said of the token where a claim has this value; null takes it out.
fn check(claim: &str, value: Value, outcome: Outcome, wanted: &str) {
    let (jwt, mut claims) = strict();
    let object = claims.as_object_mut().unwrap();
    object.remove(claim);
    if !value.is_null() {
        object.insert(claim.into(), value);
    }
    let wanted = (Some(wanted.to_owned()), Some(outcome));
    assert_eq!(explain(&jwt, &signed(&claims)), wanted);
}

#[test]
fn the_claim_that_cannot_be_is_named_with_what_is_wanted() {
    let (jwt, good) = strict();
    assert_eq!(explain(&jwt, &signed(&good)), (None, None));
    for (claim, value, outcome, wanted) in [
        (
            "iss",
            json!("https://evil.test\n"),
            Outcome::NotForUs,
            r#"the claim iss is "https://evil.test\n", and the policy wants "https://issuer.test""#,
        ),
        (
            "iss",
            Value::Null,
            Outcome::NotForUs,
            r#"the token has no claim iss, and the policy wants "https://issuer.test""#,
        ),
        (
            "aud",
            json!(["a", "b"]),
            Outcome::NotForUs,
            r#"the claim aud is "a", "b", and the policy wants "shop""#,
        ),
        (
            "exp",
            Value::Null,
            Outcome::Malformed,
            "the token has no claim exp: it would be good for ever",
        ),
        (
            "exp",
            json!("soon"),
            Outcome::Malformed,
            r#"the claim exp is "soon", not a date in seconds since 1970"#,
        ),
        (
            "exp",
            json!(NOW - 60),
            Outcome::Expired,
            "the claim exp is 2026-11-18T11:05:40Z, which with a clockSkew of 60 s is before 2026-11-18T11:06:40Z, this machine's time",
        ),
        (
            "nbf",
            json!(NOW + 61),
            Outcome::NotYetValid,
            "the claim nbf is 2026-11-18T11:07:41Z, which with a clockSkew of 60 s is after 2026-11-18T11:06:40Z, this machine's time",
        ),
        (
            "sub",
            json!(7),
            Outcome::Malformed,
            "the claim sub, which names the consumer, is no text: 7",
        ),
        (
            "sub",
            json!(""),
            Outcome::Malformed,
            "the claim sub, which names the consumer, is empty: \"\"",
        ),
    ] {
        check(claim, value, outcome, wanted);
    }
}

#[test]
fn the_claim_or_scope_that_is_missing_is_named() {
    for (claim, value, outcome, wanted) in [
        (
            "scope",
            json!("read"),
            Outcome::Forbidden,
            r#"the token is good, but lacks the scope "write": scope is "read""#,
        ),
        (
            "scope",
            Value::Null,
            Outcome::Forbidden,
            r#"the token is good, but lacks the scope "read", "write": it has neither scope nor scp"#,
        ),
        (
            "groups",
            json!(["guests"]),
            Outcome::Forbidden,
            r#"the token is good, but its claim groups is "guests", and the policy wants "staff""#,
        ),
        (
            "groups",
            Value::Null,
            Outcome::Forbidden,
            r#"the token is good, but has no claim groups, and the policy wants "staff""#,
        ),
    ] {
        check(claim, value, outcome, wanted);
    }
}

#[test]
fn the_outside_of_a_token_is_explained() {
    let jwt = Jwt::compile(&inline(), None);
    let told = |token: &str| explain(&jwt, token).0.unwrap();
    assert_eq!(told(""), "nothing follows the word Bearer");
    assert_eq!(
        told("a.b"),
        "a token has three parts with points between them, and this one has 2"
    );
    let oct = signed(&json!({}));
    assert!(
        told(&oct).starts_with(r#"the token's alg is "HS256", and the policy wants "RS256" or "#),
        "{}",
        told(&oct)
    );
}
