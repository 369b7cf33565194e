//! Responses of pods that are not quite HTTP: each is 502, or what reaches the client is well-formed and not longer
//! than what the pod's head says.

use hale_dataplane::config::Protocol;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::{
    support::{Origin, Shop, request},
    wire::{Recorder, body, get, read_until, status, talk, values},
};

/// Whatever follows, nothing of these heads may be passed on.
const HEADS: &[&str] = &[
    // Status lines.
    "\r\n",
    "HTTP/1.1\r\n",
    "HTTP/1.1 \r\n",
    "HTTP/1.1 2\r\n",
    "HTTP/1.1 20\r\n",
    "HTTP/1.1 2000 OK\r\n",
    "HTTP/1.1 abc OK\r\n",
    "HTTP/1.1 099 Low\r\n",
    "HTTP/1.1 -20 OK\r\n",
    "HTTP/1.1\t200 OK\r\n",
    "HTTP/1.2 200 OK\r\n",
    "HTTP/2 200 OK\r\n",
    "HTTP/2.0 200 OK\r\n",
    "HTTP/0.9 200 OK\r\n",
    "HTTP/1 200 OK\r\n",
    "HTTP/11 200 OK\r\n",
    "http/1.1 200 OK\r\n",
    "HTTPS/1.1 200 OK\r\n",
    "ICY 200 OK\r\n",
    "SSH-2.0-OpenSSH_9\r\n",
    "<html>hello</html>\r\n",
    "\0\0\0\0\r\n",
    " HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
    // Header lines.
    "HTTP/1.1 200 OK\r\nx y: z\r\n",
    "HTTP/1.1 200 OK\r\n: z\r\n",
    "HTTP/1.1 200 OK\r\nno colon\r\n",
    "HTTP/1.1 200 OK\r\nx\0: z\r\n",
    "HTTP/1.1 200 OK\r\nx: a\0b\r\n",
    "HTTP/1.1 200 OK\r\nx: a\x7fb\r\n",
    "HTTP/1.1 200 OK\r\nx : z\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length : 5\r\n",
    "HTTP/1.1 200 OK\r\nx: y\r\n folded: z\r\n",
    "HTTP/1.1 200 OK\r\n folded: first\r\n",
    "HTTP/1.1 200 OK\r\n\"x\": z\r\n",
    "HTTP/1.1 200 OK\r\nx(y): z\r\n",
    "HTTP/1.1 200 OK\r\nx: a\rb\r\n",
    // Framing.
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5,\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5 5\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5.0\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: five\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length:\r\n",
    "HTTP/1.1 204 No Content\r\ncontent-length: 5, 5\r\n",
    "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
    "HTTP/1.1 304 Not Modified\r\ncontent-length: five\r\n",
    "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\ncontent-length: 5\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n",
    "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n",
    "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: \"chunked\"\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n",
    "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_not_http_are_502_for_every_method_and_version() {
    for head in HEADS {
        let answer: &'static str = format!("{head}\r\n5\r\nhello\r\n0\r\n\r\n").leak();
        let origin = Origin::raw(move |mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let hale = Shop::of(&[origin.address]).serve();
        for method in ["GET", "HEAD"] {
            let response = hale.send(request(method, "/", "")).await;
            assert_eq!(response.status(), 502, "{method} {head:?}");
            let reason = &response.headers()["x-hale-reason"];
            // A body that ends before its head does is a connection that broke.
            assert!(
                reason == "ProtocolError" || reason == "UpstreamReset",
                "{method} {head:?}: {reason:?}"
            );
            let response = hale.send_http2(request(method, "/", "")).await;
            assert_eq!(response.status(), 502, "{method} {head:?}");
        }
    }
}

/// Bodies that break off, or go on where they should end. The head is good, and has been passed on.
const BODIES: &[&str] = &[
    "content-length: 10\r\n\r\nhello",
    "transfer-encoding: chunked\r\n\r\n5\r\nhello",
    "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "transfer-encoding: chunked\r\n\r\n5\r\nhelloo\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n-1\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n11111111111111111\r\n",
    "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n5\r\nhello\n0\n\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_break_are_passed_on_and_broken_off() {
    for rest in BODIES {
        let answer: &'static str = format!("HTTP/1.1 200 OK\r\n{rest}").leak();
        let origin = Origin::raw(move |mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let hale = Shop::of(&[origin.address]).serve();
        let response = talk(&hale, "GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").await;
        assert_eq!(status(&response), "200", "{rest:?}: {response:?}");
        assert!(!response.ends_with("0\r\n\r\n"), "{rest:?}: {response:?}");
        let mut sender = hale.http2::<http_body_util::Full<bytes::Bytes>>().await;
        let ask = http::Request::get("http://shop.test/").body(http_body_util::Full::default());
        let response = sender.send_request(ask.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{rest:?}");
        assert!(response.into_body().collect().await.is_err(), "{rest:?}");
    }
}

/// What is behind a response is no response to anybody.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_response_is_not_given_to_the_next_client() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
        "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\nbadHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokgarbage",
    ] {
        let recorder = Recorder::answering(answer).await;
        let hale = recorder.hale();
        for _ in 0..3 {
            let response = talk(&hale, get("/", "")).await;
            assert!(
                matches!(status(&response), "200" | "204" | "304"),
                "{answer:?}: {response:?}"
            );
            assert!(!response.contains("bad"), "{answer:?}: {response:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_204_has_no_length() {
    let recorder =
        Recorder::answering("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n").await;
    let hale = recorder.hale();
    let response = talk(&hale, get("/", "")).await;
    assert_eq!((status(&response), body(&response)), ("204", ""));
    assert!(values(&response, "content-length").is_empty(), "{response}");
    let response = hale.send_http2(request("GET", "/", "")).await;
    assert_eq!(response.status(), 204);
    assert!(!response.headers().contains_key("content-length"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_responses_with_two_lengths_are_502() {
    let origin = Origin::http2(|_| async {
        let mut response = http::Response::new(http_body_util::Full::new("hello".into()));
        let headers = response.headers_mut();
        headers.append("content-length", 5.into());
        headers.append("content-length", 5.into());
        response
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    let response = shop.serve().get("/").await;
    assert_eq!(response.status(), 502);
}

/// On a kept connection as on a new one, the client gets the head that the pod gave, and sees that the body broke off.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_before_a_failure_reaches_the_client_on_a_kept_connection() {
    let origin = Origin::raw(|mut stream, number| async move {
        // The first connection answers one request, and breaks with the second.
        read_until(&mut stream, "\r\n\r\n").await;
        if number == 0 {
            let good = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(good).await.unwrap();
            read_until(&mut stream, "hello").await;
            let broken = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\nx-good: head\r\n\r\n";
            stream.write_all(broken).await.unwrap();
        }
    })
    .await;
    let hale = Shop::of(&[origin.address]).serve();
    let mut stream = tokio::net::TcpStream::connect(hale.address).await.unwrap();
    let first = b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    stream.write_all(first).await.unwrap();
    read_until(&mut stream, "ok").await;
    let second = b"POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 5\r\n\r\nhello";
    stream.write_all(second).await.unwrap();
    let response = crate::wire::read_to_end(&mut stream).await;
    assert_eq!(status(&response), "200", "{response:?}");
    assert_eq!(values(&response, "x-good"), ["head"]);
    assert_eq!(body(&response), "");
}

/// RFC 9110 §9.3.2, whoever answers and in whichever version.
#[tokio::test(flavor = "multi_thread")]
async fn answers_to_head_have_no_content() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let nothing = crate::support::Hale::start(hale_dataplane::config::Config::default());
    let down = Shop::of(&[crate::support::dead().await]).serve();
    for (hale, path, wanted) in [
        (&nothing, "/", 404),
        (&down, "/", 503),
        (&hale, "/%00", 400),
        (&hale, "/", 200),
    ] {
        let get = hale.send_http2(request("GET", path, "")).await;
        let head = hale.send_http2(request("HEAD", path, "")).await;
        assert_eq!((get.status(), head.status()), (head.status(), get.status()));
        assert_eq!(head.status(), wanted);
        assert!(head.body().is_empty());
        assert_eq!(
            head.headers()["content-length"].to_str().unwrap(),
            match wanted {
                200 => "2".to_owned(),
                _ => get.body().len().to_string(),
            }
        );
        let lines = get_line("HEAD", path);
        let response = talk(hale, lines).await;
        assert_eq!(status(&response), wanted.to_string());
        assert_eq!(body(&response), "");
    }
}

fn get_line(method: &str, path: &str) -> String {
    get(path, "").replacen("GET", method, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_connect_nothing_is_read() {
    let recorder = Recorder::new().await;
    let tunnel = "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\n";
    let response = talk(&recorder.hale(), format!("{tunnel}{}", get("/inside", ""))).await;
    assert_eq!(status(&response), "405", "{response}");
    assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
    assert!(recorder.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_hundred_headers_are_431_in_both_versions() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for (count, wanted) in [(95, 200), (101, 431)] {
        let mut asked = request("GET", "/", "");
        for number in 0..count {
            let name = format!("x-{number}").parse::<http::HeaderName>().unwrap();
            asked.headers_mut().insert(name, 1.into());
        }
        let lines: String = (0..count)
            .map(|number| format!("x-{number}: 1\r\n"))
            .collect();
        let response = talk(&hale, get("/", &lines)).await;
        assert_eq!(status(&response), wanted.to_string(), "{count}");
        assert_eq!(hale.send_http2(asked).await.status(), wanted, "{count}");
    }
}

/// A connection of HTTP/1.0 is kept only where the response says how long it is.
#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_keeps_what_it_promises() {
    let ask = "GET / HTTP/1.0\r\nhost: shop.test\r\nconnection: keep-alive\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let recorder = Recorder::answering(chunked).await;
    let response = talk(&recorder.hale(), ask).await;
    assert_eq!((status(&response), body(&response)), ("200", "hello"));
    assert!(
        !response.to_ascii_lowercase().contains("keep-alive"),
        "{response}"
    );
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let mut stream = tokio::net::TcpStream::connect(hale.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(ask.as_bytes()).await.unwrap();
        let response = read_until(&mut stream, "ok").await;
        assert_eq!(values(&response, "connection"), ["keep-alive"]);
    }
}

/// A pod that refuses an upload while it still comes, and resets the connection, is heard by every client
/// (RFC 9112 §9.6).
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_every_client_that_still_uploads() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let origin = Origin::raw(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer =
            b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
        stream.write_all(answer).await.unwrap();
        // Closed with bytes unread: the kernel resets the connection.
    })
    .await;
    let hale = Shop::of(&[origin.address]).serve();
    for _ in 0..40 {
        let stream = tokio::net::TcpStream::connect(hale.address).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let upload = tokio::spawn(async move {
            let head =
                format!("POST / HTTP/1.1\r\nhost: shop.test\r\ncontent-length: {LENGTH}\r\n\r\n");
            writer.write_all(head.as_bytes()).await.unwrap();
            // Hale closes before the end, if the client does not.
            for _ in 0..LENGTH / 16_384 {
                if writer.write_all(&[b'x'; 16_384]).await.is_err() {
                    break;
                }
            }
            // A half that is dropped is closed, and a client that closes is not answered.
            std::future::pending::<()>().await;
        });
        let mut response = Vec::new();
        let read = async {
            while !response.ends_with(b"big") {
                let read = tokio::io::AsyncReadExt::read_buf(&mut reader, &mut response).await;
                if matches!(read, Ok(read) if read > 0) {
                    continue;
                }
                break;
            }
        };
        let within = std::time::Duration::from_secs(10);
        assert!(tokio::time::timeout(within, read).await.is_ok());
        let response = String::from_utf8(response).unwrap();
        assert_eq!(status(&response), "413", "{response}");
        upload.abort();
    }
}

/// The pod need not go on, no local port waits for its answer, and the log names it.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_request_resets_its_connection_and_its_attempt_is_logged() {
    let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::raw(move |mut stream, _| {
        let (asked, ended) = (asked.clone(), ended.clone());
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            asked.send(()).unwrap();
            let end = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1]).await;
            ended.send(end.map_err(|error| error.kind())).unwrap();
        }
    })
    .await;
    let path = std::env::temp_dir().join(format!("hale-abandoned-{}.log", std::process::id()));
    let hale = crate::support::Hale::with(Shop::of(&[origin.address]).config(), |options| {
        options.access_log = hale_dataplane::AccessLog::File(path.clone());
    });
    let mut stream = tokio::net::TcpStream::connect(hale.address).await.unwrap();
    let ask = b"GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    requests.recv().await.unwrap();
    drop(stream);
    assert_eq!(
        ends.recv().await.unwrap(),
        Err(std::io::ErrorKind::ConnectionReset)
    );
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    crate::support::until("the line", async || log().ends_with('\n')).await;
    let line: serde_json::Value = serde_json::from_str(&log()).unwrap();
    assert_eq!(line["status"], 0, "{line}");
    assert_eq!(
        line["attempts"],
        serde_json::json!([{"peer": origin.address.to_string(), "outcome": "Cancelled"}])
    );
    std::fs::remove_file(&path).unwrap();
}
