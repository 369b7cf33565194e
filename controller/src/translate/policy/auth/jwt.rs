//! `auth.anyOf[].jwt`.

use std::{collections::BTreeSet, time::Duration};

use hale_crds::{Jwks, JwtAuth};
use hale_dataplane::{
    auth::jwt::KeySet,
    config::{ClaimToHeader, Jwt, JwtAlgorithm, JwtKeys, RemoteKeys, RequiredClaim},
};
use http::Uri;

use super::{
    super::{
        names::{self, Use},
        sections::{Judged, Place, duration},
        tls,
    },
    Told, credentials,
};

/// The key of a key set, in Secrets and ConfigMaps.
const KEYS: &str = "jwks.json";
/// How old keys may get.
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// For how long keys are used that cannot be fetched again.
const STALE: Duration = Duration::from_secs(24 * 3600);

pub(super) fn read(
    section: &JwtAuth,
    field: &str,
    place: &Place<'_>,
    told: &mut Told,
) -> Judged<Jwt> {
    for (name, text) in [
        ("issuer", &section.issuer),
        ("consumerClaim", &section.consumer_claim),
    ] {
        if text.is_empty() {
            return Err(format!("{field}.{name}: it is empty"));
        }
    }
    if section.audiences.iter().any(String::is_empty) {
        return Err(format!("{field}.audiences: one is empty"));
    }
    let algorithms = algorithms(section, field)?;
    let is_scope = |scope: &String| !scope.is_empty() && !scope.contains(char::is_whitespace);
    if !section.required_scopes.iter().all(is_scope) {
        return Err(format!(
            "{field}.requiredScopes: a scope has a space, or is empty"
        ));
    }
    let clock_skew = duration(
        &format!("{field}.clockSkew"),
        &section.clock_skew,
        Duration::ZERO..=Duration::from_secs(600),
    )?;
    Ok(Jwt {
        issuer: section.issuer.clone(),
        audiences: section.audiences.clone(),
        required_claims: required_claims(section, field)?,
        required_scopes: section.required_scopes.clone(),
        claims_to_headers: claims_to_headers(section, field)?,
        consumer_claim: section.consumer_claim.clone(),
        clock_skew,
        keys: keys(
            &section.jwks,
            algorithms.iter().any(|it| is_symmetric(*it)),
            field,
            place,
            told,
        )?,
        algorithms,
    })
}

/// Sorted, each once. A symmetric key that everybody may read, as in a ConfigMap, protects nothing.
fn algorithms(section: &JwtAuth, field: &str) -> Judged<Vec<JwtAlgorithm>> {
    let algorithms: BTreeSet<JwtAlgorithm> = section.algorithms.iter().map(algorithm).collect();
    if algorithms.is_empty() {
        return Err(format!("{field}.algorithms: at least one is wanted"));
    }
    if section.jwks.secret_ref.is_none() && algorithms.iter().any(|it| is_symmetric(*it)) {
        return Err(format!(
            "{field}.algorithms: HS256, HS384 and HS512 need a symmetric key, which only jwks.secretRef can hold"
        ));
    }
    Ok(algorithms.into_iter().collect())
}

const fn is_symmetric(algorithm: JwtAlgorithm) -> bool {
    matches!(
        algorithm,
        JwtAlgorithm::Hs256 | JwtAlgorithm::Hs384 | JwtAlgorithm::Hs512
    )
}

const fn algorithm(algorithm: &hale_crds::JwtAlgorithm) -> JwtAlgorithm {
    use hale_crds::JwtAlgorithm as Said;
    match algorithm {
        Said::Rs256 => JwtAlgorithm::Rs256,
        Said::Rs384 => JwtAlgorithm::Rs384,
        Said::Rs512 => JwtAlgorithm::Rs512,
        Said::Ps256 => JwtAlgorithm::Ps256,
        Said::Ps384 => JwtAlgorithm::Ps384,
        Said::Ps512 => JwtAlgorithm::Ps512,
        Said::Es256 => JwtAlgorithm::Es256,
        Said::Es384 => JwtAlgorithm::Es384,
        Said::EdDsa => JwtAlgorithm::EdDsa,
        Said::Hs256 => JwtAlgorithm::Hs256,
        Said::Hs384 => JwtAlgorithm::Hs384,
        Said::Hs512 => JwtAlgorithm::Hs512,
    }
}

