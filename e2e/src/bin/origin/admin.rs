//! The admin port: kubelet's readiness probe, and orders from scenarios.

use super::serve::{Body, full};
use super::state::State;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use std::sync::Arc;

pub(crate) async fn answer(state: Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    let (status, text) = match parts.uri.path() {
        "/ready" if state.ready() => (StatusCode::OK, "ready".to_owned()),
        "/ready" => (
            StatusCode::SERVICE_UNAVAILABLE,
            "told to be unready".to_owned(),
        ),
        "/set" => match set(&state, query) {
            Ok(()) => (StatusCode::OK, "done".to_owned()),
            Err(wrong) => (StatusCode::BAD_REQUEST, wrong),
        },
        "/counts" => {
            let report = serde_json::json!({"pod": state.pod, "requests": state.requests(), "counts": state.counts()});
            (StatusCode::OK, report.to_string())
        }
        "/collect" => match collect(&state, body).await {
            Ok(()) => (StatusCode::OK, "collected".to_owned()),
            Err(wrong) => (StatusCode::BAD_REQUEST, format!("{wrong:#}")),
        },
        "/exit" => {
            state.exit.notify_one();
            (StatusCode::OK, "exiting".to_owned())
        }
        path => (StatusCode::NOT_FOUND, format!("no {path} here")),
    };
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
}

async fn collect(state: &State, body: Incoming) -> anyhow::Result<()> {
    let body = body.collect().await?.to_bytes();
    state.collect(serde_json::from_slice(&body)?);
    Ok(())
}

/// `ready=true|false`, `check=STATUS`, `traffic=STATUS`, `check_delay_ms=N`, joined by `&`.
fn set(state: &State, query: &str) -> Result<(), String> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let wrong = || format!("cannot do {pair:?}");
        match pair.split_once('=').ok_or_else(wrong)? {
            ("ready", value) => state.set_ready(value.parse().map_err(|_| wrong())?),
            ("check", value) => state.set_check_status(value.parse().map_err(|_| wrong())?),
            ("traffic", value) => state.set_traffic_status(value.parse().map_err(|_| wrong())?),
            ("check_delay_ms", value) => state.set_check_delay(value.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        }
    }
    Ok(())
}
