//! `auth.anyOf[].apiKey`: a Secret with one key for each consumer, whose value is the API key.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::digest;
use hale_crds::ApiKeyAuth;
use hale_dataplane::config::{ApiKey, ApiKeyEntry, ApiKeys, CredentialPlace};
use k8s_openapi::api::core::v1::Secret;

use crate::{cluster::Cluster, settings::ObjectKey};

use super::{
    super::{
        names::{self, Use},
        sections::{Judged, Place},
    },
    Told, credentials,
};

/// Bytes of the name of a parameter or cookie.
const LONGEST_NAME: usize = 128;

pub(super) fn read(
    section: &ApiKeyAuth,
    field: &str,
    place: &Place<'_>,
    told: &mut Told,
) -> Judged<ApiKey> {
    let location = location(section, field)?;
    let key = place.own(&section.secret_ref.name);
    let keys = keys(&key, place.cluster).map(|(keys, notes)| {
        told.notes(field, notes);
        keys
    });
    Ok(ApiKey {
        location,
        keys: told.resolved(field, keys),
    })
}

fn location(section: &ApiKeyAuth, field: &str) -> Judged<CredentialPlace> {
    match (&section.header, &section.query, &section.cookie) {
        (Some(name), None, None) => {
            names::header(&format!("{field}.header"), name, Use::Credential)
                .map(CredentialPlace::Header)
        }
        (None, Some(name), None) => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
                return Err(format!(
                    "{field}.query: {name:?} is not 1 to {LONGEST_NAME} letters, digits and -._~"
                ));
            }
            Ok(CredentialPlace::Query(name.clone()))
        }
        (None, None, Some(name)) => {
            // A cookie's name has a case, and an underscore is as good as any.
            names::token(&format!("{field}.cookie"), name)?;
            Ok(CredentialPlace::Cookie(name.clone()))
        }
        _ => Err(format!(
            "{field}: set exactly one of header, query and cookie"
        )),
    }
}

fn keys(key: &ObjectKey, cluster: &Cluster) -> Judged<(ApiKeys, Vec<String>)> {
    let secret = credentials::secret(key, cluster)?;
    holds_api_keys(secret).map_err(|why| format!("Secret {key} {why}"))?;
    let mut notes = Vec::new();
    let mut by_digest: BTreeMap<[u8; 32], Vec<&str>> = BTreeMap::new();
    for (consumer, value) in credentials::entries(secret) {
        let value = credentials::without_newline(value);
        if value.is_empty() {
            notes.push(format!("the key of {consumer} is empty"));
        } else {
            by_digest.entry(sha256(value)).or_default().push(consumer);
        }
    }
    let mut keys = Vec::new();
    for (digest, consumers) in by_digest {
        match consumers.as_slice() {
            [one] => keys.push(ApiKeyEntry {
                consumer: Arc::from(*one),
                digest,
            }),
            many => notes.push(format!(
                "{} have the same key, which says nothing of who it is: it is refused",
                many.join(" and ")
            )),
        }
    }
    keys.sort_by(|a, b| a.consumer.cmp(&b.consumer));
    let notes = credentials::first_few(notes);
    if !keys.is_empty() {
        let notes = notes.into_iter();
        let notes = notes.map(|note| format!("Secret {key}: {note}")).collect();
        Ok((ApiKeys(keys), notes))
    } else if notes.is_empty() {
        Err(format!("Secret {key} has no keys"))
    } else {
        Err(format!(
            "Secret {key} has no key that can be used: {}",
            notes.join("; ")
        ))
    }
}

/// Every entry of the Secret is somebody's key: one that was made for something else also holds what is no secret, as the
/// name of a user, a certificate or the id of an access key.
fn holds_api_keys(secret: &Secret) -> Result<(), String> {
    let kind = secret.type_.as_deref().unwrap_or_default();
    let owner = kind.split_once('/').map_or("", |(owner, _)| owner);
    if owner == "kubernetes.io" || owner.ends_with(".kubernetes.io") || owner == "helm.sh" {
        return Err(format!("is of type {kind}, and holds no API keys"));
    }
    let mut entries = credentials::entries(secret);
    if entries.any(|(name, _)| name == "secretAccessKey") {
        return Err("holds an access key, and no API keys".to_owned());
    }
    Ok(())
}

fn sha256(value: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, value).as_ref());
    bytes
}
