//! How far a request body has come, seen from the side of the request.

use std::cell::{Cell, OnceCell, RefCell};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

use super::{
    Kind, RequestBody,
    held::Held,
    kept::{Kept, Reserved},
};
use crate::reason::Reason;

/// Shared by the request and by who sends its body to a peer.
#[derive(Default)]
pub(crate) struct Progress {
    /// Bytes received from the client.
    pub(crate) bytes: Cell<u64>,
    /// The client fell silent, or broke its body.
    pub(crate) client_failed: Cell<bool>,
    pub(crate) client_silent: Cell<bool>,
    /// The body is not the one that the client signed.
    pub(crate) mismatched: Cell<bool>,
    /// Whether the response is on its way to the client.
    answering: Cell<bool>,
    /// When the client last sent something meanwhile.
    moved: Cell<Option<Instant>>,
    /// What was received, while a retry may want it.
    kept: RefCell<Kept>,
    /// The body itself, where it has to be the one that was signed.
    held: OnceCell<Box<Held>>,
}

impl Progress {
    /// Keeps what is received from now on, up to [`REPLAY_LIMIT`](super::REPLAY_LIMIT) and while there is memory for it.
    pub(crate) fn keep(&self) {
        self.kept.borrow_mut().wanted = true;
    }

    /// Keeps what is received from now on, up to `most` bytes.
    pub(super) fn keep_all(&self, most: usize, memory: Reserved) {
        *self.kept.borrow_mut() = Kept::within(most, memory);
    }

    /// Whether there was room for all that was received.
    pub(super) fn keeps(&self) -> bool {
        self.kept.borrow().wanted
    }

    /// There will be no other try.
    pub(crate) fn forget(&self) {
        *self.kept.borrow_mut() = Kept::default();
    }

    /// Whether all of the body was kept.
    pub(crate) fn replayable(&self) -> bool {
        let kept = self.kept.borrow();
        kept.wanted && kept.complete
    }

    /// The whole body again, if all of it was kept.
    pub(crate) fn replay(&self) -> Option<RequestBody> {
        if !self.replayable() {
            return None;
        }
        let (frames, left) = self.kept.borrow().frames();
        Some(RequestBody(Kind::Replay { frames, left }))
    }

    /// What is the client's own fault.
    pub(crate) fn fault(&self) -> Option<Reason> {
        if self.mismatched.get() {
            Some(Reason::AuthRequired)
        } else if self.client_silent.get() {
            Some(Reason::BodyTimeout)
        } else if self.client_failed.get() {
            Some(Reason::BadRequest)
        } else {
            None
        }
    }

    /// The response begins: from now on both directions together have one limit on silence, that of the response.
    pub(crate) fn answer_begins(&self) {
        self.answering.set(true);
    }

    /// The response is over, and the rest of the body on its own again.
    pub(crate) fn answer_is_over(&self) {
        self.answering.set(false);
        if let Some(held) = self.held.get() {
            held.answer_is_over();
        }
    }

    pub(super) fn is_answering(&self) -> bool {
        self.answering.get()
    }

    /// When something of the body last came while the response was on its way.
    pub(crate) fn moved(&self) -> Option<Instant> {
        self.moved.get()
    }

    /// Makes it the body that must be the one that was signed.
    pub(super) fn hold(&self, held: Held) {
        // A request has one body.
        let _ = self.held.set(Box::new(held));
    }

    /// The body, where it must be the one that was signed.
    pub(super) fn held(&self) -> Option<&Held> {
        self.held.get().map(Box::as_ref)
    }

    /// Whether the answer is held back until the body is known to be the one that was signed.
    pub(crate) fn is_held(&self) -> bool {
        self.held.get().is_some()
    }

    /// Waits until it is known whether the body is the one that was signed, if it has to be. Gives whether the peer
    /// has been sent all of it, or will be; if not, its connection is of no further use.
    ///
    /// # Errors
    ///
    /// What is wrong with the body, or that there is no end of it.
    pub(crate) async fn known(&self) -> Result<bool, Reason> {
        match self.held.get() {
            Some(held) => held.known(self).await,
            None => Ok(true),
        }
    }

    pub(super) fn saw(&self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes.set(self.bytes.get() + data.len() as u64);
        }
        if self.answering.get() {
            self.moved.set(Some(Instant::now()));
        }
        self.kept.borrow_mut().saw(frame);
    }

    pub(super) fn ended(&self) {
        self.kept.borrow_mut().complete = true;
    }
}
