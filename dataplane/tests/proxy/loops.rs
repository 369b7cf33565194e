//! Requests that come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hale_dataplane::config::{NonIdempotent, OutlierPolicy, Retry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    support::{Hale, Origin, Shop},
    wire::{Recorder, get, status, talk, values},
};

fn eager() -> Retry {
    Retry {
        attempts: 3,
        codes: vec![500, 502, 503, 504, 508],
        backoff: Duration::ZERO,
        non_idempotent: NonIdempotent::Always,
        ..crate::retries::policy()
    }
}

/// A Hale whose two peers hand every connection to it again, and how many there were.
async fn circle(change: impl FnOnce(&mut Shop)) -> (Hale, Arc<AtomicUsize>) {
    let hale = Hale::start(hale_dataplane::config::Config::default());
    let address = hale.address;
    let passed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&passed);
    // HTTP/1 without pipelining: each request is one burst of bytes to the peer.
    let circle = move |mut stream: TcpStream, _| {
        let count = Arc::clone(&count);
        async move {
            let mut back = TcpStream::connect(address).await.unwrap();
            let (mut read, mut write) = stream.split();
            let (mut back_read, mut back_write) = back.split();
            let there = async {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(read) = read.read(&mut bytes).await
                    && read > 0
                {
                    let heads = String::from_utf8_lossy(&bytes[..read]);
                    count.fetch_add(heads.matches(" HTTP/1.1\r\n").count(), Ordering::SeqCst);
                    if back_write.write_all(&bytes[..read]).await.is_err() {
                        return;
                    }
                }
            };
            let and_back = tokio::io::copy(&mut back_read, &mut write);
            tokio::select! { () = there => {}, _ = and_back => {} }
        }
    };
    let peers = [Origin::raw(circle.clone()).await, Origin::raw(circle).await];
    let mut shop = Shop::of(&peers.map(|peer| peer.address));
    change(&mut shop);
    hale.dataplane.publish(shop.config());
    (hale, passed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_goes_in_circles_ends_after_eight_passes() {
    for retries in [false, true] {
        let (hale, passed) = circle(|shop| {
            shop.policy.retry = retries.then(eager);
            shop.upstream.health.passive = Some(OutlierPolicy {
                consecutive_5xx: 1,
                ..crate::outlier::passive()
            });
        })
        .await;
        for target in ["/", "/x%2Fy//z"] {
            let before = passed.load(Ordering::SeqCst);
            let response = talk(&hale, get(target, "")).await;
            assert_eq!(status(&response), "508", "{response}");
            assert_eq!(passed.load(Ordering::SeqCst) - before, 8, "{retries}");
        }
        let post = "POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
        assert_eq!(status(&talk(&hale, post).await), "508");
        let websocket = "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                         sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        let handshake =
            format!("GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\n{websocket}\r\n");
        let mut stream = TcpStream::connect(hale.address).await.unwrap();
        stream.write_all(handshake.as_bytes()).await.unwrap();
        let answer = crate::wire::read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(status(&answer), "508", "{answer}");
        let report = hale.dataplane.report();
        assert_eq!(report.upstreams[0].serving, 2);
        let peers = &report.upstreams[0].peers;
        let ejected = peers.iter().any(|peer| peer.ejection.is_some());
        assert!(!ejected, "508 blames no peer");
    }
}

/// What fails behind a circle is not asked for as often as all passes together would.
#[tokio::test(flavor = "multi_thread")]
async fn retries_do_not_multiply_from_pass_to_pass() {
    let recorder = Recorder::answering("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await;
    let mut shop = Shop::of(&[recorder.origin.address]);
    shop.policy.retry = Some(eager());
    let hale = shop.serve();
    for (passes, wanted) in [(0, 4), (1, 4), (2, 1), (7, 1)] {
        let before = recorder.seen().len();
        let lines = "cdn-loop: hale\r\n".repeat(passes);
        assert_eq!(status(&talk(&hale, get("/", &lines)).await), "503");
        assert_eq!(recorder.seen().len() - before, wanted, "{passes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_are_counted_by_our_name_and_no_client_takes_them_away() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for (lines, wanted) in [
        (
            "cdn-loop: other; loops=9, hale\r\n",
            &["other; loops=9, hale", "hale"][..],
        ),
        (
            "connection: cdn-loop\r\ncdn-loop: hale\r\n",
            &["hale", "hale"],
        ),
    ] {
        let response = talk(&hale, get("/", lines)).await;
        assert_eq!(status(&response), "200");
        let request = recorder.seen().pop().unwrap();
        assert_eq!(values(&request, "cdn-loop"), wanted, "{request}");
    }
    let many = format!("cdn-loop: {}\r\n", "hale,".repeat(8));
    let response = talk(&hale, get("/", &many)).await;
    assert_eq!(status(&response), "508");
    assert_eq!(values(&response, "x-hale-reason"), ["LoopDetected"]);
    let hale = Hale::with(Shop::of(&[recorder.origin.address]).config(), |options| {
        options.via = true;
    });
    talk(&hale, get("/", "")).await;
    let request = recorder.seen().pop().unwrap();
    assert_eq!(values(&request, "via"), ["1.1 hale"]);
}
