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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cluster::Objects;

    /// A cluster with one Secret, whose certificate is for this host.
    fn cluster(host: &str) -> Cluster {
        let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        let data = serde_json::json!({"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()});
        let mut secret: Secret = serde_json::from_value(
            serde_json::json!({"metadata": {"name": "remembered"}, "stringData": data}),
        )
        .unwrap();
        let data = secret.string_data.take().unwrap().into_iter();
        secret.data = Some(
            data.map(|(name, text)| (name, k8s_openapi::ByteString(text.into_bytes())))
                .collect(),
        );
        let objects = Objects {
            secrets: vec![Arc::new(secret)],
            ..Objects::default()
        };
        Cluster::new(objects)
    }

    #[test]
    fn a_changed_secret_is_parsed_again() {
        let key = ObjectKey::new("default", "remembered");
        let before = cluster("a.example.com");
        let after = cluster("b.example.com");
        let first = certificate(&key, &before).unwrap();
        assert_eq!(first, certificate(&key, &before).unwrap());
        assert_ne!(first, certificate(&key, &after).unwrap());
        assert_eq!(first, certificate(&key, &before).unwrap());
        assert!(certificate(&key, &Cluster::default()).is_err());
    }
}
