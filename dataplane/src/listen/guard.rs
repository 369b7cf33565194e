//! The deadlines of a client connection that hyper does not keep, without a timer for each request.
//!
//! Every connection stamps what it does (waits, receives a head, answers, cannot write) into atomics;
//! once in a while the worker's sweep reads them all and ends what is overdue. A request costs a few
//! relaxed stores, and ten thousand idle connections cost one timer.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use super::{scan::Scan, streams::Streams};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often connections are looked at: the precision of every limit below.
pub(crate) const SWEEP: Duration = Duration::from_millis(250);
/// From the first byte of a request to the end of its head; for a new connection, from its beginning.
const HEAD: u64 = 10_000;
/// Between requests.
const IDLE: u64 = 75_000;
/// While the client takes nothing of what is to be written.
const WRITE_STALL: u64 = 30_000;
/// HTTP/2: while the client takes nothing of one response. Clients may give room in large batches, so it is longer.
const STREAM_STALL: u64 = 60_000;
/// HTTP/2: after the last request, until a connection is closed that was asked to end and did not: what was given to
/// the protocol's library whole may wait for room that its client never gives.
const LINGER: u64 = 300_000;
/// After which a connection is asked to end, plus up to a quarter by connection.
const AGE: u64 = 3_600_000;

/// Milliseconds since the worker began, moved forward by its sweep. Never 0.
pub(crate) struct CoarseClock(AtomicU64);

impl CoarseClock {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(1))
    }

    pub(crate) fn set(&self, elapsed: Duration) {
        self.0.store(
            u64::try_from(elapsed.as_millis())
                .unwrap_or(u64::MAX)
                .max(1),
            Relaxed,
        );
    }

    fn now(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What is known of one connection. 0 stands for "not now" in the stamps.
pub(crate) struct Guard {
    clock: Arc<CoarseClock>,
    opened: u64,
    /// Requests that are being answered.
    active: AtomicU32,
    /// When the last request ended.
    idle_since: AtomicU64,
    /// When the head that is being received began.
    head_since: AtomicU64,
    /// When a write first had to wait.
    write_stalled_since: AtomicU64,
    /// HTTP/2: a time before which nothing was taken of a response that waits for its client to take more.
    taken_since: AtomicU64,
    /// HTTP/2: websockets.
    tunnels: AtomicU32,
    /// HTTP/2: bytes between requests are not a head.
    multiplexed: AtomicBool,
    /// Set to end the connection: at once, or when its requests are answered.
    kill: AtomicBool,
    finish: AtomicBool,
    /// Set to have the streams looked at.
    look: AtomicBool,
    /// HTTP/1: requests that have begun.
    requests: AtomicU64,
    /// HTTP/1: the first request whose head has more than one framing, counted from 1; 0 for none.
    ambiguous: AtomicU64,
    /// HTTP/1: what comes is of another protocol.
    switched: AtomicBool,
    waker: AtomicWaker,
}

/// What the sweep did to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swept {
    Fine,
    Finishing,
    Killed,
}

impl Guard {
    pub(crate) fn new(clock: &Arc<CoarseClock>) -> Arc<Self> {
        let now = clock.now();
        Arc::new(Self {
            clock: Arc::clone(clock),
            opened: now,
            active: AtomicU32::new(0),
            idle_since: AtomicU64::new(now),
            head_since: AtomicU64::new(now),
            write_stalled_since: AtomicU64::new(0),
            taken_since: AtomicU64::new(0),
            tunnels: AtomicU32::new(0),
            multiplexed: AtomicBool::new(false),
            kill: AtomicBool::new(false),
            finish: AtomicBool::new(false),
            look: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            ambiguous: AtomicU64::new(0),
            switched: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    /// The connection turned out to be HTTP/2.
    pub(crate) fn multiplexed(&self) {
        self.multiplexed.store(true, Relaxed);
    }

    pub(crate) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    pub(crate) fn begin_request(&self) {
        self.active.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
    }

    pub(crate) fn end_request(&self) {
        if self.active.fetch_sub(1, Relaxed) == 1 {
            self.idle_since.store(self.clock.now(), Relaxed);
        }
    }

    /// Requests that are being answered.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    pub(super) fn begin_tunnel(&self) {
        self.tunnels.fetch_add(1, Relaxed);
    }

    pub(super) fn end_tunnel(&self) {
        self.tunnels.fetch_sub(1, Relaxed);
        self.idle_since.store(self.clock.now(), Relaxed);
    }

    /// A piece of a response was taken, and the next is not asked for yet. Gives the time.
    pub(super) fn taken(&self) -> u64 {
        let now = self.clock.now();
        if self.taken_since.load(Relaxed) == 0 {
            self.taken_since.store(now, Relaxed);
        }
        now
    }

    /// Bytes came. Where they begin the head of an HTTP/1 request, its time begins.
    fn received(&self) {
        let between = self.active.load(Relaxed) == 0 && !self.multiplexed.load(Relaxed);
        if between && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.clock.now(), Relaxed);
        }
    }

