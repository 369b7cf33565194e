//! Against scripted gRPC servers on real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{convert::Infallible, future::pending, net::SocketAddr};

use futures::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{StreamBody, combinators::BoxBody};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use super::*;
use crate::{
    config::{CheckKind, Protocol},
    health::{
        origin::{Act, Origin, TlsPeer, ample, refusing, short, target},
        testing,
    },
};

/// What a server answers: content type, message, headers and trailers.
#[derive(Clone, Default)]
struct Answer {
    status: u16,
    kind: &'static str,
    message: Option<&'static [u8]>,
    headers: Vec<(&'static str, &'static str)>,
    trailers: Vec<(&'static str, &'static str)>,
    hangs: bool,
}

fn says(message: &'static [u8]) -> Answer {
    Answer {
        status: 200,
        kind: "application/grpc",
        message: Some(message),
        trailers: vec![("grpc-status", "0")],
        ..Answer::default()
    }
}

fn refuses(headers: Vec<(&'static str, &'static str)>) -> Answer {
    Answer {
        message: None,
        trailers: Vec::new(),
        headers,
        ..says(b"")
    }
}

type Body = BoxBody<Bytes, Infallible>;

/// Looks at the request as a server does, and answers.
async fn answer(request: Request<Incoming>, answer: Answer) -> Result<Response<Body>, Infallible> {
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri().path(), METHOD);
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    assert!(request.headers().contains_key("grpc-timeout"));
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    if answer.hangs {
        pending::<()>().await;
    }
    let mut frames = Vec::new();
    match answer.message {
        Some(b"echo") => frames.push(Frame::data(asked)),
        Some(message) => frames.push(Frame::data(Bytes::from_static(message))),
        None => {}
    }
    if !answer.trailers.is_empty() {
        let pairs = answer.trailers.iter();
        let pairs = pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        frames.push(Frame::trailers(pairs.collect()));
    }
    let mut response = Response::builder()
        .status(answer.status)
        .header("content-type", answer.kind);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let body = match frames.is_empty() {
        true => BodyExt::boxed(http_body_util::Empty::new()),
        false => BodyExt::boxed(StreamBody::new(stream::iter(frames.into_iter().map(Ok)))),
    };
    Ok(response.body(body).unwrap())
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, script: Answer) {
    let service = service_fn(move |request| answer(request, script.clone()));
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn server(script: Answer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, script.clone()));
        }
    });
    address
}

struct Asker {
    plan: GrpcPlan,
    target: ProbeTarget,
    checker: GrpcChecker,
}

impl Asker {
    fn new(service: &str, address: SocketAddr) -> Self {
        let check = GrpcCheck {
            service: service.into(),
        };
        let active = testing::check(CheckKind::Grpc(check.clone()));
        Self {
            plan: GrpcPlan::new(&check, active.interval),
            target: target(&Arc::new(active), address),
            checker: GrpcChecker::new(Arc::new(Semaphore::new(1))),
        }
    }

    /// `+` or `-` and the words, and `*` where a new connection was made.
    async fn ask(&mut self, deadline: Deadline) -> String {
        let mut signs = Signs::default();
        let result = self
            .checker
            .check(&self.plan, &self.target, deadline, &mut signs)
            .await;
        let star = if signs.connected { "*" } else { "" };
        match result {
            Ok(words) => format!("{star}+ {words}"),
            Err(words) => format!("{star}- {words}"),
        }
    }
}

async fn once(service: &str, script: Answer) -> String {
    let address = server(script).await;
    Asker::new(service, address).ask(ample()).await
}

#[tokio::test]
async fn serving_passes_and_nothing_else() {
    for (message, wanted) in [
        (&b"\0\0\0\0\x02\x08\x01"[..], "*+ SERVING"),
        (b"\0\0\0\0\x02\x08\x02", "*- NOT_SERVING, want SERVING"),
        (b"\0\0\0\0\x02\x08\x03", "*- SERVICE_UNKNOWN, want SERVING"),
        (b"\0\0\0\0\0", "*- UNKNOWN, want SERVING"),
        (b"\0\0\0\0\x02\x08\x09", "*- status 9, want SERVING"),
        // A field that is not known is passed over.
        (b"\0\0\0\0\x05\x12\x01x\x08\x01", "*+ SERVING"),
        (
            b"\0\0\0\0\x09\x08\x01",
            "*- the answer's message is no HealthCheckResponse",
        ),
        (
            b"\x01\0\0\0\x02\x08\x01",
            "*- the answer's message is no HealthCheckResponse",
        ),
        (b"", "*- the answer's message is no HealthCheckResponse"),
    ] {
        assert_eq!(once("", says(message)).await, wanted, "{message:?}");
    }
}

