//! HTTP Message Signatures (RFC 9421) with `hmac-sha256`.
//!
//! A client chooses what it signs, so what a signature must be over is said here: method, host, path and query,
//! when it was made, and the digest of the body.

use std::{borrow::Cow, fmt::Write};

use http::HeaderName;

use super::{
    Claim, LONGEST_HEADER, Malformed, Over, Signed, canonical,
    digest::Digests,
    structured::{self, Bare, InnerList, Parameters},
};
use crate::{auth::Outcome, config::SignedBody};

/// Where signatures are.
pub(super) const HEADERS: [HeaderName; 2] = [SIGNATURE, SIGNATURE_INPUT];
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// How many signatures of one request are looked at.
const MOST_SIGNATURES: usize = 4;

/// The signatures of a request; any one that is good will do.
pub(super) fn read<'a>(request: &Signed<'a>) -> Result<Vec<Result<Claim<'a>, Outcome>>, Outcome> {
    if !request.headers.contains_key(SIGNATURE_INPUT) {
        return Ok(Vec::new());
    }
    let inputs = structured::inner_lists(&request.list(&SIGNATURE_INPUT, LONGEST_HEADER)?)?;
    let macs = structured::byte_sequences(&request.list(&SIGNATURE, LONGEST_HEADER)?)?;
    if inputs.len() != macs.len() || inputs.len() > MOST_SIGNATURES {
        return Err(Outcome::Malformed);
    }
    let claims = inputs.iter().map(|(label, input)| {
        let mac = macs.iter().find(|(other, _)| other == label);
        let (_, mac) = mac.ok_or(Malformed)?;
        claim(request, input, mac)
    });
    Ok(claims.collect())
}

fn claim<'a>(request: &Signed<'a>, input: &InnerList, mac: &[u8]) -> Result<Claim<'a>, Outcome> {
    let parameters = Told::read(&input.parameters)?;
    let covers = |name: &str| input.items.iter().any(|(item, _)| item == name);
    let target = covers("@target-uri")
        || covers("@authority")
            && (covers("@request-target") || covers("@path") && covers("@query"));
    if !covers("@method") || !target {
        return Err(Outcome::WrongCredential);
    }
    request.in_time(parameters.created)?;
    if parameters
        .expires
        .is_some_and(|expires| request.now > expires)
    {
        return Err(Outcome::Expired);
    }
    let base = base(request, input)?;
    let digests = match request.headers.contains_key(CONTENT_DIGEST) {
        true => Digests::content_digest(&request.list(&CONTENT_DIGEST, LONGEST_HEADER)?)?,
        false => None,
    };
    let covered = digests.is_some() && covers("content-digest");
    if request.has_body && request.body == SignedBody::Required && !covered {
        return Err(Outcome::BodyMismatch);
    }
    Ok(Claim {
        key_id: Cow::Owned(parameters.key_id.to_owned()),
        scope: None,
        mac: mac.try_into().map_err(|_| Malformed)?,
        over: Over::Text(base),
        digests,
    })
}

/// What the parameters of a signature say.
struct Told<'p> {
    key_id: &'p str,
    created: i64,
    expires: Option<i64>,
}

impl<'p> Told<'p> {
    fn read(parameters: &'p Parameters) -> Result<Self, Malformed> {
        let (mut key_id, mut created, mut expires) = (None, None, None);
        for (name, value) in parameters {
            match (name.as_str(), value) {
                ("keyid", Bare::String(id)) => key_id = Some(id.as_str()),
                ("created", Bare::Integer(at)) => created = Some(*at),
                ("expires", Bare::Integer(at)) => expires = Some(*at),
                ("alg", Bare::String(name)) if name == "hmac-sha256" => {}
                // What they say is between client and upstream.
                ("nonce" | "tag", Bare::String(_)) => {}
                _ => return Err(Malformed),
            }
        }
        Ok(Self {
            key_id: key_id.ok_or(Malformed)?,
            created: created.ok_or(Malformed)?,
            expires,
        })
    }
}

