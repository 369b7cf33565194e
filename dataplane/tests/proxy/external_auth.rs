//! Another service is asked about each request.

mod trouble;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hale_dataplane::config::{
    Auth, AuthMethod, AuthRules, External, ExternalService, PathRule, Peer, Protocol, Upstream,
    UpstreamId,
};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Hale, Origin, Shop, dead, header, policy, ready, request, text, until};

type Questions = Arc<Mutex<Vec<(Method, Uri, HeaderMap)>>>;

/// A service that answers questions in one way, and remembers them.
struct Judge {
    origin: Origin,
    asked: Questions,
}

impl Judge {
    async fn saying(answer: fn() -> http::response::Builder) -> Self {
        let asked = Arc::default();
        let origin = Origin::http1(Self::script(&asked, answer)).await;
        Self { origin, asked }
    }

    async fn over_http2(answer: fn() -> http::response::Builder) -> Self {
        let asked = Arc::default();
        let origin = Origin::http2(Self::script(&asked, answer)).await;
        Self { origin, asked }
    }

    fn script(
        asked: &Questions,
        answer: fn() -> http::response::Builder,
    ) -> impl Fn(Request<hyper::body::Incoming>) -> std::future::Ready<Response<Full<Bytes>>>
    + Clone
    + Send
    + Sync
    + use<> {
        let asked = Arc::clone(asked);
        move |request| {
            let (parts, _) = request.into_parts();
            let mut asked = asked.lock().unwrap();
            asked.push((parts.method, parts.uri, parts.headers));
            let body = Full::new(Bytes::from_static(b"the judge's own words"));
            std::future::ready(answer().body(body).unwrap())
        }
    }

