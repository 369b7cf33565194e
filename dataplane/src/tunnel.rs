//! WebSockets: a handshake upstream, and then bytes both ways until one side ends or falls silent.
//!
//! No byte of the client goes upstream before the peer's 101, and only 101 switches. The connection to the
//! peer is its own and never sees the pool. HTTP/2 clients ask with extended CONNECT (RFC 8441), which
//! becomes the handshake of HTTP/1.1 upstream.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    admission::{self, Ask, Current, Seat},
    attempts::{head_limit, note, note_failure, others, unserved},
    auth::Authorized,
    body::RequestBody,
    config::RequestPolicy,
    exchange::Exchange,
    forward::{self, Limits, Patience},
    metrics::Outcome,
    pipeline::Answer,
    reason::Reason,
    reject::Reject,
    retry::{Nature, Next, Tries},
    sanitize,
    table::{Peer, Upstream},
    worker::Worker,
};

/// The client's side of an upgrade.
pub(crate) struct Client {
    on: Option<OnUpgrade>,
    /// HTTP/2: the answer is 200, not 101.
    extended: bool,
}

impl Client {
    /// Takes the promise of an upgrade out of a request.
    pub(crate) fn take(parts: &mut Parts) -> Self {
        let extended = sanitize::is_extended_websocket(parts);
        if extended {
            // The key only proves to an HTTP/1 client that it was understood; ours is not looked at.
            let key = HeaderValue::from_static("aGFsZSB3ZWJzb2NrZXQhIQ==");
            parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
        Self {
            on: parts.extensions.remove::<OnUpgrade>(),
            extended,
        }
    }
}

/// Asks peers for the upgrade, one after another while nothing was sent.
pub(crate) async fn open(
    authorized: &Authorized,
    exchange: &mut Exchange,
    upstream: &Arc<Upstream>,
    policy: &RequestPolicy,
    mut request: Request<RequestBody>,
    client: Client,
    deadline: Option<Instant>,
) -> Result<Answer, Reject> {
    let mut tries = Tries::new(policy.retry.as_ref(), Nature::upgrade());
    let mut tried = Vec::new();
    let mut last = None;
    let mut current = Current::Route(upstream);
    let mut crowded = false;
    loop {
        exchange.in_flight = None;
        let ask = Ask {
            same_peer: tries.same_peer(),
            trial: !crowded,
            repeatable: false,
            wish: exchange.wish,
            fresh: Duration::ZERO,
            deadline,
        };
        let (index, seat) =
            admission::seat(exchange, &mut current, &mut tried, ask, last.as_deref()).await?;
        let upstream = current.clone();
        let Some(peer) = upstream.peers.get(index as usize) else {
            return Err(unserved(exchange, &upstream, last.as_deref()));
        };
        exchange.in_flight = Some(seat);
        exchange.asking = Some(peer.config.address);
        let limits = limits(policy, peer, &tried, deadline);
        let waiting = &exchange.conn.worker.pool.waiting;
        match forward::send_upgrade(authorized, waiting, &upstream, peer, request, limits).await {
            Ok(response)
                if response.status() == StatusCode::SWITCHING_PROTOCOLS
                    && !sanitize::is_websocket_accept(response.headers()) =>
            {
                let what = "the peer switched to a protocol that was not asked for";
                return Err(misunderstood(exchange, peer, what));
            }
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                answered(exchange, peer, 101);
                return Ok(Answer::Own(switch(exchange, policy, response, client)));
            }
            // To a client of HTTP/2 every 2xx says that the websocket is open (RFC 8441 §5).
            Ok(response) if client.extended && response.status().is_success() => {
                let what = "the peer answered the handshake of a websocket as if it were none";
                return Err(misunderstood(exchange, peer, what));
            }
            Ok(response) => {
                answered(exchange, peer, response.status().as_u16());
                return Ok(Answer::Peer {
                    response,
                    lease: None,
                    deadline,
                });
            }
            Err(mut error) => {
                if let Some(unsent) = error.saturated() {
                    (request, crowded) = (unsent, true);
                    exchange.asking = None;
                    continue;
                }
                note_failure(exchange, peer, &error);
                tried.push(index);
                current.renew(&exchange.conn.worker, &mut tried);
                let others = others(&current, &tried, peer);
                let next = tries.after_error(&error, false, others);
                match error.request.take() {
                    Some(unsent) if next != Next::Stop => request = unsent,
                    _ => return Err(unserved(exchange, &current, Some(&error))),
                }
                last = Some(error);
            }
        }
    }
}

