//! What is wrong with a signature that was refused, in words, for `hale why`.
//!
//! Looks for what the profiles refuse before they compare anything, by the same functions and in their order. What is
//! named of a request is names of headers, dates, and how a signature is put together; never a signature.

mod components;

use super::{
    AccessKey, Asked, Malformed, Signed, aws4,
    canonical::{self, covers},
    cavage, http_time, sdk,
};
use crate::{
    config::SignatureProfile,
    quoted::{all_of, quoted},
};

impl AccessKey {
    /// What is wrong with the signature of a request; `None` if the outcome says all that there is to say.
    pub(in crate::auth) fn explain(&self, asked: &Asked<'_>) -> Option<String> {
        explain(self.config.profile, &self.signed(asked))
    }
}

pub(super) fn explain(profile: SignatureProfile, request: &Signed<'_>) -> Option<String> {
    match profile {
        SignatureProfile::Aws4 => match authorization(request, aws4::SCHEME) {
            Ok(Some(text)) => in_header(request, text, &AWS4),
            Ok(None) => presigned(request),
            Err(why) => Some(why),
        },
        SignatureProfile::Sdk => match authorization(request, sdk::SCHEME) {
            Ok(text) => in_header(request, text?, &SDK),
            Err(why) => Some(why),
        },
        SignatureProfile::Cavage => match authorization(request, cavage::SCHEME) {
            Ok(text) => components::of_cavage(request, text?),
            Err(why) => Some(why),
        },
        SignatureProfile::HttpSignature => components::of_messages(request),
    }
}

/// What tells the two profiles apart that sign headers which `SignedHeaders` lists.
struct Listed {
    parameters: [&'static str; 3],
    /// Headers that must be signed where they are there.
    prefix: &'static str,
    date: &'static str,
    /// Whether `Date` will do.
    or_date: bool,
    digest: &'static str,
    /// Whether a signed header may be there once only.
    once: bool,
    /// Whether the path is signed as if it was escaped, and must be.
    escapes: bool,
}

const AWS4: Listed = Listed {
    parameters: ["Credential", "SignedHeaders", "Signature"],
    prefix: "x-amz-",
    date: "x-amz-date",
    or_date: true,
    digest: "x-amz-content-sha256",
    once: false,
    escapes: false,
};
const SDK: Listed = Listed {
    parameters: ["Access", "SignedHeaders", "Signature"],
    prefix: "x-sdk-",
    date: "x-sdk-date",
    or_date: false,
    digest: "x-sdk-content-sha256",
    once: true,
    escapes: true,
};

fn authorization<'a>(request: &Signed<'a>, scheme: &str) -> Result<Option<&'a str>, String> {
    request.authorization(scheme).map_err(|Malformed| {
        format!("Authorization with {scheme} is there beside another one, has more than 8 KiB, or is not ASCII")
    })
}

fn in_header(request: &Signed<'_>, text: &str, profile: &Listed) -> Option<String> {
    if let Some(why) = parameters(text, &profile.parameters) {
        return Some(why);
    }
    let Ok([credential, names, signature]) = super::named_parameters(text, profile.parameters)
    else {
        return Some(format!(
            "Authorization does not have {} once each, separated by commas, and nothing else",
            profile.parameters.join(", ")
        ));
    };
    if profile.or_date && !aws4::is_scope(credential) {
        return Some(SCOPE.to_owned());
    }
    let names = match canonical::signed_headers(names) {
        Ok(names) => names,
        Err(Malformed) => return Some(badly_listed(names)),
    };
    date(request, &names, profile)
        .or_else(|| day(request, credential, profile))
        .or_else(|| headers(request, &names, profile))
        .or_else(|| path(request, profile))
        .or_else(|| mac(signature))
        .or_else(|| body(request, profile.digest))
}

const SCOPE: &str = "Credential is not written as in KEY/20260102/REGION/SERVICE/aws4_request";

