//! HTTP/2 connections, which carry several requests at a time.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use tokio::{sync::Notify, time::Instant};

use super::Http2;
use crate::forward::{Opened, StreamLimit};

/// Streams on one HTTP/2 connection before another is opened, if its peer allows so many.
pub(super) const STREAMS: usize = 100;

/// An HTTP/2 connection that is being opened.
#[derive(Default)]
pub(crate) struct Opening {
    ended: Notify,
    opened: Cell<bool>,
}

impl Opening {
    /// Ready when it has ended, one way or the other.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Those who wait go on.
    pub(super) fn end(&self, opened: bool) {
        self.opened.set(opened);
        self.ended.notify_waiters();
    }

    /// Whether it came to something.
    pub(crate) fn has_opened(&self) -> bool {
        self.opened.get()
    }
}

/// An HTTP/2 connection and its use.
pub(crate) struct Shared {
    pub(super) sender: RefCell<Http2>,
    pub(super) streams: Cell<usize>,
    limit: StreamLimit,
    pub(super) idle_since: Cell<Instant>,
    /// The peer said GOAWAY, or was taken out: no new stream.
    pub(super) closed: Cell<bool>,
}

/// One stream on a shared connection; counted until dropped.
pub(crate) struct StreamSlot(Rc<Shared>);

impl StreamSlot {
    pub(crate) fn sender(&self) -> Http2 {
        self.0.sender.borrow().clone()
    }

    /// Takes no new stream on this connection.
    pub(crate) fn retire(&self) {
        self.0.closed.set(true);
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

/// What to do for an HTTP/2 stream.
pub(crate) enum SharedTurn {
    Use(StreamSlot),
    Wait(Rc<Opening>),
    Open,
}

impl Shared {
    pub(super) fn new(opened: Opened, closed: bool) -> Rc<Self> {
        Rc::new(Self {
            sender: RefCell::new(opened.sender),
            streams: Cell::new(0),
            limit: opened.streams,
            idle_since: Cell::new(Instant::now()),
            closed: Cell::new(closed),
        })
    }

    /// Streams that it takes; one at the least, because who forbids them all will allow some later.
    pub(super) fn most(&self) -> usize {
        self.limit.get().unwrap_or(STREAMS).clamp(1, STREAMS)
    }

    /// Whether it takes another stream.
    pub(super) fn has_room(&self) -> bool {
        let streams = self.streams.get();
        streams == 0 || streams < self.most()
    }

    pub(super) fn slot(self: &Rc<Self>) -> StreamSlot {
        self.streams.set(self.streams.get() + 1);
        StreamSlot(Rc::clone(self))
    }
}