    fn questions(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn last(&self) -> (Method, Uri, HeaderMap) {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

fn ok() -> http::response::Builder {
    Response::builder().status(200)
}

fn judge_id() -> UpstreamId {
    UpstreamId {
        namespace: "auth".into(),
        service: "judge".into(),
        port: "http".into(),
    }
}

fn external(service: ExternalService) -> External {
    External {
        service,
        path: "/check?v=1".into(),
        timeout: Duration::from_secs(5),
        request_headers: vec!["x-asked".into(), "host".into(), "x-hale-auth".into()],
        response_headers: vec!["x-user".into(), "x-hale-consumer".into()],
        sign_in: None,
        fail_open: false,
    }
}

/// What the shop's peer says it got: headers that are of interest here.
async fn mirror() -> Origin {
    Origin::http1(|request: Request<hyper::body::Incoming>| async move {
        let headers = request.headers();
        let names = [
            "x-user",
            "x-forwarded-user",
            "x-original-user",
            "x-hale-auth",
            "x-hale-consumer",
            "authorization",
            "cookie",
        ];
        let said: Vec<String> = names
            .iter()
            .flat_map(|name| {
                let values = headers.get_all(*name).iter();
                values.map(move |value| format!("{name}={}", value.to_str().unwrap()))
            })
            .collect();
        Response::builder()
            .header("set-cookie", "own=1")
            .body(Full::new(Bytes::from(said.join(" "))))
            .unwrap()
    })
    .await
}

/// A shop whose requests are asked about.
struct Asking {
    shop: Shop,
    judges: Upstream,
    external: External,
    _mirror: Origin,
}

impl Asking {
    async fn peers(judges: &[SocketAddr]) -> Self {
        let mirror = mirror().await;
        let mut judge = Shop::of(judges).upstream;
        judge.id = judge_id();
        Self {
            shop: Shop::of(&[mirror.address]),
            judges: judge,
            external: external(ExternalService::Upstream(judge_id())),
            _mirror: mirror,
        }
    }

    fn config(&self) -> hale_dataplane::config::Config {
        let mut config = self.shop.config();
        let auth = Auth::AnyOf(Arc::new(AuthRules {
            source: policy(),
            methods: vec![AuthMethod::External(self.external.clone())],
            exempt_paths: vec![PathRule::prefix("/health").unwrap()],
            forward_credential: false,
        }));
        config.hosts[0].routes[0].policy.auth = auth;
        config.upstreams.push(self.judges.clone());
        config.upstreams.sort_by(|a, b| a.id.cmp(&b.id));
        config
    }

    fn serve(&self) -> Hale {
        Hale::with(self.config(), |options| {
            options.allow_loopback_outbound = true
        })
    }
}

fn get(headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = request("GET", "/a/../b?c=d e".replace(' ', "%20").as_str(), "");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

fn assert_unavailable(response: &Response<Bytes>) {
    assert_eq!(response.status(), 503);
    assert_eq!(header(response, "x-hale-reason"), "AuthUnavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_question_tells_of_the_request_and_nothing_else() {
    for http2 in [false, true] {
        let judge = match http2 {
            false => Judge::saying(ok).await,
            true => Judge::over_http2(ok).await,
        };
        let mut asking = Asking::peers(&[judge.origin.address]).await;
        if http2 {
            asking.judges.protocol = Protocol::Http2;
        }
        let hale = asking.serve();
        let mut sent = request("POST", "/a/../b?c=%20d", "body");
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("cookie", "a=1"),
            ("x-asked", "yes"),
            ("x-other", "no"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-original-url", "http://evil.example/"),
            ("x-hale-auth", "basic"),
            ("te", "trailers"),
        ] {
            sent.headers_mut().append(name, value.parse().unwrap());
        }
        assert_eq!(hale.send(sent).await.status(), 200);
        let (method, uri, headers) = judge.last();
        assert_eq!(method, Method::GET);
        assert_eq!(uri.path_and_query().unwrap(), "/check?v=1");
        let host = match http2 {
            false => headers["host"].to_str().unwrap(),
            true => uri.authority().unwrap().as_str(),
        };
        assert_eq!(host, "judge.auth.svc");
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("cookie", "a=1"),
            ("x-asked", "yes"),
            ("x-original-method", "POST"),
            ("x-original-url", "http://shop.test/b?c=%20d"),
            ("x-forwarded-method", "POST"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.test"),
            ("x-forwarded-uri", "/b?c=%20d"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
        ] {
            let values: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(values, [value], "{name}");
        }
        assert!(headers.contains_key("x-request-id"));
        for name in [
            "x-other",
            "x-hale-auth",
            "te",
            "content-length",
            "content-type",
        ] {
            assert!(!headers.contains_key(name), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_word_lets_the_request_in_with_what_the_service_adds() {
    let judge = Judge::saying(|| {
        ok().header("x-user", "ada")
            .header("x-secret", "no")
            .header("x-hale-consumer", "root")
            .header("set-cookie", "session=2")
            .header("set-cookie", "more=3")
    })
    .await;
    let hale = Asking::peers(&[judge.origin.address]).await.serve();
    for http2 in [false, true] {
        let sent = get(&[
            ("x-user", "mallory"),
            ("x-hale-consumer", "mallory"),
            ("authorization", "Bearer x"),
            ("cookie", "a=1"),
        ]);
        let answer = match http2 {
            false => hale.send(sent).await,
            true => hale.send_http2(sent).await,
        };
        assert_eq!(
            text(&answer),
            "x-user=ada x-hale-auth=external authorization=Bearer x cookie=a=1"
        );
        let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["own=1", "session=2", "more=3"]);
    }
    assert_eq!(judge.questions(), 2, "no answer is kept");
    let exempt = hale.send(request("GET", "/health", "")).await;
    assert_eq!((exempt.status().as_u16(), text(&exempt)), (200, ""));
    assert_eq!(judge.questions(), 2);
}

/// As oauth2-proxy names them.
#[tokio::test(flavor = "multi_thread")]
async fn who_it_is_may_be_told_in_headers_that_begin_as_those_of_proxies() {
    let judge = Judge::saying(|| {
        ok().header("x-forwarded-user", "ada")
            .header("x-forwarded-for", "203.0.113.9")
    })
    .await;
    let mut asking = Asking::peers(&[judge.origin.address]).await;
    let named = ["x-forwarded-user", "x-original-user", "x-forwarded-for"];
    asking.external.response_headers = named.map(String::from).to_vec();
    asking.external.request_headers = vec!["x-forwarded-user".into()];
    for trusted in [false, true] {
        let hale = Hale::with(asking.config(), |options| {
            if trusted {
                options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            }
        });
        let sent = get(&[
            ("x-forwarded-user", "mallory"),
            ("x-original-user", "mallory"),
        ]);
        let answer = hale.send(sent).await;
        assert_eq!(text(&answer), "x-forwarded-user=ada x-hale-auth=external");
        let (.., told) = judge.last();
        assert_eq!(told.contains_key("x-forwarded-user"), trusted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_the_services_challenges_and_not_its_words() {
    fn unauthorized() -> http::response::Builder {
        Response::builder()
            .status(401)
            .header("www-authenticate", "Bearer realm=\"judge\"")
            .header("www-authenticate", "Negotiate")
            .header("set-cookie", "session=")
    }
    fn forbidden() -> http::response::Builder {
        Response::builder()
            .status(403)
            .header("www-authenticate", "Bearer error=\"insufficient_scope\"")
    }
    let judge = Judge::saying(unauthorized).await;
    let hale = Asking::peers(&[judge.origin.address]).await.serve();
    let answer = hale.send(get(&[])).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(header(&answer, "x-hale-reason"), "AuthRequired");
    let challenges: Vec<_> = answer
        .headers()
        .get_all("www-authenticate")
        .iter()
        .collect();
    assert_eq!(challenges, ["Bearer realm=\"judge\"", "Negotiate"]);
    assert!(!text(&answer).contains("own words"));
    let call = get(&[("content-type", "application/grpc")]);
    assert_eq!(header(&hale.send_http2(call).await, "grpc-status"), "16");
    let judge = Judge::saying(forbidden).await;
    let hale = Asking::peers(&[judge.origin.address]).await.serve();
    let answer = hale.send(get(&[])).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(header(&answer, "x-hale-reason"), "AuthDenied");
    assert_eq!(
        header(&answer, "www-authenticate"),
        "Bearer error=\"insufficient_scope\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_sent_to_sign_in() {
    let judge = Judge::saying(|| Response::builder().status(401)).await;
    let mut asking = Asking::peers(&[judge.origin.address]).await;
    asking.external.sign_in = Some("https://login.example/start?app=shop".into());
    let hale = Hale::with(asking.config(), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let answer = hale.send(get(&browser)).await;
    assert_eq!(answer.status(), 302);
    assert_eq!(header(&answer, "cache-control"), "no-store");
    assert_eq!(
        header(&answer, "location"),
        "https://login.example/start?app=shop&rd=http%3A%2F%2Fshop.test%2Fb%3Fc%3Dd%2520e"
    );
    let behind_tls = [browser[0], ("x-forwarded-proto", "https")];
    let answer = hale.send(get(&behind_tls)).await;
    assert!(header(&answer, "location").contains("&rd=https%3A%2F%2Fshop.test"));
    // What is no browser's page is told, and not sent away.
    assert_eq!(
        hale.send(get(&[("accept", "application/json")]))
            .await
            .status(),
        401
    );
    let mut post = get(&browser);
    *post.method_mut() = Method::POST;
    assert_eq!(hale.send(post).await.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_no_word() {
    fn with(status: u16) -> fn() -> http::response::Builder {
        match status {
            302 => || Response::builder().status(302).header("location", "/login"),
            404 => || Response::builder().status(404),
            431 => || Response::builder().status(431),
            500 => || Response::builder().status(500),
            _ => || Response::builder().status(503),
        }
    }
    for status in [302, 404, 431, 500, 503] {
        let judge = Judge::saying(with(status)).await;
        let mut asking = Asking::peers(&[judge.origin.address]).await;
        assert_unavailable(&asking.serve().send(get(&[])).await);
        assert_eq!(judge.questions(), 1, "{status} is not asked again");
        // Only a gateway that says that nobody is there is like nobody.
        asking.external.fail_open = true;
        let answer = asking.serve().send(get(&[])).await;
        match status {
            503 => assert_eq!(answer.status(), 200),
            _ => assert_unavailable(&answer),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_judged_goes_upstream_whole() {
    let judge = Judge::saying(ok).await;
    let asking = Asking::peers(&[judge.origin.address]).await;
    let hale = asking.serve();
    let fine = [
        ("connection", "keep-alive, te"),
        ("te", "trailers"),
        ("x-want", "1"),
    ];
    assert_eq!(hale.send(get(&fine)).await.status(), 200);
    let answer = hale
        .send(get(&[("connection", "x-want"), ("x-want", "1")]))
        .await;
    assert_eq!(answer.status(), 400);
    assert_eq!(header(&answer, "x-hale-reason"), "BadRequest");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_by_url_is_asked_the_same() {
    let judge = Judge::saying(|| ok().header("x-user", "ada")).await;
    let mut asking = Asking::peers(&[]).await;
    let url = format!("http://{}", judge.origin.address);
    asking.external.service = ExternalService::Url(url);
    let answer = asking.serve().send(get(&[])).await;
    assert_eq!(text(&answer), "x-user=ada x-hale-auth=external");
    let (method, uri, headers) = judge.last();
    assert_eq!(
        (method, uri.to_string().as_str()),
        (Method::GET, "/check?v=1")
    );
    assert_eq!(headers["host"], judge.origin.address.to_string().as_str());
    // Loopback is not for policies to ask, unless Hale is told so; and that is no failure to pass over.
    asking.external.fail_open = true;
    let hale = Hale::with(asking.config(), |options| {
        options.allow_loopback_outbound = false;
    });
    assert_unavailable(&hale.send(get(&[])).await);
    asking.external.service = ExternalService::Url(format!("http://{}", dead().await));
    assert_eq!(asking.serve().send(get(&[])).await.status(), 200);
    asking.external.fail_open = false;
    assert_unavailable(&asking.serve().send(get(&[])).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_not_asked_about() {
    let judge = Judge::saying(ok).await;
    let mut asking = Asking::peers(&[judge.origin.address]).await;
    asking.external.fail_open = true;
    let hale = asking.serve();
    // Whoever forges the mark gains nothing by it.
    assert_unavailable(&hale.send(get(&[("x-hale-question", "1")])).await);
    assert_eq!(judge.questions(), 0);
    // Hale asks itself: the second question is the last.
    asking.external.fail_open = false;
    asking.external.service = ExternalService::Url(format!("http://{}", hale.address));
    hale.dataplane.publish(asking.config());
    assert_unavailable(&hale.send(get(&[])).await);
}
