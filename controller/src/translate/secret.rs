//! Certificates from Secrets.
//!
//! Parsing checks that key and certificate belong together, which costs a signature's worth of
//! arithmetic: a thousand hosts would spend more on it than on everything else. So what was parsed is
//! remembered by the very object it was parsed from. Objects never change, so translation stays a
//! function of its arguments.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use hale_dataplane::tls::Certificate;
use k8s_openapi::api::core::v1::Secret;

use crate::{cluster::Cluster, settings::ObjectKey};

type Parsed = Result<Certificate, String>;

/// What was parsed, as long as the Secret is there.
static PARSED: Mutex<BTreeMap<ObjectKey, (Weak<Secret>, Parsed)>> = Mutex::new(BTreeMap::new());

/// The certificate of a Secret of type `kubernetes.io/tls`, or what is wrong, for people.
pub(super) fn certificate(key: &ObjectKey, cluster: &Cluster) -> Parsed {
    let Some(secret) = cluster.secrets().get(key) else {
        return Err(format!(
            "Secret {key} does not exist, or is not of type kubernetes.io/tls"
        ));
    };
    // A panic elsewhere leaves the map as it was: each entry is put in whole.
    let mut known = PARSED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, parsed)) = known.get(key)
        && std::ptr::eq(of.as_ptr(), Arc::as_ptr(secret))
    {
        return parsed.clone();
    }
    let parsed = parse(key, secret);
    known.retain(|_, (of, _)| of.strong_count() > 0);
    known.insert(key.clone(), (Arc::downgrade(secret), parsed.clone()));
    parsed
}

fn parse(key: &ObjectKey, secret: &Secret) -> Parsed {
    let field = |name: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(name))
            .ok_or_else(|| format!("Secret {key} has no key {name}"))
    };
    Certificate::parse(&field("tls.crt")?.0, &field("tls.key")?.0)
        .map_err(|error| format!("Secret {key}: {error}"))
}
