//! Every reason by a real fault: the header, the body, the access log, the metrics, the report and
//! `why` must tell the same story of it, and name the same peer.

use std::{any::Any, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use hale_dataplane::{
    AccessLog,
    config::{
        Action, ActiveCheck, BodyMatch, CheckKind, Config, GrpcCheck, Hostname, HttpCheck, Initial,
        NonIdempotent, Percent, Problem, Protocol, Readiness, Retry, RetryBudget, RetryOn,
        SamePeer, StatusRange, Terminating, Trust, UpstreamTls,
    },
    prometheus_client::{encoding::text::encode, registry::Registry},
    reason::Reason,
    report::WhyRequest,
    tls::Roots,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::support::{Hale, Origin, Shop, dead, text, until};

/// A fault, and what must be told of it everywhere.
struct Fault {
    name: &'static str,
    config: Config,
    /// Keeps the fault up.
    _keep: Box<dyn Any>,
    status: u16,
    /// What the request is answered with.
    reason: Reason,
    /// What the next one would meet, where that is not the same.
    next: Reason,
    /// What the one peer is out for.
    peer: Option<Reason>,
    /// What the one peer's attempts came to.
    outcome: Option<Reason>,
    /// What the peer's message, or the upstream's, has in it.
    says: &'static str,
}

impl Fault {
    fn of(name: &'static str, shop: &Shop, reason: Reason, says: &'static str) -> Self {
        Self {
            name,
            config: shop.config(),
            _keep: Box::new(()),
            status: 503,
            reason,
            next: reason,
            peer: None,
            outcome: None,
            says,
        }
    }

    fn keeping(mut self, what: impl Any) -> Self {
        self._keep = Box::new(what);
        self
    }

    fn peer(mut self, reason: Reason) -> Self {
        self.peer = Some(reason);
        self
    }

    fn attempted(mut self, outcome: Reason, status: u16) -> Self {
        self.outcome = Some(outcome);
        self.status = status;
        self
    }

    fn address(&self) -> Option<SocketAddr> {
        Some(self.config.upstreams.first()?.peers.first()?.address)
    }

    /// Has a request meet the fault, and compares what is told of it.
    async fn show(&self) {
        let name = self.name;
        let log = std::env::temp_dir().join(format!("hale-{}-{name}.log", std::process::id()));
        let hale = Hale::with(self.config.clone(), |options| {
            options.access_log = AccessLog::File(log.clone());
        });
        if self
            .config
            .upstreams
            .iter()
            .any(|upstream| upstream.health.active.is_some())
        {
            until(&format!("{name}: the check has decided"), async || {
                let report = hale.dataplane.report();
                report.upstreams[0].peers[0].reason == self.peer
            })
            .await;
        }
        let response = hale.get("/").await;
        self.answer(&response);
        self.log(&log).await;
        self.metrics(&hale).await;
        self.report(&hale);
        std::fs::remove_file(&log).unwrap();
    }

    fn answer(&self, response: &Response<Bytes>) {
        let name = self.name;
        assert_eq!(
            response.status().as_u16(),
            self.status,
            "{name}: {}",
            text(response)
        );
        let told = response.headers()["x-hale-reason"].to_str().unwrap();
        assert_eq!(told, self.reason.as_str(), "{name}: header");
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["reason"], self.reason.as_str(), "{name}: body");
        if let Some(address) = self.address() {
            assert_eq!(body["upstream"], "shop/web:http", "{name}");
            let address = address.to_string();
            assert!(text(response).contains(&address), "{name}: {body}");
        }
        if let Some(peer) = self.peer {
            assert_eq!(body["peers"]["byReason"][peer.as_str()], 1, "{name}");
            let detail = &body["detail"][0];
            assert_eq!(
                detail["peer"],
                self.address().unwrap().to_string(),
                "{name}"
            );
            assert_eq!(detail["reason"], peer.as_str(), "{name}");
        }
        assert!(
            text(response).contains(self.says),
            "{name}: {:?} is not in {}",
            self.says,
            text(response)
        );
    }

    async fn log(&self, path: &PathBuf) {
        let name = self.name;
        let read = || std::fs::read_to_string(path).unwrap_or_default();
        until(&format!("{name}: a line is written"), async || {
            read().ends_with('\n')
        })
        .await;
        let line: Value = serde_json::from_str(read().lines().next().unwrap()).unwrap();
        assert_eq!(line["reason"], self.reason.as_str(), "{name}: log {line}");
        assert_eq!(line["status"], self.status, "{name}: log {line}");
        let attempts = line["attempts"].as_array().unwrap();
        assert_eq!(attempts.is_empty(), self.outcome.is_none(), "{name}");
        for attempt in attempts {
            assert_eq!(attempt["peer"], self.address().unwrap().to_string());
            let outcome = self.outcome.unwrap().as_str();
            assert_eq!(attempt["outcome"], outcome, "{name}: log {line}");
        }
    }

    async fn metrics(&self, hale: &Hale) {
        let mut registry = Registry::default();
        hale.dataplane.register_metrics(&mut registry);
        let mut wanted = vec![format!(
            "hale_rejects_total{{reason=\"{}\"}} 1\n",
            self.reason
        )];
        if let Some(peer) = self.peer {
            wanted.push(format!(",reason=\"{peer}\"}} 1\n"));
        }
        if let Some(outcome) = self.outcome {
            wanted.push(format!(
                "hale_upstream_attempts_total{{upstream=\"shop/web:http\",outcome=\"{outcome}\"}} "
            ));
        }
        until(&format!("{}: {wanted:?}", self.name), async || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            wanted.iter().all(|line| text.contains(line))
        })
        .await;
    }

    fn report(&self, hale: &Hale) {
        let name = self.name;
        let why = hale.dataplane.why(&WhyRequest {
            https: false,
            host: "shop.test".into(),
            path: "/".into(),
        });
        let why = why.unwrap();
        assert_eq!(why.reason, Some(self.next), "{name}: why {why:?}");
        let Some(upstream) = hale.dataplane.report().upstreams.pop() else {
            assert!(why.message.contains(self.says), "{name}: why {why:?}");
            return;
        };
        assert_eq!(upstream.reason, Some(self.next), "{name}: {upstream:?}");
        let mut told = why.message;
        if let Some(peer) = upstream.peers.first() {
            assert_eq!(peer.serving, self.outcome.is_some(), "{name}: {peer:?}");
            if let Some(outcome) = self.outcome {
                let error = peer.last_error.as_ref().unwrap();
                assert_eq!(error.reason, outcome, "{name}: {peer:?}");
                let pod = peer.pod.as_ref().unwrap();
                assert!(told.contains(&**pod), "{name}: {told}");
            }
            assert_eq!(peer.reason, self.peer, "{name}: {peer:?}");
            assert_eq!(Some(peer.address), self.address(), "{name}");
            told.push_str(&peer.message);
        }
        if let Some(peer) = self.peer {
            assert_eq!(upstream.by_reason.get(&peer), Some(&1), "{name}");
        }
        assert!(told.contains(self.says), "{name}: {told:?}");
    }
}

