//! Client addresses that may, and may not.

use std::sync::Arc;

use bytes::Bytes;
use hale_dataplane::config::{Access, AccessRules, Problem};
use http::{Request, Response};
use http_body_util::Full;

use crate::support::{Hale, Origin, Shop, header, policy, request, text};

fn rules(allow: &[&str], deny: &[&str]) -> Access {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Access::Rules(Arc::new(AccessRules {
        source: policy(),
        allow: networks(allow),
        deny: networks(deny),
    }))
}

/// Behind a proxy on loopback that is trusted.
async fn behind_proxy(access: Access) -> (Hale, Origin) {
    let origin = Origin::saying("hello").await;
    let mut shop = Shop::of(&[origin.address]);
    shop.policy.access = access;
    let hale = Hale::with(shop.config(), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    (hale, origin)
}

fn from(client: &str) -> Request<Full<Bytes>> {
    let mut request = request("GET", "/", "");
    let headers = request.headers_mut();
    headers.insert("x-forwarded-for", client.parse().unwrap());
    request
}

fn assert_denied(response: &Response<Bytes>) {
    assert_eq!(response.status(), 403);
    assert_eq!(header(response, "x-hale-reason"), "AddressDenied");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_behind_a_trusted_proxy_is_who_counts() {
    let (hale, origin) = behind_proxy(rules(&["192.0.2.0/24"], &["192.0.2.66/32"])).await;
    assert_eq!(text(&hale.send(from("192.0.2.1")).await), "hello");
    assert_eq!(text(&hale.send(from("::ffff:192.0.2.1")).await), "hello");
    assert_eq!(text(&hale.send_http2(from("192.0.2.1")).await), "hello");
    let served = origin.connections();
    assert_denied(&hale.send(from("192.0.2.66")).await);
    assert_denied(&hale.send_http2(from("192.0.2.66")).await);
    assert_denied(&hale.send(from("198.51.100.1")).await);
    // What is left of a client's own word is not believed.
    assert_denied(&hale.send(from("192.0.2.1, 198.51.100.1")).await);
    assert_denied(&hale.get("/").await);
    assert_eq!(origin.connections(), served, "no peer was asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_be_explained_to_learns_which_address_counted_and_nobody_else_does() {
    let mut shop = Shop::of(&[]);
    shop.policy.access = rules(&["192.0.2.0/24"], &[]);
    for (explain, wanted) in [
        (
            true,
            Some(
                "the client address that counts is 127.0.0.1, which is not in allow of UpstreamPolicy shop/web",
            ),
        ),
        (false, None),
    ] {
        let hale = Hale::with(shop.config(), |options| {
            if !explain {
                options.explain = Vec::new();
            }
        });
        let response = hale.get("/").await;
        assert_denied(&response);
        let told: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(told["message"].as_str(), wanted, "{told}");
        let internal = ["shop/web", "127.0.0.1", "192.0.2"];
        let is_told = internal.iter().any(|part| text(&response).contains(part));
        assert_eq!(is_told, explain, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_no_trusted_proxy_cannot_say_where_it_is() {
    let origin = Origin::saying("hello").await;
    let mut shop = Shop::of(&[origin.address]);
    shop.policy.access = rules(&["192.0.2.0/24"], &[]);
    assert_denied(&shop.serve().send(from("192.0.2.1")).await);
    shop.policy.access = rules(&["127.0.0.1/32"], &[]);
    assert_eq!(shop.serve().send(from("192.0.2.1")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_cannot_be_used_let_nobody_in() {
    let (hale, _origin) = behind_proxy(Access::Unavailable(Problem {
        reason: hale_dataplane::reason::Reason::NotAccepted,
        message: "the policy is not accepted".into(),
    }))
    .await;
    let response = hale.send(from("192.0.2.1")).await;
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "x-hale-reason"), "NotAccepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_clients_are_told_in_their_way() {
    let (hale, _origin) = behind_proxy(rules(&["192.0.2.0/24"], &[])).await;
    let mut call = from("198.51.100.1");
    let kind = "application/grpc".parse().unwrap();
    call.headers_mut().insert("content-type", kind);
    let response = hale.send_http2(call).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "grpc-status"), "7");
}
