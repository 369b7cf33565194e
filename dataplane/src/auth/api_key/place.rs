//! Where in a request a key is: found by the same reading by which it is taken out.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::sanitize;

/// Bytes of a key, as it is sent.
const LONGEST: usize = 4096;

/// Where a key is.
pub(super) enum Place {
    /// In `Authorization`, alone or behind `Bearer` or `ApiKey`.
    Authorization,
    /// In this header, alone.
    Header(HeaderName),
    /// In this parameter of the query.
    Query(String),
    /// In this cookie.
    Cookie(String),
}

/// What is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// Nothing.
    None,
    /// Something empty, too long or badly escaped, or more than one thing.
    Unreadable,
    /// This.
    Key(Cow<'a, [u8]>),
}

impl Place {
    /// Looks for the key.
    pub(super) fn find<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Found<'a> {
        match self {
            Self::Authorization => {
                let lines = headers.get_all(header::AUTHORIZATION);
                // One that is for another method, beside one that is for us, makes two readings possible.
                let several = lines.iter().nth(1).is_some();
                match only(lines.iter().filter_map(bare).map(Cow::Borrowed)) {
                    Found::Key(_) if several => Found::Unreadable,
                    found => found,
                }
            }
            Self::Header(name) => {
                let values = headers.get_all(name).iter();
                only(values.map(|value| Cow::Borrowed(value.as_bytes())))
            }
            Self::Query(name) => {
                let pairs = query.unwrap_or_default().split('&');
                let values = pairs.filter_map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    sanitize::unescaped_equals(key, name).then(|| unescaped(value))
                });
                // What is badly escaped is as good as empty.
                only(values.map(Option::unwrap_or_default))
            }
            Self::Cookie(name) => {
                let lines = headers.get_all(header::COOKIE).iter();
                let values = lines.flat_map(|line| {
                    cookies(line.as_bytes()).filter_map(|cookie| value_of(cookie, name))
                });
                only(values.map(Cow::Borrowed))
            }
        }
    }
}

fn only<'a>(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Found<'a> {
    match (values.next(), values.next()) {
        (None, _) => Found::None,
        (Some(key), None) if (1..=LONGEST).contains(&key.len()) => Found::Key(key),
        _ => Found::Unreadable,
    }
}

/// What `Authorization` says without the scheme, empty if that is all; `None` if the scheme is another method's.
fn bare(value: &HeaderValue) -> Option<&[u8]> {
    let value = value.as_bytes();
    let end = memchr::memchr(b' ', value).unwrap_or(value.len());
    let (word, rest) = value.split_at_checked(end)?;
    let ours = |scheme: &&[u8]| word.eq_ignore_ascii_case(scheme);
    if [&b"bearer"[..], b"apikey"].iter().any(ours) {
        return Some(rest.trim_ascii());
    }
    rest.is_empty().then_some(value)
}

/// A value of a query as forms write it; `None` if it is badly escaped.
fn unescaped(value: &str) -> Option<Cow<'_, [u8]>> {
    if !value.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Some(Cow::Borrowed(value.as_bytes()));
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    Some(Cow::Owned(plain))
}

/// The cookies of a line. A semicolon ends one, also within quotes (RFC 6265 §5.4, as browsers have it).
fn cookies(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';')
}

/// The value of a cookie that has this name, without quotes around it.
fn value_of<'a>(cookie: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let cookie = cookie.trim_ascii();
    let end = memchr::memchr(b'=', cookie).unwrap_or(cookie.len());
    let (key, value) = cookie.split_at_checked(end)?;
    if key.trim_ascii_end() != name.as_bytes() {
        return None;
    }
    let value = value.strip_prefix(b"=").unwrap_or_default().trim_ascii();
    let inner = value.strip_prefix(b"\"");
    Some(
        inner
            .and_then(|inner| inner.strip_suffix(b"\""))
            .unwrap_or(value),
    )
}

