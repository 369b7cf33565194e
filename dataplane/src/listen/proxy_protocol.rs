//! The PROXY protocol, versions 1 and 2: how a load balancer that passes connections on tells whose they are.
//!
//! Only connections from trusted proxies begin with it, and all of theirs do: a header is never guessed, and what a
//! stranger sends under that name is no HTTP. Exactly the header is read, so that TLS or HTTP begins behind it;
//! what is malformed, too long or too late ends the connection without an answer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt};

/// For the whole header.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const LINE: usize = 107;
/// The addresses of version 2, of the longest family. What balancers add behind them (up to 64 KiB) is skipped.
const ADDRESSES: usize = 216;

/// For whom a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// This client.
    For(IpAddr),
    /// The proxy itself, or somebody it has no address of.
    ForNobody,
}

/// Why a header is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("it ended early")]
    Read(#[from] std::io::Error),
    #[error("it is not of the PROXY protocol")]
    Unknown,
    #[error("it is malformed")]
    Malformed,
    #[error("it is too long")]
    TooLong,
}

/// Reads the header, and nothing behind it.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Speaks, HeaderError> {
    // No header of either version is shorter.
    let mut start = [0_u8; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        read_binary(stream).await
    } else if start.starts_with(b"PROXY ") {
        read_line(stream, &start).await
    } else {
        Err(HeaderError::Unknown)
    }
}

async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    start: &[u8],
) -> Result<Speaks, HeaderError> {
    let mut line = Vec::with_capacity(LINE);
    line.extend_from_slice(start);
    // The end may not be overrun, and is not known before: one byte at a time, once for each connection.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE {
            return Err(HeaderError::TooLong);
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line).map_err(|_| HeaderError::Malformed)?;
    parse_line(text).ok_or(HeaderError::Malformed)
}

fn parse_line(line: &str) -> Option<Speaks> {
    let mut words = line.strip_suffix("\r\n")?.split(' ');
    if words.next() != Some("PROXY") {
        return None;
    }
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Speaks::ForNobody);
    }
    let (source, destination) = (words.next()?, words.next()?);
    let (ports, end) = ([words.next()?, words.next()?], words.next());
    let client: IpAddr = match family {
        "TCP4" => {
            let _: Ipv4Addr = destination.parse().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            let _: Ipv6Addr = destination.parse().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    let is_port = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
            && text.parse::<u16>().is_ok()
    };
    (end.is_none() && ports.into_iter().all(is_port)).then_some(Speaks::For(client))
}

