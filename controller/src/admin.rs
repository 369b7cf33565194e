//! What Hale says of itself over HTTP: two small servers on the control thread.
//!
//! `/livez`, `/readyz` and `/metrics` are for kubelet and Prometheus, on all addresses. `/api/v1/…` tells
//! names and addresses of pods, so it listens on loopback alone and refuses requests whose Host is not
//! loopback: a web page cannot make a browser read it. Questions that are posted must be JSON, which no page can send
//! to another origin without being allowed to.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

mod api;
mod context;
mod health;
mod query;

pub use api::{Api, ControllerState, FindingLine};
pub use context::Context;
pub use health::Health;
pub(crate) use query::encode;

/// What answers on one port.
pub trait Answers: Send + Sync + 'static {
    /// Answers a GET for `path`; `None` is 404.
    fn answer(&self, path: &str, query: &str, host: &str) -> Option<Answer>;

    /// Answers a question that is posted as JSON to `path`; `None` is 405.
    fn question<'a>(&'a self, _path: &'a str, _host: &'a str, _json: &'a [u8]) -> Answering<'a> {
        Box::pin(async { None })
    }
}

/// An answer that takes a while.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Option<Answer>> + Send + 'a>>;

/// An answer by ourselves.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its media type.
    pub content_type: &'static str,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// Plain text.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        let mut body = body.into();
        body.push('\n');
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body,
        }
    }
}

/// The largest question: what a request's head may have, and as much again.
const MAX_QUESTION: usize = 128 * 1024;
/// For a question to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time: these ports are asked by machines that come every few seconds.
const MAX_CONNECTIONS: usize = 64;

/// Answers on `listener` for as long as the runtime lives.
pub fn serve(listener: TcpListener, answers: Arc<dyn Answers>) {
    tokio::spawn(accept(listener, answers));
}

async fn accept(listener: TcpListener, answers: Arc<dyn Answers>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn the core.
                tracing::warn!(%error, "cannot accept on an admin port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answers = Arc::clone(&answers);
                async move { Ok::<_, Infallible>(respond(request, &*answers).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(60))
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection to an admin port ended badly");
            }
            drop(slot);
        });
    }
}

async fn respond(request: Request<Incoming>, answers: &dyn Answers) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let host = parts
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let uri = &parts.uri;
    let answer = match parts.method {
        Method::GET | Method::HEAD => answers
            .answer(uri.path(), uri.query().unwrap_or_default(), host)
            .unwrap_or_else(|| Answer::text(StatusCode::NOT_FOUND, "not found")),
        Method::POST => match question(&parts, body).await {
            Ok(json) => answers
                .question(uri.path(), host, &json)
                .await
                .unwrap_or_else(only_get),
            Err(refusal) => refusal,
        },
        _ => only_get(),
    };
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(answer.content_type),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

fn only_get() -> Answer {
    Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET")
}

/// The body of a question.
async fn question(parts: &Parts, body: Incoming) -> Result<Bytes, Answer> {
    let kind = parts.headers.get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/json") {
        let message = "a question is application/json";
        return Err(Answer::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    match tokio::time::timeout(PATIENCE, Limited::new(body, MAX_QUESTION).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Answer::text(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the question is too long, or ended early",
        )),
        Err(_) => Err(Answer::text(
            StatusCode::REQUEST_TIMEOUT,
            "the question did not end",
        )),
    }
}
