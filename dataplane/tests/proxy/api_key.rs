//! API keys in headers, queries and cookies.

use std::sync::Arc;

use aws_lc_rs::digest;
use hale_dataplane::config::{ApiKey, ApiKeyEntry, ApiKeys, AuthMethod, CredentialPlace, Resolved};

use crate::{
    basic_auth::{FILE, basic, protected, rules},
    support::Hale,
    wire::{Recorder, get, status, talk, values},
};

fn keys(keys: &[(&str, &str)]) -> Resolved<ApiKeys> {
    let entry = |(consumer, key): &(&str, &str)| ApiKeyEntry {
        consumer: Arc::from(*consumer),
        digest: digest::digest(&digest::SHA256, key.as_bytes())
            .as_ref()
            .try_into()
            .unwrap(),
    };
    Resolved::Known(ApiKeys(keys.iter().map(entry).collect()))
}

fn method(location: CredentialPlace) -> AuthMethod {
    AuthMethod::ApiKey(ApiKey {
        location,
        keys: keys(&[("till", "k1+/="), ("shelf", "k2"), ("t\u{e4}xi", "k3")]),
    })
}

fn in_header(name: &str) -> CredentialPlace {
    CredentialPlace::Header(name.into())
}

async fn serve(recorder: &Recorder, location: CredentialPlace) -> Hale {
    protected(recorder, rules(vec![method(location)])).serve()
}

/// Sends it, wants it let in, and gives what the origin saw.
async fn let_in(hale: &Hale, recorder: &Recorder, request: String, who: &str) -> String {
    let response = talk(hale, &request).await;
    assert_eq!(status(&response), "200", "{request}");
    let seen = recorder.seen().pop().unwrap();
    assert_eq!(values(&seen, "x-hale-consumer"), [who]);
    assert_eq!(values(&seen, "x-hale-auth"), ["apiKey"]);
    seen
}

