//! Follows the framing of an HTTP/1 connection (RFC 9112) beside hyper, for what hyper accepts and Hale does not.
//!
//! hyper reads a message that has both `Content-Length` and `Transfer-Encoding` by its chunks and drops the length.
//! That is safe for Hale, and hides that the sender may be smuggling a request past a proxy in front. RFC 9112 §6.3
//! wants the connection closed after such a message; Hale answers 400 and closes. hyper also accepts anything as a
//! chunk extension, and waits for more after a last chunk that ends in a bare LF. Such chunks end the connection here.
//!
//! The scan holds no bytes. Of a head it looks at the names of its lines, of a body at the lines between its chunks.

/// The longest name that matters.
const NAME: usize = b"transfer-encoding".len();
/// Hexadecimal digits of a chunk's size: as many as 64 bits have.
const DIGITS: u8 = 16;

/// The state between two reads.
#[derive(Debug, Default)]
pub(super) struct Scan {
    state: State,
    head: Head,
    /// Heads that have ended.
    heads: u64,
    /// The first head with both headers, counted from 1.
    ambiguous: Option<u64>,
}

/// The chunks of a body are malformed, from this byte of the last bytes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) at: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    name: [u8; NAME],
    /// Bytes of the current line's name; more than `NAME` is a name that does not matter.
    len: usize,
    length: Option<u64>,
    encoding: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Before a request line; empty lines are skipped (RFC 9112 §2.2).
    #[default]
    Start,
    RequestLine,
    Name,
    Value {
        is_length: bool,
    },
    Body(u64),
    Chunks(Chunk),
}

/// Where in a chunked body (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug)]
enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64, at: Extension },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    End,
}

/// Where in the extensions of a chunk (RFC 9112 §7.1.1).
#[derive(Clone, Copy, Debug)]
enum Extension {
    /// Before a `;`.
    Semicolon,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    AfterQuoted,
}

impl Scan {
    /// Follows the next bytes. An error ends the connection, and nothing is to be followed behind it.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            let at = bytes.len() - rest.len();
            match self.state {
                State::Start => {
                    if !matches!(byte, b'\r' | b'\n') {
                        self.head = Head::default();
                        self.state = State::RequestLine;
                    }
                    rest = behind;
                }
                State::RequestLine => match memchr::memchr(b'\n', rest) {
                    Some(end) => {
                        self.state = State::Name;
                        rest = rest.get(end + 1..).unwrap_or_default();
                    }
                    None => return Ok(()),
                },
                State::Name => {
                    self.name(byte);
                    rest = behind;
                }
                State::Value { is_length: false } => match memchr::memchr(b'\n', rest) {
                    Some(end) => {
                        self.state = State::Name;
                        rest = rest.get(end + 1..).unwrap_or_default();
                    }
                    None => return Ok(()),
                },
                State::Value { is_length: true } => {
                    self.length(byte);
                    rest = behind;
                }
                State::Body(left) | State::Chunks(Chunk::Data { left }) => {
                    let here = rest.len() as u64;
                    let skipped = left.min(here);
                    let left = left - skipped;
                    self.state = match (self.state, left) {
                        (State::Body(_), 0) => State::Start,
                        (State::Body(_), left) => State::Body(left),
                        (_, 0) => State::Chunks(Chunk::DataCr),
                        (_, left) => State::Chunks(Chunk::Data { left }),
                    };
                    let skipped = usize::try_from(skipped).unwrap_or(rest.len());
                    rest = rest.get(skipped..).unwrap_or_default();
                }
                State::Chunks(chunk) => {
                    self.state = match chunk.next(byte).ok_or(Malformed { at })? {
                        Chunk::End => State::Start,
                        next => State::Chunks(next),
                    };
                    rest = behind;
                }
            }
        }
        Ok(())
    }

    /// The first head that has both headers, counted from 1.
    pub(super) fn ambiguous(&self) -> Option<u64> {
        self.ambiguous
    }

    /// A byte of the name of a header line.
    fn name(&mut self, byte: u8) {
        let head = &mut self.head;
        match byte {
            b'\n' if head.len == 0 => self.head_ends(),
            // No header: hyper refuses the head.
            b'\n' => head.len = 0,
            b'\r' if head.len == 0 => {}
            b':' => {
                let name = head.name.get(..head.len).unwrap_or_default();
                let is_length = name == b"content-length";
                head.encoding |= name == b"transfer-encoding";
                if is_length {
                    head.length = Some(0);
                }
                head.len = 0;
                self.state = State::Value { is_length };
            }
            byte => match head.name.get_mut(head.len) {
                Some(place) => {
                    *place = byte.to_ascii_lowercase();
                    head.len += 1;
                }
                None => head.len = NAME + 1,
            },
        }
    }

    /// A byte of a length. What is no number is refused by hyper.
    fn length(&mut self, byte: u8) {
        match byte {
            b'\n' => self.state = State::Name,
            digit @ b'0'..=b'9' => {
                let length = self.head.length.get_or_insert_default();
                *length = length
                    .saturating_mul(10)
                    .saturating_add(u64::from(digit - b'0'));
            }
            _ => {}
        }
    }

    fn head_ends(&mut self) {
        self.heads += 1;
        self.state = match (self.head.encoding, self.head.length) {
            (true, length) => {
                if length.is_some() && self.ambiguous.is_none() {
                    self.ambiguous = Some(self.heads);
                }
                State::Chunks(Chunk::Size { size: 0, digits: 0 })
            }
            (false, None | Some(0)) => State::Start,
            (false, Some(length)) => State::Body(length),
        };
    }
}

