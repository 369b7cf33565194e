//! For how long an attempt waits.

use std::{rc::Rc, time::Duration};

use tokio::time::Instant;

use crate::{
    body::Progress,
    fault::overslept,
    pool::LoggedIn,
    table::{Concern, Peer, Upstream},
};

/// The limits of one attempt.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    /// To connect, TLS included.
    pub(crate) connect: Option<Duration>,
    /// From the request being handed over to the response's head.
    pub(crate) head: Option<Duration>,
    /// When the request must have been answered, all attempts included. That it passes says nothing of the peer,
    /// which may have been given no time at all.
    pub(crate) deadline: Option<Instant>,
    /// How long ago a kept connection may have been used last; zero takes none.
    pub(crate) fresh: Duration,
    /// Where the connection is kept if the peer authenticates it; `None` if it is then not kept.
    pub(crate) logged_in: Option<&'a Rc<LoggedIn>>,
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

/// Whose time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The peer's, which was this long.
    Peer(Duration),
    /// The request's own.
    Request,
    /// The timer fired so late that it says nothing about the peer: this thread was busy.
    Ourselves,
}

/// What comes of it within the peer's limit and before the request's deadline; or the one of the two that was first.
pub(super) async fn within<F: Future>(
    limit: Option<Duration>,
    deadline: Option<Instant>,
    future: F,
) -> Result<F::Output, Late> {
    let own = limit.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
    let (until, late) = match (own, deadline) {
        (Some((own, limit)), None) => (own, Late::Peer(limit)),
        (Some((own, limit)), Some(deadline)) if own <= deadline => (own, Late::Peer(limit)),
        (_, Some(deadline)) => (deadline, Late::Request),
        (None, None) => return Ok(future.await),
    };
    let output = tokio::time::timeout_at(until, future).await;
    output.map_err(|_| match late {
        Late::Peer(_) if overslept(until) => Late::Ourselves,
        late => late,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_known_whose_time_is_over() {
        let second = Duration::from_secs(1);
        let never = || std::future::pending::<()>();
        let (soon, later) = (Instant::now() + second, Instant::now() + 3 * second);
        for (limit, deadline, late) in [
            (Some(second), None, Late::Peer(second)),
            (Some(2 * second), Some(later), Late::Peer(2 * second)),
            (None, Some(later + second), Late::Request),
            // It has passed before anything was begun.
            (Some(second), Some(soon), Late::Request),
            (Some(Duration::MAX), Some(soon), Late::Request),
        ] {
            assert_eq!(within(limit, deadline, never()).await, Err(late));
        }
        assert_eq!(within(None, None, async { 1 }).await, Ok(1));
    }
}
