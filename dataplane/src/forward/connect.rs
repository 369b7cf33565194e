//! A new connection to a peer, with its handshakes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    AttemptError, Limits, Phase,
    error::{given_up, too_late},
    patience::within,
};
use crate::{
    admission::{ConnectionSeat, Seated},
    pool::{Http1, Http2},
    reason::Reason,
    table::{Peer, Upstream},
    tls,
    waiting::Waiting,
    worker::LocalExecutor,
};

/// How a peer whose node is gone is noticed while its answer is waited for: the kernel asks, and no server sees it.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);
/// Between two PINGs on an HTTP/2 connection that is silent while it has streams. What the kernel's questions do not
/// find is a connection that something in between answers for. gRPC servers close connections, with all their
/// streams, whose clients ask more often than every 5 min (two times, `too_many_pings`): it has to be longer.
const PING_INTERVAL: Duration = Duration::from_secs(310);

/// A stream of bytes to a peer.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Opens a connection within its limit, TLS and HTTP handshakes included.
pub(super) async fn connect<T>(
    waiting: &Waiting,
    upstream: &Upstream,
    peer: &Peer,
    limits: Limits<'_>,
    handshake: impl AsyncFn(Box<dyn Stream>) -> hyper::Result<T>,
) -> Result<T, Box<AttemptError>> {
    // It had room when it was picked: another worker was faster.
    let Some(seat) = ConnectionSeat::take(&peer.state) else {
        let message = "no room for a connection".to_owned();
        return Err(AttemptError::new(
            Phase::Connect,
            Reason::Saturated,
            message,
        ));
    };
    // Boxed: few requests open a connection, and each would carry the state of it.
    let open = Box::pin(async {
        let stream = open(peer.config.address).await.map_err(|error| {
            let reason = match error.kind() {
                io::ErrorKind::TimedOut => Reason::ConnectTimeout,
                _ => Reason::ConnectRefused,
            };
            AttemptError::new(Phase::Connect, reason, format!("connect: {error}"))
        })?;
        let stream = Seated::new(stream, seat);
        let stream: Box<dyn Stream> = match &upstream.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = tls.server_name(peer.config.address);
                let connector = TlsConnector::from(Arc::clone(&tls.config));
                Box::new(
                    connector
                        .connect(name.clone(), stream)
                        .await
                        .map_err(|error| {
                            AttemptError::new(
                                Phase::Handshake,
                                Reason::TlsError,
                                format!("TLS handshake: {}", tls::handshake_words(&error, &name)),
                            )
                        })?,
                )
            }
        };
        handshake(stream).await.map_err(|error| {
            AttemptError::new(
                Phase::Handshake,
                Reason::ProtocolError,
                format!("HTTP/2 handshake: {error}"),
            )
        })
    });
    let ends = || limits.patience.ends_unsent(upstream, peer);
    let open = within(limits.connect, limits.deadline, open);
    match waiting.unless(ends, open).await {
        Some(Ok(opened)) => opened,
        Some(Err(late)) => Err(too_late(Phase::Connect, late)),
        None => Err(given_up(Phase::Connect)),
    }
}

/// Latency is worth more than packets, and a peer that is gone has to be noticed; a failure to say so is not worth
/// the request.
async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEP_ALIVE);
    Ok(stream)
}

pub(super) async fn handshake_http1(stream: Box<dyn Stream>) -> hyper::Result<Http1> {
    let (sender, connection) = http1::Builder::new()
        .max_headers(128)
        .max_buf_size(128 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection.with_upgrades());
    Ok(sender)
}

pub(super) async fn handshake_http2(stream: Box<dyn Stream>) -> hyper::Result<Http2> {
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(2 * 1024 * 1024)
        .max_header_list_size(64 * 1024)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
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
    use crate::body::RequestBody;

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const ACK: u8 = 1;

    async fn write(stream: &mut DuplexStream, kind: u8, flags: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let head = [0, 0, length, kind, flags, 0, 0, 0, 0];
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
            let mut sender = handshake_http2(Box::new(near)).await.unwrap();
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

    #[tokio::test]
    async fn the_kernel_is_told_to_look_whether_the_peer_is_there() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = open(address).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(30)
        );
        assert!(stream.nodelay().unwrap());
    }
}
