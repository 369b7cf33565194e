//! Bodies on their way through: streamed, counted, with an idle limit, and kept for another try
//! where that is allowed.
//!
//! Nothing is buffered unless a retry may need it, or a signature over it has to be checked first ([`Upload`]).
//! Timers are made when a body really has to wait, so a body that is there at once costs none.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

mod check;
mod readers;
mod stream;
mod upload;

use check::Check;
use stream::Stream;
pub(crate) use upload::{Unmet, Upload};

/// The largest request body that is kept for another try.
pub(crate) const REPLAY_LIMIT: usize = 64 * 1024;
/// What all bodies that are kept for another try may hold together, in the whole process.
const REPLAY_MEMORY: usize = 64 * 1024 * 1024;
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
    /// It is not the body that was signed.
    #[error("the body is not the one that was signed")]
    Mismatch,
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
    /// The body is not the one that the client signed.
    pub(crate) mismatched: Cell<bool>,
    /// What was received, while a retry may want it.
    kept: RefCell<Kept>,
}

struct Kept {
    wanted: bool,
    complete: bool,
    /// Bytes.
    most: usize,
    memory: Reserved,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            wanted: false,
            complete: false,
            most: REPLAY_LIMIT,
            memory: Reserved::new(&MEMORY),
            chunks: Vec::new(),
            trailers: None,
        }
    }
}

/// Memory for kept bodies, under a bound. Above it nothing is kept, and so not tried again: a crowd of
/// uploads must not become an outage of its own.
struct Memory {
    used: AtomicUsize,
    most: usize,
}

static MEMORY: Memory = Memory::of(REPLAY_MEMORY);

impl Memory {
    const fn of(most: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most,
        }
    }
}

/// A part of [`MEMORY`], given back when dropped.
struct Reserved {
    of: &'static Memory,
    size: usize,
}

impl Reserved {
    fn new(of: &'static Memory) -> Self {
        Self { of, size: 0 }
    }

    /// Takes so much more. Returns false, and takes nothing, if there is not so much.
    fn grow(&mut self, by: usize) -> bool {
        if self.of.used.fetch_add(by, Relaxed) + by > self.of.most {
            self.of.used.fetch_sub(by, Relaxed);
            return false;
        }
        self.size += by;
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.size > 0 {
            self.of.used.fetch_sub(self.size, Relaxed);
        }
    }
}

impl Progress {
    /// Keeps what is received from now on, up to [`REPLAY_LIMIT`] and while there is memory for it.
    pub(crate) fn keep(&self) {
        self.kept.borrow_mut().wanted = true;
    }

    /// Keeps what is received from now on, up to `most` bytes of this memory.
    fn keep_all(&self, most: usize, memory: &'static Memory) {
        *self.kept.borrow_mut() = Kept {
            wanted: true,
            most,
            memory: Reserved::new(memory),
            ..Kept::default()
        };
    }

    /// Whether there was room for all that was received.
    fn keeps(&self) -> bool {
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
        let kept = self.kept.borrow();
        let mut frames: Vec<Frame<Bytes>> = kept.chunks.iter().cloned().map(Frame::data).collect();
        frames.extend(kept.trailers.clone().map(Frame::trailers));
        frames.reverse();
        Some(RequestBody(Kind::Replay {
            frames,
            left: kept.memory.size as u64,
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
            if kept.memory.grow(data.len()) && kept.memory.size <= kept.most {
                kept.chunks.push(data.clone());
            } else {
                *kept = Kept::default();
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            kept.trailers = Some(trailers.clone());
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

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self(Kind::Empty)
    }

    fn stream(stream: Stream) -> Self {
        Self(Kind::Stream(Box::new(stream)))
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
            Kind::Stream(stream) => stream.is_done(),
            Kind::Replay { frames, .. } => frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Stream(stream) => stream.size_hint(),
            Kind::Replay { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn data(size: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; size]))
    }

    fn keeping(memory: &'static Memory) -> Progress {
        let progress = Progress::default();
        progress.kept.borrow_mut().memory.of = memory;
        progress.keep();
        progress
    }

    fn room(most: usize) -> &'static Memory {
        Box::leak(Box::new(Memory {
            used: AtomicUsize::new(0),
            most,
        }))
    }

    #[test]
    fn a_body_is_kept_up_to_its_limit() {
        let memory = room(REPLAY_MEMORY);
        let progress = keeping(memory);
        progress.saw(&data(REPLAY_LIMIT));
        assert!(!progress.replayable(), "not all of it was seen");
        progress.ended();
        let replay = progress.replay().unwrap();
        assert_eq!(replay.size_hint().exact(), Some(REPLAY_LIMIT as u64));
        progress.saw(&data(1));
        assert!(progress.replay().is_none(), "one byte too many");
        assert_eq!(memory.used.load(Relaxed), 0);
    }

    #[test]
    fn bodies_are_kept_while_there_is_memory_for_them() {
        let memory = room(100);
        let (first, second) = (keeping(memory), keeping(memory));
        first.saw(&data(60));
        second.saw(&data(60));
        first.ended();
        second.ended();
        assert!(first.replayable());
        assert!(!second.replayable());
        first.forget();
        assert!(!first.replayable());
        assert_eq!(memory.used.load(Relaxed), 0);
        let third = keeping(memory);
        third.saw(&data(100));
        third.ended();
        assert!(third.replayable());
        drop(third);
        assert_eq!(memory.used.load(Relaxed), 0);
    }
}
