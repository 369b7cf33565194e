//! Query strings: one value out of one, and one value into one.

/// The value of `name`, decoded. A `+` is a space and `%XX` a byte, as forms write them; what is no UTF-8
/// becomes U+FFFD.
pub(super) fn value(query: &str, name: &str) -> Option<String> {
    let pair = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::with_capacity(pair.len());
    let mut rest = pair.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = tail;
                    high << 4 | low
                }
                _ => byte,
            },
            (b'+', _) => b' ',
            _ => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// `value` with everything but unreserved characters escaped.
pub(crate) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for url in [
            "http://shop.example/a b?c=d&e=%2f",
            "https://ü.example/+",
            "%",
            "%4",
            "",
        ] {
            let query = format!("x=1&url={}&y=2", encode(url));
            assert_eq!(value(&query, "url").as_deref(), Some(url));
        }
    }

    #[test]
    fn a_url_typed_as_it_is_works() {
        let query = "url=http://shop.example/cart%20x";
        assert_eq!(
            value(query, "url").as_deref(),
            Some("http://shop.example/cart x")
        );
        assert_eq!(value("u=1", "url"), None);
    }
}
