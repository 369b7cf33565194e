//! `SDK-HMAC-SHA256`, as the SDKs of Huawei Cloud and its API gateway sign (`huaweicloudsdkcore`, `apig-sdk`),
//! and as Apinto reads it.
//!
//! The canonical path ends with `/`, whether the path does or not: to this scheme `/a` and `/a/` are the same. So are
//! `/a;b` and `/a%3Bb`; only the second is read, which is the one that the SDKs send.

use std::borrow::Cow;

use super::{
    Claim, Malformed, Over, Payload, Signed,
    canonical::{self, Fields, Order},
    named_parameters, payload,
};
use crate::auth::Outcome;

pub(super) const SCHEME: &str = "SDK-HMAC-SHA256";

/// The signature of a request, if it has one.
pub(super) fn read<'a>(request: &Signed<'a>) -> Result<Option<Claim<'a>>, Outcome> {
    let Some(text) = request.authorization(SCHEME)? else {
        return Ok(None);
    };
    let [key_id, names, signature] =
        named_parameters(text, ["Access", "SignedHeaders", "Signature"])?;
    let names = canonical::signed_headers(names)?;
    if !canonical::covers(request, "x-sdk-", &names) {
        return Err(Outcome::Malformed);
    }
    let date = request.one("x-sdk-date")?.ok_or(Malformed)?;
    request.in_time(canonical::basic_time(date)?)?;
    let mut path = canonical::escaped_alike(request.path)?.ok_or(Malformed)?;
    if !path.ends_with('/') {
        path.push('/');
    }
    let query = canonical::query(request.query, Order::Plain, None)?;
    let canonical = canonical::request(request, &path, &query, &names, Fields::One)?;
    let given = request.one("x-sdk-content-sha256")?;
    let mut payloads = Vec::new();
    if !request.has_body {
        // Without a body the SDK signs the digest of nothing, whatever the header says.
        payloads.push(Payload::nothing());
    }
    if let Some(given) = given {
        payloads.push(payload(request, given)?);
    }
    Ok(Some(Claim {
        key_id: Cow::Borrowed(key_id),
        scope: None,
        mac: super::hexadecimal(signature)?,
        over: Over::Canonical {
            head: format!("{SCHEME}\n{date}\n"),
            requests: vec![canonical],
            payloads,
            of_body: request.has_body && given.is_none(),
        },
        digests: None,
    }))
}
