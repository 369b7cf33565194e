//! gRPC: trailers come through, and answers of our own are gRPC answers.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use hale_dataplane::config::{Config, Protocol};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{Hale, Origin, Shop, dead};

fn call(path: &str) -> http::request::Builder {
    Request::post(format!("http://shop.test{path}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
}

fn message() -> Full<Bytes> {
    Full::new(Bytes::from_static(b"\0\0\0\0\x02hi"))
}

async fn send(hale: &Hale, request: Request<Full<Bytes>>) -> Response<Incoming> {
    hale.http2().await.send_request(request).await.unwrap()
}

/// A gRPC server: the message back, and a status in trailers.
async fn server() -> Origin {
    Origin::raw(|stream, _| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.uri().authority().unwrap(), "shop.test");
            assert!(!request.headers().contains_key("host"));
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "5".parse().unwrap());
            trailers.insert("grpc-message", "none such".parse().unwrap());
            let frames = [Frame::data(body), Frame::trailers(trailers)];
            let frames = futures::stream::iter(frames.map(Ok::<_, Infallible>));
            Ok::<_, Infallible>(
                Response::builder()
                    .header("content-type", "application/grpc+proto")
                    .body(StreamBody::new(frames))
                    .unwrap(),
            )
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_their_trailers_come_through() {
    let origin = server().await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    let hale = shop.serve();
    let response = send(&hale, call("/shop.Cart/Get").body(message()).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc+proto");
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().unwrap().clone();
    assert_eq!(trailers["grpc-status"], "5");
    assert_eq!(trailers["grpc-message"], "none such");
    assert_eq!(body.to_bytes(), "\0\0\0\0\x02hi");
}

async fn told(response: Response<Incoming>) -> (String, String, String) {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let told = (
        header("grpc-status"),
        header("grpc-message"),
        header("x-hale-reason"),
    );
    assert!(
        http_body::Body::is_end_stream(response.body()),
        "trailers-only"
    );
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_our_own_are_grpc_answers() {
    let nothing = Hale::start(Config::default());
    let response = send(&nothing, call("/shop.Cart/Get").body(message()).unwrap()).await;
    let (status, message_told, reason) = told(response).await;
    assert_eq!((status.as_str(), reason.as_str()), ("12", "NoRoute"));
    assert_eq!(message_told, "NoRoute: No route for this host and path");

    let mut shop = Shop::of(&[dead().await]);
    shop.upstream.protocol = Protocol::Http2;
    let response = send(
        &shop.serve(),
        call("/shop.Cart/Get").body(message()).unwrap(),
    )
    .await;
    let (status, message_told, reason) = told(response).await;
    assert_eq!((status.as_str(), reason.as_str()), ("14", "ConnectRefused"));
    let wanted = "ConnectRefused: Upstream refused the connection: 127.0.0.1:";
    assert!(message_told.starts_with(wanted), "{message_told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_deadline_is_kept() {
    let origin = Origin::http2(|_| async {
        std::future::pending::<()>().await;
        Response::new(Full::default())
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    let hale = shop.serve();
    let request = call("/shop.Cart/Get")
        .header("grpc-timeout", "50m")
        .body(message())
        .unwrap();
    let response = tokio::time::timeout(Duration::from_secs(10), send(&hale, request)).await;
    let (status, _, reason) = told(response.unwrap()).await;
    assert_eq!((status.as_str(), reason.as_str()), ("4", "UpstreamTimeout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_http2_clients_get_json() {
    let nothing = Hale::start(Config::default());
    let request = Request::get("http://shop.test/")
        .body(Full::default())
        .unwrap();
    let response = send(&nothing, request).await;
    assert_eq!(response.status(), 404);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["reason"], "NoRoute");
    assert_eq!(body["requestId"].as_str().unwrap().len(), 32);
}