/// Which of the parameters are not there.
fn parameters(text: &str, wanted: &[&str]) -> Option<String> {
    let has = |name: &&&str| {
        let mut parts = text
            .split(',')
            .filter_map(|part| part.trim().split_once('='));
        parts.any(|(given, value)| given == **name && !value.is_empty())
    };
    let missing: Vec<&str> = wanted.iter().filter(|name| !has(name)).copied().collect();
    (!missing.is_empty()).then(|| format!("Authorization lacks {}", missing.join(", ")))
}

fn badly_listed(list: &str) -> String {
    let names: Vec<&str> = list.split(';').collect();
    if let Some(name) = names.iter().find(|name| !canonical::is_field_name(name)) {
        return format!(
            "SignedHeaders names {}, which is no name of a header in lower case",
            quoted(name)
        );
    }
    if !names.contains(&"host") {
        return "the header host is not signed: SignedHeaders does not name it".to_owned();
    }
    if names.len() > canonical::MOST_HEADERS {
        return "SignedHeaders names more than 64 headers".to_owned();
    }
    "the names of SignedHeaders are not sorted, or one is there twice".to_owned()
}

fn date(request: &Signed<'_>, names: &[&str], profile: &Listed) -> Option<String> {
    let given = match request.one(profile.date) {
        Ok(given) => given,
        Err(Malformed) => return Some(twice(profile.date)),
    };
    if let Some(given) = given {
        return match canonical::basic_time(given) {
            Ok(at) => skewed(request, profile.date, at),
            Err(Malformed) => Some(format!(
                "{} is {}, not written as 20260102T030405Z",
                profile.date,
                quoted(given)
            )),
        };
    }
    if !profile.or_date {
        return Some(format!("the header {} is not there", profile.date));
    }
    match request.one("date") {
        Ok(Some(_)) if names.binary_search(&"date").is_err() => Some(
            "the header date is not signed: SignedHeaders does not name it, and there is no x-amz-date"
                .to_owned(),
        ),
        Ok(Some(given)) => match http_time(&given.replace(" -0000", " GMT")) {
            Ok(at) => skewed(request, "date", at),
            Err(Malformed) => Some(unreadable_date(given)),
        },
        Ok(None) => Some("neither x-amz-date nor date is there".to_owned()),
        Err(Malformed) => Some(twice("date")),
    }
}

/// Whether the scope's day is that of the request.
fn day(request: &Signed<'_>, credential: &str, profile: &Listed) -> Option<String> {
    if !profile.or_date {
        return None;
    }
    let day = credential.rsplit('/').nth(3)?;
    let given = request.one(profile.date).ok().flatten()?;
    (given.get(..8) != Some(day)).then(|| {
        format!(
            "Credential is for the day {}, and {} is {}",
            quoted(day),
            profile.date,
            quoted(given)
        )
    })
}

/// Headers that must be signed and are not, and those that are and are not there.
fn headers(request: &Signed<'_>, names: &[&str], profile: &Listed) -> Option<String> {
    if !covers(request, profile.prefix, names) {
        let all = request.headers.keys().map(http::HeaderName::as_str);
        let unsigned = all.filter(|name| {
            name.starts_with(profile.prefix)
                && *name != "x-amz-cf-id"
                && names.binary_search(name).is_err()
        });
        return Some(format!(
            "these headers are there and not signed (SignedHeaders does not name them): {}",
            all_of(unsigned)
        ));
    }
    if let Some(missing) = missing(request, names.iter().copied()) {
        return Some(format!(
            "SignedHeaders names {missing}, which the request does not have"
        ));
    }
    let several = |name: &&&str| request.headers.get_all(**name).iter().nth(1).is_some();
    let several = names.iter().find(several).filter(|_| profile.once)?;
    Some(twice(several))
}

/// The first name of a header that the request does not have.
fn missing<'n>(request: &Signed<'_>, mut names: impl Iterator<Item = &'n str>) -> Option<String> {
    let is_missing = |name: &&str| {
        canonical::is_field_name(name) && *name != "host" && !request.headers.contains_key(*name)
    };
    names.find(is_missing).map(quoted)
}

