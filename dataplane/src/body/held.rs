//! A body that must be the one that was signed while it streams, and for which the answer is held back.
//!
//! A peer may answer before it has seen the end of the body, or without looking at it. What it says is worth nothing
//! to whoever repeats a request that was signed by another with a body of their own, so it goes on only once the whole
//! body is known to be the right one. As long as the peer takes the body, it goes there, for as long as any upload may
//! take; when the peer takes no more of it, the rest is read here and dropped, within bounds.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{BodyError, Progress, Stream};
use crate::reason::Reason;

/// A peer that has answered, and takes nothing of a body that is there for this long, takes no more of it.
const TAKES_NONE: Duration = Duration::from_secs(5);
/// What is read of a body that its peer does not take.
const REST_LIMIT: u64 = 64 * 1024 * 1024;
const REST_TIME: Duration = Duration::from_secs(60);

/// The body; lent to who sends it to a peer.
pub(super) struct Held {
    stream: RefCell<Stream>,
    /// The client is waited for, not the peer.
    waits: Cell<bool>,
    /// Who sent it has let go of it.
    let_go: Cell<bool>,
    /// The rest of it is read here.
    taken_over: Cell<bool>,
    over: Cell<bool>,
    sender: Cell<Option<Waker>>,
    holder: Cell<Option<Waker>>,
}

impl Held {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream: RefCell::new(stream),
            waits: Cell::new(false),
            let_go: Cell::new(false),
            taken_over: Cell::new(false),
            over: Cell::new(false),
            sender: Cell::new(None),
            holder: Cell::new(None),
        }
    }

    /// The next frame, for the peer.
    pub(super) fn poll_send(
        &self,
        progress: &Progress,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.taken_over.get() {
            // An error now would cost the answer, an end would be a lie.
            if self.over.get() {
                return Poll::Ready(Some(Err(BodyError::NotTaken)));
            }
            self.sender.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let polled = self.stream.borrow_mut().poll(progress, cx);
        self.waits.set(polled.is_pending());
        if self.is_settled(progress) {
            wake(&self.holder);
        }
        polled
    }

    /// Nobody sends it any more.
    pub(super) fn let_go(&self) {
        self.let_go.set(true);
        wake(&self.holder);
    }

    /// The answer is over: nothing is lost when its connection is.
    pub(super) fn answer_is_over(&self) {
        self.over.set(true);
        wake(&self.sender);
    }

    pub(super) fn is_done(&self) -> bool {
        self.stream.borrow().is_done()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.stream.borrow().size_hint()
    }

    fn has_passed(&self) -> bool {
        self.stream.borrow().has_passed()
    }

    fn is_settled(&self, progress: &Progress) -> bool {
        self.has_passed() || progress.fault().is_some()
    }

    /// See [`Progress::known`].
    pub(super) async fn known(&self, progress: &Progress) -> Result<bool, Reason> {
        self.while_taken(progress).await;
        if !self.is_settled(progress) {
            self.taken_over.set(true);
            let read = tokio::time::timeout(REST_TIME, self.read(progress)).await;
            read.map_err(|_| Reason::BodyTimeout)??;
        }
        match progress.fault() {
            Some(fault) => Err(fault),
            None if self.has_passed() => Ok(!self.taken_over.get()),
            None => Err(Reason::BadRequest),
        }
    }

    /// Waits until it is settled, or its peer takes no more of it.
    async fn while_taken(&self, progress: &Progress) {
        loop {
            let before = progress.bytes.get();
            let settled = std::future::poll_fn(|cx| {
                if self.is_settled(progress) || self.let_go.get() {
                    return Poll::Ready(());
                }
                self.holder.set(Some(cx.waker().clone()));
                Poll::Pending
            });
            let settled = tokio::time::timeout(TAKES_NONE, settled).await;
            if settled.is_ok() || (progress.bytes.get() == before && !self.waits.get()) {
                return;
            }
        }
    }

    /// Reads what is left of it.
    async fn read(&self, progress: &Progress) -> Result<(), Reason> {
        let before = progress.bytes.get();
        loop {
            let next = std::future::poll_fn(|cx| self.stream.borrow_mut().poll(progress, cx));
            if !matches!(next.await, Some(Ok(_))) {
                return Ok(());
            }
            if progress.bytes.get() - before > REST_LIMIT {
                return Err(Reason::BodyTooLarge);
            }
        }
    }
}

