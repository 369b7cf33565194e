//! One attempt: a connection to one peer, a request on it, and the head of the response.
//!
//! An [`AttemptError`] says how far the attempt came, which is all that decides whether the request may
//! be tried again (`retry.rs`). Before anything was sent it hands the request back.

use std::{io, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
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
    admission::{ConnectionSeat, Seated},
    auth::Authorized,
    body::{Progress, RequestBody},
    config::Protocol,
    pool::{self, Http1, Http2, Pool, PoolKey, SharedTurn, StreamSlot},
    reason::Reason,
    sanitize,
    table::{Concern, Peer, PeerState, Upstream},
    tls,
    waiting::Waiting,
    worker::LocalExecutor,
};

/// No server closes a connection that was idle for less than this.
const SETTLED: Duration = Duration::from_millis(10);

/// What is still read of a response that is not passed on.
const UNREAD_BYTES: usize = 16 * 1024;
const UNREAD_TIME: Duration = Duration::from_secs(1);

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
    /// The peer was found failing while it was waited for, and there is another.
    pub(crate) gave_up: bool,
    /// The request, where it can be had back.
    pub(crate) request: Option<Request<RequestBody>>,
}

impl AttemptError {
    /// Whether the request was certainly not processed.
    pub(crate) fn unsent(&self) -> bool {
        self.phase < Phase::Sent
    }

    /// The request, where nothing failed but that there was no room for a connection.
    pub(crate) fn saturated(&mut self) -> Option<Request<RequestBody>> {
        if self.reason == Reason::Saturated {
            self.request.take()
        } else {
            None
        }
    }

    /// Whether it speaks against its peer. A connection that was closed for idleness does not, nor a
    /// request that was given back, nor one that we gave up.
    pub(crate) fn blames_peer(&self) -> bool {
        match self.phase {
            _ if self.gave_up => false,
            Phase::Connect | Phase::Handshake => self.reason != Reason::Saturated,
            Phase::Unsent => false,
            Phase::Sent => !self.reused || self.reason != Reason::UpstreamReset,
        }
    }
}

/// The limits of one attempt.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    /// To connect, TLS included.
    pub(crate) connect: Option<Duration>,
    /// From the request being handed over to the response's head.
    pub(crate) head: Option<Duration>,
    /// How long ago a kept connection may have been used last; zero takes none.
    pub(crate) fresh: Duration,
    pub(crate) patience: Patience<'a>,
}

/// When a peer is waited for no longer: it is found failing, or silent, another may be picked, and it does no harm
/// to ask that one.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    /// Peers that failed this request.
    pub(crate) tried: &'a [u32],
    /// Whether the request may be sent again once it was sent.
    pub(crate) repeatable: bool,
    /// Its body, if it has one.
    pub(crate) progress: Option<&'a Progress>,
    /// What was known when the peer was picked, and is no news: the request is here to find out.
    pub(crate) concern: Concern,
}

