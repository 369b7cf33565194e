//! What Secrets and ConfigMaps hold. Messages name objects and keys, and never what is in them.

use k8s_openapi::api::core::v1::Secret;

use crate::{cluster::Cluster, settings::ObjectKey};

use super::super::sections::Judged;

/// Messages of a kind that are told.
const MOST_TOLD: usize = 8;

/// The Secret.
pub(super) fn secret<'a>(key: &ObjectKey, cluster: &'a Cluster) -> Judged<&'a Secret> {
    let secret = cluster.secrets().get(key);
    secret
        .map(AsRef::as_ref)
        .ok_or_else(|| format!("Secret {key} does not exist, or may not be read"))
}

/// Its entries, sorted by key.
pub(super) fn entries(secret: &Secret) -> impl Iterator<Item = (&str, &[u8])> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.as_str(), value.0.as_slice()))
}

/// One of them.
pub(super) fn entry<'a>(secret: &'a Secret, name: &str) -> Option<&'a [u8]> {
    let data = secret.data.as_ref()?;
    data.get(name).map(|value| value.0.as_slice())
}

/// Bytes of a key of a Secret.
pub(super) fn of_secret<'a>(key: &ObjectKey, name: &str, cluster: &'a Cluster) -> Judged<&'a [u8]> {
    let bytes = entry(secret(key, cluster)?, name);
    bytes.ok_or_else(|| format!("Secret {key} has no key {name}"))
}

/// Bytes of a key of a ConfigMap.
pub(super) fn of_config_map<'a>(
    key: &ObjectKey,
    name: &str,
    cluster: &'a Cluster,
) -> Judged<&'a [u8]> {
    let map = cluster.config_maps().get(key);
    let map = map.ok_or_else(|| format!("ConfigMap {key} does not exist, or may not be read"))?;
    let text = map.data.as_ref().and_then(|data| data.get(name));
    let binary = map.binary_data.as_ref().and_then(|data| data.get(name));
    text.map(String::as_bytes)
        .or_else(|| binary.map(|bytes| bytes.0.as_slice()))
        .ok_or_else(|| format!("ConfigMap {key} has no key {name}"))
}

/// Without the newline that editors and `echo` put at the end.
pub(super) fn without_newline(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Text of a key of a Secret: visible ASCII, so that it can be in a header.
pub(super) fn word<'a>(secret: &'a Secret, name: &str, longest: usize) -> Judged<Option<&'a str>> {
    let Some(bytes) = entry(secret, name) else {
        return Ok(None);
    };
    let bytes = without_newline(bytes);
    if bytes.is_empty() {
        return Err(format!("its {name} is empty"));
    }
    if bytes.len() > longest || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "its {name} is not 1 to {longest} visible ASCII characters without spaces"
        ));
    }
    std::str::from_utf8(bytes)
        .map(Some)
        .map_err(|_| format!("its {name} is not text"))
}

/// The first few, and how many more there are.
pub(super) fn first_few(mut messages: Vec<String>) -> Vec<String> {
    if messages.len() > MOST_TOLD {
        let more = messages.len() - MOST_TOLD;
        messages.truncate(MOST_TOLD);
        messages.push(format!("and {more} more"));
    }
    messages
}
