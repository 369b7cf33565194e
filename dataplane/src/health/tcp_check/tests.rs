//! Against scripted peers on real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{future::pending, net::SocketAddr};

use rustls_pki_types::ServerName;
use tokio::net::TcpListener;

use super::*;
use crate::{
    config::CheckKind,
    health::{
        origin::{TlsPeer, ample, refusing, short, silent, target},
        testing,
    },
};

/// A peer that sends `parts`, one after the other, after it has read `first`; then hangs or closes.
async fn peer(first: &'static str, parts: Vec<String>, closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![0; first.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(read, first.as_bytes());
        for part in parts {
            if stream.write_all(part.as_bytes()).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if !closes {
            pending::<()>().await;
        }
    });
    address
}

fn wants(send: Option<&str>, receive: Option<&str>) -> TcpCheck {
    TcpCheck {
        send: send.map(Into::into),
        receive: receive.map(Into::into),
    }
}

async fn ask(wanted: &TcpCheck, address: SocketAddr, deadline: Deadline) -> (String, bool) {
    ask_target(wanted, &plain(address), deadline).await
}

fn plain(address: SocketAddr) -> ProbeTarget {
    let active = testing::check(CheckKind::Tcp(TcpCheck::default()));
    target(&Arc::new(active), address)
}

async fn ask_target(wanted: &TcpCheck, at: &ProbeTarget, deadline: Deadline) -> (String, bool) {
    let mut signs = Signs::default();
    let words = match check(wanted, at, deadline, &mut signs).await {
        Ok(words) => format!("+ {words}"),
        Err(words) => format!("- {words}"),
    };
    (words, signs.connected)
}

#[tokio::test]
async fn a_connection_is_enough_where_nothing_else_is_wanted() {
    let address = peer("", vec![], false).await;
    let result = ask(&wants(None, None), address, ample()).await;
    assert_eq!(result, ("+ connected".into(), true));
}

#[tokio::test]
async fn no_connection_says_why() {
    let (_held, address) = refusing();
    let result = ask(&wants(None, None), address, ample()).await;
    assert_eq!(result, ("- connection refused".into(), false));
    let (_held, address) = silent();
    let result = ask(&wants(None, None), address, short()).await;
    assert_eq!(result, ("- no connection within 500ms".into(), false));
}

#[tokio::test]
async fn bytes_are_sent_and_wanted() {
    let pong = wants(Some("PING\r\n"), Some("+PONG"));
    let address = peer("PING\r\n", vec!["hello +PO".into(), "NG\r\n".into()], false).await;
    assert_eq!(ask(&pong, address, ample()).await.0, "+ received \"+PONG\"");

    let address = peer("PING\r\n", vec!["-LOADING\r\n".into()], true).await;
    assert_eq!(
        ask(&pong, address, ample()).await.0,
        "- connection closed after 10 bytes without \"+PONG\""
    );

    let address = peer("PING\r\n", vec!["-LOADING\r\n".into()], false).await;
    assert_eq!(
        ask(&pong, address, short()).await.0,
        "- no \"+PONG\" received within 500ms"
    );
}

#[tokio::test]
async fn only_the_first_4_kib_count() {
    let banner = wants(None, Some("ready"));
    let text = |spaces: usize| vec![" ".repeat(spaces), "ready".into(), "x".repeat(100_000)];
    let address = peer("", text(4091), false).await;
    assert_eq!(
        ask(&banner, address, ample()).await.0,
        "+ received \"ready\""
    );
    let address = peer("", text(4092), false).await;
    assert_eq!(
        ask(&banner, address, ample()).await.0,
        "- no \"ready\" in the first 4 KiB"
    );
}

#[tokio::test]
async fn over_tls_the_handshake_must_succeed() {
    let peer = TlsPeer::start(&[], async |mut stream| {
        let _ = stream.write_all(b"ready").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let mut at = plain(peer.address);
    at.tls = Some(peer.client(&[]));
    at.server_name = TlsPeer::name();
    let result = ask_target(&wants(None, None), &at, ample()).await;
    assert_eq!(result, ("+ TLS handshake made".into(), true));
    let result = ask_target(&wants(None, Some("ready")), &at, ample()).await;
    assert_eq!(result, ("+ received \"ready\"".into(), true));

    at.server_name = ServerName::try_from("other.example").unwrap();
    let words = "- TLS: the peer's certificate is for shop.example, not for other.example";
    let result = ask_target(&wants(None, None), &at, ample()).await;
    assert_eq!(result, (words.into(), false));

    at.server_name = TlsPeer::name();
    at.tls = Some(TlsPeer::distrustful());
    let words =
        "- TLS: the peer's certificate is not trusted: none of the CAs that are trusted signed it";
    let result = ask_target(&wants(None, None), &at, ample()).await;
    assert_eq!(result, (words.into(), false));

    at.address = self::peer("", vec!["220 mail.example ESMTP\r\n".into()], false).await;
    let words = "- TLS: the peer speaks plain text, not TLS";
    let result = ask_target(&wants(None, None), &at, ample()).await;
    assert_eq!(result, (words.into(), false));

    at.address = self::peer("", vec![], false).await;
    let result = ask_target(&wants(None, None), &at, short()).await;
    assert_eq!(result, ("- no TLS handshake within 500ms".into(), false));
}