fn required_claims(section: &JwtAuth, field: &str) -> Judged<Vec<RequiredClaim>> {
    let claims = section.required_claims.iter().enumerate();
    claims
        .map(|(index, claim)| {
            if claim.name.is_empty() {
                return Err(format!("{field}.requiredClaims[{index}].name: it is empty"));
            }
            Ok(RequiredClaim {
                claim: claim.name.clone(),
                values: claim.values.clone(),
            })
        })
        .collect()
}

fn claims_to_headers(section: &JwtAuth, field: &str) -> Judged<Vec<ClaimToHeader>> {
    let mut taken = BTreeSet::new();
    let claims = section.claims_to_headers.iter().enumerate();
    claims
        .map(|(index, claim)| {
            let field = format!("{field}.claimsToHeaders[{index}]");
            let header = names::header(&format!("{field}.header"), &claim.header, Use::Claim)?;
            if claim.claim.is_empty() {
                return Err(format!("{field}.claim: it is empty"));
            }
            if !taken.insert(header.clone()) {
                return Err(format!("{field}.header: {header} is named twice"));
            }
            Ok(ClaimToHeader {
                claim: claim.claim.clone(),
                header,
            })
        })
        .collect()
}

fn keys(
    jwks: &Jwks,
    symmetric: bool,
    field: &str,
    place: &Place<'_>,
    told: &mut Told,
) -> Judged<JwtKeys> {
    let field = format!("{field}.jwks");
    let fetches = jwks.refresh_interval.is_some() || !jwks.ca_certificate_refs.is_empty();
    if jwks.uri.is_none() && fetches {
        return Err(format!(
            "{field}: caCertificateRefs and refreshInterval go with uri alone"
        ));
    }
    let inline = |object: String, bytes: Judged<&[u8]>, symmetric| {
        KeySet::parse(bytes?, symmetric).map_err(|error| format!("{object}, key {KEYS}: {error}"))
    };
    match (&jwks.uri, &jwks.secret_ref, &jwks.config_map_ref) {
        (Some(uri), None, None) => remote(jwks, uri, &field, place, told).map(JwtKeys::Remote),
        (None, Some(reference), None) => {
            let key = place.own(&reference.name);
            let bytes = credentials::of_secret(&key, KEYS, place.cluster);
            let keys = inline(format!("Secret {key}"), bytes, symmetric);
            Ok(JwtKeys::Inline(told.resolved(&field, keys)))
        }
        (None, None, Some(reference)) => {
            let key = place.own(&reference.name);
            let bytes = credentials::of_config_map(&key, KEYS, place.cluster);
            let keys = inline(format!("ConfigMap {key}"), bytes, false);
            Ok(JwtKeys::Inline(told.resolved(&field, keys)))
        }
        _ => Err(format!(
            "{field}: set exactly one of uri, secretRef and configMapRef"
        )),
    }
}

fn remote(
    jwks: &Jwks,
    uri: &str,
    field: &str,
    place: &Place<'_>,
    told: &mut Told,
) -> Judged<RemoteKeys> {
    let wrong = |why: &str| format!("{field}.uri: {uri:?} {why}");
    let parsed = uri.parse::<Uri>().ok().filter(|_| is_plain(uri));
    let parsed = parsed.ok_or_else(|| wrong("is no URL"))?;
    let host = parsed.host().unwrap_or_default();
    let is_loopback = matches!(host, "127.0.0.1" | "[::1]" | "localhost");
    match parsed.scheme_str() {
        Some("https") => {}
        // Only where manifests are files, as in tests and on a developer's machine.
        Some("http") if is_loopback && place.settings.allow_loopback_endpoints => {}
        _ => return Err(wrong("does not begin with https://")),
    }
    let refresh = match &jwks.refresh_interval {
        Some(text) => duration(
            &format!("{field}.refreshInterval"),
            text,
            Duration::from_secs(10)..=STALE,
        )?,
        None => REFRESH,
    };
    let roots = (!jwks.ca_certificate_refs.is_empty()).then(|| {
        let namespace = &place.policy.namespace;
        let roots = tls::roots(&jwks.ca_certificate_refs, namespace, place.cluster);
        told.resolved(&format!("{field}.caCertificateRefs"), roots)
    });
    Ok(RemoteKeys {
        url: uri.to_owned(),
        roots,
        refresh,
        stale: STALE,
    })
}

/// Visible ASCII, with a host, and without user and fragment.
pub(super) fn is_plain(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let no_user = !authority.is_empty() && !authority.contains('@');
    no_user
        && url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
}
