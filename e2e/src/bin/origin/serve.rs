//! Accepting connections, telling HTTP/1 from HTTP/2, and stopping.

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// How long requests in flight may take after the order to stop.
const GRACE: Duration = Duration::from_secs(20);

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// Tells every connection at once that the process is going.
#[derive(Clone)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::channel(false).0)
    }
}

impl Stop {
    pub(crate) fn now(&self) {
        self.0.send_replace(true);
    }

    async fn wait(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// Serves until told to stop and until the last connection has ended.
pub(crate) async fn accept<F, R>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    stop: Stop,
    answer: F,
) where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            Some(_) = connections.join_next() => continue,
            () = stop.wait() => break,
        };
        connections.spawn(connection(
            stream,
            tls.clone(),
            stop.clone(),
            answer.clone(),
        ));
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, connections.join_all()).await;
}

async fn connection<F, R>(stream: TcpStream, tls: Option<TlsAcceptor>, stop: Stop, answer: F)
where
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    match tls {
        None => {
            let Some(h2) = preface(&stream).await else {
                return;
            };
            http(stream, h2, stop, answer).await;
        }
        Some(tls) => {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            http(stream, h2, stop, answer).await;
        }
    }
}

/// Whether the client opens with HTTP/2's preface; `None` when it went away.
async fn preface(stream: &TcpStream) -> Option<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0";
    let mut buffer = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) if n == PREFACE.len() || buffer[..n] != PREFACE[..n] => {
                return Some(buffer == *PREFACE);
            }
            Ok(_) => tokio::task::yield_now().await,
        }
    }
}

async fn http<S, F, R>(stream: S, h2: bool, stop: Stop, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(stream);
    // The result says how the client left, which no scenario asks for.
    if h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let mut connection = std::pin::pin!(
            builder
                .timer(TokioTimer::new())
                .serve_connection(io, service)
        );
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.wait() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        let connection = builder
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stop.wait() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}

/// TLS as the mounted Secret has it; none when nothing is mounted.
pub(crate) fn tls_from_files(certificate: &str, key: &str) -> anyhow::Result<Option<TlsAcceptor>> {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    if !std::path::Path::new(certificate).exists() {
        return Ok(None);
    }
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .context("reading the certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).context("reading the key")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
