//! Bodies that go both ways at once: silence is of both, and what a client does is not its peer's fault.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt, channel::mpsc};
use hale_dataplane::config::Protocol;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    outlier::passive,
    support::{Origin, Shop},
    wire::{read_to_end, read_until},
};

/// Answers at once, and says what it was told when its client has ended.
async fn patient() -> Origin {
    Origin::raw(|stream, _| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let all = futures::stream::once(request.into_body().collect());
            let all = all.map(|all| all.map(|all| Frame::data(all.to_bytes())));
            Ok::<_, Infallible>(Response::new(StreamBody::new(all)))
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_may_be_silent_while_its_client_speaks() {
    let origin = patient().await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    shop.policy.timeouts.idle = Some(Duration::from_millis(1500));
    let hale = shop.serve();
    let mut sender = hale.http2().await;
    let (mut speak, words) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let request = Request::post("http://shop.test/").body(StreamBody::new(words));
    let response = sender.send_request(request.unwrap()).await.unwrap();
    let start = Instant::now();
    let mut said = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    while start.elapsed() < Duration::from_millis(3500) {
        pace.tick().await;
        speak
            .send(Ok(Frame::data(Bytes::from_static(b"."))))
            .await
            .unwrap();
        said += 1;
    }
    drop(speak);
    let heard = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(heard.len(), said);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_blamed_for_a_client_that_breaks_its_body() {
    let origin = || {
        Origin::raw(|mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n";
            let _ = stream.write_all(begun).await;
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        })
    };
    let mut shop = Shop::of(&[origin().await.address, origin().await.address]);
    let mut policy = passive();
    policy.base_ejection = Duration::from_secs(60);
    shop.upstream.health.passive = Some(policy);
    let hale = shop.serve();
    for _ in 0..20 {
        let mut client = TcpStream::connect(hale.address).await.unwrap();
        let head =
            b"POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
        client.write_all(head).await.unwrap();
        read_until(&mut client, "begun").await;
        client.write_all(b"no length\r\n").await.unwrap();
        read_to_end(&mut client).await;
    }
    for peer in &hale.dataplane.report().upstreams[0].peers {
        assert!(peer.ejection.is_none(), "{}", peer.message);
    }
}
