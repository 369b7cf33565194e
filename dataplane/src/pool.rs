//! Connections to peers that wait for a request, or carry several: one pool for each worker.
//!
//! HTTP/1 connections are kept as a stack, so that the most recently used is used next and the rest
//! age out; HTTP/2 connections are shared by as many streams as their peer takes. Connections of a peer that drains, fails
//! or leaves are dropped at once, and who waits for a peer that fails is told.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Request;
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use crate::{
    admission::Gate, body::RequestBody, forward::Opened, table::PeerState, waiting::Waiting,
};

mod shared;

use shared::{Opening, STREAMS, Shared};
pub(crate) use shared::{SharedTurn, StreamSlot};

/// How long an unused connection is kept: less than the 5 s after which Node, uvicorn and Apache close.
pub(crate) const KEEP: Duration = Duration::from_secs(4);
/// Idle connections kept for one peer by one worker.
const IDLE_MOST: usize = 256;
/// Streams to one peer by one worker for which HTTP/2 connections are opened.
const STREAMS_MOST: usize = 16 * STREAMS;
/// HTTP/2 connections to one peer by one worker, however few streams each takes.
const SHARED_MOST: usize = 256;
/// How long an HTTP/2 connection without a stream is kept.
const SHARED_KEEP: Duration = Duration::from_secs(60);

/// The one connection to a peer that belongs to a client connection, because users log in to connections there.
#[derive(Default)]
pub(crate) struct LoggedIn(RefCell<Option<(PoolKey, Http1)>>);

impl LoggedIn {
    /// The peer that it leads to; see [`PeerState::id`].
    pub(crate) fn peer(&self) -> Option<u64> {
        self.0.borrow().as_ref().map(|(key, _)| key.peer)
    }

    /// The connection, if it leads there and can take a request.
    pub(crate) fn take(&self, key: PoolKey) -> Option<Http1> {
        let (_, sender) = self.0.borrow_mut().take_if(|(to, _)| *to == key)?;
        sender.is_ready().then_some(sender)
    }

    /// Keeps it for the next request of the same client connection.
    pub(crate) fn keep(&self, key: PoolKey, sender: Http1) {
        if sender.is_ready() {
            *self.0.borrow_mut() = Some((key, sender));
        }
    }
}

/// Which connections may stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    /// [`PeerState::id`].
    pub(crate) peer: u64,
    /// [`crate::table::Upstream::transport`].
    pub(crate) transport: u64,
}

/// An HTTP/1 connection to a peer.
pub(crate) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    busy: Busy,
}

/// Whether a connection carries a request that is not complete. If it ends then, it is reset: its peer need not go on,
/// and no local port waits for what is still on its way.
#[derive(Clone, Default)]
pub(crate) struct Busy(Arc<AtomicBool>);

impl Busy {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl Http1 {
    pub(crate) fn new(sender: http1::SendRequest<RequestBody>, busy: Busy) -> Self {
        Self { sender, busy }
    }

    /// Sends a request; see [`http1::SendRequest::try_send_request`].
    pub(crate) fn try_send_request(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = crate::forward::Answer> + use<> {
        self.busy.0.store(true, Relaxed);
        self.sender.try_send_request(request)
    }

    /// Its request is complete, or it is not HTTP any more.
    pub(crate) fn is_done(&self) {
        self.busy.0.store(false, Relaxed);
    }

    /// Whether it can take a request now.
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

pub(crate) type Http2 = http2::SendRequest<RequestBody>;

/// The pool of one worker.
pub(crate) struct Pool {
    /// Tells it from those of other workers; not 0.
    id: u64,
    /// Requests that wait for a peer.
    pub(crate) waiting: Waiting,
    peers: RefCell<HashMap<PoolKey, PeerPool>>,
}

struct PeerPool {
    state: Arc<PeerState>,
    idle: Vec<Idle>,
    shared: Vec<Rc<Shared>>,
    /// Set while an HTTP/2 connection is being opened: others wait for it instead of opening more.
    opening: Option<Rc<Opening>>,
}

struct Idle {
    sender: Http1,
    since: Instant,
    keep: Duration,
}

impl Pool {
    /// Empty. `id` is not 0, and no other worker's.
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            waiting: Waiting::default(),
            peers: RefCell::default(),
        }
    }

    /// Tells it from the pools of other workers.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Whether [`take`](Self::take) would find a connection.
    pub(crate) fn has_idle(&self, key: PoolKey, fresh: Duration, now: Instant) -> bool {
        let age = |idle: &&Idle| now.saturating_duration_since(idle.since);
        let usable = |idle: &&Idle| !idle.sender.is_closed() && age(idle) < idle.keep;
        let peers = self.peers.borrow();
        let newest = peers
            .get(&key)
            .and_then(|pool| pool.idle.iter().rev().find(usable));
        !fresh.is_zero() && newest.is_some_and(|idle| age(&idle) <= fresh)
    }

    /// Whether an HTTP/2 connection is there for one more stream, or about to be.
    pub(crate) fn has_shared(&self, key: PoolKey) -> bool {
        self.peers.borrow().get(&key).is_some_and(|pool| {
            let open =
                |shared: &&Rc<Shared>| !shared.closed.get() && !shared.sender.borrow().is_closed();
            let mut open = pool.shared.iter().filter(open);
            pool.opening.is_some() || open.any(|shared| shared.has_room())
        })
    }

    /// Closes the oldest idle connection of those that fill a limit of a gate. Whether there was one.
    pub(crate) fn evict(&self, gate: &Arc<Gate>) -> bool {
        let mut peers = self.peers.borrow_mut();
        peers
            .values_mut()
            .filter(|pool| Arc::ptr_eq(&pool.state.gate, gate) && pool.fills_a_limit())
            .any(PeerPool::evict)
    }

