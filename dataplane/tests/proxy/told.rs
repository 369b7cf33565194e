//! What is told of policies: to clients, in the log, in metrics, by `report` and by `why`; and that none of it holds a
//! credential.

use std::{net::IpAddr, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use hale_dataplane::{
    AccessLog,
    config::{
        Access, AccessRules, ApiKey, ApiKeyEntry, ApiKeys, Auth, AuthMethod, AuthRules,
        CredentialPlace, External, ExternalService, ObjectRef, PathRule, Problem, RateLimit,
        RateLimitKey, Resolved,
    },
    prometheus_client::{encoding::text::encode, registry::Registry},
    reason::Reason,
    report::{Trial, WhyReport, WhyRequest},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use crate::{
    support::{Hale, Origin, Shop, until},
    wire::{body, get, status, talk, values},
};

const KEY: &str = "s3cret-of-acme";
const WRONG: &str = "s3cret-of-nobody";
const LOST: &str = "Secret shop/keys does not exist";

fn policy(name: &str) -> ObjectRef {
    ObjectRef {
        kind: "UpstreamPolicy",
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn keys() -> Resolved<ApiKeys> {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, KEY.as_bytes()).as_ref());
    Resolved::Known(ApiKeys(vec![ApiKeyEntry {
        consumer: "acme \"ä\"".into(),
        digest: hash,
    }]))
}

fn api_key(keys: Resolved<ApiKeys>) -> AuthMethod {
    AuthMethod::ApiKey(ApiKey {
        location: CredentialPlace::Header("x-api-key".into()),
        keys,
    })
}

fn external() -> AuthMethod {
    AuthMethod::External(External {
        service: ExternalService::Url("http://auth.test".into()),
        path: "/".into(),
        timeout: Duration::from_secs(2),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        sign_in: None,
        fail_open: false,
    })
}

fn any_of(methods: Vec<AuthMethod>) -> Auth {
    Auth::AnyOf(Arc::new(AuthRules {
        source: policy("partners"),
        methods,
        exempt_paths: vec![PathRule::exact("/healthz").unwrap()],
        forward_credential: false,
    }))
}

/// A Hale with this auth in front of an origin that answers.
async fn shop(auth: Auth) -> Shop {
    let origin = Origin::saying("hello").await;
    let mut shop = Shop::of(&[origin.address]);
    shop.policy.auth = auth;
    shop
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

fn asked(path: &str) -> WhyRequest {
    WhyRequest {
        https: false,
        host: "shop.test".into(),
        path: path.into(),
    }
}

/// What would come of a GET with this API key.
async fn tried(hale: &Hale, path: &str, key: Option<&str>, client: Option<IpAddr>) -> WhyReport {
    let mut headers = HeaderMap::new();
    if let Some(key) = key {
        let name = HeaderName::from_static("x-api-key");
        headers.insert(name, HeaderValue::from_str(key).unwrap());
    }
    let trial = Trial {
        method: Method::GET,
        target: path.parse().unwrap(),
        authority: "shop.test".into(),
        headers,
        client,
    };
    let why = hale.dataplane.why_trying(asked(path), trial).await;
    why.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_named_to_those_who_mend_it_and_to_nobody_else() {
    let problem = Problem {
        reason: Reason::AuthUnavailable,
        message: format!("UpstreamPolicy shop/partners: {LOST}"),
    };
    let lost = Resolved::Unavailable(LOST.to_owned());
    for auth in [Auth::Unavailable(problem), any_of(vec![api_key(lost)])] {
        let shop = shop(auth).await;
        let hale = shop.serve();
        for headers in [String::new(), format!("x-api-key: {KEY}\r\n")] {
            let answer = talk(&hale, get("/", &headers)).await;
            assert_eq!(status(&answer), "503", "{answer}");
            assert_eq!(values(&answer, "x-hale-reason"), ["AuthUnavailable"]);
            let told: Value = serde_json::from_str(body(&answer)).unwrap();
            let wanted = format!("UpstreamPolicy shop/partners: {LOST}");
            assert_eq!(told["message"], json!(wanted), "{answer}");
        }
        let strangers = Hale::with(shop.config(), |options| options.explain = Vec::new());
        for headers in [String::new(), format!("x-api-key: {KEY}\r\n")] {
            let answer = talk(&strangers, get("/", &headers)).await;
            assert_eq!(status(&answer), "503", "{answer}");
            for internal in ["partners", "Secret", "keys", "UpstreamPolicy"] {
                assert!(!answer.contains(internal), "{internal} is in {answer}");
            }
        }
        let lines = hale.dataplane.report().unavailable;
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].reason, Reason::AuthUnavailable);
        assert!(lines[0].message.contains(LOST), "{lines:?}");
        let why = hale.dataplane.why(&asked("/")).unwrap();
        assert_eq!(why.reason, Some(Reason::AuthUnavailable));
        assert!(why.message.contains(LOST), "{}", why.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_with_one_method_left_is_told_to_have_lost_the_other() {
    let lost = Resolved::Unavailable(LOST.to_owned());
    let shop = shop(any_of(vec![api_key(lost), api_key(keys())])).await;
    let hale = shop.serve();
    let told = serde_json::to_value(hale.dataplane.report()).unwrap();
    assert_eq!(
        told["unavailable"],
        json!([{
            "object": "UpstreamPolicy shop/partners",
            "reason": "AuthUnavailable",
            "message": format!("apiKey: {LOST}; apiKey still lets in"),
        }])
    );
    let why = hale.dataplane.why(&asked("/")).unwrap();
    assert_eq!(why.reason, None, "{why:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_and_metrics_tell_consumer_method_and_outcome() {
    let path = std::env::temp_dir().join(format!("hale-told-{}.log", std::process::id()));
    let mut shop = shop(any_of(vec![api_key(keys())])).await;
    let hale = Hale::with(shop.config(), |options| {
        options.access_log = AccessLog::File(path.clone());
    });
    let mut registry = Registry::default();
    hale.dataplane.register_metrics(&mut registry);
    for (key, target, wanted) in [
        (Some(KEY), "/?x-api-key=s3cret", "200"),
        (Some(WRONG), "/", "401"),
        (None, "/", "401"),
        (None, "/healthz", "200"),
    ] {
        let header = key.map(|key| format!("x-api-key: {key}\r\n"));
        let answer = talk(&hale, get(target, &header.unwrap_or_default())).await;
        assert_eq!(status(&answer), wanted, "{answer}");
    }
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    until("four lines are written", async || {
        log().lines().count() == 4
    })
    .await;
    let told: Vec<Value> = log()
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let keys = ["consumer", "authMethod", "authOutcome"];
            keys.iter()
                .filter_map(|key| line.get(key).cloned())
                .collect()
        })
        .collect();
    let wanted = [
        json!(["acme \"ä\"", "apiKey", "Allowed"]),
        json!(["apiKey", "UnknownConsumer"]),
        json!(["NoCredential"]),
        json!(["Exempt"]),
    ];
    assert_eq!(told, wanted);
    let text = scrape(&registry);
    for (method, outcome) in [
        ("apiKey", "Allowed"),
        ("apiKey", "UnknownConsumer"),
        ("none", "NoCredential"),
        ("none", "Exempt"),
    ] {
        let line = format!(
            r#"hale_auth_requests_total{{policy="shop/partners",method="{method}",outcome="{outcome}"}} 1"#
        );
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(!log().contains("s3cret") && !text.contains("s3cret"));

    // A rotation is another config of the same policy, and does not make its counters begin anew.
    shop.policy.auth = any_of(vec![api_key(keys()), external()]);
    hale.dataplane.publish(shop.config());
    assert!(scrape(&registry).contains(r#"method="apiKey",outcome="Allowed"} 1"#));
    shop.policy.auth = Auth::Open;
    hale.dataplane.publish(shop.config());
    assert!(!scrape(&registry).contains("shop/partners"));
    talk(&hale, get("/", "")).await;
    until("a fifth line is written", async || {
        log().lines().count() == 5
    })
    .await;
    assert!(!log().lines().last().unwrap().contains("auth"));
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_limits_are_counted_by_policy() {
    let mut shop = shop(Auth::Open).await;
    shop.policy.access = Access::Rules(Arc::new(AccessRules {
        source: policy("office"),
        allow: Vec::new(),
        deny: vec!["127.0.0.0/8".parse().unwrap()],
    }));
    let hale = shop.serve();
    let mut registry = Registry::default();
    hale.dataplane.register_metrics(&mut registry);
    let answer = talk(&hale, get("/", "")).await;
    assert_eq!(values(&answer, "x-hale-reason"), ["AddressDenied"]);
    let line = r#"hale_access_denied_requests_total{policy="shop/office"} 1"#;
    until("the refusal is counted", async || {
        scrape(&registry).contains(line)
    })
    .await;

    shop.policy.access = Access::Everybody;
    shop.policy.rate_limit = Some(Arc::new(RateLimit {
        source: policy("fair"),
        requests: 1,
        interval: Duration::from_secs(3600),
        burst: 0,
        key: RateLimitKey::Address,
        replicas: 1,
    }));
    hale.dataplane.publish(shop.config());
    assert_eq!(status(&talk(&hale, get("/", "")).await), "200");
    let answer = talk(&hale, get("/", "")).await;
    assert_eq!(values(&answer, "x-hale-reason"), ["RateLimited"]);
    let line = r#"hale_rate_limited_requests_total{policy="shop/fair"} 1"#;
    until("the refusal is counted", async || {
        let text = scrape(&registry);
        text.contains(line) && !text.contains("shop/office")
    })
    .await;
    let why = serde_json::to_value(hale.dataplane.why(&asked("/")).unwrap()).unwrap();
    let wanted = json!({"source": "UpstreamPolicy shop/fair", "message": "1 in 3600s for each client address"});
    assert_eq!(why["policies"]["rateLimit"], wanted, "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_names_the_policy_and_says_why_a_credential_is_refused() {
    let mut shop = shop(any_of(vec![api_key(keys()), external()])).await;
    shop.policy.access = Access::Rules(Arc::new(AccessRules {
        source: policy("office"),
        allow: vec!["192.0.2.0/24".parse().unwrap()],
        deny: Vec::new(),
    }));
    let hale = shop.serve();
    let why = serde_json::to_value(hale.dataplane.why(&asked("/")).unwrap()).unwrap();
    assert_eq!(
        why["policies"],
        json!({
            "auth": {
                "source": "UpstreamPolicy shop/partners",
                "exempt": false,
                "methods": [
                    {"method": "apiKey", "wants": "an API key in the header x-api-key"},
                    {"method": "external", "wants": "the word of http://auth.test"},
                ],
            },
            "access": {"source": "UpstreamPolicy shop/office", "message": "only 192.0.2.0/24"},
        })
    );
    assert_eq!((why.get("reason"), why.get("trial")), (None, None));

    let office = "192.0.2.7".parse().ok();
    let wrong = tried(&hale, "/", Some(WRONG), office).await;
    assert_eq!(wrong.reason, Some(Reason::AuthRequired));
    let wrong = serde_json::to_value(&wrong).unwrap();
    let message = "no consumer of the Secret has this key";
    assert_eq!(
        wrong["trial"],
        json!({
            "access": "192.0.2.7, which is in allow of UpstreamPolicy shop/office, by 192.0.2.0/24",
            "method": "apiKey", "outcome": "UnknownConsumer", "message": message,
        })
    );
    assert!(!wrong.to_string().contains(WRONG));

    let good = tried(&hale, "/", Some(KEY), office).await;
    assert_eq!(good.reason, None, "{good:?}");
    let trial = good.trial.unwrap();
    assert_eq!(trial.consumer.as_deref(), Some("acme \"ä\""));
    assert_eq!(trial.outcome, Some("Allowed"));

    let elsewhere = tried(&hale, "/", Some(KEY), "198.51.100.1".parse().ok()).await;
    assert_eq!(elsewhere.reason, Some(Reason::AddressDenied));

    let nothing = tried(&hale, "/", None, None).await;
    assert_eq!(nothing.reason, None, "{nothing:?}");
    let trial = nothing.trial.unwrap();
    assert_eq!((trial.method, trial.outcome), (Some("external"), None));
    assert_eq!(
        trial.message,
        "http://auth.test would be asked, and decides"
    );

    let exempt = tried(&hale, "/healthz", None, None).await;
    assert_eq!(exempt.trial.unwrap().outcome, Some("Exempt"));
}
