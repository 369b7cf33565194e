//! A new connection to a peer, with its handshakes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
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

/// Latency is worth more than packets; a failure to say so is not worth the request.
async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    let _ = stream.set_nodelay(true);
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
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}
