//! Certificates from Secrets.

use hale_dataplane::tls::Certificate;

use crate::{cluster::Cluster, settings::ObjectKey};

/// The certificate of a Secret of type `kubernetes.io/tls`, or what is wrong, for people.
pub(super) fn certificate(key: &ObjectKey, cluster: &Cluster) -> Result<Certificate, String> {
    let Some(secret) = cluster.secrets().get(key) else {
        return Err(format!(
            "Secret {key} does not exist, or is not of type kubernetes.io/tls"
        ));
    };
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
