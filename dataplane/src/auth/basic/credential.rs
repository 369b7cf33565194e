//! `Authorization: Basic`, read strictly: what two servers could read in two ways is no credential.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header};

use crate::auth::password::LONGEST_NAME;

/// Bytes of the header's value.
const LONGEST: usize = 4096;

/// What a request says of user and password.
#[derive(Debug)]
pub(super) enum Claim {
    /// Nothing, or it shows in another way who it is.
    None,
    /// Something that cannot be read, or can in two ways.
    Unreadable,
    /// These.
    Given(UserPass),
}

/// User and password, joined by a colon.
pub(super) struct UserPass {
    text: Vec<u8>,
    colon: usize,
}

/// Looks for them.
pub(super) fn find(headers: &HeaderMap) -> Claim {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(first) = values.next() else {
        return Claim::None;
    };
    match values.next() {
        None => match encoded(first) {
            None => Claim::None,
            Some(encoded) => UserPass::read(encoded).map_or(Claim::Unreadable, Claim::Given),
        },
        Some(second) => {
            let ours = [first, second].into_iter().chain(values);
            match ours.filter_map(encoded).next() {
                None => Claim::None,
                Some(_) => Claim::Unreadable,
            }
        }
    }
}

/// Why what was given cannot be read, in words.
pub(super) fn fault(headers: &HeaderMap) -> Option<&'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (values.next()?, values.next());
    if second.is_some() {
        return Some("Authorization is there more than once, and one is Basic");
    }
    let rest = encoded(first)?.strip_prefix(b" ").unwrap_or_default();
    let encoded = rest.trim_ascii_start();
    if encoded.is_empty() {
        return Some("nothing follows the word Basic and a space");
    }
    if encoded.len() > LONGEST {
        return Some("what follows the word Basic has more than 4 KiB");
    }
    let Ok(text) = STANDARD.decode(encoded) else {
        return Some("what follows the word Basic is not base64");
    };
    let Some(colon) = memchr::memchr(b':', &text) else {
        return Some("there is no colon between user and password");
    };
    if text.iter().any(u8::is_ascii_control) {
        return Some("user or password have a control character: an end of line, perhaps");
    }
    match text.get(..colon).map(std::str::from_utf8)? {
        Ok("") => Some("the name of the user is empty"),
        Ok(user) if user.len() > LONGEST_NAME => {
            Some("the name of the user has more than 255 bytes")
        }
        Ok(_) => None,
        Err(_) => Some("the name of the user is not UTF-8"),
    }
}

/// What follows the word `Basic`, or `None` if the scheme is another.
fn encoded(value: &HeaderValue) -> Option<&[u8]> {
    let value = value.as_bytes();
    let (scheme, rest) = value.split_at_checked(5)?;
    let another = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    (scheme.eq_ignore_ascii_case(b"basic") && !rest.first().is_some_and(another)).then_some(rest)
}

impl UserPass {
    fn read(rest: &[u8]) -> Option<Self> {
        let encoded = rest.strip_prefix(b" ")?.trim_ascii_start();
        if encoded.len() > LONGEST {
            return None;
        }
        let text = STANDARD.decode(encoded).ok()?;
        let colon = memchr::memchr(b':', &text)?;
        let user = std::str::from_utf8(text.get(..colon)?).ok()?;
        let readable = !user.is_empty()
            && user.len() <= LONGEST_NAME
            && !text.iter().any(u8::is_ascii_control);
        readable.then_some(Self { text, colon })
    }

    /// Not empty.
    pub(super) fn user(&self) -> &str {
        let user = self.text.get(..self.colon).unwrap_or_default();
        std::str::from_utf8(user).unwrap_or_default()
    }

    /// Any bytes but control characters; UTF-8 by the challenge.
    pub(super) fn password(&self) -> &[u8] {
        self.text.get(self.colon + 1..).unwrap_or_default()
    }
}

impl std::fmt::Debug for UserPass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserPass(..)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `None` if there is none, `Some(None)` if it is unreadable.
    fn read(values: &[&str]) -> Option<Option<(String, String)>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        match find(&headers) {
            Claim::None => None,
            Claim::Unreadable => Some(None),
            Claim::Given(given) => Some(Some((
                given.user().to_owned(),
                String::from_utf8(given.password().to_vec()).unwrap(),
            ))),
        }
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn users_and_passwords() {
        for (text, user, password) in [
            ("Aladdin:open sesame", "Aladdin", "open sesame"),
            ("test:123\u{a3}", "test", "123\u{a3}"),
            ("a:b:c:", "a", "b:c:"),
            ("ä:密码", "ä", "密码"),
            ("a:", "a", ""),
        ] {
            let wanted = Some(Some((user.to_owned(), password.to_owned())));
            assert_eq!(read(&[&basic(text)]), wanted, "{text}");
        }
        let wanted = read(&[&basic("a:b")]);
        for spelled in ["basic YTpi", "BASIC YTpi", "bAsIc   YTpi"] {
            assert_eq!(read(&[spelled]), wanted, "{spelled}");
        }
    }

    #[test]
    fn another_scheme_is_for_another_method() {
        for value in [
            "",
            "Bearer abc",
            "Basics YTpi",
            "Basic-x YTpi",
            "Basi",
            "YTpi",
        ] {
            assert_eq!(read(&[value]), None, "{value}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["Bearer a", "Bearer b"]), None);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_unreadable() {
        let long_user = basic(&format!("{}:b", "u".repeat(256)));
        let long = basic(&format!("a:{}", "p".repeat(3100)));
        for value in [
            "Basic",
            "Basic:YTpi",
            "Basic\tYTpi",
            "Basic YTpi, Basic YTpi",
            "Basic YTpi YTpi",
            "Basic YTpiYg",
            "Basic YTpiY===",
            "Basic YTpiYh==",
            "Basic YT pi",
            "Basic YTpi=",
            "Basic 4oKs_-4=",
            "Basic !!!!",
            "Basic username=a",
            &basic("no colon"),
            &basic(":nobody"),
            &basic("a\0:b"),
            &basic("a:b\0c"),
            &basic("a:b\r\nc"),
            &basic("a:b\u{7f}"),
            &long_user,
            &long,
        ] {
            assert_eq!(read(&[value]), Some(None), "{value}");
            assert!(why(&[value]).is_some(), "{value}");
        }
        let latin = format!("Basic {}", STANDARD.encode(b"\xe4:b"));
        assert_eq!(read(&[&latin]), Some(None));
        for pair in [
            ["Basic YTpi", "Basic YTpi"],
            ["Basic YTpi", "Bearer x"],
            ["Bearer x", "Basic YTpi"],
        ] {
            assert_eq!(read(&pair), Some(None), "{pair:?}");
            let wanted = "Authorization is there more than once, and one is Basic";
            assert_eq!(why(&pair), Some(wanted), "{pair:?}");
        }
        for (text, wanted) in [
            ("alice", "there is no colon between user and password"),
            (
                "alice:secret\n",
                "user or password have a control character: an end of line, perhaps",
            ),
            (":secret", "the name of the user is empty"),
        ] {
            assert_eq!(why(&[&basic(text)]), Some(wanted));
        }
    }

    fn why(values: &[&str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        fault(&headers)
    }
}
