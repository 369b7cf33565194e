//! The traffic port: what Hale forwards to, and what it checks.

use super::serve::{Body, full};
use super::state::State;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub(crate) async fn answer(state: Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path == "/healthz" {
        let (status, delay) = state.check();
        pause(delay).await;
        return with_status(status, full("checked\n"));
    }
    state.count(
        request
            .headers()
            .get("x-test-id")
            .and_then(|id| id.to_str().ok()),
    );
    let status = state.traffic_status();
    if status != 200 {
        return with_status(status, full("told to fail\n"));
    }
    let mut response = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", "ws"] => websocket(request),
        ["", "delay", ms] => {
            pause(ms.parse().unwrap_or(0)).await;
            describe(&state, request).await
        }
        ["", "status", code] => with_status(
            code.parse().unwrap_or(500),
            full(format!("as you wished: {code}\n")),
        ),
        ["", "echo"] => Response::new(request.into_body().boxed_unsync()),
        _ if is_grpc(request.headers()) => grpc(request).await,
        _ => describe(&state, request).await,
    };
    if let Ok(pod) = HeaderValue::from_str(&state.pod) {
        response.headers_mut().insert("x-pod", pod);
    }
    response
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn with_status(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// The request as it arrived, in JSON: what Hale did to it is seen from here.
async fn describe(state: &State, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let length = match body.collect().await {
        Ok(body) => body.to_bytes().len(),
        Err(error) => return with_status(400, full(format!("the body broke off: {error}\n"))),
    };
    let headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let report = serde_json::json!({
        "name": state.name, "pod": state.pod, "node": state.node,
        "version": format!("{:?}", parts.version), "method": parts.method.as_str(),
        "uri": parts.uri.to_string(), "headers": headers, "bodyLength": length,
    });
    let mut response = Response::new(full(format!("{report}\n")));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Any gRPC method: the message comes back as it went, with status 0 in the trailers.
async fn grpc(request: Request<Incoming>) -> Response<Body> {
    let Ok(message) = request.into_body().collect().await else {
        return with_status(400, full(Bytes::new()));
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [
        Ok(Frame::data(message.to_bytes())),
        Ok(Frame::trailers(trailers)),
    ];
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Switches to WebSocket and sends every message back.
fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return with_status(400, full("a WebSocket handshake was expected\n"));
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = with_status(101, full(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}
