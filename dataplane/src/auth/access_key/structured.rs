//! Structured fields (RFC 8941), as far as signatures need them, and strictly: what that RFC lets parsers
//! repair or pass over (names given twice, values of other types) is malformed here.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Malformed, canonical::MOST_HEADERS};

/// The most members of a dictionary, and parameters of an item.
const MOST: usize = 16;

/// A value.
#[derive(Debug, PartialEq)]
pub(super) enum Bare {
    Integer(i64),
    String(String),
    Token(String),
    Bytes(Vec<u8>),
    Boolean(bool),
}

/// `;name=value`, each name once.
pub(super) type Parameters = Vec<(String, Bare)>;

/// `("a" "b";c);d=1`: strings alone.
#[derive(Debug)]
pub(super) struct InnerList {
    pub(super) items: Vec<(String, Parameters)>,
    pub(super) parameters: Parameters,
}

/// A dictionary of inner lists.
pub(super) fn inner_lists(value: &[u8]) -> Result<Vec<(String, InnerList)>, Malformed> {
    Parser::new(value)?.dictionary(|parser| parser.inner_list())
}

/// A dictionary of byte sequences; parameters are not looked at.
pub(super) fn byte_sequences(value: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Malformed> {
    Parser::new(value)?.dictionary(|parser| match parser.bare()? {
        Bare::Bytes(bytes) => parser.parameters().map(|_| bytes),
        _ => Err(Malformed),
    })
}

/// Base64 with its padding, and in no other form (RFC 4648 §4).
pub(super) fn base64(text: &str) -> Result<Vec<u8>, Malformed> {
    STANDARD.decode(text).map_err(|_| Malformed)
}

/// Writes parameters (RFC 8941 §4.1.1.2).
pub(super) fn write_parameters(out: &mut String, parameters: &Parameters) {
    for (name, value) in parameters {
        out.push(';');
        out.push_str(name);
        if *value != Bare::Boolean(true) {
            out.push('=');
            write_bare(out, value);
        }
    }
}

/// Writes a string (RFC 8941 §4.1.6).
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
    out.push('"');
}

fn write_bare(out: &mut String, value: &Bare) {
    match value {
        // Writing to memory does not fail.
        Bare::Integer(number) => drop(write!(out, "{number}")),
        Bare::String(text) => write_string(out, text),
        Bare::Token(text) => out.push_str(text),
        Bare::Bytes(bytes) => {
            out.push(':');
            STANDARD.encode_string(bytes, out);
            out.push(':');
        }
        Bare::Boolean(yes) => out.push_str(if *yes { "?1" } else { "?0" }),
    }
}

struct Parser<'a>(&'a str);

impl<'a> Parser<'a> {
    fn new(value: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(value).map_err(|_| Malformed)?;
        if !text.is_ascii() {
            return Err(Malformed);
        }
        Ok(Self(text.trim_matches(' ')))
    }

