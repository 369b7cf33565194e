//! WebSockets pass through.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hale_dataplane::{config::Protocol, reason::Reason};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::{
    support::{Hale, Origin, Shop, header, request, until},
    wire::read_until,
};

/// A peer that says over websockets what it is told, and speaks nothing else.
async fn echo() -> Origin {
    Origin::raw(|stream, _| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await
}

/// Asks for a websocket over HTTP/2 (RFC 8441).
async fn extended(hale: &Hale) -> Response<Incoming> {
    let mut sender = hale.http2::<Full<Bytes>>().await;
    // Clients may ask when they have seen the server's settings.
    let first = Request::get("http://shop.test/").body(Full::default());
    sender.send_request(first.unwrap()).await.unwrap();
    let request = Request::connect("http://shop.test/chat")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Full::default());
    sender.send_request(request.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_of_http2_echoes_through() {
    let origin = echo().await;
    let hale = Shop::of(&[origin.address]).serve();
    let response = extended(&hale).await;
    assert_eq!(response.status(), 200);
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    let sent = Message::text("hello");
    socket.send(sent.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_answered_as_if_it_were_none_opens_nothing() {
    let origin = Origin::raw(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let fine = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
        let _ = stream.write_all(fine).await;
    })
    .await;
    let hale = Shop::of(&[origin.address]).serve();
    let response = extended(&hale).await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["x-hale-reason"], "ProtocolError");
}

/// A peer that switches, whatever it is asked.
async fn switching() -> Origin {
    Origin::raw(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let switched =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\nother";
        let _ = stream.write_all(switched).await;
        // Until the other side has had enough.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_switches_unasked_has_not_answered() {
    let origin = switching().await;
    let hale = Shop::of(&[origin.address]).serve();
    for method in ["POST", "PUT"] {
        for response in [
            hale.send(request(method, "/", "")).await,
            hale.send_http2(request(method, "/", "")).await,
        ] {
            assert_eq!(response.status(), 502, "{method}");
            assert_eq!(header(&response, "x-hale-reason"), "ProtocolError");
            let last = hale.dataplane.report().upstreams[0].peers[0]
                .last_error
                .clone();
            assert_eq!(last.unwrap().reason, Reason::ProtocolError);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_opens_while_a_shutdown_is_announced() {
    let origin = echo().await;
    let hale = Shop::of(&[origin.address]).serve();
    hale.dataplane.announce_shutdown();
    until("the worker has heard of it", async || {
        header(&hale.get("/").await, "connection") == "close"
    })
    .await;
    let stream = TcpStream::connect(hale.address).await.unwrap();
    let opened = tokio_tungstenite::client_async("ws://shop.test/chat", stream).await;
    let (mut socket, _) = opened.unwrap();
    let sent = Message::text("hello");
    socket.send(sent.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_websocket_goes_to_http2_as_a_request_without_its_path() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = std::sync::Arc::clone(&seen);
    let origin = Origin::http2(move |request: Request<Incoming>| {
        keep.lock().unwrap().push(request.method().clone());
        async { Response::new(Full::<Bytes>::default()) }
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    let hale = shop.serve();
    let response = extended(&hale).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["x-hale-reason"], "MethodNotAllowed");
    assert_eq!(*seen.lock().unwrap(), ["GET"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_echoes_through() {
    let origin = echo().await;
    let hale = Shop::of(&[origin.address]).serve();
    let stream = TcpStream::connect(hale.address).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async("ws://shop.test/chat", stream)
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    for number in 0..10 {
        let sent = Message::text(format!("message {number}"));
        socket.send(sent.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), sent);
    }
    assert_eq!(hale.dataplane.report().upstreams[0].peers[0].in_flight, 1);
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    until("the tunnel is let go", async || {
        hale.dataplane.report().upstreams[0].peers[0].in_flight == 0
    })
    .await;
}
