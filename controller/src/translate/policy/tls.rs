//! `spec.tls`, with what it refers to.

use hale_crds::{CaCertificateRef, CaKind, Tls};
use hale_dataplane::{
    config::{Hostname, Trust, UpstreamTls},
    tls::{Certificate, Roots},
};

use crate::{cluster::Cluster, settings::ObjectKey, translate::secret};

use super::sections::Judged;

/// The key of a bundle of roots.
const CA_KEY: &str = "ca.crt";

/// TLS to peers, but for the name that depends on the Service.
#[derive(Clone)]
pub(in crate::translate) struct TlsParts {
    server_name: Option<Hostname>,
    trust: Trust,
    client_certificate: Option<Certificate>,
}

impl TlsParts {
    /// Encryption without authentication: what `appProtocol: https` alone asks for.
    pub(in crate::translate) fn anyone() -> Self {
        Self {
            server_name: None,
            trust: Trust::Anyone,
            client_certificate: None,
        }
    }

    /// For the peers of a Service.
    pub(in crate::translate) fn for_service(self, service: &ObjectKey) -> UpstreamTls {
        let default = || {
            let name = format!("{}.{}.svc", service.name, service.namespace);
            Hostname::parse(&name).ok()
        };
        UpstreamTls {
            server_name: self.server_name.or_else(default),
            trust: self.trust,
            client_certificate: self.client_certificate,
        }
    }
}

/// Resolves the section. What cannot be resolved is an error, and refuses requests.
pub(super) fn read(tls: &Tls, namespace: &str, cluster: &Cluster) -> Judged<TlsParts> {
    let server_name = tls
        .hostname
        .as_deref()
        .map(Hostname::parse)
        .transpose()
        .map_err(|error| format!("tls.hostname: {error}"))?;
    let client_certificate = match &tls.client_certificate_ref {
        Some(reference) => {
            let key = ObjectKey::new(namespace, reference.name.clone());
            let certificate = secret::certificate(&key, cluster)
                .map_err(|error| format!("tls.clientCertificateRef: {error}"))?;
            Some(certificate)
        }
        None => None,
    };
    Ok(TlsParts {
        server_name,
        trust: trust(tls, namespace, cluster)?,
        client_certificate,
    })
}

fn trust(tls: &Tls, namespace: &str, cluster: &Cluster) -> Judged<Trust> {
    match (tls.insecure_skip_verify, tls.ca_certificate_refs.is_empty()) {
        (true, true) => Ok(Trust::Anyone),
        (true, false) => Err(
            "tls.insecureSkipVerify trusts anyone: remove it, or remove caCertificateRefs"
                .to_owned(),
        ),
        (false, true) => Ok(Trust::System),
        (false, false) => roots(&tls.ca_certificate_refs, namespace, cluster)
            .map(Trust::Roots)
            .map_err(|error| format!("tls.caCertificateRefs: {error}")),
    }
}

/// The roots in ConfigMaps and Secrets of a namespace.
pub(super) fn roots(
    references: &[CaCertificateRef],
    namespace: &str,
    cluster: &Cluster,
) -> Judged<Roots> {
    let mut bundle = Vec::new();
    for reference in references {
        let kind = reference.kind.as_str();
        if !reference.group.is_empty() {
            return Err(format!("group {:?} is not known", reference.group));
        }
        let key = ObjectKey::new(namespace, reference.name.clone());
        let missing = || format!("{kind} {key} does not exist, or may not be read");
        let part = match reference.kind {
            CaKind::ConfigMap => {
                let map = cluster.config_maps().get(&key).ok_or_else(missing)?;
                let text = map.data.as_ref().and_then(|data| data.get(CA_KEY));
                text.map(|text| text.as_bytes().to_vec())
            }
            CaKind::Secret => {
                let secret = cluster.secrets().get(&key).ok_or_else(missing)?;
                let bytes = secret.data.as_ref().and_then(|data| data.get(CA_KEY));
                bytes.map(|bytes| bytes.0.clone())
            }
        };
        let part = part.ok_or_else(|| format!("{kind} {key} has no key {CA_KEY}"))?;
        Roots::parse(&part).map_err(|error| format!("{kind} {key}: {error}"))?;
        bundle.extend_from_slice(&part);
        bundle.push(b'\n');
    }
    Roots::parse(&bundle).map_err(|error| error.to_string())
}
