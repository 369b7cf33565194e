//! Signed tokens, through real connections: tokens of another implementation over each protocol, hostile ones,
//! and keys that are fetched, rotated and gone.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hale_dataplane::{
    auth::jwt::KeySet,
    config::{
        Auth, AuthMethod, AuthRules, ClaimToHeader, Jwt, JwtAlgorithm, JwtKeys, ObjectRef,
        Protocol, RemoteKeys, RequiredClaim, Resolved,
    },
    tls::Roots,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{Hale, Origin, Shop, request, text, until};

const KEYS: &str = include_str!("../data/jwt/jwks.json");

fn tokens() -> Value {
    serde_json::from_str(include_str!("../data/jwt/tokens.json")).unwrap()
}

fn token(name: &str) -> String {
    let tokens = tokens();
    let mut all = tokens["valid"].as_array().unwrap().iter();
    let found = all.find(|case| case["name"] == name).unwrap();
    found["token"].as_str().unwrap().to_owned()
}

fn rules(keys: JwtKeys) -> Jwt {
    Jwt {
        issuer: "https://issuer.test".into(),
        audiences: vec!["shop".into()],
        keys,
        algorithms: vec![
            JwtAlgorithm::Rs256,
            JwtAlgorithm::Rs384,
            JwtAlgorithm::Rs512,
            JwtAlgorithm::Ps256,
            JwtAlgorithm::Ps384,
            JwtAlgorithm::Ps512,
            JwtAlgorithm::Es256,
            JwtAlgorithm::Es384,
            JwtAlgorithm::EdDsa,
        ],
        required_claims: Vec::new(),
        required_scopes: Vec::new(),
        claims_to_headers: Vec::new(),
        consumer_claim: "sub".into(),
        clock_skew: Duration::from_secs(60),
    }
}

fn inline() -> Jwt {
    let keys = KeySet::parse(KEYS.as_bytes(), false).unwrap();
    rules(JwtKeys::Inline(Resolved::Known(keys)))
}

fn protect(shop: &mut Shop, jwt: Jwt) {
    shop.policy.auth = Auth::AnyOf(Arc::new(AuthRules {
        source: ObjectRef {
            kind: "UpstreamPolicy",
            namespace: "shop".into(),
            name: "web".into(),
        },
        methods: vec![AuthMethod::Jwt(jwt)],
        exempt_paths: Vec::new(),
        forward_credential: false,
    }));
}

/// What the upstream was told of who asks.
fn seen(headers: &http::HeaderMap) -> String {
    let of = |name: &str| match headers.get(name) {
        Some(value) => String::from_utf8(value.as_bytes().to_vec()).unwrap(),
        None => "-".to_owned(),
    };
    let names = ["x-hale-consumer", "x-hale-auth", "authorization", "x-email"];
    names.map(of).join(" ")
}

async fn echo() -> Origin {
    Origin::http1(|request| async move {
        Response::new(Full::new(Bytes::from(seen(request.headers()))))
    })
    .await
}

async fn with_token(hale: &Hale, token: &str) -> Response<Bytes> {
    let mut asked = request("GET", "/", "");
    let value = format!("Bearer {token}");
    let headers = asked.headers_mut();
    headers.insert("authorization", value.parse().unwrap());
    headers.insert("x-hale-consumer", "root".parse().unwrap());
    headers.insert("x-email", "root@shop.test".parse().unwrap());
    hale.send(asked).await
}

