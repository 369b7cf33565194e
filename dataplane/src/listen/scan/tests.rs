use std::{
    cell::RefCell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Malformed, Scan};
use crate::listen::guard::{CoarseClock, Guard, Guarded};

/// What is found, however the bytes are cut: the first head with both headers, or where the chunks are malformed.
fn scan(bytes: &str) -> Result<Option<u64>, usize> {
    let mut whole = Scan::default();
    let found = whole.feed(bytes.as_bytes());
    for cut in 0..bytes.len() {
        let (one, two) = bytes.as_bytes().split_at(cut);
        let mut scan = Scan::default();
        let cut_found = scan.feed(one).and_then(|()| {
            let behind = |error: Malformed| Malformed { at: error.at + cut };
            scan.feed(two).map_err(behind)
        });
        assert_eq!(cut_found, found, "{bytes:?} at {cut}");
        assert_eq!(scan.ambiguous(), whole.ambiguous(), "{bytes:?} at {cut}");
    }
    found.map(|()| whole.ambiguous()).map_err(|error| error.at)
}

const TE: &str = "Transfer-Encoding: chunked\r\n";
const CL: &str = "content-LENGTH: 5\r\n";

#[test]
fn both_headers_are_seen_wherever_they_are() {
    let other = "host: a\r\nx-content-length: 1\r\nx-a-very-long-name-transfer-encoding: b\r\n";
    for line in [
        "POST /a:b HTTP/1.1\r\n",
        "POST / HTTP/1.1\r\n",
        "A / HTTP/1.1\n",
    ] {
        for before in ["", "\r\n", "\r\n\r\n", "\n"] {
            let head = |lines: &[&str]| format!("{before}{line}{}\r\n", lines.concat());
            for both in [
                head(&[TE, other, CL]),
                head(&[other, CL, TE]),
                head(&[CL, TE]),
                head(&[TE, CL]),
            ] {
                assert_eq!(scan(&both), Ok(Some(1)), "{both:?}");
                assert_eq!(scan(&both.replace("\r\n", "\n")), Ok(Some(1)));
                let behind = format!("GET / HTTP/1.1\r\nhost: a\r\n\r\n{both}");
                assert_eq!(scan(&behind), Ok(Some(2)), "{behind:?}");
                let behind = format!("POST / HTTP/1.1\r\n{CL}\r\nhello{both}");
                assert_eq!(scan(&behind), Ok(Some(2)), "{behind:?}");
                let behind = format!("POST / HTTP/1.1\r\n{TE}\r\n5\r\nhello\r\n0\r\n\r\n{both}");
                assert_eq!(scan(&behind), Ok(Some(2)), "{behind:?}");
            }
            assert_eq!(scan(&head(&[CL, CL, other])), Ok(None));
            assert_eq!(scan(&head(&[TE, other])), Ok(None));
        }
    }
}

#[test]
fn bodies_are_not_taken_for_heads() {
    let body = format!("{TE}{CL}\r\nPOST / HTTP/1.1\r\n{TE}{CL}\r\n");
    let length = body.len();
    let sized = format!("POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}");
    assert_eq!(scan(&sized), Ok(None));
    let chunked = format!("POST / HTTP/1.1\r\n{TE}\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
    assert_eq!(scan(&chunked), Ok(None));
}

#[test]
fn chunks_are_what_the_rfc_says() {
    let head = format!("POST / HTTP/1.1\r\n{TE}\r\n");
    let end = "0\r\n\r\n";
    for good in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "0;a\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "05\r\nhello\r\n0\r\n\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\r\nhello\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5;a=b;c;d=\"e \\\" ; \u{e9}\"\r\nhello\r\n0\r\n\r\n",
        "5 ; a = b\t;c\r\nhello\r\n0\r\n\r\n",
        "A\r\nhellohello\r\n0\r\n\r\n",
        "0\r\nx: y\r\nz:\r\n\r\n",
        "0\r\nx: y\tz \u{e9}\r\n\r\n",
    ] {
        assert_eq!(scan(&format!("{head}{good}")), Ok(None), "{good:?}");
    }
    for (bad, at) in [
        ("0\r\n\n", 3),
        ("0\n\r\n", 1),
        ("0\r\r\n", 2),
        ("\r\n", 0),
        ("x\r\n", 0),
        ("-5\r\n", 0),
        ("+5\r\n", 0),
        ("0x5\r\n", 1),
        (" 5\r\n", 0),
        ("00000000000000005\r\n", 16),
        ("5;\r\nhello\r\n", 2),
        ("5;bad[=x\r\nhello\r\n", 5),
        ("5 \r\nhello\r\n", 2),
        ("5 6\r\nhello\r\n", 2),
        ("5\0\r\nhello\r\n", 1),
        ("5;a\0\r\nhello\r\n", 3),
        ("5;a=\r\nhello\r\n", 4),
        ("5;a=\"b\r\nhello\r\n", 6),
        ("5;a=\"\0\"\r\nhello\r\n", 5),
        ("5;a=\"b\"c\r\nhello\r\n", 7),
        ("5;a\nhello\r\n", 3),
        ("5;=b\r\nhello\r\n", 2),
        ("5\r\nhello0\r\n", 8),
        ("5\r\nhello\n0\r\n", 8),
        ("5\r\nhello\rx", 9),
        ("0\r\nx\r\n\r\n", 4),
        ("0\r\nx y: z\r\n\r\n", 4),
        ("0\r\n: z\r\n\r\n", 3),
        ("0\r\n x: z\r\n\r\n", 3),
        ("0\r\nx: \0\r\n\r\n", 6),
        ("0\r\nx: y\n\r\n", 7),
        ("0\r\n\r\0", 4),
    ] {
        let bytes = format!("{head}{bad}{end}");
        assert_eq!(scan(&bytes), Err(head.len() + at), "{bad:?}");
    }
}

