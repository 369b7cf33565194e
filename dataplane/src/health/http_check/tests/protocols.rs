//! HTTP/2 and TLS, against hyper's and rustls' own servers.

use std::convert::Infallible;

use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{config::Protocol, health::origin::TlsPeer};

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

/// A TLS peer that offers `alpn` and says which protocol was chosen.
async fn tls_peer(alpn: &[&str]) -> TlsPeer {
    TlsPeer::start(alpn, async |mut stream| {
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            serve_http2(stream).await;
        } else {
            let words = answer(200, "HTTP/1");
            let _ = stream.write_all(words.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn tls_speaks_what_the_peer_chooses() {
    let ask = async |alpn: &[&str], protocol, name: &'static str, body: &str| {
        let peer = tls_peer(alpn).await;
        let check = with_body(BodyMatch::Contains(body.into()));
        let mut asker = Asker::new(&check, peer.address);
        asker.target.protocol = protocol;
        asker.target.tls = Some(peer.client(&["h2", "http/1.1"]));
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
}

#[tokio::test]
async fn faults_of_tls_say_what_to_mend() {
    let peer = tls_peer(&[]).await;
    let mut asker = Asker::new(&healthz(), peer.address);
    asker.target.tls = Some(peer.client(&[]));
    asker.target.server_name = ServerName::try_from("other.example").unwrap();
    assert_eq!(
        asker.ask(ample()).await,
        "- TLS: the peer's certificate is for shop.example, not for other.example"
    );
    asker.target.tls = Some(TlsPeer::distrustful());
    asker.target.server_name = TlsPeer::name();
    assert_eq!(
        asker.ask(ample()).await,
        "- TLS: the peer's certificate is not trusted: none of the CAs that are trusted signed it"
    );

    let bad = "HTTP/1.1 400 Bad Request\r\n\r\n";
    for (address, words) in [
        (
            confused_by_tls(Some(bad)).await,
            "- TLS: the peer speaks plain text, not TLS",
        ),
        (
            confused_by_tls(None).await,
            "- TLS: connection closed in the handshake; does the port speak TLS?",
        ),
    ] {
        asker.target.address = address;
        assert_eq!(asker.ask(ample()).await, words);
    }

    // The other way round: plain text to a port of TLS.
    asker.target.tls = None;
    asker.target.address = peer.address;
    assert_eq!(
        asker.ask(ample()).await,
        "*- the answer is not HTTP; does the port speak TLS, or HTTP/2?"
    );
}

/// A plain port: says this to whatever begins, or closes.
async fn confused_by_tls(says: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if let Some(says) = says {
                stream.write_all(says.as_bytes()).await.unwrap();
                tokio::spawn(async move { stream.read_u8().await });
            }
        }
    });
    address
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_is_told_apart() {
    let client = TlsPeer::distrustful();
    let mut asker = Asker::new(&healthz(), "127.0.0.1:1".parse().unwrap());
    // Takes the connection into its queue and never says a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    asker.target.address = listener.local_addr().unwrap();
    asker.target.tls = Some(client);
    assert_eq!(asker.ask(short()).await, "- no TLS handshake within 500ms");
}
