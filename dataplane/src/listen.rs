//! From an accepted socket to requests: TLS, the choice between HTTP/1 and HTTP/2, and the limits of both.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    dataplane::Shared,
    metrics::Listener,
    pipeline,
    pool::LoggedIn,
    sanitize::{self, ClientInfo},
    worker::Worker,
};

pub(crate) mod guard;
mod proxy_protocol;
mod scan;
mod streams;

use guard::{Graceful, Guard, Guarded};
use proxy_protocol::Speaks;
use streams::{Executor, Streams};

/// For a client to finish the TLS handshake.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// For a client to send its first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// HTTP/2: what a client may have sent that was not read yet, over all its streams. h2 lets half as much be spent on
/// the overhead of small DATA frames that wait, before it ends the connection: with this, one stream whose pod reads
/// nothing may be full of frames of one byte.
const CONNECTION_WINDOW: u32 = 34 * 1024 * 1024;
/// HTTP/2: streams of one connection that may be reset for an error of their client, over its whole life: it is a
/// limit on abuse, and streams in excess, or late frames of refused uploads, count too.
const RESETS: usize = 1024;
/// How every HTTP/2 connection begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A listening socket of one worker.
pub(crate) struct Bound {
    pub(crate) listener: std::net::TcpListener,
    pub(crate) tls: bool,
}

/// Binds a socket that shares its port with those of the other workers.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// What a request knows of its connection.
pub(crate) struct Conn {
    pub(crate) worker: Rc<Worker>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) client: ClientInfo,
    /// The TLS server name, in lower case.
    pub(crate) sni: Option<String>,
    /// The connection to a peer that carries requests of this one alone.
    pub(crate) logged_in: Rc<LoggedIn>,
}

/// Counts a connection until it ends.
struct Counted {
    shared: Arc<Shared>,
    worker: Rc<Worker>,
    key: usize,
    _metrics: crate::metrics::ConnectionGuard,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Relaxed);
        self.worker.connections.borrow_mut().remove(self.key);
    }
}

/// Accepts until the task is ended. Nothing is accepted before the first table is there.
pub(crate) async fn accept(worker: Rc<Worker>, bound: Bound) {
    let mut changes = worker.shared.changes.subscribe();
    while worker.shared.table.load().generation == 0 {
        if changes.changed().await.is_err() {
            return;
        }
    }
    let listener = match TcpListener::from_std(bound.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener cannot be used: this worker accepts nothing on it");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => admit(&worker, stream, remote, bound.tls),
            // Out of file descriptors, or the client is gone already: the next may fare better.
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

fn admit(worker: &Rc<Worker>, stream: TcpStream, remote: SocketAddr, tls: bool) {
    let shared = &worker.shared;
    if shared.connections.fetch_add(1, Relaxed) >= shared.options.max_connections {
        shared.connections.fetch_sub(1, Relaxed);
        shared.metrics.connection_refused();
        return;
    }
    let guard = Guard::new(&worker.clock);
    let key = worker.connections.borrow_mut().insert(Arc::clone(&guard));
    let listener = if tls { Listener::Https } else { Listener::Http };
    let counted = Counted {
        shared: Arc::clone(shared),
        worker: Rc::clone(worker),
        key,
        _metrics: shared.metrics.connection(listener),
    };
    let _ = stream.set_nodelay(true);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _counted = counted;
        let mut stream = stream;
        let ip = remote.ip().to_canonical();
        let Some(source) = source(&worker, &mut stream, ip).await else {
            return;
        };
        // Each stage is a box of its own and gone before the next: what a connection holds while it idles is
        // what its present stage needs, and not the most that any stage of any protocol would.
        if tls {
            if let Some((conn, stream)) = Box::pin(handshake(worker, guard, stream, source)).await {
                let (_, session) = stream.get_ref();
                if session.alpn_protocol() == Some(b"h2") {
                    Box::pin(serve_http2(conn, *stream, Vec::new())).await;
                } else {
                    Box::pin(serve_http1(conn, *stream, Vec::new())).await;
                }
            }
            return;
        }
        let client = source.client(&worker, false);
        let conn = Rc::new(Conn {
            worker,
            guard,
            client,
            sni: None,
            logged_in: Rc::default(),
        });
        match sniff(stream).await {
            Some((stream, ahead)) if ahead == PREFACE => {
                Box::pin(serve_http2(conn, stream, ahead)).await;
            }
            Some((stream, ahead)) => Box::pin(serve_http1(conn, stream, ahead)).await,
            None => {}
        }
    });
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
struct Source {
    ip: IpAddr,
    /// Whether that is who speaks, and not a proxy that does not say for whom.
    known: bool,
}

impl Source {
    /// The client of the connection. A proxy's headers are not believed on a connection that it says is nobody's.
    fn client(self, worker: &Worker, https: bool) -> ClientInfo {
        let trusted = match self.known {
            true => worker.shared.options.trusted_proxies.as_slice(),
            false => &[],
        };
        ClientInfo::new(self.ip, https, trusted)
    }
}

/// Who is at the other end, which trusted proxies may have to say first; `None` if they do not.
async fn source(worker: &Worker, stream: &mut TcpStream, ip: IpAddr) -> Option<Source> {
    let options = &worker.shared.options;
    if !options.proxy_protocol || !sanitize::contains(&options.trusted_proxies, ip) {
        return Some(Source { ip, known: true });
    }
    let header = Box::pin(proxy_protocol::read(stream));
    match tokio::time::timeout(proxy_protocol::DEADLINE, header).await {
        Ok(Ok(Speaks::For(ip))) => Some(Source { ip, known: true }),
        Ok(Ok(Speaks::ForNobody)) => Some(Source { ip, known: false }),
        Ok(Err(error)) => {
            tracing::debug!(%error, proxy = %ip, "a connection without a PROXY header was closed");
            None
        }
        Err(_) => None,
    }
}

/// The TLS handshake; `None` if it failed.
async fn handshake(
    worker: Rc<Worker>,
    guard: Arc<Guard>,
    stream: TcpStream,
    source: Source,
) -> Option<(Rc<Conn>, Box<TlsStream<TcpStream>>)> {
    let acceptor = TlsAcceptor::from(Arc::clone(&worker.shared.tls));
    let stream = match tokio::time::timeout(TLS_HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, client = %source.ip, "TLS handshake failed");
            worker.shared.metrics.tls_failure();
            return None;
        }
        Err(_) => {
            worker.shared.metrics.tls_failure();
            return None;
        }
    };
    let (_, session) = stream.get_ref();
    let sni = session.server_name().map(str::to_ascii_lowercase);
    let client = source.client(&worker, true);
    let conn = Conn {
        worker,
        guard,
        client,
        sni,
        logged_in: Rc::default(),
    };
    Some((Rc::new(conn), stream))
}

