//! The HTTP/2 handshake, and how many streams the peer takes on the connection.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::{Rc, Weak},
    time::Duration,
};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tokio_util::io::InspectReader;

use super::connect::Stream;
use crate::{
    body::RequestBody,
    pool::{Busy, Http2},
    worker::LocalExecutor,
};

/// Between two PINGs on a connection that is silent while it has streams. They are for what the kernel's questions do
/// not find: a connection that something in between answers for. gRPC servers close connections, with all their
/// streams, whose clients ask more often than every 5 min (`too_many_pings`): it has to be longer.
const PING_INTERVAL: Duration = Duration::from_secs(310);
/// Streams that were cancelled here whose late answers h2 still knows and drops silently. It resets the others again
/// when their answers come.
const CANCELLED: usize = 256;
/// What the peer may have sent of one response that was not taken yet.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same of all streams: no limit, since each has its own. A response that its client does not take must not hold up
/// those of others. h2 also ends a connection whose unread DATA frames are small and many, by half of this window.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// For the answer to a PING.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Tells when the first bytes have come from the peer.
type Greeted = InspectReader<Box<dyn Stream>, Box<dyn FnMut(&[u8])>>;

type Connection = http2::Connection<TokioIo<Greeted>, RequestBody, LocalExecutor>;

/// An HTTP/2 connection that its peer has taken on.
pub(crate) struct Opened {
    pub(crate) sender: Http2,
    pub(crate) streams: StreamLimit,
}

/// How many streams the peer takes on one connection at a time, as it said last (RFC 9113 §5.1.2). More of them would
/// wait for each other inside of h2, where nobody sees them, while another connection could have them.
pub(crate) struct StreamLimit(Weak<RefCell<Connection>>);

impl StreamLimit {
    /// `None` if the connection is not there any more.
    pub(crate) fn get(&self) -> Option<usize> {
        let connection = self.0.upgrade()?;
        let connection = connection.try_borrow().ok()?;
        Some(connection.current_max_send_streams())
    }
}

/// Why there is no connection of HTTP/2.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    #[error("the connection was closed before the peer's SETTINGS")]
    Closed,
}