fn wake(waker: &Cell<Option<Waker>>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::rc::Rc;

    use tokio::time::Instant;

    use super::*;
    use crate::{
        auth::access_key::Digests,
        body::{Check, tests},
    };

    const BODY: &str = "0123456789";

    /// What comes of it when a client sends these bytes, each after a pause.
    async fn with<R>(
        pause: Duration,
        sent: &'static str,
        test: impl AsyncFn(Rc<Progress>) -> R,
    ) -> R {
        let test = async |incoming| {
            let check = Check::new(Digests::of(BODY.as_bytes()));
            let progress = Rc::new(Progress::default());
            progress.hold(Held::new(Stream::new(incoming, None, Some(check), false)));
            test(progress).await
        };
        tests::with(pause, sent, test).await
    }

    /// Sends it to a peer that takes all.
    async fn send(progress: Rc<Progress>) -> usize {
        let mut frames = 0;
        let held = progress.held().unwrap();
        while let Some(Ok(_)) = std::future::poll_fn(|cx| held.poll_send(&progress, cx)).await {
            frames += 1;
        }
        held.let_go();
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn what_its_peer_does_not_take_is_read_here() {
        let at_once = Duration::ZERO;
        let took = with(at_once, BODY, async |progress: Rc<Progress>| {
            let start = Instant::now();
            assert_eq!(progress.known().await, Ok(false));
            assert_eq!(start.elapsed(), TAKES_NONE);
            let held = progress.held().unwrap();
            let mut polled = futures::poll!(Box::pin(next(&progress, held)));
            assert!(polled.is_pending(), "the answer may still be on its way");
            progress.answer_is_over();
            polled = futures::poll!(Box::pin(next(&progress, held)));
            matches!(polled, Poll::Ready(Some(Err(BodyError::NotTaken))))
        });
        assert!(took.await);
        let wrong = with(at_once, "012345678X", async |progress: Rc<Progress>| {
            progress.known().await
        });
        assert_eq!(wrong.await, Err(Reason::AuthRequired));
    }

    async fn next(progress: &Progress, held: &Held) -> Option<Result<Frame<Bytes>, BodyError>> {
        std::future::poll_fn(|cx| held.poll_send(progress, cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_it_gets_it_however_slow_the_client_is() {
        let slowly = Duration::from_secs(20);
        // A piece is held back until the next one comes, and the last two until all is known.
        for (sent, wanted, frames) in [
            (BODY, Ok(true), 10),
            ("012345678X", Err(Reason::AuthRequired), 8),
            ("01234", Err(Reason::BodyTimeout), 4),
        ] {
            let outcome = with(slowly, sent, async |progress: Rc<Progress>| {
                let sending = send(Rc::clone(&progress));
                futures::future::join(progress.known(), sending).await
            });
            assert_eq!(outcome.await, (wanted, frames), "{sent}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_sends_any_more_is_read_within_bounds() {
        let let_go = with(Duration::ZERO, BODY, async |progress: Rc<Progress>| {
            progress.held().unwrap().let_go();
            progress.known().await
        });
        assert_eq!(let_go.await, Ok(false));
        let slowly = Duration::from_secs(9);
        let too_slow = with(slowly, BODY, async |progress: Rc<Progress>| {
            progress.held().unwrap().let_go();
            let start = Instant::now();
            let known = progress.known().await;
            assert_eq!(start.elapsed(), REST_TIME);
            known
        });
        assert_eq!(too_slow.await, Err(Reason::BodyTimeout));
    }
}