fn shop(address: SocketAddr) -> Shop {
    let mut shop = Shop::of(&[address]);
    shop.policy.timeouts.connect = Some(Duration::from_millis(200));
    shop.policy.timeouts.backend_request = Some(Duration::from_millis(200));
    shop
}

/// A listener that answers no SYN, because nobody takes the connections that fill its queue.
pub(crate) async fn black_hole() -> (SocketAddr, Box<dyn Any>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        queued.push(stream.unwrap());
    }
    (address, Box::new((listener, queued)))
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_cannot_be_made() {
    Fault::of(
        "refused",
        &shop(dead().await),
        Reason::ConnectRefused,
        "refused",
    )
    .peer(Reason::ConnectRefused)
    .attempted(Reason::ConnectRefused, 503)
    .show()
    .await;

    let (address, keep) = black_hole().await;
    Fault::of(
        "black-holed",
        &shop(address),
        Reason::ConnectTimeout,
        "no connection within 200ms",
    )
    .keeping(keep)
    .peer(Reason::ConnectTimeout)
    .attempted(Reason::ConnectTimeout, 503)
    .show()
    .await;
}

/// An origin that presents a certificate for a name; and that certificate as a root.
async fn tls_origin(name: &str) -> (SocketAddr, Roots) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let roots = Roots::parse(made.cert.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let origin = Origin::raw(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            // The client is the one that refuses.
            let _ = acceptor.accept(stream).await;
        }
    })
    .await;
    (origin.address, roots)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_cannot_be_had() {
    let plain = Origin::saying("plain").await.address;
    let (server, right) = tls_origin("right.test").await;
    let (_, other) = tls_origin("right.test").await;
    let faults = [
        ("plain", plain, "right.test", Trust::Anyone, "plain text"),
        (
            "untrusted",
            server,
            "right.test",
            Trust::Roots(other),
            "not trusted",
        ),
        (
            "wrong-name",
            server,
            "other.test",
            Trust::Roots(right),
            "other.test",
        ),
    ];
    for (name, address, server_name, trust, says) in faults {
        let mut shop = shop(address);
        shop.upstream.tls = Some(UpstreamTls {
            server_name: Some(Hostname::parse(server_name).unwrap()),
            trust,
            client_certificate: None,
        });
        Fault::of(name, &shop, Reason::TlsError, says)
            .peer(Reason::TlsError)
            .attempted(Reason::TlsError, 503)
            .show()
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_do_not_come() {
    let reset = resetting().await;
    let mute = Origin::raw(|mut stream, _| async move {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
    })
    .await;
    let other = Origin::raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"-ERR unknown command\r\n").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let faults = [
        (&reset, Reason::UpstreamReset, 502, "connection"),
        (
            &mute,
            Reason::UpstreamTimeout,
            504,
            "no response within 200ms",
        ),
        (&other, Reason::ProtocolError, 502, "HTTP"),
    ];
    for (origin, reason, status, says) in faults {
        Fault::of(reason.kebab(), &shop(origin.address), reason, says)
            .attempted(reason, status)
            .show()
            .await;
    }
}

/// Takes a request, and resets its connection.
async fn resetting() -> Origin {
    Origin::raw(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        stream.set_zero_linger().unwrap();
    })
    .await
}

