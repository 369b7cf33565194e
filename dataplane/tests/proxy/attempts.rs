//! What fails is tried again where that is right, and only there.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use hale_dataplane::config::Readiness;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Semaphore,
};

use crate::support::{Origin, Shop, dead, ready, request, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_tried_on_another_peer_for_any_method() {
    let origin = Origin::saying("alive").await;
    let hale = Shop::of(&[dead().await, origin.address, dead().await]).serve();
    for method in ["GET", "POST", "PUT", "DELETE"] {
        for _ in 0..6 {
            let response = hale.send(request(method, "/", "")).await;
            assert_eq!(response.status(), StatusCode::OK, "{method}");
        }
    }
}

/// As in a rollout that ends several pods before Kubernetes says so.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_listens_is_found_among_many_who_refuse() {
    let origin = Origin::saying("alive").await;
    let mut peers = vec![origin.address];
    for _ in 0..6 {
        peers.push(dead().await);
    }
    let hale = Shop::of(&peers).serve();
    for method in ["GET", "POST"] {
        let response = hale.send(request(method, "/", "")).await;
        assert_eq!(response.status(), StatusCode::OK, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_peer_refuses_the_answer_says_so() {
    let hale = Shop::of(&[dead().await, dead().await]).serve();
    let response = hale.get("/").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-hale-reason"], "ConnectRefused");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["upstream"], "shop/web:http");
    assert_eq!(body["peers"]["total"], 2);
    assert_eq!(body["peers"]["byReason"]["ConnectRefused"], 2);
    assert_eq!(body["detail"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_not_ready_get_nothing_and_are_named() {
    let origin = Origin::saying("no").await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.peers[0].readiness = Readiness::Unready;
    let hale = shop.serve();
    let response = hale.get("/").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-hale-reason"], "NoEligiblePeer");
    assert!(
        text(&response).contains(r#""NotReady":1"#),
        "{}",
        text(&response)
    );
    assert_eq!(origin.connections(), 0);
}

/// Answers the first request of each connection, and closes it under the second.
async fn closing_origin(seen: Arc<AtomicUsize>) -> Origin {
    Origin::raw(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
            let _ = stream.read(&mut buffer).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_closes_under_a_request_costs_nothing() {
    let seen = Arc::new(AtomicUsize::new(0));
    let origin = closing_origin(Arc::clone(&seen)).await;
    let hale = Shop::of(&[origin.address]).serve();
    for _ in 0..50 {
        let response = hale.get("/").await;
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(seen.load(Ordering::SeqCst), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_was_sent_is_never_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let resetting = move |mut stream: tokio::net::TcpStream, _| {
        let counter = Arc::clone(&counter);
        async move {
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let (one, two) = (
        Origin::raw(resetting.clone()).await,
        Origin::raw(resetting).await,
    );
    let hale = Shop::of(&[one.address, two.address]).serve();
    let response = hale.send(request("POST", "/", "pay")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(response.headers()["x-hale-reason"], "UpstreamReset");
    assert_eq!(seen.load(Ordering::SeqCst), 1);

    let response = hale.get("/").await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(seen.load(Ordering::SeqCst), 3, "a GET is tried once more");
}

/// As in a rollout: while a peer has the request, the table gets another, and the first one goes.
#[tokio::test(flavor = "multi_thread")]
async fn another_try_is_made_with_the_peers_of_the_moment() {
    static HAS_IT: Semaphore = Semaphore::const_new(0);
    static GO: Semaphore = Semaphore::const_new(0);
    let leaving = Origin::raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        HAS_IT.add_permits(1);
        // Closed without an answer.
        GO.acquire().await.unwrap().forget();
    })
    .await;
    let (new, newer) = (Origin::saying("new").await, Origin::saying("new").await);
    let mut shop = Shop::of(&[leaving.address]);
    let hale = Arc::new(shop.serve());
    for stays in [true, false] {
        shop.upstream.peers = vec![ready(leaving.address)];
        hale.dataplane.publish(shop.config());
        let caller = Arc::clone(&hale);
        let call = tokio::spawn(async move { caller.get("/").await });
        HAS_IT.acquire().await.unwrap().forget();
        // What was tried stays so, though it has another number now.
        shop.upstream.peers = vec![ready(new.address), ready(newer.address)];
        if stays {
            shop.upstream.peers.push(ready(leaving.address));
        }
        hale.dataplane.publish(shop.config());
        GO.add_permits(1);
        let response = call.await.unwrap();
        assert_eq!(
            (response.status(), text(&response)),
            (StatusCode::OK, "new")
        );
        assert_eq!(HAS_IT.available_permits(), 0);
    }
}
