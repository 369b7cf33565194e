//! One canonical path for each request.

use std::borrow::Cow;

use http::{Uri, uri::PathAndQuery};

/// Why a path has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path does not begin with /")]
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    #[error("the path has a % without two hexadecimal digits")]
    BadEscape,
    /// `%00`.
    #[error("the path has an encoded NUL")]
    Nul,
    /// `%2F`: some servers take it for a separator, some do not.
    #[error("the path has an encoded slash")]
    EncodedSlash,
    /// `\` or `%5C`: some servers take it for a separator, some do not.
    #[error("the path has a backslash")]
    Backslash,
    /// A control character, a space or a byte above 127.
    #[error("the path has a byte that must be percent-encoded")]
    RawByte,
    /// `..;x`: some servers drop the parameter and climb.
    #[error("the path has a dot segment with parameters")]
    DotParameters,
}

/// The canonical form of a path, without its query.
pub fn canonical_path(raw: &str) -> Result<Cow<'_, str>, PathError> {
    Ok(Cow::Borrowed(raw))
}

/// The request target to send upstream: the canonical path and the query as it came.
pub fn target(uri: &Uri, path: &str) -> PathAndQuery {
    let _ = path;
    uri.path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"))
}
