//! Bytes on the wire: clients that write what a library would not, and origins that keep what they were
//! sent.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Hale, Origin, Shop};

/// An HTTP/1 origin that keeps every request, byte for byte, and gives the same answer to each.
pub(crate) struct Recorder {
    pub(crate) origin: Origin,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Answers with these bytes; closes the connection after them if they say `close`.
    pub(crate) async fn answering(answer: &'static str) -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = Arc::clone(&seen);
        let origin = Origin::raw(move |mut stream, _| {
            let keep = Arc::clone(&keep);
            async move {
                let mut ahead = Vec::new();
                while let Some(request) = read_request(&mut stream, &mut ahead).await {
                    keep.lock().unwrap().push(request);
                    let _ = stream.write_all(answer.as_bytes()).await;
                    if answer.to_ascii_lowercase().contains("connection: close") {
                        return;
                    }
                }
            }
        })
        .await;
        Self { origin, seen }
    }

    /// Answers 200.
    pub(crate) async fn new() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
    }

    /// A Hale in front of it.
    pub(crate) fn hale(&self) -> Hale {
        Shop::of(&[self.origin.address]).serve()
    }

    /// What it was sent so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request that it was sent.
    pub(crate) fn only(&self) -> String {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.remove(0)
    }
}

/// One request as it came: head, and body by its framing.
async fn read_request(stream: &mut TcpStream, ahead: &mut Vec<u8>) -> Option<String> {
    let head = read_past(stream, ahead, 0, b"\r\n\r\n").await?;
    let lower = String::from_utf8_lossy(&ahead[..head]).to_ascii_lowercase();
    let end = if lower.contains("transfer-encoding: chunked") {
        let last = if ahead[head..].starts_with(b"0\r\n") {
            head
        } else {
            read_past(stream, ahead, head, b"\r\n0\r\n").await? - 3
        };
        read_past(stream, ahead, last, b"\r\n\r\n").await?
    } else {
        let length: usize = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while ahead.len() < head + length {
            if stream.read_buf(ahead).await.ok()? == 0 {
                return None;
            }
        }
        head + length
    };
    let rest = ahead.split_off(end);
    let whole = std::mem::replace(ahead, rest);
    Some(String::from_utf8_lossy(&whole).into_owned())
}

/// Reads until `end` has come after `from`; the position behind it.
async fn read_past(
    stream: &mut TcpStream,
    ahead: &mut Vec<u8>,
    from: usize,
    end: &[u8],
) -> Option<usize> {
    loop {
        let found = ahead[from..]
            .windows(end.len())
            .position(|window| window == end);
        if let Some(at) = found {
            return Some(from + at + end.len());
        }
        if stream.read_buf(ahead).await.ok()? == 0 {
            return None;
        }
    }
}

/// Writes these bytes and reads until the connection ends.
pub(crate) async fn talk(hale: &Hale, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(hale.address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    read_to_end(&mut stream).await
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = async {
        // A reset ends the connection as well as a FIN does.
        while stream.read_buf(&mut all).await.is_ok_and(|read| read > 0) {}
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), read).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(ended.is_ok(), "the connection stays open after {text:?}");
    text
}

/// Reads until this much has come.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let read = read_past(stream, &mut all, 0, end.as_bytes());
    let found = tokio::time::timeout(Duration::from_secs(10), read).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(matches!(found, Ok(Some(_))), "no {end:?} in {text:?}");
    text
}

/// A GET that ends its connection.
pub(crate) fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n{lines}\r\n")
}

/// The status of a response.
pub(crate) fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or("none")
}

/// The values of a header in a message.
pub(crate) fn values<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    let head = message.split("\r\n\r\n").next().unwrap();
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

/// What follows the head.
pub(crate) fn body(message: &str) -> &str {
    message.split_once("\r\n\r\n").unwrap().1
}
