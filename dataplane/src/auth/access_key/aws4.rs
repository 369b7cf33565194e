//! AWS Signature Version 4, in `Authorization` or in the query (a presigned URL).
//!
//! S3 escapes paths once, or not where they are escaped; all other services normalise them and escape them twice. Which one a client means is
//! known from the service that it names: were both tried for every request, a signature for one path could be
//! used for another, whose other form it is.

use std::borrow::Cow;

use super::{
    Claim, Malformed, Over, Payload, Signed,
    canonical::{self, Fields, Order},
    hexadecimal, named_parameters, payload,
};
use crate::{auth::Outcome, config::SignedBody, sanitize::canonical_path};

pub(super) const SCHEME: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// The parameter that must not go upstream.
pub(super) const SIGNATURE: &str = "X-Amz-Signature";
/// Seven days, in seconds.
pub(super) const LONGEST: i64 = 604_800;

/// `Credential`: an access key and what its signing key is derived from.
struct Scope<'a> {
    key_id: &'a str,
    date: &'a str,
    service: &'a str,
    /// All but the key id.
    whole: &'a str,
}

/// The signature of a request, if it has one.
pub(super) fn read<'a>(request: &Signed<'a>) -> Result<Option<Claim<'a>>, Outcome> {
    let header = request.authorization(SCHEME)?;
    let query = request.query.unwrap_or_default();
    // Nothing to look for in most queries.
    let presigned = query.contains("mz-S") || query.contains('%');
    let parameters = if presigned {
        Presigned::read(query)?
    } else {
        None
    };
    match (header, parameters) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Outcome::Malformed),
        (Some(text), None) => in_header(request, text).map(Some),
        (None, Some(parameters)) => in_query(request, &parameters).map(Some),
    }
}

fn in_header<'a>(request: &Signed<'a>, text: &'a str) -> Result<Claim<'a>, Outcome> {
    let [credential, names, signature] =
        named_parameters(text, ["Credential", "SignedHeaders", "Signature"])?;
    let scope = Scope::read(credential)?;
    let names = canonical::signed_headers(names)?;
    let (time, at) = header_time(request, &names)?;
    if time.get(..8) != Some(scope.date) {
        return Err(Outcome::Malformed);
    }
    request.in_time(at)?;
    let given = request.one("x-amz-content-sha256")?;
    let payloads = match given {
        Some(given) => vec![payload(request, given)?],
        None if request.has_body => Vec::new(),
        None => vec![Payload::nothing()],
    };
    Ok(Claim {
        key_id: Cow::Borrowed(scope.key_id),
        scope: Some(Cow::Borrowed(credential)),
        mac: hexadecimal(signature)?,
        over: Over::Canonical {
            head: format!("{SCHEME}\n{time}\n{}\n", scope.whole),
            requests: requests(request, &scope, &names, None)?,
            payloads,
            of_body: request.has_body && given.is_none(),
        },
        digests: None,
    })
}

/// `X-Amz-Date`, else `Date`; it must be signed.
fn header_time<'a>(request: &Signed<'a>, names: &[&str]) -> Result<(Cow<'a, str>, i64), Malformed> {
    if let Some(time) = request.one("x-amz-date")? {
        let at = canonical::basic_time(time)?;
        return Ok((Cow::Borrowed(time), at));
    }
    let date = request.one("date")?.ok_or(Malformed)?;
    if names.binary_search(&"date").is_err() {
        return Err(Malformed);
    }
    // botocore names the zone in numbers.
    let at = match date.strip_suffix(" -0000") {
        Some(date) => super::http_time(&format!("{date} GMT"))?,
        None => super::http_time(date)?,
    };
    let time = jiff::Timestamp::from_second(at).map_err(|_| Malformed)?;
    Ok((time.strftime("%Y%m%dT%H%M%SZ").to_string().into(), at))
}

/// Whether a `Credential` is written as it should be.
pub(super) fn is_scope(credential: &str) -> bool {
    Scope::read(credential).is_ok()
}

/// What a presigned URL says.
struct Presigned {
    credential: String,
    date: String,
    expires: i64,
    names: String,
    signature: String,
}

