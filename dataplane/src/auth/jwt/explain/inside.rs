//! What is wrong with the claims of a token whose signature is good.

use http::HeaderName;

use super::super::{claims, json::Json};
use crate::{
    auth::Outcome,
    config,
    quoted::{all_of, any_of, quoted},
};

/// Where [`claims::read`] ends.
pub(super) fn of_claims(
    rules: &config::Jwt,
    headers: &[(String, HeaderName)],
    claims: &Json,
    now: u64,
) -> Option<String> {
    dates(rules, claims, now)
        .or_else(|| issuer(rules, claims))
        .or_else(|| audience(rules, claims))
        .or_else(|| consumer(rules, claims))
        .or_else(|| unsendable(headers, claims))
        .or_else(|| claim(rules, claims))
        .or_else(|| scope(rules, claims))
}

fn dates(rules: &config::Jwt, claims: &Json, now: u64) -> Option<String> {
    for name in ["exp", "nbf", "iat"] {
        if claims::date(claims, name).is_err() {
            let given = value(claims.get(name)?);
            return Some(format!(
                "the claim {name} is {given}, not a date in seconds since 1970"
            ));
        }
    }
    let date = |name| claims::date(claims, name).ok().flatten();
    let Some(until) = date("exp") else {
        return Some("the token has no claim exp: it would be good for ever".to_owned());
    };
    let skew = rules.clock_skew.as_secs();
    let told = |name: &str, at: u64, when: &str| {
        format!(
            "the claim {name} is {}, which with a clockSkew of {skew} s {when} {}, this machine's time",
            time(at),
            time(now)
        )
    };
    if now >= until.saturating_add(skew) {
        return Some(told("exp", until, "is before"));
    }
    let from = date("nbf").unwrap_or(0);
    (now.saturating_add(skew) < from).then(|| told("nbf", from, "is after"))
}

fn time(seconds: u64) -> String {
    let at = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| seconds.to_string(), |at| at.to_string())
}

fn issuer(rules: &config::Jwt, claims: &Json) -> Option<String> {
    let given = claims.get("iss");
    if given.and_then(Json::as_str) == Some(&rules.issuer) {
        return None;
    }
    let wanted = quoted(&rules.issuer);
    Some(match given {
        None => format!("the token has no claim iss, and the policy wants {wanted}"),
        Some(given) => format!(
            "the claim iss is {}, and the policy wants {wanted}",
            value(given)
        ),
    })
}

fn audience(rules: &config::Jwt, claims: &Json) -> Option<String> {
    let wanted = any_of(rules.audiences.iter().map(String::as_str));
    let given = match (
        claims::audience(claims, &rules.audiences),
        claims.get("aud"),
    ) {
        (Ok(()), _) => return None,
        (Err(_), None) => {
            return Some(format!(
                "the token has no claim aud, and the policy wants {wanted}"
            ));
        }
        (Err(Outcome::Malformed), Some(given)) => {
            let given = value(given);
            return Some(format!(
                "the claim aud is {given}, neither text nor a list of texts"
            ));
        }
        (Err(_), Some(given)) => value(given),
    };
    Some(format!(
        "the claim aud is {given}, and the policy wants {wanted}"
    ))
}

fn consumer(rules: &config::Jwt, claims: &Json) -> Option<String> {
    let given = claims.at(&rules.consumer_claim);
    claims::consumer(given).err()?;
    let why = match given?.as_str() {
        None => "is no text",
        Some("") => "is empty",
        Some(name) if name.len() > claims::CONSUMER => "has more than 255 bytes",
        Some(_) => "begins or ends with a space, or has a control character",
    };
    Some(format!(
        "the claim {}, which names the consumer, {why}: {}",
        rules.consumer_claim,
        value(given?)
    ))
}

fn unsendable(headers: &[(String, HeaderName)], claims: &Json) -> Option<String> {
    let cannot = |(claim, _): &&(String, HeaderName)| {
        claims
            .at(claim)
            .is_some_and(|given| claims::header(given).is_err())
    };
    let (claim, name) = headers.iter().find(cannot)?;
    Some(format!(
        "the claim {claim} is {}, which cannot be sent in the header {name} as it is",
        value(claims.at(claim)?)
    ))
}

fn claim(rules: &config::Jwt, claims: &Json) -> Option<String> {
    let mut wanted = rules.required_claims.iter();
    let missing = wanted.find(|wanted| !claims::has(claims, wanted))?;
    let name = &missing.claim;
    let values = any_of(missing.values.iter().map(String::as_str));
    let wants = match missing.values.as_slice() {
        [] => "and the policy wants it".to_owned(),
        _ => format!("and the policy wants {values}"),
    };
    Some(match claims.at(name) {
        None => format!("the token is good, but has no claim {name}, {wants}"),
        Some(given) => {
            let given = value(given);
            format!("the token is good, but its claim {name} is {given}, {wants}")
        }
    })
}

fn scope(rules: &config::Jwt, claims: &Json) -> Option<String> {
    let has = |wanted: &&String| claims::has_scopes(claims, std::slice::from_ref(*wanted));
    let missing = rules.required_scopes.iter().filter(|wanted| !has(wanted));
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    if missing.is_empty() {
        return None;
    }
    let given: Vec<String> = ["scope", "scp"]
        .iter()
        .filter_map(|name| Some(format!("{name} is {}", value(claims.get(name)?))))
        .collect();
    let given = match given.as_slice() {
        [] => "it has neither scope nor scp".to_owned(),
        given => given.join(", "),
    };
    Some(format!(
        "the token is good, but lacks the scope {}: {given}",
        all_of(missing)
    ))
}

/// A claim's value: short, and with nothing in it that is not text.
fn value(given: &Json) -> String {
    match given {
        Json::Null => "null".to_owned(),
        Json::Object(_) => "an object".to_owned(),
        Json::String(text) => quoted(text),
        Json::Array(values) => {
            let plain: Vec<String> = values.iter().filter_map(Json::plain).collect();
            match plain.is_empty() {
                true => "a list without texts".to_owned(),
                false => all_of(plain.iter().map(String::as_str)),
            }
        }
        plain => plain.plain().unwrap_or_default(),
    }
}
