//! The rulebook of Ingress TLS: which certificate is presented for which host.
//!
//! A host with TLS never falls back to plain HTTP: where its Secret is missing or broken, a self-made
//! certificate is presented, and a finding tells why.

use std::collections::BTreeMap;

use hale_dataplane::{
    config::{HostCertificate, HostPattern, ObjectRef},
    tls::Certificate,
};
use k8s_openapi::api::networking::v1::{Ingress, IngressTLS};

use crate::{
    cluster::{Cluster, namespace},
    finding::{FindingReason, Severity},
    settings::ObjectKey,
};

use super::{
    Findings,
    hosts::{Hosts, wildcard},
    ingress::reference,
    secret,
};

/// Certificates by host, from the oldest to the youngest Ingress.
pub(super) struct Certificates<'a> {
    cluster: &'a Cluster,
    /// Each Secret is parsed once.
    parsed: BTreeMap<ObjectKey, Result<Certificate, String>>,
    hosts: BTreeMap<HostPattern, Presented>,
}

struct Presented {
    ingress: ObjectRef,
    certificate: HostCertificate,
}

impl<'a> Certificates<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            parsed: BTreeMap::new(),
            hosts: BTreeMap::new(),
        }
    }

    /// Takes the `tls` of one Ingress, whose rules name these hosts. Returns the hosts that it wants TLS for.
    pub(super) fn add(
        &mut self,
        ingress: &Ingress,
        named: &[HostPattern],
        claims: &Hosts<'_>,
        findings: &mut Findings,
    ) -> Vec<HostPattern> {
        let source = reference(ingress);
        let mut secured = Vec::new();
        let entries = ingress
            .spec
            .iter()
            .flat_map(|spec| spec.tls.iter().flatten());
        // A host that an entry lists goes before one that only its wildcard takes.
        let mut wild = Vec::new();
        for entry in entries {
            let hosts = hosts(entry, named, &source, findings);
            if let Some(name) = entry.secret_name.as_deref().filter(|name| !name.is_empty()) {
                let secret = ObjectKey::new(namespace(&ingress.metadata), name);
                let (listed, below) = owned(&hosts, named, &source, claims, findings);
                self.present(&secret, &listed, &source, findings);
                wild.push((secret, below));
            }
            secured.extend(hosts);
        }
        for (secret, mut below) in wild {
            below.retain(|host| {
                let taken = self.hosts.get(host);
                taken.is_none_or(|taken| taken.ingress != source)
            });
            if !below.is_empty() {
                self.present(&secret, &below, &source, findings);
            }
        }
        secured
    }

    fn present(
        &mut self,
        secret: &ObjectKey,
        hosts: &[HostPattern],
        ingress: &ObjectRef,
        findings: &mut Findings,
    ) {
        let certificate = match self.parse(secret) {
            Ok(certificate) => certificate,
            Err(error) => {
                findings.add(
                    ingress.clone(),
                    FindingReason::TlsSecretInvalid,
                    Severity::Warning,
                    format!("{error}; a self-made certificate is presented"),
                );
                return;
            }
        };
        let source = ObjectRef {
            kind: "Secret",
            namespace: secret.namespace.clone(),
            name: secret.name.clone(),
        };
        let missing: Vec<String> = hosts
            .iter()
            .filter(|host| !certificate.covers(host))
            .map(ToString::to_string)
            .collect();
        if !missing.is_empty() {
            findings.add(
                ingress.clone(),
                FindingReason::TlsHostNotCovered,
                Severity::Warning,
                format!(
                    "the certificate of {source} is not for {}: clients refuse it there",
                    missing.join(", ")
                ),
            );
        }
        for host in hosts {
            let taken = self.hosts.get(host);
            match taken.or_else(|| self.covering(host, ingress)) {
                None => {
                    let certificate = HostCertificate {
                        host: host.clone(),
                        source: source.clone(),
                        certificate: certificate.clone(),
                    };
                    let presented = Presented {
                        ingress: ingress.clone(),
                        certificate,
                    };
                    self.hosts.insert(host.clone(), presented);
                }
                Some(taken) if taken.certificate.source == source => {}
                Some(taken) => findings.add(
                    ingress.clone(),
                    FindingReason::HostConflict,
                    Severity::Warning,
                    format!(
                        "{source} is not presented for host {host}: {} came first, with {}",
                        taken.ingress, taken.certificate.source
                    ),
                ),
            }
        }
    }

    /// The older certificate of another namespace that is presented for a host through its wildcard.
    fn covering(&self, host: &HostPattern, ingress: &ObjectRef) -> Option<&Presented> {
        let older = self.hosts.get(&wildcard(host)?)?;
        let foreign = older.ingress.namespace != ingress.namespace;
        (foreign && older.certificate.certificate.covers(host)).then_some(older)
    }

    fn parse(&mut self, key: &ObjectKey) -> Result<Certificate, String> {
        if let Some(parsed) = self.parsed.get(key) {
            return parsed.clone();
        }
        let parsed = secret::certificate(key, self.cluster);
        self.parsed.insert(key.clone(), parsed.clone());
        parsed
    }

    /// Sorted by host. A certificate for every host takes the place of the self-made one, and never that of
    /// the `default` certificate: whoever may write an Ingress must not change what the hosts of others show.
    pub(super) fn into_sorted(
        mut self,
        default: Option<&Certificate>,
        findings: &mut Findings,
    ) -> Vec<HostCertificate> {
        if default.is_some()
            && let Some(presented) = self.hosts.remove(&HostPattern::Any)
        {
            findings.add(
                presented.ingress,
                FindingReason::HostConflict,
                Severity::Notice,
                format!(
                    "{} is not presented: tls without hosts, for rules without a host, means the default \
                     certificate, and --default-ssl-certificate names another",
                    presented.certificate.source
                ),
            );
        }
        self.hosts
            .into_values()
            .map(|presented| presented.certificate)
            .collect()
    }
}

