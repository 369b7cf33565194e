//! `auth.anyOf[].accessKey`: Secrets chosen by labels, each of which holds one key.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hale_crds::{AccessKeyAuth, AccessKeyProfile, SecretSelector};
use hale_dataplane::config::{
    AccessKey, AccessKeyEntry, AccessKeys, SecretBytes, SignatureProfile, SignedBody,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::settings::ObjectKey;

use super::{
    super::sections::{Judged, Place, duration},
    Told, credentials,
};

/// Bytes of an id, and of a secret.
const LONGEST_ID: usize = 128;
const LONGEST_SECRET: usize = 1024;
/// Bytes of a consumer's name: as long as that of a Secret.
const LONGEST_CONSUMER: usize = 253;
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn read(
    section: &AccessKeyAuth,
    field: &str,
    place: &Place<'_>,
    told: &mut Told,
) -> Judged<AccessKey> {
    if section.secret_selector.match_labels.is_empty() {
        return Err(format!(
            "{field}.secretSelector.matchLabels: at least one label is wanted"
        ));
    }
    let clock_skew = duration(
        &format!("{field}.clockSkew"),
        &section.clock_skew,
        Duration::from_secs(1)..=HOUR,
    )?;
    let replay_window = duration(
        &format!("{field}.replayWindow"),
        &section.replay_window,
        Duration::ZERO..=HOUR,
    )?;
    let keys = keys(&section.secret_selector, place).map(|(keys, notes)| {
        told.notes(field, notes);
        keys
    });
    Ok(AccessKey {
        profile: match section.profile {
            AccessKeyProfile::Aws4 => SignatureProfile::Aws4,
            AccessKeyProfile::Sdk => SignatureProfile::Sdk,
            AccessKeyProfile::HttpSignature => SignatureProfile::HttpSignature,
            AccessKeyProfile::Cavage => SignatureProfile::Cavage,
        },
        keys: told.resolved(field, keys),
        clock_skew,
        signed_body: match section.signed_body {
            hale_crds::SignedBody::Required => SignedBody::Required,
            hale_crds::SignedBody::Optional => SignedBody::Optional,
        },
        replay_window: Some(replay_window).filter(|window| !window.is_zero()),
    })
}

fn keys(selector: &SecretSelector, place: &Place<'_>) -> Judged<(AccessKeys, Vec<String>)> {
    let namespace = &place.policy.namespace;
    let first = ObjectKey::new(&**namespace, "");
    let selected = place
        .cluster
        .secrets()
        .range(first..)
        .take_while(|(key, _)| key.namespace == *namespace)
        .filter(|(_, secret)| selector.matches(secret.labels()));
    let mut notes = Vec::new();
    let mut by_id: BTreeMap<String, Vec<(&ObjectKey, AccessKeyEntry)>> = BTreeMap::new();
    for (key, secret) in selected {
        match entry(key, secret) {
            Ok(entry) => {
                let same = by_id.entry(entry.id.clone()).or_default();
                same.push((key, entry));
            }
            Err(error) => notes.push(format!("Secret {key}: {error}")),
        }
    }
    let mut keys = Vec::new();
    for same in by_id.into_values() {
        if same.len() == 1 {
            keys.extend(same.into_iter().map(|(_, entry)| entry));
        } else {
            let secrets: Vec<String> = same.iter().map(|(key, _)| key.to_string()).collect();
            notes.push(format!(
                "Secrets {} have the same accessKeyId, which is refused",
                secrets.join(" and ")
            ));
        }
    }
    let notes = credentials::first_few(notes);
    if !keys.is_empty() {
        return Ok((AccessKeys(keys), notes));
    }
    let labels: Vec<String> = selector
        .match_labels
        .iter()
        .map(|(name, value)| format!("{name}={}", value.0))
        .collect();
    let mut error = format!(
        "no Secret of namespace {namespace} with the labels {} has an access key",
        labels.join(", ")
    );
    if !notes.is_empty() {
        error.push_str(&format!(": {}", notes.join("; ")));
    }
    Err(error)
}

fn entry(key: &ObjectKey, secret: &Secret) -> Judged<AccessKeyEntry> {
    let id = credentials::word(secret, "accessKeyId", LONGEST_ID)?;
    let id = id.ok_or_else(|| "it has no key accessKeyId".to_owned())?;
    let bytes = credentials::entry(secret, "secretAccessKey");
    let bytes = bytes.ok_or_else(|| "it has no key secretAccessKey".to_owned())?;
    let bytes = credentials::without_newline(bytes);
    if bytes.is_empty() {
        return Err("its secretAccessKey is empty".to_owned());
    }
    if bytes.len() > LONGEST_SECRET {
        return Err(format!(
            "its secretAccessKey is longer than {LONGEST_SECRET} bytes"
        ));
    }
    let consumer = credentials::word(secret, "consumer", LONGEST_CONSUMER)?;
    let not_after = credentials::word(secret, "notAfter", 64)?
        .map(str::parse::<Timestamp>)
        .transpose()
        .map_err(|_| "its notAfter is no time as in 2027-01-31T00:00:00Z".to_owned())?;
    Ok(AccessKeyEntry {
        id: id.to_owned(),
        secret: SecretBytes::new(bytes),
        consumer: Arc::from(consumer.unwrap_or(&key.name)),
        not_after,
    })
}
