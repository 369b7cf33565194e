//! What the client is answered: by a peer, or by us.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    exchange::Exchange,
    forward::Lease,
    reject::{Audience, Reject},
    response::ResponseBody,
    sanitize,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Makes a peer's response the client's.
pub(super) fn pass_on(
    mut exchange: Box<Exchange>,
    response: Response<Incoming>,
    lease: Option<Lease>,
    deadline: Option<Instant>,
) -> Response<ResponseBody> {
    let (mut parts, incoming) = response.into_parts();
    exchange.status = parts.status.as_u16();
    let mut lease = lease;
    if let (Some(lease), Some(value)) = (lease.as_mut(), parts.headers.get(KEEP_ALIVE))
        && let Some(limit) = keep_alive_timeout(value)
    {
        lease.keep_at_most(limit);
    }
    sanitize::response_headers(&mut parts.headers, parts.version, false);
    decorate(&exchange, &mut parts.headers);
    keep_session(&exchange, &mut parts.headers);
    // A 204 has no length (RFC 9110 §8.6).
    if parts.status == StatusCode::NO_CONTENT {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    // Without a length, only the end of the connection ends a response of HTTP/1.0: hyper closes, and promises
    // nothing else, if the response is of that version.
    parts.version = match exchange.version {
        Version::HTTP_10 if incoming.size_hint().exact().is_none() => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let told = (parts.status == StatusCode::NOT_MODIFIED && exchange.version < Version::HTTP_2)
        .then(|| sanitize::content_length(&parts.headers))
        .flatten();
    let body = ResponseBody::proxied(incoming, exchange, lease, deadline);
    Response::from_parts(parts, body.telling(told))
}

/// `Keep-Alive: timeout=N`, less a second for the way.
fn keep_alive_timeout(value: &HeaderValue) -> Option<Duration> {
    let seconds: u64 = value.to_str().ok()?.split(',').find_map(|part| {
        let (name, seconds) = part.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then(|| seconds.trim().parse().ok())?
    })?;
    Some(Duration::from_secs(seconds.saturating_sub(1)))
}

/// Headers that every response gets.
fn decorate(exchange: &Exchange, headers: &mut HeaderMap) {
    if let Some(cors) = exchange.route().and_then(|route| route.cors.as_ref()) {
        cors.decorate(&exchange.page, headers);
    }
    for (name, value) in &exchange.limit {
        headers.insert(name, value.clone());
    }
    for cookie in &exchange.cookies {
        headers.append(header::SET_COOKIE, cookie.clone());
    }
    if exchange.conn.client.https
        && let Some(hsts) = &exchange.conn.worker.shared.hsts
    {
        headers
            .entry(header::STRICT_TRANSPORT_SECURITY)
            .or_insert_with(|| hsts.clone());
    }
}

/// Sets the cookie of the session with the peer that served, beside those that the peer sets.
fn keep_session(exchange: &Exchange, headers: &mut HeaderMap) {
    if let Some(cookie) = exchange.session_cookie() {
        headers.append(header::SET_COOKIE, cookie);
    }
}

pub(super) fn rejected(mut exchange: Box<Exchange>, reject: &Reject) -> Response<ResponseBody> {
    exchange.reason = Some(reject.reason());
    let response = reject.respond(&Audience {
        form: exchange.form,
        explain: exchange.explains(),
        request_id: Some(&exchange.request_id),
    });
    exchange.status = response.status().as_u16();
    let (mut parts, mut body) = response.into_parts();
    decorate(&exchange, &mut parts.headers);
    // A response to HEAD has no content (RFC 9110 §9.3.2): hyper sees to that in HTTP/1 alone.
    if exchange.method == Method::HEAD && exchange.version >= Version::HTTP_2 {
        if let Some(length) = body.size_hint().exact() {
            let length = HeaderValue::from(length);
            parts.headers.insert(header::CONTENT_LENGTH, length);
        }
        body = Full::<Bytes>::default();
    }
    Response::from_parts(parts, ResponseBody::Own { body, exchange })
}

pub(super) fn own(mut exchange: Box<Exchange>, response: Response<()>) -> Response<ResponseBody> {
    exchange.status = response.status().as_u16();
    let (mut parts, ()) = response.into_parts();
    decorate(&exchange, &mut parts.headers);
    keep_session(&exchange, &mut parts.headers);
    Response::from_parts(
        parts,
        ResponseBody::Own {
            body: Full::default(),
            exchange,
        },
    )
}