impl Chunk {
    /// What follows this byte; `None` if it may not be here.
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Size { size, digits }, byte) => match (char::from(byte).to_digit(16), byte) {
                (Some(digit), _) if digits < DIGITS => Self::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                },
                (None, b'\r') if digits > 0 => Self::SizeLf { size },
                (None, b';' | b' ' | b'\t') if digits > 0 => Self::Extension {
                    size,
                    at: match byte {
                        b';' => Extension::BeforeName,
                        _ => Extension::Semicolon,
                    },
                },
                _ => return None,
            },
            (Self::Extension { size, at }, b'\r') if at.may_end() => Self::SizeLf { size },
            (Self::Extension { size, at }, byte) => Self::Extension {
                size,
                at: at.next(byte)?,
            },
            (Self::SizeLf { size: 0 }, b'\n') => Self::Trailer,
            (Self::SizeLf { size }, b'\n') => Self::Data { left: size },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::Trailer, b'\r') => Self::EndLf,
            (Self::Trailer | Self::TrailerName, byte) if is_token(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::TrailerValue,
            (Self::TrailerValue, b'\r') => Self::TrailerLf,
            (Self::TrailerValue, byte) if is_text(byte) => Self::TrailerValue,
            (Self::TrailerLf, b'\n') => Self::Trailer,
            (Self::EndLf, b'\n') => Self::End,
            _ => return None,
        })
    }
}

impl Extension {
    /// Whether the line may end here.
    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Value | Self::AfterQuoted)
    }

    fn next(self, byte: u8) -> Option<Self> {
        let space = matches!(byte, b' ' | b'\t');
        Some(match (self, byte) {
            (Self::Quoted, b'"') => Self::AfterQuoted,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, byte) if is_text(byte) => Self::Quoted,
            (Self::Quoted | Self::Escaped, _) => return None,
            (
                Self::Semicolon | Self::Name | Self::AfterName | Self::Value | Self::AfterQuoted,
                b';',
            ) => Self::BeforeName,
            (Self::Name | Self::AfterName, b'=') => Self::BeforeValue,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::BeforeName | Self::Name, byte) if is_token(byte) => Self::Name,
            (Self::BeforeValue | Self::Value, byte) if is_token(byte) => Self::Value,
            (Self::Semicolon | Self::Value | Self::AfterQuoted, _) if space => Self::Semicolon,
            (Self::Name | Self::AfterName, _) if space => Self::AfterName,
            (Self::BeforeName, _) if space => Self::BeforeName,
            (Self::BeforeValue, _) if space => Self::BeforeValue,
            _ => return None,
        })
    }
}

/// A byte of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a field value or a quoted string (RFC 9110 §5.5).
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
