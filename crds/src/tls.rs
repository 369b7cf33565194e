//! `spec.tls`: TLS to the peers.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS to the peers, who must show a certificate that is trusted. What cannot be resolved refuses
/// requests with 503; it never falls back to plain text.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.insecureSkipVerify && has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0)")
    .message("insecureSkipVerify trusts anyone: remove it, or remove caCertificateRefs")
    .field_path(".insecureSkipVerify"))]
pub struct Tls {
    /// The name that is sent as SNI and must be in the peers' certificates.
    /// Default `SERVICE.NAMESPACE.svc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$"
        )
    )]
    pub hostname: Option<String>,
    /// Where the trusted roots are: ConfigMaps or Secrets of the policy's namespace, PEM in the key
    /// `ca.crt`. At most 8. Default: the roots of the system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ca_certificate_refs: Vec<CaCertificateRef>,
    /// A Secret of type kubernetes.io/tls of the policy's namespace: the certificate to show to peers that
    /// ask for one. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretRef>,
    /// Whether any certificate of a peer is taken: encryption without authentication. Default false.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Where trusted roots are.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaCertificateRef {
    /// API group: always "".
    #[serde(default)]
    #[schemars(length(max = 0))]
    pub group: String,
    /// `ConfigMap` or `Secret`.
    pub kind: CaKind,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds that can hold roots.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum CaKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

impl CaKind {
    /// As in `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

/// A Secret of the policy's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