async fn read_binary(stream: &mut (impl AsyncRead + Unpin)) -> Result<Speaks, HeaderError> {
    let mut fixed = [0_u8; 4];
    stream.read_exact(&mut fixed).await?;
    let [command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let mut addresses = [0; ADDRESSES];
    let addresses = addresses
        .get_mut(..length.min(ADDRESSES))
        .unwrap_or_default();
    stream.read_exact(addresses).await?;
    let mut skipped = [0; 512];
    let mut left = length - addresses.len();
    while left > 0 {
        let piece = left.min(skipped.len());
        let piece = skipped.get_mut(..piece).unwrap_or_default();
        stream.read_exact(piece).await?;
        left -= piece.len();
    }
    parse_binary(command, family, addresses).ok_or(HeaderError::Malformed)
}

fn parse_binary(command: u8, family: u8, rest: &[u8]) -> Option<Speaks> {
    match command {
        // The proxy for itself: a check of its own.
        0x20 => return Some(Speaks::ForNobody),
        0x21 => {}
        _ => return None,
    }
    // Source, destination, and a port of each; what follows is for those who know it.
    match family {
        0x11 => {
            let (client, others) = rest.split_first_chunk::<4>()?;
            (others.len() >= 8).then(|| Speaks::For(Ipv4Addr::from(*client).into()))
        }
        0x21 => {
            let (client, others) = rest.split_first_chunk::<16>()?;
            (others.len() >= 20).then(|| Speaks::For(Ipv6Addr::from(*client).into()))
        }
        // Unspecified, and sockets of one machine; datagrams do not come over TCP.
        0x00 | 0x31 => Some(Speaks::ForNobody),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    /// What is read of these bytes, and what is left.
    fn of(mut bytes: &[u8]) -> (Option<Speaks>, &[u8]) {
        // All that will ever come is there.
        let read = read(&mut bytes).now_or_never().unwrap();
        (read.ok(), bytes)
    }

    fn client(text: &str) -> Option<Speaks> {
        Some(Speaks::For(text.parse().unwrap()))
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family, length[0], length[1]]);
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn lines_of_version_1() {
        for (line, wanted) in [
            (
                "PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\r\n",
                client("192.0.2.1"),
            ),
            (
                "PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n",
                client("2001:db8::1"),
            ),
            ("PROXY UNKNOWN\r\n", Some(Speaks::ForNobody)),
            ("PROXY UNKNOWN ff ff 1 2\r\n", Some(Speaks::ForNobody)),
            ("PROXY TCP4 2001:db8::1 198.51.100.1 4000 443\r\n", None),
            ("PROXY TCP6 192.0.2.1 198.51.100.1 4000 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 nonsense 4000 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4000\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4000 443 5\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4000 65536\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 04000 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4000 \r\n", None),
            ("PROXY TCP4  192.0.2.1 198.51.100.1 4000 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 4000 443\n", None),
            ("PROXY UDP4 192.0.2.1 198.51.100.1 4000 443\r\n", None),
            ("proxy TCP4 192.0.2.1 198.51.100.1 4000 443\r\n", None),
            ("GET / HTTP/1.1\r\n\r\n", None),
        ] {
            let bytes = format!("{line}GET /");
            let (speaks, left) = of(bytes.as_bytes());
            assert_eq!(speaks, wanted, "{line:?}");
            assert!(speaks.is_none() || left == b"GET /", "{line:?}");
        }
        let long = |length: usize| {
            let line = format!("PROXY UNKNOWN {}\r\n", "f".repeat(length - 16));
            assert_eq!(line.len(), length);
            of(line.as_bytes()).0
        };
        assert_eq!(long(LINE), Some(Speaks::ForNobody));
        assert_eq!(long(LINE + 1), None);
    }

    #[test]
    fn headers_of_version_2() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 15, 160, 1, 187];
        let mut v6 = [0_u8; 36];
        v6[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6[15] = 1;
        let with_more = [&v4[..], &[4, 0, 1, 0]].concat();
        let with_much_more = [&v4[..], &[0; 65_000]].concat();
        let nobody = Some(Speaks::ForNobody);
        for (command, family, rest, wanted) in [
            (0x21, 0x11, &v4[..], client("192.0.2.1")),
            (0x21, 0x11, &with_more, client("192.0.2.1")),
            (0x21, 0x21, &v6, client("2001:db8::1")),
            (0x20, 0x00, &[], nobody),
            (0x20, 0x11, &v4, nobody),
            (0x21, 0x00, &[], nobody),
            (0x21, 0x31, &[0; 216], nobody),
            (0x21, 0x11, &v4[..11], None),
            (0x21, 0x21, &v4, None),
            (0x21, 0x12, &v4, None),
            (0x22, 0x11, &v4, None),
            (0x11, 0x11, &v4, None),
            (0x21, 0x41, &v4, None),
            (0x20, 0x00, &[0; 65_535], nobody),
            (0x21, 0x11, &with_much_more, client("192.0.2.1")),
        ] {
            let mut bytes = binary(command, family, rest);
            bytes.extend(b"GET /");
            let (speaks, left) = of(&bytes);
            assert_eq!(speaks, wanted, "{command:x} {family:x} {}", rest.len());
            assert!(speaks.is_none() || left == b"GET /");
        }
    }

    proptest! {
        #[test]
        fn a_header_that_ends_early_is_none(cut in 0_usize..28) {
            let whole = binary(0x21, 0x11, &[0; 12]);
            prop_assert_eq!(of(&whole[..cut]).0, None);
        }

        #[test]
        fn whatever_is_sent_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = of(&bytes);
            let _ = of(&[&SIGNATURE[..], &bytes].concat());
            let _ = of(&[b"PROXY ", &bytes[..]].concat());
        }
    }
}
