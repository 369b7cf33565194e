//! The outside of a token: three parts (RFC 7515 §7.1), and a header of which nothing is believed but which
//! algorithm and which key it says it was signed with.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};

use super::{super::Outcome, algorithm, json::Json};
use crate::config::JwtAlgorithm;

/// Bytes of a token.
pub(super) const TOKEN: usize = 16 * 1024;
/// Bytes of its header, decoded.
const HEADER: usize = 2 * 1024;
/// Bytes of a `kid`.
const KID: usize = 256;

/// A token taken apart; its claims are not looked at before its signature is.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: JwtAlgorithm,
    pub(super) kid: Option<String>,
    /// What was signed.
    pub(super) message: &'a [u8],
    pub(super) signature: Vec<u8>,
    claims: &'a str,
}

/// The token of a request; `None` where there is none. Whoever sends two credentials of which one is a token has
/// something to hide.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Result<&[u8], Outcome>> {
    let mut tokens = headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .map(|value| of_scheme(value.as_bytes()));
    let first = tokens.next()?;
    match (first, tokens.next()) {
        (first, None) => first.map(Ok),
        (None, Some(None)) if tokens.all(|token| token.is_none()) => None,
        _ => Some(Err(Outcome::Malformed)),
    }
}

/// What follows `Bearer` and spaces.
fn of_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    match rest {
        [] => Some(rest),
        [b' ', ..] => Some(rest.trim_ascii_start()),
        _ => None,
    }
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, Outcome> {
        let malformed = || Outcome::Malformed;
        if token.len() > TOKEN {
            return Err(Outcome::Malformed);
        }
        let token = std::str::from_utf8(token).map_err(|_| Outcome::Malformed)?;
        let mut parts = token.split('.');
        let (Some(head), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Outcome::Malformed);
        };
        // Read after the signature; what cannot be read is not worth a look at that.
        if !claims
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return Err(Outcome::Malformed);
        }
        let decoded = decode(head)?;
        if decoded.len() > HEADER {
            return Err(Outcome::Malformed);
        }
        let header = Json::parse(&decoded).map_err(|_| Outcome::Malformed)?;
        let (algorithm, kid) = read_header(&header)?;
        let message = head.len() + 1 + claims.len();
        Ok(Self {
            algorithm,
            kid,
            message: token.as_bytes().get(..message).ok_or_else(malformed)?,
            signature: decode(signature)?,
            claims,
        })
    }

    /// The claims.
    pub(super) fn claims(&self) -> Result<Json, Outcome> {
        match Json::parse(&decode(self.claims)?) {
            Ok(claims @ Json::Object(_)) => Ok(claims),
            _ => Err(Outcome::Malformed),
        }
    }
}

/// The alphabet of RFC 4648 §5, no padding, no spare bits.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, Outcome> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Outcome::Malformed)
}

/// Algorithm and `kid`. Where keys could come from (`jku`, `jwk`, `x5u`, `x5c`) is not read.
fn read_header(header: &Json) -> Result<(JwtAlgorithm, Option<String>), Outcome> {
    let text = |name: &str| match header.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Outcome::Malformed),
    };
    // Extensions that change what the rest means: Hale has none of them.
    if ["crit", "b64", "zip", "enc"]
        .iter()
        .any(|name| header.get(name).is_some())
    {
        return Err(Outcome::Malformed);
    }
    if let Some(kind) = text("typ")? {
        let kind = kind.to_ascii_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        if kind != "jwt" && kind != "at+jwt" {
            return Err(Outcome::Malformed);
        }
    }
    // A token in a token.
    if text("cty")?.is_some_and(|kind| kind.eq_ignore_ascii_case("jwt")) {
        return Err(Outcome::Malformed);
    }
    let kid = text("kid")?.map(str::to_owned);
    if kid.as_ref().is_some_and(|kid| kid.len() > KID) {
        return Err(Outcome::Malformed);
    }
    let name = text("alg")?.ok_or(Outcome::Malformed)?;
    let algorithm = algorithm::named(name).ok_or(Outcome::NotForUs)?;
    Ok((algorithm, kid))
}
