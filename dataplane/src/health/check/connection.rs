//! A connection for checks: HTTP/1.1 or HTTP/2, plain or over TLS. What it speaks is the upstream's
//! protocol, and over TLS what the peer chose.
//!
//! Connections are kept between checks, which halves what a check costs; but not for long, because a
//! kept connection goes on answering when the peer takes no new ones. A kept connection that the
//! peer has closed meanwhile says nothing about its health: a new one is made at once. And not without
//! bound: each takes 20 KiB.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Deadline, Signs, connect, io_cause, io_words};
use crate::{config::Protocol, fault::Fault, health::ProbeTarget, tls};

/// Checks on one connection, before a new one must show that the peer still takes connections.
pub(in crate::health) const USES: u32 = 16;
/// Longer intervals keep no connection: most peers would have closed it by the next check.
const KEEP: Duration = Duration::from_secs(15);

/// The largest head of an answer that is read; also the smallest that hyper allows.
const HEAD_LIMIT: usize = 8192;

/// Keeps one peer's connection from check to check.
pub(in crate::health) struct Keeper {
    kept: Option<Kept>,
    /// One for each connection that may be kept, over all peers.
    pub(in crate::health) permits: Arc<Semaphore>,
}

/// A connection, and how long it has been of use.
pub(in crate::health) struct Kept {
    pub(in crate::health) connection: Connection,
    uses: u32,
    permit: Option<OwnedSemaphorePermit>,
}

/// How an exchange on a connection failed.
pub(in crate::health) enum Failure {
    /// The connection ended before the answer began.
    Broken(String),
    Final(String),
}

impl From<String> for Failure {
    fn from(words: String) -> Self {
        Self::Final(words)
    }
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken.0)
    }
}

impl Failure {
    pub(in crate::health) fn words(self) -> String {
        match self {
            Self::Broken(words) | Self::Final(words) => words,
        }
    }
}

impl Keeper {
    pub(in crate::health) fn new(permits: Arc<Semaphore>) -> Self {
        Self {
            kept: None,
            permits,
        }
    }

    /// The kept connection, if it is still of use.
    pub(in crate::health) fn take(&mut self, target: &ProbeTarget) -> Option<Kept> {
        self.kept.take().filter(|kept| {
            kept.uses < USES
                && !kept.connection.is_closed()
                && target.vitals.connect_failure().is_none()
        })
    }

    /// A new connection.
    pub(in crate::health) async fn open(
        target: &ProbeTarget,
        wire: Wire,
        deadline: Deadline,
        signs: &mut Signs,
    ) -> Result<Kept, String> {
        Ok(Kept {
            connection: Connection::open(target, wire, deadline, signs).await?,
            uses: 0,
            permit: None,
        })
    }

    /// Keeps a connection after a check, if checks are made every `interval` and there is room.
    pub(in crate::health) fn keep(&mut self, mut kept: Kept, interval: Duration) {
        if interval > KEEP {
            return;
        }
        kept.uses += 1;
        if kept.permit.is_none() {
            kept.permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        }
        self.kept = kept.permit.is_some().then_some(kept);
    }

    pub(in crate::health) fn forget(&mut self) {
        self.kept = None;
    }
}

/// What a check wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::health) enum Wire {
    /// What the traffic speaks.
    Traffic,
    /// HTTP/2, whatever the traffic speaks.
    Http2,
}

/// An open connection. Dropping it closes it, whatever is under way.
pub(in crate::health) struct Connection {
    sender: Sender,
    /// HTTP/2 that the peer has not agreed to.
    unasked: bool,
    task: AbortHandle,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// The connection ended before the answer began.
pub(in crate::health) struct Broken(pub(in crate::health) String);

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects, and shakes hands where the target wants TLS.
    async fn open(
        target: &ProbeTarget,
        wire: Wire,
        deadline: Deadline,
        signs: &mut Signs,
    ) -> Result<Self, String> {
        let stream = connect(target.address, deadline, signs).await?;
        let prior_knowledge = wire == Wire::Http2 || target.protocol == Protocol::Http2;
        match &target.tls {
            None => Self::over(stream, prior_knowledge, prior_knowledge, deadline).await,
            Some(config) => {
                let mut config = Arc::clone(config);
                if wire == Wire::Http2 {
                    Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
                }
                let stream = shake_hands(target, config, stream, deadline, signs).await?;
                let offered = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                if prior_knowledge && !offered {
                    return Err("TLS: the peer does not offer h2".into());
                }
                Self::over(stream, offered, false, deadline).await
            }
        }
    }

    async fn over<S>(
        stream: S,
        http2: bool,
        unasked: bool,
        deadline: Deadline,
    ) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .initial_stream_window_size(16 * 1024)
                .initial_connection_window_size(64 * 1024)
                .max_send_buf_size(16 * 1024);
            let (sender, connection) = deadline
                .within("HTTP/2 handshake", Box::pin(builder.handshake(io)))
                .await?
                .map_err(|error| words(&error))?;
            let task = tokio::spawn(async move {
                // Its error reaches the request that is under way; an idle connection may just end.
                let _ = connection.await;
            });
            Ok(Self {
                sender: Sender::Http2(sender),
                unasked,
                task: task.abort_handle(),
            })
        } else {
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD_LIMIT)
                .handshake(io)
                .await
                .map_err(|error| words(&error))?;
            let task = tokio::spawn(async move {
                let _ = connection.await;
            });
            Ok(Self {
                sender: Sender::Http1(sender),
                unasked,
                task: task.abort_handle(),
            })
        }
    }

    pub(in crate::health) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    pub(in crate::health) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(in crate::health) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Broken> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Sender::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        response.map_err(|error| {
            let mut words = words(&error);
            if self.unasked && words.ends_with("without an answer") {
                words.push_str("; does the port speak HTTP/2?");
            }
            Broken(words)
        })
    }
}

/// The TLS handshake that a target wants.
pub(in crate::health) async fn shake_hands(
    target: &ProbeTarget,
    config: Arc<rustls::ClientConfig>,
    stream: TcpStream,
    deadline: Deadline,
    signs: &mut Signs,
) -> Result<TlsStream<TcpStream>, String> {
    let handshake = TlsConnector::from(config).connect(target.server_name.clone(), stream);
    deadline
        .within("TLS handshake", Box::pin(handshake))
        .await?
        .map_err(|error| {
            signs.fault = Some(Fault::of(&error));
            format!("TLS: {}", tls::handshake_words(&error, &target.server_name))
        })
}

/// What hyper says, as people say it.
pub(in crate::health) fn words(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return "the answer's head is larger than 8 KiB".into();
    }
    if error.is_parse() {
        return "the answer is not HTTP; does the port speak TLS, or HTTP/2?".into();
    }
    let http2 = error.source().and_then(|it| it.downcast_ref::<h2::Error>());
    if http2.is_some_and(|error| error.is_library() && error.is_go_away()) {
        return "the answer is not HTTP/2".into();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "connection closed without an answer".into();
    }
    if let Some(cause) = io_cause(error) {
        return format!("{} without an answer", io_words(cause));
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
