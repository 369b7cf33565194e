//! Where messages end. Two servers that disagree on that is how requests are smuggled.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    support::{Hale, until},
    wire::{Recorder, body, get, read_to_end, read_until, status, talk, values},
};

fn post(lines: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{lines}\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_uncertain_end_are_refused() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for (lines, wanted) in [
        ("content-length: 3\r\ncontent-length: 4\r\n", "400"),
        ("content-length: 3, 4\r\n", "400"),
        ("content-length: -3\r\n", "400"),
        ("content-length: +3\r\n", "400"),
        ("content-length: 0x3\r\n", "400"),
        ("content-length: 99999999999999999999\r\n", "400"),
        ("transfer-encoding: xchunked\r\n", "400"),
        ("transfer-encoding: chunked, identity\r\n", "400"),
        ("transfer-encoding: identity\r\n", "400"),
        ("transfer-encoding: gzip, chunked\r\n", "501"),
        ("transfer-encoding: chunked, chunked\r\n", "501"),
        (
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n",
            "501",
        ),
        ("transfer-encoding : chunked\r\n", "400"),
        ("transfer-encoding\u{b}: chunked\r\n", "400"),
        ("x: y\r\n transfer-encoding: chunked\r\n", "400"),
        ("x\0: y\r\n", "400"),
        ("x: a\0b\r\n", "400"),
        ("x y: z\r\n", "400"),
        (": z\r\n", "400"),
    ] {
        let response = talk(&hale, post(lines, "0\r\n\r\n")).await;
        assert_eq!(status(&response), wanted, "{lines:?}");
    }
    let old = "POST / HTTP/1.0\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(status(&talk(&hale, old).await), "400");
    assert_eq!(recorder.seen(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn length_and_chunks_are_refused_and_what_follows_is_not_read() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for lines in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n";
        let request = format!(
            "POST / HTTP/1.1\r\nhost: shop.test\r\n{lines}\r\n5\r\nhello\r\n0\r\n\r\n{smuggled}"
        );
        let response = talk(&hale, request).await;
        assert_eq!(status(&response), "400");
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
    }
    assert!(recorder.seen().is_empty());
}

/// Wherever the head is in the stream.
#[tokio::test(flavor = "multi_thread")]
async fn length_and_chunks_are_refused_behind_other_requests_and_empty_lines() {
    let recorder = Recorder::new().await;
    let both = "content-length: 4\r\ntransfer-encoding: chunked\r\nhost: shop.test\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    for before in [
        "\r\n",
        "\r\n\r\n",
        "GET /first HTTP/1.1\r\nhost: shop.test\r\n\r\n",
        "POST /first HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 5\r\n\r\nhello",
        "POST /first HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\n\r\n",
    ] {
        for line in ["POST /both HTTP/1.1", "A / HTTP/1.1"] {
            let stream = format!("{before}{line}\r\n{both}{smuggled}");
            let response = talk(&recorder.hale(), stream).await;
            let served = usize::from(before.contains("first"));
            assert_eq!(
                response.matches("HTTP/1.1 200").count(),
                served,
                "{before:?}"
            );
            assert_eq!(
                response.matches("HTTP/1.1 400").count(),
                1,
                "{before:?}: {response}"
            );
            assert_eq!(
                response.matches("HTTP/1.1").count(),
                served + 1,
                "{response}"
            );
        }
    }
    let seen = recorder.seen();
    assert!(
        seen.iter().all(|request| request.contains("/first")),
        "{seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_chunks_are_400_at_once() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for chunks in [
        "5\r\nhello\r\n0\r\n\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;bad[=x\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;a\0\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "0\r\nx y: z\r\n\r\n",
        "00000000000000000005\r\nhello\r\n0\r\n\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut stream = TcpStream::connect(hale.address).await.unwrap();
        let begun = std::time::Instant::now();
        stream
            .write_all(format!("{head}{chunks}").as_bytes())
            .await
            .unwrap();
        let response = read_to_end(&mut stream).await;
        assert_eq!(status(&response), "400", "{chunks:?}: {response}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{chunks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn framing_upstream_is_ours() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let send = async |request: String| {
        let response = talk(&hale, request).await;
        assert_eq!(status(&response), "200", "{response}");
        recorder.seen().pop().unwrap()
    };
    let framing = |request: &str| {
        (
            values(request, "content-length").join(","),
            values(request, "transfer-encoding").join(","),
        )
    };
    let none = (String::new(), String::new());
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for lines in ["", "content-length: 0\r\n"] {
            if method == "OPTIONS" && !lines.is_empty() {
                continue;
            }
            let request = send(get("/", lines).replacen("GET", method, 1)).await;
            assert_eq!(framing(&request), none, "{method} {lines:?}");
        }
    }
    let request = send(post("content-length: 0\r\n", "")).await;
    assert_eq!(framing(&request), ("0".into(), String::new()));
    let request = send(post("content-length: 5\r\ncontent-length: 5\r\n", "hello")).await;
    assert_eq!(
        (framing(&request), body(&request)),
        (("5".into(), String::new()), "hello")
    );
    let chunks = "3;ext=\"x\"\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    for method in ["POST", "GET", "DELETE"] {
        let request =
            send(post("transfer-encoding: chunked\r\n", chunks).replacen("POST", method, 1)).await;
        assert_eq!(
            framing(&request),
            (String::new(), "chunked".into()),
            "{method}"
        );
        assert!(!body(&request).contains("ext"), "{request}");
        assert!(
            body(&request).contains("hel") && body(&request).ends_with("0\r\n\r\n"),
            "{request}"
        );
    }
    let request = send(get("/", "content-length: 2\r\n") + "hi").await;
    assert_eq!((framing(&request).0.as_str(), body(&request)), ("2", "hi"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let pipelined: String = (0..5)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nhost: shop.test\r\n\r\n"))
        .chain([get("/last", "")])
        .collect();
    let response = talk(&hale, pipelined).await;
    assert_eq!(response.matches("HTTP/1.1 200 OK").count(), 6, "{response}");
    let paths: Vec<String> = recorder
        .seen()
        .iter()
        .map(|request| request.split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(paths, ["/0", "/1", "/2", "/3", "/4", "/last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_a_body_keep_their_length() {
    let recorder = Recorder::answering("HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n").await;
    let response = talk(&recorder.hale(), get("/", "").replacen("GET", "HEAD", 1)).await;
    assert_eq!((status(&response), body(&response)), ("200", ""));
    assert_eq!(values(&response, "content-length"), ["42"]);

    let recorder = Recorder::answering(
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 42\r\netag: \"x\"\r\n\r\n",
    )
    .await;
    let response = talk(&recorder.hale(), get("/", "")).await;
    assert_eq!((status(&response), body(&response)), ("304", ""));
    assert_eq!(values(&response, "content-length"), ["42"]);
    assert_eq!(values(&response, "etag"), ["\"x\""]);

    let recorder = Recorder::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let response = talk(&recorder.hale(), get("/", "")).await;
    assert_eq!((status(&response), body(&response)), ("204", ""));
    assert!(
        values(&response, "content-length").is_empty()
            && values(&response, "transfer-encoding").is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_every_framing_come_through() {
    for (answer, wanted) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhello",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "hello",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "hello",
        ),
    ] {
        let recorder = Recorder::answering(answer).await;
        let response = talk(&recorder.hale(), get("/", "")).await;
        assert_eq!(
            (status(&response), body(&response)),
            ("200", wanted),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_http_1_0_get_no_chunks() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let recorder = Recorder::answering(chunked).await;
    let response = talk(
        &recorder.hale(),
        "GET / HTTP/1.0\r\nhost: shop.test\r\n\r\n",
    )
    .await;
    assert_eq!((status(&response), body(&response)), ("200", "hello"));
    assert!(
        values(&response, "transfer-encoding").is_empty(),
        "{response}"
    );
    let request = recorder.only();
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    assert!(values(&request, "via").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_cannot_be_read_is_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: z\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n\r\n",
    ] {
        let recorder = Recorder::answering(answer).await;
        let response = talk(&recorder.hale(), get("/", "")).await;
        assert_eq!(status(&response), "502", "{answer:?}");
        assert_eq!(
            values(&response, "x-hale-reason"),
            ["ProtocolError"],
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_come_through_when_announced() {
    let recorder = Recorder::answering(
        "HTTP/1.1 200 OK\r\ntrailer: x-checksum, set-cookie\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nx-checksum: 9\r\nset-cookie: a=b\r\n\r\n",
    )
    .await;
    let lines = "te: trailers\r\ntrailer: x-sum, x-forwarded-for, authorization\r\ntransfer-encoding: chunked\r\n";
    let sent =
        "2\r\nhi\r\n0\r\nx-sum: 7\r\nx-forwarded-for: 6.6.6.6\r\nauthorization: Bearer x\r\n\r\n";
    let response = talk(&recorder.hale(), post(lines, sent)).await;
    assert!(
        response.ends_with("0\r\nx-checksum: 9\r\n\r\n"),
        "{response:?}"
    );
    let request = recorder.only();
    // Not to a server of HTTP/1, which may take them for headers.
    assert!(request.ends_with("2\r\nhi\r\n0\r\n\r\n"), "{request:?}");
    assert!(values(&request, "trailer").is_empty(), "{request:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn continue_is_said_only_when_the_body_is_wanted() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let head = post("expect: 100-continue\r\ncontent-length: 5\r\n", "");
    let mut stream = TcpStream::connect(hale.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(
        read_until(&mut stream, "\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    stream.write_all(b"hello").await.unwrap();
    let response = read_to_end(&mut stream).await;
    assert_eq!(status(&response), "200", "{response}");
    let request = recorder.only();
    assert_eq!(body(&request), "hello");
    assert!(values(&request, "expect").is_empty(), "{request}");

    let nothing = Hale::start(hale_dataplane::config::Config::default());
    let mut stream = TcpStream::connect(nothing.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let response = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(status(&response), "404", "{response}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_before_the_end_of_an_upload_is_read() {
    let nothing = Hale::start(hale_dataplane::config::Config::default());
    let mut stream = TcpStream::connect(nothing.address).await.unwrap();
    stream
        .write_all(post("content-length: 200000\r\n", "").as_bytes())
        .await
        .unwrap();
    for _ in 0..20 {
        stream.write_all(&[b'x'; 10_000]).await.unwrap();
    }
    assert_eq!(status(&read_to_end(&mut stream).await), "404");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let origin = crate::support::Origin::raw(|mut stream, _| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("POST "));
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nready\n\r\n";
        stream.write_all(answer).await.unwrap();
        let chunk = read_until(&mut stream, "ping\r\n").await;
        assert!(chunk.contains("ping"));
        stream.write_all(b"5\r\npong\n\r\n").await.unwrap();
        read_until(&mut stream, "0\r\n\r\n").await;
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    })
    .await;
    let hale = crate::support::Shop::of(&[origin.address]).serve();
    let mut stream = TcpStream::connect(hale.address).await.unwrap();
    stream
        .write_all(post("transfer-encoding: chunked\r\n", "").as_bytes())
        .await
        .unwrap();
    read_until(&mut stream, "ready\n").await;
    stream.write_all(b"4\r\nping\r\n").await.unwrap();
    read_until(&mut stream, "pong\n").await;
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut stream).await.ends_with("0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_in_its_body_leaves_nothing_behind() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let mut stream = TcpStream::connect(hale.address).await.unwrap();
    stream
        .write_all(post("content-length: 100\r\n", "half").as_bytes())
        .await
        .unwrap();
    until("the request is under way", async || {
        hale.dataplane.report().upstreams[0].peers[0].in_flight == 1
    })
    .await;
    drop(stream);
    until("the request is over", async || {
        hale.dataplane.report().upstreams[0].peers[0].in_flight == 0
    })
    .await;
    assert!(recorder.seen().is_empty());
    let response = tokio::time::timeout(Duration::from_secs(10), hale.get("/")).await;
    assert_eq!(response.unwrap().status(), 200);
}
