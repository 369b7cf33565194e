//! The response on its way to the client. It carries its exchange, so that log and metrics see the last
//! byte, and its connection, so that the next request gets it the moment the body is complete.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::{
    admission::Seat,
    body::{BodyError, IdleLimit, Progress},
    exchange::Exchange,
    forward::{self, Lease},
    reason::Reason,
    sanitize,
};

/// A response body.
pub(crate) enum ResponseBody {
    /// Made here.
    Own {
        body: Full<Bytes>,
        exchange: Box<Exchange>,
    },
    /// A peer's.
    Proxied(Box<Proxied>),
}

/// A peer's response body.
pub(crate) struct Proxied {
    incoming: Incoming,
    exchange: Box<Exchange>,
    lease: Option<Lease>,
    idle: IdleLimit,
    deadline: Option<Pin<Box<Sleep>>>,
    done: bool,
    /// Whether hyper was left time to send the head. A body that fails before costs the client the head as well.
    head_sent: bool,
    /// A failure that the client sees after the head.
    failed: Option<BodyError>,
    /// The length that a 304 tells of the body that it does not have.
    told: Option<u64>,
}

impl ResponseBody {
    pub(crate) fn proxied(
        incoming: Incoming,
        mut exchange: Box<Exchange>,
        lease: Option<Lease>,
        deadline: Option<Instant>,
    ) -> Self {
        let idle = exchange
            .route()
            .and_then(|route| route.policy.timeouts.idle);
        let done = incoming.is_end_stream();
        let mut lease = lease;
        if done {
            finish(&mut exchange, &mut lease);
        } else if let Some(progress) = &exchange.progress {
            progress.answer_begins();
        }
        Self::Proxied(Box::new(Proxied {
            incoming,
            exchange,
            lease,
            idle: IdleLimit::new(idle),
            deadline: deadline
                .filter(|_| !done)
                .map(|at| Box::pin(tokio::time::sleep_until(at))),
            done,
            head_sent: false,
            failed: None,
            told: None,
        }))
    }

    /// A 304 that keeps its `Content-Length`. hyper writes the header only if the body is as long as it says;
    /// it does not ask for that body, because the status has none.
    pub(crate) fn telling(mut self, length: Option<u64>) -> Self {
        if let Self::Proxied(proxied) = &mut self {
            proxied.told = length;
        }
        self
    }
}

/// The peer has answered in full.
fn finish(exchange: &mut Exchange, lease: &mut Option<Lease>) {
    if let Some(in_flight) = exchange.in_flight.take().as_ref().and_then(Seat::in_flight) {
        in_flight.completed();
    }
    if let Some(lease) = lease.take() {
        lease.release();
    }
    if let Some(progress) = &exchange.progress {
        progress.answer_is_over();
    }
}

impl Proxied {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if self.done {
            return Poll::Ready(None);
        }
        let expired = self
            .deadline
            .as_mut()
            .is_some_and(|at| at.as_mut().poll(cx).is_ready());
        if expired {
            return self.fail(cx, Reason::UpstreamTimeout, BodyError::Deadline);
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.idle.moved();
                match frame.data_ref() {
                    Some(data) => self.exchange.bytes_out += data.len() as u64,
                    None => {
                        if let Some(trailers) = frame.trailers_mut() {
                            sanitize::trailers(trailers);
                        }
                    }
                }
                if self.incoming.is_end_stream() {
                    self.done = true;
                    finish(&mut self.exchange, &mut self.lease);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.done = true;
                finish(&mut self.exchange, &mut self.lease);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let fault = self.client_fault();
                if fault.is_none() {
                    self.blame(&error);
                }
                self.fail(
                    cx,
                    fault.unwrap_or(Reason::UpstreamReset),
                    BodyError::Sender(error),
                )
            }
            Poll::Pending => {
                self.head_sent = true;
                // Silence is of both directions: what the client still sends counts as well.
                let progress = self.exchange.progress.as_deref();
                let moved = || progress.and_then(Progress::moved);
                let waited = ready!(self.idle.poll_waited_since(cx, moved));
                self.fail(cx, Reason::UpstreamTimeout, BodyError::Idle(waited))
            }
        }
    }

    /// The client's own body failed, and with it what was left of the request.
    fn client_fault(&self) -> Option<Reason> {
        self.exchange.progress.as_ref()?.fault()
    }

    fn blame(&self, error: &hyper::Error) {
        let in_flight = self.exchange.in_flight.as_ref().and_then(Seat::in_flight);
        if let Some(in_flight) = in_flight
            && let Some(message) = forward::broke_off(error)
        {
            in_flight.broke_off(&message, Instant::now());
        }
    }

    /// After the first byte nothing is tried again: the client sees that its response broke off.
    fn fail(
        &mut self,
        cx: &Context<'_>,
        reason: Reason,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.done = true;
        self.exchange.reason = Some(reason);
        self.exchange.in_flight = None;
        self.lease = None;
        if !self.head_sent {
            self.head_sent = true;
            self.failed = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Own { body, exchange } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    exchange.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Proxied(proxied) => proxied.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { body, .. } => body.is_end_stream(),
            Self::Proxied(proxied) => {
                proxied.told.is_none()
                    && proxied.failed.is_none()
                    && (proxied.done || proxied.incoming.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { body, .. } => body.size_hint(),
            Self::Proxied(proxied) => proxied
                .told
                .map_or_else(|| proxied.incoming.size_hint(), SizeHint::with_exact),
        }
    }
}
