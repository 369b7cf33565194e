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
mod tests {
    use std::{convert::Infallible, time::Duration};

    use futures::StreamExt;
    use h2::{Reason, RecvStream, client::SendRequest};
    use http::Request;
    use http_body_util::StreamBody;
    use hyper_util::rt::TokioIo;
    use tokio::{
        task::{LocalSet, spawn_local},
        time::{Instant, sleep, timeout},
    };

    use super::*;
    use crate::listen::{
        guard::{CoarseClock, Guarded, SWEEP},
        http2,
    };

    /// A connection to a server whose response bodies hold `held`: `/endless`, `/short`, or `/silent` after a few bytes.
    async fn connect(window: u32, held: &Arc<()>) -> (SendRequest<Bytes>, Arc<Guard>) {
        let (client, server) = tokio::io::duplex(1024 * 1024);
        let clock = Arc::new(CoarseClock::new());
        let guard = Guard::new(&clock);
        guard.multiplexed();
        let swept = Arc::clone(&guard);
        spawn_local(async move {
            let start = Instant::now();
            let mut sweep = tokio::time::interval(SWEEP);
            loop {
                sweep.tick().await;
                clock.set(start.elapsed());
                swept.sweep();
            }
        });
        let (held, guarded) = (Arc::clone(held), Arc::clone(&guard));
        spawn_local(async move {
            let io = TokioIo::new(Guarded::new(server, Arc::clone(&guarded), Vec::new()));
            let of_request = Arc::clone(&guarded);
            let serve = move |request: Request<hyper::body::Incoming>| {
                let (held, guard) = (Arc::clone(&held), Arc::clone(&of_request));
                async move { Ok::<_, Infallible>(answer(request.uri().path(), held, guard)) }
            };
            http2(&guarded, io, serve).await;
        });
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        // One stream that is not read leaves room for the others.
        builder.initial_connection_window_size(1024 * 1024);
        let (sender, connection) = builder.handshake(client).await.unwrap();
        spawn_local(connection);
        (sender.ready().await.unwrap(), guard)
    }

    /// A request that is being answered.
    struct Active(Arc<Guard>, #[allow(dead_code)] Arc<()>);

    impl Drop for Active {
        fn drop(&mut self) {
            self.0.end_request();
        }
    }

    fn answer(
        path: &str,
        held: Arc<()>,
        guard: Arc<Guard>,
    ) -> Response<impl Body<Data = Bytes, Error = Infallible> + Unpin + use<>> {
        guard.begin_request();
        let active = Active(guard, held);
        let (size, most, silent) = match path {
            "/endless" => (100_000, usize::MAX, false),
            "/silent" => (10, 1, true),
            "/short" => (10, 1, false),
            _ => (10, 0, false),
        };
        let data = move || Ok(Frame::data(Bytes::from(vec![b'x'; size])));
        let frames = futures::stream::repeat_with(data).take(most);
        let end = match silent {
            true => futures::stream::pending().left_stream(),
            false => futures::stream::empty().right_stream(),
        };
        let frames = frames.chain(end).inspect(move |_| {
            let _while_it_lasts = &active;
        });
        Response::new(StreamBody::new(Box::pin(frames)))
    }

    async fn get(sender: &mut SendRequest<Bytes>, path: &str) -> RecvStream {
        let request = Request::get(format!("http://shop.test{path}"));
        let request = request.body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        response.await.unwrap().into_body()
    }

    /// Waits until so many bodies are there.
    async fn left(held: &Arc<()>, count: usize) -> Duration {
        let start = Instant::now();
        // One is the test's, and one the server's.
        while Arc::strong_count(held) != 2 + count {
            assert!(start.elapsed() < Duration::from_secs(3600));
            sleep(Duration::from_millis(50)).await;
        }
        start.elapsed()
    }

    fn is_limit(waited: Duration) -> bool {
        (Duration::from_secs(60)..Duration::from_secs(61)).contains(&waited)
    }

    #[tokio::test(start_paused = true)]
    async fn streams_that_are_not_taken_end_and_their_connection_does_not() {
        let test = async {
            let held = Arc::new(());
            let (mut sender, guard) = connect(0, &held).await;
            let mut bodies = Vec::new();
            for path in ["/endless", "/short", "/endless"] {
                bodies.push(get(&mut sender, path).await);
            }
            assert_eq!(guard.active(), 3);
            assert!(is_limit(left(&held, 0).await));
            assert_eq!(guard.active(), 0);
            for mut body in bodies {
                let error = body.data().await.unwrap().unwrap_err();
                assert_eq!(error.reason(), Some(Reason::CANCEL));
            }
            let mut empty = get(&mut sender, "/empty").await;
            let end = empty.data().await;
            assert!(end.is_none_or(|data| data.unwrap().is_empty()));
            assert!(empty.is_end_stream());
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_was_taken_for_a_while_ends_as_well() {
        let test = async {
            let held = Arc::new(());
            let (mut sender, _guard) = connect(65_535, &held).await;
            let _endless = get(&mut sender, "/endless").await;
            // Its client listens; it is the peer that is silent.
            let mut silent = get(&mut sender, "/silent").await;
            assert!(is_limit(left(&held, 1).await));
            assert_eq!(silent.data().await.unwrap().unwrap().len(), 10);
            let hour = Duration::from_secs(3600);
            assert!(timeout(hour, silent.data()).await.is_err());
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_slowly_is_let() {
        let test = async {
            let held = Arc::new(());
            let (mut sender, _guard) = connect(65_535, &held).await;
            let mut endless = get(&mut sender, "/endless").await;
            let start = Instant::now();
            let mut taken = 0;
            while start.elapsed() < Duration::from_secs(1800) {
                let data = endless.data().await.unwrap().unwrap();
                endless.flow_control().release_capacity(data.len()).unwrap();
                taken += data.len();
                // 1 KiB a second.
                sleep(Duration::from_millis(data.len() as u64)).await;
            }
            assert!(taken > 1_700_000, "{taken}");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_away_whole_does_not_keep_a_connection_for_ever() {
        let test = async {
            let held = Arc::new(());
            let (mut sender, guard) = connect(1, &held).await;
            // All of it was handed over, and waits for room that never comes.
            let _short = get(&mut sender, "/short").await;
            left(&held, 0).await;
            assert_eq!(guard.active(), 0);
            let gone = std::future::poll_fn(|cx| sender.poll_ready(cx));
            drop(timeout(Duration::from_secs(400), gone).await);
            let start = Instant::now();
            while Arc::strong_count(&held) > 1 {
                sleep(Duration::from_millis(50)).await;
                assert!(start.elapsed() < Duration::from_secs(400));
            }
        };
        LocalSet::new().run_until(test).await;
    }
}
