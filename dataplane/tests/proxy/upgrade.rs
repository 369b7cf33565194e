//! WebSockets pass through.

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Origin, Shop, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_echoes_through() {
    let origin = Origin::raw(|stream, _| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
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
