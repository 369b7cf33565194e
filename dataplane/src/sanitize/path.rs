//! One canonical path for each request, used by routing, auth, limits, log and forwarding alike.
//!
//! Two servers that disagree on what a path means are how access rules are walked around:
//!
//! - unreserved characters are decoded, other escapes get upper-case digits (RFC 3986 §6.2.2);
//! - dot segments (`%2e`, too) are resolved; climbing above the root stays there (RFC 3986 §5.2.4);
//! - `%00`, `%5C`, `\`, bad escapes, raw control characters, spaces and non-ASCII bytes are rejected, and so are
//!   dot segments that only some servers see: `..;x`, `..%2F` and `..%3F`.
//!
//! `%2F` and repeated slashes stay, because applications need them. What servers may make of such a path is listed
//! by [`visit_readings`](super::visit_readings). Other reserved characters stay as they were sent (RFC 3986 §2.2).

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{Uri, uri::PathAndQuery};

/// Why a path has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    BadEscape,
    /// `%00`.
    Nul,
    /// `%2F`, where a policy or a flag rejects it.
    EncodedSlash,
    /// A dot segment beside `%2F`, or before `%3F` or `%23`: servers that decode first climb.
    EncodedDots,
    /// Servers may read the path in more ways than can be looked at for its length.
    TooManyReadings,
    /// `\` or `%5C`: some servers take it for a separator, some do not.
    Backslash,
    /// A control character, a space or a byte above 127.
    RawByte,
    /// `..;x`: some servers drop the parameter and climb.
    DotParameters,
}

impl PathError {
    /// In words, for the client.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotAbsolute => "The path does not begin with /",
            Self::BadEscape => "The path has a % without two hexadecimal digits",
            Self::Nul => "The path has an encoded NUL",
            Self::EncodedSlash => "The path has an encoded slash",
            Self::EncodedDots => "The path has a dot segment beside an encoded delimiter",
            Self::TooManyReadings => "The path can be read in too many ways",
            Self::Backslash => "The path has a backslash",
            Self::RawByte => "The path has a byte that must be percent-encoded",
            Self::DotParameters => "The path has a dot segment with parameters",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A path that every request has one of.
#[derive(Debug)]
pub(crate) struct Canonical<'a> {
    /// The path; borrowed if it was canonical as sent.
    pub(crate) path: Cow<'a, str>,
    /// Whether every server reads it alike: it has no escape, no repeated slash and no `;parameters`.
    pub(crate) plain: bool,
}

/// The canonical form of a path, without its query.
pub(crate) fn canonical(raw: &str) -> Result<Canonical<'_>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    // One scan; what it does not settle is left to the careful way.
    let mut after_slash = false;
    for &byte in raw.as_bytes() {
        let plain = match byte {
            b'%' | b'\\' | b';' => false,
            b'/' | b'.' => !after_slash,
            b'!'..=b'~' => true,
            _ => return Err(PathError::RawByte),
        };
        if !plain {
            return careful(raw);
        }
        after_slash = byte == b'/';
    }
    Ok(Canonical {
        path: Cow::Borrowed(raw),
        plain: true,
    })
}

/// The canonical form of a path, as text.
pub(crate) fn canonical_path(raw: &str) -> Result<Cow<'_, str>, PathError> {
    canonical(raw).map(|canonical| canonical.path)
}

/// The careful way: decode, then resolve segment by segment.
fn careful(raw: &str) -> Result<Canonical<'_>, PathError> {
    let decoded = decode(raw)?;
    if decoded.split('/').any(has_hidden_dots) {
        return Err(PathError::EncodedDots);
    }
    if decoded.split('/').any(is_dot_with_parameters) {
        return Err(PathError::DotParameters);
    }
    let path = match resolve(&decoded) {
        resolved if resolved == raw => Cow::Borrowed(raw),
        resolved => Cow::Owned(resolved),
    };
    let plain = !path.contains(['%', ';']) && !path.contains("//");
    Ok(Canonical { path, plain })
}

