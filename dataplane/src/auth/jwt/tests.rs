//! Tokens that another implementation made: the good ones, and those of whoever wants in without one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod explained;
mod fetched;
mod sets;

use serde_json::Value;

use super::*;
use crate::config::{ClaimToHeader, JwtAlgorithm, RequiredClaim};

/// 2026, when none of the good tokens is expired.
const NOW: u64 = 1_795_000_000;
const KEYS: &[u8] = include_bytes!("../../../tests/data/jwt/jwks.json");
const SYMMETRIC: &[u8] = include_bytes!("../../../tests/data/jwt/symmetric.json");
const ASYMMETRIC: [JwtAlgorithm; 9] = [
    JwtAlgorithm::Rs256,
    JwtAlgorithm::Rs384,
    JwtAlgorithm::Rs512,
    JwtAlgorithm::Ps256,
    JwtAlgorithm::Ps384,
    JwtAlgorithm::Ps512,
    JwtAlgorithm::Es256,
    JwtAlgorithm::Es384,
    JwtAlgorithm::EdDsa,
];
const HMAC: [JwtAlgorithm; 3] = [
    JwtAlgorithm::Hs256,
    JwtAlgorithm::Hs384,
    JwtAlgorithm::Hs512,
];

fn tokens() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/jwt/tokens.json")).unwrap()
}

fn rules(keys: JwtKeys) -> config::Jwt {
    config::Jwt {
        issuer: "https://issuer.test".into(),
        audiences: vec!["shop".into()],
        keys,
        algorithms: ASYMMETRIC.to_vec(),
        required_claims: Vec::new(),
        required_scopes: Vec::new(),
        claims_to_headers: Vec::new(),
        consumer_claim: "sub".into(),
        clock_skew: Duration::from_secs(60),
    }
}

fn inline() -> config::Jwt {
    let keys = KeySet::parse(KEYS, false).unwrap();
    rules(JwtKeys::Inline(Resolved::Known(keys)))
}

fn symmetric() -> config::Jwt {
    let keys = KeySet::parse(SYMMETRIC, true).unwrap();
    let mut rules = rules(JwtKeys::Inline(Resolved::Known(keys)));
    rules.algorithms.extend(HMAC);
    rules
}

fn told(judged: Judged) -> Result<Granted, Outcome> {
    match judged {
        Judged::Decided(Decision::Granted(granted)) => Ok(granted),
        Judged::Decided(Decision::Denied(outcome) | Decision::Unavailable(outcome, _))
        | Judged::ByOtherKeys { outcome, .. } => Err(outcome),
        Judged::Decided(_) => panic!("a token has no other decision"),
    }
}

fn ask(jwt: &Jwt, token: &str) -> Result<Granted, Outcome> {
    told(jwt.judge(token.as_bytes(), NOW))
}

#[test]
fn hostile_tokens_are_refused() {
    let tokens = tokens();
    let hostile = tokens["hostile"].as_array().unwrap();
    assert!(hostile.len() >= 200);
    let (strict, all) = (
        Jwt::compile(&inline(), None),
        Jwt::compile(&symmetric(), None),
    );
    for case in hostile {
        let token = case["token"].as_str().unwrap();
        let outcome = ask(&strict, token).err().map(Outcome::as_str);
        assert_eq!(outcome, case["outcome"].as_str(), "{}", case["name"]);
        assert!(ask(&all, token).is_err(), "{}", case["name"]);
        // What was refused is not remembered as something else.
        assert_eq!(
            ask(&strict, token).err().map(Outcome::as_str),
            outcome,
            "{}",
            case["name"]
        );
    }
}

#[test]
fn good_tokens_are_accepted() {
    let tokens = tokens();
    let (strict, all) = (
        Jwt::compile(&inline(), None),
        Jwt::compile(&symmetric(), None),
    );
    for case in tokens["valid"].as_array().unwrap() {
        for jwt in [&strict, &all, &strict] {
            let granted = ask(jwt, case["token"].as_str().unwrap());
            let granted =
                granted.unwrap_or_else(|outcome| panic!("{}: {}", case["name"], outcome.as_str()));
            assert_eq!(granted.consumer.as_deref(), case["consumer"].as_str());
        }
    }
    for case in tokens["symmetric"].as_array().unwrap() {
        let token = case["token"].as_str().unwrap();
        assert!(ask(&all, token).is_ok(), "{}", case["name"]);
        assert_eq!(ask(&strict, token).err(), Some(Outcome::NotForUs));
    }
}

