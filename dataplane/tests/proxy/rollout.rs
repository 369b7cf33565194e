//! What a rollout does to connections: they close, drain and refuse, and no request is lost for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hale_dataplane::config::{Protocol, Readiness};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Origin, Shop, request, text, until};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The server's side of HTTP/2, frame by frame.
struct Frames(TcpStream);

impl Frames {
    async fn accept(mut stream: TcpStream) -> Self {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        let mut frames = Self(stream);
        frames.write(SETTINGS, 0, 0, &[]).await;
        frames
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        let _ = self.0.write_all(&frame).await;
    }

    /// The next stream whose request is complete; `None` when the client has gone.
    async fn request(&mut self) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            match (head[3], head[4]) {
                (SETTINGS, flags) if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
                (DATA | HEADERS, flags) if flags & END_STREAM != 0 => return Some(stream),
                _ => {}
            }
        }
    }

    /// 200 without a body.
    async fn answer(&mut self, stream: u32) {
        self.write(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88])
            .await;
    }

    async fn answer_all(&mut self, executed: &AtomicUsize) {
        while let Some(stream) = self.request().await {
            executed.fetch_add(1, Ordering::SeqCst);
            self.answer(stream).await;
        }
    }
}

fn http2(origin: &Origin) -> Shop {
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goaway_sends_the_streams_above_it_elsewhere_and_lets_those_below_finish() {
    let executed = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&executed);
    let origin = Origin::raw(move |stream, number| {
        let counter = Arc::clone(&counter);
        async move {
            let mut frames = Frames::accept(stream).await;
            if number == 0 {
                let first = frames.request().await.unwrap();
                let second = frames.request().await.unwrap();
                let (low, high) = (first.min(second), first.max(second));
                assert!(low < high);
                let no_error = [low.to_be_bytes(), [0; 4]].concat();
                frames.write(GOAWAY, 0, 0, &no_error).await;
                counter.fetch_add(1, Ordering::SeqCst);
                frames.answer(low).await;
            }
            frames.answer_all(&counter).await;
        }
    })
    .await;
    let hale = http2(&origin).serve();
    let (one, two) = tokio::join!(
        hale.send(request("POST", "/", "pay")),
        hale.send(request("POST", "/", "pay"))
    );
    assert_eq!(
        (one.status(), two.status()),
        (StatusCode::OK, StatusCode::OK)
    );
    assert_eq!(executed.load(Ordering::SeqCst), 2, "each once");
    assert_eq!(origin.connections(), 2);
}