async fn refused(hale: &Hale, recorder: &Recorder, request: String) {
    let before = recorder.seen().len();
    let response = talk(hale, &request).await;
    assert_eq!(status(&response), "401", "{request}");
    assert_eq!(values(&response, "x-hale-reason"), ["AuthRequired"]);
    assert_eq!(values(&response, "www-authenticate"), ["ApiKey"]);
    assert_eq!(recorder.seen().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_header() {
    let recorder = Recorder::new().await;
    let hale = serve(&recorder, in_header("x-api-key")).await;
    for (key, who) in [("k1+/=", "till"), ("k2", "shelf"), ("k3", "t\u{e4}xi")] {
        let request = get("/", &format!("X-API-Key: {key}\r\n"));
        let seen = let_in(&hale, &recorder, request, who).await;
        assert!(values(&seen, "x-api-key").is_empty());
    }
    for lines in [
        "",
        "x-api-key: k4\r\n",
        "x-api-key: K2\r\n",
        "x-api-key:\r\n",
        "x-api-key: k2\r\nx-api-key: k2\r\n",
        "x-api-key: k2, k2\r\n",
        "x_api_key: k2\r\n",
        "authorization: Bearer k2\r\n",
        "cookie: x-api-key=k2\r\n",
    ] {
        refused(&hale, &recorder, get("/?x-api-key=k2", lines)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_authorization() {
    let recorder = Recorder::new().await;
    let hale = serve(&recorder, in_header("authorization")).await;
    for value in ["k2", "Bearer k2", "apikey k2"] {
        let request = get("/", &format!("authorization: {value}\r\n"));
        let seen = let_in(&hale, &recorder, request, "shelf").await;
        assert!(values(&seen, "authorization").is_empty());
    }
    for value in ["k4", "Bearer", "Basic k2", "Bearer k2, Bearer k2"] {
        let request = get("/", &format!("authorization: {value}\r\n"));
        let response = talk(&hale, &request).await;
        assert_eq!(values(&response, "www-authenticate"), ["ApiKey"]);
        refused(&hale, &recorder, request).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_query() {
    let recorder = Recorder::new().await;
    let hale = serve(&recorder, CredentialPlace::Query("key".into())).await;
    for (sent, upstream) in [
        ("/a?key=k1%2b%2F%3d", "/a"),
        ("/a?x=1&key=k1%2B/=&y=%2e%2e", "/a?x=1&y=%2e%2e"),
        ("/a?%6Bey=k1%2B/=&x", "/a?x"),
    ] {
        let seen = let_in(&hale, &recorder, get(sent, ""), "till").await;
        assert_eq!(seen.split(' ').nth(1), Some(upstream));
    }
    for path in [
        "/",
        "/?key",
        "/?key=",
        "/?key=k4",
        "/?key=k2&key=k2",
        "/?key=k4&%6bey=k2",
        "/?key=k%",
        "/?Key=k2",
        "/?a=1;key=k2",
    ] {
        refused(&hale, &recorder, get(path, "key: k2\r\ncookie: key=k2\r\n")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cookie() {
    let recorder = Recorder::new().await;
    let hale = serve(&recorder, CredentialPlace::Cookie("key".into())).await;
    let request = get("/", "cookie: a=\"1 2\";  key=k2; b=3\r\ncookie: c\r\n");
    let seen = let_in(&hale, &recorder, request, "shelf").await;
    assert_eq!(values(&seen, "cookie"), ["a=\"1 2\"; b=3", "c"]);
    let request = get("/", "cookie: key=\"k1+/=\"\r\n");
    let seen = let_in(&hale, &recorder, request, "till").await;
    assert!(values(&seen, "cookie").is_empty());
    for lines in [
        "cookie: key=\r\n",
        "cookie: key\r\n",
        "cookie: key=k4\r\n",
        "cookie: key=k2; key=k2\r\n",
        "cookie: key=k2\r\ncookie: key=k2\r\n",
        "cookie: Key=k2\r\n",
        "key: k2\r\n",
    ] {
        refused(&hale, &recorder, get("/?key=k2", lines)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_were_not_looked_at_stay_here_too() {
    let recorder = Recorder::new().await;
    let places = [
        in_header("x-api-key"),
        CredentialPlace::Query("key".into()),
        CredentialPlace::Query("sig".into()),
        CredentialPlace::Cookie("key".into()),
    ];
    let mut methods: Vec<AuthMethod> = places.map(method).into();
    methods.push(basic(FILE));
    let hale = protected(&recorder, rules(methods)).serve();
    let lines = "x-api-key: k2\r\ncookie: a=1; key=k3\r\nauthorization: Basic c2VjcmV0\r\n";
    let request = get("/p?sig=k4&key=k1&b=2", lines);
    let seen = let_in(&hale, &recorder, request, "shelf").await;
    assert_eq!(seen.split(' ').nth(1), Some("/p?b=2"));
    assert_eq!(values(&seen, "cookie"), ["a=1"]);
    for name in ["x-api-key", "authorization"] {
        assert!(values(&seen, name).is_empty(), "{name}");
    }
    // No method of the policy looks for this one.
    let request = get("/", "x-api-key: k2\r\nauthorization: Bearer of.the.app\r\n");
    let seen = let_in(&hale, &recorder, request, "shelf").await;
    assert_eq!(values(&seen, "authorization"), ["Bearer of.the.app"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_where_the_policy_says_so() {
    let recorder = Recorder::new().await;
    for (location, path, lines) in [
        (in_header("x-api-key"), "/", "x-api-key: k2\r\n"),
        (CredentialPlace::Query("key".into()), "/?key=k2", ""),
        (
            CredentialPlace::Cookie("key".into()),
            "/",
            "cookie: key=k2\r\n",
        ),
    ] {
        let mut rules = rules(vec![method(location)]);
        rules.forward_credential = true;
        let hale = protected(&recorder, rules).serve();
        let seen = let_in(&hale, &recorder, get(path, lines), "shelf").await;
        assert!(seen.contains(lines) && seen.contains(path), "{seen}");
        assert!(seen.contains("k2"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_secret_nobody_is_let_in() {
    let recorder = Recorder::new().await;
    let gone = Resolved::Unavailable("Secret shop/keys does not exist".into());
    for (location, keys) in [
        (in_header("x-api-key"), gone.clone()),
        (in_header("x-api-key"), keys(&[])),
        (in_header("authorization"), gone),
        (in_header("no such\r\nheader"), keys(&[("shelf", "k2")])),
    ] {
        let method = AuthMethod::ApiKey(ApiKey { location, keys });
        let hale = protected(&recorder, rules(vec![method])).serve();
        for lines in [
            "",
            "x-api-key: k2\r\n",
            "x-api-key:\r\n",
            "authorization: k2\r\n",
        ] {
            let response = talk(&hale, get("/", lines)).await;
            assert_eq!(status(&response), "503", "{lines}");
            assert_eq!(values(&response, "x-hale-reason"), ["AuthUnavailable"]);
        }
    }
    assert!(recorder.seen().is_empty());
}