/// Whether the path has what a signature cannot tell from its escape.
fn path(request: &Signed<'_>, profile: &Listed) -> Option<String> {
    let is_escaped = matches!(canonical::escaped_alike(request.path), Ok(Some(_)));
    (profile.escapes && !is_escaped).then(|| {
        "the path has a character that is not escaped (one of !$&'()*+,;=:@): to this signature it is the same as \
         its escape, so it must be sent as that"
            .to_owned()
    })
}

fn mac(signature: &str) -> Option<String> {
    super::hexadecimal(signature)
        .is_err()
        .then(|| "Signature is not 64 hexadecimal digits in lower case".to_owned())
}

fn body(request: &Signed<'_>, name: &str) -> Option<String> {
    let given = match request.one(name) {
        Ok(given) => given?,
        Err(Malformed) => return Some(twice(name)),
    };
    super::payload(request, given).err()?;
    let why = match given {
        "UNSIGNED-PAYLOAD" => "and the policy's signedBody is Required",
        given if given.starts_with("STREAMING-") => "and bodies signed in chunks are not read",
        _ => "neither 64 hexadecimal digits in lower case nor UNSIGNED-PAYLOAD",
    };
    Some(format!("{name} is {}, {why}", quoted(given)))
}

fn presigned(request: &Signed<'_>) -> Option<String> {
    let query = request.query?;
    let Ok(pairs) = canonical::parameters(query) else {
        return Some("the query has an empty parameter, or one that is badly escaped".to_owned());
    };
    let value = |name: &str| {
        let mut found = pairs
            .iter()
            .filter(|(given, _)| **given == *name.as_bytes());
        let (_, value) = found.next()?;
        (found.next().is_none()).then(|| String::from_utf8_lossy(value))
    };
    let names = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    ];
    let missing: Vec<&str> = names
        .into_iter()
        .filter(|name| value(name).is_none())
        .collect();
    if !missing.is_empty() {
        return Some(format!(
            "the query lacks {}, or has it twice",
            missing.join(", ")
        ));
    }
    if !aws4::is_scope(&value("X-Amz-Credential")?) {
        return Some(format!("X-Amz-{SCOPE}"));
    }
    let list = value("X-Amz-SignedHeaders")?;
    let Ok(names) = canonical::signed_headers(&list) else {
        return Some(format!("X-Amz-SignedHeaders: {}", badly_listed(&list)));
    };
    let date = value("X-Amz-Date")?;
    let Ok(at) = canonical::basic_time(&date) else {
        let date = quoted(&date);
        return Some(format!(
            "X-Amz-Date is {date}, not written as 20260102T030405Z"
        ));
    };
    let lasts: Option<i64> = value("X-Amz-Expires")?.parse().ok();
    let Some(lasts) = lasts.filter(|lasts| (1..=aws4::LONGEST).contains(lasts)) else {
        return Some("X-Amz-Expires is not 1 to 604800 seconds".to_owned());
    };
    let over = request.now.saturating_sub(at.saturating_add(lasts));
    if over > 0 {
        return Some(format!(
            "the URL was good for {lasts} s, and that was over {over} s ago"
        ));
    }
    if at > request.now.saturating_add(request.skew) {
        return skewed(request, "X-Amz-Date", at);
    }
    headers(request, &names, &AWS4)
        .or_else(|| mac(&value("X-Amz-Signature")?))
        .or_else(|| body(request, AWS4.digest))
}

fn skewed(request: &Signed<'_>, name: &str, at: i64) -> Option<String> {
    request.in_time(at).err()?;
    let (off, side) = match request.now.saturating_sub(at) {
        off if off > 0 => (off, "behind"),
        off => (off.saturating_neg(), "ahead of"),
    };
    let skew = request.skew;
    Some(format!(
        "{name} is {off} s {side} this machine's clock, and clockSkew is {skew} s"
    ))
}

fn twice(name: &str) -> String {
    format!("the header {name} is there more than once, or is not ASCII")
}

fn unreadable_date(given: &str) -> String {
    let given = quoted(given);
    format!("date is {given}, not written as \"Fri, 02 Jan 2026 03:04:05 GMT\"")
}
