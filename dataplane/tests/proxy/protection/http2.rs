//! HTTP/2 frame by frame: pseudo headers as no client library writes them, and streams beside each other.

use std::{collections::BTreeMap, time::Duration};

use hale_dataplane::config::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{EXHAUSTED, config, policies, reached};
use crate::{support::Hale, wire::Recorder};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// How a stream was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Ok,
    Refused,
    Reset,
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// HPACK without table and Huffman: names and values as they are.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).unwrap();
            assert!(length < 127, "one byte of length is enough for tests");
            out.push(length);
            out.extend_from_slice(text.as_bytes());
        }
    }
    out
}

/// Sends requests (each a list of fields), all on one connection and at once, and tells how each was answered.
/// Streams that the connection's end left without an answer count as reset.
pub(super) async fn ask(hale: &Hale, requests: &[Vec<(&str, &str)>]) -> Vec<Told> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    frame(&mut out, SETTINGS, 1, 0, &[]);
    for (index, fields) in requests.iter().enumerate() {
        let stream = u32::try_from(index * 2 + 1).unwrap();
        // Complete in one frame, and nothing follows. CONNECT is left open.
        let flags = match fields.contains(&(":method", "CONNECT")) {
            true => 4,
            false => 5,
        };
        frame(&mut out, HEADERS, flags, stream, &block(fields));
    }
    let mut connection = TcpStream::connect(hale.address).await.unwrap();
    connection.write_all(&out).await.unwrap();
    let reading = read_answers(&mut connection, requests.len());
    let answers = tokio::time::timeout(Duration::from_secs(10), reading).await;
    let answers = answers.unwrap_or_else(|_| panic!("no answer to {requests:?}"));
    (0..requests.len())
        .map(|index| {
            let stream = u32::try_from(index * 2 + 1).unwrap();
            answers.get(&stream).copied().unwrap_or(Told::Reset)
        })
        .collect()
}

async fn read_answers(connection: &mut TcpStream, wanted: usize) -> BTreeMap<u32, Told> {
    let mut answers = BTreeMap::new();
    let mut head = [0; 9];
    while answers.len() < wanted && connection.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length as usize];
        if connection.read_exact(&mut payload).await.is_err() {
            break;
        }
        match head[3] {
            // 0x88 is `:status: 200` in HPACK's static table; a change of the dynamic table may come first.
            HEADERS => {
                let first = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                let told = match first {
                    Some(0x88) => Told::Ok,
                    _ => Told::Refused,
                };
                answers.entry(stream).or_insert(told);
            }
            RST_STREAM => {
                answers.entry(stream).or_insert(Told::Reset);
            }
            GOAWAY => break,
            _ => {}
        }
    }
    answers
}

/// A GET of a path.
pub(super) fn get(path: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "shop.test"),
        (":path", path),
    ]
}

/// Requests that name `/admin` in ways of HTTP/2.
fn odd() -> Vec<Vec<(&'static str, &'static str)>> {
    [odd_paths(), odd_fields()].concat()
}

/// In `:path` alone.
fn odd_paths() -> Vec<Vec<(&'static str, &'static str)>> {
    [
        "/admin",
        "//admin",
        "/x/../admin",
        "/%61dmin",
        "/admin;x",
        "/;/admin",
        "/x/..%3B/admin",
        "/public/..;/admin",
        "/admin%2f",
        "/admin#x",
        "/admin\\",
        "/admin\u{0}",
        "/ admin",
        "/admin HTTP/1.1\r\nx: ",
        "admin",
        "*",
        "",
        "http://shop.test/admin",
        "//shop.test/admin",
        "http://other.test/admin",
    ]
    .map(get)
    .to_vec()
}