impl Patience<'_> {
    /// While nothing was sent.
    fn ends_unsent(&self, upstream: &Upstream, peer: &Peer) -> bool {
        self.lost(peer) && self.elsewhere(upstream)
    }

    /// While the head of the response is waited for.
    fn ends_sent(&self, upstream: &Upstream, peer: &Peer) -> bool {
        self.lost(peer)
            && self.repeatable
            && self.progress.is_none_or(Progress::replayable)
            && self.elsewhere(upstream)
    }

    fn lost(&self, peer: &Peer) -> bool {
        peer.state.concern() > self.concern
    }

    fn elsewhere(&self, upstream: &Upstream) -> bool {
        upstream.eligible().peers.iter().any(|index| {
            let other = upstream.peers.get(*index as usize);
            other.is_some_and(|other| other.state.concern() == Concern::None)
                && !self.tried.contains(index)
        })
    }
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

    /// The response is of no use any more: a small one is read to its end, so that its connection can be
    /// kept. What takes longer, or is larger, costs the connection.
    pub(crate) fn release_after(self, mut rest: Incoming) {
        if rest.is_end_stream() {
            return self.release();
        }
        let drain = async move {
            let mut left = UNREAD_BYTES;
            loop {
                match std::future::poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await {
                    None => return self.release(),
                    Some(Err(_)) => return,
                    Some(Ok(frame)) => {
                        match left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len)) {
                            Some(less) => left = less,
                            None => return,
                        }
                    }
                }
            }
        };
        tokio::task::spawn_local(tokio::time::timeout(UNREAD_TIME, drain));
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
    _authorized: &Authorized,
    pool: &Rc<Pool>,
    upstream: &Upstream,
    peer: &Peer,
    request: Request<RequestBody>,
    limits: Limits<'_>,
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
    limits: Limits<'_>,
) -> Result<(Response<Incoming>, Lease), Box<AttemptError>> {
    let (mut sender, reused) = match ready_http1(pool, key, limits).await {
        Some(sender) => (sender, true),
        None => match connect(&pool.waiting, upstream, peer, limits, handshake_http1).await {
            Ok(sender) => (sender, false),
            Err(mut error) => {
                error.request = Some(request);
                return Err(error);
            }
        },
    };
    let sending = sender.try_send_request(request);
    let answer = answer(&pool.waiting, upstream, peer, limits, sending).await;
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
async fn ready_http1(pool: &Pool, key: PoolKey, limits: Limits<'_>) -> Option<Http1> {
    if limits.fresh.is_zero() {
        return None;
    }
    let now = Instant::now();
    while let Some((mut sender, idle)) = pool.take(key, limits.fresh, now) {
        // What cannot be repeated must not meet a connection that its peer has just closed: the runtime looks
        // at its sockets once more before.
        if !limits.patience.repeatable && idle > SETTLED {
            tokio::task::yield_now().await;
            if sender.is_closed() {
                continue;
            }
        }
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
    limits: Limits<'_>,
) -> Result<(Response<Incoming>, Lease), Box<AttemptError>> {
    let (slot, reused) = match shared(pool, upstream, peer, key, limits).await {
        Ok(found) => found,
        Err(mut error) => {
            error.request = Some(request);
            return Err(error);
        }
    };
    let mut sender = slot.sender();
    let sending = sender.try_send_request(request);
    let answer = answer(&pool.waiting, upstream, peer, limits, sending).await;
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
    limits: Limits<'_>,
) -> Result<(StreamSlot, bool), Box<AttemptError>> {
    loop {
        match pool.share(key, &peer.state) {
            SharedTurn::Use(slot) => return Ok((slot, true)),
            SharedTurn::Wait(opening) => {
                let ends = || limits.patience.ends_unsent(upstream, peer);
                let opened = pool.waiting.unless(ends, opening.notified()).await;
                opened.ok_or_else(|| given_up(Phase::Connect, false))?;
            }
            SharedTurn::Open => {
                let mut turn = OpenTurn {
                    pool,
                    key,
                    done: false,
                };
                let sender = connect(&pool.waiting, upstream, peer, limits, handshake_http2).await;
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

type Answer = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Why there is no answer.
enum Silence {
    TimedOut,
    GaveUp,
}

/// Waits for the head of a response.
async fn answer(
    waiting: &Waiting,
    upstream: &Upstream,
    peer: &Peer,
    limits: Limits<'_>,
    sending: impl Future<Output = Answer>,
) -> Result<Answer, Silence> {
    let ends = || limits.patience.ends_sent(upstream, peer);
    match waiting.unless(ends, within(limits.head, sending)).await {
        Some(Some(answer)) => Ok(answer),
        Some(None) => Err(Silence::TimedOut),
        None => Err(Silence::GaveUp),
    }
}

/// The peer was found failing meanwhile. Were there no other after all, the client would be told of them all.
fn given_up(phase: Phase, reused: bool) -> Box<AttemptError> {
    Box::new(AttemptError {
        phase,
        reason: Reason::NoEligiblePeer,
        message: "the peer was found failing while it was waited for".to_owned(),
        reused,
        gave_up: true,
        request: None,
    })
}

/// Reads hyper's outcome of a request.
fn classify(
    answer: Result<Answer, Silence>,
    limit: Option<Duration>,
    reused: bool,
) -> Result<Response<Incoming>, Box<AttemptError>> {
    let failed = |phase, reason, message, request| {
        Err(Box::new(AttemptError {
            phase,
            reason,
            message,
            reused,
            gave_up: false,
            request,
        }))
    };
    match answer {
        Ok(Ok(response)) if !sanitize::is_framed_once(response.headers()) => {
            let message = "the end of the response is not certain".to_owned();
            failed(Phase::Sent, Reason::ProtocolError, message, None)
        }
        Ok(Ok(response)) => Ok(response),
        Err(Silence::GaveUp) => Err(given_up(Phase::Sent, reused)),
        Err(Silence::TimedOut) => {
            let limit = limit.unwrap_or_default();
            failed(
                Phase::Sent,
                Reason::UpstreamTimeout,
                format!("no response within {limit:?}"),
                None,
            )
        }
        Ok(Err(mut error)) => {
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

/// Whether the peer said that it did not look at the stream (RFC 9113 §8.7). Of a peer's GOAWAY h2 only tells
/// the streams above the last one that the peer took on; those below end as they end.
fn refused_stream(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.is_remote()
                && (error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away())
        })
}

/// Why a response broke off, if that speaks against its peer: who takes a single stream back has a reason.
pub(crate) fn broke_off(error: &hyper::Error) -> Option<String> {
    let source = std::error::Error::source(error);
    let taken_back = source
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            let calm = [h2::Reason::NO_ERROR, h2::Reason::CANCEL];
            error.is_reset() && error.reason().is_some_and(|reason| calm.contains(&reason))
        });
    (!taken_back).then(|| describe(error))
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

/// Opens a connection within its limit, TLS and HTTP handshakes included.
async fn connect<T>(
    waiting: &Waiting,
    upstream: &Upstream,
    peer: &Peer,
    limits: Limits<'_>,
    handshake: impl AsyncFn(Box<dyn Stream>) -> hyper::Result<T>,
) -> Result<T, Box<AttemptError>> {
    let failed = |phase, reason, message| {
        Box::new(AttemptError {
            phase,
            reason,
            message,
            reused: false,
            gave_up: false,
            request: None,
        })
    };
    // It had room when it was picked: another worker was faster.
    let Some(seat) = ConnectionSeat::take(&peer.state) else {
        let message = "no room for a connection".to_owned();
        return Err(failed(Phase::Connect, Reason::Saturated, message));
    };
    // Boxed: few requests open a connection, and each would carry the state of it.
    let open = Box::pin(async {
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
        let stream = Seated::new(stream, seat);
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
    });
    let ends = || limits.patience.ends_unsent(upstream, peer);
    match waiting.unless(ends, within(limits.connect, open)).await {
        Some(Some(opened)) => opened,
        None => Err(given_up(Phase::Connect, false)),
        Some(None) => {
            let limit = limits.connect.unwrap_or_default();
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
    _authorized: &Authorized,
    waiting: &Waiting,
    upstream: &Upstream,
    peer: &Peer,
    request: Request<RequestBody>,
    limits: Limits<'_>,
) -> Result<Response<Incoming>, Box<AttemptError>> {
    let mut sender = match connect(waiting, upstream, peer, limits, handshake_http1).await {
        Ok(sender) => sender,
        Err(mut error) => {
            error.request = Some(request);
            return Err(error);
        }
    };
    let sending = sender.try_send_request(request);
    let answer = answer(waiting, upstream, peer, limits, sending).await;
    classify(answer, limits.head, false)
}
