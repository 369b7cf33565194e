//! Scripted peers for tests, on real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{ProbeKey, ProbeTarget, Vitals, check::Deadline};
use crate::config::{ActiveCheck, Protocol, Readiness, UpstreamId};

/// What a peer does with a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Answers and waits for the next one.
    Answer(String),
    /// Answers and closes.
    Last(String),
    /// Closes without an answer.
    Close,
    /// Resets the connection without an answer.
    Reset,
    /// Answers with this much and says no more.
    Hang(String),
}

/// A peer that follows a script.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    /// `script` gets the number of the request on its connection and over all, from 0.
    pub(super) async fn start(
        script: impl Fn(usize, usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let (requests, connections) = (origin.requests.clone(), origin.connections.clone());
        let script = Arc::new(script);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(converse(stream, script.clone(), requests.clone()));
            }
        });
        origin
    }

    /// Always the same.
    pub(super) async fn always(act: Act) -> Self {
        Self::start(move |_, _| act.clone()).await
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn converse(
    mut stream: TcpStream,
    script: Arc<impl Fn(usize, usize) -> Act>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    for on_connection in 0.. {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => return,
            }
        }
        let over_all = {
            let mut requests = requests.lock().unwrap();
            requests.push(String::from_utf8(request).unwrap());
            requests.len() - 1
        };
        let (text, then) = match script(on_connection, over_all) {
            Act::Answer(text) => (text, None),
            act @ (Act::Close | Act::Reset) => (String::new(), Some(act)),
            Act::Last(text) => (text, Some(Act::Close)),
            Act::Hang(text) => (text.clone(), Some(Act::Hang(text))),
        };
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        match then {
            None => {}
            Some(Act::Reset) => {
                stream.set_zero_linger().unwrap();
                return;
            }
            Some(Act::Hang(_)) => {
                // Until the other side gives up.
                let _ = stream.read_u8().await;
                return;
            }
            Some(_) => return,
        }
    }
}

/// A peer behind TLS, with a certificate for [`TlsPeer::name`].
pub(super) struct TlsPeer {
    pub(super) address: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl TlsPeer {
    /// Offers `alpn`, and serves each connection with `serve`.
    pub(super) async fn start<F: Future<Output = ()> + Send + 'static>(
        alpn: &[&str],
        serve: impl Fn(TlsStream<TcpStream>) -> F + Send + 'static,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let certificate = made.cert.der().clone();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        config.alpn_protocols = bytes(alpn);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(serve(stream));
                }
            }
        });
        Self {
            address,
            certificate,
        }
    }

    /// The name in the certificate.
    pub(super) fn name() -> ServerName<'static> {
        ServerName::try_from("shop.example").unwrap()
    }

    /// A client that trusts this peer.
    pub(super) fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        trusting(&self.certificate, alpn)
    }

    /// A client that trusts somebody else.
    pub(super) fn distrustful() -> Arc<ClientConfig> {
        let mut other = rcgen::CertificateParams::new(["shop.example".to_owned()]).unwrap();
        let name = &mut other.distinguished_name;
        name.push(rcgen::DnType::CommonName, "somebody else");
        let key = rcgen::KeyPair::generate().unwrap();
        trusting(other.self_signed(&key).unwrap().der(), &[])
    }
}

fn trusting(certificate: &CertificateDer<'static>, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = bytes(alpn);
    Arc::new(config)
}

fn bytes(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// A response with a body and its length.
pub(super) fn answer(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Whatever\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// An address that refuses connections for as long as the socket lives.
pub(super) fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&SockAddr::from(any)).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// An address that does not answer, because its queue of connections is full, for as long as the sockets
/// live.
pub(super) fn silent() -> (Vec<Socket>, SocketAddr) {
    let (listener, address) = refusing();
    listener.listen(0).unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&SockAddr::from(address));
        sockets.push(socket);
    }
    (sockets, address)
}

/// A plain HTTP/1.1 target of `check` at `address`.
pub(super) fn target(check: &Arc<ActiveCheck>, address: SocketAddr) -> ProbeTarget {
    ProbeTarget {
        key: ProbeKey {
            upstream: UpstreamId {
                namespace: "shop".into(),
                service: "checkout".into(),
                port: "http".into(),
            },
            address,
            uid: String::new(),
        },
        vitals: Arc::new(Vitals::new(Readiness::Ready, Instant::now())),
        check: Arc::clone(check),
        address,
        readiness: Readiness::Ready,
        protocol: Protocol::Http1,
        tls: None,
        server_name: ServerName::from(address.ip()),
        counters: Arc::default(),
    }
}

/// Enough for what is to succeed, on a machine as slow as it likes.
pub(super) fn ample() -> Deadline {
    Deadline::after(Duration::from_secs(20), Instant::now())
}

/// For what hangs, for ever.
pub(super) fn short() -> Deadline {
    Deadline::after(Duration::from_millis(500), Instant::now())
}
