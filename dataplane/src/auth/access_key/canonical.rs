//! What AWS4 and SDK signatures have in common: a request written in one canonical form, line by line.
//!
//! Everything is taken from the request as it was received. What a client and a server could read in two ways
//! is malformed, so that a signature never stands for two requests that mean different things.

use std::borrow::Cow;

use super::{Malformed, Signed};
use crate::sanitize::canonical_path;

/// The most headers that a signature may be over.
pub(super) const MOST_HEADERS: usize = 64;
/// The most parameters of a query.
const MOST_PAIRS: usize = 256;

/// By what the parameters of a query are sorted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Names and values, escaped (AWS4).
    Escaped,
    /// Names and values, plain (SDK).
    Plain,
}

/// What becomes of several fields of one name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fields {
    /// Joined by commas; runs of spaces are one (AWS4).
    Joined,
    /// There may be one, as it is (SDK).
    One,
}

/// Appends bytes, all but unreserved characters escaped (RFC 3986 §2.3).
pub(super) fn escape(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 15] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
}

/// The bytes that an escaped text stands for; `plus` is what `+` stands for.
fn unescape(text: &str, plus: u8) -> Result<Cow<'_, [u8]>, Malformed> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = bytes.next().and_then(nibble).ok_or(Malformed)?;
                let low = bytes.next().and_then(nibble).ok_or(Malformed)?;
                high << 4 | low
            }
            b'+' => plus,
            byte => byte,
        });
    }
    Ok(Cow::Owned(out))
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A path whose segments are escaped once: what was escaped on the way here is plain first.
fn escaped_once(path: &str) -> Result<String, Malformed> {
    let mut out = String::with_capacity(path.len() + 1);
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        escape(&mut out, &unescape(segment, b'+')?);
    }
    Ok(out)
}

/// The same of a path that pods are sent the same way escaped; `None` of one that has a reserved character plainly.
///
/// Escaped, `/a;b` and `/a%3Bb` are one text, and they are two paths. As nothing in the text says which of them was
/// meant, it stands for the one that is escaped already.
pub(super) fn escaped_alike(path: &str) -> Result<Option<String>, Malformed> {
    let escaped = escaped_once(path)?;
    let is_alike = match (canonical_path(path), canonical_path(&escaped)) {
        (Ok(path), Ok(escaped)) => path == escaped,
        _ => false,
    };
    Ok(is_alike.then_some(escaped))
}

/// A path whose segments are escaped as they came, so that escapes are escaped again.
pub(super) fn escaped_twice(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        escape(&mut out, segment.as_bytes());
    }
    out
}

/// A path without dot segments and doubled slashes; nothing is unescaped.
pub(super) fn normalized(path: &str) -> Cow<'_, str> {
    let plain = |segment: &str| !matches!(segment, "" | "." | "..");
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if path == "/" || inner.split('/').all(plain) {
        return Cow::Borrowed(path);
    }
    let mut out: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(out.pop()),
            segment => out.push(segment),
        }
    }
    let directory = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    let last = if directory && !out.is_empty() {
        "/"
    } else {
        ""
    };
    Cow::Owned(format!("/{}{last}", out.join("/")))
}

/// A query, sorted, without the parameter `but`.
pub(super) fn query(
    raw: Option<&str>,
    order: Order,
    but: Option<&str>,
) -> Result<String, Malformed> {
    let raw = raw.unwrap_or_default();
    let mut pairs = Vec::new();
    for (name, value) in parameters(raw)? {
        if but.is_some_and(|but| *name == *but.as_bytes()) {
            continue;
        }
        let mut text = String::with_capacity(name.len() + value.len() + 1);
        escape(&mut text, &name);
        let middle = text.len();
        text.push('=');
        escape(&mut text, &value);
        pairs.push((name, value, text, middle));
    }
    match order {
        Order::Plain => pairs.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1))),
        Order::Escaped => pairs.sort_by(|a, b| {
            let (a_text, b_text) = (a.2.as_bytes(), b.2.as_bytes());
            (a_text.get(..a.3), a_text.get(a.3..)).cmp(&(b_text.get(..b.3), b_text.get(b.3..)))
        }),
    }
    let mut out = String::with_capacity(raw.len() + 16);
    for (_, _, text, _) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(&text);
    }
    Ok(out)
}

