//! What is at its limit is passed over or waited for, in turn, and never for long.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hale_dataplane::{
    config::{Problem, Protocol},
    prometheus_client::{encoding::text::encode, registry::Registry},
    reason::Reason,
    report::WhyRequest,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Hale, Origin, Shop, ready, request, text, until};

/// An origin that answers when it is let, with the path.
#[derive(Clone)]
struct Held {
    let_go: Arc<Semaphore>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Held {
    fn new() -> Self {
        Self {
            let_go: Arc::new(Semaphore::new(0)),
            seen: Arc::default(),
        }
    }

    fn script(
        &self,
    ) -> impl Fn(Request<Incoming>) -> futures::future::BoxFuture<'static, Response<Full<Bytes>>>
    + Clone
    + Send
    + Sync
    + 'static {
        let held = self.clone();
        move |request| {
            let held = held.clone();
            Box::pin(async move {
                let path = request.uri().path().to_owned();
                held.seen.lock().unwrap().push(path.clone());
                held.let_go.acquire().await.unwrap().forget();
                Response::new(Full::new(Bytes::from(path)))
            })
        }
    }

    fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    async fn has(&self, count: usize) {
        until("the requests are with the origin", async || {
            self.seen() == count
        })
        .await;
    }
}

impl Hale {
    /// Sends a GET beside the test.
    fn go(self: &Arc<Self>, path: &'static str) -> JoinHandle<Response<Bytes>> {
        let hale = Arc::clone(self);
        tokio::spawn(async move { hale.get(path).await })
    }

