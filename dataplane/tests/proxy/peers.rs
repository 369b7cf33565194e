//! Peers come, drain and go; what is known of them stays, and their connections do not.

use std::time::Duration;

use bytes::Bytes;
use hale_dataplane::config::{Protocol, Readiness};
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Origin, Shop, request, text, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_peer_gets_nothing_more_and_loses_its_idle_connections() {
    let closed = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let signal = std::sync::Arc::clone(&closed);
    let draining = Origin::raw(move |mut stream, _| {
        let signal = std::sync::Arc::clone(&signal);
        async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold";
                stream.write_all(answer).await.unwrap();
            }
            signal.add_permits(1);
        }
    })
    .await;
    let other = Origin::saying("new").await;
    let mut shop = Shop::of(&[draining.address]);
    let hale = shop.serve();
    assert_eq!(text(&hale.get("/").await), "old");
    shop.upstream.peers[0].readiness = Readiness::Draining;
    shop.upstream
        .peers
        .extend(Shop::of(&[other.address]).upstream.peers);
    hale.dataplane.publish(shop.config());
    tokio::time::timeout(Duration::from_secs(2), closed.acquire())
        .await
        .unwrap()
        .unwrap()
        .forget();
    for _ in 0..10 {
        assert_eq!(text(&hale.get("/").await), "new");
    }
    shop.upstream.peers.truncate(1);
    hale.dataplane.publish(shop.config());
    assert_eq!(text(&hale.get("/").await), "old", "the last resort");
}

#[tokio::test(flavor = "multi_thread")]
async fn vitals_survive_a_change_and_not_a_new_pod() {
    let origin = Origin::saying("hello").await;
    let mut shop = Shop::of(&[origin.address]);
    let hale = shop.serve();
    for _ in 0..3 {
        hale.get("/").await;
    }
    let requests = || hale.dataplane.report().upstreams[0].peers[0].requests;
    shop.upstream.peers[0].node = Some("node-2".into());
    hale.dataplane.publish(shop.config());
    assert_eq!(requests(), 3);
    shop.upstream.peers[0].uid = "another".into();
    hale.dataplane.publish(shop.config());
    assert_eq!(requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_answer_in_time_is_504() {
    let origin = Origin::raw(|mut stream, _| async move {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.policy.timeouts.backend_request = Some(Duration::from_millis(100));
    let hale = shop.serve();
    let response = hale.get("/").await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(response.headers()["x-hale-reason"], "UpstreamTimeout");
    assert!(text(&response).contains("shop/web:http"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_peer() {
    let origin = Origin::raw(|mut stream, _| async move {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
    })
    .await;
    let hale = Shop::of(&[origin.address]).serve();
    let in_flight = || hale.dataplane.report().upstreams[0].peers[0].in_flight;
    let mut client = tokio::net::TcpStream::connect(hale.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n")
        .await
        .unwrap();
    until("the request is with the peer", async || in_flight() == 1).await;
    drop(client);
    until("the peer is free", async || in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_breaks_off_is_never_completed() {
    let origin = Origin::raw(|mut stream, _| async move {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await;
    })
    .await;
    let hale = Shop::of(&[origin.address]).serve();
    let mut client = tokio::net::TcpStream::connect(hale.address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.contains("content-length: 100") && answer.ends_with("half"),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_connections_are_shared() {
    let origin = Origin::http2(|_| async {
        tokio::task::yield_now().await;
        Response::new(Full::new(Bytes::from_static(b"h2")))
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    let hale = shop.serve();
    let calls = (0..50).map(|_| hale.send(request("GET", "/", "")));
    for response in futures::future::join_all(calls).await {
        assert_eq!(text(&response), "h2");
    }
    assert_eq!(origin.connections(), 1);
}
