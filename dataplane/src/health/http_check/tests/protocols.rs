//! HTTP/2 and TLS, against hyper's and rustls' own servers.

use std::convert::Infallible;

use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::Protocol;

/// Answers HTTP/2 with the request's own words.
async fn serve_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let words = format!(
            "{} {} {:?}",
            request.method(),
            request.uri(),
            request.version()
        );
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(words))))
    });
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[tokio::test]
async fn http2_with_prior_knowledge() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            tokio::spawn(serve_http2(listener.accept().await.unwrap().0));
        }
    });
    let words = format!("GET http://{address}/healthz HTTP/2.0");
    let mut asker = Asker::new(&with_body(BodyMatch::Contains(words)), address);
    asker.target.protocol = Protocol::Http2;
    assert_eq!(asker.ask(ample()).await, "*+ HTTP 200");
    assert_eq!(asker.ask(ample()).await, "+ HTTP 200");

    let http1 = Origin::always(Act::Last("HTTP/1.1 400 Bad Request\r\n\r\n".into())).await;
    let mut asker = Asker::new(&healthz(), http1.address);
    asker.target.protocol = Protocol::Http2;
    let words = asker.ask(ample()).await;
    assert!(words.contains("- "), "{words}");
}

/// A TLS peer that offers `alpn`, and a client that trusts it as `shop.example`.
async fn tls_peer(alpn: &[&str]) -> (SocketAddr, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = alpn;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    serve_http2(stream).await;
                } else {
                    let words = answer(200, "HTTP/1");
                    let _ = stream.write_all(words.as_bytes()).await;
                }
            });
        }
    });
    (address, Arc::new(client))
}

#[tokio::test]
async fn tls_speaks_what_the_peer_chooses() {
    let ask = async |alpn: &[&str], protocol, name: &'static str, body: &str| {
        let (address, client) = tls_peer(alpn).await;
        let check = with_body(BodyMatch::Contains(body.into()));
        let mut asker = Asker::new(&check, address);
        asker.target.protocol = protocol;
        asker.target.tls = Some(client);
        asker.target.server_name = ServerName::try_from(name).unwrap();
        asker.ask(ample()).await
    };
    let name = "shop.example";
    assert_eq!(
        ask(&["h2"], Protocol::Http1, name, "HTTP/2").await,
        "*+ HTTP 200"
    );
    assert_eq!(
        ask(&[], Protocol::Http1, name, "HTTP/1").await,
        "*+ HTTP 200"
    );
    assert_eq!(
        ask(&["h2"], Protocol::Http2, name, "https://").await,
        "*+ HTTP 200"
    );
    assert_eq!(
        ask(&[], Protocol::Http2, name, "").await,
        "- TLS: the peer does not offer h2"
    );
    let words = ask(&[], Protocol::Http1, "other.example", "").await;
    assert!(
        words.starts_with("- TLS: invalid peer certificate"),
        "{words}"
    );
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_is_told_apart() {
    let (_, client) = tls_peer(&[]).await;
    let mut asker = Asker::new(&healthz(), "127.0.0.1:1".parse().unwrap());
    // Takes the connection into its queue and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    asker.target.address = listener.local_addr().unwrap();
    asker.target.tls = Some(client);
    assert_eq!(asker.ask(short()).await, "- no TLS handshake within 500ms");
}
