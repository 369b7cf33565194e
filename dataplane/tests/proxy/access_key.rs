//! Signed requests through the proxy, and what peers see of their bodies.

use std::{process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use hale_dataplane::config::{
    AccessKey, AccessKeyEntry, AccessKeys, Auth, AuthMethod, AuthRules, ObjectRef, Resolved,
    SecretBytes, SignatureProfile, SignedBody,
};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    retries,
    signing::{Signer, sha256, stamp},
    support::{Hale, Origin, Shop, until},
    wire::{Recorder, body, read_to_end, read_until, status, talk, values},
};

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub(crate) const CHECKOUT: Signer = Signer {
    id: KEY_ID,
    secret: SECRET,
};

const PROFILES: [SignatureProfile; 4] = [
    SignatureProfile::Aws4,
    SignatureProfile::Sdk,
    SignatureProfile::HttpSignature,
    SignatureProfile::Cavage,
];

/// A shop behind signatures of one profile.
pub(crate) fn guarded(
    shop: &mut Shop,
    profile: SignatureProfile,
    change: impl FnOnce(&mut AccessKey),
) {
    let mut method = AccessKey {
        profile,
        keys: Resolved::Known(AccessKeys(vec![AccessKeyEntry {
            id: KEY_ID.to_owned(),
            secret: SecretBytes::new(SECRET.as_bytes()),
            consumer: Arc::from("checkout"),
            not_after: None,
        }])),
        clock_skew: Duration::from_secs(300),
        signed_body: SignedBody::Required,
        replay_window: None,
    };
    change(&mut method);
    shop.policy.auth = Auth::AnyOf(Arc::new(AuthRules {
        source: ObjectRef {
            kind: "UpstreamPolicy",
            namespace: "shop".into(),
            name: "signed".into(),
        },
        methods: vec![AuthMethod::AccessKey(method)],
        exempt_paths: Vec::new(),
        forward_credential: false,
    }));
}

fn hale(origin: &Origin, profile: SignatureProfile) -> Hale {
    let mut shop = Shop::of(&[origin.address]);
    guarded(&mut shop, profile, |_| {});
    shop.serve()
}

