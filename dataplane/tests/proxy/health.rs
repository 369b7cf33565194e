//! Checks decide who is served: real peers that fail, hang and recover, behind a whole dataplane.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hale_dataplane::{
    config::{
        ActiveCheck, CheckKind, HttpCheck, Initial, Percent, Readiness, StatusRange, Terminating,
    },
    health::{Standing, Verdict},
    reason::Reason,
    report::{PeerReport, UpstreamReport},
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;

use crate::support::{Hale, Origin, Shop, text, until};

const INTERVAL: Duration = Duration::from_millis(100);
const FAILURES: u32 = 3;

/// A peer with a check at `/healthz`, which tells its name for all else.
struct Patient {
    origin: Origin,
    state: Arc<AtomicUsize>,
}

const WELL: usize = 200;
const ILL: usize = 503;
/// The check has no answer, ever.
const MUTE: usize = 0;

impl Patient {
    async fn new(name: &'static str, state: usize) -> Self {
        let state = Arc::new(AtomicUsize::new(state));
        let shared = Arc::clone(&state);
        let origin = Origin::http1(move |request: Request<Incoming>| {
            let state = shared.load(Ordering::SeqCst);
            async move {
                if request.uri().path() != "/healthz" {
                    return Response::new(Full::new(Bytes::from_static(name.as_bytes())));
                }
                if state == MUTE {
                    std::future::pending::<()>().await;
                }
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::from_u16(state as u16).unwrap();
                response
            }
        })
        .await;
        Self { origin, state }
    }

    fn becomes(&self, state: usize) {
        self.state.store(state, Ordering::SeqCst);
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
        interval: INTERVAL,
        timeout: INTERVAL,
        jitter: Percent::new(20).unwrap(),
        unhealthy_threshold: FAILURES,
        healthy_threshold: 2,
        initial: Initial::Checking,
    }
}

/// Checks that are far apart, and long: what happens, happens without a second one.
fn slow_check() -> ActiveCheck {
    ActiveCheck {
        interval: Duration::from_secs(600),
        timeout: Duration::from_secs(600),
        unhealthy_threshold: 1,
        ..check()
    }
}

fn shop(patients: &[&Patient], active: ActiveCheck) -> Shop {
    let addresses: Vec<SocketAddr> = patients
        .iter()
        .map(|patient| patient.origin.address)
        .collect();
    let mut shop = Shop::of(&addresses);
    shop.upstream.health.active = Some(active);
    shop
}

fn upstream(hale: &Hale) -> UpstreamReport {
    hale.dataplane.report().upstreams.remove(0)
}

fn peer(hale: &Hale, index: usize) -> PeerReport {
    upstream(hale).peers.remove(index)
}

/// Waits until the checks say so of the peers, in their order.
async fn verdicts(hale: &Hale, wanted: &[Verdict]) {
    until(&format!("{wanted:?}"), async || {
        let peers = upstream(hale).peers;
        peers
            .iter()
            .map(|peer| peer.probe)
            .eq(wanted.iter().copied())
    })
    .await;
}