    /// The value of a metric of the upstream, 0 if it is not there.
    fn metric(&self, name: &str, labels: &str) -> u64 {
        let mut registry = Registry::default();
        self.dataplane.register_metrics(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let start = format!("{name}{{upstream=\"shop/web:http\"{labels}}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.map_or(0, |value| value.parse().unwrap())
    }

    async fn waiting(&self, count: u64) {
        until("requests wait", async || {
            self.metric("hale_upstream_waiting", "") == count
        })
        .await;
    }

    fn waits(&self, result: &str) -> u64 {
        let labels = format!(",result=\"{result}\"");
        self.metric("hale_upstream_waits_total", &labels)
    }
}

fn patient(shop: &mut Shop) {
    shop.upstream.limits.queue.timeout = Duration::from_secs(30);
}

fn reason(response: &Response<Bytes>) -> &str {
    response.headers()["x-hale-reason"].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_at_its_limit_is_passed_over() {
    let held = Held::new();
    let slow = Origin::http1(held.script()).await;
    let free = Origin::saying("free").await;
    let mut shop = Shop::of(&[slow.address, free.address]);
    shop.upstream.limits.peer_max_parallel_requests = Some(1);
    let hale = Arc::new(shop.serve());
    let calls: Vec<_> = (0..2).map(|_| hale.go("/slow")).collect();
    held.has(1).await;
    for _ in 0..20 {
        assert_eq!(text(&hale.get("/").await), "free");
    }
    let report = hale.dataplane.report();
    let peers = &report.upstreams[0].peers;
    let peer = peers.iter().find(|peer| peer.address == slow.address);
    let peer = peer.unwrap();
    assert_eq!(peer.reason, Some(Reason::Saturated));
    assert_eq!(peer.message, "1 of 1 requests in flight");
    held.let_go.add_permits(2);
    for call in calls {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(held.seen(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_are_served_in_turn() {
    let held = Held::new();
    let origin = Origin::http1(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.max_parallel_requests = Some(1);
    patient(&mut shop);
    let hale = Arc::new(shop.serve());
    let paths = ["/0", "/1", "/2", "/3", "/4"];
    let mut calls = Vec::new();
    for (number, path) in (0..).zip(paths) {
        calls.push(hale.go(path));
        held.has(1).await;
        hale.waiting(number).await;
    }
    for done in 1..=paths.len() {
        held.has(done).await;
        held.let_go.add_permits(1);
    }
    for call in calls {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(*held.seen.lock().unwrap(), paths);
    assert_eq!((hale.waits("served"), hale.waits("refused")), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_says_what_is_full() {
    let held = Held::new();
    let origin = Origin::http1(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.max_parallel_requests = Some(1);
    shop.upstream.limits.peer_max_parallel_requests = Some(1);
    shop.upstream.limits.queue.max = 1;
    patient(&mut shop);
    let hale = Arc::new(shop.serve());
    let first = hale.go("/first");
    held.has(1).await;
    let second = hale.go("/second");
    hale.waiting(1).await;
    let asked = WhyRequest {
        https: false,
        host: "shop.test".into(),
        path: "/".into(),
    };
    let told = "1/1 peers serve; 1 of 1 requests in flight, 1 waiting";
    assert_eq!(hale.dataplane.why(&asked).unwrap().message, told);
    let third = hale.get("/third").await;
    assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reason(&third), "CircuitOpen");
    assert_eq!(third.headers()["retry-after"], "1");
    let said = text(&third);
    assert!(said.contains(r#""Saturated":1"#), "{said}");
    assert!(
        said.contains("1 of 1 requests in flight, 1 of 1 waiting"),
        "{said}"
    );
    held.let_go.add_permits(2);
    for call in [first, second] {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!((hale.waits("served"), hale.waits("refused")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_queue_nobody_waits() {
    let held = Held::new();
    let origin = Origin::http1(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.peer_max_parallel_requests = Some(1);
    shop.upstream.limits.queue.max = 0;
    patient(&mut shop);
    let hale = Arc::new(shop.serve());
    let first = hale.go("/");
    held.has(1).await;
    assert_eq!(reason(&hale.get("/").await), "CircuitOpen");
    held.let_go.add_permits(2);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(hale.get("/").await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_the_queue_says() {
    let held = Held::new();
    let origin = Origin::http1(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.peer_max_parallel_requests = Some(1);
    shop.upstream.limits.queue.timeout = Duration::from_millis(50);
    let hale = Arc::new(shop.serve());
    let first = hale.go("/");
    held.has(1).await;
    let second = hale.get("/").await;
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(reason(&second), "QueueTimeout");
    let said = text(&second);
    assert!(said.contains(r#""Saturated":1"#), "{said}");
    assert!(said.contains("no room within 50ms"), "{said}");
    assert!(said.contains("1 of 1 requests in flight"), "{said}");
    assert_eq!(hale.waits("timeout"), 1);
    held.let_go.add_permits(1);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_gives_its_place_back() {
    let held = Held::new();
    let origin = Origin::http1(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.max_parallel_requests = Some(1);
    patient(&mut shop);
    let hale = Arc::new(shop.serve());
    let begin = async |path: &str| {
        let mut client = TcpStream::connect(hale.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client
    };
    let served = begin("/served").await;
    held.has(1).await;
    let waits = begin("/waits").await;
    hale.waiting(1).await;
    let last = hale.go("/last");
    hale.waiting(2).await;
    drop(waits);
    hale.waiting(1).await;
    assert_eq!(hale.waits("left"), 1);
    drop(served);
    held.has(2).await;
    held.let_go.add_permits(2);
    assert_eq!(text(&last.await.unwrap()), "/last");
    assert_eq!(*held.seen.lock().unwrap(), ["/served", "/last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_peer_is_waited_for() {
    let origin = Origin::saying("here").await;
    let mut shop = Shop::of(&[]);
    shop.upstream.problem = Some(Problem {
        reason: Reason::NoEndpoints,
        message: "Service shop/web has no endpoints".into(),
    });
    patient(&mut shop);
    let hale = Arc::new(shop.serve());
    let calls = [hale.go("/"), hale.go("/"), hale.go("/")];
    hale.waiting(3).await;
    // Another change is none that helps.
    shop.policy.timeouts.idle = None;
    hale.dataplane.publish(shop.config());
    hale.waiting(3).await;
    shop.upstream.problem = None;
    shop.upstream.peers = vec![ready(origin.address)];
    hale.dataplane.publish(shop.config());
    for call in calls {
        assert_eq!(text(&call.await.unwrap()), "here");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lasting_outage_is_answered_at_once() {
    let mut shop = Shop::of(&[]);
    shop.upstream.limits.queue.timeout = Duration::from_millis(50);
    let hale = shop.serve();
    until("the outage lasts", async || {
        let before = hale.waits("timeout");
        let response = hale.get("/").await;
        assert_eq!(reason(&response), "NoEligiblePeer");
        hale.waits("timeout") == before
    })
    .await;
    // A change of what is served does not make it a new one.
    shop.policy.timeouts.idle = None;
    shop.upstream.limits.queue.max = 7;
    hale.dataplane.publish(shop.config());
    let before = hale.waits("timeout");
    assert_eq!(reason(&hale.get("/").await), "NoEligiblePeer");
    assert_eq!(hale.waits("timeout"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_is_not_waited_for() {
    let mut shop = Shop::of(&[]);
    shop.upstream.problem = Some(Problem {
        reason: Reason::PortNotFound,
        message: "Service shop/web has no port http".into(),
    });
    patient(&mut shop);
    let hale = shop.serve();
    assert_eq!(reason(&hale.get("/").await), "PortNotFound");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_and_used_in_turn() {
    let held = Held::new();
    let origin = Origin::http1(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.peer_max_connections = Some(1);
    patient(&mut shop);
    let hale = Arc::new(shop.serve());
    let calls: Vec<_> = (0..5).map(|_| hale.go("/")).collect();
    held.has(1).await;
    hale.waiting(4).await;
    let report = hale.dataplane.report();
    let peer = &report.upstreams[0].peers[0];
    assert_eq!(peer.reason, Some(Reason::Saturated));
    assert_eq!(peer.message, "1 of 1 connections in use");
    held.let_go.add_permits(5);
    for call in calls {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_over_all_workers() {
    let origins = [Origin::saying("a").await, Origin::saying("b").await];
    let mut shop = Shop::of(&[origins[0].address, origins[1].address]);
    shop.upstream.limits.max_connections = Some(1);
    patient(&mut shop);
    let hale = Arc::new(Hale::with(shop.config(), |options| options.workers = 4));
    for _ in 0..60 {
        assert_eq!(hale.get("/").await.status(), StatusCode::OK);
    }
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        let hale = Arc::clone(&hale);
        calls.spawn(async move { hale.get("/").await.status() });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_a_connection_and_a_request_while_it_lives() {
    let origin = Origin::raw(|mut stream, _| async move {
        let mut start = [0; 7];
        stream.peek(&mut start).await.unwrap();
        if &start == b"GET /ws" {
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() {
                    socket.send(message).await.unwrap();
                }
            }
        } else {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let mut buffer = [0; 4096];
            while tokio::io::AsyncReadExt::read(&mut stream, &mut buffer)
                .await
                .is_ok_and(|length| length > 0)
            {
                stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await;
    for connections in [false, true] {
        let mut shop = Shop::of(&[origin.address]);
        let limits = &mut shop.upstream.limits;
        match connections {
            true => limits.max_connections = Some(1),
            false => limits.max_parallel_requests = Some(1),
        }
        let hale = shop.serve();
        // Its kept connection is closed for the socket's.
        assert_eq!(text(&hale.get("/").await), "ok");
        let stream = TcpStream::connect(hale.address).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async("ws://shop.test/ws", stream)
            .await
            .unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        assert_eq!(
            socket.next().await.unwrap().unwrap(),
            Message::text("hello")
        );
        shop.upstream.limits.queue.timeout = Duration::from_millis(50);
        hale.dataplane.publish(shop.config());
        assert_eq!(reason(&hale.get("/").await), "QueueTimeout");
        patient(&mut shop);
        hale.dataplane.publish(shop.config());
        drop(socket);
        assert_eq!(text(&hale.get("/").await), "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_peers_have_limits_too() {
    let held = Held::new();
    let origin = Origin::http2(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    shop.upstream.limits.max_connections = Some(1);
    shop.upstream.limits.max_parallel_requests = Some(2);
    patient(&mut shop);
    let hale = Arc::new(shop.serve());
    let calls: Vec<_> = (0..4).map(|_| hale.go("/")).collect();
    held.has(2).await;
    hale.waiting(2).await;
    held.let_go.add_permits(4);
    for call in calls {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_learns_of_a_full_queue_in_its_own_words() {
    let held = Held::new();
    let origin = Origin::http1(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.max_parallel_requests = Some(1);
    shop.upstream.limits.queue.max = 0;
    let hale = Arc::new(shop.serve());
    let first = hale.go("/");
    held.has(1).await;
    let mut call = request("POST", "/greeter/Hello", "");
    let grpc = http::HeaderValue::from_static("application/grpc");
    call.headers_mut().insert("content-type", grpc);
    let response = hale.send(call).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "14");
    assert_eq!(reason(&response), "CircuitOpen");
    held.let_go.add_permits(1);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_limits_hold_for_those_who_wait() {
    let held = Held::new();
    let origin = Origin::http1(held.script()).await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.limits.max_parallel_requests = Some(1);
    patient(&mut shop);
    let hale = Arc::new(shop.serve());
    let calls: Vec<_> = (0..3).map(|_| hale.go("/")).collect();
    hale.waiting(2).await;
    shop.upstream.limits.max_parallel_requests = Some(3);
    hale.dataplane.publish(shop.config());
    held.has(3).await;
    held.let_go.add_permits(3);
    for call in calls {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
}

/// Many clients, several workers, each limit at once: nobody is forgotten in the queue, and no origin ever has
/// more than its limit.
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_nobody_is_forgotten_under_load() {
    // Of all origins together, and of one.
    let most = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let all = Arc::new(AtomicUsize::new(0));
    let mut origins = Vec::new();
    for _ in 0..3 {
        let (most, all) = (Arc::clone(&most), Arc::clone(&all));
        let here = Arc::new(AtomicUsize::new(0));
        let origin = Origin::http1(move |_| {
            let (most, all, here) = (Arc::clone(&most), Arc::clone(&all), Arc::clone(&here));
            async move {
                let together = all.fetch_add(1, Ordering::SeqCst) + 1;
                let at_once = here.fetch_add(1, Ordering::SeqCst) + 1;
                most.0.fetch_max(together, Ordering::SeqCst);
                most.1.fetch_max(at_once, Ordering::SeqCst);
                tokio::task::yield_now().await;
                here.fetch_sub(1, Ordering::SeqCst);
                all.fetch_sub(1, Ordering::SeqCst);
                Response::new(Full::new(Bytes::from_static(b"ok")))
            }
        });
        origins.push(origin.await);
    }
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let mut shop = Shop::of(&addresses);
    shop.upstream.limits.max_parallel_requests = Some(4);
    shop.upstream.limits.peer_max_parallel_requests = Some(2);
    shop.upstream.limits.max_connections = Some(5);
    shop.upstream.limits.queue.max = 1000;
    patient(&mut shop);
    let hale = Arc::new(Hale::with(shop.config(), |options| options.workers = 4));
    let mut calls = JoinSet::new();
    for _ in 0..400 {
        let hale = Arc::clone(&hale);
        calls.spawn(async move { hale.get("/").await.status() });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert!(most.0.load(Ordering::SeqCst) <= 4);
    assert!(most.1.load(Ordering::SeqCst) <= 2);
    hale.waiting(0).await;
    assert!(hale.waits("served") > 0);
    assert_eq!(hale.waits("timeout") + hale.waits("refused"), 0);
}
