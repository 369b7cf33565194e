//! Real sockets on loopback, and the addresses that are never asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

fn here() -> Reach {
    Reach {
        loopback: true,
        ..Reach::default()
    }
}
const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(5),
    head: 8192,
    body: 1000,
};

/// Reads heads and writes `answer` after each; counts connections.
async fn serve<S>(mut stream: S, answer: String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let answer = answer.replace("{head}", &head.replace("\r\n", "|"));
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    roots: Roots,
}

async fn server(tls: bool, answer: impl Into<String>) -> Server {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (answer, counter) = (answer.into(), Arc::clone(&connections));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                if !tls {
                    serve(stream, answer).await;
                } else if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, answer).await;
                }
            });
        }
    });
    Server {
        address,
        connections,
        roots: Roots::parse(made.cert.pem().as_bytes()).unwrap(),
    }
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}

fn hello(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn questions_over_tls_reuse_a_connection() {
    let server = server(true, hello("hello")).await;
    let url = format!("https://localhost:{}/keys?x=y", server.address.port());
    let client = Client::new(&url, Some(&server.roots), here()).unwrap();
    for _ in 0..3 {
        let answer = client.ask(get("/keys"), &LIMITS).await.unwrap();
        assert_eq!(answer.body(), "hello");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    assert_eq!(client.origin().path, "/keys?x=y");
    assert_eq!(
        format!("{client:?}"),
        format!("Client(https://localhost:{})", server.address.port())
    );
}

#[tokio::test]
async fn certificates_are_checked() {
    let server = server(true, hello("hello")).await;
    let port = server.address.port();
    for (url, roots) in [
        (format!("https://localhost:{port}/"), None),
        (format!("https://127.0.0.1:{port}/"), Some(&server.roots)),
    ] {
        let client = Client::new(&url, roots, here()).unwrap();
        let error = client.ask(get("/"), &LIMITS).await.unwrap_err();
        assert!(matches!(error, OutboundError::Tls(..)), "{url}: {error}");
    }
}

#[tokio::test]
async fn the_head_says_host_and_redirects_are_answers() {
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nx-asked: {head}\r\n\r\n";
    let server = server(false, moved).await;
    let client = Client::new(&format!("http://{}/a", server.address), None, here()).unwrap();
    let answer = client.ask(get("/b?c=d"), &LIMITS).await.unwrap();
    assert_eq!(answer.status(), 302);
    let asked = answer.headers()["x-asked"].to_str().unwrap();
    assert!(asked.starts_with("GET /b?c=d HTTP/1.1|"), "{asked}");
    assert!(
        asked.contains(&format!("host: {}|", server.address)),
        "{asked}"
    );
}

#[tokio::test]
async fn answers_have_bounds() {
    let large = server(false, hello(&"x".repeat(1001))).await;
    let endless = server(
        false,
        format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(9000)),
    )
    .await;
    let silent = server(false, "").await;
    let ask = async |server: &Server, limits: Limits| {
        let url = format!("http://{}/", server.address);
        let client = Client::new(&url, None, here()).unwrap();
        client.ask(get("/"), &limits).await.unwrap_err()
    };
    let error = ask(&large, LIMITS).await;
    assert!(matches!(error, OutboundError::TooLarge(1000)), "{error}");
    let error = ask(&endless, LIMITS).await;
    assert!(matches!(error, OutboundError::Http(_)), "{error}");
    let timeout = Duration::from_millis(20);
    let error = ask(&silent, Limits { timeout, ..LIMITS }).await;
    assert!(matches!(error, OutboundError::Timeout(_)), "{error}");
}

/// Whatever becomes of the body.
#[tokio::test]
async fn a_head_is_an_answer_once_it_is_there() {
    for (answer, is_kept) in [
        (hello("hello"), true),
        (hello(""), true),
        (hello(&"x".repeat(1001)), false),
        (
            "HTTP/1.1 401 No\r\ncontent-length: 99\r\n\r\n".into(),
            false,
        ),
        (
            "HTTP/1.1 403 No\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n".into(),
            false,
        ),
    ] {
        let server = server(false, &*answer).await;
        let client = Client::new(&format!("http://{}/", server.address), None, here()).unwrap();
        let head = client.ask_head(get("/"), &LIMITS).await.unwrap();
        assert_eq!(head.status.as_str(), &answer[9..12]);
        while is_kept && client.idle.len() == 0 {
            tokio::task::yield_now().await;
        }
        client.ask_head(get("/"), &LIMITS).await.unwrap();
        let connections = server.connections.load(Ordering::SeqCst);
        assert_eq!(connections, if is_kept { 1 } else { 2 }, "{answer}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let close = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
    let server = server(false, close).await;
    let client = Client::new(&format!("http://{}/", server.address), None, here()).unwrap();
    for _ in 0..3 {
        assert_eq!(client.ask(get("/"), &LIMITS).await.unwrap().body(), "hi");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn names_are_held_against_the_rules_after_they_are_looked_up() {
    let server = server(false, hello("hello")).await;
    let port = server.address.port();
    for host in ["localhost", "127.0.0.1", "2130706433", "[::ffff:127.0.0.1]"] {
        let reach = Reach {
            plain: true,
            ..Reach::default()
        };
        let url = format!("http://{host}:{port}/");
        let Ok(client) = Client::new(&url, None, reach) else {
            continue;
        };
        let error = client.ask(get("/"), &LIMITS).await.unwrap_err();
        let refused = matches!(error, OutboundError::Address(..) | OutboundError::Lookup(_));
        assert!(refused, "{host}: {error}");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[test]
fn urls_that_cannot_be_used() {
    for url in [
        "",
        "shop.test",
        "/keys",
        "ftp://shop.test/",
        "https://",
        "https://a:b@shop.test/",
        "https://user@shop.test/",
        "https://shop.test/#x",
        "https://shop.test:0/",
        "https://shop.test:99999/",
        "https://shop.test:/",
        "https://sh op.test/",
        "file:///etc/passwd",
        "https://*/",
    ] {
        assert!(Origin::parse(url).is_err(), "{url}");
    }
    let origin = Origin::parse("https://[2001:db8::1]:8443").unwrap();
    assert_eq!(origin.to_string(), "https://[2001:db8::1]:8443");
    assert_eq!(origin.path, "/");
    assert_eq!(
        Origin::parse("https://shop.test?a=b").unwrap().path,
        "/?a=b"
    );
    assert!(Client::new("http://shop.test/", None, Reach::default()).is_err());
}
