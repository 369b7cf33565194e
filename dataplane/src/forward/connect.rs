//! A new connection to a peer, with its handshakes.

use std::{error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
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
    socket::Socket,
};
use crate::{
    admission::{ConnectionSeat, Seated},
    fault::Fault,
    pool::{Busy, Http1},
    reason::Reason,
    table::{Peer, Upstream},
    tls,
    waiting::Waiting,
};

/// How a peer whose node is gone is noticed while its answer is waited for: the kernel asks, and no server sees it.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// A stream of bytes to a peer.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Opens a connection within its limit, TLS and HTTP handshakes included.
pub(super) async fn connect<T, E: Error + 'static>(
    waiting: &Waiting,
    upstream: &Upstream,
    peer: &Peer,
    limits: Limits<'_>,
    handshake: impl AsyncFn(Box<dyn Stream>, Busy) -> Result<T, E>,
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
        let stream = open(peer.config.address)
            .await
            .map_err(|error| AttemptError::connecting(&error))?;
        let busy = Busy::default();
        let stream = Seated::new(Socket::new(stream, busy.clone()), seat);
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
                            AttemptError::shaking_hands(
                                Fault::of(&error),
                                Reason::TlsError,
                                format!("TLS handshake: {}", tls::handshake_words(&error, &name)),
                            )
                        })?,
                )
            }
        };
        handshake(stream, busy).await.map_err(|error| {
            AttemptError::shaking_hands(
                Fault::of_http(&error),
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

pub(super) async fn handshake_http1(stream: Box<dyn Stream>, busy: Busy) -> hyper::Result<Http1> {
    let (sender, connection) = http1::Builder::new()
        .max_headers(128)
        .max_buf_size(128 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::task::spawn_local(connection.with_upgrades());
    Ok(Http1::new(sender, busy))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
