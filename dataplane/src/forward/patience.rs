//! For how long an attempt waits.

use std::time::Duration;

use crate::{
    body::Progress,
    table::{Concern, Peer, Upstream},
};

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
    pub(super) fn ends_unsent(&self, upstream: &Upstream, peer: &Peer) -> bool {
        self.lost(peer) && self.elsewhere(upstream)
    }

    /// While the head of the response is waited for.
    pub(super) fn ends_sent(&self, upstream: &Upstream, peer: &Peer) -> bool {
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

/// What comes of it within the limit.
pub(super) async fn within<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}
