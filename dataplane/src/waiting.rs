//! Requests of one worker that wait for a peer, and would rather not once it is found failing.
//!
//! A peer that stopped answering is noticed by its check long before a request's own limit passes. What waits
//! for it then looks elsewhere at once, where that can do no harm. A request only leaves its waker here while
//! it really waits; nothing is looked at until a peer somewhere is found so, which is rare, and then all who wait
//! are woken to look at their own peer: cheaper than knowing for each request which peer it waits for.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Poll, Waker},
};

use slab::Slab;

/// Counts the times that a peer was found failing, or silent.
static LOST: AtomicU64 = AtomicU64::new(0);

/// A peer was found failing, or silent: who waits for it may look elsewhere.
pub(crate) fn announce() {
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// The wakers of a worker's requests that wait for peers.
#[derive(Default)]
pub(crate) struct Waiting {
    wakers: RefCell<Slab<Waker>>,
    /// [`LOST`] when those who wait were last woken.
    seen: Cell<u64>,
}

impl Waiting {
    /// Wakes everybody if a peer was found failing, or silent, since the last call.
    pub(crate) fn rouse(&self) {
        let lost = LOST.load(Ordering::Relaxed);
        if self.seen.replace(lost) != lost {
            for (_, waker) in self.wakers.borrow().iter() {
                waker.wake_by_ref();
            }
        }
    }

    /// The outcome of `future`, or `None` as soon as `give_up` says so while it is not there yet.
    pub(crate) async fn unless<F: Future>(
        &self,
        give_up: impl Fn() -> bool,
        future: F,
    ) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut seat = Seat {
            waiting: self,
            key: None,
        };
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if give_up() {
                return Poll::Ready(None);
            }
            seat.keep(cx.waker());
            Poll::Pending
        })
        .await
    }
}

/// A place in the list, given back when the wait is over, however it ends.
struct Seat<'a> {
    waiting: &'a Waiting,
    key: Option<usize>,
}

impl Seat<'_> {
    fn keep(&mut self, waker: &Waker) {
        let mut wakers = self.waiting.wakers.borrow_mut();
        match self.key.and_then(|key| wakers.get_mut(key)) {
            Some(kept) => kept.clone_from(waker),
            None => self.key = Some(wakers.insert(waker.clone())),
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.waiting.wakers.borrow_mut().try_remove(key);
        }
    }
}