/// In other fields, too.
fn odd_fields() -> Vec<Vec<(&'static str, &'static str)>> {
    let with = |more: &[(&'static str, &'static str)]| {
        let mut fields = vec![(":method", "GET"), (":scheme", "http")];
        fields.extend_from_slice(more);
        fields
    };
    vec![
        // Without `:authority`, with `host`, with both, with two.
        with(&[(":path", "/admin"), ("host", "shop.test")]),
        with(&[(":path", "/admin")]),
        with(&[
            (":authority", "other.test"),
            (":path", "/admin"),
            ("host", "shop.test"),
        ]),
        with(&[
            (":authority", "shop.test"),
            (":path", "/admin"),
            ("host", "other.test"),
        ]),
        with(&[
            (":authority", "shop.test"),
            (":authority", "other.test"),
            (":path", "/admin"),
        ]),
        with(&[
            (":authority", "shop.test"),
            (":path", "/open"),
            (":path", "/admin"),
        ]),
        with(&[(":authority", "u:p@shop.test"), (":path", "/admin")]),
        with(&[(":authority", "SHOP.test."), (":path", "/admin")]),
        with(&[(":authority", "shop.test/admin"), (":path", "/")]),
        with(&[
            (":authority", "shop.test"),
            (":path", "/admin"),
            ("connection", "close"),
        ]),
        with(&[
            (":authority", "shop.test"),
            (":path", "/admin"),
            ("transfer-encoding", "chunked"),
        ]),
        // Pseudo headers behind others, and such that do not exist.
        with(&[(":authority", "shop.test"), ("x", "y"), (":path", "/admin")]),
        with(&[
            (":authority", "shop.test"),
            (":path", "/admin"),
            (":status", "200"),
        ]),
        with(&[
            (":authority", "shop.test"),
            (":path", "/admin"),
            (":protocol", "websocket"),
        ]),
        // A line break in a value must not become one on the way to an HTTP/1 origin.
        with(&[
            (":authority", "shop.test"),
            (":path", "/open"),
            (
                "x",
                "y\r\n\r\nGET /admin HTTP/1.1\r\nhost: shop.test\r\n\r\n",
            ),
        ]),
        with(&[
            (":authority", "shop.test"),
            (":path", "/open"),
            ("x\r\n\r\nget /admin http/1.1", "y"),
        ]),
    ]
}

/// Methods of HTTP/2, extended CONNECT among them.
fn methods() -> Vec<Vec<(&'static str, &'static str)>> {
    let mut all: Vec<_> = [
        "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "FOO", "TRACE",
    ]
    .iter()
    .map(|method| {
        let mut fields = get("/admin");
        fields[0].1 = method;
        fields
    })
    .collect();
    for protocol in ["websocket", "WebSocket", "connect-udp", ""] {
        for path in ["/admin", "//admin", "/admin;x", "/x/..%3B/admin"] {
            let mut fields = get(path);
            fields[0].1 = "CONNECT";
            fields.insert(1, (":protocol", protocol));
            all.push(fields);
        }
    }
    all.push(vec![(":method", "CONNECT"), (":authority", "shop.test:80")]);
    all.push(vec![
        (":method", "CONNECT"),
        (":authority", "shop.test"),
        (":path", "/admin"),
    ]);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pseudo_header_gets_past_a_policy() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    for (name, policy) in policies() {
        if name == EXHAUSTED {
            continue;
        }
        hale.dataplane.publish(config(&recorder, &policy));
        assert_eq!(ask(&hale, &[get("/open")]).await, [Told::Ok], "{name}");
        assert_eq!(
            ask(&hale, &[get("/admin")]).await,
            [Told::Refused],
            "{name}"
        );
        for fields in odd().into_iter().chain(methods()) {
            let told = ask(&hale, std::slice::from_ref(&fields)).await;
            let admin = fields
                .iter()
                .any(|(name, path)| *name == ":path" && *path == "/admin");
            assert!(!(admin && told == [Told::Ok]), "{name}: {fields:?}");
        }
        assert!(
            reached(&recorder).is_empty(),
            "{name}: {:#?}",
            reached(&recorder)
        );
    }
}

/// Streams of one connection share nothing but the connection.
#[tokio::test(flavor = "multi_thread")]
async fn parallel_streams_do_not_lend_each_other_their_way() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    for (name, policy) in policies() {
        if name == EXHAUSTED {
            continue;
        }
        hale.dataplane.publish(config(&recorder, &policy));
        let paths = ["/open", "/admin", "/x", "//admin", "/", "/admin/x"];
        let requests: Vec<_> = (0..60)
            .map(|index| get(paths[index % paths.len()]))
            .collect();
        let told = ask(&hale, &requests).await;
        for (index, told) in told.iter().enumerate() {
            let wanted = match index % 2 {
                0 => Told::Ok,
                _ => Told::Refused,
            };
            assert_eq!(*told, wanted, "{name}: {}", paths[index % paths.len()]);
        }
        assert!(
            reached(&recorder).is_empty(),
            "{name}: {:#?}",
            reached(&recorder)
        );
    }
}
