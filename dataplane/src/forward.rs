//! One attempt: a connection to one peer, a request on it, and the head of the response.
//!
//! An [`AttemptError`] says how far the attempt came, which is all that decides whether the request may
//! be tried again (`retry.rs`). Before anything was sent it hands the request back.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::TlsConnector;

use crate::{
    body::RequestBody,
    config::Protocol,
    pool::{self, Http1, Http2, Pool, PoolKey, SharedTurn, StreamSlot},
    reason::Reason,
    sanitize,
    table::{Peer, PeerState, Upstream},
    tls,
    worker::LocalExecutor,
};

/// How far an attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// No connection was made.
    Connect,
    /// The TLS or HTTP handshake failed.
    Handshake,
    /// Connected, and the request was certainly not processed.
    Unsent,
    /// The request may have been processed.
    Sent,
}

/// A failed attempt.
pub(crate) struct AttemptError {
    pub(crate) phase: Phase,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// The connection had carried requests before: the peer may just have closed it for idleness.
    pub(crate) reused: bool,
    /// The request, where it can be had back.
    pub(crate) request: Option<Request<RequestBody>>,
}

impl AttemptError {
    /// Whether the request was certainly not processed.
    pub(crate) fn unsent(&self) -> bool {
        self.phase < Phase::Sent
    }
}

/// The limits of one attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// To connect, TLS included.
    pub(crate) connect: Option<Duration>,
    /// From the request being handed over to the response's head.
    pub(crate) head: Option<Duration>,
    /// How long ago a kept connection may have been used last; zero takes none.
    pub(crate) fresh: Duration,
}

/// What a response holds of its connection; dropping it before `release` closes the connection or
/// resets the stream.
pub(crate) enum Lease {
    Http1 {
        pool: Rc<Pool>,
        key: PoolKey,
        state: Arc<PeerState>,
        sender: Http1,
        keep: Duration,
    },
    Http2(#[allow(dead_code)] StreamSlot),
}

impl Lease {
    /// The response is complete: the connection can carry the next request.
    pub(crate) fn release(self) {
        if let Self::Http1 {
            pool,
            key,
            state,
            sender,
            keep,
        } = self
        {
            pool.give(key, &state, sender, keep);
        }
    }

    /// The peer said how long it keeps idle connections (`Keep-Alive: timeout=N`): stay below it.
    pub(crate) fn keep_at_most(&mut self, limit: Duration) {
        if let Self::Http1 { keep, .. } = self {
            *keep = (*keep).min(limit);
        }
    }
}

/// Sends a request to a peer and waits for the head of the response.
pub(crate) async fn send(
    pool: &Rc<Pool>,
    upstream: &Upstream,
    peer: &Peer,
    request: Request<RequestBody>,
    limits: Limits,
) -> Result<(Response<Incoming>, Lease), Box<AttemptError>> {
    let key = PoolKey {
        peer: peer.state.id,
        transport: upstream.transport,
    };
    match upstream.config.protocol {
        Protocol::Http1 => send_http1(pool, upstream, peer, key, request, limits).await,
        Protocol::Http2 => send_http2(pool, upstream, peer, key, request, limits).await,
    }
}

async fn send_http1(
    pool: &Rc<Pool>,
    upstream: &Upstream,
    peer: &Peer,
    key: PoolKey,
    request: Request<RequestBody>,
    limits: Limits,
) -> Result<(Response<Incoming>, Lease), Box<AttemptError>> {
    let (mut sender, reused) = match ready_http1(pool, key, limits.fresh).await {
        Some(sender) => (sender, true),
        None => match connect(upstream, peer, limits.connect, handshake_http1).await {
            Ok(sender) => (sender, false),
            Err(mut error) => {
                error.request = Some(request);
                return Err(error);
            }
        },
    };
    let answer = within(limits.head, sender.try_send_request(request)).await;
    let response = classify(answer, limits.head, reused)?;
    let keep = pool::KEEP;
    let state = Arc::clone(&peer.state);
    Ok((
        response,
        Lease::Http1 {
            pool: Rc::clone(pool),
            key,
            state,
            sender,
            keep,
        },
    ))
}

/// A kept connection that can take a request now.
async fn ready_http1(pool: &Pool, key: PoolKey, fresh: Duration) -> Option<Http1> {
    if fresh.is_zero() {
        return None;
    }
    let now = Instant::now();
    while let Some(mut sender) = pool.take(key, fresh, now) {
        if sender.is_ready() || sender.ready().await.is_ok() {
            return Some(sender);
        }
    }
    None
}

async fn send_http2(
    pool: &Rc<Pool>,
    upstream: &Upstream,
    peer: &Peer,
    key: PoolKey,
    request: Request<RequestBody>,
    limits: Limits,
) -> Result<(Response<Incoming>, Lease), Box<AttemptError>> {
    let (slot, reused) = match shared(pool, upstream, peer, key, limits).await {
        Ok(found) => found,
        Err(mut error) => {
            error.request = Some(request);
            return Err(error);
        }
    };
    let mut sender = slot.sender();
    let answer = within(limits.head, sender.try_send_request(request)).await;
    let response = classify(answer, limits.head, reused).inspect_err(|error| {
        if error.phase == Phase::Unsent {
            slot.retire();
        }
    })?;
    Ok((response, Lease::Http2(slot)))
}

async fn shared(
    pool: &Rc<Pool>,
    upstream: &Upstream,
    peer: &Peer,
    key: PoolKey,
    limits: Limits,
) -> Result<(StreamSlot, bool), Box<AttemptError>> {
    loop {
        match pool.share(key, &peer.state) {
            SharedTurn::Use(slot) => return Ok((slot, true)),
            SharedTurn::Wait(opening) => opening.notified().await,
            SharedTurn::Open => {
                let mut turn = OpenTurn {
                    pool,
                    key,
                    done: false,
                };
                let sender = connect(upstream, peer, limits.connect, handshake_http2).await;
                turn.done = true;
                let (sender, error) = match sender {
                    Ok(sender) => (Some(sender), None),
                    Err(error) => (None, Some(error)),
                };
                match (pool.opened(key, sender), error) {
                    (Some(slot), _) => return Ok((slot, false)),
                    (None, Some(error)) => return Err(error),
                    (None, None) => {}
                }
            }
        }
    }
}

/// Gives the turn to open back when the request goes away meanwhile.
struct OpenTurn<'a> {
    pool: &'a Pool,
    key: PoolKey,
    done: bool,
}

