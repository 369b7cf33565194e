//! Retries: who is given up on, what a policy asks for, and what a budget allows.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hale_dataplane::{
    config::{
        ActiveCheck, CheckKind, HttpCheck, Initial, NonIdempotent, Percent, Protocol, Retry,
        RetryBudget, RetryOn, SamePeer, StatusRange,
    },
    health::Verdict,
    prometheus_client::{encoding::text::encode, registry::Registry},
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    io::AsyncReadExt,
    sync::{Semaphore, watch},
};

use crate::support::{Hale, Origin, Shop, request, text, until};

fn saying(status: u16, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn metrics(hale: &Hale) -> String {
    let mut registry = Registry::default();
    hale.dataplane.register_metrics(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

/// A server that can be stopped: it then takes connections and requests, and answers nothing, checks included.
struct Stoppable {
    origin: Origin,
    stopped: watch::Sender<bool>,
    waiting: Arc<AtomicUsize>,
    posts: Arc<AtomicUsize>,
}

impl Stoppable {
    async fn new(name: &'static str, protocol: Protocol) -> Self {
        let stopped = watch::Sender::new(false);
        let (waiting, posts) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let answer = {
            let (stopped, waiting, posts) =
                (stopped.clone(), Arc::clone(&waiting), Arc::clone(&posts));
            move |request: Request<Incoming>| {
                let mut stopped = stopped.subscribe();
                let (waiting, posts) = (Arc::clone(&waiting), Arc::clone(&posts));
                async move {
                    if *request.method() == Method::POST {
                        posts.fetch_add(1, Ordering::SeqCst);
                    }
                    if *stopped.borrow() && request.uri().path() != "/healthz" {
                        waiting.fetch_add(1, Ordering::SeqCst);
                    }
                    let _ = stopped.wait_for(|stopped| !stopped).await;
                    saying(200, name)
                }
            }
        };
        let origin = match protocol {
            Protocol::Http1 => Origin::http1(answer).await,
            Protocol::Http2 => Origin::http2(answer).await,
        };
        Self {
            origin,
            stopped,
            waiting,
            posts,
        }
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    fn go_on(&self) {
        self.stopped.send_replace(false);
    }

    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    fn posts(&self) -> usize {
        self.posts.load(Ordering::SeqCst)
    }
}

fn check() -> ActiveCheck {
    ActiveCheck {
        kind: CheckKind::Http(HttpCheck {
            method: "GET".into(),
            path: "/healthz".into(),
            host: None,
            headers: Vec::new(),
            expected_statuses: vec![StatusRange { from: 200, to: 399 }],
            expected_body: None,
        }),
        interval: Duration::from_millis(200),
        timeout: Duration::from_millis(200),
        jitter: Percent::default(),
        unhealthy_threshold: 2,
        healthy_threshold: 1,
        initial: Initial::Checking,
    }
}

/// Requests side by side, and what each was answered with.
async fn together(hale: &Arc<Hale>, method: &'static str, many: usize) -> Vec<(u16, String)> {
    let calls = (0..many).map(|_| {
        let hale = Arc::clone(hale);
        async move {
            let body = if method == "POST" { "pay" } else { "" };
            let response = hale.send(request(method, "/", body)).await;
            (response.status().as_u16(), text(&response).to_owned())
        }
    });
    futures::future::join_all(calls).await
}

async fn a_stopped_peer_is_left(protocol: Protocol) {
    let (a, b) = (
        Stoppable::new("a", protocol).await,
        Stoppable::new("b", protocol).await,
    );
    let mut shop = Shop::of(&[a.origin.address, b.origin.address]);
    shop.upstream.protocol = protocol;
    shop.upstream.health.active = Some(check());
    // Nothing but the check can end the wait.
    shop.policy.timeouts.backend_request = None;
    let hale = Arc::new(shop.serve());
    let verdict = |peer: usize| hale.dataplane.report().upstreams[0].peers[peer].probe;
    until("both pass", async || {
        (0..2).all(|peer| verdict(peer) == Verdict::Pass)
    })
    .await;
    a.stop();
    let caller = Arc::clone(&hale);
    let posts = tokio::spawn(async move { together(&caller, "POST", 2).await });
    until("one POST waits for a", async || a.waiting() == 1).await;
    let gets = together(&hale, "GET", 8).await;
    assert!(
        gets.iter().all(|got| *got == (200, "b".to_owned())),
        "{gets:?}"
    );
    assert!(a.waiting() > 1, "GETs had waited for a, too");
    assert_eq!(verdict(0), Verdict::Fail);
    assert_eq!((a.posts(), b.posts()), (1, 1), "a POST waits where it is");
    assert!(metrics(&hale).contains(r#"outcome="PeerFailed"} "#));
    a.go_on();
    let posts: HashSet<(u16, String)> = posts.await.unwrap().into_iter().collect();
    assert_eq!(posts, HashSet::from([(200, "a".into()), (200, "b".into())]));
    assert_eq!((a.posts(), b.posts()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_leaves_a_peer_that_is_found_failing_and_a_post_does_not() {
    a_stopped_peer_is_left(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_over_http2() {
    a_stopped_peer_is_left(Protocol::Http2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_leaves_a_busy_peer_that_falls_silent_with_its_check() {
    let a = Stoppable::new("a", Protocol::Http1).await;
    let b = Stoppable::new("b", Protocol::Http1).await;
    let mut shop = Shop::of(&[a.origin.address, b.origin.address]);
    shop.upstream.health.active = Some(ActiveCheck {
        unhealthy_threshold: 1000,
        ..check()
    });
    shop.policy.timeouts.backend_request = None;
    let hale = Arc::new(shop.serve());
    let peer = |number: usize| {
        hale.dataplane
            .report()
            .upstreams
            .remove(0)
            .peers
            .remove(number)
    };
    let checked = || peer(0).last_check.map_or(0, |last| last.in_a_row);
    until("both are busy while they are checked", async || {
        together(&hale, "GET", 2).await;
        checked() >= 4 && peer(1).probe == Verdict::Pass
    })
    .await;
    a.stop();
    let gets = together(&hale, "GET", 8).await;
    assert!(
        gets.iter().all(|got| *got == (200, "b".to_owned())),
        "{gets:?}"
    );
    assert!(a.waiting() > 0, "GETs had waited for a, too");
    assert_eq!(peer(0).probe, Verdict::Pass, "one check says little");
    let left = a.waiting();
    together(&hale, "POST", 8).await;
    assert_eq!(a.waiting(), left, "others are preferred");
    a.go_on();
    until("a is asked again", async || {
        together(&hale, "GET", 2).await.contains(&(200, "a".into()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_is_left_to_finish_on_a_peer_that_kubernetes_takes_away() {
    let a = Stoppable::new("a", Protocol::Http1).await;
    let b = Stoppable::new("b", Protocol::Http1).await;
    let mut shop = Shop::of(&[a.origin.address]);
    shop.policy.timeouts.backend_request = None;
    let hale = Arc::new(shop.serve());
    a.stop();
    let caller = Arc::clone(&hale);
    let get = tokio::spawn(async move { together(&caller, "GET", 1).await });
    until("it waits for a", async || a.waiting() == 1).await;
    shop.upstream.peers = Shop::of(&[b.origin.address]).upstream.peers;
    hale.dataplane.publish(shop.config());
    assert_eq!(together(&hale, "GET", 1).await, [(200, "b".to_owned())]);
    a.go_on();
    assert_eq!(get.await.unwrap(), [(200, "a".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_waits_on_where_there_is_no_other_peer() {
    let a = Stoppable::new("a", Protocol::Http1).await;
    let mut shop = Shop::of(&[a.origin.address]);
    shop.upstream.health.active = Some(check());
    shop.policy.timeouts.backend_request = None;
    let hale = Arc::new(shop.serve());
    let verdict = || hale.dataplane.report().upstreams[0].peers[0].probe;
    until("it passes", async || verdict() == Verdict::Pass).await;
    a.stop();
    let caller = Arc::clone(&hale);
    let get = tokio::spawn(async move { together(&caller, "GET", 1).await });
    until("it waits", async || a.waiting() == 1).await;
    until("a fails", async || verdict() == Verdict::Fail).await;
    a.go_on();
    assert_eq!(get.await.unwrap(), [(200, "a".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_a_few_of_the_requests_under_way_are_tried_again() {
    const REQUESTS: usize = 10;
    let (seen, go) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
    let (counter, gate) = (Arc::clone(&seen), Arc::clone(&go));
    // Takes a request, and resets its connection when told to.
    let origin = Origin::raw(move |mut stream, _| {
        let (counter, gate) = (Arc::clone(&counter), Arc::clone(&gate));
        async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            counter.fetch_add(1, Ordering::SeqCst);
            gate.acquire().await.unwrap().forget();
        }
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    let twin = shop.upstream.peers[0].clone();
    shop.upstream.peers.push(twin);
    shop.upstream.peers[1].uid = "another".into();
    let hale = Arc::new(shop.serve());
    let calls: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let hale = Arc::clone(&hale);
            tokio::spawn(async move { hale.get("/").await })
        })
        .collect();
    until("all are under way", async || {
        seen.load(Ordering::SeqCst) == REQUESTS
    })
    .await;
    go.add_permits(REQUESTS);
    until("three are tried again", async || {
        seen.load(Ordering::SeqCst) == REQUESTS + 3
            && calls.iter().filter(|call| call.is_finished()).count() == REQUESTS - 3
    })
    .await;
    go.add_permits(3);
    let mut reasons = Vec::new();
    for call in calls {
        let response = call.await.unwrap();
        let reason = response.headers()["x-hale-reason"].to_str().unwrap();
        if reason == "RetryBudgetExhausted" {
            assert!(
                text(&response).contains("the last try: UpstreamReset"),
                "{}",
                text(&response)
            );
        }
        reasons.push(reason.to_owned());
    }
    reasons.sort();
    let spent = std::iter::repeat_n("RetryBudgetExhausted", REQUESTS - 3);
    let wanted: Vec<&str> = spent.chain(["UpstreamReset"; 3]).collect();
    assert_eq!(reasons, wanted);
    let counted = metrics(&hale);
    assert!(
        counted.contains(r#"hale_upstream_retries_refused_total{upstream="shop/web:http"} 7"#),
        "{counted}"
    );
}

pub(crate) fn policy() -> Retry {
    Retry {
        attempts: 2,
        codes: vec![503],
        on: RetryOn {
            connect_error: true,
            reset: true,
            timeout: true,
        },
        backoff: Duration::from_millis(1),
        per_try_timeout: None,
        non_idempotent: NonIdempotent::Never,
        same_peer: SamePeer::LastResort,
        grpc_codes: Vec::new(),
        budget: RetryBudget {
            percent: Percent::new(20).unwrap(),
            interval: Duration::from_secs(10),
            min_retries: 100,
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_tried_again_does_not_cost_its_connection() {
    let asked = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&asked);
    let busy = Origin::http1(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { saying(503, "busy") }
    })
    .await;
    let other = Origin::saying("fine").await;
    let mut shop = Shop::of(&[busy.address, other.address]);
    shop.policy.retry = Some(policy());
    let hale = shop.serve();
    for _ in 0..20 {
        assert_eq!(text(&hale.get("/").await), "fine");
    }
    let asked = asked.load(Ordering::SeqCst);
    assert!(asked >= 8, "{asked}");
    assert!(busy.connections() < asked / 2, "{}", busy.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_budget_is_spent_the_peers_answer_is_passed_on() {
    let busy = Origin::http1(|_| async { saying(503, "busy") }).await;
    let mut shop = Shop::of(&[busy.address]);
    let mut retry = policy();
    retry.budget.percent = Percent::default();
    retry.budget.min_retries = 1;
    shop.policy.retry = Some(retry);
    let hale = shop.serve();
    let response = hale.get("/").await;
    assert_eq!((response.status().as_u16(), text(&response)), (503, "busy"));
    assert!(!response.headers().contains_key("x-hale-reason"));
    assert!(metrics(&hale).contains("hale_upstream_retries_refused_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_asks_for_a_long_wait_is_not_asked_again() {
    let asked = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&asked);
    let busy = Origin::http1(move |request: Request<Incoming>| {
        let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
        let wait = request.uri().path().trim_start_matches('/').to_owned();
        async move {
            if wait == "0" && !first {
                return saying(200, "done");
            }
            let mut response = saying(503, "later");
            response
                .headers_mut()
                .insert("retry-after", wait.parse().unwrap());
            response
        }
    })
    .await;
    let mut shop = Shop::of(&[busy.address]);
    shop.policy.retry = Some(policy());
    let hale = shop.serve();
    assert_eq!(text(&hale.get("/0").await), "done");
    assert_eq!(asked.swap(0, Ordering::SeqCst), 2);
    let response = hale.get("/30").await;
    assert_eq!(
        (response.status().as_u16(), text(&response)),
        (503, "later")
    );
    assert_eq!(response.headers()["retry-after"], "30");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_try_has_a_time_of_its_own() {
    let mute = Stoppable::new("mute", Protocol::Http1).await;
    mute.stop();
    let other = Origin::saying("fine").await;
    let mut shop = Shop::of(&[mute.origin.address, other.address]);
    shop.policy.retry = Some(Retry {
        per_try_timeout: Some(Duration::from_millis(50)),
        ..policy()
    });
    let hale = shop.serve();
    for _ in 0..4 {
        assert_eq!(text(&hale.get("/").await), "fine");
    }
    assert!(mute.waiting() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_with_an_idempotency_key_is_sent_again_where_the_policy_says_so() {
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&keys);
    let failing = Arc::new(AtomicBool::new(true));
    let origin = Origin::http1(move |request: Request<Incoming>| {
        let fails = failing.fetch_xor(true, Ordering::SeqCst);
        let key = request
            .headers()
            .get("idempotency-key")
            .map_or("", |key| key.to_str().unwrap());
        kept.lock().unwrap().push(key.to_owned());
        async move { saying(if fails { 503 } else { 200 }, "") }
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.policy.retry = Some(Retry {
        non_idempotent: NonIdempotent::WithIdempotencyKey,
        ..policy()
    });
    let hale = shop.serve();
    let mut order = request("POST", "/", "one book");
    order
        .headers_mut()
        .insert("idempotency-key", "order-7".parse().unwrap());
    assert_eq!(hale.send(order).await.status(), StatusCode::OK);
    assert_eq!(*keys.lock().unwrap(), ["order-7", "order-7"]);
    let response = hale.send(request("POST", "/", "one book")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_call_that_was_not_taken_on_is_made_again_where_the_policy_names_its_code() {
    let asked = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&asked);
    let origin = Origin::http2(move |_| {
        let code = if counter.fetch_add(1, Ordering::SeqCst) == 0 {
            "14"
        } else {
            "5"
        };
        async move {
            let mut response = saying(200, "");
            response
                .headers_mut()
                .insert("grpc-status", code.parse().unwrap());
            response
        }
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    shop.policy.retry = Some(Retry {
        grpc_codes: vec![14],
        ..policy()
    });
    let hale = shop.serve();
    let mut call = request("POST", "/shop.Cart/Get", "\0\0\0\0\x02hi");
    let headers = call.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    let response = hale.send(call).await;
    assert_eq!(response.headers()["grpc-status"], "5");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
