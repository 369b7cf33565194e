//! Origins, configs and clients for the tests beside this file.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hale_dataplane::{
    AccessLog, Dataplane, Options,
    config::{
        Action, Balance, Config, HealthPolicy, HostPattern, ObjectRef, PathRule, Peer, Protocol,
        Readiness, RequestPolicy, Route, Upstream, UpstreamId, UpstreamLimits, VirtualHost,
    },
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::http2::SendRequest,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

/// A server that does what it is told. Ends with the test's runtime.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// Hands every connection, with its number from 0, to `script`.
    pub(crate) async fn raw<F, R>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream, number));
            }
        });
        Self {
            address,
            connections,
        }
    }

    /// Answers HTTP/1 requests.
    pub(crate) async fn http1<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        Self::raw(move |stream, _| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await
    }

    /// Answers HTTP/2 requests with prior knowledge.
    pub(crate) async fn http2<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        Self::raw(move |stream, _| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            }
        })
        .await
    }

    /// Answers every request with 200 and this text.
    pub(crate) async fn saying(text: &'static str) -> Self {
        Self::http1(move |_| async move {
            Response::new(Full::new(Bytes::from_static(text.as_bytes())))
        })
        .await
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// An address on which nothing listens.
pub(crate) async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A config with one upstream, `shop/web:http`, behind every host and path.
pub(crate) struct Shop {
    pub(crate) upstream: Upstream,
    pub(crate) policy: RequestPolicy,
}

impl Shop {
    pub(crate) fn of(peers: &[SocketAddr]) -> Self {
        let upstream = Upstream {
            id: UpstreamId {
                namespace: "shop".into(),
                service: "web".into(),
                port: "http".into(),
            },
            protocol: Protocol::Http1,
            tls: None,
            balance: Balance::RoundRobin,
            slow_start: None,
            session: None,
            limits: UpstreamLimits::default(),
            health: HealthPolicy::default(),
            peers: peers.iter().copied().map(ready).collect(),
            problem: None,
        };
        Self {
            upstream,
            policy: RequestPolicy::default(),
        }
    }

    pub(crate) fn config(&self) -> Config {
        let route = Route {
            https_redirect: false,
            path: PathRule::prefix("/").unwrap(),
            source: ObjectRef {
                kind: "Ingress",
                namespace: "shop".into(),
                name: "web".into(),
            },
            action: Action::Forward(self.upstream.id.clone()),
            policy: self.policy.clone(),
        };
        Config {
            hosts: vec![VirtualHost {
                host: HostPattern::Any,
                routes: vec![route],
            }],
            upstreams: vec![self.upstream.clone()],
            ..Config::default()
        }
    }

    /// Serves it.
    pub(crate) fn serve(&self) -> Hale {
        Hale::start(self.config())
    }
}

/// A peer that Kubernetes calls ready.
pub(crate) fn ready(address: SocketAddr) -> Peer {
    Peer {
        address,
        check_port: None,
        trouble: None,
        check: None,
        uid: format!("uid-{}", address.port()),
        pod: Some(format!("web-{}", address.port())),
        node: None,
        readiness: Readiness::Ready,
    }
}

/// A dataplane with one worker.
pub(crate) struct Hale {
    pub(crate) dataplane: Dataplane,
    pub(crate) address: SocketAddr,
}

impl Hale {
    pub(crate) fn start(config: Config) -> Self {
        Self::with(config, |_| {})
    }

    pub(crate) fn with(config: Config, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            http: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            https: Vec::new(),
            workers: 1,
            access_log: AccessLog::Off,
            allow_loopback_outbound: true,
            ..Options::default()
        };
        change(&mut options);
        let dataplane = Dataplane::start(options).unwrap();
        dataplane.publish(config);
        let address = dataplane.http_addresses()[0];
        Self { dataplane, address }
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// A connection of HTTP/2.
    pub(crate) async fn http2<B>(&self) -> SendRequest<B>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
            + Send
            + Unpin
            + 'static,
    {
        let stream = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let executor = TokioExecutor::new();
        let opened = hyper::client::conn::http2::handshake(executor, stream).await;
        let (sender, connection) = opened.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request over HTTP/2 on a connection of its own.
    pub(crate) async fn send_http2(&self, mut request: Request<Full<Bytes>>) -> Response<Bytes> {
        let host = request.headers_mut().remove("host").unwrap();
        let mut uri = request.uri().clone().into_parts();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(host.to_str().unwrap().parse().unwrap());
        *request.uri_mut() = http::Uri::from_parts(uri).unwrap();
        let mut sender = self.http2().await;
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// GET of a path, with `Host: shop.test`.
    pub(crate) async fn get(&self, path: &str) -> Response<Bytes> {
        self.send(request("GET", path, "")).await
    }
}

pub(crate) fn request(method: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "shop.test")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap()
}

/// The body as text.
pub(crate) fn text(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

/// Waits until something is so, and fails the test if it is not within 10 s.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap_or_else(|_| panic!("not within 10 s: {what}"));
}

/// The policy of the tests.
pub(crate) fn policy() -> ObjectRef {
    ObjectRef {
        kind: "UpstreamPolicy",
        namespace: "shop".into(),
        name: "web".into(),
    }
}

/// A header as text; empty if it is not there.
pub(crate) fn header<'r, B>(response: &'r Response<B>, name: &str) -> &'r str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}
