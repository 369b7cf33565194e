//! Whether a request may go to a peer now, and the wait until it may.
//!
//! Limits go into the choice: a peer at its limit is passed over, not picked and refused. Where nobody
//! has room, or no peer is eligible for a moment, the request waits in its upstream's queue ([`gate`]): first come,
//! first served, over all workers. Whoever is woken looks at the newest table, because the peer that was waited
//! for is not in the one that the request began with.
//!
//! An upstream that has been empty for longer than the queue's timeout is an outage: it is answered at once.

use std::{ops::Deref, ptr, rc::Rc, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    attempts::{pick, unserved},
    balance::Wish,
    config::Protocol,
    exchange::Exchange,
    forward::AttemptError,
    metrics::{Wait, Waited},
    pool::{Pool, PoolKey},
    reason::Reason,
    reject::Reject,
    report,
    table::{Peer, Upstream},
    worker::{Snapshot, Worker},
};

mod gate;
mod seated;

pub(crate) use gate::{ConnectionSeat, Gate, Seat};
pub(crate) use seated::Seated;

/// The upstream of a request: the one that its route names, or what a newer table has in its place. Cheap
/// to clone.
#[derive(Clone)]
pub(crate) enum Current<'a> {
    Route(&'a Arc<Upstream>),
    Newer(Rc<Snapshot>, &'a Arc<Upstream>, usize),
}

impl Deref for Current<'_> {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        match self {
            Self::Route(upstream) => upstream,
            Self::Newer(table, route, index) => table.upstreams.get(*index).unwrap_or(route),
        }
    }
}

impl Current<'_> {
    /// Takes the upstream from the newest table. The peers in `tried` stay the same ones.
    pub(crate) fn renew(&mut self, worker: &Worker, tried: &mut Vec<u32>) {
        let table = worker.table();
        let id = &self.config.id;
        let found = table
            .upstreams
            .binary_search_by(|upstream| upstream.config.id.cmp(id));
        let Some((index, newer)) = found
            .ok()
            .and_then(|index| Some((index, table.upstreams.get(index)?)))
        else {
            return;
        };
        // The request has been made for one protocol and one kind of TLS.
        if ptr::eq(&raw const **newer, &raw const **self) || newer.transport != self.transport {
            return;
        }
        let same = |index: &u32| {
            let known = self.peers.get(*index as usize)?.state.id;
            let mut peers = (0_u32..).zip(&newer.peers);
            peers.find_map(|(number, peer)| (peer.state.id == known).then_some(number))
        };
        *tried = tried.iter().filter_map(same).collect();
        let route = match self {
            Self::Route(route) | Self::Newer(_, route, _) => route,
        };
        *self = Self::Newer(table, route, index);
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Whether a peer that failed may be asked again when there is no other.
    pub(crate) same_peer: bool,
    /// Whether it may be the one that an ejected peer is tried with.
    pub(crate) trial: bool,
    /// Whether it could be repeated, and risks nothing else with a peer on trial.
    pub(crate) repeatable: bool,
    /// The peer that it would like.
    pub(crate) wish: Wish,
    /// How long ago a kept connection may have been used last; zero takes none.
    pub(crate) fresh: Duration,
    /// When the request must have been answered.
    pub(crate) deadline: Option<Instant>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No peer may be picked.
    Empty,
    /// The peers that may be picked have failed this request.
    Exhausted,
    /// All are at their limits, and enough requests wait for them.
    QueueFull,
    /// All were at their limits for too long.
    Timeout,
}

/// Gives a request a peer and a seat with it, at once or after a wait; or the answer that it gets instead.
/// `last` is what the attempt before failed with.
pub(crate) async fn seat(
    exchange: &mut Exchange,
    upstream: &mut Current<'_>,
    tried: &mut Vec<u32>,
    ask: Ask,
    last: Option<&AttemptError>,
) -> Result<(u32, Seat), Reject> {
    let late = || {
        ask.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    };
    if late() {
        let reject = match last {
            Some(_) => unserved(exchange, upstream, last),
            None => Reject::new(Reason::UpstreamTimeout)
                .explaining("the request's own deadline passed before a peer was asked".to_owned()),
        };
        return Err(reject.late());
    }
    let admitted = admit(&exchange.conn.worker, upstream, tried, ask).await;
    admitted.map_err(|denied| {
        let reject = reject(exchange, upstream, denied, last);
        if late() { reject.late() } else { reject }
    })
}