/// The peer's SETTINGS, which it sends first, are waited for: before, nobody knows how many streams it takes, and a
/// burst of requests would open more than that.
pub(super) async fn handshake_http2(stream: Box<dyn Stream>, _: Busy) -> Result<Opened, Failed> {
    let (greeted, greeting) = oneshot::channel();
    let mut greeted = Some(greeted);
    let stream: Greeted = InspectReader::new(
        stream,
        Box::new(move |bytes| {
            if let Some(greeted) = greeted.take_if(|_| !bytes.is_empty()) {
                // Who asked may have gone away meanwhile.
                let _ = greeted.send(());
            }
        }),
    );
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 * 1024)
        // The limit protects servers from clients. Here the peer answers what our clients asked for and gave up: to
        // end the connection for it would end the streams of all other clients.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(CANCELLED)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = Rc::new(RefCell::new(connection));
    let streams = StreamLimit(Rc::downgrade(&connection));
    tokio::task::spawn_local(std::future::poll_fn(move |cx| {
        Pin::new(&mut *connection.borrow_mut()).poll(cx)
    }));
    greeting.await.map_err(|_| Failed::Closed)?;
    Ok(Opened { sender, streams })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
        task::LocalSet,
        time::Instant,
    };

    use super::*;

    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const ACK: u8 = 1;

    async fn write(stream: &mut DuplexStream, kind: u8, flags: u8, payload: &[u8]) {
        write_on(stream, kind, flags, [0; 4], payload).await;
    }

    async fn write_on(stream: &mut DuplexStream, kind: u8, flags: u8, id: [u8; 4], payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let head = [0, 0, length, kind, flags, id[0], id[1], id[2], id[3]];
        stream.write_all(&head).await.unwrap();
        stream.write_all(payload).await.unwrap();
    }

    /// A server of HTTP/2 that answers PINGs, and no request. When it was asked.
    async fn pinged(mut stream: DuplexStream, until: Instant) -> Vec<Instant> {
        let mut pings = Vec::new();
        stream.read_exact(&mut [0; 24]).await.unwrap();
        write(&mut stream, SETTINGS, 0, &[]).await;
        let serve = async {
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.unwrap();
                let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                stream.read_exact(&mut payload).await.unwrap();
                match (head[3], head[4]) {
                    (SETTINGS, 0) => write(&mut stream, SETTINGS, ACK, &[]).await,
                    (PING, 0) => {
                        pings.push(Instant::now());
                        write(&mut stream, PING, ACK, &payload).await;
                    }
                    _ => {}
                }
            }
        };
        let _ = tokio::time::timeout_at(until, serve).await;
        pings
    }

    #[tokio::test(start_paused = true)]
    async fn no_server_is_asked_too_often_whether_it_is_there() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let began = Instant::now();
        let hour = Duration::from_secs(3600);
        let client = async {
            let mut sender = handshake_http2(Box::new(near), Busy::default())
                .await
                .unwrap()
                .sender;
            let mut request = Request::new(RequestBody::empty());
            *request.uri_mut() = "http://shop.test/".parse().unwrap();
            let _ = sender.try_send_request(request).await;
        };
        let server = pinged(far, began + hour);
        let both = LocalSet::new();
        let pings = both
            .run_until(async {
                tokio::select! {
                    pings = server => pings,
                    () = client => Vec::new(),
                }
            })
            .await;
        assert!(pings.len() > 5, "{pings:?}");
        let mut last = began;
        for ping in pings {
            assert!(ping - last > Duration::from_secs(300), "{:?}", ping - last);
            last = ping;
        }
    }

    /// A server of HTTP/2 that answers the requests that were cancelled, after that, and then the one with this number.
    async fn answers_late(mut stream: DuplexStream, last: u32) {
        const OK: [u8; 1] = [0x88];
        stream.read_exact(&mut [0; 24]).await.unwrap();
        write(&mut stream, SETTINGS, 0, &[]).await;
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            let id = [head[5], head[6], head[7], head[8]];
            match (head[3], head[4]) {
                (SETTINGS, 0) => write(&mut stream, SETTINGS, ACK, &[]).await,
                // END_HEADERS, and DATA of one byte with END_STREAM.
                (RST_STREAM, _) if payload == [0, 0, 0, 8] => {
                    write_on(&mut stream, HEADERS, 4, id, &OK).await;
                    write_on(&mut stream, 0, 1, id, b"x").await;
                }
                (HEADERS, _) if u32::from_be_bytes(id) == last => {
                    write_on(&mut stream, HEADERS, 5, id, &OK).await;
                }
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn late_answers_to_cancelled_requests_end_no_connection() {
        const CANCELLED_MANY: u32 = 2_100;
        let (near, far) = tokio::io::duplex(64 * 1024);
        let request = || {
            let mut request = Request::new(RequestBody::empty());
            *request.uri_mut() = "http://shop.test/".parse().unwrap();
            request
        };
        let client = async {
            let mut sender = handshake_http2(Box::new(near), Busy::default())
                .await
                .unwrap()
                .sender;
            for _ in 0..CANCELLED_MANY {
                let mut sending = Box::pin(sender.try_send_request(request()));
                assert!(futures::poll!(&mut sending).is_pending());
                // It is sent before it is cancelled.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
            let answer = sender.try_send_request(request()).await;
            answer.map_err(|error| error.into_error()).unwrap().status()
        };
        let both = LocalSet::new();
        let status = both
            .run_until(async {
                tokio::select! {
                    status = client => Some(status),
                    () = answers_late(far, CANCELLED_MANY * 2 + 1) => None,
                }
            })
            .await;
        assert_eq!(status, Some(http::StatusCode::OK));
    }
}
