//! A connection for checks: HTTP/1.1 or HTTP/2, plain or over TLS. What it speaks is the upstream's
//! protocol, and over TLS what the peer chose.

use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use super::super::{
    check::{Deadline, connect, io_cause, io_words},
    prober::ProbeTarget,
};
use crate::config::Protocol;

/// The largest head of an answer that is read; also the smallest that hyper allows.
const HEAD_LIMIT: usize = 8192;

/// An open connection. Dropping it closes it, whatever is under way.
pub(super) struct Connection {
    sender: Sender,
    task: AbortHandle,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// The connection ended before the answer began.
pub(super) struct Broken(pub(super) String);

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects, and shakes hands where the target wants TLS.
    pub(super) async fn open(target: &ProbeTarget, deadline: Deadline) -> Result<Self, String> {
        let stream = connect(target.address, deadline).await?;
        let prior_knowledge = target.protocol == Protocol::Http2;
        match &target.tls {
            None => Self::over(stream, prior_knowledge, deadline).await,
            Some(config) => {
                let handshake =
                    TlsConnector::from(config.clone()).connect(target.server_name.clone(), stream);
                let stream = deadline
                    .within("TLS handshake", Box::pin(handshake))
                    .await?
                    .map_err(|error| format!("TLS: {}", io_words(&error)))?;
                let offered = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                if prior_knowledge && !offered {
                    return Err("TLS: the peer does not offer h2".into());
                }
                Self::over(stream, offered, deadline).await
            }
        }
    }

    async fn over<S>(stream: S, http2: bool, deadline: Deadline) -> Result<Self, String>
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
                task: task.abort_handle(),
            })
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
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
        response.map_err(|error| Broken(words(&error)))
    }
}

/// What hyper says, as people say it.
fn words(error: &hyper::Error) -> String {
    if error.is_parse_too_large() {
        return "the answer's head is larger than 8 KiB".into();
    }
    if error.is_parse() {
        return "the answer is not HTTP".into();
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
