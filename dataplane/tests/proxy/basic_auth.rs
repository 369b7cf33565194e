//! User and password, and what every method has in common: who goes upstream, and what does not.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hale_dataplane::{
    auth::password::Users,
    config::{Auth, AuthMethod, AuthRules, Basic, ObjectRef, PathRule, Problem, Resolved},
    reason::Reason,
};
use http::Request;
use http_body_util::Full;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    support::Shop,
    wire::{Recorder, body, get, read_until, status, talk, values},
};

pub(crate) const FILE: &[u8] = include_bytes!("../htpasswd/apache");

/// Rules that only these methods fulfil.
pub(crate) fn rules(methods: Vec<AuthMethod>) -> AuthRules {
    AuthRules {
        source: ObjectRef {
            kind: "UpstreamPolicy",
            namespace: "shop".into(),
            name: "web".into(),
        },
        methods,
        exempt_paths: Vec::new(),
        forward_credential: false,
    }
}

/// A shop that is protected by these rules.
pub(crate) fn protected(recorder: &Recorder, rules: AuthRules) -> Shop {
    let mut shop = Shop::of(&[recorder.origin.address]);
    shop.policy.auth = Auth::AnyOf(Arc::new(rules));
    shop
}

pub(crate) fn basic(file: &[u8]) -> AuthMethod {
    AuthMethod::Basic(Basic {
        realm: "Hale".into(),
        users: Resolved::Known(Users::from_htpasswd(file).0),
    })
}