/// A parameter of a query.
type Pair<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The parameters of a query, plain. One that is empty has no one reading.
pub(super) fn parameters(raw: &str) -> Result<Vec<Pair<'_>>, Malformed> {
    if raw.is_empty() {
        return Ok(Vec::new());
    }
    let mut pairs = Vec::new();
    for pair in raw.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if pair.is_empty() || pairs.len() == MOST_PAIRS {
            return Err(Malformed);
        }
        // Clients that send `+` have signed a space, and servers read one.
        pairs.push((unescape(name, b' ')?, unescape(value, b' ')?));
    }
    Ok(pairs)
}

/// The names of signed headers: lower case, sorted, each once, and `host` among them.
pub(super) fn signed_headers(list: &str) -> Result<Vec<&str>, Malformed> {
    let names: Vec<&str> = list.split(';').take(MOST_HEADERS + 1).collect();
    let sorted = names.is_sorted_by(|a, b| a < b);
    let fine = names.iter().all(|name| is_field_name(name));
    if names.len() > MOST_HEADERS || !sorted || !fine || !names.contains(&"host") {
        return Err(Malformed);
    }
    Ok(names)
}

/// Whether it is the name of a field, lower case.
pub(super) fn is_field_name(name: &str) -> bool {
    let token = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    !name.is_empty() && name.bytes().all(token)
}

/// Whether every header that begins with `prefix` is among the signed ones: what the scheme reads itself is
/// never taken from where nobody vouches for it.
pub(super) fn covers(request: &Signed<'_>, prefix: &str, names: &[&str]) -> bool {
    request.headers.keys().all(|name| {
        let name = name.as_str();
        // Added by a content delivery network of the same vendor on the way here.
        !name.starts_with(prefix) || name == "x-amz-cf-id" || names.binary_search(&name).is_ok()
    })
}

/// Method, path, query, headers and their names; the digest of the body is all that is missing.
pub(super) fn request(
    request: &Signed<'_>,
    path: &str,
    query: &str,
    names: &[&str],
    fields: Fields,
) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(512);
    for line in [request.method.as_str(), path, query] {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    for name in names {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        field(&mut out, request, name, fields)?;
        out.push(b'\n');
    }
    out.push(b'\n');
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            out.push(b';');
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b'\n');
    Ok(out)
}

fn field(
    out: &mut Vec<u8>,
    request: &Signed<'_>,
    name: &str,
    fields: Fields,
) -> Result<(), Malformed> {
    if name == "host" {
        out.extend_from_slice(request.authority.as_bytes());
        return Ok(());
    }
    let mut values = request.headers.get_all(name).iter();
    let first = values.next().ok_or(Malformed)?;
    for (index, value) in std::iter::once(first).chain(values).enumerate() {
        match (index, fields) {
            (0, _) => {}
            (_, Fields::Joined) => out.push(b','),
            (_, Fields::One) => return Err(Malformed),
        }
        let mut space = false;
        for &byte in value.as_bytes().trim_ascii() {
            // Some take a tab for a space here, and some do not.
            if byte == b'\t' {
                return Err(Malformed);
            }
            if byte != b' ' || !space || fields == Fields::One {
                out.push(byte);
            }
            space = byte == b' ';
        }
    }
    Ok(())
}

/// `20150830T123600Z` in seconds of Unix time.
pub(super) fn basic_time(text: &str) -> Result<i64, Malformed> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Result<i16, Malformed> {
        let digits = text.get(from..to).ok_or(Malformed)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Malformed);
        }
        digits.parse().map_err(|_| Malformed)
    };
    let small = |from: usize| -> Result<i8, Malformed> {
        i8::try_from(number(from, from + 2)?).map_err(|_| Malformed)
    };
    if bytes.len() != 16 || bytes.get(8) != Some(&b'T') || bytes.get(15) != Some(&b'Z') {
        return Err(Malformed);
    }
    let (year, month, day) = (number(0, 4)?, small(4)?, small(6)?);
    let time = jiff::civil::DateTime::new(year, month, day, small(9)?, small(11)?, small(13)?, 0)
        .and_then(|time| jiff::tz::Offset::UTC.to_timestamp(time));
    time.map(jiff::Timestamp::as_second).map_err(|_| Malformed)
}
