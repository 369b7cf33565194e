//! What is counted against the limits of one upstream, and the queue of those who wait for room.
//!
//! A gate belongs to an upstream's identity and goes from table to table with it. All workers share it: the
//! counters are atomics, and the queue's lock is only taken while somebody waits. A request of an upstream
//! without limits touches nothing here but one flag.
//!
//! **Invariant:** whoever gives something back looks at `waiting` afterwards, and whoever waits looks at the
//! counters after it has raised `waiting`, each behind a sequentially consistent fence: one of the two sees
//! the other, so no wake-up is lost.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    config::UpstreamLimits,
    health::InFlight,
    table::{Peer, PeerState},
};

/// A limit that is not set.
const UNLIMITED: u32 = u32::MAX;

/// The limits of one upstream, what counts against them, and who waits.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whether any limit is set.
    limited: AtomicBool,
    max_requests: AtomicU32,
    max_connections: AtomicU32,
    peer_max_requests: AtomicU32,
    peer_max_connections: AtomicU32,
    /// Requests in flight, counted while there is a limit.
    requests: AtomicU32,
    /// Connections to peers, always counted.
    connections: AtomicU32,
    /// The length of `queue`, to be read without its lock.
    waiting: AtomicU32,
    queue: Mutex<VecDeque<Arc<Notify>>>,
    born: Instant,
    /// Since when no peer may be picked, in milliseconds after `born` and 1; 0 is that one may.
    empty_since: AtomicU64,
    /// The pool for which another is to close an idle connection; 0 is none.
    wanting: AtomicU64,
}

