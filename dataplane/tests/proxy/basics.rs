//! A request reaches a peer and its response the client, in every combination of protocols.

use bytes::Bytes;
use hale_dataplane::config::{Config, Protocol};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::support::{Hale, Origin, Shop, request, text};

async fn echo(request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let host = parts.uri.host().map(str::to_owned).or_else(|| {
        parts
            .headers
            .get("host")
            .map(|host| host.to_str().unwrap().to_owned())
    });
    let path = parts.uri.path_and_query().unwrap();
    let text = format!("{} {} {path} {body:?}", parts.method, host.unwrap());
    Response::new(Full::new(Bytes::from(text)))
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_to_http1() {
    let origin = Origin::http1(echo).await;
    let hale = Shop::of(&[origin.address]).serve();
    let response = hale.get("/a/b?c=d%20e").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(&response), r#"GET shop.test /a/b?c=d%20e b"""#);
    let response = hale.send(request("POST", "/a", "hello")).await;
    assert_eq!(text(&response), r#"POST shop.test /a b"hello""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn http1_to_http2() {
    let origin = Origin::http2(echo).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    let hale = shop.serve();
    let response = hale.send(request("POST", "/a?b", "hello")).await;
    assert_eq!(text(&response), r#"POST shop.test /a?b b"hello""#);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_to_http1_and_back_with_many_streams() {
    let origin = Origin::http1(echo).await;
    let hale = Shop::of(&[origin.address]).serve();
    let sender = hale.http2().await;
    let calls = (0..40).map(|number| {
        let mut sender = sender.clone();
        async move {
            let request = Request::builder()
                .method("PUT")
                .uri(format!("http://shop.test/{number}"))
                .body(Full::new(Bytes::from_static(b"x")))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!(r#"PUT shop.test /{number} b"x""#));
        }
    });
    futures::future::join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_peers_are_kept() {
    let origin = Origin::saying("hello").await;
    let hale = Shop::of(&[origin.address]).serve();
    for _ in 0..20 {
        assert_eq!(text(&hale.get("/").await), "hello");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_route_the_answer_is_404() {
    let hale = Hale::start(Config::default());
    let response = hale.get("/").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()["x-hale-reason"], "NoRoute");
}
