//! draft-cavage-http-signatures-12 with HMAC-SHA256, in `Authorization: Signature …`.
//!
//! What must be signed is said here, as for RFC 9421: `(request-target)`, `host`, a date, and the digest of
//! the body.

use std::borrow::Cow;

use http::{Method, header::DATE};

use super::{
    Claim, Malformed, Over, Signed,
    canonical::{self, MOST_HEADERS},
    digest::Digests,
    http_time, structured,
};
use crate::{auth::Outcome, config::SignedBody};

/// What the header says.
#[derive(Default)]
pub(super) struct Told<'a> {
    key_id: Option<&'a str>,
    pub(super) algorithm: Option<&'a str>,
    pub(super) headers: Option<&'a str>,
    signature: Option<&'a str>,
    created: Option<&'a str>,
    expires: Option<&'a str>,
}

pub(super) const SCHEME: &str = "Signature";

/// The signature of a request, if it has one.
pub(super) fn read<'a>(request: &Signed<'a>) -> Result<Option<Claim<'a>>, Outcome> {
    let Some(text) = request.authorization(SCHEME)? else {
        return Ok(None);
    };
    if is_ambiguous(request.method) {
        return Err(Outcome::Malformed);
    }
    let told = Told::read(text)?;
    // Only hs2019 leaves room for pseudo-headers of time (§2.3); without a name it is that one.
    let timed = match told.algorithm {
        None | Some("hs2019") => true,
        Some("hmac-sha256") => false,
        Some(_) => return Err(Outcome::Malformed),
    };
    let names: Vec<&str> = told
        .headers
        .ok_or(Malformed)?
        .split(' ')
        .take(MOST_HEADERS + 1)
        .collect();
    let covers = |name: &str| names.contains(&name);
    if names.len() > MOST_HEADERS || !covers("(request-target)") || !covers("host") {
        return Err(Outcome::WrongCredential);
    }
    check_times(request, &told, &covers)?;
    let base = base(request, &told, &names, timed)?;
    let digests = Digests::digest(request.headers.get_all("digest").iter())?;
    let covered = digests.is_some() && covers("digest");
    if request.has_body && request.body == SignedBody::Required && !covered {
        return Err(Outcome::BodyMismatch);
    }
    let mac = structured::base64(told.signature.ok_or(Malformed)?)?;
    Ok(Some(Claim {
        key_id: Cow::Borrowed(told.key_id.ok_or(Malformed)?),
        scope: None,
        mac: mac.try_into().map_err(|_| Malformed)?,
        over: Over::Text(base),
        digests,
    }))
}

/// Whether a method is not the one that `(request-target)` is read as: `get` stands for `GET`, and for no `gEt`.
pub(super) fn is_ambiguous(method: &Method) -> bool {
    method
        .as_str()
        .bytes()
        .any(|byte| byte.is_ascii_lowercase())
}

/// At least one date is signed, and all that are signed are near.
fn check_times(
    request: &Signed<'_>,
    told: &Told<'_>,
    covers: &impl Fn(&str) -> bool,
) -> Result<(), Outcome> {
    if !covers("date") && !covers("(created)") {
        return Err(Outcome::WrongCredential);
    }
    if covers("date") {
        request.in_time(http_time(request.one(DATE.as_str())?.ok_or(Malformed)?)?)?;
    }
    if let Some(created) = told.created {
        request.in_time(seconds(created)?)?;
    }
    match told.expires {
        Some(expires) if request.now > seconds(expires)? => Err(Outcome::Expired),
        _ => Ok(()),
    }
}

/// The signing string (§2.3).
fn base(
    request: &Signed<'_>,
    told: &Told<'_>,
    names: &[&str],
    timed: bool,
) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(512);
    for (index, name) in names.iter().enumerate() {
        if names.iter().skip(index + 1).any(|other| other == name) {
            return Err(Malformed);
        }
        if index > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        match *name {
            "(request-target)" => {
                let method = request.method.as_str().to_ascii_lowercase();
                out.extend_from_slice(method.as_bytes());
                out.push(b' ');
                out.extend_from_slice(request.path.as_bytes());
                if let Some(query) = request.query {
                    out.push(b'?');
                    out.extend_from_slice(query.as_bytes());
                }
            }
            "(created)" | "(expires)" if timed => {
                let time = if *name == "(created)" {
                    told.created
                } else {
                    told.expires
                };
                out.extend_from_slice(time.ok_or(Malformed)?.as_bytes());
            }
            "host" => out.extend_from_slice(request.authority.as_bytes()),
            name if canonical::is_field_name(name) => {
                out.extend_from_slice(&request.field(name)?);
            }
            _ => return Err(Malformed),
        }
    }
    Ok(out)
}

/// Whole seconds of Unix time.
fn seconds(text: &str) -> Result<i64, Malformed> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() < 16 {
        true => text.parse().map_err(|_| Malformed),
        false => Err(Malformed),
    }
}

impl<'a> Told<'a> {
    /// `name="value"` and `name=number`, separated by commas; each name once.
    pub(super) fn read(text: &'a str) -> Result<Self, Malformed> {
        let mut told = Self::default();
        let mut rest = text;
        loop {
            let (name, after) = rest.split_once('=').ok_or(Malformed)?;
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (value, after) = quoted.split_once('"').ok_or(Malformed)?;
                    // An escape could hide what the value is.
                    if value.contains('\\') {
                        return Err(Malformed);
                    }
                    (value, after)
                }
                None => {
                    let end = after.find([',', ' ']).unwrap_or(after.len());
                    let (value, after) = after.split_at(end);
                    seconds(value)?;
                    (value, after)
                }
            };
            let (slot, number) = match name {
                "keyId" => (&mut told.key_id, false),
                "algorithm" => (&mut told.algorithm, false),
                "headers" => (&mut told.headers, false),
                "signature" => (&mut told.signature, false),
                "created" => (&mut told.created, true),
                "expires" => (&mut told.expires, true),
                _ => return Err(Malformed),
            };
            let quoted = rest
                .get(name.len() + 1..)
                .is_some_and(|rest| rest.starts_with('"'));
            if number == quoted || value.is_empty() || slot.replace(value).is_some() {
                return Err(Malformed);
            }
            let after = after.trim_start_matches(' ');
            if after.is_empty() {
                return Ok(told);
            }
            rest = after
                .strip_prefix(',')
                .ok_or(Malformed)?
                .trim_start_matches(' ');
        }
    }
}