    fn eat(&mut self, byte: char) -> bool {
        match self.0.strip_prefix(byte) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, byte: char) -> Result<(), Malformed> {
        if self.eat(byte) {
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    /// What leads up to a byte that is not `wanted`.
    fn run(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let end = self.0.bytes().position(|byte| !wanted(byte));
        let (run, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        run
    }

    fn spaces(&mut self) {
        self.run(|byte| byte == b' ');
    }

    fn dictionary<T>(
        mut self,
        member: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<(String, T)>, Malformed> {
        let mut members: Vec<(String, T)> = Vec::new();
        loop {
            let name = self.key()?;
            if members.len() == MOST || members.iter().any(|(other, _)| *other == name) {
                return Err(Malformed);
            }
            self.expect('=')?;
            members.push((name, member(&mut self)?));
            self.run(|byte| matches!(byte, b' ' | b'\t'));
            if self.0.is_empty() {
                return Ok(members);
            }
            self.expect(',')?;
            self.run(|byte| matches!(byte, b' ' | b'\t'));
        }
    }

    fn key(&mut self) -> Result<String, Malformed> {
        let key = self.run(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        });
        match key.bytes().next() {
            Some(b'a'..=b'z' | b'*') => Ok(key.to_owned()),
            _ => Err(Malformed),
        }
    }

    fn inner_list(&mut self) -> Result<InnerList, Malformed> {
        self.expect('(')?;
        let mut items = Vec::new();
        loop {
            self.spaces();
            if self.eat(')') {
                break;
            }
            if items.len() == MOST_HEADERS {
                return Err(Malformed);
            }
            let Bare::String(name) = self.bare()? else {
                return Err(Malformed);
            };
            items.push((name, self.parameters()?));
            if !self.0.starts_with([' ', ')']) {
                return Err(Malformed);
            }
        }
        Ok(InnerList {
            items,
            parameters: self.parameters()?,
        })
    }

    fn parameters(&mut self) -> Result<Parameters, Malformed> {
        let mut parameters = Parameters::new();
        while self.eat(';') {
            self.spaces();
            let name = self.key()?;
            if parameters.len() == MOST || parameters.iter().any(|(other, _)| *other == name) {
                return Err(Malformed);
            }
            let value = if self.eat('=') {
                self.bare()?
            } else {
                Bare::Boolean(true)
            };
            parameters.push((name, value));
        }
        Ok(parameters)
    }

    fn bare(&mut self) -> Result<Bare, Malformed> {
        match self.0.bytes().next().ok_or(Malformed)? {
            b'"' => self.string(),
            b':' => {
                self.expect(':')?;
                let text = self.run(|byte| byte != b':');
                self.expect(':')?;
                base64(text).map(Bare::Bytes)
            }
            b'?' => {
                self.expect('?')?;
                if self.eat('1') {
                    Ok(Bare::Boolean(true))
                } else {
                    self.expect('0').map(|()| Bare::Boolean(false))
                }
            }
            b'-' | b'0'..=b'9' => {
                let text = self.run(|byte| byte == b'-' || byte.is_ascii_digit());
                if text.len() > 16 || self.0.starts_with('.') {
                    return Err(Malformed);
                }
                text.parse().map(Bare::Integer).map_err(|_| Malformed)
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => {
                let token = self.run(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
                });
                Ok(Bare::Token(token.to_owned()))
            }
            _ => Err(Malformed),
        }
    }

    fn string(&mut self) -> Result<Bare, Malformed> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            text.push_str(self.run(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte)));
            if self.eat('"') {
                return Ok(Bare::String(text));
            }
            self.expect('\\')?;
            if self.eat('"') {
                text.push('"');
            } else {
                self.expect('\\')?;
                text.push('\\');
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn inner_lists_are_written_as_they_were_read() {
        let text = r#"("@method" "a-b";sf "x\"\\";k="v";n=-5);created=1618884473;keyid="k";t=tok/en;b=:AQI=:;no=?0"#;
        let lists = inner_lists(format!("sig1={text},  s2=()").as_bytes()).unwrap();
        assert_eq!(lists.len(), 2);
        let (label, list) = &lists[0];
        assert_eq!(label, "sig1");
        let mut out = String::from("(");
        for (index, (name, parameters)) in list.items.iter().enumerate() {
            if index > 0 {
                out.push(' ');
            }
            write_string(&mut out, name);
            write_parameters(&mut out, parameters);
        }
        out.push(')');
        write_parameters(&mut out, &list.parameters);
        assert_eq!(out, text);
    }

    #[test]
    fn what_could_be_repaired_is_malformed() {
        for text in [
            "",
            "a",
            "a=",
            "a=(",
            "a=(\"x\"",
            "a=(\"x\"\"y\")",
            "a=(x)",
            "a=(1)",
            "a=(),",
            "a=(), a=()",
            "A=()",
            "a=();A=1",
            "a=();b=1;b=2",
            "a=();b=1.5",
            "a=();b=@1",
            "a=();b=--1",
            "a=();b=12345678901234567",
            "a=();b=\"x",
            "a=();b=\"\\x\"",
            "a=();b=:x:",
            "a=();b=?2",
            "a=() b=()",
            "a=(\"\u{e9}\")",
            "\ta=()",
        ] {
            assert!(inner_lists(text.as_bytes()).is_err(), "{text}");
        }
        assert!(byte_sequences(b"a=:AQI:").is_err(), "no padding");
        assert!(byte_sequences(b"a=:AQJ=:").is_err(), "left-over bits");
        assert!(byte_sequences(b"a=1").is_err());
        assert_eq!(byte_sequences(b"a=:AQI=:;x").unwrap()[0].1, [1, 2]);
    }
}