pub(crate) fn head(method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{lines}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_goes_upstream_with_its_consumer_and_without_its_credential() {
    let recorder = Recorder::new().await;
    let hale = hale(&recorder.origin, SignatureProfile::Aws4);
    let lines = CHECKOUT.aws4("GET", "/orders", &sha256(b""), false);
    let lines = format!("{lines}x-hale-consumer: admin\r\n");
    let answer = talk(&hale, head("GET", "/orders", &lines)).await;
    assert_eq!(status(&answer), "200", "{answer}");
    let seen = recorder.only();
    assert_eq!(values(&seen, "x-hale-consumer"), ["checkout"]);
    assert_eq!(values(&seen, "x-hale-auth"), ["accessKey"]);
    assert!(values(&seen, "authorization").is_empty(), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_signed_is_taken_away_by_a_header_that_was_not() {
    let recorder = Recorder::new().await;
    let hale = hale(&recorder.origin, SignatureProfile::Aws4);
    let lines = CHECKOUT.aws4("GET", "/", &sha256(b""), true);
    let answer = talk(&hale, head("GET", "/", &lines)).await;
    assert_eq!(status(&answer), "200", "{answer}");
    for named in ["x-amz-date", "close, X-Amz-Content-Sha256"] {
        let lines = format!("{lines}connection: {named}\r\n");
        let answer = talk(&hale, head("GET", "/", &lines)).await;
        assert_eq!(status(&answer), "400", "{answer}");
        let unsigned = format!("connection: {named}\r\nx-amz-date: now\r\n");
        let answer = talk(&hale, head("GET", "/", &unsigned)).await;
        assert_eq!(status(&answer), "401", "{answer}");
    }
    assert_eq!(recorder.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_request_is_told_what_is_wanted() {
    let recorder = Recorder::new().await;
    let challenges = [
        "AWS4-HMAC-SHA256",
        "SDK-HMAC-SHA256",
        "Signature",
        "Signature",
    ];
    for (profile, challenge) in PROFILES.into_iter().zip(challenges) {
        let hale = hale(&recorder.origin, profile);
        for lines in ["", "authorization: Basic eDp5\r\n", "authorization: \r\n"] {
            let answer = talk(&hale, head("GET", "/", lines)).await;
            assert_eq!(status(&answer), "401", "{answer}");
            assert_eq!(values(&answer, "www-authenticate"), [challenge]);
            assert_eq!(values(&answer, "x-hale-reason"), ["AuthRequired"]);
        }
    }
    assert!(recorder.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hale_accepts_what_curl_signs() {
    let recorder = Recorder::new().await;
    let hale = hale(&recorder.origin, SignatureProfile::Aws4);
    let url = format!("http://{}/orders?a=1&b=2", hale.address);
    let user = format!("{KEY_ID}:{SECRET}");
    for (extra, secret, wanted) in [
        (&[][..], user.as_str(), "200"),
        (&["--data-binary", "{\"sku\": 1}"][..], user.as_str(), "200"),
        (&["-X", "DELETE"][..], user.as_str(), "200"),
        (&[][..], "AKIDEXAMPLE:wrong", "401"),
        (&[][..], "AKIDNOBODY:wrong", "401"),
    ] {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(["--aws-sigv4", "aws:amz:local:execute-api", "--user", secret])
            .args(extra)
            .arg(&url);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap();
        let output = output.expect("this test needs curl (7.75 or later): apt-get install curl");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            wanted,
            "{extra:?}: {output:?}"
        );
    }
    let seen = recorder.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(body(&seen[1]), "{\"sku\": 1}");
}

/// Whether a peer was sent all of a request: what it got of it, and whether that had an end.
async fn arrived(profile: SignatureProfile, request: &[u8]) -> (String, Vec<String>) {
    let recorder = Recorder::new().await;
    let hale = hale(&recorder.origin, profile);
    let answer = talk(&hale, request).await;
    (answer, recorder.seen())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_swapped_body_never_reaches_a_peer() {
    let good = "0123456789".repeat(10_000);
    let bad = format!("{}X", &good[..good.len() - 1]);
    for told in [true, false] {
        let lines = CHECKOUT.aws4("POST", "/orders", &sha256(good.as_bytes()), told);
        let length = format!("{lines}content-length: {}\r\n", good.len());
        let chunked = format!("{lines}transfer-encoding: chunked\r\n");
        let in_chunks = |body: &str| {
            let (a, b) = body.split_at(70_000);
            let mut out = String::new();
            for part in [a, b] {
                out.push_str(&format!("{:x}\r\n{part}\r\n", part.len()));
            }
            format!("{out}0\r\n\r\n")
        };
        for (sent, wanted) in [(&good, "200"), (&bad, "401")] {
            for request in [
                head("POST", "/orders", &length) + sent,
                head("POST", "/orders", &chunked) + &in_chunks(sent),
            ] {
                let (answer, seen) = arrived(SignatureProfile::Aws4, request.as_bytes()).await;
                assert_eq!(status(&answer), wanted, "told: {told}: {answer}");
                assert_eq!(seen.len(), usize::from(wanted == "200"), "told: {told}");
                if wanted == "401" {
                    assert_eq!(values(&answer, "x-hale-reason"), ["AuthRequired"]);
                    assert_eq!(values(&answer, "www-authenticate"), ["AWS4-HMAC-SHA256"]);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_that_is_empty_is_the_empty_body() {
    for (digest, wanted) in [(sha256(b""), "200"), (sha256(b"x"), "401")] {
        for told in [true, false] {
            let lines =
                CHECKOUT.aws4("POST", "/", &digest, told) + "transfer-encoding: chunked\r\n";
            let request = head("POST", "/", &lines) + "0\r\n\r\n";
            let (answer, seen) = arrived(SignatureProfile::Aws4, request.as_bytes()).await;
            assert_eq!(status(&answer), wanted, "told: {told}: {answer}");
            assert_eq!(seen.len(), usize::from(wanted == "200"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_is_asked_for_once_its_signature_is_plausible() {
    let recorder = Recorder::new().await;
    let hale = hale(&recorder.origin, SignatureProfile::Aws4);
    for told in [true, false] {
        let lines = CHECKOUT.aws4("POST", "/", &sha256(b"hello"), told);
        let lines = format!("{lines}content-length: 5\r\nexpect: 100-continue\r\n");
        let mut stream = TcpStream::connect(hale.address).await.unwrap();
        stream
            .write_all(head("POST", "/", &lines).as_bytes())
            .await
            .unwrap();
        let first = read_until(&mut stream, "\r\n\r\n").await;
        assert!(first.starts_with("HTTP/1.1 100 "), "{first}");
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(status(&read_to_end(&mut stream).await), "200");

        let lines = lines.replace(KEY_ID, "AKIDNOBODY");
        let mut stream = TcpStream::connect(hale.address).await.unwrap();
        stream
            .write_all(head("POST", "/", &lines).as_bytes())
            .await
            .unwrap();
        let first = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(status(&first), "401", "{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_has_to_be_read_first_may_not_be_large() {
    let large = "x".repeat(1024 * 1024 + 1);
    for (body, told) in [(&large[1..], false), (&large[..], true)] {
        let lines = CHECKOUT.aws4("PUT", "/", &sha256(body.as_bytes()), told);
        let length = format!("{lines}content-length: {}\r\n", body.len());
        let request = head("PUT", "/", &length) + body;
        let (answer, seen) = arrived(SignatureProfile::Aws4, request.as_bytes()).await;
        assert_eq!(status(&answer), "200", "told: {told}");
        assert_eq!(seen.len(), 1);
    }
    // Refused by what the head says, before any of it is sent.
    let lines = CHECKOUT.aws4("PUT", "/", &sha256(large.as_bytes()), false);
    let length = format!("{lines}content-length: {}\r\n", large.len());
    let (answer, seen) =
        arrived(SignatureProfile::Aws4, head("PUT", "/", &length).as_bytes()).await;
    assert_eq!(status(&answer), "413");
    assert!(seen.is_empty());
    let lines = CHECKOUT.aws4("PUT", "/", &sha256(large.as_bytes()), false)
        + "transfer-encoding: chunked\r\n";
    let request = head("PUT", "/", &lines) + &format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let (answer, seen) = arrived(SignatureProfile::Aws4, request.as_bytes()).await;
    assert_eq!(status(&answer), "413");
    assert_eq!(values(&answer, "x-hale-reason"), ["BodyTooLarge"]);
    assert!(seen.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_taken_once() {
    let recorder = Recorder::new().await;
    let mut shop = Shop::of(&[recorder.origin.address]);
    guarded(&mut shop, SignatureProfile::Aws4, |method| {
        method.replay_window = Some(Duration::from_secs(1));
    });
    let hale = shop.serve();
    let request = head(
        "GET",
        "/once",
        &CHECKOUT.aws4("GET", "/once", &sha256(b""), false),
    );
    assert_eq!(status(&talk(&hale, &request).await), "200");
    // Another table, with another policy: it is remembered all the same.
    shop.policy.timeouts.request = Some(Duration::from_secs(9));
    hale.dataplane.publish(shop.config());
    assert_eq!(status(&talk(&hale, &request).await), "401");
    assert_eq!(recorder.seen().len(), 1);
}

/// A peer that closes the first connection once a request has come whole, and answers on the others.
async fn closes_once() -> (Origin, Arc<std::sync::Mutex<Vec<String>>>) {
    let bodies: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let keep = Arc::clone(&bodies);
    let origin = Origin::raw(move |mut stream, number| {
        let keep = Arc::clone(&keep);
        async move {
            let request = read_until(&mut stream, "the end").await;
            keep.lock().unwrap().push(body(&request).to_owned());
            if number > 0 {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
        }
    })
    .await;
    (origin, bodies)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_try_carries_the_body_that_was_checked() {
    for told in [true, false] {
        let (origin, bodies) = closes_once().await;
        let mut shop = Shop::of(&[origin.address]);
        guarded(&mut shop, SignatureProfile::Aws4, |_| {});
        shop.policy.retry = Some(retries::policy());
        let hale = shop.serve();
        let lines =
            CHECKOUT.aws4("PUT", "/", &sha256(b"this is the end"), told) + "content-length: 15\r\n";
        let answer = talk(&hale, head("PUT", "/", &lines) + "this is the end").await;
        assert_eq!(status(&answer), "200", "told: {told}: {answer}");
        assert_eq!(
            *bodies.lock().unwrap(),
            ["this is the end", "this is the end"]
        );
    }
}

/// A POST over HTTP/2 in several frames; the last of them may be empty.
pub(crate) async fn http2(
    hale: &Hale,
    path: &str,
    lines: &str,
    frames: &[&'static str],
) -> Response<Bytes> {
    let mut sender = hale.http2().await;
    let uri = format!("http://shop.test{path}");
    let mut request = Request::builder().method("POST").uri(uri);
    for line in lines.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    let frames = frames
        .iter()
        .map(|frame| Frame::data(Bytes::from_static(frame.as_bytes())));
    let frames: Vec<Result<_, std::convert::Infallible>> = frames.map(Ok).collect();
    let body = StreamBody::new(futures::stream::iter(frames));
    let response = sender
        .send_request(request.body(body).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_checked_over_http2_as_well() {
    for upstream in [1, 2] {
        for told in [true, false] {
            let whole = Arc::new(std::sync::Mutex::new(Vec::new()));
            let keep = Arc::clone(&whole);
            let answer = move |request: Request<hyper::body::Incoming>| {
                let keep = Arc::clone(&keep);
                async move {
                    if let Ok(body) = request.into_body().collect().await {
                        keep.lock().unwrap().push(body.to_bytes());
                    }
                    Response::new(Full::new(Bytes::new()))
                }
            };
            let origin = match upstream {
                1 => Origin::http1(answer).await,
                _ => Origin::http2(answer).await,
            };
            let mut shop = Shop::of(&[origin.address]);
            if upstream == 2 {
                shop.upstream.protocol = hale_dataplane::config::Protocol::Http2;
            }
            guarded(&mut shop, SignatureProfile::Aws4, |_| {});
            let hale = shop.serve();
            let lines = CHECKOUT.aws4("POST", "/", &sha256(b"one, two, three"), told);
            for (frames, wanted) in [
                (&["one, ", "two, ", "three"][..], StatusCode::OK),
                (&["one, two, three", ""][..], StatusCode::OK),
                (
                    &["one, ", "", "two, ", "four!", ""][..],
                    StatusCode::UNAUTHORIZED,
                ),
                (&["one, two, "][..], StatusCode::UNAUTHORIZED),
            ] {
                let response = http2(&hale, "/", &lines, frames).await;
                let what = format!("upstream HTTP/{upstream}, told: {told}, {frames:?}");
                assert_eq!(response.status(), wanted, "{what}");
            }
            until("both bodies are there", async || {
                whole.lock().unwrap().len() >= 2
            })
            .await;
            let whole = whole.lock().unwrap();
            assert_eq!(*whole, ["one, two, three", "one, two, three"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_are_signed_as_all_else_is() {
    let origin = Origin::http2(|request| async move {
        let mut response = Response::new(Full::default());
        let consumer = request.headers().get("x-hale-consumer").cloned();
        let _ = request.into_body().collect().await;
        let headers = response.headers_mut();
        headers.insert("x-seen", consumer.unwrap_or(HeaderValue::from_static("-")));
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        response
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = hale_dataplane::config::Protocol::Http2;
    let (path, message) = ("/shop.Cart/Add", "\0\0\0\0\u{4}cart");
    for profile in PROFILES {
        guarded(&mut shop, profile, |_| {});
        let hale = shop.serve();
        let lines = CHECKOUT.sign(profile, "POST", path, message.as_bytes());
        let lines = format!("{lines}content-type: application/grpc\r\nte: trailers\r\n");
        let call = async |path, message| http2(&hale, path, &lines, &[message]).await;
        let response = call(path, message).await;
        assert_eq!(response.headers()["grpc-status"], "0", "{profile:?}");
        assert_eq!(response.headers()["x-seen"], "checkout", "{profile:?}");
        for response in [
            call("/shop.Cart/Drop", message).await,
            call(path, "\0\0\0\0\u{4}trac").await,
        ] {
            assert_eq!(response.status(), StatusCode::OK, "{profile:?}");
            assert_eq!(response.headers()["grpc-status"], "16", "{profile:?}");
            assert!(!response.headers().contains_key("x-seen"), "{profile:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signature_of_a_presigned_url_goes_no_further() {
    let recorder = Recorder::new().await;
    let hale = hale(&recorder.origin, SignatureProfile::Aws4);
    let time = stamp();
    let scope = format!("{}/local/s3/aws4_request", &time[..8]);
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}%2F{}&X-Amz-Date={time}\
         &X-Amz-Expires=60&X-Amz-SignedHeaders=host",
        scope.replace('/', "%2F")
    );
    let canonical = format!("GET\n/a\n{query}\nhost:shop.test\n\nhost\nUNSIGNED-PAYLOAD");
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        sha256(canonical.as_bytes())
    );
    let signature = CHECKOUT.aws4_signature(&scope, &text);
    let path = format!("/a?{query}&X-Amz-Signature={signature}");
    let answer = talk(&hale, head("GET", &path, "")).await;
    assert_eq!(status(&answer), "200", "{answer}");
    let seen = recorder.only();
    assert!(
        seen.starts_with(&format!("GET /a?{query} HTTP/1.1\r\n")),
        "{seen}"
    );
    assert!(!seen.contains(&signature));
}