impl Gate {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            limited: AtomicBool::new(false),
            max_requests: AtomicU32::new(UNLIMITED),
            max_connections: AtomicU32::new(UNLIMITED),
            peer_max_requests: AtomicU32::new(UNLIMITED),
            peer_max_connections: AtomicU32::new(UNLIMITED),
            requests: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            queue: Mutex::default(),
            born: now,
            empty_since: AtomicU64::new(0),
            wanting: AtomicU64::new(0),
        }
    }

    /// The limits of the table to come.
    pub(crate) fn set_limits(&self, limits: &UpstreamLimits) {
        let mut limited = false;
        for (counter, limit) in [
            (&self.max_requests, limits.max_parallel_requests),
            (&self.max_connections, limits.max_connections),
            (&self.peer_max_requests, limits.peer_max_parallel_requests),
            (&self.peer_max_connections, limits.peer_max_connections),
        ] {
            counter.store(limit.unwrap_or(UNLIMITED), Ordering::Relaxed);
            limited |= limit.is_some();
        }
        self.limited.store(limited, Ordering::Relaxed);
    }

    /// Whether any limit is set.
    pub(crate) fn limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed)
    }

    /// Whether connections are limited.
    pub(crate) fn limits_connections(&self) -> bool {
        let set = |limit: &AtomicU32| limit.load(Ordering::Relaxed) != UNLIMITED;
        set(&self.max_connections) || set(&self.peer_max_connections)
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether the upstream itself has room for one more request.
    pub(crate) fn has_request_room(&self) -> bool {
        self.requests.load(Ordering::SeqCst) < self.max_requests.load(Ordering::Relaxed)
    }

    /// Whether a peer has room for one more request.
    pub(crate) fn has_peer_request_room(&self, peer: &Peer) -> bool {
        peer.state.vitals.in_flight() < self.peer_max_requests.load(Ordering::Relaxed)
    }

    /// Whether one more connection to a peer may be made.
    pub(crate) fn has_connection_room(&self, state: &PeerState) -> bool {
        self.connections.load(Ordering::SeqCst) < self.max_connections.load(Ordering::Relaxed)
            && state.connections.load(Ordering::SeqCst)
                < self.peer_max_connections.load(Ordering::Relaxed)
    }

    /// Counts a request to a peer, if both have room for it.
    pub(crate) fn seat(self: &Arc<Self>, peer: &Peer) -> Option<Seat> {
        if !self.limited() {
            return Some(Seat::unlimited(peer));
        }
        if !take(&self.requests, &self.max_requests) {
            return None;
        }
        // Gives the place back if the peer has none.
        let mut seat = Seat {
            in_flight: None,
            gate: Some(Arc::clone(self)),
        };
        let most = self.peer_max_requests.load(Ordering::Relaxed);
        seat.in_flight = Some(peer.state.vitals.track_below(most)?);
        Some(seat)
    }

    /// Takes the last place of the queue; `None` if there are `max` before.
    pub(crate) fn enter(self: &Arc<Self>, max: u32) -> Option<Place> {
        let mut queue = self.queue();
        if queue.len() >= usize::try_from(max).unwrap_or(usize::MAX) {
            return None;
        }
        let turn = Arc::new(Notify::new());
        queue.push_back(Arc::clone(&turn));
        self.count(&queue);
        Some(Place {
            gate: Arc::clone(self),
            turn,
        })
    }

    /// Something may have become free: the first of the queue looks again.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0
            && let Some(first) = self.queue().front()
        {
            first.notify_one();
        }
    }

    /// Takes note of whether there is a peer that may be picked.
    pub(crate) fn note_empty(&self, empty: bool, now: Instant) {
        if !empty {
            self.empty_since.store(0, Ordering::Relaxed);
            return;
        }
        let elapsed = now.saturating_duration_since(self.born).as_millis();
        let stamp = u64::try_from(elapsed).unwrap_or(u64::MAX).saturating_add(1);
        // Only the first who sees it stamps it.
        let _ = self
            .empty_since
            .compare_exchange(0, stamp, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Since when there is no peer that may be picked.
    pub(crate) fn empty_since(&self) -> Option<Instant> {
        let stamp = self.empty_since.load(Ordering::Relaxed).checked_sub(1)?;
        self.born.checked_add(Duration::from_millis(stamp))
    }

    /// Asks for an idle connection of another worker's pool to be closed in favour of pool `id`.
    pub(crate) fn want(&self, id: u64) {
        self.wanting.store(id, Ordering::Relaxed);
    }

    /// Whether pool `id` is to close an idle connection. Whoever hears it does it.
    pub(crate) fn is_wanted_of(&self, id: u64) -> bool {
        let wanting = self.wanting.load(Ordering::Relaxed);
        wanting != 0
            && wanting != id
            && self
                .wanting
                .compare_exchange(wanting, 0, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Requests in flight and their limit, for people.
    pub(crate) fn requests(&self) -> (u32, Option<u32>) {
        let limit = self.max_requests.load(Ordering::Relaxed);
        let limit = (limit != UNLIMITED).then_some(limit);
        (self.requests.load(Ordering::Relaxed), limit)
    }

    /// Connections and their limit, for people.
    pub(crate) fn connections(&self) -> (u32, Option<u32>) {
        let limit = self.max_connections.load(Ordering::Relaxed);
        let limit = (limit != UNLIMITED).then_some(limit);
        (self.connections.load(Ordering::Relaxed), limit)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, queue: &VecDeque<Arc<Notify>>) {
        let length = u32::try_from(queue.len()).unwrap_or(u32::MAX);
        self.waiting.store(length, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

/// Adds one to a counter that is below its limit.
fn take(counter: &AtomicU32, limit: &AtomicU32) -> bool {
    let limit = limit.load(Ordering::Relaxed);
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
            (count < limit).then_some(count + 1)
        })
        .is_ok()
}

/// A request in flight, counted against the limits until dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    in_flight: Option<InFlight>,
    /// `None` where nothing is limited.
    gate: Option<Arc<Gate>>,
}

impl Seat {
    /// With a peer of an upstream that has no limits.
    pub(crate) fn unlimited(peer: &Peer) -> Self {
        Self {
            in_flight: Some(peer.state.vitals.track()),
            gate: None,
        }
    }

    /// What the peer's vitals know it by.
    pub(crate) fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // First given back, then told.
        self.in_flight = None;
        if let Some(gate) = self.gate.take() {
            gate.requests.fetch_sub(1, Ordering::SeqCst);
            gate.wake();
        }
    }
}

/// A connection to a peer, counted until dropped.
pub(crate) struct ConnectionSeat(Arc<PeerState>);

impl ConnectionSeat {
    /// Counts a connection to a peer that is about to be made, if the limits leave room for it.
    pub(crate) fn take(state: &Arc<PeerState>) -> Option<Self> {
        let gate = &state.gate;
        if !take(&state.connections, &gate.peer_max_connections) {
            return None;
        }
        if !take(&gate.connections, &gate.max_connections) {
            state.connections.fetch_sub(1, Ordering::SeqCst);
            gate.wake();
            return None;
        }
        Some(Self(Arc::clone(state)))
    }
}

impl Drop for ConnectionSeat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
        self.0.gate.connections.fetch_sub(1, Ordering::SeqCst);
        self.0.gate.wake();
    }
}

/// A place in the queue, left by being dropped.
pub(crate) struct Place {
    gate: Arc<Gate>,
    turn: Arc<Notify>,
}

impl Place {
    /// Whether nobody is before.
    pub(crate) fn is_first(&self) -> bool {
        let queue = self.gate.queue();
        queue
            .front()
            .is_some_and(|first| Arc::ptr_eq(first, &self.turn))
    }

    /// Ready when it is worth looking again.
    pub(crate) async fn turn(&self) {
        self.turn.notified().await;
    }

    /// Lets all others go before.
    pub(crate) fn pass(&self) {
        let mut queue = self.gate.queue();
        if let Some(index) = position(&queue, &self.turn)
            && let Some(turn) = queue.remove(index)
        {
            queue.push_back(turn);
        }
        if let Some(first) = queue.front() {
            first.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.gate.queue();
        let index = position(&queue, &self.turn);
        if let Some(index) = index {
            queue.remove(index);
        }
        self.gate.count(&queue);
        // There may be room for more than one.
        if index == Some(0)
            && let Some(first) = queue.front()
        {
            first.notify_one();
        }
    }
}

fn position(queue: &VecDeque<Arc<Notify>>, turn: &Arc<Notify>) -> Option<usize> {
    queue.iter().position(|other| Arc::ptr_eq(other, turn))
}
