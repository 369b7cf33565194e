//! What goes upstream and what comes back: hop-by-hop, forwarded, and the host.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;

use crate::{
    support::{Hale, Shop},
    wire::{Recorder, get, status, talk, values},
};

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_headers_end_here_both_ways() {
    let recorder = Recorder::answering(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x-hop-back\r\nx-hop-back: 1\r\nkeep-alive: timeout=9\r\n\
         proxy-authenticate: Basic\r\nupgrade: h2c\r\nx-hale-reason: NoRoute\r\nserver: origin\r\nx-kept: 1\r\n\r\nok",
    )
    .await;
    let hale = recorder.hale();
    let lines = "connection: x-hop, authorization\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nproxy-connection: x\r\n\
                 te: trailers, gzip\r\nupgrade: h2c\r\nhttp2-settings: AA\r\nproxy-authorization: Basic eA==\r\n\
                 expect: 100-continue\r\nauthorization: Bearer t\r\nx-kept: 1\r\n";
    let response = talk(&hale, get("/", lines)).await;
    assert_eq!(status(&response), "200");
    let request = recorder.only();
    for gone in [
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "expect",
        "connection",
    ] {
        assert!(values(&request, gone).is_empty(), "{gone} in {request}");
    }
    assert_eq!(values(&request, "te"), ["trailers"]);
    assert_eq!(values(&request, "authorization"), ["Bearer t"]);
    assert_eq!(values(&request, "x-kept"), ["1"]);
    assert!(
        values(&request, "via").is_empty(),
        "nginx compresses nothing for proxies"
    );
    assert_eq!(values(&request, "cdn-loop"), ["hale"]);
    for gone in [
        "x-hop-back",
        "keep-alive",
        "proxy-authenticate",
        "upgrade",
        "x-hale-reason",
    ] {
        assert!(values(&response, gone).is_empty(), "{gone} in {response}");
    }
    assert_eq!(values(&response, "connection"), ["close"], "ours");
    assert_eq!(values(&response, "server"), ["origin"]);
    assert_eq!(values(&response, "x-kept"), ["1"]);
    assert_eq!(values(&response, "via"), ["1.1 hale"]);
    assert_eq!(values(&response, "date").len(), 1);
}

const FORGED: &str = "x-forwarded-for: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nx_forwarded_for: 3.3.3.3\r\n\
                      x-forwarded-proto: https\r\nx-forwarded-host: evil\r\nx-forwarded-port: 1\r\n\
                      x-forwarded-prefix: /evil\r\nx-real-ip: 1.1.1.1\r\nx-request-id: mine\r\n\
                      forwarded: for=1.1.1.1\r\nx-hale-consumer: root\r\nany_thing: 1\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_say_where_they_come_from() {
    let recorder = Recorder::new().await;
    talk(&recorder.hale(), get("/", FORGED)).await;
    let request = recorder.only();
    for (name, wanted) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.test"),
        ("x-forwarded-port", "80"),
        ("forwarded", "for=127.0.0.1;proto=http"),
        ("host", "shop.test"),
    ] {
        assert_eq!(values(&request, name), [wanted], "{name}");
    }
    assert_eq!(values(&request, "x-request-id")[0].len(), 32);
    for gone in [
        "x_forwarded_for",
        "any_thing",
        "x-hale-consumer",
        "x-forwarded-prefix",
    ] {
        assert!(values(&request, gone).is_empty(), "{gone} in {request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_proxies_are_believed_and_appended_to() {
    let recorder = Recorder::new().await;
    let hale = Hale::with(Shop::of(&[recorder.origin.address]).config(), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    talk(&hale, get("/", FORGED)).await;
    let request = recorder.only();
    for (name, wanted) in [
        ("x-forwarded-for", vec!["1.1.1.1, 2.2.2.2, 127.0.0.1"]),
        ("x-real-ip", vec!["2.2.2.2"]),
        ("x-forwarded-proto", vec!["https"]),
        ("x-forwarded-host", vec!["evil"]),
        ("x-request-id", vec!["mine"]),
        (
            "forwarded",
            vec!["for=1.1.1.1", "for=127.0.0.1;proto=https"],
        ),
        ("x-hale-consumer", vec![]),
        ("x_forwarded_for", vec![]),
    ] {
        assert_eq!(values(&request, name), wanted, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_is_wanted_and_passed_on_as_written() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for lines in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nhost: b\r\n",
        "host:\r\n",
        "host: a@b\r\n",
        "host: a,b\r\n",
        "host: a b\r\n",
        "host: a/b\r\n",
        "host: a:b\r\n",
        "host: a:99999\r\n",
    ] {
        let response = talk(
            &hale,
            format!("GET / HTTP/1.1\r\n{lines}connection: close\r\n\r\n"),
        )
        .await;
        assert_eq!(status(&response), "400", "{lines:?}");
        assert_eq!(
            values(&response, "x-hale-reason"),
            ["BadRequest"],
            "{lines:?}"
        );
    }
    assert!(recorder.seen().is_empty());
    for (target, host, wanted) in [
        ("/", "Shop.TEST:8080", "Shop.TEST:8080"),
        ("http://other.test/x", "shop.test", "other.test"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(status(&talk(&hale, request).await), "200");
        assert_eq!(values(recorder.seen().last().unwrap(), "host"), [wanted]);
    }
    assert!(recorder.seen()[1].starts_with("GET /x HTTP/1.1\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_becomes_http1_with_one_host_and_one_cookie() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let mut sender = hale.http2().await;
    let request = Request::get("http://shop.test/x?y")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["via"], "1.1 hale");
    let request = recorder.only();
    assert!(request.starts_with("GET /x?y HTTP/1.1\r\n"), "{request}");
    assert_eq!(values(&request, "host"), ["shop.test"]);
    assert_eq!(values(&request, "cookie"), ["a=1; b=2"]);
    assert_eq!(values(&request, "te"), ["trailers"]);
    assert!(values(&request, "via").is_empty());
    let contradicted = Request::get("http://shop.test/")
        .header("host", "other.test")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(contradicted).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["x-hale-reason"], "BadRequest");
}
