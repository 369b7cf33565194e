//! `auth.anyOf[].jwt`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CaCertificateRef, Duration, SecretRef};

/// A signed token (JWT). Its signature, issuer, audience and times are checked; what it may be signed with
/// is said here and never taken from the token.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.algorithms.exists(a, a.startsWith('HS')) || has(self.jwks.secretRef)")
    .message("HS256, HS384 and HS512 need a symmetric key, which only jwks.secretRef can hold")
    .field_path(".algorithms"))]
#[x_kube(validation = Rule::new("duration(self.clockSkew) <= duration('10m')")
    .message("clockSkew must be at most 10m")
    .field_path(".clockSkew"))]
pub struct JwtAuth {
    /// The `iss` that a token must have, byte for byte.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// One of these must be in `aud`. At most 16. Default: `aud` is not looked at, and tokens that the
    /// issuer made for others are taken, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub audiences: Vec<String>,
    /// Where the keys are that tokens are signed with.
    pub jwks: Jwks,
    /// Signature algorithms that are taken, each only with keys of its kind. `HS256`, `HS384` and `HS512`
    /// only with `jwks.secretRef`. Default RS256 and ES256.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 12), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Vec<JwtAlgorithm>,
    /// Claims that a token must have, all of them: at most 16. Whoever lacks one is answered with 403.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub required_claims: Vec<RequiredClaim>,
    /// Scopes that must all be in the claim `scope` (separated by spaces) or `scp` (a list): at most 16.
    /// Whoever lacks one is answered with 403.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    pub required_scopes: Vec<String>,
    /// Claims that go upstream as headers, which clients cannot set: at most 16. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The claim that names the consumer. Default `sub`.
    #[serde(default = "default_consumer_claim")]
    #[schemars(length(min = 1, max = 256))]
    pub consumer_claim: String,
    /// How far `exp` and `nbf` may be off. 0s to 10m, default 60s.
    #[serde(default = "default_clock_skew")]
    pub clock_skew: Duration,
}

fn default_algorithms() -> Vec<JwtAlgorithm> {
    vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256]
}

fn default_consumer_claim() -> String {
    "sub".to_owned()
}

fn default_clock_skew() -> Duration {
    Duration::new("60s")
}

/// Where keys are (JWKS, RFC 7517): exactly one of `uri`, `secretRef` and `configMapRef`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.uri), has(self.secretRef), has(self.configMapRef)].exists_one(it, it)")
    .message("set exactly one of uri, secretRef and configMapRef"))]
#[x_kube(validation = Rule::new("has(self.uri) || (!has(self.refreshInterval) && !(has(self.caCertificateRefs) && size(self.caCertificateRefs) > 0))")
    .message("caCertificateRefs and refreshInterval go with uri alone"))]
#[x_kube(validation = Rule::new("!has(self.refreshInterval) || (duration(self.refreshInterval) >= duration('10s') && duration(self.refreshInterval) <= duration('24h'))")
    .message("refreshInterval must be 10s to 24h")
    .field_path(".refreshInterval"))]
pub struct Jwks {
    /// An https URL that the keys are fetched from, and fetched again before they get old; when they cannot
    /// be, those that are known are used for another 24h. Exactly one of `uri`, `secretRef` and
    /// `configMapRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^https://[A-Za-z0-9.\-_\[\]:]+(/[!-~]*)?$")
    )]
    pub uri: Option<String>,
    /// A Secret of the policy's namespace with the key `jwks.json`. Exactly one of `uri`, `secretRef` and
    /// `configMapRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// A ConfigMap of the policy's namespace with the key `jwks.json`. Exactly one of `uri`, `secretRef` and
    /// `configMapRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ConfigMapRef>,
    /// Where the roots are that the certificate of `uri` must be signed by: ConfigMaps or Secrets of the
    /// policy's namespace, PEM in the key `ca.crt`. At most 8. Default: the roots of the system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub ca_certificate_refs: Vec<CaCertificateRef>,
    /// How old keys from `uri` get before they are fetched again. 10s to 24h, default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<Duration>,
}

/// A ConfigMap of the policy's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Signature algorithms (RFC 7518, RFC 8037).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5, SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5, SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5, SHA-512.
    Rs512,
    /// RSASSA-PSS, SHA-256.
    Ps256,
    /// RSASSA-PSS, SHA-384.
    Ps384,
    /// RSASSA-PSS, SHA-512.
    Ps512,
    /// ECDSA, P-256.
    Es256,
    /// ECDSA, P-384.
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// HMAC, SHA-256.
    Hs256,
    /// HMAC, SHA-384.
    Hs384,
    /// HMAC, SHA-512.
    Hs512,
}

/// A claim that must be there.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequiredClaim {
    /// Name of the claim; dots lead into objects, as in `realm_access.roles`.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// The claim must equal one of these, or, if it is a list, have one of them. At most 16. Default: it may
    /// be anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    pub values: Vec<String>,
}

/// A claim that goes upstream.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// Name of the claim; dots lead into objects.
    #[schemars(length(min = 1, max = 256))]
    pub claim: String,
    /// The header that carries it.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^`|~]+$")
    )]
    #[x_kube(validation = Rule::new("!(self.lowerAscii() in ['host', 'authorization', 'cookie', 'content-length', 'content-type', 'content-encoding', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'proxy-authenticate', 'expect', 'http2-settings', 'forwarded', 'via', 'cdn-loop', 'x-real-ip', 'x-request-id', 'x-original-url', 'x-original-uri', 'x-original-method', 'x-original-host', 'x-rewrite-url', 'set-cookie']) && !self.lowerAscii().startsWith('x-hale-') && !self.lowerAscii().startsWith('x-forwarded-')")
        .message("this header is not for a claim: Hale or the message itself has it"))]
    pub header: String,
}