/// Takes one cookie out of all `Cookie` lines, and leaves the others as they are.
pub(in crate::auth) fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let has = |line: &HeaderValue| {
        cookies(line.as_bytes()).any(|cookie| value_of(cookie, name).is_some())
    };
    if !headers.get_all(header::COOKIE).iter().any(has) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for line in lines {
        if !has(&line) {
            headers.append(header::COOKIE, line);
            continue;
        }
        let others = cookies(line.as_bytes()).filter(|cookie| value_of(cookie, name).is_none());
        let others = others.collect::<Vec<_>>().join(&b';');
        let rest = others.trim_ascii();
        if let Ok(rest) = HeaderValue::from_bytes(rest)
            && !rest.is_empty()
        {
            headers.append(header::COOKIE, rest);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, value.parse().unwrap());
        }
        headers
    }

    fn told(found: Found<'_>) -> Result<Option<String>, ()> {
        match found {
            Found::None => Ok(None),
            Found::Unreadable => Err(()),
            Found::Key(key) => Ok(Some(String::from_utf8(key.to_vec()).unwrap())),
        }
    }

    fn key(text: &str) -> Result<Option<String>, ()> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn keys_in_authorization() {
        let find = |values: &[&str]| {
            let headers = headers(header::AUTHORIZATION, values);
            told(Place::Authorization.find(&headers, None))
        };
        for value in ["k1", "Bearer k1", "bearer k1", "ApiKey k1", "APIKEY   k1"] {
            assert_eq!(find(&[value]), key("k1"), "{value}");
        }
        for values in [
            &[][..],
            &["Basic YTpi"],
            &["Digest a=b", "Basic YTpi"],
            &["X k1"],
        ] {
            assert_eq!(find(values), Ok(None), "{values:?}");
        }
        let long = "k".repeat(LONGEST + 1);
        for values in [
            &[""][..],
            &["Bearer"],
            &["apikey"],
            &["Bearer "],
            &["k1", "k1"],
            &["Bearer k1", "Basic YTpi"],
            &["Basic YTpi", "Bearer k1"],
            &[&long],
        ] {
            assert_eq!(find(values), Err(()), "{values:?}");
        }
    }

    #[test]
    fn keys_in_headers_of_their_own() {
        let place = Place::Header(HeaderName::from_static("x-api-key"));
        let find = |values: &[&str]| {
            told(place.find(&headers(HeaderName::from_static("x-api-key"), values), None))
        };
        assert_eq!(find(&["k1"]), key("k1"));
        assert_eq!(find(&["Bearer k1"]), key("Bearer k1"));
        assert_eq!(find(&[]), Ok(None));
        assert_eq!(find(&[""]), Err(()));
        assert_eq!(find(&["k1", "k1"]), Err(()));
    }

    #[test]
    fn keys_in_queries() {
        let place = Place::Query("api key".into());
        let none = HeaderMap::new();
        let find = |query| told(place.find(&none, query));
        for (query, value) in [
            ("api%20key=k1", "k1"),
            ("a=b&api+key=k1&c", "k1"),
            ("%61pi+key=k%2b1+2%26%3d%C3%A4", "k+1 2&=ä"),
            ("api+key=a=b", "a=b"),
            ("api+key=%2541", "%41"),
        ] {
            assert_eq!(find(Some(query)), key(value), "{query}");
        }
        for query in [
            None,
            Some(""),
            Some("a=b"),
            Some("apikey=k1"),
            Some("API+key=k1"),
        ] {
            assert_eq!(find(query), Ok(None), "{query:?}");
        }
        for query in [
            "api+key",
            "api+key=",
            "api+key=%",
            "api+key=%4",
            "api+key=%zz",
            "api+key=k1&api%20key=k1",
            "api+key=k1&api+key",
        ] {
            assert_eq!(find(Some(query)), Err(()), "{query}");
        }
    }

    #[test]
    fn keys_in_cookies() {
        let place = Place::Cookie("key".into());
        let find = |lines: &[&str]| told(place.find(&headers(header::COOKIE, lines), None));
        for lines in [
            &["key=k1"][..],
            &["a=b; key=k1; c=d"],
            &["a=b;key=k1"],
            &["a=b", "key=k1"],
            &["a; key = \"k1\" ;"],
        ] {
            assert_eq!(find(lines), key("k1"), "{lines:?}");
        }
        assert_eq!(find(&["key=a=b"]), key("a=b"));
        for lines in [&[][..], &[""], &["a=b; Key=k1; xkey=k1; a=key=k1"]] {
            assert_eq!(find(lines), Ok(None), "{lines:?}");
        }
        for lines in [
            &["key"][..],
            &["key="],
            &["key=\"\""],
            &["key=k1; key=k1"],
            &["key=k1", "a=b; key=k2"],
        ] {
            assert_eq!(find(lines), Err(()), "{lines:?}");
        }
    }

    #[test]
    fn a_cookie_is_taken_out_and_others_stay_byte_for_byte() {
        for (lines, left) in [
            (&["key=k1"][..], &[][..]),
            (&["key=k1; a=b"], &["a=b"]),
            (&["a=b; key=k1"], &["a=b"]),
            (&["a=b; key=k1; c=\"d\""], &["a=b; c=\"d\""]),
            (&["a=b;  x=\"1 2\";key=\"k1\"; c"], &["a=b;  x=\"1 2\"; c"]),
            (&["a=b", "key=k1", " c;; d=e "], &["a=b", " c;; d=e "]),
            (&["key=k1; key=k2; a=b; key"], &["a=b"]),
            (&["a=b; Key=k1"], &["a=b; Key=k1"]),
            (&["a=key=k1; xkey=k1"], &["a=key=k1; xkey=k1"]),
        ] {
            let mut headers = headers(header::COOKIE, lines);
            remove_cookie(&mut headers, "key");
            let rest: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
            assert_eq!(rest, left, "{lines:?}");
        }
    }
}
