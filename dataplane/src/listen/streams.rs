//! The responses of an HTTP/2 connection that their client does not take.
//!
//! hyper asks a body for a frame, and then waits for as long as the client leaves no room for it. Meanwhile the body
//! is not asked, so that no limit of its own can pass, and the connection looks alive, because its pings are answered.
//! So a body stamps here when a piece of it was taken and the next one is not yet asked for, and the guard's sweep finds
//! those that are overdue. A stream ends when its task does, which hyper starts with an executor of ours: all that it
//! holds is dropped, its peer's connection among it, and the client is told (CANCEL). The others go on.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use slab::Slab;
use tokio::task::AbortHandle;

use super::guard::Guard;

/// What is given to hyper at a time: it asks for more when all of it found room, so that is what a client has to take
/// to be seen reading.
const PIECE: usize = 16 * 1024;

/// The streams of one connection; lives on its thread.
pub(super) struct Streams {
    guard: Arc<Guard>,
    open: RefCell<Slab<Stream>>,
    /// The stream whose task is started next.
    starting: Cell<Option<usize>>,
}

struct Stream {
    /// When a piece was taken; 0 while the body is asked.
    taken: u64,
    task: Option<AbortHandle>,
}

impl Streams {
    pub(super) fn new(guard: &Arc<Guard>) -> Rc<Self> {
        Rc::new(Self {
            guard: Arc::clone(guard),
            open: RefCell::default(),
            starting: Cell::new(None),
        })
    }

    /// Looks after a response from now on. hyper starts the task of a stream as soon as it has called its service.
    pub(super) fn watch<F, B, E>(
        self: &Rc<Self>,
        answer: F,
    ) -> impl Future<Output = Result<Response<Watched<B>>, E>> + use<F, B, E>
    where
        F: Future<Output = Result<Response<B>, E>>,
    {
        let key = self.open.borrow_mut().insert(Stream {
            taken: 0,
            task: None,
        });
        self.starting.set(Some(key));
        let place = Place {
            streams: Rc::clone(self),
            key,
        };
        answer.map(move |answer| {
            let watched = |body| Watched {
                body,
                rest: None,
                place,
            };
            Ok(answer?.map(watched))
        })
    }

    /// Ends the streams whose client has taken nothing since before `since`. Gives when a piece of another was first
    /// taken that still waits, or 0.
    pub(super) fn cut(&self, since: u64) -> u64 {
        let mut first = 0;
        for (_, stream) in self.open.borrow_mut().iter_mut() {
            if stream.taken == 0 {
                continue;
            }
            if stream.taken >= since {
                first = if first == 0 {
                    stream.taken
                } else {
                    stream.taken.min(first)
                };
                continue;
            }
            stream.taken = 0;
            match &stream.task {
                Some(task) => task.abort(),
                None => self.guard.kill(),
            }
        }
        first
    }
}

/// Starts the tasks of a connection's streams.
#[derive(Clone)]
pub(super) struct Executor(pub(super) Rc<Streams>);

impl<F: Future + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        let Some(key) = self.0.starting.take() else {
            // No request, but a websocket that came of one.
            let tunnel = Tunnel::begin(&self.0.guard);
            tokio::task::spawn_local(async move {
                future.await;
                drop(tunnel);
            });
            return;
        };
        let task = tokio::task::spawn_local(future);
        if let Some(stream) = self.0.open.borrow_mut().get_mut(key) {
            stream.task = Some(task.abort_handle());
        }
    }
}

/// Counts a tunnel until it ends.
struct Tunnel(Arc<Guard>);

impl Tunnel {
    fn begin(guard: &Arc<Guard>) -> Self {
        guard.begin_tunnel();
        Self(Arc::clone(guard))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.end_tunnel();
    }
}

/// A stream's entry, until it is dropped.
struct Place {
    streams: Rc<Streams>,
    key: usize,
}

impl Place {
    fn stamp(&self, taken: u64) {
        if let Some(stream) = self.streams.open.borrow_mut().get_mut(self.key) {
            stream.taken = taken;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.open.borrow_mut().try_remove(self.key);
    }
}

/// A response body that tells when it is taken.
pub(super) struct Watched<B> {
    body: B,
    /// Of a frame that was more than a piece.
    rest: Option<Bytes>,
    place: Place,
}

impl<B> Watched<B> {
    /// A piece of it, and the rest is kept.
    fn piece(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if data.len() > PIECE => {
                let piece = data.split_to(PIECE);
                self.rest = Some(data);
                Frame::data(piece)
            }
            Ok(data) => Frame::data(data),
            Err(frame) => frame,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let frame = match this.rest.take() {
            Some(rest) => Frame::data(rest),
            None => match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => {
                    this.place.stamp(0);
                    return other;
                }
            },
        };
        this.place.stamp(this.place.streams.guard.taken());
        Poll::Ready(Some(Ok(this.piece(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        if let Some(rest) = &self.rest {
            let rest = rest.len() as u64;
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(rest));
            }
            hint.set_lower(hint.lower().saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