/// The same for a request without an exchange.
pub(crate) async fn admit(
    worker: &Worker,
    upstream: &mut Current<'_>,
    tried: &mut Vec<u32>,
    ask: Ask,
) -> Result<(u32, Seat), Denied> {
    // The first attempt is made with the table that the request was routed by. A later one may be made long after,
    // and the peers of that table may be gone.
    if !tried.is_empty() {
        upstream.renew(worker, tried);
    }
    // Where others wait for room, nobody overtakes them.
    let gate = &upstream.gate;
    if !gate.limited() || gate.waiting() == 0 {
        match look(&worker.pool, upstream, tried, ask) {
            Look::Seated(index, seat) => return Ok((index, seat)),
            Look::Exhausted => return Err(Denied::Exhausted),
            Look::Empty | Look::Full { .. } => {}
        }
    }
    // Boxed: few wait, and the others need not carry the state of it.
    Box::pin(wait(worker, upstream, tried, ask)).await
}

async fn wait(
    worker: &Worker,
    upstream: &mut Current<'_>,
    tried: &mut Vec<u32>,
    ask: Ask,
) -> Result<(u32, Seat), Denied> {
    let gate = Arc::clone(&upstream.gate);
    let arrived = Instant::now();
    upstream.renew(worker, tried);
    patience(upstream, arrived, ask)?;
    let metrics = Arc::clone(&upstream.metrics);
    let Some(place) = gate.enter(upstream.config.limits.queue.max) else {
        metrics.queue().refused();
        return Err(match upstream.eligible().peers.is_empty() {
            true => Denied::Empty,
            false => Denied::QueueFull,
        });
    };
    let mut counted = Wait::begin(metrics.queue());
    let mut passed = false;
    loop {
        upstream.renew(worker, tried);
        if place.is_first() {
            match look(&worker.pool, upstream, tried, ask) {
                Look::Seated(index, seat) => {
                    counted.ended(Waited::Served);
                    return Ok((index, seat));
                }
                Look::Exhausted => {
                    counted.ended(Waited::TimedOut);
                    return Err(Denied::Exhausted);
                }
                Look::Empty => {}
                Look::Full { connections } => {
                    if connections {
                        worker.make_room(&gate);
                    }
                    // Others may do with peers that this one has tried.
                    if !passed && !tried.is_empty() {
                        passed = true;
                        place.pass();
                    }
                }
            }
        }
        let until =
            patience(upstream, arrived, ask).inspect_err(|_| counted.ended(Waited::TimedOut))?;
        // Either way it looks again.
        let _ = tokio::time::timeout_at(until, place.turn()).await;
    }
}

/// Until when there is something to wait for.
fn patience(upstream: &Upstream, arrived: Instant, ask: Ask) -> Result<Instant, Denied> {
    let now = Instant::now();
    let timeout = upstream.config.limits.queue.timeout;
    let (since, denied) = if upstream.eligible().peers.is_empty() {
        if !passes(upstream) {
            return Err(Denied::Empty);
        }
        (upstream.gate.empty_since().unwrap_or(now), Denied::Empty)
    } else {
        (arrived, Denied::Timeout)
    };
    let until = since + timeout;
    let until = ask.deadline.map_or(until, |deadline| until.min(deadline));
    if now < until { Ok(until) } else { Err(denied) }
}

/// Whether what is wrong with an upstream without peers may pass by itself.
fn passes(upstream: &Upstream) -> bool {
    upstream.config.problem.as_ref().is_none_or(|problem| {
        matches!(
            problem.reason,
            Reason::NoEndpoints | Reason::SelectorMatchesNothing | Reason::PodsNotScheduled
        )
    })
}

/// What there is for a request at this moment.
enum Look {
    Seated(u32, Seat),
    /// No peer is eligible.
    Empty,
    /// All that are eligible have failed this request.
    Exhausted,
    /// None has room; `connections` if closing an idle connection would make some.
    Full {
        connections: bool,
    },
}

fn look(pool: &Pool, upstream: &Upstream, tried: &[u32], ask: Ask) -> Look {
    let gate = &upstream.gate;
    let may_move = ask.wish.may_move() || upstream.eligible().peers.is_empty();
    if ask.trial
        && may_move
        && (!gate.limited() || gate.has_request_room())
        && let Some((index, peer)) = upstream.trial(tried, ask.repeatable)
        && let Some(seat) = gate.seat(peer)
    {
        return Look::Seated(index, seat);
    }
    let eligible = upstream.eligible();
    if eligible.peers.is_empty() {
        return Look::Empty;
    }
    let Some((index, peer)) = pick(upstream, &ask.wish, tried, ask.same_peer, |_| true) else {
        return Look::Exhausted;
    };
    if gate.limited() {
        return look_for_room(pool, upstream, (index, peer), tried, ask);
    }
    Look::Seated(index, Seat::unlimited(peer))
}

