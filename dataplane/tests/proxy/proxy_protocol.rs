//! Load balancers that pass connections on, and say whose they are.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Hale, Origin, Shop};

const GET: &str = "GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n";

/// Answers with what Hale says of the client.
async fn told() -> Origin {
    Origin::http1(|request: Request<Incoming>| async move {
        let client = request.headers()["x-forwarded-for"].to_str().unwrap();
        let text = format!("<{client}>");
        Response::new(Full::new(Bytes::from(text)))
    })
    .await
}

fn serve(origin: &Origin, proxies: &str) -> Hale {
    Hale::with(Shop::of(&[origin.address]).config(), |options| {
        options.proxy_protocol = true;
        options.trusted_proxies = vec![proxies.parse().unwrap()];
    })
}

/// All that comes back.
async fn send(hale: &Hale, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(hale.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in parts {
        // It may be closed already.
        let _ = stream.write_all(part).await;
        let _ = stream.flush().await;
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn version_2(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([198, 51, 100, 1, 15, 160, 1, 187]);
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_the_one_that_the_header_names() {
    let origin = told().await;
    let hale = serve(&origin, "127.0.0.0/8");
    let request = format!("{GET}x-forwarded-for: 203.0.113.9\r\n\r\n");
    let v1 = "PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\r\n";
    let whole = format!("{v1}{request}");
    let answer = send(&hale, &[whole.as_bytes()]).await;
    assert!(
        answer.contains("<192.0.2.1>"),
        "not what the client says: {answer}"
    );
    let answer = send(&hale, &[&version_2([192, 0, 2, 2]), request.as_bytes()]).await;
    assert!(answer.contains("<192.0.2.2>"), "{answer}");
    let bytes: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
    assert!(
        send(&hale, &bytes).await.contains("<192.0.2.1>"),
        "byte by byte"
    );
    // For nobody: under the balancer's own address, and it is not believed.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [&local[..], b"PROXY UNKNOWN\r\n"] {
        let answer = send(&hale, &[header, request.as_bytes()]).await;
        assert!(answer.contains("<127.0.0.1>"), "{answer}");
    }
    // The client is a trusted proxy itself.
    let header = version_2([127, 0, 0, 7]);
    let answer = send(&hale, &[&header, request.as_bytes()]).await;
    assert!(answer.contains("<203.0.113.9, 127.0.0.7>"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_lacks_it_is_closed() {
    let origin = told().await;
    let hale = serve(&origin, "127.0.0.0/8");
    let request = format!("{GET}\r\n");
    for header in ["", "PROXY TCP4 nonsense\r\n", "PROXY TCP4 192.0.2.1"] {
        let whole = format!("{header}{request}");
        assert_eq!(send(&hale, &[whole.as_bytes()]).await, "", "{header:?}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_say_who_it_is() {
    let origin = told().await;
    let hale = serve(&origin, "192.0.2.0/24");
    let request = format!("{GET}\r\n");
    assert!(
        send(&hale, &[request.as_bytes()])
            .await
            .contains("<127.0.0.1>")
    );
    let whole = format!("PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\r\n{request}");
    let answer = send(&hale, &[whole.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(origin.connections(), 1);
}
