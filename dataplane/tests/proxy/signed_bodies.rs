//! Peers that answer before they have seen the body that was signed: nothing of what they say goes to another body.

use std::time::Duration;

use bytes::Bytes;
use hale_dataplane::{
    AccessLog,
    config::{Protocol, SignatureProfile},
};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    access_key::{CHECKOUT, guarded, head, http2},
    signing::sha256,
    support::{Hale, Origin, Shop, until},
    wire::{body, read_to_end, read_until, status, talk, values},
};

/// An answer that depends on the head alone.
const SECRET: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nsecret";

/// What a peer does with a body once it has answered.
#[derive(Clone, Copy, Debug)]
enum Then {
    Reads,
    Closes,
}

async fn hasty(then: Then) -> Origin {
    Origin::raw(move |mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let _ = stream.write_all(SECRET).await;
        let mut rest = [0; 4096];
        match then {
            Then::Reads => while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {},
            Then::Closes => {}
        }
    })
    .await
}

fn serve(origin: &Origin, change: impl FnOnce(&mut Shop)) -> Hale {
    let mut shop = Shop::of(&[origin.address]);
    guarded(&mut shop, SignatureProfile::Aws4, |_| {});
    change(&mut shop);
    shop.serve()
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_the_head_is_not_given_to_another_body() {
    for length in [10, 100_000] {
        let good = "g".repeat(length);
        let bad = "b".repeat(length);
        let lines = CHECKOUT.aws4("POST", "/", &sha256(good.as_bytes()), true);
        let told = |body: &str| {
            let lines = format!("{lines}content-length: {}\r\n", body.len());
            head("POST", "/", &lines) + body
        };
        let in_chunks = |body: &str| {
            let lines = format!("{lines}transfer-encoding: chunked\r\n");
            head("POST", "/", &lines) + &chunked(body)
        };
        let nothing = head("POST", "/", &lines);
        for then in [Then::Reads, Then::Closes] {
            let origin = hasty(then).await;
            let hale = serve(&origin, |_| {});
            for request in [
                told(&bad),
                told(&bad[1..]),
                in_chunks(&bad),
                nothing.clone(),
            ] {
                let answer = talk(&hale, request).await;
                assert!(!answer.contains("secret"), "{length}, {then:?}: {answer}");
                match (status(&answer), then) {
                    ("401", _) => assert_eq!(values(&answer, "x-hale-reason"), ["AuthRequired"]),
                    // Its connection may be gone before its answer is read.
                    ("502", Then::Closes) => {}
                    _ => panic!("{length}, {then:?}: {answer}"),
                }
            }
            if matches!(then, Then::Reads) {
                for request in [told(&good), in_chunks(&good)] {
                    let answer = talk(&hale, request).await;
                    assert_eq!((status(&answer), body(&answer)), ("200", "secret"));
                }
            }
        }
    }
}

/// Sends all but the end of a request to a hasty peer, and the end once nothing was answered to that.
async fn at_last(hale: &Hale, origin: &Origin, begin: String, end: String, asks: bool) -> String {
    let before = origin.connections();
    let mut stream = TcpStream::connect(hale.address).await.unwrap();
    stream.write_all(begin.as_bytes()).await.unwrap();
    if asks {
        until("the peer is asked", async || origin.connections() > before).await;
    }
    let early = tokio::time::timeout(Duration::from_millis(100), stream.readable()).await;
    assert!(early.is_err(), "answered before the end");
    assert_eq!(origin.connections(), before + usize::from(asks));
    stream.write_all(end.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_before_the_end_of_the_body() {
    let path = std::env::temp_dir().join(format!("hale-bodies-{}.log", std::process::id()));
    let origin = hasty(Then::Reads).await;
    let mut shop = Shop::of(&[origin.address]);
    guarded(&mut shop, SignatureProfile::Aws4, |_| {});
    let hale = Hale::with(shop.config(), |options| {
        options.access_log = AccessLog::File(path.clone());
    });
    for (end, wanted) in [("g", "200"), ("b", "401")] {
        for length in [100, 100_000] {
            let good = "g".repeat(length);
            let lines = CHECKOUT.aws4("POST", "/", &sha256(good.as_bytes()), true);
            let told = head("POST", "/", &format!("{lines}content-length: {length}\r\n"));
            let begin = told + &good[1..];
            // What is short is read before anybody is asked.
            let asks = length > 64 * 1024;
            let answer = at_last(&hale, &origin, begin, end.to_owned(), asks).await;
            assert_eq!(status(&answer), wanted, "{length}: {answer}");
            let chunks = head(
                "POST",
                "/",
                &format!("{lines}transfer-encoding: chunked\r\n"),
            );
            let begin = format!("{chunks}{:x}\r\n{}\r\n", length - 1, &good[1..]);
            let answer = at_last(&hale, &origin, begin, chunked(end), true).await;
            assert_eq!(status(&answer), wanted, "{length}, in chunks: {answer}");
        }
    }
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    until("eight lines are written", async || {
        log().lines().count() == 8
    })
    .await;
    for line in log().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let wanted = match line["status"].as_u64() {
            Some(200) => "Allowed",
            _ => "BodyMismatch",
        };
        assert_eq!(line["authOutcome"], wanted, "{line}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_peers_may_not_be_hasty_either() {
    let origin = Origin::http2(|_| async { Response::new(Full::new(Bytes::from("secret"))) }).await;
    let hale = serve(&origin, |shop| shop.upstream.protocol = Protocol::Http2);
    let lines = CHECKOUT.aws4("POST", "/", &sha256(b"one, two"), true);
    let response = http2(&hale, "/", &lines, &["one, ", "two"]).await;
    assert_eq!(
        (response.status(), &response.body()[..]),
        (StatusCode::OK, &b"secret"[..])
    );
    for frames in [&["one, ", "2"][..], &["one, "], &["", ""]] {
        let response = http2(&hale, "/", &lines, frames).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{frames:?}");
    }
}
