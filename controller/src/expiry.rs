//! Certificates that have expired, or soon will. Translation has no clock, so that the same cluster gives the same
//! config; this is asked again whenever findings are told.

use std::collections::BTreeMap;

use hale_dataplane::{config::ObjectRef, tls::Certificate};
use jiff::{SignedDuration, Timestamp};

use crate::{
    cluster::key,
    finding::{Finding, FindingReason, Severity},
    publish::Published,
    settings::ObjectKey,
};

/// How long before its end a certificate is told of. What renews certificates by itself does so earlier.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What there is to say now: of each Ingress whose Secret ends, and of the default certificate's Secret. The words
/// change only when a certificate has expired, so that nothing is told twice.
pub fn findings(published: &Published, now: Timestamp) -> Vec<Finding> {
    let config = &published.translation.config;
    let mut ending: BTreeMap<ObjectKey, Timestamp> = BTreeMap::new();
    for entry in &config.certificates {
        if let Some(end) = soon(&entry.certificate, now) {
            let source = &entry.source;
            ending.insert(ObjectKey::new(&*source.namespace, &*source.name), end);
        }
    }
    let mut findings = Vec::new();
    if let (Some(certificate), Some(key)) = (
        &config.default_certificate,
        &published.settings.default_certificate,
    ) && let Some(end) = soon(certificate, now)
    {
        findings.push(finding("Secret", key, key, end, now));
    }
    if ending.is_empty() {
        return findings;
    }
    let outcomes = &published.translation.ingresses;
    let ours = |key: &ObjectKey| {
        outcomes
            .binary_search_by(|it| (&it.namespace, &it.name).cmp(&(&key.namespace, &key.name)))
            .is_ok()
    };
    for ingress in published.cluster.ingresses() {
        let ingress_key = key(&ingress.metadata);
        let entries = ingress.spec.iter().flat_map(|spec| &spec.tls).flatten();
        for name in entries.filter_map(|entry| entry.secret_name.as_deref()) {
            let secret = ObjectKey::new(&*ingress_key.namespace, name);
            if let Some(end) = ending.get(&secret).filter(|_| ours(&ingress_key)) {
                findings.push(finding("Ingress", &ingress_key, &secret, *end, now));
            }
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

fn soon(certificate: &Certificate, now: Timestamp) -> Option<Timestamp> {
    let end = certificate.not_after()?;
    (end.duration_since(now) <= SOON).then_some(end)
}

fn finding(
    kind: &'static str,
    object: &ObjectKey,
    secret: &ObjectKey,
    end: Timestamp,
    now: Timestamp,
) -> Finding {
    let (reason, message) = if end <= now {
        (
            FindingReason::TlsCertificateExpired,
            format!("the certificate of Secret {secret} expired at {end}: clients refuse it"),
        )
    } else {
        (
            FindingReason::TlsCertificateExpires,
            format!("the certificate of Secret {secret} expires at {end}: renew it before"),
        )
    };
    Finding {
        object: ObjectRef {
            kind,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        },
        reason,
        severity: Severity::Warning,
        message,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::{ByteString, api::core::v1::Secret};
    use serde_json::json;

    use super::*;
    use crate::{
        cluster::{Cluster, Objects},
        settings::Settings,
        translate::translate,
    };

    /// A Secret whose certificate ends on the third of February 2031.
    fn secret() -> Arc<Secret> {
        let mut params = rcgen::CertificateParams::new(vec!["shop.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut secret: Secret =
            serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "tls"}}))
                .unwrap();
        secret.data = Some(BTreeMap::from([
            ("tls.crt".into(), ByteString(certificate.pem().into_bytes())),
            (
                "tls.key".into(),
                ByteString(key.serialize_pem().into_bytes()),
            ),
        ]));
        Arc::new(secret)
    }

    fn published() -> Published {
        let ingress = |name: &str, class: &str| {
            let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
            let ingress = json!({
                "metadata": {"namespace": "shop", "name": name},
                "spec": {"ingressClassName": class, "tls": [{"hosts": ["shop.test"], "secretName": "tls"}],
                    "rules": [{"host": "shop.test", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]},
            });
            Arc::new(serde_json::from_value(ingress).unwrap())
        };
        let cluster = Cluster::new(Objects {
            ingresses: vec![ingress("web", "hale"), ingress("theirs", "nginx")],
            secrets: vec![secret()],
            ..Objects::default()
        });
        let settings = Settings {
            default_certificate: Some(ObjectKey::new("shop", "tls")),
            ..Settings::default()
        };
        Published {
            sequence: 1,
            translation: translate(&cluster, &settings),
            cluster,
            settings,
            read_findings: Vec::new(),
        }
    }

    #[test]
    fn who_presents_a_certificate_that_ends_is_told_in_time() {
        let published = published();
        let told = |now: &str| -> Vec<String> {
            let line =
                |it: &Finding| format!("{} {}: {}", it.object, it.reason.as_str(), it.message);
            findings(&published, now.parse().unwrap())
                .iter()
                .map(line)
                .collect()
        };
        assert_eq!(told("2031-01-19T00:00:00Z"), Vec::<String>::new());
        assert_eq!(
            told("2031-01-20T00:00:00Z"),
            [
                "Ingress shop/web TlsCertificateExpires: the certificate of Secret shop/tls expires at 2031-02-03T00:00:00Z: renew it before",
                "Secret shop/tls TlsCertificateExpires: the certificate of Secret shop/tls expires at 2031-02-03T00:00:00Z: renew it before",
            ]
        );
        assert_eq!(
            told("2031-02-03T00:00:00Z"),
            [
                "Ingress shop/web TlsCertificateExpired: the certificate of Secret shop/tls expired at 2031-02-03T00:00:00Z: clients refuse it",
                "Secret shop/tls TlsCertificateExpired: the certificate of Secret shop/tls expired at 2031-02-03T00:00:00Z: clients refuse it",
            ]
        );
    }
}