impl Presigned {
    fn read(query: &str) -> Result<Option<Self>, Malformed> {
        let names = [
            "Algorithm",
            "Credential",
            "Date",
            "Expires",
            "SignedHeaders",
            "Signature",
        ];
        let mut found: [Option<Cow<'_, [u8]>>; 6] = [const { None }; 6];
        let Ok(parameters) = canonical::parameters(query) else {
            // Whether it is one cannot be known: another method may read it.
            return match query.contains(SIGNATURE) {
                true => Err(Malformed),
                false => Ok(None),
            };
        };
        for (name, value) in parameters {
            let Some(name) = name.strip_prefix(b"X-Amz-") else {
                continue;
            };
            let at = names.iter().position(|wanted| wanted.as_bytes() == name);
            if let Some(slot) = at.and_then(|at| found.get_mut(at))
                && slot.replace(value).is_some()
            {
                return Err(Malformed);
            }
        }
        if found[0].is_none() && found[5].is_none() {
            return Ok(None);
        }
        let mut texts = found.into_iter().map(|value| {
            let value = value.ok_or(Malformed)?.into_owned();
            String::from_utf8(value).map_err(|_| Malformed)
        });
        let mut next = || texts.next().ok_or(Malformed)?;
        if next()? != SCHEME {
            return Err(Malformed);
        }
        Ok(Some(Self {
            credential: next()?,
            date: next()?,
            expires: digits(&next()?)?,
            names: next()?,
            signature: next()?,
        }))
    }
}

fn digits(text: &str) -> Result<i64, Malformed> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map_err(|_| Malformed),
        false => Err(Malformed),
    }
}

fn in_query<'a>(request: &Signed<'a>, presigned: &Presigned) -> Result<Claim<'a>, Outcome> {
    let scope = Scope::read(&presigned.credential)?;
    let names = canonical::signed_headers(&presigned.names)?;
    let at = canonical::basic_time(&presigned.date)?;
    let expires = presigned.expires;
    if presigned.date.get(..8) != Some(scope.date) || !(1..=LONGEST).contains(&expires) {
        return Err(Outcome::Malformed);
    }
    if at > request.now.saturating_add(request.skew) {
        return Err(Outcome::ClockSkew);
    }
    if request.now > at.saturating_add(expires) {
        return Err(Outcome::Expired);
    }
    let given = request.one("x-amz-content-sha256")?;
    let mut payloads = Vec::new();
    match given {
        Some(given) => payloads.push(payload(request, given)?),
        None => {
            // S3 signs these words, other services the digest of the body.
            if !request.has_body || request.body == SignedBody::Optional {
                payloads.push(Payload::words(UNSIGNED));
            }
            if !request.has_body {
                payloads.push(Payload::nothing());
            }
        }
    }
    Ok(Claim {
        mac: hexadecimal(&presigned.signature)?,
        over: Over::Canonical {
            head: format!("{SCHEME}\n{}\n{}\n", presigned.date, scope.whole),
            requests: requests(request, &scope, &names, Some(SIGNATURE))?,
            payloads,
            of_body: request.has_body && given.is_none(),
        },
        digests: None,
        key_id: Cow::Owned(scope.key_id.to_owned()),
        scope: Some(Cow::Owned(presigned.credential.clone())),
    })
}

/// The canonical requests that the client may have signed.
fn requests(
    request: &Signed<'_>,
    scope: &Scope<'_>,
    names: &[&str],
    but: Option<&str>,
) -> Result<Vec<Vec<u8>>, Malformed> {
    if !canonical::covers(request, "x-amz-", names) {
        return Err(Malformed);
    }
    let query = canonical::query(request.query, Order::Escaped, but)?;
    let mut paths: Vec<Cow<'_, str>> = Vec::with_capacity(2);
    let mut add = |path: Cow<'static, str>| {
        if !paths.contains(&path) {
            paths.push(path);
        }
    };
    if scope.service == "s3" || scope.service.starts_with("s3-") || scope.service == "s3express" {
        add(request.path.to_owned().into());
        // Clients that escape for the signature what they send otherwise.
        if let Some(path) = canonical::escaped_alike(request.path)? {
            add(path.into());
        }
    } else {
        let normalized = canonical::normalized(request.path);
        // Where that is what goes upstream: signed with one slash, two are another path.
        if canonical_path(&normalized).is_ok_and(|path| path == request.forwarded) {
            add(canonical::escaped_twice(&normalized).into());
        }
        // Clients that are told not to normalise; no normalised path is like it.
        add(canonical::escaped_twice(request.path).into());
        if !request.path.contains('%') {
            // Clients that do not escape; no escaped path is like it.
            add(request.path.to_owned().into());
        }
    }
    paths
        .iter()
        .map(|path| canonical::request(request, path, &query, names, Fields::Joined))
        .collect()
}

impl<'a> Scope<'a> {
    fn read(credential: &'a str) -> Result<Self, Malformed> {
        let mut parts = credential.rsplitn(5, '/');
        let mut next = || parts.next().ok_or(Malformed);
        let (end, service, region, date, key_id) = (next()?, next()?, next()?, next()?, next()?);
        let word = |text: &str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (1..=64).contains(&text.len()) && text.bytes().all(letter)
        };
        let dated = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
        if end != "aws4_request" || !word(service) || !word(region) || !dated || key_id.is_empty() {
            return Err(Malformed);
        }
        Ok(Self {
            key_id,
            date,
            service,
            whole: credential.get(key_id.len() + 1..).ok_or(Malformed)?,
        })
    }
}