/// The signature base (RFC 9421 §2.5).
pub(super) fn base(request: &Signed<'_>, input: &InnerList) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(512);
    let mut list = String::from("(");
    for (index, (name, parameters)) in input.items.iter().enumerate() {
        // Parameters change what is signed of a component; none of them is known here.
        if !parameters.is_empty() || input.items.iter().skip(index + 1).any(|(n, _)| n == name) {
            return Err(Malformed);
        }
        if index > 0 {
            list.push(' ');
        }
        structured::write_string(&mut list, name);
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\": ");
        component(&mut out, request, name)?;
        out.push(b'\n');
    }
    list.push(')');
    structured::write_parameters(&mut list, &input.parameters);
    out.extend_from_slice(b"\"@signature-params\": ");
    out.extend_from_slice(list.as_bytes());
    Ok(out)
}

fn component(out: &mut Vec<u8>, request: &Signed<'_>, name: &str) -> Result<(), Malformed> {
    let query = request.query.unwrap_or_default();
    let text = match name {
        "@method" => Cow::Borrowed(request.method.as_str()),
        "@authority" => authority(request).into(),
        "@scheme" => scheme(request).into(),
        "@path" => request.path.into(),
        "@query" => format!("?{query}").into(),
        "@request-target" => target(request).into(),
        "@target-uri" => {
            let (scheme, authority, target) =
                (scheme(request), authority(request), target(request));
            format!("{scheme}://{authority}{target}").into()
        }
        name if canonical::is_field_name(name) => {
            out.extend_from_slice(&request.field(name)?);
            return Ok(());
        }
        _ => return Err(Malformed),
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn scheme(request: &Signed<'_>) -> &'static str {
    if request.https { "https" } else { "http" }
}

/// Lower case, without the port that the scheme has anyway (RFC 9421 §2.2.3).
fn authority(request: &Signed<'_>) -> String {
    let mut authority = request.authority.to_ascii_lowercase();
    let usual = if request.https { ":443" } else { ":80" };
    if authority.ends_with(usual) {
        authority.truncate(authority.len() - usual.len());
    }
    authority
}

fn target(request: &Signed<'_>) -> String {
    let mut target = request.path.to_owned();
    if let Some(query) = request.query {
        // Writing to memory does not fail.
        let _ = write!(target, "?{query}");
    }
    target
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_lc_rs::hmac;
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;
    use crate::auth::access_key::tests::Sample;

    /// RFC 9421 §B.2.5, which signs too little to be let in, but shows that the base is the right one.
    #[test]
    fn the_base_is_that_of_the_rfc() {
        let sample = Sample::new("POST", "http://example.com/foo?param=Value&Pet=dog")
            .with("date", "Tue, 20 Apr 2021 02:07:55 GMT")
            .with("content-type", "application/json");
        let input = r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
        let inputs = structured::inner_lists(input.as_bytes()).unwrap();
        let base = base(&sample.signed(), &inputs[0].1).unwrap();
        let wanted = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\
            \"content-type\": application/json\n\
            \"@signature-params\": (\"date\" \"@authority\" \"content-type\")\
            ;created=1618884473;keyid=\"test-shared-secret\"";
        assert_eq!(String::from_utf8_lossy(&base), wanted);
        let secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret).unwrap());
        let mac = STANDARD
            .decode("pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=")
            .unwrap();
        assert!(hmac::verify(&key, &base, &mac).is_ok());
    }

    #[test]
    fn components_are_read_from_the_request_as_received() {
        let sample = Sample::new("GET", "http://Example.COM:80/a%20b/../c?x=%2f&x")
            .with("x-a", " one ")
            .with("x-a", "two")
            .with("x-empty", "");
        for (name, wanted) in [
            ("@method", "GET"),
            ("@authority", "example.com"),
            ("@scheme", "http"),
            ("@path", "/a%20b/../c"),
            ("@query", "?x=%2f&x"),
            ("@request-target", "/a%20b/../c?x=%2f&x"),
            ("@target-uri", "http://example.com/a%20b/../c?x=%2f&x"),
            ("x-a", "one, two"),
            ("x-empty", ""),
        ] {
            let mut out = Vec::new();
            component(&mut out, &sample.signed(), name).unwrap();
            assert_eq!(String::from_utf8_lossy(&out), wanted, "{name}");
        }
        for name in ["@status", "@query-param", "x-b", "X-A", ""] {
            assert!(
                component(&mut Vec::new(), &sample.signed(), name).is_err(),
                "{name}"
            );
        }
    }
}
