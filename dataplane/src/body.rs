//! Bodies on their way through: streamed, counted, with an idle limit, and kept for another try
//! where that is allowed.
//!
//! Nothing is buffered unless a retry may need it, or a signature over it has to be checked first ([`Upload`]).
//! Timers are made when a body really has to wait, so a body that is there at once costs none.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

mod check;
mod held;
mod kept;
mod progress;
mod readers;
mod stream;
mod upload;

use check::Check;
use held::Held;
pub(crate) use progress::Progress;
use stream::Stream;
pub(crate) use upload::{Unmet, Upload};

/// The largest request body that is kept for another try.
pub(crate) const REPLAY_LIMIT: usize = 64 * 1024;
/// A request body without a byte for this long ends its request (408), while there is no response.
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
    /// The peer answered without it, and what was left of it was read here.
    #[error("the rest of the body was not taken")]
    NotTaken,
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
        self.poll_waited_since(cx, || None)
    }

    /// Ready when the limit has passed since the wait began, and since `last`.
    pub(crate) fn poll_waited_since(
        &mut self,
        cx: &mut Context<'_>,
        last: impl FnOnce() -> Option<Instant>,
    ) -> Poll<Duration> {
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
        ready!(timer.as_mut().poll(cx));
        let until = last().and_then(|last| last.checked_add(limit));
        if let Some(until) = until.filter(|until| *until > Instant::now()) {
            timer.as_mut().reset(until);
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(limit)
    }
}

/// A request body as it is given to a peer.
pub(crate) struct RequestBody(Kind);

enum Kind {
    Empty,
    Stream(Box<(Stream, Rc<Progress>)>),
    /// It must be the one that was signed.
    Held(Rc<Progress>),
    Replay {
        frames: Vec<Frame<Bytes>>,
        left: u64,
    },
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self(Kind::Empty)
    }

    fn stream(stream: Stream, progress: Rc<Progress>) -> Self {
        Self(Kind::Stream(Box::new((stream, progress))))
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Kind::Held(progress) = &self.0
            && let Some(held) = progress.held()
        {
            held.let_go();
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
            Kind::Stream(body) => {
                let (stream, progress) = &mut **body;
                stream.poll(progress, cx)
            }
            Kind::Held(progress) => match progress.held() {
                Some(held) => held.poll_send(progress, cx),
                None => Poll::Ready(None),
            },
            Kind::Replay { frames, left } => Poll::Ready(frames.pop().map(|frame| {
                *left -= frame.data_ref().map_or(0, Bytes::len) as u64;
                Ok(frame)
            })),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Stream(body) => body.0.is_done(),
            Kind::Held(progress) => progress.held().is_none_or(Held::is_done),
            Kind::Replay { frames, .. } => frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Stream(body) => body.0.size_hint(),
            Kind::Held(progress) => progress
                .held()
                .map_or_else(SizeHint::default, Held::size_hint),
            Kind::Replay { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{cell::RefCell, convert::Infallible};

    use hyper::{Request, Response, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What comes of a body of ten bytes, of which the client sends these, each after a pause.
    pub(super) async fn with<R>(
        pause: Duration,
        sent: &'static str,
        test: impl AsyncFn(Incoming) -> R,
    ) -> R {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let outcome = RefCell::new(None);
        let service = service_fn(|request: Request<Incoming>| {
            let (test, outcome) = (&test, &outcome);
            async move {
                *outcome.borrow_mut() = Some(test(request.into_body()).await);
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        let client = async move {
            let (_answers, mut client) = tokio::io::split(client);
            let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
            client.write_all(head).await?;
            for byte in sent.as_bytes() {
                tokio::time::sleep(pause).await;
                client.write_all(&[*byte]).await?;
            }
            std::future::pending::<std::io::Result<()>>().await
        };
        let server = http1::Builder::new()
            .keep_alive(false)
            .serve_connection(TokioIo::new(server), service);
        // Both may end before the outcome is looked at.
        let work = async {
            let _ = futures::future::join(client, server).await;
        };
        let mut work = std::pin::pin!(work);
        std::future::poll_fn(|cx| {
            let _ = work.as_mut().poll(cx);
            outcome.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_counts_from_what_came_last() {
        let mut idle = IdleLimit::new(Some(Duration::from_secs(60)));
        let start = Instant::now();
        let last = RefCell::new(None);
        let wait = async {
            std::future::poll_fn(|cx| idle.poll_waited_since(cx, || *last.borrow())).await;
            start.elapsed()
        };
        let other = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                *last.borrow_mut() = Some(Instant::now());
            }
        };
        let (waited, ()) = futures::future::join(wait, other).await;
        assert_eq!(waited, Duration::from_secs(560));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_listens_may_be_silent() {
        let silent = with(Duration::ZERO, "0", async |incoming| {
            let progress = Progress::default();
            let mut stream = Stream::new(incoming, None, None, false);
            let mut next = async || std::future::poll_fn(|cx| stream.poll(&progress, cx)).await;
            assert!(matches!(next().await, Some(Ok(_))));
            progress.answer_begins();
            let hour = Duration::from_secs(3600);
            assert!(tokio::time::timeout(hour, next()).await.is_err());
            assert_eq!(progress.fault(), None);
            progress.answer_is_over();
            let start = Instant::now();
            assert!(matches!(next().await, Some(Err(BodyError::Idle(_)))));
            assert!(start.elapsed() <= CLIENT_IDLE);
            progress.fault()
        });
        assert_eq!(silent.await, Some(crate::reason::Reason::BodyTimeout));
    }
}