#[tokio::test]
async fn refusals_have_the_names_that_grpc_gives_them() {
    let status = |code| refuses(vec![("grpc-status", code)]);
    for (service, script, wanted) in [
        (
            "",
            status("12"),
            "*- UNIMPLEMENTED: the server has no grpc.health.v1.Health",
        ),
        (
            "shop.Cart",
            status("5"),
            "*- NOT_FOUND: the server knows no service shop.Cart",
        ),
        (
            "",
            status("5"),
            "*- NOT_FOUND: the server tells no health of itself",
        ),
        ("", status("99"), "*- grpc-status \"99\""),
        (
            "",
            refuses(vec![
                ("grpc-status", "14"),
                ("grpc-message", "db%20is%20down%21"),
            ]),
            "*- UNAVAILABLE (\"db is down!\")",
        ),
        // In trailers as well as in a head that is the end.
        (
            "",
            Answer {
                trailers: vec![("grpc-status", "7"), ("grpc-message", "no")],
                ..says(b"")
            },
            "*- PERMISSION_DENIED (\"no\")",
        ),
        ("", refuses(vec![]), "*- the answer has no grpc-status"),
        (
            "",
            Answer {
                status: 404,
                ..refuses(vec![])
            },
            "*- HTTP 404, want an answer of gRPC",
        ),
        (
            "",
            Answer {
                kind: "text/html",
                ..refuses(vec![])
            },
            "*- the answer's content-type is \"text/html\", want gRPC",
        ),
    ] {
        assert_eq!(once(service, script).await, wanted);
    }
}

#[tokio::test]
async fn the_service_is_asked_for_by_name() {
    // The request is a message of the answer's form: a string where an enum is looked for.
    assert_eq!(
        once("shop.Cart", says(b"echo")).await,
        "*- UNKNOWN, want SERVING"
    );
    assert_eq!(request_message("")[..], *b"\0\0\0\0\0");
    assert_eq!(request_message("ab")[..], *b"\0\0\0\0\x04\x0a\x02ab");
    let long = request_message(&"x".repeat(300));
    assert_eq!(long[..8], *b"\0\0\0\x01\x2f\x0a\xac\x02");
}

#[tokio::test]
async fn connections_are_kept_and_renewed() {
    let address = server(says(b"\0\0\0\0\x02\x08\x01")).await;
    let mut asker = Asker::new("", address);
    assert_eq!(asker.ask(ample()).await, "*+ SERVING");
    assert_eq!(asker.ask(ample()).await, "+ SERVING");
    asker.checker.forget();
    assert_eq!(asker.ask(ample()).await, "*+ SERVING");
}

#[tokio::test]
async fn what_is_no_grpc_server_is_named() {
    let (_held, address) = refusing();
    let mut asker = Asker::new("", address);
    assert_eq!(asker.ask(ample()).await, "- connection refused");

    let hanging = Answer {
        hangs: true,
        ..says(b"")
    };
    let address = server(hanging).await;
    let mut asker = Asker::new("", address);
    assert_eq!(asker.ask(short()).await, "*- no answer within 500ms");

    let http1 = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let http1 = Origin::always(Act::Answer(http1.into())).await;
    let mut asker = Asker::new("", http1.address);
    assert_eq!(asker.ask(ample()).await, "*- the answer is not HTTP/2");

    let silent = Origin::always(Act::Close).await;
    let mut asker = Asker::new("", silent.address);
    let words = asker.ask(ample()).await;
    assert!(
        words.ends_with(" without an answer; does the port speak HTTP/2?"),
        "{words}"
    );
}

#[tokio::test]
async fn over_tls_h2_is_offered_whatever_the_traffic_speaks() {
    let serving = says(b"\0\0\0\0\x02\x08\x01");
    let serve = move |stream| serve(stream, serving.clone());
    let peer = TlsPeer::start(&["h2", "http/1.1"], serve.clone()).await;
    let mut asker = Asker::new("", peer.address);
    asker.target.tls = Some(peer.client(&["http/1.1"]));
    asker.target.server_name = TlsPeer::name();
    assert_eq!(asker.target.protocol, Protocol::Http1);
    assert_eq!(asker.ask(ample()).await, "*+ SERVING");

    let peer = TlsPeer::start(&["http/1.1"], serve.clone()).await;
    asker.target.address = peer.address;
    asker.target.tls = Some(peer.client(&["http/1.1"]));
    asker.checker.forget();
    assert_eq!(
        asker.ask(ample()).await,
        "- TLS: the peer does not speak the protocol that was offered by ALPN"
    );

    let peer = TlsPeer::start(&[], serve).await;
    asker.target.address = peer.address;
    asker.target.tls = Some(peer.client(&["http/1.1"]));
    assert_eq!(
        asker.ask(ample()).await,
        "- TLS: the peer does not offer h2"
    );
}
