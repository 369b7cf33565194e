//! One attempt: a connection to one peer, a request on it, and the head of the response.
//!
//! An [`AttemptError`] says how far the attempt came, which is all that decides whether the request may
//! be tried again (`retry.rs`). Before anything was sent it hands the request back.

use std::{pin::Pin, rc::Rc, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    auth::Authorized,
    body::RequestBody,
    config::Protocol,
    pool::{self, Http1, LoggedIn, Pool, PoolKey, SharedTurn, StreamSlot},
    sanitize,
    table::{Peer, PeerState, Upstream},
    waiting::Waiting,
};

mod connect;
mod error;
mod http2;
mod patience;
mod socket;

use connect::{connect, handshake_http1};
pub(crate) use error::{Answer, AttemptError, Phase, broke_off};
use error::{Silence, classify, given_up, outwaited, unswitched};
use http2::handshake_http2;
pub(crate) use http2::{Opened, StreamLimit};
use patience::within;
pub(crate) use patience::{Limits, Patience};
pub(crate) use socket::Socket;

/// No server closes a connection that was idle for less than this.
const SETTLED: Duration = Duration::from_millis(10);

/// What is still read of a response that is not passed on.
const UNREAD_BYTES: usize = 16 * 1024;
const UNREAD_TIME: Duration = Duration::from_secs(1);

/// What a response holds of its connection; dropping it before `release` closes the connection or
/// resets the stream.
pub(crate) enum Lease {
    Http1 {
        pool: Rc<Pool>,
        key: PoolKey,
        state: Arc<PeerState>,
        sender: Http1,
        keep: Duration,
        owner: Owner,
    },
    Http2(#[allow(dead_code)] StreamSlot),
}

/// Whose requests a connection may carry.
pub(crate) enum Owner {
    Everybody,
    /// Those of one client connection. `None`: it carries no further request.
    Client(Option<Rc<LoggedIn>>),
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
            owner,
        } = self
        {
            sender.is_done();
            match owner {
                Owner::Everybody => pool.give(key, &state, sender, keep),
                Owner::Client(Some(bound)) => bound.keep(key, sender),
                Owner::Client(None) => {}
            }
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
    let bound = limits.logged_in.and_then(|bound| bound.take(key));
    let mut logs_in = bound.is_some() || sanitize::logs_in(request.headers());
    let ready = match bound {
        Some(sender) => Some(sender),
        None => ready_http1(pool, key, limits).await,
    };
    let (mut sender, reused) = match ready {
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
    let response = classify(answer, reused)?;
    let response = unswitched(response, reused)?;
    logs_in |= sanitize::asks_to_log_in(&response);
    let owner = match logs_in {
        false => Owner::Everybody,
        true => Owner::Client(limits.logged_in.cloned()),
    };
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
            owner,
        },
    ))
}

/// A kept connection that can take a request now.
async fn ready_http1(pool: &Pool, key: PoolKey, limits: Limits<'_>) -> Option<Http1> {
    if limits.fresh.is_zero() {
        return None;
    }
    let now = Instant::now();
    while let Some((sender, idle)) = pool.take(key, limits.fresh, now) {
        // What cannot be repeated must not meet a connection that its peer has just closed: the runtime looks
        // at its sockets once more before.
        if !limits.patience.repeatable && idle > SETTLED {
            tokio::task::yield_now().await;
        }
        // It was ready when it was kept: what is not has been closed, and nobody waits for it.
        if sender.is_ready() {
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
    let response = classify(answer, reused).inspect_err(|error| {
        if error.phase == Phase::Unsent {
            slot.retire();
        }
    })?;
    let response = unswitched(response, reused)?;
    Ok((response, Lease::Http2(slot)))
}

async fn shared(
    pool: &Rc<Pool>,
    upstream: &Upstream,
    peer: &Peer,
    key: PoolKey,
    limits: Limits<'_>,
) -> Result<(StreamSlot, bool), Box<AttemptError>> {
    // Since when nobody has opened one: each turn that fails lets one other try.
    let mut began = None;
    loop {
        match pool.share(key, &peer.state) {
            SharedTurn::Use(slot) => return Ok((slot, true)),
            SharedTurn::Wait(opening) => {
                let ends = || limits.patience.ends_unsent(upstream, peer);
                let since = *began.get_or_insert_with(Instant::now);
                let left = |limit: Duration| limit.saturating_sub(since.elapsed());
                let ended = within(limits.connect.map(left), limits.deadline, opening.ended());
                match pool.waiting.unless(ends, ended).await {
                    // Others may have taken all of its streams.
                    Some(Ok(())) if opening.has_opened() => began = None,
                    Some(Ok(())) => {}
                    Some(Err(late)) => return Err(outwaited(late)),
                    None => return Err(given_up(Phase::Connect)),
                }
            }
            SharedTurn::Open => {
                let mut turn = OpenTurn {
                    pool,
                    key,
                    done: false,
                };
                let opened = connect(&pool.waiting, upstream, peer, limits, handshake_http2).await;
                turn.done = true;
                let (opened, error) = match opened {
                    Ok(opened) => (Some(opened), None),
                    Err(error) => (None, Some(error)),
                };
                match (pool.opened(key, opened), error) {
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

/// Waits for the head of a response.
async fn answer(
    waiting: &Waiting,
    upstream: &Upstream,
    peer: &Peer,
    limits: Limits<'_>,
    sending: impl Future<Output = Answer>,
) -> Result<Answer, Silence> {
    let ends = || limits.patience.ends_sent(upstream, peer);
    let sending = within(limits.head, limits.deadline, sending);
    match waiting.unless(ends, sending).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(late)) => Err(Silence::Late(late)),
        None => Err(Silence::GaveUp),
    }
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
    let response = classify(answer, false)?;
    sender.is_done();
    Ok(response)
}