    /// Whether the head of the HTTP/1 request that began last has more than one framing.
    pub(crate) fn is_ambiguous(&self) -> bool {
        let ambiguous = self.ambiguous.load(Relaxed);
        ambiguous != 0 && ambiguous == self.requests.load(Relaxed)
    }

    /// HTTP/1: what the client sends from now on is of another protocol.
    pub(crate) fn switches(&self) {
        self.switched.store(true, Relaxed);
    }

    fn write_waits(&self, waits: bool) {
        let stalled = self.write_stalled_since.load(Relaxed);
        if waits && stalled == 0 {
            self.write_stalled_since.store(self.clock.now(), Relaxed);
        } else if !waits && stalled != 0 {
            self.write_stalled_since.store(0, Relaxed);
        }
    }

    /// Ends the connection if one of its limits has passed.
    pub(crate) fn sweep(&self) -> Swept {
        let now = self.clock.now();
        let over = |since: u64, limit: u64| since != 0 && now.saturating_sub(since) > limit;
        let idle = self.active.load(Relaxed) == 0;
        let multiplexed = self.multiplexed.load(Relaxed);
        let ends_never = idle
            && multiplexed
            && self.tunnels.load(Relaxed) == 0
            && over(self.idle_since.load(Relaxed), LINGER);
        if over(self.write_stalled_since.load(Relaxed), WRITE_STALL)
            || (idle && !multiplexed && over(self.head_since.load(Relaxed), HEAD))
            || ends_never
        {
            self.kill();
            return Swept::Killed;
        }
        if over(self.taken_since.load(Relaxed), STREAM_STALL) {
            self.look.store(true, Relaxed);
            self.waker.wake();
        }
        let age = AGE + (self.opened.wrapping_mul(0x9E37_79B9) % (AGE / 4));
        if (idle && over(self.idle_since.load(Relaxed), IDLE)) || over(self.opened, age) {
            self.finish();
            return Swept::Finishing;
        }
        Swept::Fine
    }

    /// Ends the connection now.
    pub(crate) fn kill(&self) {
        self.kill.store(true, Relaxed);
        self.waker.wake();
    }

    /// Ends the connection when its requests are answered.
    pub(crate) fn finish(&self) {
        if !self.finish.swap(true, Relaxed) {
            self.waker.wake();
        }
    }

    /// Whether it takes no more requests.
    pub(crate) fn finishes(&self) -> bool {
        self.finish.load(Relaxed)
    }

    /// Ends what is overdue of the connection's streams.
    fn look_at(&self, streams: &Streams) {
        let since = self.clock.now().saturating_sub(STREAM_STALL);
        self.taken_since.store(streams.cut(since), Relaxed);
    }

    /// Drives a connection, and ends it when told to.
    pub(super) async fn drive<C: Graceful>(&self, connection: C, streams: Option<&Streams>) {
        let mut connection = std::pin::pin!(connection);
        let mut finishing = false;
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            if let Some(streams) = streams
                && self.look.load(Relaxed)
            {
                self.look.store(false, Relaxed);
                self.look_at(streams);
            }
            if self.kill.load(Relaxed) {
                return Poll::Ready(());
            }
            if !finishing && self.finish.load(Relaxed) {
                finishing = true;
                connection.as_mut().graceful();
            }
            connection.as_mut().poll(cx).map(drop)
        })
        .await;
    }
}

/// A connection that can be asked to end.
pub(crate) trait Graceful: Future {
    /// Answer what has begun, take nothing new.
    fn graceful(self: Pin<&mut Self>);
}

/// A byte stream that stamps its guard, and gives bytes back that were read ahead.
pub(crate) struct Guarded<S> {
    stream: S,
    guard: Arc<Guard>,
    ahead: Vec<u8>,
    given: usize,
    scan: Scan,
    /// What came last is no HTTP: nothing is read any more.
    malformed: bool,
}

