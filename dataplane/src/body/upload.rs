//! A client's body before it is given to a peer: what authorization asks of it is settled here.

use std::{rc::Rc, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use http_body::Body;
use hyper::body::Incoming;

use super::{BodyError, Check, Memory, Progress, RequestBody, Stream, discard};
use crate::{
    auth::{
        AuthGuard, Outcome,
        access_key::{BodyCheck, Digests},
    },
    reason::Reason,
};

/// The largest body that is read before its request goes on.
const READ_LIMIT: usize = 1024 * 1024;
/// What all such bodies may hold together, in the whole process.
const READ_MEMORY: usize = 64 * 1024 * 1024;
/// For all of such a body: memory is not held for as long as somebody sends a byte now and then.
const READ_TIME: Duration = Duration::from_secs(60);

static MEMORY: Memory = Memory::of(READ_MEMORY);

/// A body that nobody has read, or that was read whole.
pub(crate) struct Upload {
    /// `None` once it was read.
    incoming: Option<Incoming>,
    /// Made when the body is first read: most requests have none.
    progress: Option<Rc<Progress>>,
    /// Whose headers the trailers may not have.
    guard: Option<Arc<AuthGuard>>,
    /// What it must have been when it has gone by.
    digests: Option<Digests>,
    /// HTTP/1: the rest of an unread body is read, so that the client sees the answer.
    discard_rest: bool,
}

/// Why a body is not what a signature asks for.
pub(crate) enum Unmet {
    /// It was read, and is not the one.
    Refused(Outcome),
    /// It could not be read, or not be remembered.
    Unread(Outcome, Reason),
}

impl Upload {
    pub(crate) fn new(incoming: Incoming, discard_rest: bool) -> Self {
        Self {
            incoming: Some(incoming),
            progress: None,
            guard: None,
            digests: None,
            discard_rest,
        }
    }

    /// Its trailers may not have the headers that this guard's methods set.
    pub(crate) fn guarded_by(&mut self, guard: &Arc<AuthGuard>) {
        self.guard = Some(Arc::clone(guard));
    }

    /// Whether there is no body.
    pub(crate) fn is_empty(&self) -> bool {
        self.incoming.as_ref().is_some_and(Body::is_end_stream)
    }

    /// Whether only the body that was signed may go on.
    pub(crate) fn is_bound(&self) -> bool {
        self.digests.is_some() || self.incoming.is_none()
    }

    /// Sees to it that the body is the one that was signed: now, or when it has gone by.
    pub(crate) async fn meet(&mut self, check: BodyCheck) -> Result<(), Unmet> {
        match check {
            BodyCheck::Digests(digests) => {
                self.digests = Some(digests);
                Ok(())
            }
            BodyCheck::Signature(pending) => {
                let read = tokio::time::timeout(READ_TIME, self.read()).await;
                let silent = Unmet::Unread(Outcome::Malformed, Reason::BodyTimeout);
                let digest = read.unwrap_or(Err(silent))?;
                pending
                    .settle(digest.as_ref())
                    .map_err(|outcome| match outcome {
                        Outcome::Overloaded => Unmet::Unread(outcome, Reason::Overloaded),
                        outcome => Unmet::Refused(outcome),
                    })
            }
        }
    }

    /// Reads all of it, and keeps it. Gives its SHA-256.
    async fn read(&mut self) -> Result<digest::Digest, Unmet> {
        let too_large = || Unmet::Unread(Outcome::BodyMismatch, Reason::BodyTooLarge);
        let mut hash = digest::Context::new(&digest::SHA256);
        let told = self
            .incoming
            .as_ref()
            .map(|incoming| incoming.size_hint().lower());
        if told.is_some_and(|told| told > READ_LIMIT as u64) {
            return Err(too_large());
        }
        let Some(incoming) = self.incoming.take() else {
            return Ok(hash.finish());
        };
        let progress = self.progress();
        progress.keep_all(READ_LIMIT, &MEMORY);
        let (of, guard) = (Rc::clone(&progress), self.guard.clone());
        let mut stream = Stream::new(incoming, of, guard, None, self.discard_rest);
        loop {
            let frame = match std::future::poll_fn(|cx| stream.poll(cx)).await {
                None => return Ok(hash.finish()),
                Some(Ok(frame)) => frame,
                Some(Err(BodyError::Idle(_) | BodyError::Deadline)) => {
                    return Err(Unmet::Unread(Outcome::Malformed, Reason::BodyTimeout));
                }
                Some(Err(_)) => return Err(Unmet::Unread(Outcome::Malformed, Reason::BadRequest)),
            };
            if let Some(data) = frame.data_ref() {
                hash.update(data);
            }
            if progress.bytes.get() > READ_LIMIT as u64 {
                return Err(too_large());
            }
            if !progress.keeps() {
                return Err(Unmet::Unread(Outcome::Overloaded, Reason::Overloaded));
            }
        }
    }

    fn progress(&mut self) -> Rc<Progress> {
        Rc::clone(self.progress.get_or_insert_default())
    }

    /// As it is given to a peer. `keep` keeps it for another try.
    pub(crate) fn into_body(mut self, keep: bool) -> (RequestBody, Rc<Progress>) {
        let progress = self.progress();
        let Some(incoming) = self.incoming.take() else {
            // What was read is whole, or its request would not have come here.
            let body = progress.replay().unwrap_or_else(RequestBody::empty);
            return (body, progress);
        };
        if keep {
            progress.keep();
        }
        let check = self.digests.take().map(Check::new);
        let (of, guard) = (Rc::clone(&progress), self.guard.take());
        let stream = Stream::new(incoming, of, guard, check, self.discard_rest);
        (RequestBody::stream(stream), progress)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let rest = self.incoming.take().filter(|rest| !rest.is_end_stream());
        if let Some(rest) = rest.filter(|_| self.discard_rest) {
            tokio::task::spawn_local(discard(rest));
        }
    }
}