/// A retry is asked for, and there is no room for one: the answer says so, and what failed before.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_spent() {
    let origin = resetting().await;
    let mut shop = shop(origin.address);
    shop.policy.retry = Some(Retry {
        attempts: 2,
        codes: Vec::new(),
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
            percent: Percent::default(),
            interval: Duration::from_secs(10),
            min_retries: 0,
        },
    });
    let mut fault = Fault::of("budget", &shop, Reason::RetryBudgetExhausted, "connection")
        .attempted(Reason::UpstreamReset, 502);
    fault.next = Reason::UpstreamReset;
    fault.show().await;
}

fn check(body: Option<&str>) -> ActiveCheck {
    ActiveCheck {
        kind: CheckKind::Http(HttpCheck {
            method: "GET".into(),
            path: "/healthz".into(),
            host: None,
            headers: Vec::new(),
            expected_statuses: vec![StatusRange { from: 200, to: 399 }],
            expected_body: body.map(|text| BodyMatch::Contains(text.into())),
        }),
        interval: Duration::from_millis(200),
        timeout: Duration::from_millis(100),
        jitter: Percent::default(),
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        initial: Initial::Checking,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_fail() {
    let ill = Origin::http1(|_| async {
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
    .await;
    let slow = Origin::http1(|_| async { std::future::pending().await }).await;
    let wrong = Origin::saying("starting").await;
    let faults = [
        (
            "check-500",
            ill.address,
            None,
            "GET /healthz: HTTP 500, want 200-399",
        ),
        ("check-slow", slow.address, None, "no answer within 100ms"),
        (
            "check-body",
            wrong.address,
            Some("ready"),
            "want a body with",
        ),
        ("check-refused", dead().await, None, "refused"),
    ];
    for (name, address, body, says) in faults {
        let mut shop = shop(address);
        shop.upstream.health.active = Some(check(body));
        Fault::of(name, &shop, Reason::NoEligiblePeer, says)
            .peer(Reason::ActiveCheckFailed)
            .show()
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_server_that_says_not_serving() {
    let origin = Origin::http2(|_| async {
        // HealthCheckResponse {status: NOT_SERVING}
        let mut response = Response::new(Full::new(Bytes::from_static(b"\0\0\0\0\x02\x08\x02")));
        for (name, value) in [("content-type", "application/grpc"), ("grpc-status", "0")] {
            let value = http::HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    })
    .await;
    let mut shop = shop(origin.address);
    shop.upstream.protocol = Protocol::Http2;
    shop.upstream.health.active = Some(ActiveCheck {
        kind: CheckKind::Grpc(GrpcCheck::default()),
        ..check(None)
    });
    let says = "NOT_SERVING, want SERVING";
    Fault::of("not-serving", &shop, Reason::NoEligiblePeer, says)
        .peer(Reason::ActiveCheckFailed)
        .show()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_kubernetes_calls_out() {
    let origin = Origin::saying("hello").await;
    let faults = [
        (
            "not-ready",
            Readiness::Unready,
            Reason::NotReady,
            "not ready",
        ),
        (
            "draining",
            Readiness::Draining,
            Reason::Terminating,
            "terminates",
        ),
        (
            "gone",
            Readiness::Gone,
            Reason::Terminating,
            "no longer serves",
        ),
    ];
    for (name, readiness, reason, says) in faults {
        let mut shop = shop(origin.address);
        shop.upstream.peers[0].readiness = readiness;
        shop.upstream.health.terminating = Terminating::Never;
        Fault::of(name, &shop, Reason::NoEligiblePeer, says)
            .peer(reason)
            .show()
            .await;
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_without_peers() {
    for reason in [
        Reason::NoEndpoints,
        Reason::SelectorMatchesNothing,
        Reason::PodsNotScheduled,
        Reason::TlsError,
    ] {
        let mut shop = Shop::of(&[]);
        shop.upstream.problem = Some(Problem {
            reason,
            message: "Service shop/web is to be mended".into(),
        });
        Fault::of(reason.kebab(), &shop, reason, "Service shop/web")
            .show()
            .await;
    }
    for reason in [
        Reason::ServiceNotFound,
        Reason::PortNotFound,
        Reason::ExternalNameRefused,
        Reason::NotAccepted,
    ] {
        let mut fault = Fault::of(reason.kebab(), &Shop::of(&[]), reason, "Service shop/none");
        fault.config.upstreams.clear();
        fault.config.hosts[0].routes[0].action = Action::Reject(Problem {
            reason,
            message: "Service shop/none is to be mended".into(),
        });
        fault.show().await;
    }
}

/// Nobody else could serve: a peer that has not been checked does, and the report says what it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_checked_yet_serves_and_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check_port = listener.local_addr().unwrap().port();
    let origin = Origin::saying("hello").await;
    let mut shop = shop(origin.address);
    shop.upstream.peers[0].check_port = Some(check_port);
    let hour = Duration::from_secs(3600);
    shop.upstream.health.active = Some(ActiveCheck {
        interval: hour,
        timeout: hour,
        ..check(None)
    });
    let hale = shop.serve();
    assert_eq!(hale.get("/").await.status(), StatusCode::OK);
    let upstream = hale.dataplane.report().upstreams.remove(0);
    assert_eq!(upstream.peers[0].reason, Some(Reason::NotYetChecked));
    assert_eq!((upstream.serving, upstream.reason), (1, None));
}