    /// Closes idle connections that other workers want room for.
    pub(crate) fn give_way(&self) {
        let mut peers = self.peers.borrow_mut();
        for pool in peers.values_mut() {
            if pool.has_idle() && pool.fills_a_limit() && pool.state.gate.is_wanted_of(self.id) {
                pool.evict();
            }
        }
    }

    /// An idle HTTP/1 connection that was used within `fresh`, most recent first, and how long it was idle.
    pub(crate) fn take(
        &self,
        key: PoolKey,
        fresh: Duration,
        now: Instant,
    ) -> Option<(Http1, Duration)> {
        let mut peers = self.peers.borrow_mut();
        let pool = peers.get_mut(&key)?;
        while let Some(idle) = pool.idle.pop() {
            let age = now.saturating_duration_since(idle.since);
            if idle.sender.is_closed() || age >= idle.keep {
                continue;
            }
            if age > fresh {
                // It is too old for this request, and still good for others.
                pool.idle.push(idle);
                return None;
            }
            return Some((idle.sender, age));
        }
        None
    }

    /// Keeps a connection whose response is complete, if its request is, too. One on which a body is still being
    /// written is not ready, and is let go: it ends with that body, and carries no request of another client.
    pub(crate) fn give(&self, key: PoolKey, state: &Arc<PeerState>, sender: Http1, keep: Duration) {
        if !sender.is_ready() || keep.is_zero() || !state.poolable() {
            return;
        }
        // Another worker waits for the room that it takes.
        if state.fills_a_limit() && state.gate.is_wanted_of(self.id) {
            return;
        }
        let mut peers = self.peers.borrow_mut();
        let pool = peers.entry(key).or_insert_with(|| PeerPool::new(state));
        if pool.idle.len() < IDLE_MOST {
            pool.idle.push(Idle {
                sender,
                since: Instant::now(),
                keep,
            });
            if state.gate.limited() {
                state.gate.wake();
            }
        }
    }

    /// A stream on a shared connection, or what to do to get one.
    pub(crate) fn share(&self, key: PoolKey, state: &Arc<PeerState>) -> SharedTurn {
        let mut peers = self.peers.borrow_mut();
        let pool = peers.entry(key).or_insert_with(|| PeerPool::new(state));
        pool.shared
            .retain(|shared| !shared.sender.borrow().is_closed());
        let usable = || pool.shared.iter().filter(|shared| !shared.closed.get());
        let busy = |shared: &&Rc<Shared>| shared.streams.get();
        let roomy = usable().filter(|shared| shared.has_room());
        let found = roomy.min_by_key(busy).or_else(|| {
            let full = pool.is_full() || !state.gate.has_connection_room(state);
            usable().filter(|_| full).min_by_key(busy)
        });
        match found {
            Some(shared) => SharedTurn::Use(shared.slot()),
            None => match &pool.opening {
                Some(opening) => SharedTurn::Wait(Rc::clone(opening)),
                None => {
                    pool.opening = Some(Rc::default());
                    SharedTurn::Open
                }
            },
        }
    }

    /// The outcome of an `Open` turn; those who wait go on.
    pub(crate) fn opened(&self, key: PoolKey, opened: Option<Opened>) -> Option<StreamSlot> {
        let mut peers = self.peers.borrow_mut();
        let pool = peers.get_mut(&key)?;
        if let Some(opening) = pool.opening.take() {
            opening.end(opened.is_some());
        }
        let shared = Shared::new(opened?, !pool.state.poolable());
        let slot = shared.slot();
        pool.shared.push(shared);
        Some(slot)
    }

    /// Drops what is over its age and all that leads to peers which are out.
    pub(crate) fn prune(&self, now: Instant) {
        self.waiting.rouse();
        self.peers.borrow_mut().retain(|_, pool| {
            if pool.state.poolable() {
                pool.idle.retain(|idle| {
                    !idle.sender.is_closed()
                        && now.saturating_duration_since(idle.since) < idle.keep
                });
            } else {
                pool.idle.clear();
                pool.shared
                    .iter()
                    .for_each(|shared| shared.closed.set(true));
            }
            pool.shared.retain(|shared| {
                let idle = now.saturating_duration_since(shared.idle_since.get());
                !shared.sender.borrow().is_closed()
                    && (shared.streams.get() > 0 || (!shared.closed.get() && idle < SHARED_KEEP))
            });
            !(pool.idle.is_empty() && pool.shared.is_empty() && pool.opening.is_none())
        });
    }
}

impl PeerPool {
    fn new(state: &Arc<PeerState>) -> Self {
        Self {
            state: Arc::clone(state),
            idle: Vec::new(),
            shared: Vec::new(),
            opening: None,
        }
    }
}

impl PeerPool {
    fn has_idle(&self) -> bool {
        !self.idle.is_empty() || self.shared.iter().any(|shared| shared.streams.get() == 0)
    }

    /// Whether no other HTTP/2 connection is opened.
    fn is_full(&self) -> bool {
        let streams: usize = self.shared.iter().map(|shared| shared.most()).sum();
        streams >= STREAMS_MOST || self.shared.len() >= SHARED_MOST
    }

    /// Whether room would be made by closing one.
    fn fills_a_limit(&self) -> bool {
        self.state.fills_a_limit()
    }

    /// Closes the oldest idle connection. Whether there was one.
    fn evict(&mut self) -> bool {
        if !self.idle.is_empty() {
            self.idle.remove(0);
            return true;
        }
        let unused = self
            .shared
            .iter()
            .position(|shared| shared.streams.get() == 0);
        unused.map(|index| self.shared.remove(index)).is_some()
    }
}