/// Resolves dot segments; empty segments are segments (RFC 3986 §5.2.4).
pub(super) fn resolve(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment == "." || segment == ".." {
            if segment == ".." {
                out.truncate(out.rfind('/').unwrap_or_default());
            }
            if segments.peek().is_none() {
                out.push('/');
            }
        } else {
            out.push('/');
            out.push_str(segment);
        }
    }
    out
}

/// Whether servers that decode first see a dot segment where the others see none.
fn has_hidden_dots(segment: &str) -> bool {
    let slash = segment.contains("%2F");
    let is_end = |rest: &str| {
        let ends = ["%3F", "%23"].iter().any(|end| rest.starts_with(end));
        ends || slash
            && (rest.is_empty()
                || rest.starts_with(';')
                || ["%2F", "%3B"].iter().any(|end| rest.starts_with(end)))
    };
    let starts = std::iter::once(segment).chain(
        segment
            .match_indices("%2F")
            .filter_map(|(at, found)| segment.get(at + found.len()..)),
    );
    starts.into_iter().any(|rest| {
        let dots = rest.strip_prefix("..").or_else(|| rest.strip_prefix('.'));
        dots.is_some_and(is_end)
    })
}

/// Decodes unreserved characters, makes other escapes upper case, refuses what has no one meaning.
fn decode(raw: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hex).ok_or(PathError::BadEscape)?;
                let low = bytes.next().and_then(hex).ok_or(PathError::BadEscape)?;
                match high << 4 | low {
                    0 => return Err(PathError::Nul),
                    b'\\' => return Err(PathError::Backslash),
                    value if is_unreserved(value) => out.push(char::from(value)),
                    _ => {
                        out.push('%');
                        out.push(char::from(digit(high)));
                        out.push(char::from(digit(low)));
                    }
                }
            }
            b'\\' => return Err(PathError::Backslash),
            b'!'..=b'~' => out.push(char::from(byte)),
            _ => return Err(PathError::RawByte),
        }
    }
    Ok(out)
}

fn is_dot_with_parameters(segment: &str) -> bool {
    segment
        .split_once(';')
        .is_some_and(|(name, _)| name == "." || name == "..")
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

const fn digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'A' + value - 10,
    }
}