fn answered(exchange: &mut Exchange, peer: &Peer, status: u16) {
    let in_flight = exchange.in_flight.as_ref().and_then(Seat::in_flight);
    let vitals = &peer.state.vitals;
    vitals.answered(status, in_flight, Instant::now());
    note(exchange, peer, Outcome::Answered(status));
}

fn misunderstood(exchange: &mut Exchange, peer: &Peer, what: &'static str) -> Reject {
    note(exchange, peer, Outcome::ProtocolError);
    Reject::new(Reason::ProtocolError).saying(what)
}

/// A connection of its own, and nothing that could be repeated. Limits are those of any request until the peer has
/// switched; the tunnel has none but silence.
fn limits<'t>(
    policy: &RequestPolicy,
    peer: &Peer,
    tried: &'t [u32],
    deadline: Option<Instant>,
) -> Limits<'t> {
    Limits {
        connect: policy.timeouts.connect,
        head: head_limit(policy),
        deadline,
        fresh: Duration::ZERO,
        logged_in: None,
        patience: Patience {
            tried,
            repeatable: false,
            progress: None,
            concern: peer.state.concern(),
        },
    }
}

/// Starts the tunnel and makes the response that lets the client begin.
fn switch(
    exchange: &mut Exchange,
    policy: &RequestPolicy,
    mut response: Response<hyper::body::Incoming>,
    client: Client,
) -> Response<()> {
    let upstream = hyper::upgrade::on(&mut response);
    let (parts, _) = response.into_parts();
    let mut headers = parts.headers;
    sanitize::response_headers(&mut headers, parts.version, true);
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    if client.extended {
        *answer.status_mut() = StatusCode::OK;
        for name in [
            header::UPGRADE,
            header::CONNECTION,
            header::SEC_WEBSOCKET_ACCEPT,
        ] {
            headers.remove(name);
        }
    }
    *answer.headers_mut() = headers;
    if let Some(on) = client.on {
        if !client.extended {
            exchange.conn.guard.switches();
        }
        let held = Tunnel {
            worker: Rc::clone(&exchange.conn.worker),
            _peer: exchange.in_flight.take(),
        };
        held.worker.tunnels.set(held.worker.tunnels.get() + 1);
        let idle = policy.timeouts.idle;
        tokio::task::spawn_local(async move {
            let held = held;
            let (Ok(client), Ok(upstream)) = (on.await, upstream.await) else {
                return;
            };
            relay(client, upstream, idle).await;
            drop(held);
        });
    }
    answer
}

/// Counts a tunnel, and the peer's work, until it ends.
struct Tunnel {
    worker: Rc<Worker>,
    _peer: Option<Seat>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.worker.tunnels.set(self.worker.tunnels.get() - 1);
    }
}

/// Copies both ways until both ended, one failed, or neither moved for `idle`.
async fn relay(client: Upgraded, upstream: Upgraded, idle: Option<Duration>) {
    let start = Instant::now();
    let moved = Arc::new(AtomicU64::new(0));
    let mut client = Stamped {
        io: TokioIo::new(client),
        start,
        moved: Arc::clone(&moved),
    };
    let mut upstream = Stamped {
        io: TokioIo::new(upstream),
        start,
        moved: Arc::clone(&moved),
    };
    let copy = tokio::io::copy_bidirectional(&mut client, &mut upstream);
    let Some(idle) = idle else {
        // How a tunnel ends is between its ends.
        let _ = copy.await;
        return;
    };
    let silence = async {
        loop {
            let until = start + Duration::from_millis(moved.load(Relaxed)) + idle;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    };
    tokio::select! {
        _ = copy => {}
        () = silence => {}
    }
}

/// Stamps every byte that arrives.
struct Stamped {
    io: TokioIo<Upgraded>,
    start: Instant,
    moved: Arc<AtomicU64>,
}

impl AsyncRead for Stamped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.moved.store(elapsed, Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
