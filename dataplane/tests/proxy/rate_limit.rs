//! Requests that are taken, and those that are too many.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hale_dataplane::config::{Auth, Problem, RateLimit, RateLimitKey};
use http::Request;
use http_body_util::Full;

use crate::support::{Hale, Origin, Shop, header, policy, request};

fn limit(key: RateLimitKey) -> RateLimit {
    RateLimit {
        source: policy(),
        requests: 2,
        interval: Duration::from_secs(3_600),
        burst: 1,
        key,
        replicas: 1,
    }
}

fn shop(origin: &Origin, limit: RateLimit) -> Shop {
    let mut shop = Shop::of(&[origin.address]);
    shop.policy.rate_limit = Some(Arc::new(limit));
    shop
}

fn serve(shop: &Shop) -> Hale {
    Hale::with(shop.config(), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
}

fn with(name: &'static str, value: &str) -> Request<Full<Bytes>> {
    let mut request = request("GET", "/", "");
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_what_is_left_and_when_to_come_back() {
    let origin = Origin::saying("hello").await;
    let hale = serve(&shop(&origin, limit(RateLimitKey::Route)));
    for left in [2, 1, 0] {
        let answer = hale.get("/").await;
        assert_eq!(answer.status(), 200);
        let said = header(&answer, "ratelimit");
        assert!(
            said.starts_with(&format!("\"default\";r={left};t=")),
            "{said}"
        );
        assert_eq!(
            header(&answer, "ratelimit-policy"),
            "\"default\";q=2;w=3600"
        );
    }
    let served = origin.connections();
    for http2 in [false, true] {
        let answer = match http2 {
            false => hale.get("/").await,
            true => hale.send_http2(request("GET", "/", "")).await,
        };
        assert_eq!(answer.status(), 429);
        assert_eq!(header(&answer, "x-hale-reason"), "RateLimited");
        let wait: u64 = header(&answer, "retry-after").parse().unwrap();
        assert!((1_700..=1_800).contains(&wait), "{wait}");
        assert!(header(&answer, "ratelimit").starts_with("\"default\";r=0;t="));
        assert_eq!(
            header(&answer, "ratelimit-policy"),
            "\"default\";q=2;w=3600"
        );
    }
    let mut call = request("POST", "/", "");
    let kind = "application/grpc".parse().unwrap();
    call.headers_mut().insert("content-type", kind);
    let answer = hale.send_http2(call).await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "grpc-status")),
        (200, "8")
    );
    assert_eq!(origin.connections(), served, "no peer was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_tenants_have_their_own() {
    let origin = Origin::saying("hello").await;
    for (key, name, one, other) in [
        (
            RateLimitKey::Address,
            "x-forwarded-for",
            "192.0.2.1",
            "192.0.2.2",
        ),
        (
            RateLimitKey::Address,
            "x-forwarded-for",
            "2001:db8::1",
            "2001:db8:1::1",
        ),
        (
            RateLimitKey::Header("x-tenant".into()),
            "x-tenant",
            "a",
            "b",
        ),
    ] {
        let hale = serve(&shop(&origin, limit(key)));
        for status in [200, 200, 200, 429] {
            assert_eq!(hale.send(with(name, one)).await.status(), status);
        }
        assert_eq!(hale.send(with(name, other)).await.status(), 200);
    }
    let hale = serve(&shop(&origin, limit(RateLimitKey::Address)));
    for (last, status) in [(1, 200), (2, 200), (3, 200), (4, 429)] {
        let client = format!("2001:db8::{last}");
        let answer = hale.send(with("x-forwarded-for", &client)).await;
        assert_eq!(answer.status(), status, "one network");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_outlive_a_change_of_the_config() {
    let origin = Origin::saying("hello").await;
    let mut shop = shop(&origin, limit(RateLimitKey::Address));
    let hale = serve(&shop);
    for _ in 0..3 {
        assert_eq!(hale.get("/").await.status(), 200);
    }
    shop.policy.timeouts.connect = Some(Duration::from_secs(2));
    hale.dataplane.publish(shop.config());
    assert_eq!(hale.get("/").await.status(), 429);
    // One more replica halves the share; what was used stays used.
    let mut halved = limit(RateLimitKey::Address);
    halved.replicas = 2;
    shop.policy.rate_limit = Some(Arc::new(halved));
    hale.dataplane.publish(shop.config());
    let answer = hale.get("/").await;
    assert_eq!(answer.status(), 429);
    assert_eq!(
        header(&answer, "ratelimit-policy"),
        "\"default\";q=1;w=3600"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_guesses_is_limited_before_it_is_checked() {
    let origin = Origin::saying("hello").await;
    let mut shop = shop(&origin, limit(RateLimitKey::Address));
    shop.policy.auth = Auth::Unavailable(Problem {
        reason: hale_dataplane::reason::Reason::AuthUnavailable,
        message: "the Secret is gone".into(),
    });
    let hale = serve(&shop);
    for status in [503, 503, 503, 429] {
        assert_eq!(hale.get("/").await.status(), status);
    }
    // Consumers are known after that alone.
    shop.policy.rate_limit = Some(Arc::new(limit(RateLimitKey::Consumer)));
    let hale = serve(&shop);
    for _ in 0..5 {
        assert_eq!(hale.get("/").await.status(), 503);
    }
}
