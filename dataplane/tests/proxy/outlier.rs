//! Peers that are ejected for what they answer requests with, and the one request that brings them back.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hale_dataplane::{
    config::{ErrorPercent, OutlierPolicy, Percent, Readiness},
    health::Standing,
    reason::Reason,
    report::PeerReport,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Hale, Origin, Shop, dead, request, text, until};

/// A peer that answers every second request, or each, with 500 while it is ill.
struct Flaky {
    origin: Origin,
    ill: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl Flaky {
    async fn new(ill: bool, each: usize) -> Self {
        let ill = Arc::new(AtomicBool::new(ill));
        let requests = Arc::new(AtomicUsize::new(0));
        let (state, counter) = (Arc::clone(&ill), Arc::clone(&requests));
        let origin = Origin::http1(move |_| {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            let fails = state.load(Ordering::SeqCst) && number.is_multiple_of(each);
            async move {
                let mut response = Response::new(Full::new(Bytes::from_static(b"fine")));
                if fails {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                response
            }
        })
        .await;
        Self {
            origin,
            ill,
            requests,
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

pub(crate) fn passive() -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: 5,
        consecutive_5xx: 0,
        error_percent: None,
        base_ejection: Duration::from_millis(100),
        max_ejection: Duration::from_secs(300),
        max_ejected: Percent::new(50).unwrap(),
    }
}

fn half() -> OutlierPolicy {
    OutlierPolicy {
        error_percent: Some(ErrorPercent {
            threshold: Percent::new(40).unwrap(),
            min_requests: 10,
            window: Duration::from_secs(10),
        }),
        ..passive()
    }
}

fn shop(peers: &[SocketAddr], passive: OutlierPolicy) -> Shop {
    let mut shop = Shop::of(peers);
    shop.upstream.health.passive = Some(passive);
    shop
}

fn peer(hale: &Hale, index: usize) -> PeerReport {
    hale.dataplane
        .report()
        .upstreams
        .remove(0)
        .peers
        .remove(index)
}

fn metrics(hale: &Hale) -> String {
    let mut registry = hale_dataplane::prometheus_client::registry::Registry::default();
    hale.dataplane.register_metrics(&mut registry);
    let mut metrics = String::new();
    hale_dataplane::prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_fails_half_of_the_time_is_out_until_one_request_succeeds() {
    let flaky = Flaky::new(true, 2).await;
    let (b, c) = (Flaky::new(false, 2).await, Flaky::new(false, 2).await);
    let addresses = [flaky.origin.address, b.origin.address, c.origin.address];
    let hale = shop(
        &addresses,
        OutlierPolicy {
            base_ejection: Duration::from_secs(3),
            ..half()
        },
    )
    .serve();
    until("the flaky peer is ejected", async || {
        hale.get("/").await;
        let report = peer(&hale, 0);
        report.reason == Some(Reason::Ejected) && !report.serving
    })
    .await;
    let report = peer(&hale, 0);
    assert_eq!(
        (report.standing, report.serving),
        (Standing::Exclude, false)
    );
    let words = " requests within 10s failed (HTTP 500 at last), out for 3s, until ";
    assert!(report.message.contains(words), "{}", report.message);
    let ejection = report.ejection.unwrap();
    assert_eq!((ejection.times, ejection.on_trial), (1, false));
    let name = "hale_ejections_total{upstream=\"shop/web:http\",rule=\"errorPercent\"} 1";
    assert!(metrics(&hale).contains(name), "{}", metrics(&hale));

    // Others serve, and nothing goes to it while it is out.
    let before = flaky.requests();
    for _ in 0..20 {
        assert_eq!(hale.get("/").await.status(), StatusCode::OK);
    }
    assert_eq!(flaky.requests(), before);
    assert_eq!((peer(&hale, 1).reason, peer(&hale, 2).reason), (None, None));

    flaky.ill.store(false, Ordering::SeqCst);
    until("it is on trial", async || {
        peer(&hale, 0).ejection.is_some_and(|it| it.on_trial)
    })
    .await;
    assert_eq!(hale.get("/").await.status(), StatusCode::OK);
    assert_eq!(
        flaky.requests(),
        before + 1,
        "the next request is the trial"
    );
    until("it is back", async || peer(&hale, 0).serving).await;
    assert_eq!(peer(&hale, 0).reason, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_fails_ejects_for_longer_and_costs_one_request() {
    let ill = Flaky::new(true, 1).await;
    let well = Flaky::new(false, 1).await;
    let hale = shop(
        &[ill.origin.address, well.origin.address],
        OutlierPolicy {
            consecutive_5xx: 3,
            ..passive()
        },
    )
    .serve();
    until("it is ejected", async || {
        hale.get("/").await;
        peer(&hale, 0).ejection.is_some()
    })
    .await;
    until("nothing goes there", async || !peer(&hale, 0).serving).await;
    let before = ill.requests();
    // Every trial fails with the request that it is; the time in between grows.
    let mut failed = 0;
    until("the third time", async || {
        failed += usize::from(hale.get("/").await.status() != StatusCode::OK);
        peer(&hale, 0).ejection.is_some_and(|it| it.times >= 3)
    })
    .await;
    until("the verdict is in force", async || !peer(&hale, 0).serving).await;
    assert_eq!(failed, ill.requests() - before);
    let message = peer(&hale, 0).message;
    let words = "the trial request failed (HTTP 500), out for ";
    assert!(message.starts_with(words), "{message}");

    // A policy without outlier detection ejects nobody.
    let shop = Shop::of(&[ill.origin.address, well.origin.address]);
    hale.dataplane.publish(shop.config());
    assert_eq!(peer(&hale, 0).standing, Standing::Serve);
    assert_eq!(peer(&hale, 0).ejection, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_eject_and_the_last_peer_stays() {
    let reset = Origin::raw(|mut stream, _| async move {
        stream.set_zero_linger().unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let well = Origin::saying("fine").await;
    let mut shop = shop(&[reset.address, well.address], passive());
    shop.upstream.health.passive.as_mut().unwrap().base_ejection = Duration::from_secs(60);
    let hale = shop.serve();
    until("it is ejected", async || {
        // A GET is tried again on the other peer.
        let get = tokio::time::timeout(Duration::from_secs(5), hale.get("/"));
        assert_eq!(text(&get.await.expect("an answer")), "fine");
        peer(&hale, 0).ejection.is_some()
    })
    .await;
    assert!(
        peer(&hale, 0).message.starts_with("5 errors in a row ("),
        "{}",
        peer(&hale, 0).message
    );
    // The other one fails as well now: nobody is left to serve instead of it.
    shop.upstream.peers.remove(1);
    let gone = dead().await;
    shop.upstream.peers.extend(Shop::of(&[gone]).upstream.peers);
    hale.dataplane.publish(shop.config());
    let dead = |hale: &Hale| {
        let peers = hale.dataplane.report().upstreams.remove(0).peers;
        peers.into_iter().find(|peer| peer.address == gone).unwrap()
    };
    for _ in 0..20 {
        assert_ne!(
            hale.send(request("POST", "/", "")).await.status(),
            StatusCode::OK
        );
    }
    assert_eq!(dead(&hale).reason, Some(Reason::ConnectRefused));
    assert_eq!(dead(&hale).standing, Standing::Serve);
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_break_off_eject() {
    let broken = Origin::raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun";
        let _ = stream.write_all(begun).await;
    })
    .await;
    let well = Origin::saying("fine").await;
    let mut shop = shop(&[broken.address, well.address], passive());
    shop.upstream.health.passive.as_mut().unwrap().base_ejection = Duration::from_secs(60);
    let hale = shop.serve();
    let mut broke_off = 0;
    until("it is ejected", async || {
        let mut client = tokio::net::TcpStream::connect(hale.address).await.unwrap();
        let get = b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
        client.write_all(get).await.unwrap();
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer).await;
        broke_off += usize::from(answer.ends_with("begun"));
        peer(&hale, 0).ejection.is_some()
    })
    .await;
    assert!(broke_off >= 5, "{broke_off}");
    let message = peer(&hale, 0).message;
    let words = "5 responses that broke off in a row (";
    assert!(message.starts_with(words), "{message}");
}

/// An ejected peer is better than none: it is tried before its time, by one request at a time.
#[tokio::test(flavor = "multi_thread")]
async fn when_no_other_is_left_an_ejected_peer_is_tried_early() {
    let ill = Flaky::new(true, 1).await;
    let well = Flaky::new(false, 1).await;
    let mut shop = shop(
        &[ill.origin.address, well.origin.address],
        OutlierPolicy {
            consecutive_5xx: 3,
            base_ejection: Duration::from_secs(60),
            ..passive()
        },
    );
    let hale = shop.serve();
    until("it is ejected", async || {
        hale.get("/").await;
        peer(&hale, 0).ejection.is_some()
    })
    .await;
    ill.ill.store(false, Ordering::SeqCst);
    shop.upstream.peers[1].readiness = Readiness::Unready;
    hale.dataplane.publish(shop.config());
    assert_eq!(
        hale.send(request("POST", "/", "")).await.status(),
        StatusCode::OK
    );
    until("it is back", async || peer(&hale, 0).serving).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_answer_well_are_never_ejected() {
    let peers = [
        Flaky::new(false, 1).await,
        Flaky::new(false, 1).await,
        Flaky::new(false, 1).await,
    ];
    let addresses = peers.each_ref().map(|peer| peer.origin.address);
    let hale = shop(
        &addresses,
        OutlierPolicy {
            consecutive_errors: 1,
            consecutive_5xx: 1,
            ..half()
        },
    )
    .serve();
    for _ in 0..100 {
        assert_eq!(hale.get("/").await.status(), StatusCode::OK);
        assert_eq!(
            hale.send(request("POST", "/", "body")).await.status(),
            StatusCode::OK
        );
    }
    let report = hale.dataplane.report();
    assert!(
        report.upstreams[0]
            .peers
            .iter()
            .all(|peer| peer.reason.is_none())
    );
    assert!(!metrics(&hale).contains("hale_ejections_total{"));
    assert!(metrics(&hale).contains("hale_upstream_panic{upstream=\"shop/web:http\"} 0"));
}

/// Ejected peers count in the panic threshold, and are served in a panic.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_panic_the_ejected_serve_too() {
    let ill = Flaky::new(true, 1).await;
    let well = Flaky::new(false, 1).await;
    let mut shop = shop(
        &[ill.origin.address, well.origin.address],
        OutlierPolicy {
            consecutive_5xx: 3,
            base_ejection: Duration::from_secs(60),
            ..passive()
        },
    );
    let hale = shop.serve();
    until("it is ejected", async || {
        hale.get("/").await;
        peer(&hale, 0).ejection.is_some()
    })
    .await;
    shop.upstream.health.panic_threshold = Percent::new(60).unwrap();
    hale.dataplane.publish(shop.config());
    let report = hale.dataplane.report().upstreams.remove(0);
    assert_eq!((report.panic, report.serving), (true, 2));
    assert!(metrics(&hale).contains("hale_upstream_panic{upstream=\"shop/web:http\"} 1"));
}
