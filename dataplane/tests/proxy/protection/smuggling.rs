//! What comes behind a request on the same connection: it is judged by itself, or it is a body, never both.

use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{EXHAUSTED, config, policies, reached};
use crate::{
    support::Hale,
    wire::{Recorder, read_to_end, status, talk},
};

const OPEN: &str = "GET /open HTTP/1.1\r\nhost: shop.test\r\n\r\n";
const ADMIN: &str = "GET /admin HTTP/1.1\r\nhost: shop.test\r\n\r\n";
const LAST: &str = "GET /open HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";

/// A Hale for each policy, one after another.
async fn each(mut check: impl AsyncFnMut(&str, &Hale, &Recorder)) {
    let recorder = Recorder::new().await;
    let hale = Hale::start(hale_dataplane::config::Config::default());
    for (name, policy) in policies() {
        if name == EXHAUSTED {
            continue;
        }
        hale.dataplane.publish(config(&recorder, &policy));
        check(&name, &hale, &recorder).await;
        assert!(
            reached(&recorder).is_empty(),
            "{name}: {:#?}",
            reached(&recorder)
        );
    }
}

/// The statuses of the responses that a connection gave.
fn statuses(text: &str) -> Vec<&str> {
    text.match_indices("HTTP/1.1 ")
        .map(|(at, _)| status(&text[at..]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_behind_a_refused_one_are_judged_by_themselves() {
    each(async |name, hale, _| {
        let answers = talk(hale, format!("{ADMIN}{OPEN}{ADMIN}{ADMIN}{LAST}")).await;
        let statuses = statuses(&answers);
        assert_eq!(statuses.len(), 5, "{name}: {answers}");
        for (index, status) in statuses.iter().enumerate() {
            let open = [1, 4].contains(&index);
            assert_eq!(*status == "200", open, "{name}: {index} of {statuses:?}");
        }
        // The other way round, with the protected one the last.
        let last = ADMIN.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
        let answers = talk(hale, format!("{OPEN}{OPEN}{last}")).await;
        assert_ne!(
            status(answers.rsplit_once("HTTP/1.1 ").map_or("", |(_, _)| {
                &answers[answers.rfind("HTTP/1.1 ").unwrap()..]
            })),
            "200",
            "{name}"
        );
    })
    .await;
}

/// A body that reads like a request stays a body, however its message ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_no_request() {
    let inner = ADMIN;
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let length = inner.len();
    let bodies = [
        format!("content-length: {length}\r\n\r\n{inner}"),
        format!("transfer-encoding: chunked\r\n\r\n{chunk}"),
        // Expects to be told to go on, and goes on all the same.
        format!("expect: 100-continue\r\ncontent-length: {length}\r\n\r\n{inner}"),
        format!("expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"),
        // Ambiguous: 400 and the end.
        format!("content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"),
        format!("transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{inner}"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n{inner}"),
        format!("transfer-encoding: identity\r\n\r\n{inner}"),
        format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("transfer-encoding:\x0bchunked\r\ncontent-length: {length}\r\n\r\n{inner}"),
        format!("content-length: 0\r\n content-length: {length}\r\n\r\n{inner}"),
        // Framed by Connection, which may not take the length away.
        format!("connection: content-length\r\ncontent-length: {length}\r\n\r\n{inner}"),
        format!("connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"),
    ];
    let recorder = Recorder::new().await;
    let hale = Hale::start(hale_dataplane::config::Config::default());
    for (name, policy) in policies() {
        if name == EXHAUSTED {
            continue;
        }
        hale.dataplane.publish(config(&recorder, &policy));
        for body in &bodies {
            for path in ["/admin", "/open", "/missing/../open"] {
                for method in ["POST", "GET", "DELETE"] {
                    let head = format!("{method} {path} HTTP/1.1\r\nhost: shop.test\r\n");
                    let answers = talk(&hale, format!("{head}{body}{LAST}")).await;
                    assert!(!answers.is_empty(), "{name}: {head}{body}");
                }
            }
        }
        assert!(
            reached(&recorder).is_empty(),
            "{name}: {:#?}",
            reached(&recorder)
        );
        // What came as a request of its own was none that the client could not have sent openly.
        let as_request = |seen: &String| seen.starts_with("GET /admin");
        assert!(!recorder.seen().iter().any(as_request));
    }
}

/// A websocket handshake that the origin does not take up leaves a connection on which every request is judged.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_not_taken_up_is_no_tunnel() {
    each(async |name, hale, _| {
        for lines in [
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 999\r\nsec-websocket-key: x\r\n",
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
            "connection: upgrade\r\nupgrade: TLS/1.0\r\n",
            "connection: upgrade\r\nupgrade: websocket, h2c\r\n",
        ] {
            let handshake = format!("GET /open HTTP/1.1\r\nhost: shop.test\r\n{lines}\r\n");
            let last = ADMIN.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
            let mut stream = TcpStream::connect(hale.address).await.unwrap();
            stream
                .write_all(format!("{handshake}{ADMIN}{last}").as_bytes())
                .await
                .unwrap();
            let _ = stream.shutdown().await;
            let answers = read_to_end(&mut stream).await;
            assert!(!answers.contains(" 101 "), "{name}: {answers}");
            let admitted = statuses(&answers).iter().skip(1).any(|status| *status == "200");
            assert!(!admitted, "{name}: {answers}");
        }
    })
    .await;
}