/// A POST whose stream is reset with this code on the first connection: the answer, and how many streams the
/// peer saw.
async fn reset_with(code: u32) -> (StatusCode, usize) {
    let executed = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&executed);
    let origin = Origin::raw(move |stream, number| {
        let counter = Arc::clone(&counter);
        async move {
            let mut frames = Frames::accept(stream).await;
            if number == 0 {
                let stream = frames.request().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                frames
                    .write(RST_STREAM, 0, stream, &code.to_be_bytes())
                    .await;
            }
            frames.answer_all(&counter).await;
        }
    })
    .await;
    let hale = http2(&origin).serve();
    let status = hale.send(request("POST", "/", "pay")).await.status();
    (status, executed.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_tried_again_and_no_other_reset_of_a_post() {
    let refused_stream = 7;
    assert_eq!(reset_with(refused_stream).await, (StatusCode::OK, 2));
    let internal_error = 2;
    assert_eq!(
        reset_with(internal_error).await,
        (StatusCode::BAD_GATEWAY, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_http2_peer_finishes_its_streams_and_gets_no_more() {
    let (under_way, go) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
    let (counter, gate) = (Arc::clone(&under_way), Arc::clone(&go));
    let draining = Origin::http2(move |_| {
        let (counter, gate) = (Arc::clone(&counter), Arc::clone(&gate));
        async move {
            counter.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
            Response::new(Full::new(Bytes::from_static(b"old")))
        }
    })
    .await;
    let other =
        Origin::http2(|_| async { Response::new(Full::new(Bytes::from_static(b"new"))) }).await;
    let mut shop = http2(&draining);
    let hale = Arc::new(shop.serve());
    let caller = Arc::clone(&hale);
    let slow = tokio::spawn(async move { caller.get("/").await });
    until("it is under way", async || {
        under_way.load(Ordering::SeqCst) == 1
    })
    .await;
    shop.upstream.peers[0].readiness = Readiness::Draining;
    shop.upstream
        .peers
        .extend(Shop::of(&[other.address]).upstream.peers);
    hale.dataplane.publish(shop.config());
    for _ in 0..10 {
        assert_eq!(text(&hale.get("/").await), "new");
    }
    go.add_permits(1);
    assert_eq!(text(&slow.await.unwrap()), "old");
    assert_eq!(under_way.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_says_how_long_it_keeps_idle_connections() {
    let origin = Origin::http1(|request: Request<Incoming>| async move {
        let seconds = request.uri().path().trim_start_matches('/');
        Response::builder()
            .header("keep-alive", format!("timeout={seconds}, max=100"))
            .body(Full::default())
            .unwrap()
    })
    .await;
    let hale = Shop::of(&[origin.address]).serve();
    for _ in 0..5 {
        hale.get("/1").await;
    }
    assert_eq!(origin.connections(), 5, "a second less than one is nothing");
    for _ in 0..5 {
        hale.get("/60").await;
    }
    assert_eq!(origin.connections(), 6);
}

/// Answers requests, and closes a connection that is idle for so long. Counts the ids that it was sent.
async fn impatient(idle: Duration, seen: Arc<Mutex<HashMap<String, usize>>>) -> Origin {
    Origin::raw(move |mut stream, _| {
        let seen = Arc::clone(&seen);
        async move {
            let mut buffer = [0; 4096];
            loop {
                let read = tokio::time::timeout(idle, stream.read(&mut buffer)).await;
                let Ok(Ok(size @ 1..)) = read else { return };
                let head = String::from_utf8_lossy(&buffer[..size]).into_owned();
                let path = head.split(' ').nth(1).unwrap().to_owned();
                *seen.lock().unwrap().entry(path).or_default() += 1;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_close_idle_connections_just_when_the_next_burst_comes_lose_nothing() {
    const PAUSE: Duration = Duration::from_millis(600);
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let origins = [
        impatient(PAUSE, Arc::clone(&seen)).await,
        impatient(PAUSE, Arc::clone(&seen)).await,
    ];
    let hale = Shop::of(&[origins[0].address, origins[1].address]).serve();
    let mut bursts = tokio::time::interval(PAUSE);
    let (mut gets, mut posts) = (Vec::new(), Vec::new());
    for burst in 0..6 {
        bursts.tick().await;
        let calls = (0..30).map(|number| {
            let method = if number % 3 == 0 { "POST" } else { "GET" };
            let path = format!("/{method}/{burst}/{number}");
            let call = hale.send(request(method, &path, ""));
            async move { (method, call.await) }
        });
        for (method, response) in futures::future::join_all(calls).await {
            let outcome = response.status().as_u16();
            if method == "GET" {
                gets.push(outcome);
            } else {
                posts.push(outcome);
            }
        }
    }
    assert!(gets.iter().all(|status| *status == 200), "{gets:?}");
    // None of them met a connection that was idle for nearly as long as its peer allows.
    assert!(posts.iter().all(|status| *status == 200), "{posts:?}");
    let seen = seen.lock().unwrap();
    let twice: Vec<_> = seen
        .iter()
        .filter(|(path, count)| path.starts_with("/POST/") && **count > 1)
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_never_meets_a_connection_that_was_closed_before() {
    let closed = Arc::new(Semaphore::new(0));
    let signal = Arc::clone(&closed);
    let origin = Origin::raw(move |mut stream, _| {
        let signal = Arc::clone(&signal);
        async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
            drop(stream);
            signal.add_permits(1);
        }
    })
    .await;
    let hale = Shop::of(&[origin.address]).serve();
    for _ in 0..50 {
        let response = hale.send(request("POST", "/", "pay")).await;
        assert_eq!(response.status(), StatusCode::OK);
        closed.acquire().await.unwrap().forget();
    }
    assert_eq!(origin.connections(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_survives_until_its_pod_closes_it() {
    let origin = Origin::raw(|stream, _| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            match message.to_text() {
                Ok("bye") => {
                    let _ = socket.close(None).await;
                }
                Ok(_) if message.is_text() => socket.send(message).await.unwrap(),
                _ => {}
            }
        }
    })
    .await;
    let other = Origin::saying("new").await;
    let mut shop = Shop::of(&[origin.address]);
    let hale = shop.serve();
    let stream = TcpStream::connect(hale.address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://shop.test/chat", stream)
        .await
        .unwrap();
    let mut changes = hale.dataplane.changes();
    let mut publish = async |shop: &Shop| {
        changes.mark_unchanged();
        hale.dataplane.publish(shop.config());
        changes.changed().await.unwrap();
    };
    shop.upstream
        .peers
        .extend(Shop::of(&[other.address]).upstream.peers);
    for readiness in [Readiness::Draining, Readiness::Gone] {
        shop.upstream.peers[0].readiness = readiness;
        publish(&shop).await;
        assert_eq!(text(&hale.get("/").await), "new");
        let sent = Message::text(format!("{readiness:?}"));
        socket.send(sent.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), sent);
    }
    shop.upstream.peers.remove(0);
    publish(&shop).await;
    assert_eq!(text(&hale.get("/").await), "new");
    let sent = Message::text("still here");
    socket.send(sent.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), sent);
    socket.send(Message::text("bye")).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_close());
}
