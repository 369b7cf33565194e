//! When a request must have been answered, and who is to blame when it is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hale_dataplane::{
    config::{OutlierPolicy, Percent, Protocol, Retry},
    health::Standing,
    report::PeerReport,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    reasons::black_hole,
    retries,
    support::{Hale, Origin, Shop, header, request, text, until},
    wire::read_until,
};

/// Takes every request, and answers none.
async fn mute() -> Origin {
    Origin::raw(|mut stream, _| async move {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
    })
    .await
}

/// A gRPC call that its caller waits for as long as this.
fn call(timeout: &str) -> Request<Full<Bytes>> {
    let mut call = request("POST", "/shop.Cart/Get", "\0\0\0\0\x02hi");
    let headers = call.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("grpc-timeout", timeout.parse().unwrap());
    call
}

/// One of its peers is ejected after two failures.
fn strict(origins: &[Origin; 2]) -> Shop {
    let mut shop = Shop::of(&[origins[0].address, origins[1].address]);
    shop.upstream.health.passive = Some(OutlierPolicy {
        consecutive_errors: 2,
        consecutive_5xx: 0,
        error_percent: None,
        base_ejection: Duration::from_secs(60),
        max_ejection: Duration::from_secs(60),
        max_ejected: Percent::new(100).unwrap(),
    });
    shop
}

fn peer(hale: &Hale) -> PeerReport {
    hale.dataplane.report().upstreams.remove(0).peers.remove(0)
}

fn assert_exceeded(response: &Response<Bytes>, reason: &str) {
    let told = (
        response.status(),
        header(response, "grpc-status"),
        header(response, "x-hale-reason"),
    );
    assert_eq!(told, (StatusCode::OK, "4", reason));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_deadline_says_nothing_of_the_peer() {
    let origins = [mute().await, mute().await];
    let hale = strict(&origins).serve();
    for timeout in ["1n", "20m", "20m", "20m", "20m", "20m", "20m"] {
        assert_exceeded(&hale.send(call(timeout)).await, "UpstreamTimeout");
    }
    for found in hale.dataplane.report().upstreams.remove(0).peers {
        assert!(found.requests > 0);
        assert_eq!((found.standing, found.reason), (Standing::Serve, None));
        assert_eq!((found.ejection, found.last_error), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_peer_says_that_it_does_not_answer() {
    let origins = [mute().await, mute().await];
    let mut shop = strict(&origins);
    shop.policy.timeouts.backend_request = Some(Duration::from_millis(20));
    let hale = shop.serve();
    until("a peer is ejected", async || {
        assert_exceeded(&hale.send(call("9S")).await, "UpstreamTimeout");
        let upstream = hale.dataplane.report().upstreams.remove(0);
        upstream.peers.iter().any(|peer| peer.ejection.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_while_connecting_is_the_callers() {
    let (address, _keep) = black_hole().await;
    let mut shop = Shop::of(&[address]);
    shop.policy.timeouts.connect = Some(Duration::from_secs(60));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        shop.upstream.protocol = protocol;
        let hale = shop.serve();
        let calls = [hale.send(call("50m")), hale.send(call("50m"))];
        for response in futures::future::join_all(calls).await {
            assert_exceeded(&response, "UpstreamTimeout");
        }
        assert_eq!(peer(&hale).reason, None, "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_in_the_queue_is_the_callers() {
    let origin = mute().await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.max_parallel_requests = Some(1);
    shop.upstream.limits.queue.timeout = Duration::from_secs(60);
    let hale = Arc::new(shop.serve());
    let first = Arc::clone(&hale);
    let first = tokio::spawn(async move { first.get("/").await });
    until("the peer has a request", async || {
        peer(&hale).in_flight == 1
    })
    .await;
    assert_exceeded(&hale.send(call("50m")).await, "QueueTimeout");
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_calls_of_grpc_have_a_grpc_timeout() {
    let origin = mute().await;
    let mut shop = Shop::of(&[origin.address]);
    shop.policy.timeouts.backend_request = Some(Duration::from_millis(50));
    let hale = shop.serve();
    let mut plain = request("GET", "/", "");
    let timeout = "1n".parse().unwrap();
    plain.headers_mut().insert("grpc-timeout", timeout);
    let response = hale.send(plain).await;
    let told = text(&response);
    assert!(told.contains("no response within 50ms"), "{told}");
}

/// Resets connections, and later takes every request and answers none.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_ends_by_the_callers_deadline_decides_nothing() {
    let resets = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&resets);
    let ill = Origin::raw(move |mut stream, _| {
        let state = Arc::clone(&state);
        async move {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                if state.load(Ordering::SeqCst) {
                    return;
                }
            }
        }
    })
    .await;
    let mut shop = strict(&[ill, Origin::saying("fine").await]);
    let passive = shop.upstream.health.passive.as_mut().unwrap();
    passive.base_ejection = Duration::from_millis(100);
    let hale = shop.serve();
    until("it is ejected", async || {
        hale.get("/").await;
        peer(&hale).ejection.is_some()
    })
    .await;
    resets.store(false, Ordering::SeqCst);
    for trial in 1..=3 {
        let before = peer(&hale).requests;
        until("it had its trial", async || {
            hale.send(call("30m")).await;
            peer(&hale).requests > before
        })
        .await;
        let ejection = peer(&hale).ejection.unwrap();
        assert_eq!(ejection.times, 1, "trial {trial}");
    }
}

/// The wait that was drawn counts, not the least that it could have been.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_another_try_beyond_the_deadline() {
    let origin = Origin::http1(|_| async {
        let mut response = Response::new(Full::new(Bytes::from_static(b"busy")));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    let mut retry = retries::policy();
    retry.backoff = Duration::from_secs(1_000_000);
    shop.policy.retry = Some(retry);
    shop.policy.timeouts.request = Some(Duration::from_secs(5));
    let hale = shop.serve();
    let response = tokio::time::timeout(Duration::from_secs(3), hale.get("/")).await;
    assert_eq!(response.expect("at once").body(), "busy");
}

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_of_a_websocket_has_the_limits_of_a_request() {
    let origin = mute().await;
    let short = Some(Duration::from_millis(50));
    let mut by_request = Shop::of(&[origin.address]);
    by_request.policy.timeouts.request = short;
    let mut by_try = Shop::of(&[origin.address]);
    by_try.policy.retry = Some(Retry {
        per_try_timeout: short,
        ..retries::policy()
    });
    for shop in [by_request, by_try] {
        let hale = shop.serve();
        let mut client = TcpStream::connect(hale.address).await.unwrap();
        client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        assert!(
            answer.contains("x-hale-reason: UpstreamTimeout"),
            "{answer}"
        );
    }
}
