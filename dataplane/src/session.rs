//! Sessions: a cookie keeps a client with its peer.
//!
//! The value names the peer by a digest of upstream, address and pod uid. It tells no address, and it means
//! the same to every replica and after every restart, because no process has a secret in it. Where the session has
//! a longest time the value says when it began, too. It is not signed: what a client can forge is which peer of
//! a set of equals it gets.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, header};

use crate::config::{SessionPersistence, UpstreamId};

/// A beginning so far ahead of our clock is no replica's clock that is a little fast.
const SKEW_SECS: u64 = 300;

/// What a cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Names the peer; see [`peer_key`].
    pub(crate) peer: u64,
    /// When it began, in seconds of Unix time.
    began: Option<u64>,
}

/// What names a peer in cookies, and places it on the hash ring. Whoever knows it finds no address by trying,
/// where a pod's uid is in it.
pub(crate) fn peer_key(upstream: &UpstreamId, address: SocketAddr, uid: &str) -> u64 {
    let text = format!("{upstream}|{address}|{uid}");
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, text.as_bytes());
    let first = digest.as_ref().first_chunk::<8>();
    first.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The value of a cookie, the first of that name.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| {
            let pair = pair.trim_ascii();
            pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        })
}

/// The session that a request brings; `None` if there is none, it is not one of ours or it has run out at `now`,
/// in seconds of Unix time.
pub(crate) fn read(config: &SessionPersistence, headers: &HeaderMap, now: u64) -> Option<Session> {
    let session = parse(cookie(headers, &config.cookie)?)?;
    match (config.absolute_timeout, session.began) {
        (Some(timeout), Some(began)) => (began <= now + SKEW_SECS
            && now.saturating_sub(began) < timeout.as_secs().max(1))
        .then_some(session),
        // Begun before there was a longest time: it counts from now on.
        _ => Some(session),
    }
}

fn parse(value: &[u8]) -> Option<Session> {
    let hex = |digits: &[u8]| {
        let plain = digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
        u64::from_str_radix(text, 16).ok()
    };
    let (peer, rest) = value.split_at_checked(16)?;
    let began = match rest {
        [] => None,
        [b'.', began @ ..] => Some(hex(began)?),
        _ => return None,
    };
    let peer = hex(peer)?;
    Some(Session { peer, began })
}

