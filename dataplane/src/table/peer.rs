//! A peer as requests see it, and what of it outlives a table.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use tokio::time::Instant;

use crate::{
    admission::Gate,
    balance::Since,
    config::{self, UpstreamId},
    health::{Verdict, Vitals},
    session, waiting,
};

/// A peer as a request needs it.
pub(crate) struct Peer {
    pub(crate) config: config::Peer,
    pub(crate) state: Arc<PeerState>,
    /// The upstream's policy with the peer's own check, or with none; `None` where the upstream's check is
    /// for every peer.
    pub(super) health: Option<Box<config::HealthPolicy>>,
}

/// What speaks against waiting for a peer, the worse the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Concern {
    /// Nothing.
    None,
    /// It used to answer, and now answers neither its check nor requests.
    Silent,
    /// It is found failing.
    Out,
}

/// What outlives a table: one for each peer identity.
pub(crate) struct PeerState {
    /// Names the peer in connection pools; never used again after the peer is gone.
    pub(crate) id: u64,
    /// Names the peer in cookies and on the hash ring, to every replica alike.
    pub(crate) key: u64,
    pub(crate) vitals: Arc<Vitals>,
    /// Its upstream's.
    pub(crate) gate: Arc<Gate>,
    /// Connections to it, those of checks not counted.
    pub(crate) connections: AtomicU32,
    /// Whether idle connections to it may be kept.
    pub(super) poolable: AtomicBool,
    /// Since when it gets requests; nobody but refreshes looks at it.
    since: Mutex<Since>,
    /// Whether it is found failing.
    out: AtomicBool,
}

impl PeerState {
    /// Of a peer that nothing is known of but what Kubernetes says.
    pub(super) fn new(
        upstream: &UpstreamId,
        peer: &config::Peer,
        gate: Arc<Gate>,
        since: Since,
    ) -> Self {
        Self {
            id: next_id(),
            key: session::peer_key(upstream, peer.address, &peer.uid),
            vitals: Arc::new(Vitals::new(peer.readiness, Instant::now())),
            gate,
            connections: AtomicU32::new(0),
            poolable: AtomicBool::new(true),
            since: Mutex::new(since),
            out: AtomicBool::new(false),
        }
    }

    /// Connections to it, those of checks not counted.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether its connections, or those of the whole upstream, are as many as may be.
    pub(crate) fn fills_a_limit(&self) -> bool {
        !self.gate.has_connection_room(self)
    }

    /// Whether idle connections to it may be kept.
    pub(crate) fn poolable(&self) -> bool {
        self.poolable.load(Ordering::Relaxed)
    }

    pub(super) fn since(&self) -> Since {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer that is out begins anew when it comes back, and one that was out begins now.
    pub(super) fn settle(&self, excluded: bool, picked: bool, now: Instant) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if excluded {
            *since = Since::Fresh;
        } else if picked && *since == Since::Fresh {
            *since = Since::At(now);
        }
    }

    /// Whether who waits for it should look elsewhere. Kubernetes' word does not count here: a pod that terminates, is
    /// not ready or lost its label may well finish what it has.
    pub(crate) fn concern(&self) -> Concern {
        if self.out.load(Ordering::Relaxed) {
            Concern::Out
        } else if self.vitals.is_silent() {
            Concern::Silent
        } else {
            Concern::None
        }
    }

    pub(super) fn set_out(&self, out: bool) {
        if !self.out.swap(out, Ordering::Relaxed) && out {
            waiting::announce();
        }
    }
}

impl Peer {
    /// What the active check says, as the pick has it: a peer that has no check of its own is not one that
    /// waits for its first check.
    pub(super) fn probe(&self) -> Verdict {
        match &self.health {
            Some(own) if own.active.is_none() => Verdict::Pass,
            _ => self.state.vitals.probe(),
        }
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

pub(super) fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}