/// Who answers twenty requests.
async fn answering(hale: &Hale) -> Vec<String> {
    let mut names = BTreeSet::new();
    for _ in 0..20 {
        let response = hale.get("/").await;
        assert_eq!(response.status(), StatusCode::OK, "{}", text(&response));
        names.insert(text(&response).to_owned());
    }
    names.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_peer_leaves_traffic_in_time_and_comes_back() {
    let (a, b) = (Patient::new("a", WELL).await, Patient::new("b", WELL).await);
    let hale = shop(&[&a, &b], check()).serve();
    verdicts(&hale, &[Verdict::Pass; 2]).await;
    assert_eq!(answering(&hale).await, ["a", "b"]);

    let mut changes = hale.dataplane.changes();
    changes.mark_unchanged();
    let fell_ill = Instant::now();
    a.becomes(ILL);
    tokio::time::timeout(Duration::from_secs(10), changes.changed())
        .await
        .unwrap()
        .unwrap();
    let took = fell_ill.elapsed();
    assert!(
        took <= INTERVAL * FAILURES + Duration::from_secs(1),
        "{took:?}"
    );
    assert_eq!(answering(&hale).await, ["b"]);
    let report = peer(&hale, 0);
    assert_eq!(report.reason, Some(Reason::ActiveCheckFailed));
    assert_eq!(
        (report.standing, report.serving),
        (Standing::Exclude, false)
    );
    let row = report.last_check.unwrap().in_a_row;
    let wanted = format!("GET /healthz: HTTP 503, want 200-399, {row} in a row");
    assert_eq!(report.message, wanted);

    a.becomes(WELL);
    verdicts(&hale, &[Verdict::Pass; 2]).await;
    assert_eq!(answering(&hale).await, ["a", "b"]);
    let mut registry = hale_dataplane::prometheus_client::registry::Registry::default();
    hale.dataplane.register_metrics(&mut registry);
    let mut metrics = String::new();
    hale_dataplane::prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
    for result in ["pass", "fail"] {
        let name = format!("hale_probes_total{{upstream=\"shop/web:http\",result=\"{result}\"}}");
        assert!(metrics.contains(&name), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_fail_the_answer_says_why() {
    let (a, b) = (Patient::new("a", ILL).await, Patient::new("b", ILL).await);
    let mut shop = shop(&[&a, &b], check());
    shop.upstream.peers.extend(
        Shop::of(&[SocketAddr::from(([127, 0, 0, 1], 1))])
            .upstream
            .peers,
    );
    shop.upstream.peers[2].readiness = Readiness::Unready;
    let hale = shop.serve();
    verdicts(&hale, &[Verdict::Fail; 3]).await;
    let response = hale.get("/").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-hale-reason"], "NoEligiblePeer");
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(
        body["peers"],
        json!({"total": 3, "byReason": {"ActiveCheckFailed": 2, "NotReady": 1}})
    );
    let message = |index: usize| body["detail"][index]["message"].as_str().unwrap();
    assert!(
        message(0).starts_with("GET /healthz: HTTP 503, want 200-399, "),
        "{body}"
    );
    assert!(
        message(2).starts_with("Kubernetes calls the pod not ready; GET /healthz: "),
        "{body}"
    );

    b.becomes(WELL);
    until("b is back", async || upstream(&hale).serving == 1).await;
    assert_eq!(answering(&hale).await, ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchecked_peer_serves_only_while_none_has_passed() {
    let (a, b) = (Patient::new("a", MUTE).await, Patient::new("b", MUTE).await);
    let mut shop = shop(&[&a], slow_check());
    let hale = shop.serve();
    assert_eq!(answering(&hale).await, ["a"]);
    let report = peer(&hale, 0);
    assert_eq!(
        (report.standing, report.serving),
        (Standing::Unproven, true)
    );
    assert_eq!(report.reason, Some(Reason::NotYetChecked));

    b.becomes(WELL);
    shop.upstream
        .peers
        .extend(Shop::of(&[b.origin.address]).upstream.peers);
    hale.dataplane.publish(shop.config());
    verdicts(&hale, &[Verdict::Unknown, Verdict::Pass]).await;
    assert_eq!(answering(&hale).await, ["b"]);

    // Where unchecked peers are taken for healthy, both serve.
    let active = ActiveCheck {
        initial: Initial::Healthy,
        ..slow_check()
    };
    shop.upstream.health.active = Some(active);
    hale.dataplane.publish(shop.config());
    assert_eq!(answering(&hale).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_panic_threshold_failing_peers_serve_and_unready_ones_do_not() {
    let patients = [
        Patient::new("a", ILL).await,
        Patient::new("b", ILL).await,
        Patient::new("c", WELL).await,
        Patient::new("d", WELL).await,
    ];
    let [a, b, c, d] = &patients;
    let mut shop = shop(&[a, b, c, d], check());
    shop.upstream.peers[3].readiness = Readiness::Unready;
    let hale = shop.serve();
    verdicts(
        &hale,
        &[Verdict::Fail, Verdict::Fail, Verdict::Pass, Verdict::Pass],
    )
    .await;
    assert_eq!(answering(&hale).await, ["c"]);
    assert!(!upstream(&hale).panic);

    shop.upstream.health.panic_threshold = Percent::new(50).unwrap();
    hale.dataplane.publish(shop.config());
    assert_eq!(answering(&hale).await, ["a", "b", "c"]);
    assert!(upstream(&hale).panic);

    b.becomes(WELL);
    until("two of three are enough", async || !upstream(&hale).panic).await;
    assert_eq!(answering(&hale).await, ["b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_and_the_check_must_both_agree() {
    let (a, b) = (Patient::new("a", WELL).await, Patient::new("b", ILL).await);
    let c = Patient::new("c", WELL).await;
    let mut shop = shop(&[&a, &b, &c], check());
    shop.upstream.peers[0].readiness = Readiness::Unready;
    shop.upstream.peers[2].readiness = Readiness::Draining;
    shop.upstream.health.terminating = Terminating::Never;
    let hale = shop.serve();
    verdicts(&hale, &[Verdict::Pass, Verdict::Fail, Verdict::Pass]).await;
    let response = hale.get("/").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let reasons: Vec<Reason> = upstream(&hale).by_reason.into_keys().collect();
    assert_eq!(
        reasons,
        [
            Reason::NotReady,
            Reason::Terminating,
            Reason::ActiveCheckFailed
        ]
    );

    shop.upstream.health.terminating = Terminating::LastResort;
    hale.dataplane.publish(shop.config());
    assert_eq!(answering(&hale).await, ["c"]);
    shop.upstream.health.ignore_readiness = true;
    hale.dataplane.publish(shop.config());
    assert_eq!(answering(&hale).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_becomes_ready_need_not_wait_for_its_next_check() {
    let starting = Patient::new("starting", ILL).await;
    let mut shop = shop(&[&starting], slow_check());
    shop.upstream.peers[0].readiness = Readiness::Unready;
    let hale = shop.serve();
    verdicts(&hale, &[Verdict::Fail]).await;
    starting.becomes(WELL);
    shop.upstream.peers[0].readiness = Readiness::Ready;
    hale.dataplane.publish(shop.config());
    verdicts(&hale, &[Verdict::Pass]).await;
    assert_eq!(answering(&hale).await, ["starting"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_taken_away_keeps_nobody_out() {
    let ill = Patient::new("ill", ILL).await;
    let mut shop = shop(&[&ill], slow_check());
    let hale = shop.serve();
    verdicts(&hale, &[Verdict::Fail]).await;
    assert_eq!(
        hale.get("/").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    shop.upstream.health.active = None;
    hale.dataplane.publish(shop.config());
    assert_eq!(answering(&hale).await, ["ill"]);
    assert_eq!(peer(&hale, 0).last_check, None);
    // The same check again begins with nothing.
    ill.becomes(MUTE);
    shop.upstream.health.active = Some(slow_check());
    hale.dataplane.publish(shop.config());
    assert_eq!(peer(&hale, 0).standing, Standing::Unproven);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_may_go_to_a_port_of_its_own() {
    let traffic = Patient::new("traffic", ILL).await;
    let admin = Patient::new("admin", WELL).await;
    let mut shop = shop(&[&traffic], check());
    shop.upstream.peers[0].check_port = Some(admin.origin.address.port());
    let hale = shop.serve();
    verdicts(&hale, &[Verdict::Pass]).await;
    assert_eq!(answering(&hale).await, ["traffic"]);
    let port = admin.origin.address.port();
    let message = peer(&hale, 0).last_check.unwrap().message;
    assert_eq!(message, format!("GET /healthz on port {port}: HTTP 200"));
}
