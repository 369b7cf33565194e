//! What requests say, in sentences for operators: short, and with nothing in it that a terminal would take for more
//! than text. Only explanations use it; nothing of it is on the way of a request.

use std::borrow::Cow;

/// Characters of a value.
const CHARACTERS: usize = 64;
/// Values of a list.
const VALUES: usize = 8;

/// A value: quoted, cut, and with what is not printable escaped.
pub(crate) fn quoted(text: &str) -> String {
    let mut characters = text.char_indices();
    match characters.nth(CHARACTERS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

/// Bytes that may be text.
pub(crate) fn quoted_bytes(bytes: &[u8]) -> String {
    // No character has more than four bytes, so the cut is after what is shown.
    let text: Cow<'_, str> = String::from_utf8_lossy(match bytes.get(..4 * (CHARACTERS + 1)) {
        Some(start) => start,
        None => bytes,
    });
    quoted(&text)
}

/// `"a" or "b"`, and how many more there are.
pub(crate) fn any_of<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    list(values, " or ")
}

/// `"a", "b"`, and how many more there are.
pub(crate) fn all_of<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    list(values, ", ")
}

fn list<'a>(values: impl IntoIterator<Item = &'a str>, between: &str) -> String {
    let mut values = values.into_iter();
    let shown: Vec<String> = values.by_ref().take(VALUES).map(quoted).collect();
    let text = shown.join(between);
    match values.count() {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_or_no_text_is_shown_short_and_escaped() {
        assert_eq!(quoted("shop"), "\"shop\"");
        assert_eq!(
            quoted("\u{1b}[2J\n\u{202e}\""),
            r#""\u{1b}[2J\n\u{202e}\"""#
        );
        let long = "ä".repeat(100);
        assert_eq!(quoted(&long), format!("\"{}\"…", "ä".repeat(64)));
        assert_eq!(quoted(&"ä".repeat(64)), format!("\"{}\"", "ä".repeat(64)));
        assert_eq!(quoted_bytes(long.as_bytes()), quoted(&long));
        assert_eq!(quoted_bytes(b"a\xff"), "\"a\u{fffd}\"");
    }

    #[test]
    fn lists_are_cut() {
        assert_eq!(any_of(["a", "b"]), r#""a" or "b""#);
        let many = all_of(["a"; 10]);
        assert!(many.ends_with(r#", "a" and 2 more"#), "{many}");
    }
}
