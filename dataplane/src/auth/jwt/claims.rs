//! The inside of a token whose signature is good: for when it is, for whom, and who it says that it is.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use super::{super::Outcome, json::Json};
use crate::config;

/// From here on a date is none: the year 10000.
const NO_DATE: u64 = 253_402_300_800;
/// Bytes of a consumer's name.
pub(super) const CONSUMER: usize = 255;
/// From here on floating point leaves integers out.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a token says, as the policy reads it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    /// Who may; or that they may not.
    pub(super) verdict: Result<Passed, Outcome>,
    /// Unix time from which on it is expired, the skew included.
    pub(super) until: u64,
}

/// What goes upstream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Passed {
    pub(super) consumer: Option<Arc<str>>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Reads the claims. What is wrong with the token is an error; that it is good, and not for this, a verdict.
pub(super) fn read(
    rules: &config::Jwt,
    headers: &[(String, HeaderName)],
    claims: &Json,
    now: u64,
) -> Result<Said, Outcome> {
    let until = in_time(claims, rules.clock_skew, now)?;
    if claims.get("iss").and_then(Json::as_str) != Some(&rules.issuer) {
        return Err(Outcome::NotForUs);
    }
    audience(claims, &rules.audiences)?;
    let passed = Passed {
        consumer: consumer(claims.at(&rules.consumer_claim))?,
        headers: headers
            .iter()
            .filter_map(|(claim, name)| {
                let value = header(claims.at(claim)?).transpose()?;
                Some(value.map(|value| (name.clone(), value)))
            })
            .collect::<Result<_, _>>()?,
    };
    let may = rules
        .required_claims
        .iter()
        .all(|wanted| has(claims, wanted))
        && has_scopes(claims, &rules.required_scopes);
    let verdict = if may {
        Ok(passed)
    } else {
        Err(Outcome::Forbidden)
    };
    Ok(Said { verdict, until })
}

fn in_time(claims: &Json, skew: Duration, now: u64) -> Result<u64, Outcome> {
    let skew = skew.as_secs();
    let until = date(claims, "exp")?.ok_or(Outcome::Malformed)? + skew;
    let from = date(claims, "nbf")?.unwrap_or(0);
    date(claims, "iat")?;
    if now >= until {
        return Err(Outcome::Expired);
    }
    if now + skew < from {
        return Err(Outcome::NotYetValid);
    }
    Ok(until)
}

/// Seconds since 1970 (RFC 7519 §2), which may have a fraction.
pub(super) fn date(claims: &Json, name: &str) -> Result<Option<u64>, Outcome> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Unsigned(date)) if *date < NO_DATE => Ok(Some(*date)),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(Json::Float(date)) if (0.0..253_402_300_800.0).contains(date) => {
            Ok(Some(*date as u64))
        }
        Some(_) => Err(Outcome::Malformed),
    }
}

pub(super) fn audience(claims: &Json, wanted: &[String]) -> Result<(), Outcome> {
    let is_wanted = |audience: &str| wanted.iter().any(|wanted| wanted == audience);
    let found = match claims.get("aud") {
        _ if wanted.is_empty() => true,
        None => false,
        Some(Json::String(audience)) => is_wanted(audience),
        Some(Json::Array(audiences)) => {
            let audiences: Option<Vec<&str>> = audiences.iter().map(Json::as_str).collect();
            let audiences = audiences.ok_or(Outcome::Malformed)?;
            audiences.into_iter().any(is_wanted)
        }
        Some(_) => return Err(Outcome::Malformed),
    };
    if found {
        Ok(())
    } else {
        Err(Outcome::NotForUs)
    }
}

pub(super) fn has(claims: &Json, wanted: &config::RequiredClaim) -> bool {
    let is_wanted = |value: &Json| {
        value
            .plain()
            .is_some_and(|value| wanted.values.contains(&value))
    };
    match claims.at(&wanted.claim) {
        None | Some(Json::Null) => false,
        Some(_) if wanted.values.is_empty() => true,
        Some(Json::Array(values)) => values.iter().any(is_wanted),
        Some(value) => is_wanted(value),
    }
}

/// `scope` of RFC 8693, and the `scp` of others; each may be text with spaces or an array.
pub(super) fn has_scopes(claims: &Json, wanted: &[String]) -> bool {
    let said = || {
        ["scope", "scp"]
            .into_iter()
            .filter_map(|name| claims.get(name))
    };
    wanted.iter().all(|wanted| {
        said().any(|scopes| match scopes {
            Json::String(scopes) => scopes.split(' ').any(|scope| scope == wanted),
            Json::Array(scopes) => scopes.iter().any(|scope| scope.as_str() == Some(wanted)),
            _ => false,
        })
    })
}

pub(super) fn consumer(claim: Option<&Json>) -> Result<Option<Arc<str>>, Outcome> {
    let name = match claim {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::String(name)) => name,
        Some(_) => return Err(Outcome::Malformed),
    };
    if name.is_empty() || name.len() > CONSUMER {
        return Err(Outcome::Malformed);
    }
    sendable(name)?;
    Ok(Some(name.as_str().into()))
}

/// The value of a header. Objects, nulls and arrays that hold them have none.
pub(super) fn header(claim: &Json) -> Result<Option<HeaderValue>, Outcome> {
    let text = match claim {
        Json::Null | Json::Object(_) => return Ok(None),
        Json::Array(values) => {
            let plain: Option<Vec<String>> = values.iter().map(Json::plain).collect();
            let Some(plain) = plain else { return Ok(None) };
            // The upstream would read one as two.
            if plain.iter().any(|value| value.contains(',')) {
                return Err(Outcome::Malformed);
            }
            values.iter().try_for_each(exact)?;
            plain.join(",")
        }
        value => {
            exact(value)?;
            value.plain().unwrap_or_default()
        }
    };
    sendable(&text).map(Some)
}

/// A number that lost digits when it was read is not told as if it had not.
fn exact(value: &Json) -> Result<(), Outcome> {
    match value {
        Json::Float(value) if value.abs() >= EXACT => Err(Outcome::Malformed),
        _ => Ok(()),
    }
}

/// Text that arrives as it is: HTTP drops space at the ends, and has no place for control characters.
fn sendable(text: &str) -> Result<HeaderValue, Outcome> {
    if text.trim().len() != text.len() || text.chars().any(char::is_control) {
        return Err(Outcome::Malformed);
    }
    HeaderValue::from_bytes(text.as_bytes()).map_err(|_| Outcome::Malformed)
}