fn credential(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub(crate) fn line(user: &str, password: &str) -> String {
    format!("authorization: {}\r\n", credential(user, password))
}

#[tokio::test(flavor = "multi_thread")]
async fn users_with_their_password_are_let_in() {
    let recorder = Recorder::new().await;
    let hale = protected(&recorder, rules(vec![basic(FILE)])).serve();
    let users = [
        ("bcrypt", "correct horse"),
        ("bcrypt-4", "colon:in:it"),
        ("sha1", "sesame"),
        ("sha256", "pässwörd"),
        ("sha512", "密码"),
        ("apr1", "battery staple"),
    ];
    for (user, password) in users {
        let response = talk(&hale, get("/", &line(user, password))).await;
        assert_eq!(status(&response), "200", "{user}");
        let request = recorder.seen().pop().unwrap();
        assert_eq!(values(&request, "x-hale-consumer"), [user]);
        assert_eq!(values(&request, "x-hale-auth"), ["basic"]);
        assert!(values(&request, "authorization").is_empty());
    }
    let before = recorder.seen().len();
    for lines in [
        String::new(),
        line("sha1", "wrong"),
        line("bcrypt-4", "sesame"),
        line("nobody", "sesame"),
        line("sha1", ""),
        line("", "sesame"),
        line("refused-plain", "plain"),
        line("sha1", "sesame") + &line("sha1", "sesame"),
        line("sha1", "sesame") + "authorization: Bearer x\r\n",
        "authorization: Basic\r\n".to_owned(),
        "authorization: Bearer x\r\n".to_owned(),
        "proxy-authorization: Basic c2hhMTpzZXNhbWU=\r\n".to_owned(),
    ] {
        let response = talk(&hale, get("/", &lines)).await;
        assert_eq!(status(&response), "401", "{lines}");
        let challenges = values(&response, "www-authenticate");
        assert_eq!(challenges, ["Basic realm=\"Hale\", charset=\"UTF-8\""]);
        assert_eq!(values(&response, "x-hale-reason"), ["AuthRequired"]);
    }
    assert_eq!(recorder.seen().len(), before, "nothing of it was forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_users_and_wrong_passwords_are_told_the_same() {
    let recorder = Recorder::new().await;
    let hale = protected(&recorder, rules(vec![basic(FILE)])).serve();
    let mut told = Vec::new();
    for lines in [
        line("bcrypt-4", "wrong"),
        line("nobody", "wrong"),
        "authorization: Basic !\r\n".to_owned(),
    ] {
        let response = talk(&hale, get("/", &lines)).await;
        let (_, id) = response.split_once("\"requestId\":\"").unwrap();
        let date = values(&response, "date")[0];
        let same = response.replace(&id[..32], "").replace(date, "");
        told.push(same);
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_say_who_they_are() {
    let recorder = Recorder::new().await;
    let mut rules = rules(vec![basic(FILE)]);
    rules.exempt_paths = vec![PathRule::exact("/healthz").unwrap()];
    let hale = protected(&recorder, rules).serve();
    for spoof in [
        "x-hale-consumer: root\r\n",
        "X-Hale-Consumer: root\r\nX-HALE-CONSUMER: root\r\n",
        "x_hale_consumer: root\r\nX-Hale_Consumer: root\r\nx_hale_auth: root\r\n",
        "x-hale-auth: root\r\nx-hale-consumer: root\r\nx-hale-consumer: root\r\n",
        "connection: x-hale-consumer, x-hale-auth, X-Hale-Consumer\r\nx-hale-consumer: root\r\n",
        "connection: authorization\r\n",
    ] {
        for (path, lines, who) in [
            ("/", line("sha1", "sesame"), vec!["sha1"]),
            ("/healthz", String::new(), vec![]),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\n{lines}{spoof}");
            let request = match request.contains("connection: ") {
                true => request.replace("connection: ", "connection: close, "),
                false => request + "connection: close\r\n",
            };
            let response = talk(&hale, request + "\r\n").await;
            assert_eq!(status(&response), "200", "{spoof}");
            let seen = recorder.seen().pop().unwrap();
            assert_eq!(values(&seen, "x-hale-consumer"), who, "{seen}");
            assert!(!seen.contains("root"), "{seen}");
            assert!(!seen.to_ascii_lowercase().contains("x_hale"), "{seen}");
            assert!(values(&seen, "authorization").is_empty(), "{seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_goes_on_where_the_policy_says_so() {
    let recorder = Recorder::new().await;
    let mut rules = rules(vec![basic(FILE)]);
    rules.forward_credential = true;
    let hale = protected(&recorder, rules).serve();
    let response = talk(&hale, get("/", &line("sha1", "sesame"))).await;
    assert_eq!(status(&response), "200");
    let request = recorder.only();
    let sent = credential("sha1", "sesame");
    assert_eq!(values(&request, "authorization"), [sent.as_str()]);
    assert_eq!(values(&request, "x-hale-consumer"), ["sha1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_secret_nobody_is_let_in() {
    let recorder = Recorder::new().await;
    let missing = || {
        AuthMethod::Basic(Basic {
            realm: "Hale".into(),
            users: Resolved::Unavailable("Secret shop/users does not exist".into()),
        })
    };
    for methods in [vec![missing()], vec![basic(b"")], vec![basic(b"a:plain")]] {
        let hale = protected(&recorder, rules(methods)).serve();
        for lines in [
            String::new(),
            line("a", "plain"),
            "authorization: x\r\n".to_owned(),
        ] {
            let response = talk(&hale, get("/", &lines)).await;
            assert_eq!(status(&response), "503", "{response}");
            assert_eq!(values(&response, "x-hale-reason"), ["AuthUnavailable"]);
        }
    }
    let both = protected(&recorder, rules(vec![missing(), basic(FILE)])).serve();
    let response = talk(&both, get("/", &line("sha1", "sesame"))).await;
    assert_eq!(
        status(&response),
        "503",
        "the first cannot judge what is for it"
    );
    assert_eq!(status(&talk(&both, get("/", "")).await), "401");
    let mut shop = Shop::of(&[recorder.origin.address]);
    shop.policy.auth = Auth::Unavailable(Problem {
        reason: Reason::AuthUnavailable,
        message: "no such policy".into(),
    });
    let response = talk(&shop.serve(), get("/", &line("sha1", "sesame"))).await;
    assert_eq!(status(&response), "503");
    assert!(recorder.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_counts_at_once() {
    let recorder = Recorder::new().await;
    let mut shop = protected(&recorder, rules(vec![basic(FILE)]));
    let hale = shop.serve();
    let old = get("/", &line("bcrypt-4", "colon:in:it"));
    for _ in 0..2 {
        assert_eq!(status(&talk(&hale, &old).await), "200");
    }
    let text = String::from_utf8(FILE.to_vec()).unwrap();
    let other = text.lines().find_map(|line| line.strip_prefix("bcrypt:"));
    let rotated = format!("bcrypt-4:{}", other.unwrap());
    let rotated = rules(vec![basic(rotated.as_bytes())]);
    shop.policy.auth = Auth::AnyOf(Arc::new(rotated));
    hale.dataplane.publish(shop.config());
    assert_eq!(status(&talk(&hale, &old).await), "401");
    let new = get("/", &line("bcrypt-4", "correct horse"));
    assert_eq!(status(&talk(&hale, &new).await), "200");
}

pub(crate) fn http2_get(user: &str, password: &str) -> Request<Full<Bytes>> {
    Request::get("http://shop.test/")
        .header("authorization", credential(user, password))
        .body(Full::default())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2() {
    let recorder = Recorder::new().await;
    let hale = protected(&recorder, rules(vec![basic(FILE)])).serve();
    let mut client = hale.http2().await;
    let mut request = http2_get("apr1", "battery staple");
    request
        .headers_mut()
        .insert("x-hale-consumer", "root".parse().unwrap());
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let request = recorder.only();
    assert_eq!(values(&request, "x-hale-consumer"), ["apr1"]);
    assert!(values(&request, "authorization").is_empty());
    let response = client.send_request(http2_get("apr1", "x")).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("www-authenticate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_clients_are_told_in_grpc() {
    let recorder = Recorder::new().await;
    let hale = protected(&recorder, rules(vec![basic(FILE)])).serve();
    let mut client = hale.http2().await;
    let call = |credential: Option<String>| {
        let mut call = Request::post("http://shop.test/shop.Cart/Get")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers");
        if let Some(credential) = credential {
            call = call.header("authorization", credential);
        }
        call.body(Full::new(Bytes::from_static(b"\0\0\0\0\x02hi")))
            .unwrap()
    };
    for refused in [None, Some(credential("sha256", "wrong"))] {
        let response = client.send_request(call(refused)).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "16");
        assert_eq!(response.headers()["x-hale-reason"], "AuthRequired");
    }
    assert!(recorder.seen().is_empty());
    let good = call(Some(credential("sha256", "pässwörd")));
    let response = client.send_request(good).await.unwrap();
    assert!(!response.headers().contains_key("grpc-status"));
    assert_eq!(recorder.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_needs_a_credential() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let recorder = Recorder::answering(answer).await;
    let hale = protected(&recorder, rules(vec![basic(FILE)])).serve();
    let upgrade = |lines: &str| {
        format!(
            "GET /chat HTTP/1.1\r\nhost: shop.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        )
    };
    for lines in [String::new(), line("bcrypt-4", "wrong")] {
        let mut stream = TcpStream::connect(hale.address).await.unwrap();
        let request = upgrade(&lines);
        stream.write_all(request.as_bytes()).await.unwrap();
        let response = read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(status(&response), "401");
    }
    assert!(recorder.seen().is_empty());
    let response = talk(&hale, upgrade(&line("bcrypt-4", "colon:in:it"))).await;
    assert_eq!(status(&response), "101");
    let request = recorder.only();
    assert_eq!(values(&request, "x-hale-consumer"), ["bcrypt-4"]);
    assert!(values(&request, "authorization").is_empty());
    assert!(body(&request).is_empty());
}
