//! HTTP/2 in small pieces: what one client sends, or does not read, is never felt by another stream.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use hale_dataplane::config::Protocol;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

use crate::{
    support::{Hale, Origin, Shop, until},
    wire::{Recorder, read_until},
};

type Boxed = BoxBody<Bytes, Infallible>;

/// A body of so many frames of one byte.
fn frames(count: usize) -> Boxed {
    let frames = (0..count).map(|_| Ok(Frame::data(Bytes::from_static(b"x"))));
    BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)))
}

fn empty() -> Boxed {
    BodyExt::boxed(Empty::new())
}

fn ask(method: &str, path: &str, body: Boxed) -> Request<Boxed> {
    let uri = format!("http://shop.test{path}");
    Request::builder()
        .method(method)
        .uri(uri)
        .body(body)
        .unwrap()
}

/// An origin that answers `/free` at once, and reads nothing else before it may.
async fn slow_reader(may: watch::Receiver<bool>) -> Origin {
    Origin::raw(move |mut stream, _| {
        let mut may = may.clone();
        async move {
            loop {
                let head = read_until(&mut stream, "\r\n\r\n").await;
                if !head.contains("/free") {
                    may.wait_for(|may| *may).await.unwrap();
                    // The body, by its end: other pieces may have come with the head.
                    let mut rest = Vec::new();
                    while !rest.ends_with(b"0\r\n\r\n") {
                        assert_ne!(stream.read_buf(&mut rest).await.unwrap(), 0);
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_single_bytes_that_its_pod_does_not_read_is_held_up_alone() {
    const PIECES: usize = 100_000;
    let (go, may) = watch::channel(false);
    let origin = slow_reader(may).await;
    let hale = Shop::of(&[origin.address]).serve();
    let sender = hale.http2::<Boxed>().await;
    let upload = tokio::spawn({
        let mut sender = sender.clone();
        async move {
            sender
                .send_request(ask("POST", "/held", frames(PIECES)))
                .await
        }
    });
    until("the upload to begin", async || origin.connections() == 1).await;
    for _ in 0..50 {
        let mut sender = sender.clone();
        let answer = sender
            .send_request(ask("GET", "/free", empty()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    }
    go.send(true).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), upload).await;
    assert_eq!(answer.unwrap().unwrap().unwrap().status(), 200);
}

/// Answers `/held` in single bytes without end, anything else at once.
async fn drips(request: Request<Incoming>) -> Result<Response<Boxed>, Infallible> {
    let body = match request.uri().path() {
        "/held" => frames(10_000_000),
        _ => empty(),
    };
    Ok(Response::new(body))
}

async fn dripping() -> Origin {
    Origin::raw(|stream, _| async move {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service_fn(drips))
            .await;
    })
    .await
}

fn shared(origin: &Origin) -> Hale {
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    shop.serve()
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_in_single_bytes_that_their_clients_do_not_read_leave_the_shared_connection_to_others()
 {
    let origin = dripping().await;
    let hale = shared(&origin);
    let mut unread = Vec::new();
    for _ in 0..4 {
        let mut sender = hale.http2::<Boxed>().await;
        let held = sender
            .send_request(ask("GET", "/held", empty()))
            .await
            .unwrap();
        unread.push((sender, held));
    }
    let other = hale.http2::<Boxed>().await;
    let mut rounds = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..200 {
        rounds.tick().await;
        let mut other = other.clone();
        let answer = other
            .send_request(ask("GET", "/free", empty()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(origin.connections(), 1, "the shared connection was lost");
    for (_sender, held) in unread {
        let mut pieces = held.into_body().into_data_stream();
        assert!(pieces.next().await.unwrap().is_ok());
    }
}

/// Each refused upload has DATA on its way when it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn refused_uploads_and_a_first_burst_of_streams_leave_the_connection() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let sender = hale.http2::<Boxed>().await;
    for _ in 0..300 {
        let mut sender = sender.clone();
        let refused = sender.send_request(ask("POST", "/%00", frames(40))).await;
        assert_eq!(refused.unwrap().status(), 400);
    }
    let mut sender = sender.clone();
    let answer = sender.send_request(ask("GET", "/", empty())).await.unwrap();
    assert_eq!(answer.status(), 200);
}