/// The hosts of a `tls` entry; where it names none, those of the rules.
fn hosts(
    entry: &IngressTLS,
    named: &[HostPattern],
    source: &ObjectRef,
    findings: &mut Findings,
) -> Vec<HostPattern> {
    let texts: Vec<&str> = entry.hosts.iter().flatten().map(String::as_str).collect();
    if texts.is_empty() {
        return if named.is_empty() {
            vec![HostPattern::Any]
        } else {
            named.to_vec()
        };
    }
    let mut hosts = Vec::new();
    for text in texts {
        match HostPattern::parse(text) {
            Ok(host) => hosts.push(host),
            Err(error) => findings.add(
                source.clone(),
                FindingReason::HostInvalid,
                Severity::Warning,
                format!("TLS is not served: host {error}"),
            ),
        }
    }
    hosts
}

/// The hosts of a `tls` entry on which its Ingress owns a rule: first the hosts that the entry lists, then the hosts of
/// rules below a wildcard of the entry. A wildcard itself is listed only if a rule of the Ingress owns that wildcard.
fn owned(
    hosts: &[HostPattern],
    named: &[HostPattern],
    source: &ObjectRef,
    claims: &Hosts<'_>,
    findings: &mut Findings,
) -> (Vec<HostPattern>, Vec<HostPattern>) {
    let (mut listed, mut all_below) = (Vec::new(), Vec::new());
    for host in hosts {
        let below = named.iter().filter(|named| covers(host, named));
        let below = below.filter(|below| *below != host && claims.owns(below, source));
        let below: Vec<HostPattern> = below.cloned().collect();
        if claims.owns(host, source) {
            listed.push(host.clone());
        } else if below.is_empty() {
            findings.add(
                source.clone(),
                FindingReason::HostConflict,
                Severity::Warning,
                format!(
                    "the certificate is not presented for host {host}: no rule of this Ingress is served there"
                ),
            );
        }
        all_below.extend(below);
    }
    (listed, all_below)
}

/// Whether TLS for one pattern is TLS for a host.
pub(super) fn covers(secured: &HostPattern, host: &HostPattern) -> bool {
    match (secured, host) {
        (HostPattern::Any, _) => true,
        (HostPattern::Wildcard(suffix), HostPattern::Exact(name)) => name
            .as_str()
            .split_once('.')
            .is_some_and(|(_, rest)| rest == suffix.as_str()),
        (secured, host) => secured == host,
    }
}
