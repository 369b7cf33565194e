//! A body as it arrives from a client.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{BodyError, CLIENT_IDLE, Check, IdleLimit, Progress, discard};
use crate::{auth::AuthGuard, sanitize};

/// It streams: counted, with an idle limit, and checked where it has to be the one that was signed.
pub(super) struct Stream {
    /// `None` once it ended or failed.
    incoming: Option<Incoming>,
    /// Whose headers the trailers may not have.
    guard: Option<Arc<AuthGuard>>,
    idle: IdleLimit,
    check: Option<Box<Check>>,
    /// Whether the rest of an unread body is read a little further, so that the client sees the answer.
    discard_rest: bool,
}

/// What comes of asking a body for more.
type Next = Option<Result<Frame<Bytes>, BodyError>>;

impl Stream {
    pub(super) fn new(
        incoming: Incoming,
        guard: Option<Arc<AuthGuard>>,
        check: Option<Box<Check>>,
        discard_rest: bool,
    ) -> Self {
        Self {
            incoming: Some(incoming),
            guard,
            idle: IdleLimit::new(Some(CLIENT_IDLE)),
            check,
            discard_rest,
        }
    }

    pub(super) fn poll(&mut self, progress: &Progress, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            if let Some(check) = self.check.as_mut().filter(|check| check.has_passed()) {
                return Poll::Ready(check.release().map(Ok));
            }
            if self.incoming.is_none() {
                return Poll::Ready(None);
            }
            let next = match ready!(self.receive(progress, cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => Some(frame),
                None => None,
            };
            let ended = self.incoming.is_none();
            let Some(check) = &mut self.check else {
                if ended {
                    progress.ended();
                }
                return Poll::Ready(next.map(Ok));
            };
            let before = next.and_then(|frame| check.take(frame));
            if ended {
                if !check.end() {
                    progress.mismatched.set(true);
                    progress.forget();
                    return Poll::Ready(Some(Err(BodyError::Mismatch)));
                }
                progress.ended();
            }
            if let Some(before) = before {
                return Poll::Ready(Some(Ok(before)));
            }
        }
    }

    /// The next frame from the client; `incoming` is none behind the last.
    fn receive(&mut self, progress: &Progress, cx: &mut Context<'_>) -> Poll<Next> {
        let Some(incoming) = self.incoming.as_mut() else {
            return Poll::Ready(None);
        };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.idle.moved();
                if let Some(trailers) = frame.trailers_mut() {
                    sanitize::trailers(trailers);
                    if let Some(guard) = &self.guard {
                        guard.strip(trailers);
                    }
                }
                progress.saw(&frame);
                if incoming.is_end_stream() {
                    self.incoming = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.incoming = None;
                progress.client_failed.set(true);
                Poll::Ready(Some(Err(BodyError::Sender(error))))
            }
            Poll::Ready(None) => {
                self.incoming = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let mut waited = ready!(self.idle.poll_waited(cx));
                while progress.is_answering() {
                    // Silence is between both directions now, and the response looks after it (`response.rs`).
                    // Here the wait begins anew: the response may be over before the body is.
                    self.idle.moved();
                    waited = ready!(self.idle.poll_waited(cx));
                }
                self.incoming = None;
                progress.client_failed.set(true);
                progress.client_silent.set(true);
                Poll::Ready(Some(Err(BodyError::Idle(waited))))
            }
        }
    }

    /// Whether it is the body that was signed; never, where none was.
    pub(super) fn has_passed(&self) -> bool {
        self.check.as_ref().is_some_and(|check| check.has_passed())
    }

    pub(super) fn is_done(&self) -> bool {
        match &self.check {
            Some(check) => check.is_done(),
            None => self.incoming.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.as_ref();
        let rest = rest.map_or(SizeHint::with_exact(0), Body::size_hint);
        match (&self.check, rest.exact()) {
            (Some(check), Some(rest)) => SizeHint::with_exact(rest + check.held()),
            _ => rest,
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(rest) = self.incoming.take().filter(|_| self.discard_rest) {
            tokio::task::spawn_local(discard(rest));
        }
    }
}