#[test]
fn large_tokens_are_not_read() {
    let jwt = Jwt::compile(&inline(), None);
    let part = "e30".repeat(350_000);
    for token in [format!("{part}.{part}.{part}"), ".".repeat(1 << 20), part] {
        assert_eq!(ask(&jwt, &token).err(), Some(Outcome::Malformed));
    }
}

#[test]
fn every_byte_of_a_token_counts() {
    let tokens = tokens();
    let token = tokens["valid"][7]["token"].as_str().unwrap();
    let jwt = Jwt::compile(&inline(), None);
    assert!(ask(&jwt, token).is_ok());
    for at in 0..token.len() {
        for other in [b'A', b'B', b'.', b'=', b' ', 0, 0xff] {
            let mut changed = token.as_bytes().to_vec();
            if std::mem::replace(&mut changed[at], other) != other {
                assert!(told(jwt.judge(&changed, NOW)).is_err(), "{at} {other}");
            }
        }
        assert!(ask(&jwt, &token[..at]).is_err(), "{at}");
    }
}

#[test]
fn one_bearer_credential_is_wanted() {
    for (values, found) in [
        (&[][..], None),
        (&["Basic YTpi"], None),
        (&["Basic YTpi", "Digest x"], None),
        (&["Bearerx"], None),
        (&["Bear"], None),
        (&["bEARER  x.y.z"], Some(Ok("x.y.z"))),
        (&["Bearer"], Some(Ok(""))),
        (&["Bearer x", "Bearer x"], Some(Err(Outcome::Malformed))),
        (&["Bearer x", "Basic YTpi"], Some(Err(Outcome::Malformed))),
        (&["Basic YTpi", "Bearer x"], Some(Err(Outcome::Malformed))),
        (
            &["Basic YTpi", "Basic YTpi", "Bearer x"],
            Some(Err(Outcome::Malformed)),
        ),
    ] {
        let mut headers = http::HeaderMap::new();
        for value in values {
            headers.append(http::header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        let wanted = found.map(|found| found.map(str::as_bytes));
        assert_eq!(token::bearer(&headers), wanted, "{values:?}");
    }
}

#[test]
fn claims_and_scopes_are_wanted() {
    let tokens = tokens();
    let token = tokens["claims"].as_str().unwrap();
    let may = |claims: &[(&str, &[&str])], scopes: &[&str]| {
        let mut rules = inline();
        let claim = |(claim, values): &(&str, &[&str])| RequiredClaim {
            claim: (*claim).into(),
            values: values.iter().map(|value| (*value).into()).collect(),
        };
        rules.required_claims = claims.iter().map(claim).collect();
        rules.required_scopes = scopes.iter().map(|scope| (*scope).into()).collect();
        match ask(&Jwt::compile(&rules, None), token) {
            Ok(_) => true,
            Err(Outcome::Forbidden) => false,
            Err(outcome) => panic!("{}", outcome.as_str()),
        }
    };
    for (claim, values, wanted) in [
        ("email", &["a@shop.test"][..], true),
        ("email", &["b@shop.test", "a@shop.test"], true),
        ("email", &["A@shop.test"], false),
        ("email", &[], true),
        ("none", &[], false),
        ("nothing", &[], false),
        ("nothing", &["null"], false),
        ("email_verified", &["true"], true),
        ("email_verified", &["false"], false),
        ("level", &["3"], true),
        ("roles", &["b"], true),
        ("roles", &["a,b"], false),
        ("realm_access.roles", &["seller"], true),
        ("realm_access.roles", &["admin"], false),
        ("realm_access", &["roles"], false),
        ("https://shop.test/role", &["boss"], true),
        ("address.city", &["Brno"], true),
        ("address.city.x", &[], false),
        ("roles.0", &[], false),
    ] {
        assert_eq!(may(&[(claim, values)], &[]), wanted, "{claim} {values:?}");
    }
    assert!(!may(&[("email", &[]), ("none", &[])], &[]));
    for (scopes, wanted) in [
        (&["read"][..], true),
        (&["read", "write", "admin"], true),
        (&["read", "delete"], false),
        (&["read write"], false),
        (&["Read"], false),
    ] {
        assert_eq!(may(&[], scopes), wanted, "{scopes:?}");
    }
}

#[test]
fn claims_go_upstream_as_they_are_or_not_at_all() {
    let tokens = tokens();
    let token = tokens["claims"].as_str().unwrap();
    let sent = |claim: &str| {
        let mut rules = inline();
        rules.claims_to_headers = vec![ClaimToHeader {
            claim: claim.into(),
            header: "x-claim".into(),
        }];
        let jwt = Jwt::compile(&rules, None);
        assert_eq!(jwt.sets(), ["x-claim"]);
        ask(&jwt, token).map(|granted| {
            let mut headers = granted.headers.into_iter();
            headers
                .next()
                .map(|(_, value)| value.to_str().unwrap().to_owned())
        })
    };
    for (claim, value) in [
        ("email", Some("a@shop.test")),
        ("email_verified", Some("true")),
        ("level", Some("3")),
        ("negative", Some("-7")),
        ("big", Some("18446744073709551615")),
        ("ratio", Some("1.5")),
        ("roles", Some("a,b")),
        ("realm_access.roles", Some("buyer,seller")),
        ("address", None),
        ("mixed", None),
        ("nothing", None),
        ("none", None),
    ] {
        let sent = sent(claim).unwrap_or_else(|outcome| panic!("{claim} {}", outcome.as_str()));
        assert_eq!(sent.as_deref(), value, "{claim}");
    }
    for claim in ["comma", "control", "spaces", "huge"] {
        assert_eq!(sent(claim).err(), Some(Outcome::Malformed), "{claim}");
    }
}

#[test]
fn what_is_remembered_expires_and_ends_with_its_rules() {
    let tokens = tokens();
    let token = tokens["valid"][7]["token"].as_str().unwrap().as_bytes();
    let jwt = Jwt::compile(&inline(), None);
    assert!(told(jwt.judge(token, NOW)).is_ok());
    // `exp` of the good tokens, and the skew.
    let end = 4_102_444_800 + 60;
    assert!(told(jwt.judge(token, end - 1)).is_ok());
    assert_eq!(told(jwt.judge(token, end)).err(), Some(Outcome::Expired));
    let same = Jwt::compile(&inline(), Some(&jwt));
    assert!(Arc::ptr_eq(&same.remembered, &jwt.remembered));
    let mut other = inline();
    other.audiences = vec!["bank".into()];
    let other = Jwt::compile(&other, Some(&jwt));
    assert_eq!(told(other.judge(token, NOW)).err(), Some(Outcome::NotForUs));
    let mut fewer = inline();
    fewer.keys = JwtKeys::Inline(Resolved::Unavailable("gone".into()));
    let fewer = Jwt::compile(&fewer, Some(&jwt));
    assert_eq!(
        told(fewer.judge(token, NOW)).err(),
        Some(Outcome::Unavailable)
    );
    assert_eq!(fewer.unavailable().as_deref(), Some("gone"));
}

/// Figures for the manual: `cargo test -p hale-dataplane --release --lib jwt::tests::costs -- --nocapture`.
#[test]
fn costs() {
    let tokens = tokens();
    for case in tokens["valid"].as_array().unwrap().iter().take(10) {
        let token = case["token"].as_str().unwrap().as_bytes();
        let jwt = Jwt::compile(&inline(), None);
        let each = |times: u32, run: &dyn Fn()| {
            let begin = std::time::Instant::now();
            (0..times).for_each(|_| run());
            begin.elapsed().as_secs_f64() * 1e6 / f64::from(times)
        };
        let uncached = each(50, &|| {
            assert!(told(jwt.judge(token, NOW)).is_ok());
            jwt.remembered.invalidate_all();
        });
        assert!(told(jwt.judge(token, NOW)).is_ok());
        let cached = each(2000, &|| assert!(told(jwt.judge(token, NOW)).is_ok()));
        println!("{}: {uncached:.1} µs, cached {cached:.2} µs", case["name"]);
    }
}
