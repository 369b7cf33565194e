//! The profiles in which a client chooses what it signs, and which want some of it signed.

use super::{
    super::{Digests, Malformed, Signed, cavage, http_time, structured},
    missing, parameters, skewed, twice, unreadable_date,
};
use crate::{config::SignedBody, quoted::quoted};

/// draft-cavage-http-signatures.
pub(super) fn of_cavage(request: &Signed<'_>, text: &str) -> Option<String> {
    if cavage::is_ambiguous(request.method) {
        let method = quoted(request.method.as_str());
        return Some(format!(
            "the method {method} has lower-case letters, which (request-target) does not tell from others"
        ));
    }
    if let Some(why) = parameters(text, &["keyId", "headers", "signature"]) {
        return Some(why);
    }
    let told = match cavage::Told::read(text) {
        Ok(told) => told,
        Err(Malformed) => {
            return Some(
                "Authorization is not a list of keyId, algorithm, headers, signature, created and expires, each once"
                    .to_owned(),
            );
        }
    };
    if let Some(algorithm) = told.algorithm
        && !matches!(algorithm, "hs2019" | "hmac-sha256")
    {
        let given = quoted(algorithm);
        return Some(format!(
            "algorithm is {given}, not \"hs2019\" or \"hmac-sha256\""
        ));
    }
    let names: Vec<&str> = told.headers?.split(' ').collect();
    let covers = |name: &str| names.contains(&name);
    let wanted = ["(request-target)", "host"];
    let unsigned: Vec<&str> = wanted.into_iter().filter(|name| !covers(name)).collect();
    if !unsigned.is_empty() {
        return Some(unsigned_words(&unsigned, "headers"));
    }
    if !covers("date") && !covers("(created)") {
        return Some(unsigned_words(&["date", "(created)"], "headers").replace(", ", " or "));
    }
    let date = match request
        .one("date")
        .map(|given| given.filter(|_| covers("date")))
    {
        Ok(None) => None,
        Ok(Some(given)) => match http_time(given) {
            Ok(at) => skewed(request, "date", at),
            Err(Malformed) => Some(unreadable_date(given)),
        },
        Err(Malformed) => covers("date").then(|| twice("date")),
    };
    if date.is_some() {
        return date;
    }
    let missing = missing(request, names.iter().copied());
    missing
        .map(|missing| format!("headers names {missing}, which the request does not have"))
        .or_else(|| {
            let read = Digests::digest(request.headers.get_all("digest").iter());
            read.is_err().then(|| unreadable_digest("digest"))
        })
        .or_else(|| unsigned_body(request, "digest", covers("digest")))
}

/// RFC 9421, by the first of several signatures.
pub(super) fn of_messages(request: &Signed<'_>) -> Option<String> {
    let (input, signature) = ("signature-input", "signature");
    let has = |name: &str| request.headers.contains_key(name);
    if !has(signature) {
        return Some(format!("{input} is there, and {signature} is not"));
    }
    let read = |name: &str| request.field(name);
    let (Ok(inputs), Ok(macs)) = (
        read(input).and_then(|text| structured::inner_lists(&text)),
        read(signature).and_then(|text| structured::byte_sequences(&text)),
    ) else {
        return Some(format!(
            "{input} or {signature} is not written as RFC 9421 says"
        ));
    };
    if inputs
        .iter()
        .any(|(label, _)| !macs.iter().any(|(other, _)| other == label))
    {
        return Some(format!(
            "{input} and {signature} do not have the same labels"
        ));
    }
    let (_, first) = inputs.first()?;
    let covers = |name: &str| first.items.iter().any(|(item, _)| item == name);
    let has_parameter = |wanted: &str| first.parameters.iter().any(|(name, _)| name == wanted);
    if let Some(name) = ["keyid", "created"]
        .iter()
        .find(|name| !has_parameter(name))
    {
        return Some(format!("{input} has no parameter {name}"));
    }
    let target = covers("@target-uri")
        || covers("@authority")
            && (covers("@request-target") || covers("@path") && covers("@query"));
    if !covers("@method") {
        return Some(unsigned_words(&["@method"], input));
    }
    if !target {
        return Some(format!(
            "the address is not signed: {input} has neither @target-uri nor @authority with @request-target or with @path and @query"
        ));
    }
    let created = first
        .parameters
        .iter()
        .find_map(|(name, value)| match value {
            structured::Bare::Integer(at) if name == "created" => Some(*at),
            _ => None,
        });
    let items = || first.items.iter().map(|(name, _)| name.as_str());
    let skew = created.and_then(|at| skewed(request, "created", at));
    skew.or_else(|| {
        let missing = missing(request, items())?;
        Some(format!(
            "{input} names {missing}, which the request does not have"
        ))
    })
    .or_else(|| {
        let given = has("content-digest").then(|| read("content-digest"))?;
        let given = given.and_then(|given| Digests::content_digest(&given));
        given.is_err().then(|| unreadable_digest("content-digest"))
    })
    .or_else(|| unsigned_body(request, "content-digest", covers("content-digest")))
}

fn unsigned_words(names: &[&str], list: &str) -> String {
    format!(
        "{list} does not name {}: they must be signed",
        names.join(", ")
    )
}

fn unsigned_body(request: &Signed<'_>, name: &str, is_covered: bool) -> Option<String> {
    if !request.has_body || request.body == SignedBody::Optional {
        return None;
    }
    match (request.headers.contains_key(name), is_covered) {
        (false, _) => Some(format!(
            "the body is not signed: the header {name} is not there, and the policy's signedBody is Required"
        )),
        (true, false) => Some(format!(
            "the body is not signed: the header {name} is there and not signed"
        )),
        (true, true) => None,
    }
}

fn unreadable_digest(name: &str) -> String {
    format!("the header {name} is not written as it should be, or has two values of one kind")
}