/// The first bytes, which tell HTTP/2 with prior knowledge from HTTP/1; `None` if none came.
async fn sniff(mut stream: TcpStream) -> Option<(TcpStream, Vec<u8>)> {
    let mut first = [0_u8; PREFACE.len()];
    let mut have = 0;
    let sniff = async {
        while let Some(rest) = first.get_mut(have..).filter(|rest| !rest.is_empty()) {
            let read = stream.read(rest).await?;
            have += read;
            let seen = first.get(..have).unwrap_or_default();
            if read == 0 || !PREFACE.starts_with(seen) {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    let sniffed = tokio::time::timeout(FIRST_BYTES, sniff).await;
    if !matches!(sniffed, Ok(Ok(()))) || have == 0 {
        return None;
    }
    let ahead = first.get(..have).unwrap_or_default().to_vec();
    Some((stream, ahead))
}

async fn serve_http1<S>(conn: Rc<Conn>, stream: S, ahead: Vec<u8>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(Guarded::new(stream, Arc::clone(&conn.guard), ahead));
    let guard = Arc::clone(&conn.guard);
    // hyper makes room for this future when the connection begins: a box takes it only while a request is served.
    let service = service_fn(move |request| Box::pin(pipeline::serve(Rc::clone(&conn), request)));
    let connection = http1::Builder::new()
        .half_close(false)
        .max_headers(pipeline::HEADERS)
        .max_buf_size(64 * 1024)
        .serve_connection(io, service)
        .with_upgrades();
    guard.drive(connection, None).await;
}

async fn serve_http2<S>(conn: Rc<Conn>, stream: S, ahead: Vec<u8>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    conn.guard.multiplexed();
    let io = TokioIo::new(Guarded::new(stream, Arc::clone(&conn.guard), ahead));
    let guard = Arc::clone(&conn.guard);
    let serve = move |request| pipeline::serve(Rc::clone(&conn), request);
    http2(&guard, io, serve).await;
}

/// Serves HTTP/2.
async fn http2<I, F, B>(guard: &Arc<Guard>, io: I, serve: impl Fn(Request<Incoming>) -> F)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + 'static,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let streams = Streams::new(guard);
    let service = service_fn(|request| streams.watch(serve(request)));
    let connection = http2::Builder::new(Executor(Rc::clone(&streams)))
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(64 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(RESETS)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .enable_connect_protocol()
        .serve_connection(io, service);
    guard.drive(connection, Some(&streams)).await;
}

impl<I, B, S> Graceful for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn graceful(self: std::pin::Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, B, S, E> Graceful for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn graceful(self: std::pin::Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
