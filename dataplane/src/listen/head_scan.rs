//! Watches the heads of HTTP/1 requests for a `Content-Length` beside a `Transfer-Encoding`.
//!
//! hyper reads such a message by its chunks and drops the length, which is safe for us, and hides from
//! us that its sender may be smuggling a request past somebody in front of us. RFC 9112 §6.3 wants the
//! connection closed after such a message; we refuse it (400) and close. Only the lines of the head are
//! looked at, and of each line only its name.

/// The longest name that matters.
const NAME: usize = b"transfer-encoding".len();

/// The state between two reads.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    name: [u8; NAME],
    /// Bytes of the current line's name; more than `NAME` is a name that does not matter.
    len: usize,
    /// Whether the current line is past its name, and is not empty.
    past_name: bool,
    length: bool,
    encoding: bool,
    done: bool,
}

impl HeadScan {
    /// Looks at the next bytes of a head. Returns whether both headers have been seen.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !self.done && !bytes.is_empty() {
            if self.past_name {
                let Some(end) = memchr::memchr(b'\n', bytes) else {
                    break;
                };
                bytes = bytes.get(end + 1..).unwrap_or_default();
                self.past_name = false;
                self.len = 0;
                continue;
            }
            let Some((&byte, rest)) = bytes.split_first() else {
                break;
            };
            bytes = rest;
            match byte {
                b'\n' => self.done = self.len == 0,
                b'\r' if self.len == 0 => {}
                b':' => {
                    self.named();
                    self.past_name = true;
                }
                byte => match self.name.get_mut(self.len) {
                    Some(place) => {
                        *place = byte.to_ascii_lowercase();
                        self.len += 1;
                    }
                    None => {
                        self.len = NAME + 1;
                        self.past_name = true;
                    }
                },
            }
        }
        self.length && self.encoding
    }

    fn named(&mut self) {
        match self.name.get(..self.len) {
            Some(b"content-length") => self.length = true,
            Some(b"transfer-encoding") => self.encoding = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::HeadScan;

    /// However the bytes are cut.
    fn ambiguous(head: &str) -> bool {
        let whole = HeadScan::default().feed(head.as_bytes());
        for at in 0..head.len() {
            let mut scan = HeadScan::default();
            let (one, two) = head.as_bytes().split_at(at);
            let cut = scan.feed(one) | scan.feed(two);
            assert_eq!(cut, whole, "{head:?} at {at}");
        }
        whole
    }

    #[test]
    fn both_headers_are_seen_in_any_order_case_and_cut() {
        let line = "POST /a:b HTTP/1.1\r\n";
        let te = "Transfer-Encoding: chunked\r\n";
        let cl = "content-LENGTH: 5\r\n";
        let other = "host: a\r\nx-content-length: 1\r\nx-a-very-long-name-transfer-encoding: b\r\n";
        assert!(ambiguous(&format!("{line}{te}{other}{cl}\r\n")));
        assert!(ambiguous(&format!("{line}{other}{cl}{te}\r\n")));
        assert!(ambiguous(
            &format!("{line}{cl}{te}\r\n").replace("\r\n", "\n")
        ));
        assert!(!ambiguous(&format!("{line}{cl}{cl}{other}\r\n")));
        assert!(!ambiguous(&format!("{line}{te}{other}\r\n")));
    }

    #[test]
    fn the_body_is_not_looked_at() {
        let body = "transfer-encoding: chunked\r\n\r\n";
        assert!(!ambiguous(&format!(
            "POST / HTTP/1.1\r\ncontent-length: 30\r\n\r\n{body}"
        )));
    }
}
