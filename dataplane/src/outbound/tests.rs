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

const HERE: Reach = Reach {
    loopback: true,
    plain: false,
};
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
    let client = Client::new(&url, Some(&server.roots), HERE).unwrap();
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
        let client = Client::new(&url, roots, HERE).unwrap();
        let error = client.ask(get("/"), &LIMITS).await.unwrap_err();
        assert!(matches!(error, OutboundError::Tls(..)), "{url}: {error}");
    }
}

#[tokio::test]
async fn the_head_says_host_and_redirects_are_answers() {
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nx-asked: {head}\r\n\r\n";
    let server = server(false, moved).await;
    let client = Client::new(&format!("http://{}/a", server.address), None, HERE).unwrap();
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
        let client = Client::new(&url, None, HERE).unwrap();
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
        let client = Client::new(&format!("http://{}/", server.address), None, HERE).unwrap();
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
    let client = Client::new(&format!("http://{}/", server.address), None, HERE).unwrap();
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
            loopback: false,
            plain: true,
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
fn addresses_that_are_never_asked() {
    let everywhere = Reach {
        loopback: true,
        plain: true,
    };
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "::",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        // RFC 8215, with each length of RFC 6052 §2.2 that fits.
        "64:ff9b:1::169.254.169.254",
        "64:ff9b:1:ffff:0:0:a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "64:ff9b:1:a9:fe:a9fe::",
        "64:ff9b:1:0:a9:fea9:fe00:0",
        "64:ff9b:1::100.100.100.200",
        "2002:a9fe:a9fe::1",
        "::ffff:100.100.100.200",
        "::ffff:0:169.254.169.254",
    ] {
        assert!(
            everywhere.check(address.parse().unwrap(), true).is_err(),
            "{address}"
        );
    }
}

#[test]
fn addresses_that_are_asked_where_they_may_be() {
    let everywhere = Reach {
        loopback: true,
        plain: true,
    };
    let strict = Reach::default();
    for address in [
        "127.0.0.1",
        "127.8.9.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
    ] {
        assert!(
            everywhere.check(address.parse().unwrap(), false).is_ok(),
            "{address}"
        );
        assert!(
            strict.check(address.parse().unwrap(), true).is_err(),
            "{address}"
        );
    }
    for address in [
        "10.0.0.1",
        "192.168.1.1",
        "203.0.113.7",
        "fd00::1",
        "2001:db8::1",
        "64:ff9b:1::203.0.113.7",
        "64:ff9b:1:cb00:71:700::",
        "fd00:ec3::254",
    ] {
        let address = address.parse().unwrap();
        assert!(strict.check(address, true).is_ok(), "{address}");
        assert!(strict.check(address, false).is_err(), "{address}");
        assert!(HERE.check(address, false).is_err(), "{address}");
    }
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