impl<S> Guarded<S> {
    /// `ahead` was read from `stream` already.
    pub(crate) fn new(stream: S, guard: Arc<Guard>, ahead: Vec<u8>) -> Self {
        let mut guarded = Self {
            stream,
            guard,
            ahead: Vec::new(),
            given: 0,
            scan: Scan::default(),
            malformed: false,
        };
        // Too few to have more than a head.
        guarded.look_at(&ahead);
        guarded.ahead = ahead;
        guarded
    }
}

impl<S> Guarded<S> {
    /// Looks at the next bytes. Gives how many of them may be read.
    fn look_at(&mut self, bytes: &[u8]) -> usize {
        self.guard.received();
        if self.guard.multiplexed.load(Relaxed) || self.guard.switched.load(Relaxed) {
            return bytes.len();
        }
        let fed = self.scan.feed(bytes);
        if let Some(number) = self.scan.ambiguous() {
            self.guard.ambiguous.store(number, Relaxed);
        }
        match fed {
            Ok(()) => bytes.len(),
            Err(malformed) => {
                self.malformed = true;
                malformed.at
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(rest) = this.ahead.get(this.given..).filter(|rest| !rest.is_empty()) {
            let take = rest.len().min(buffer.remaining());
            buffer.put_slice(rest.get(..take).unwrap_or_default());
            this.given += take;
            if this.given == this.ahead.len() {
                this.ahead = Vec::new();
                this.given = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = match this.malformed {
            false => Pin::new(&mut this.stream).poll_read(cx, buffer),
            true => Poll::Ready(Ok(())),
        };
        let mut read = 0;
        if let Some(new) = buffer.filled().get(before..).filter(|new| !new.is_empty()) {
            read = this.look_at(new);
            buffer.set_filled(before + read);
        }
        match this.malformed && read == 0 {
            true => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            false => polled,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.guard.write_waits(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.guard.write_waits(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(clock: &CoarseClock, seconds: u64) {
        clock.set(Duration::from_secs(seconds));
    }

    fn begun() -> (Arc<CoarseClock>, Arc<Guard>) {
        let clock = Arc::new(CoarseClock::new());
        let guard = Guard::new(&clock);
        (clock, guard)
    }

    #[test]
    fn a_head_that_does_not_come_ends_the_connection() {
        let (clock, guard) = begun();
        at(&clock, 9);
        guard.received();
        assert_eq!(guard.sweep(), Swept::Fine);
        at(&clock, 11);
        assert_eq!(guard.sweep(), Swept::Killed, "dripping bytes do not help");
    }

    #[test]
    fn between_requests_a_connection_may_idle_and_each_head_has_its_own_limit() {
        let (clock, guard) = begun();
        guard.begin_request();
        at(&clock, 500);
        assert_eq!(guard.sweep(), Swept::Fine, "a request may take its time");
        guard.end_request();
        at(&clock, 570);
        assert_eq!(guard.sweep(), Swept::Fine);
        guard.received();
        at(&clock, 574);
        assert_eq!(guard.sweep(), Swept::Fine);
        at(&clock, 581);
        assert_eq!(guard.sweep(), Swept::Killed);
    }

    #[test]
    fn an_idle_connection_is_asked_to_end() {
        let (clock, guard) = begun();
        guard.begin_request();
        guard.end_request();
        at(&clock, 76);
        assert_eq!(guard.sweep(), Swept::Finishing);
    }

    #[test]
    fn a_client_that_takes_nothing_is_cut_and_one_that_takes_slowly_is_not() {
        let (clock, guard) = begun();
        guard.begin_request();
        for second in (0..300).step_by(20) {
            at(&clock, second);
            guard.write_waits(true);
            assert_eq!(guard.sweep(), Swept::Fine);
            guard.write_waits(false);
        }
        guard.write_waits(true);
        at(&clock, 331);
        assert_eq!(guard.sweep(), Swept::Killed);
    }

    #[test]
    fn http2_frames_between_requests_are_not_a_head() {
        let (clock, guard) = begun();
        guard.multiplexed();
        guard.begin_request();
        guard.end_request();
        guard.received();
        at(&clock, 70);
        assert_eq!(guard.sweep(), Swept::Fine);
    }

    #[test]
    fn an_old_connection_is_asked_to_end_once_it_is_old() {
        let (clock, guard) = begun();
        guard.begin_request();
        at(&clock, 3_500);
        assert_eq!(guard.sweep(), Swept::Fine);
        at(&clock, 4_600);
        assert_eq!(guard.sweep(), Swept::Finishing);
    }
}
