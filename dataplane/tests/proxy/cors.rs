//! Pages of other origins: preflights, and who may read answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hale_dataplane::config::{Auth, Cors, Problem, RateLimit, RateLimitKey};
use http::{Request, Response};
use http_body_util::Full;

use crate::support::{Hale, Origin, Shop, dead, header, policy, request};

const ORIGIN: &str = "access-control-allow-origin";
const PAGE: &str = "https://a.example.com";

fn cors() -> Cors {
    let strings = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    Cors {
        source: policy(),
        allow_origins: strings(&["https://*.example.com"]),
        allow_methods: strings(&["GET", "PUT"]),
        allow_headers: strings(&["x-one"]),
        expose_headers: strings(&["x-seen"]),
        allow_credentials: true,
        max_age: Duration::from_secs(60),
    }
}

fn shop(origin: std::net::SocketAddr) -> Shop {
    let mut shop = Shop::of(&[origin]);
    shop.policy.cors = Some(Arc::new(cors()));
    shop
}

/// Says by itself who may read it.
async fn careless() -> Origin {
    Origin::http1(|_| async {
        Response::builder()
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-methods", "DELETE")
            .header("vary", "Accept")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap()
    })
    .await
}

fn of(page: &str) -> Request<Full<Bytes>> {
    let mut request = request("GET", "/", "");
    request
        .headers_mut()
        .insert("origin", page.parse().unwrap());
    request
}

fn preflight(page: &str, method: &str) -> Request<Full<Bytes>> {
    let mut request = of(page);
    *request.method_mut() = http::Method::OPTIONS;
    let headers = request.headers_mut();
    headers.insert("access-control-request-method", method.parse().unwrap());
    headers.insert("access-control-request-headers", "x-one".parse().unwrap());
    headers.insert(
        "access-control-request-private-network",
        "true".parse().unwrap(),
    );
    request
}

fn closed() -> Auth {
    Auth::Unavailable(Problem {
        reason: hale_dataplane::reason::Reason::AuthUnavailable,
        message: "the Secret is gone".into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_are_answered_before_anybody_is_asked() {
    let origin = careless().await;
    let mut shop = shop(origin.address);
    shop.policy.auth = closed();
    let hale = shop.serve();
    for http2 in [false, true] {
        let send = async |request| match http2 {
            false => hale.send(request).await,
            true => hale.send_http2(request).await,
        };
        let answer = send(preflight(PAGE, "PUT")).await;
        assert_eq!(answer.status(), 204);
        assert_eq!(header(&answer, ORIGIN), PAGE);
        assert_eq!(header(&answer, "access-control-allow-methods"), "GET, PUT");
        assert_eq!(header(&answer, "access-control-allow-headers"), "x-one");
        assert_eq!(header(&answer, "access-control-allow-credentials"), "true");
        assert_eq!(header(&answer, "access-control-max-age"), "60");
        assert_eq!(header(&answer, "access-control-allow-private-network"), "");
        for refused in [
            preflight("https://evil.example", "PUT"),
            preflight(PAGE, "DELETE"),
        ] {
            let answer = send(refused).await;
            assert_eq!(answer.status(), 204);
            let mut names = answer.headers().keys();
            assert!(!names.any(|name| name.as_str().starts_with("access-control-")));
            assert!(header(&answer, "vary").contains("Origin"));
        }
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_options_requests_go_to_the_upstream() {
    let origin = careless().await;
    let hale = shop(origin.address).serve();
    let mut plain = of(PAGE);
    *plain.method_mut() = http::Method::OPTIONS;
    assert_eq!(hale.send(plain).await.status(), 200);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_the_upstream_say_what_the_policy_says() {
    let origin = careless().await;
    let hale = shop(origin.address).serve();
    let answer = hale.send(of(PAGE)).await;
    assert_eq!(header(&answer, ORIGIN), PAGE);
    assert_eq!(header(&answer, "access-control-allow-credentials"), "true");
    assert_eq!(header(&answer, "access-control-expose-headers"), "x-seen");
    assert_eq!(header(&answer, "access-control-allow-methods"), "");
    for request in [
        of("https://evil.example"),
        of("null"),
        request("GET", "/", ""),
    ] {
        let answer = hale.send(request).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, ORIGIN), "");
        let vary: Vec<_> = answer.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["Accept", "Origin"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_may_read_why_they_are_refused() {
    let mut unauthorized = shop(dead().await);
    unauthorized.policy.auth = closed();
    let mut limited = shop(dead().await);
    limited.policy.rate_limit = Some(Arc::new(RateLimit {
        source: policy(),
        requests: 1,
        interval: Duration::from_secs(3_600),
        burst: 0,
        key: RateLimitKey::Route,
        replicas: 1,
    }));
    let unserved = shop(dead().await);
    for (shop, reason) in [
        (unauthorized, "AuthUnavailable"),
        (limited, "RateLimited"),
        (unserved, "ConnectRefused"),
    ] {
        let hale = shop.serve();
        if reason == "RateLimited" {
            hale.send(of(PAGE)).await;
        }
        let answer = hale.send(of(PAGE)).await;
        assert_eq!(header(&answer, "x-hale-reason"), reason);
        assert_eq!(header(&answer, ORIGIN), PAGE, "{reason}");
        assert_eq!(header(&answer, "access-control-allow-credentials"), "true");
        let answer = hale.send(of("https://evil.example")).await;
        assert_eq!(header(&answer, ORIGIN), "", "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_the_section_is_left_as_it_is() {
    let origin = careless().await;
    let hale: Hale = Shop::of(&[origin.address]).serve();
    let answer = hale.send(of("https://evil.example")).await;
    assert_eq!(header(&answer, ORIGIN), "*");
    assert_eq!(header(&answer, "vary"), "Accept");
    assert_eq!(hale.send(preflight(PAGE, "PUT")).await.status(), 200);
}
