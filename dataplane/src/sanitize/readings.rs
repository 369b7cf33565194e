//! What servers may make of a canonical path.
//!
//! A request goes upstream as it is, so what protects a path has to look at every path that some server would take
//! it for. Servers differ in whether they
//!
//! - take `;parameters` off each segment: those that are written plainly, or `%3B`, too, in both cases before or after
//!   `%2F` is decoded;
//! - decode `%2F` before they split the path;
//! - cut the path at `%3F` or `%23`, because they decode before they look for the query;
//! - merge repeated slashes, before or after dot segments are resolved.
//!
//! Other reserved characters mean the same plainly and escaped here (`@` and `%40`), because most servers decode them.
//! Nothing is decoded twice.

use super::path::{PathError, resolve};

/// Bytes that are written for all readings of one path: bounds the work that a request can ask for. A path of 16 KiB
/// with repeated and encoded slashes needs 96 KiB.
const MOST_BYTES: usize = 256 * 1024;

/// What takes `;parameters` off.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strip {
    Nothing,
    /// `;`, up to the next `/`.
    Plain,
    /// `;`, up to the next `/` or `%2F`.
    PlainSegments,
    /// `;` and `%3B`, up to the next `/`.
    Decoded,
    /// `;` and `%3B`, up to the next `/` or `%2F`.
    Segments,
}

/// What a path has that servers disagree on.
#[derive(Clone, Copy)]
struct Traits {
    parameters: bool,
    escaped_parameters: bool,
    escaped_slash: bool,
    query: Option<usize>,
    fragment: Option<usize>,
    repeated: bool,
}

impl Traits {
    fn of(path: &str) -> Self {
        Self {
            parameters: path.contains(';'),
            escaped_parameters: path.contains("%3B"),
            escaped_slash: path.contains("%2F"),
            query: path.find("%3F"),
            fragment: path.find("%23"),
            repeated: path.contains("//"),
        }
    }

    /// Ways to take parameters off, and whether `%2F` and `%3B` are decoded.
    fn ways(self) -> impl Iterator<Item = (Strip, bool)> {
        let decodes = self.escaped_slash || self.escaped_parameters;
        let any = self.parameters || self.escaped_parameters;
        [
            (Strip::Nothing, false, true),
            (Strip::Nothing, true, decodes),
            (Strip::Plain, false, self.parameters),
            (Strip::Plain, true, self.parameters && decodes),
            (Strip::Decoded, false, self.escaped_parameters),
            (Strip::Decoded, true, self.escaped_parameters && decodes),
            (Strip::Segments, true, any && self.escaped_slash),
            // Without `%3B` it is as `Segments`.
            (
                Strip::PlainSegments,
                true,
                self.parameters && self.escaped_parameters && self.escaped_slash,
            ),
        ]
        .into_iter()
        .filter_map(|(strip, decode, applies)| applies.then_some((strip, decode)))
    }
}

/// Where a path ends.
#[derive(Clone, Copy)]
enum End {
    /// Before what was found in the path as it is.
    Before(usize),
    /// At the first of this that is left when parameters are taken off.
    At(&'static str),
}

/// Shows every reading of a canonical path, as it is matched: first the path itself. Ends with the first error.
pub(crate) fn visit_readings<E: From<PathError>>(
    path: &str,
    mut see: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    if !path.contains(['%', ';']) && !path.contains("//") {
        return see(path);
    }
    let traits = Traits::of(path);
    let whole = Some(End::Before(path.len()));
    let ends = [traits.query, traits.fragment].map(|at| at.map(End::Before));
    let late = [
        traits.query.and(Some(End::At("%3F"))),
        traits.fragment.and(Some(End::At("%23"))),
    ];
    let mut text = String::with_capacity(path.len());
    let mut written = 0;
    for (strip, decode) in traits.ways() {
        let late = late.into_iter().filter(|_| strip != Strip::Nothing);
        for end in std::iter::once(whole).chain(ends).chain(late).flatten() {
            written += path.len();
            if written > MOST_BYTES {
                return Err(PathError::TooManyReadings.into());
            }
            read(path, strip, decode, end, &mut text);
            see_resolved(&text, traits.repeated || text.contains("//"), &mut see)?;
        }
    }
    Ok(())
}

/// A reading with its dot segments resolved, with slashes as they are, and merged.
fn see_resolved<E>(
    text: &str,
    repeated: bool,
    see: &mut impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let dots = text.split('/').any(|segment| matches!(segment, "." | ".."));
    if !dots {
        see(text)?;
        return match repeated {
            true => see(&merged(text)),
            false => Ok(()),
        };
    }
    let resolved = resolve(text);
    see(&resolved)?;
    if repeated {
        see(&merged(&resolved))?;
        see(&resolve(&merged(text)))?;
    }
    Ok(())
}

/// The path with every run of slashes as one.
pub(crate) fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for char in path.chars() {
        if char != '/' || !out.ends_with('/') {
            out.push(char);
        }
    }
    out
}

/// The path with `%2F` as `/`.
pub(crate) fn decoded_slashes(path: &str) -> String {
    path.replace("%2F", "/")
}

/// Writes one reading.
fn read(path: &str, strip: Strip, decode: bool, end: End, out: &mut String) {
    out.clear();
    let path = match end {
        End::Before(at) => path.get(..at).unwrap_or(path),
        End::At(_) => path,
    };
    let mut rest = path;
    let mut skipping = false;
    while let Some(byte) = rest.as_bytes().first() {
        let escape = match byte {
            b'%' => rest.get(..3),
            _ => None,
        };
        // What came in is ASCII, and an escape is whole.
        let (unit, next) = rest.split_at(if escape.is_some() { 3 } else { 1 });
        rest = next;
        let segments = matches!(strip, Strip::Segments | Strip::PlainSegments);
        let boundary = unit == "/" || (unit == "%2F" && segments);
        skipping &= !boundary;
        let begins = match strip {
            Strip::Nothing => false,
            Strip::Plain | Strip::PlainSegments => unit == ";",
            Strip::Decoded | Strip::Segments => unit == ";" || unit == "%3B",
        };
        skipping |= begins;
        if skipping {
            continue;
        }
        if let End::At(mark) = end
            && unit == mark
        {
            return;
        }
        match unit {
            "%2F" if decode => out.push('/'),
            "%3B" if decode => out.push(';'),
            unit => match escape.and_then(alike) {
                Some(char) => out.push(char),
                None => out.push_str(unit),
            },
        }
    }
}

/// The character of an escape that means the same as the escape: printable, and none that ends or splits paths.
fn alike(escape: &str) -> Option<char> {
    let code = u8::from_str_radix(escape.get(1..)?, 16).ok()?;
    let splits = matches!(code, b'%' | b'/' | b'?' | b'#' | b';' | b'\\');
    (code.is_ascii_graphic() && !splits).then(|| char::from(code))
}

/// The form in which rules are compared with readings.
pub(crate) fn comparable(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    read(
        path,
        Strip::Nothing,
        false,
        End::Before(path.len()),
        &mut out,
    );
    out
}