/// The request target to send upstream: the canonical path, and the query as it came, byte for byte, but for the
/// parameters that are `hidden`.
pub(crate) fn target(uri: &Uri, path: &str, hidden: &[String]) -> PathAndQuery {
    if let Some(whole) = uri.path_and_query()
        && is_sent_as(whole.path(), path)
        && hidden.is_empty()
    {
        return whole.clone();
    }
    let rest =
        (uri.query().filter(|_| !hidden.is_empty())).map(|query| query_without(query, hidden));
    let query = match &rest {
        Some(rest) => (!rest.is_empty()).then_some(rest.as_str()),
        None => uri.query(),
    };
    let path = if is_sent_as(uri.path(), path) {
        uri.path()
    } else {
        path
    };
    let mut text = String::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
    text.push_str(path);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    // Both parts were parsed before, so this does not fail; and if it did, `/` gives nothing away.
    PathAndQuery::from_maybe_shared(Bytes::from(text))
        .unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

/// Whether a path goes upstream as it was sent: it is canonical, or it has encoded slashes and differs in the case of
/// its escapes alone. Servers that keep encoded slashes may compare them byte for byte.
fn is_sent_as(raw: &str, path: &str) -> bool {
    raw == path || (path.contains("%2F") && raw.eq_ignore_ascii_case(path))
}

/// The query without every parameter of these names, however it is escaped.
fn query_without(query: &str, names: &[String]) -> String {
    let mut rest = String::with_capacity(query.len());
    for pair in query.split('&') {
        let key = pair.split('=').next().unwrap_or_default();
        if !names.iter().any(|name| unescaped_equals(key, name)) {
            if !rest.is_empty() {
                rest.push('&');
            }
            rest.push_str(pair);
        }
    }
    rest
}

/// Whether a key of a query, unescaped, is this name.
pub(crate) fn unescaped_equals(key: &str, name: &str) -> bool {
    let mut bytes = key.bytes();
    let mut wanted = name.bytes();
    loop {
        let byte = match bytes.next() {
            None => return wanted.next().is_none(),
            Some(b'%') => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                match (digit(), digit()) {
                    (Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
                    _ => None,
                }
            }
            Some(b'+') => Some(b' '),
            Some(byte) => Some(byte),
        };
        if byte.is_none() || byte != wanted.next() {
            return false;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_the_same_path() {
        for (raw, wanted) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b", "/a/b"),
            ("//", "//"),
            ("///a///b///", "///a///b///"),
            ("//a", "//a"),
            ("/a%2fb", "/a%2Fb"),
            ("/%2F", "/%2F"),
            ("/a%2Fc/../b", "/b"),
            ("/a%2F.gitignore", "/a%2F.gitignore"),
            ("/a..%2Fb", "/a..%2Fb"),
            ("/a%3fb%23c", "/a%3Fb%23c"),
            ("/./a", "/a"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/../b", "/b"),
            ("/a/b/../../c", "/c"),
            ("/..", "/"),
            ("/../..", "/"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/a//../b", "/a/b"),
            ("/a/.//../b", "/a/b"),
            ("/..//a", "//a"),
            ("/%2e%2e/a", "/a"),
            ("/a/%2E%2e/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e./b", "/b"),
            ("/a/%2e", "/a/"),
            ("/%61%2Dz", "/a-z"),
            ("/%7Euser", "/~user"),
            ("/%c3%a4", "/%C3%A4"),
            ("/a%20b", "/a%20b"),
            ("/a%0ab", "/a%0Ab"),
            ("/%25", "/%25"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%252f", "/%252f"),
            ("/...", "/..."),
            ("/.a", "/.a"),
            ("/..a/b", "/..a/b"),
            ("/a../b", "/a../b"),
            ("/a;x=1/b", "/a;x=1/b"),
            ("/a/..%3b/b", "/a/..%3B/b"),
            ("/@x/%40x", "/@x/%40x"),
            ("/a:b", "/a:b"),
            ("/.well-known/acme", "/.well-known/acme"),
            ("/a|b[c]{d}", "/a|b[c]{d}"),
        ] {
            assert_eq!(canonical_path(raw).as_deref(), Ok(wanted), "{raw}");
        }
    }

    #[test]
    fn what_servers_disagree_on_is_refused() {
        for (raw, wanted) in [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("a/b", PathError::NotAbsolute),
            ("%2fa", PathError::NotAbsolute),
            ("/%", PathError::BadEscape),
            ("/%4", PathError::BadEscape),
            ("/%zz", PathError::BadEscape),
            ("/%u002e", PathError::BadEscape),
            ("/a%00", PathError::Nul),
            ("/..%2F..%2Fetc", PathError::EncodedDots),
            ("/a/..%2fb", PathError::EncodedDots),
            ("/a/.%2fb", PathError::EncodedDots),
            ("/a%2f../b", PathError::EncodedDots),
            ("/a%2f..", PathError::EncodedDots),
            ("/a%2F.", PathError::EncodedDots),
            ("/a%2f%2e%2e%2fb", PathError::EncodedDots),
            ("/a/..%3Fb", PathError::EncodedDots),
            ("/a/..%23b", PathError::EncodedDots),
            ("/a%2F..;x/b", PathError::EncodedDots),
            ("/a/..%3B%2Fb", PathError::EncodedDots),
            ("/a\\b", PathError::Backslash),
            ("/..\\..\\x", PathError::Backslash),
            ("/a%5cb", PathError::Backslash),
            ("/..%5C..", PathError::Backslash),
            ("/a b", PathError::RawByte),
            ("/a\tb", PathError::RawByte),
            ("/a\u{7f}b", PathError::RawByte),
            ("/ä", PathError::RawByte),
            ("/%41\u{fe0e}", PathError::RawByte),
            ("/a/..;/b", PathError::DotParameters),
            ("/a/..;x=1/b", PathError::DotParameters),
            ("/a/.;/b", PathError::DotParameters),
            ("/a/%2e%2e;x/b", PathError::DotParameters),
            ("/..;", PathError::DotParameters),
        ] {
            assert_eq!(canonical_path(raw), Err(wanted), "{raw:?}");
        }
    }

    #[test]
    fn the_query_stays_byte_for_byte() {
        for (uri, wanted) in [
            ("/a?x=%2e%2e//&y", "/a?x=%2e%2e//&y"),
            ("/a/../b?x=/../%zz", "/b?x=/../%zz"),
            ("/a/../b?", "/b?"),
            ("http://h/a//b?q", "/a//b?q"),
            ("/@scope%2fpkg?q", "/@scope%2fpkg?q"),
            ("/a/../%61%2fb?q", "/a%2Fb?q"),
            ("http://h", "/"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let path = canonical_path(uri.path()).unwrap();
            assert_eq!(target(&uri, &path, &[]).as_str(), wanted);
        }
    }

    /// Strings made of the pieces that attacks are made of.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2E", "a", "b", "%61", "%C3", "%c3", ";", "%3b", "%25",
            "@", "~", "%7e", "%", "%0", "\\", "%5c", "%2f", "%00", " ", "ä", "_",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn canonical_paths_are_canonical(raw in pieces()) {
            if let Ok(path) = canonical_path(&raw) {
                prop_assert!(matches!(canonical_path(&path), Ok(Cow::Borrowed(again)) if again == path)
                    || path.contains(['%', ';']) || path.contains("/.") || path.contains("//"), "{} {}", raw, path);
                prop_assert_eq!(canonical_path(&path).unwrap(), path.clone());
                prop_assert!(path.starts_with('/') && !path.contains('\\'));
                prop_assert!(path.replace("%2F", "/").split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(path.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
                let folded = path.to_ascii_lowercase();
                for never in ["%2e", "%5c", "%00", "%61", "%7e"] {
                    prop_assert!(!folded.contains(never), "{} {}", raw, path);
                }
            }
        }

        #[test]
        fn never_panics(raw in "\\PC*") {
            let _ = canonical_path(&raw);
            let _ = canonical_path(&format!("/{raw}"));
        }

        #[test]
        fn escaping_unreserved_characters_changes_nothing(
            path in "(/[a-zA-Z0-9._~-]{1,4}){1,4}",
            mask in any::<u64>(),
        ) {
            let spelled: String = path
                .bytes()
                .enumerate()
                .map(|(at, byte)| if byte != b'/' && mask >> (at % 64) & 1 == 1 {
                    format!("%{byte:02x}")
                } else {
                    char::from(byte).to_string()
                })
                .collect();
            prop_assert_eq!(canonical_path(&spelled).unwrap(), canonical_path(&path).unwrap());
        }
    }

    #[test]
    fn hidden_parameters_are_taken_out_however_they_are_escaped() {
        let hidden = ["key", "sig"].map(str::to_owned);
        for (query, wanted) in [
            ("key=s", "/p"),
            ("a=1&key=s&b=2", "/p?a=1&b=2"),
            ("%6Bey=s&a=%20", "/p?a=%20"),
            ("keys=1&Key=2", "/p?keys=1&Key=2"),
            ("key&key=1&a", "/p?a"),
            ("sig=1&a&key=2", "/p?a"),
        ] {
            let uri = Uri::try_from(format!("/p?{query}")).unwrap();
            assert_eq!(target(&uri, "/p", &hidden).as_str(), wanted);
        }
    }
}