#[tokio::test(flavor = "multi_thread")]
async fn good_tokens_pass_over_http1() {
    let origin = echo().await;
    let mut shop = Shop::of(&[origin.address]);
    protect(&mut shop, inline());
    let hale = shop.serve();
    for case in tokens()["valid"].as_array().unwrap() {
        let response = with_token(&hale, case["token"].as_str().unwrap()).await;
        assert_eq!(response.status(), 200, "{}", case["name"]);
        let consumer = case["consumer"].as_str().unwrap_or("-");
        assert_eq!(text(&response), format!("{consumer} jwt - root@shop.test"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_tokens_pass_over_http2_and_grpc() {
    let origin = Origin::http2(|request| async move {
        let mut response = Response::new(Full::default());
        let seen = seen(request.headers());
        let value = http::HeaderValue::from_bytes(seen.as_bytes()).unwrap();
        response.headers_mut().insert("x-seen", value);
        response
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    protect(&mut shop, inline());
    let hale = shop.serve();
    let mut sender = hale.http2::<Full<Bytes>>().await;
    for (method, kind) in [("GET", None), ("POST", Some("application/grpc"))] {
        for case in tokens()["valid"].as_array().unwrap() {
            let token = case["token"].as_str().unwrap();
            let mut asked = Request::builder()
                .method(method)
                .uri("http://shop.test/shop.Cart/Get")
                .header("te", "trailers")
                .header("authorization", format!("Bearer {token}"));
            if let Some(kind) = kind {
                asked = asked.header("content-type", kind);
            }
            let asked = asked.body(Full::default()).unwrap();
            let response = sender.send_request(asked).await.unwrap();
            assert_eq!(response.status(), 200, "{}", case["name"]);
            let consumer = case["consumer"].as_str().unwrap_or("-");
            let seen = response.headers()["x-seen"].as_bytes();
            assert_eq!(seen, format!("{consumer} jwt - -").as_bytes());
        }
    }
    let bare = Request::post("http://shop.test/shop.Cart/Get")
        .header("content-type", "application/grpc")
        .body(Full::default())
        .unwrap();
    let response = sender.send_request(bare).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "16");
    assert!(!response.headers().contains_key("x-seen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_tokens_get_401_and_nothing_more() {
    let origin = Origin::saying("let in").await;
    let mut shop = Shop::of(&[origin.address]);
    protect(&mut shop, inline());
    let hale = shop.serve();
    let mut bodies = std::collections::BTreeSet::new();
    let mut sent = 0;
    for case in tokens()["hostile"].as_array().unwrap() {
        let token = case["token"].as_str().unwrap();
        // HTTP itself drops space at the ends of a value.
        if token.trim() != token || token.len() > 32 * 1024 {
            continue;
        }
        let response = with_token(&hale, token).await;
        assert_eq!(response.status(), 401, "{}", case["name"]);
        let challenge = &response.headers()["www-authenticate"];
        assert_eq!(challenge, "Bearer realm=\"Hale\"");
        let mut body: Value = serde_json::from_slice(response.body()).unwrap();
        body.as_object_mut().unwrap().remove("requestId");
        bodies.insert(body.to_string());
        sent += 1;
    }
    assert!(sent > 190, "{sent}");
    assert_eq!(bodies.len(), 1, "the same for all: {bodies:?}");
    assert_eq!(origin.connections(), 0);
    assert_eq!(hale.get("/").await.status(), 401);
    let large = with_token(&hale, &"x".repeat(1 << 20)).await.status();
    assert!(large.is_client_error(), "{large}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_decide_and_go_upstream() {
    let origin = echo().await;
    let mut shop = Shop::of(&[origin.address]);
    let mut jwt = inline();
    jwt.claims_to_headers = vec![ClaimToHeader {
        claim: "email".into(),
        header: "x-email".into(),
    }];
    jwt.required_scopes = vec!["write".into()];
    jwt.required_claims = vec![RequiredClaim {
        claim: "realm_access.roles".into(),
        values: vec!["buyer".into()],
    }];
    protect(&mut shop, jwt);
    let hale = shop.serve();
    let tokens = tokens();
    let response = with_token(&hale, tokens["claims"].as_str().unwrap()).await;
    assert_eq!(text(&response), "alice jwt - a@shop.test");
    // Good, and without what is wanted.
    let response = with_token(&hale, &token("ES256")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let challenge = response.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("error=\"insufficient_scope\""));
}

/// An issuer's endpoint.
struct Issuer {
    address: SocketAddr,
    roots: Roots,
    keys: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    /// Answers over TLS, with 503 until it has keys.
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            address: listener.local_addr().unwrap(),
            roots: Roots::parse(made.cert.pem().as_bytes()).unwrap(),
            keys: Arc::default(),
            asked: Arc::default(),
        };
        let (keys, asked) = (Arc::clone(&issuer.keys), Arc::clone(&issuer.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (keys, asked) = (Arc::clone(&keys), Arc::clone(&asked));
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                        assert_eq!(request.uri().path(), "/keys");
                        asked.fetch_add(1, Ordering::SeqCst);
                        let keys = keys.lock().unwrap().clone();
                        let mut response: Response<Full<Bytes>> = Response::new(Full::default());
                        match keys {
                            Some(keys) => *response.body_mut() = Full::from(keys),
                            None => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
                        }
                        std::future::ready(Ok::<_, std::convert::Infallible>(response))
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        issuer
    }

    fn has(&self, kids: &[&str]) {
        let mut all: Value = serde_json::from_str(KEYS).unwrap();
        let keys = all["keys"].as_array_mut().unwrap();
        keys.retain(|key| kids.contains(&key["kid"].as_str().unwrap()));
        *self.keys.lock().unwrap() = (!kids.is_empty()).then(|| all.to_string());
    }

    fn remote(&self) -> JwtKeys {
        JwtKeys::Remote(RemoteKeys {
            url: format!("https://localhost:{}/keys", self.address.port()),
            roots: Some(Resolved::Known(self.roots.clone())),
            refresh: Duration::from_secs(300),
            stale: Duration::from_secs(86_400),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_and_rotate_under_load() {
    let origin = Origin::saying("let in").await;
    let issuer = Issuer::start().await;
    let mut shop = Shop::of(&[origin.address]);
    protect(&mut shop, rules(issuer.remote()));
    let hale = shop.serve();
    let response = with_token(&hale, &token("ES256")).await;
    assert_eq!(response.status(), 503);
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["reason"], "AuthUnavailable");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("https://localhost:"), "{message}");
    assert_eq!(hale.get("/").await.status(), 503, "nobody can be let in");

    issuer.has(&["p256"]);
    until("keys are there", async || {
        with_token(&hale, &token("ES256")).await.status() == 200
    })
    .await;
    assert_eq!(hale.get("/").await.status(), 401);

    // The issuer signs with a new key, and has both in its set.
    issuer.has(&["p256", "rsa"]);
    let asked = issuer.asked.load(Ordering::SeqCst);
    let (old, new) = (token("ES256"), token("RS256"));
    let many = (0..20).map(|number| {
        let hale = &hale;
        let token = if number % 2 == 0 { &old } else { &new };
        async move { with_token(hale, token).await.status() }
    });
    for status in futures::future::join_all(many).await {
        assert_eq!(status, 200);
    }
    let now = issuer.asked.load(Ordering::SeqCst);
    assert_eq!(now, asked + 1, "one question for all");

    // The next unknown key is too soon, and whatever the endpoint does, the keys stay.
    issuer.has(&[]);
    assert_eq!(with_token(&hale, &token("EdDSA")).await.status(), 401);
    assert_eq!(issuer.asked.load(Ordering::SeqCst), now);
    assert_eq!(with_token(&hale, &new).await.status(), 200);

    // Another policy on the same route keeps them.
    let mut jwt = rules(issuer.remote());
    jwt.clock_skew = Duration::from_secs(1);
    protect(&mut shop, jwt);
    hale.dataplane.publish(shop.config());
    assert_eq!(with_token(&hale, &new).await.status(), 200);
    assert_eq!(issuer.asked.load(Ordering::SeqCst), now);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_share_what_they_fetch_and_loopback_must_be_allowed() {
    let origin = Origin::saying("let in").await;
    let issuer = Issuer::start().await;
    issuer.has(&["p256"]);
    let mut shop = Shop::of(&[origin.address]);
    protect(&mut shop, rules(issuer.remote()));
    let mut config = shop.config();
    let mut other = config.hosts[0].routes[0].clone();
    other.path = hale_dataplane::config::PathRule::prefix("/other").unwrap();
    if let Auth::AnyOf(rules) = &mut other.policy.auth {
        Arc::make_mut(rules).source.name = "other".into();
    }
    config.hosts[0].routes.push(other);
    let hale = Hale::start(config.clone());
    assert_eq!(with_token(&hale, &token("ES256")).await.status(), 200);
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);

    let strict = Hale::with(config, |options| options.allow_loopback_outbound = false);
    let response = with_token(&strict, &token("ES256")).await;
    assert_eq!(response.status(), 503);
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("loopback"), "{message}");
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_there_let_nobody_in() {
    let origin = Origin::saying("let in").await;
    let mut shop = Shop::of(&[origin.address]);
    let gone = "Secret shop/jwks is not there";
    protect(
        &mut shop,
        rules(JwtKeys::Inline(Resolved::Unavailable(gone.into()))),
    );
    let hale = shop.serve();
    for response in [
        hale.get("/").await,
        with_token(&hale, &token("ES256")).await,
    ] {
        assert_eq!(response.status(), 503);
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert!(body["message"].as_str().unwrap().contains(gone));
    }
    assert_eq!(origin.connections(), 0);
}