/// A client whose bytes come in these pieces, and that goes away behind them.
struct Pieces(Vec<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        cx.waker().wake_by_ref();
        if let Some(mut piece) = self.0.pop() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A request as hyper served it: whether it was known as ambiguous, and its body.
type Served = (bool, Result<Vec<u8>, ()>);

/// What hyper serves of these pieces.
async fn served(pieces: Vec<Vec<u8>>) -> Vec<Served> {
    let clock = Arc::new(CoarseClock::new());
    let guard = Guard::new(&clock);
    let served: Rc<RefCell<Vec<Served>>> = Rc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let (served, guard) = (Rc::clone(&served), Arc::clone(&guard));
        async move {
            guard.begin_request();
            let ambiguous = guard.is_ambiguous();
            let body = request.into_body().collect().await;
            let body = body.map(|body| body.to_bytes().to_vec()).map_err(drop);
            served.borrow_mut().push((ambiguous, body));
            guard.end_request();
            Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let io = TokioIo::new(Guarded::new(Pieces(pieces), Arc::clone(&guard), Vec::new()));
    let _ = http1::Builder::new()
        .half_close(true)
        .serve_connection(io, service)
        .await;
    served.take()
}

#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    ambiguous: bool,
    body: Vec<u8>,
}

prop_compose! {
    fn request()(
        blank in prop::sample::select(&["", "\r\n", "\n", "\r\n\r\n"][..]),
        line in prop::sample::select(&["POST /a:b HTTP/1.1", "P / HTTP/1.1", "GET /%20 HTTP/1.1"][..]),
        others in prop::collection::vec(prop::sample::select(&["host: a", "x-content-length: 9", "a: transfer-encoding: b", "content-lengths: 1"][..]), 0..3),
        end in prop::sample::select(&["\r\n", "\n"][..]),
        kind in 0..4,
        swapped: bool,
        body in prop::collection::vec(any::<u8>(), 0..40),
        extension in prop::sample::select(&["", ";a", " ;a=b", ";a=\"\\\"\""][..]),
        trailer in prop::sample::select(&["", "x: y\r\n"][..]),
    ) -> Sent {
        let (chunked, ambiguous) = (kind > 1, kind == 3);
        let length = format!("Content-Length: {}", body.len());
        let mut lines = others;
        if kind == 1 || ambiguous {
            lines.push(&length);
        }
        if chunked {
            lines.insert(if swapped { 0 } else { lines.len() }, "transfer-encoding: chunked");
        }
        let mut bytes = format!("{blank}{line}{end}").into_bytes();
        for line in lines {
            bytes.extend(line.bytes().chain(end.bytes()));
        }
        bytes.extend(end.bytes());
        let body = if kind == 0 { Vec::new() } else { body };
        if chunked {
            for chunk in body.chunks(7) {
                bytes.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
                bytes.extend(chunk.iter().copied().chain(*b"\r\n"));
            }
            bytes.extend(format!("0{extension}\r\n{trailer}\r\n").bytes());
        } else {
            bytes.extend(&body);
        }
        Sent { bytes, ambiguous, body }
    }
}

/// Cut into pieces of these lengths, the last first.
fn cut(bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = behind;
    }
    pieces.reverse();
    pieces
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

proptest! {
    /// hyper and the scan read one stream alike, however it is cut.
    #[test]
    fn every_request_is_known_by_its_number(
        requests in prop::collection::vec(request(), 1..6),
        lengths in prop::collection::vec(1_usize..90, 1..5),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| request.bytes.clone()).collect();
        let served = run(served(cut(&bytes, &lengths)));
        let first = requests.iter().position(|request| request.ambiguous);
        let wanted: Vec<Served> = requests
            .iter()
            .enumerate()
            // hyper itself takes nothing more behind such a request.
            .take_while(|(at, _)| first.is_none_or(|first| *at <= first))
            .map(|(at, request)| (first == Some(at), Ok(request.body.clone())))
            .collect();
        prop_assert_eq!(served, wanted);
    }

    /// What hyper makes of chunks that are damaged somewhere is never more than what the scan has let through.
    #[test]
    fn damaged_chunks_are_errors_or_what_both_read(
        request in request(),
        at in any::<prop::sample::Index>(),
        byte: u8,
        lengths in prop::collection::vec(1_usize..90, 1..5),
    ) {
        let mut bytes = request.bytes;
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mut scan = Scan::default();
        let fine = scan.feed(&bytes).is_ok();
        let served = run(served(cut(&bytes, &lengths)));
        for (_, body) in &served {
            prop_assert!(fine || body.is_err() || served.len() > 1, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