/// The `Set-Cookie` that makes a client stay with the peer that served it; `None` if it does already.
/// A session that moves to another peer keeps its beginning.
pub(crate) fn set_cookie(
    config: &SessionPersistence,
    held: Option<Session>,
    peer: u64,
    https: bool,
    now: u64,
) -> Option<HeaderValue> {
    use std::fmt::Write;

    let timeout = config
        .absolute_timeout
        .map(|timeout| timeout.as_secs().max(1));
    let same = held.filter(|held| held.peer == peer);
    if same.is_some_and(|held| timeout.is_none() || held.began.is_some()) {
        return None;
    }
    let mut cookie = format!("{}={peer:016x}", config.cookie);
    let mut age = String::new();
    if let Some(timeout) = timeout {
        let began = held.and_then(|held| held.began).unwrap_or(now);
        let left = timeout.saturating_sub(now.saturating_sub(began));
        // Into a string: it cannot fail.
        let _ = write!(cookie, ".{began:x}");
        let _ = write!(age, "; Max-Age={left}");
    }
    let secure = if https { "; Secure" } else { "" };
    let _ = write!(cookie, "; Path=/; HttpOnly; SameSite=Lax{age}{secure}");
    HeaderValue::try_from(cookie).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(timeout: Option<u64>) -> SessionPersistence {
        SessionPersistence {
            cookie: "HALE".into(),
            absolute_timeout: timeout.map(Duration::from_secs),
        }
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        headers
    }

    /// What a browser sends back.
    fn sent_back(set: &HeaderValue) -> HeaderMap {
        headers(&[set.to_str().unwrap().split(';').next().unwrap()])
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        for (lines, wanted) in [
            (&["HALE=1"][..], Some("1")),
            (&["a=b; HALE=1; c=d"], Some("1")),
            (&["a=b;HALE=1;HALE=2"], Some("1")),
            (&["a=b", "HALE="], Some("")),
            (&["XHALE=1; HALE2=1; hale=1; HALE"], None),
            (&[], None),
        ] {
            let headers = headers(lines);
            let found = cookie(&headers, "HALE").map(|value| std::str::from_utf8(value).unwrap());
            assert_eq!(found, wanted, "{lines:?}");
        }
    }

    #[test]
    fn values_are_read_strictly() {
        let session = |peer, began| Some(Session { peer, began });
        for (value, wanted) in [
            ("00000000000000ff", session(255, None)),
            ("00000000000000ff.10", session(255, Some(16))),
            ("00000000000000ff.", None),
            ("00000000000000ff.1x", None),
            ("00000000000000ff.-1", None),
            ("+0000000000000ff", None),
            ("00000000000000ff0", None),
            ("ff", None),
            ("", None),
            ("00000000000000ff.fffffffffffffffff", None),
        ] {
            assert_eq!(parse(value.as_bytes()), wanted, "{value}");
        }
    }

    #[test]
    fn a_cookie_is_set_when_it_is_missing_or_changed() {
        let config = config(None);
        let set = set_cookie(&config, None, 0xabc, false, 50).unwrap();
        assert_eq!(set, "HALE=0000000000000abc; Path=/; HttpOnly; SameSite=Lax");
        let held = read(&config, &sent_back(&set), 60);
        assert_eq!(set_cookie(&config, held, 0xabc, false, 60), None);
        let moved = set_cookie(&config, held, 0xdef, true, 60).unwrap();
        assert_eq!(
            moved,
            "HALE=0000000000000def; Path=/; HttpOnly; SameSite=Lax; Secure"
        );
    }

    #[test]
    fn the_longest_time_holds_over_a_move() {
        let config = config(Some(3600));
        let set = set_cookie(&config, None, 1, false, 0x1000).unwrap();
        let text = "HALE=0000000000000001.1000; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600";
        assert_eq!(set, text);
        let back = sent_back(&set);
        let held = read(&config, &back, 0x1000 + 3599);
        assert_eq!(set_cookie(&config, held, 1, false, 0x1000 + 3599), None);
        let moved = set_cookie(&config, held, 2, false, 0x1000 + 600).unwrap();
        let text = "HALE=0000000000000002.1000; Path=/; HttpOnly; SameSite=Lax; Max-Age=3000";
        assert_eq!(moved, text);
        assert_eq!(read(&config, &back, 0x1000 + 3600), None, "run out");
        assert_eq!(read(&config, &back, 0x1000 - 301), None, "from the future");
        assert!(
            read(&config, &back, 0x1000 - 10).is_some(),
            "a clock of another"
        );
    }

    #[test]
    fn a_session_from_before_there_was_a_longest_time_goes_on() {
        let held = read(&config(Some(60)), &headers(&["HALE=0000000000000001"]), 100);
        assert_eq!(held.unwrap().peer, 1);
        let set = set_cookie(&config(Some(60)), held, 1, false, 100).unwrap();
        assert!(
            set.to_str()
                .unwrap()
                .starts_with("HALE=0000000000000001.64; ")
        );
        let timed = read(&config(None), &headers(&["HALE=0000000000000001.1"]), 100);
        assert_eq!(set_cookie(&config(None), timed, 1, false, 100), None);
    }

    #[test]
    fn a_peer_is_named_by_all_that_it_is() {
        let id = |port: &str| UpstreamId {
            namespace: "shop".into(),
            service: "web".into(),
            port: port.into(),
        };
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let one = peer_key(&id("http"), address("10.0.0.1:80"), "uid");
        assert_eq!(one, peer_key(&id("http"), address("10.0.0.1:80"), "uid"));
        for other in [
            peer_key(&id("admin"), address("10.0.0.1:80"), "uid"),
            peer_key(&id("http"), address("10.0.0.2:80"), "uid"),
            peer_key(&id("http"), address("10.0.0.1:80"), "uid2"),
        ] {
            assert_ne!(one, other);
        }
    }
}
