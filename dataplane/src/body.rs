//! Bodies on their way through: streamed, counted, with an idle limit, and kept for another try
//! where that is allowed.
//!
//! Nothing is buffered unless a retry may need it. Timers are made when a body really has to wait, so
//! a body that is there at once costs none.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::sanitize;

/// The largest request body that is kept for another try.
pub(crate) const REPLAY_LIMIT: usize = 64 * 1024;
/// A request body without a byte for this long ends its request (408).
const CLIENT_IDLE: Duration = Duration::from_secs(30);
/// What is still read of an upload after the answer was given, so that a reset does not eat it.
const DISCARD_BYTES: usize = 256 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The side that sends it failed.
    #[error("the sender of the body failed")]
    Sender(#[source] hyper::Error),
    /// The side that sends it fell silent.
    #[error("no byte of the body for {0:?}")]
    Idle(Duration),
    /// The request's deadline passed.
    #[error("the request's deadline passed")]
    Deadline,
}

/// A limit on waiting for the next frame; its timer exists only while there is something to wait for.
pub(crate) struct IdleLimit {
    limit: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl IdleLimit {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            timer: None,
            armed: false,
        }
    }

    /// The wait is over.
    pub(crate) fn moved(&mut self) {
        self.armed = false;
    }

    /// Ready when the limit has passed since the wait began.
    pub(crate) fn poll_waited(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(limit) = self.limit else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.armed {
            self.armed = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx).map(|()| limit)
    }
}

/// How far a request body has come, seen from the side of the request.
#[derive(Default)]
pub(crate) struct Progress {
    /// Bytes received from the client.
    pub(crate) bytes: Cell<u64>,
    /// The client fell silent, or broke its body.
    pub(crate) client_failed: Cell<bool>,
    pub(crate) client_silent: Cell<bool>,
    /// What was received, while a retry may want it.
    kept: RefCell<Kept>,
}

#[derive(Default)]
struct Kept {
    wanted: bool,
    complete: bool,
    size: usize,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Progress {
    /// Keeps what is received from now on, up to [`REPLAY_LIMIT`].
    pub(crate) fn keep(&self) {
        self.kept.borrow_mut().wanted = true;
    }

    /// The whole body again, if all of it was kept.
    pub(crate) fn replay(&self) -> Option<RequestBody> {
        let kept = self.kept.borrow();
        if !(kept.wanted && kept.complete) {
            return None;
        }
        let mut frames: Vec<Frame<Bytes>> = kept.chunks.iter().cloned().map(Frame::data).collect();
        frames.extend(kept.trailers.clone().map(Frame::trailers));
        frames.reverse();
        Some(RequestBody(Kind::Replay {
            frames,
            left: kept.size as u64,
        }))
    }

    fn saw(&self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes.set(self.bytes.get() + data.len() as u64);
        }
        let mut kept = self.kept.borrow_mut();
        if !kept.wanted {
            return;
        }
        if let Some(data) = frame.data_ref() {
            kept.size += data.len();
            kept.chunks.push(data.clone());
        } else if let Some(trailers) = frame.trailers_ref() {
            kept.trailers = Some(trailers.clone());
        }
        if kept.size > REPLAY_LIMIT {
            *kept = Kept::default();
        }
    }

    fn ended(&self) {
        self.kept.borrow_mut().complete = true;
    }
}

/// A request body as it is given to a peer.
pub(crate) struct RequestBody(Kind);

enum Kind {
    Empty,
    Stream(Box<Stream>),
    Replay {
        frames: Vec<Frame<Bytes>>,
        left: u64,
    },
}

struct Stream {
    /// `None` once it ended or failed.
    incoming: Option<Incoming>,
    progress: Rc<Progress>,
    idle: IdleLimit,
    /// HTTP/1: the rest of an unread body is read, so that the client sees the answer.
    discard_rest: bool,
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self(Kind::Empty)
    }

    pub(crate) fn stream(incoming: Incoming, progress: Rc<Progress>, discard_rest: bool) -> Self {
        Self(Kind::Stream(Box::new(Stream {
            incoming: Some(incoming),
            progress,
            idle: IdleLimit::new(Some(CLIENT_IDLE)),
            discard_rest,
        })))
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = self.incoming.as_mut() else {
            return Poll::Ready(None);
        };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.idle.moved();
                if let Some(trailers) = frame.trailers_mut() {
                    sanitize::trailers(trailers);
                }
                self.progress.saw(&frame);
                if incoming.is_end_stream() {
                    self.incoming = None;
                    self.progress.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.incoming = None;
                self.progress.client_failed.set(true);
                Poll::Ready(Some(Err(BodyError::Sender(error))))
            }
            Poll::Ready(None) => {
                self.incoming = None;
                self.progress.ended();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let waited = ready!(self.idle.poll_waited(cx));
                self.incoming = None;
                self.progress.client_failed.set(true);
                self.progress.client_silent.set(true);
                Poll::Ready(Some(Err(BodyError::Idle(waited))))
            }
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

/// Reads what a client still uploads after it was answered (RFC 9112 §9.6), within bounds.
pub(crate) async fn discard(mut body: Incoming) {
    let drain = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) =
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            left = match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(left) => left,
                None => break,
            };
        }
    };
    // Beyond the bounds the connection is closed, which is what dropping the body does.
    let _ = tokio::time::timeout(DISCARD_TIME, drain).await;
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Stream(stream) => stream.poll(cx),
            Kind::Replay { frames, left } => Poll::Ready(frames.pop().map(|frame| {
                *left -= frame.data_ref().map_or(0, Bytes::len) as u64;
                Ok(frame)
            })),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Stream(stream) => stream.incoming.as_ref().is_none_or(Body::is_end_stream),
            Kind::Replay { frames, .. } => frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Stream(stream) => stream
                .incoming
                .as_ref()
                .map_or(SizeHint::with_exact(0), Body::size_hint),
            Kind::Replay { left, .. } => SizeHint::with_exact(*left),
        }
    }
}