/// Where there are limits: the first choice, or another one that has room.
fn look_for_room(
    pool: &Pool,
    upstream: &Upstream,
    first: (u32, &Peer),
    tried: &[u32],
    ask: Ask,
) -> Look {
    let gate = &upstream.gate;
    if !gate.has_request_room() {
        return Look::Full { connections: false };
    }
    let (index, peer) = first;
    if has_room(pool, upstream, peer, ask)
        && let Some(seat) = gate.seat(peer)
    {
        return Look::Seated(index, seat);
    }
    let eligible = upstream.eligible();
    let peer = |index: u32| upstream.peers.get(index as usize);
    let open = |index| peer(index).is_some_and(|peer| has_room(pool, upstream, peer, ask));
    // Each round that finds no seat has lost it to another worker: room is looked at anew.
    for _ in 0..eligible.peers.len() {
        let Some((index, peer)) = pick(upstream, &ask.wish, tried, ask.same_peer, open) else {
            break;
        };
        if let Some(seat) = gate.seat(peer) {
            return Look::Seated(index, seat);
        }
    }
    let lacks_connection = |peer: &Peer| {
        gate.has_peer_request_room(peer) && !has_connection(pool, upstream, peer, ask)
    };
    let connections = gate.limits_connections()
        && eligible
            .peers
            .iter()
            .any(|index| peer(*index).is_some_and(lacks_connection));
    Look::Full { connections }
}

fn has_room(pool: &Pool, upstream: &Upstream, peer: &Peer, ask: Ask) -> bool {
    upstream.gate.has_peer_request_room(peer)
        && (!upstream.gate.limits_connections() || has_connection(pool, upstream, peer, ask))
}

/// Whether there is a connection to the peer, or room for one.
fn has_connection(pool: &Pool, upstream: &Upstream, peer: &Peer, ask: Ask) -> bool {
    let key = PoolKey {
        peer: peer.state.id,
        transport: upstream.transport,
    };
    upstream.gate.has_connection_room(&peer.state)
        || match upstream.config.protocol {
            Protocol::Http1 => pool.has_idle(key, ask.fresh, Instant::now()),
            Protocol::Http2 => pool.has_shared(key),
        }
}

/// The answer to a request that gets no seat.
fn reject(
    exchange: &mut Exchange,
    upstream: &Upstream,
    denied: Denied,
    last: Option<&AttemptError>,
) -> Reject {
    let queue = upstream.config.limits.queue;
    let (reason, why) = match denied {
        Denied::QueueFull if last.is_none() => {
            let waiting = upstream.gate.waiting();
            (
                Reason::CircuitOpen,
                format!("{waiting} of {} waiting", queue.max),
            )
        }
        Denied::Timeout if last.is_none() => (
            Reason::QueueTimeout,
            format!("no room within {:?}", queue.timeout),
        ),
        _ => return unserved(exchange, upstream, last),
    };
    let mut words = use_of_limits(upstream);
    words.push(why);
    let peers = report::reject_peers(upstream, exchange.explains());
    Reject::new(reason)
        .explaining(words.join(", "))
        .of_peers(&upstream.config.id, peers)
}

/// `100 of 100 requests in flight, 7 of 20 connections`, as far as there are limits.
fn use_of_limits(upstream: &Upstream) -> Vec<String> {
    let gate = &upstream.gate;
    let mut words = Vec::new();
    if let (count, Some(limit)) = gate.requests() {
        words.push(format!("{count} of {limit} requests in flight"));
    }
    if let (count, Some(limit)) = gate.connections() {
        words.push(format!("{count} of {limit} connections"));
    }
    words
}

/// How much of an upstream's limits is used and how many wait, for people; `None` without limits, or while
/// nobody has to wait.
pub(crate) fn pressure(upstream: &Upstream) -> Option<String> {
    let gate = &upstream.gate;
    let waiting = gate.waiting();
    if !gate.limited() || (waiting == 0 && gate.has_request_room()) {
        return None;
    }
    let mut words = use_of_limits(upstream);
    words.push(format!("{waiting} waiting"));
    Some(words.join(", "))
}

/// What fills a peer up to its limits, for people; `None` if it has room.
pub(crate) fn saturation(upstream: &Upstream, peer: &Peer) -> Option<String> {
    let limits = &upstream.config.limits;
    let in_flight = peer.state.vitals.in_flight();
    if let Some(limit) = limits.peer_max_parallel_requests
        && in_flight >= limit
    {
        return Some(format!("{in_flight} of {limit} requests in flight"));
    }
    let connections = peer.state.connections();
    // Connections without a request have room, and HTTP/2 connections have it for many.
    if let Some(limit) = limits.peer_max_connections
        && upstream.config.protocol == Protocol::Http1
        && connections >= limit
        && in_flight >= connections
    {
        return Some(format!("{connections} of {limit} connections in use"));
    }
    None
}
