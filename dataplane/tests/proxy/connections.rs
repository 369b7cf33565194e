//! Which connections to peers carry the next request, and which do not.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hale_dataplane::config::Protocol;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::{
    support::{Origin, Shop, request, text, until},
    wire::read_until,
};

/// Answers the head of each request, and does not wait for its body.
async fn hasty() -> Origin {
    Origin::raw(|mut stream, _| async move {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let heads = String::from_utf8_lossy(&buffer[..read])
                .matches(" HTTP/1.1\r\n")
                .count();
            for _ in 0..heads {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let _ = stream.write_all(answer).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_an_upload_on_it_carries_no_other_request() {
    let origin = hasty().await;
    let hale = Shop::of(&[origin.address]).serve();
    let mut uploading = TcpStream::connect(hale.address).await.unwrap();
    uploading
        .write_all(b"POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 10\r\n\r\nhello")
        .await
        .unwrap();
    read_until(&mut uploading, "ok").await;
    let other = tokio::time::timeout(Duration::from_secs(5), hale.get("/")).await;
    let other = other.expect("nobody waits for the upload of another client");
    assert_eq!((other.status(), text(&other)), (StatusCode::OK, "ok"));
    assert_eq!(origin.connections(), 2);

    uploading.write_all(b"world").await.unwrap();
    let next = b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    uploading.write_all(next).await.unwrap();
    read_until(&mut uploading, "ok").await;
    assert_eq!(origin.connections(), 2, "the other connection was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_when_request_and_response_are_complete() {
    let origin = Origin::http1(|request: http::Request<Incoming>| async {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::new(body.repeat(20_000).into()))
    })
    .await;
    let hale = Shop::of(&[origin.address]).serve();
    for _ in 0..50 {
        let response = hale.send(request("PUT", "/", "0123456789")).await;
        assert_eq!(response.body().len(), 200_000);
    }
    // What cannot be repeated takes none that was idle for long, as it may be where the machine is slow.
    assert!(origin.connections() < 10, "{}", origin.connections());
}

/// Takes this many streams on each connection, and answers when it is let.
async fn narrow(most: u32, seen: Arc<AtomicUsize>, go: Arc<Semaphore>) -> Origin {
    Origin::raw(move |stream, _| {
        let (seen, go) = (Arc::clone(&seen), Arc::clone(&go));
        async move {
            let service = service_fn(move |_| {
                seen.fetch_add(1, Ordering::SeqCst);
                let go = Arc::clone(&go);
                async move {
                    go.acquire().await.unwrap().forget();
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                }
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(most)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_gets_no_more_streams_on_a_connection_than_it_takes() {
    let seen = Arc::<AtomicUsize>::default();
    let go = Arc::new(Semaphore::new(0));
    let origin = narrow(2, Arc::clone(&seen), Arc::clone(&go)).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    let hale = Arc::new(shop.serve());
    for round in 1..=2 {
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let hale = Arc::clone(&hale);
                tokio::spawn(async move { hale.send(request("POST", "/", "")).await })
            })
            .collect();
        until("all are with the peer", async || {
            seen.load(Ordering::SeqCst) == 10 * round
        })
        .await;
        go.add_permits(10);
        for call in calls {
            assert_eq!(text(&call.await.unwrap()), "ok");
        }
    }
    assert_eq!(origin.connections(), 5);
}