impl Drop for OpenTurn<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.pool.opened(self.key, None);
        }
    }
}

async fn within<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

/// Reads hyper's outcome of a request: `None` is the limit passing.
fn classify(
    answer: Option<Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    limit: Option<Duration>,
    reused: bool,
) -> Result<Response<Incoming>, Box<AttemptError>> {
    let failed = |phase, reason, message, request| {
        Err(Box::new(AttemptError {
            phase,
            reason,
            message,
            reused,
            request,
        }))
    };
    match answer {
        Some(Ok(response)) if !sanitize::is_framed_once(response.headers()) => {
            let message = "the end of the response is not certain".to_owned();
            failed(Phase::Sent, Reason::ProtocolError, message, None)
        }
        Some(Ok(response)) => Ok(response),
        None => {
            let limit = limit.unwrap_or_default();
            failed(
                Phase::Sent,
                Reason::UpstreamTimeout,
                format!("no response within {limit:?}"),
                None,
            )
        }
        Some(Err(mut error)) => {
            if let Some(request) = error.take_message() {
                let message = format!("the connection was closed: {}", error.error());
                return failed(Phase::Unsent, Reason::UpstreamReset, message, Some(request));
            }
            let error = error.into_error();
            let (phase, reason) = if refused_stream(&error) {
                (Phase::Unsent, Reason::UpstreamReset)
            } else if error.is_parse() || error.is_parse_status() {
                (Phase::Sent, Reason::ProtocolError)
            } else {
                (Phase::Sent, Reason::UpstreamReset)
            };
            failed(phase, reason, describe(&error), None)
        }
    }
}

/// Whether the peer said that it did not look at the stream (RFC 9113 §8.7).
fn refused_stream(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.is_remote()
                && (error.reason() == Some(h2::Reason::REFUSED_STREAM)
                    || (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)))
        })
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A stream of bytes to a peer.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Opens a connection within `limit`, TLS and HTTP handshakes included.
async fn connect<T>(
    upstream: &Upstream,
    peer: &Peer,
    limit: Option<Duration>,
    handshake: impl AsyncFn(Box<dyn Stream>) -> hyper::Result<T>,
) -> Result<T, Box<AttemptError>> {
    let failed = |phase, reason, message| {
        Box::new(AttemptError {
            phase,
            reason,
            message,
            reused: false,
            request: None,
        })
    };
    let open = async {
        let stream = TcpStream::connect(peer.config.address)
            .await
            .map_err(|error| {
                let reason = match error.kind() {
                    io::ErrorKind::TimedOut => Reason::ConnectTimeout,
                    _ => Reason::ConnectRefused,
                };
                failed(Phase::Connect, reason, format!("connect: {error}"))
            })?;
        // Latency is worth more than packets; a failure to say so is not worth the request.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Stream> = match &upstream.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = tls.server_name(peer.config.address);
                let connector = TlsConnector::from(Arc::clone(&tls.config));
                Box::new(
                    connector
                        .connect(name.clone(), stream)
                        .await
                        .map_err(|error| {
                            failed(
                                Phase::Handshake,
                                Reason::TlsError,
                                format!("TLS handshake: {}", tls::handshake_words(&error, &name)),
                            )
                        })?,
                )
            }
        };
        handshake(stream).await.map_err(|error| {
            failed(
                Phase::Handshake,
                Reason::ProtocolError,
                format!("HTTP/2 handshake: {error}"),
            )
        })
    };
    match within(limit, open).await {
        Some(opened) => opened,
        None => {
            let limit = limit.unwrap_or_default();
            let message = format!("no connection within {limit:?}");
            Err(failed(Phase::Connect, Reason::ConnectTimeout, message))
        }
    }
}

async fn handshake_http1(stream: Box<dyn Stream>) -> hyper::Result<Http1> {
    let (sender, connection) = http1::Builder::new()
        .max_headers(128)
        .max_buf_size(128 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection.with_upgrades());
    Ok(sender)
}

async fn handshake_http2(stream: Box<dyn Stream>) -> hyper::Result<Http2> {
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(2 * 1024 * 1024)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// A connection of its own for an upgrade; it never sees the pool.
pub(crate) async fn send_upgrade(
    upstream: &Upstream,
    peer: &Peer,
    request: Request<RequestBody>,
    limits: Limits,
) -> Result<Response<Incoming>, Box<AttemptError>> {
    let mut sender = match connect(upstream, peer, limits.connect, handshake_http1).await {
        Ok(sender) => sender,
        Err(mut error) => {
            error.request = Some(request);
            return Err(error);
        }
    };
    let answer = within(limits.head, sender.try_send_request(request)).await;
    classify(answer, limits.head, false)
}
