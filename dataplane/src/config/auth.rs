//! Who may send requests: the compiled form of an `auth` section, with the secrets that it needs.
//!
//! Nothing here is open by accident. [`Auth::Open`] is what a route has that no policy protects; a policy that
//! cannot be resolved is [`Auth::Unavailable`], and a method whose Secret cannot be used is
//! [`Resolved::Unavailable`]: both refuse with 503 and say why.
//!
//! Secrets are compared (a rotation is a new config) and never written: what holds one prints how many it holds.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::{ObjectRef, PathRule, Problem, UpstreamId, duration, is_false};
use crate::{
    auth::{jwt::KeySet, password::Users},
    tls::Roots,
};

/// Who may send requests to a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Auth {
    /// Everybody: no policy protects the route.
    #[default]
    Open,
    /// Whom one of these methods identifies.
    AnyOf(Arc<AuthRules>),
    /// Nobody: a policy protects the route, and what it says cannot be used.
    Unavailable(Problem),
}

impl Auth {
    /// Whether everybody may.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// The policy that says who may.
    pub fn source(&self) -> Option<&ObjectRef> {
        match self {
            Self::AnyOf(rules) => Some(&rules.source),
            Self::Open | Self::Unavailable(_) => None,
        }
    }
}

/// The methods of one policy; the first whose credential a request has decides.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthRules {
    /// The policy.
    pub source: ObjectRef,
    /// At least one.
    pub methods: Vec<AuthMethod>,
    /// Paths that everybody may have: health pages, ACME challenges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exempt_paths: Vec<PathRule>,
    /// Whether the credential that was checked goes on to the upstream.
    #[serde(skip_serializing_if = "is_false")]
    pub forward_credential: bool,
}

/// A way to show who one is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthMethod {
    /// User and password (RFC 7617).
    Basic(Basic),
    /// A signed token (RFC 7519) as bearer (RFC 6750).
    Jwt(Jwt),
    /// Requests signed with a secret key.
    AccessKey(AccessKey),
    /// A secret that is sent as it is.
    ApiKey(ApiKey),
    /// Another service is asked.
    External(External),
}

/// What a Secret or a ConfigMap had to give.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Resolved<T> {
    /// It is there, and usable.
    Known(T),
    /// It is not; with the object to mend.
    Unavailable(String),
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Basic {
    /// What browsers show: printable ASCII, without `"` and `\`.
    pub realm: String,
    /// Who there is.
    pub users: Resolved<Users>,
}

/// A signed token in `Authorization: Bearer`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// The `iss` wanted.
    pub issuer: String,
    /// One of these must be in `aud`; none leaves `aud` unread.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Where the keys come from.
    pub keys: JwtKeys,
    /// What may have signed; a key is used with algorithms of its own kind alone.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Claims that must be there: a string, number or boolean that reads as one of the values, or an array that
    /// has one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_claims: Vec<RequiredClaim>,
    /// Scopes that must all be in `scope` (separated by spaces) or `scp` (an array).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_scopes: Vec<String>,
    /// Claims that go upstream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The claim that names the consumer: a string of at most 255 bytes. A token without it has no consumer.
    /// Default `sub`.
    pub consumer_claim: String,
    /// How far `exp` and `nbf` may be off. Default 60 s.
    #[serde(with = "duration::plain")]
    pub clock_skew: Duration,
}

/// A claim that must be there. `claim` is a path of names, joined by dots, into objects; a name that has dots
/// itself is found, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequiredClaim {
    /// Its name.
    pub claim: String,
    /// What it may be; empty is anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// A claim that goes upstream as a header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// The claim, as in [`RequiredClaim`].
    pub claim: String,
    /// The header, lower case.
    pub header: String,
}

/// Where the keys of tokens come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum JwtKeys {
    /// From a Secret or ConfigMap.
    Inline(Resolved<KeySet>),
    /// From a JWKS endpoint (RFC 7517 §5), fetched and refreshed.
    Remote(RemoteKeys),
}

/// A JWKS endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteKeys {
    /// `https://…`; `http` only to loopback, and only where addresses may be loopback.
    pub url: String,
    /// Who may have signed its certificate; `None` is whom the system trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roots: Option<Resolved<Roots>>,
    /// How old keys may get before they are asked for again. Default 5 min, at least 10 s.
    #[serde(with = "duration::plain")]
    pub refresh: Duration,
    /// For how long keys are used when they cannot be refreshed. Default 24 h.
    #[serde(with = "duration::plain")]
    pub stale: Duration,
}

/// Signature algorithms of tokens (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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
    /// HMAC, SHA-256: with a configured symmetric key only.
    Hs256,
    /// HMAC, SHA-384: with a configured symmetric key only.
    Hs384,
    /// HMAC, SHA-512: with a configured symmetric key only.
    Hs512,
}

/// Requests signed with a secret key (AK/SK).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKey {
    /// How they are signed.
    pub profile: SignatureProfile,
    /// Who there is.
    pub keys: Resolved<AccessKeys>,
    /// How far the date of a request may be off. Default 300 s.
    #[serde(with = "duration::plain")]
    pub clock_skew: Duration,
    /// Whether the signature must cover the body.
    pub signed_body: SignedBody,
    /// For how long a signature is remembered, so that it is taken once; `None` does not remember. Default none.
    #[serde(with = "duration", skip_serializing_if = "Option::is_none")]
    pub replay_window: Option<Duration>,
}

/// How requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum SignatureProfile {
    /// AWS Signature Version 4 (`AWS4-HMAC-SHA256`), in the header or the query.
    Aws4,
    /// `SDK-HMAC-SHA256`, as the SDKs of Huawei Cloud sign.
    Sdk,
    /// HTTP Message Signatures (RFC 9421), `hmac-sha256`.
    HttpSignature,
    /// draft-cavage-http-signatures-12, `hmac-sha256`.
    Cavage,
}

/// Whether a signature must cover the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SignedBody {
    /// A body without a digest under the signature is refused.
    Required,
    /// Such a body passes; a digest that is there is checked all the same.
    Optional,
}

/// Access keys, sorted by id, each once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessKeys(pub Vec<AccessKeyEntry>);

/// One access key.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessKeyEntry {
    /// What a request names.
    pub id: String,
    /// What it is signed with.
    pub secret: SecretBytes,
    /// Who that is.
    pub consumer: Arc<str>,
    /// From when on it is refused.
    pub not_after: Option<Timestamp>,
}

impl Serialize for AccessKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} access keys", self.0.len()))
    }
}

/// A secret that is sent as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Where it is.
    pub location: CredentialPlace,
    /// Who there is.
    pub keys: Resolved<ApiKeys>,
}

/// Where a credential is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialPlace {
    /// In this header, lower case.
    Header(String),
    /// In this parameter of the query.
    Query(String),
    /// In this cookie.
    Cookie(String),
}

/// API keys: consumers, and the SHA-256 of their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiKeys(pub Vec<ApiKeyEntry>);

/// One API key.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeyEntry {
    /// Who that is.
    pub consumer: Arc<str>,
    /// The SHA-256 of the key.
    pub digest: [u8; 32],
}

impl Serialize for ApiKeys {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} API keys", self.0.len()))
    }
}

/// Another service is asked about each request (`auth-url` of ingress-nginx, `ext_authz` of Envoy).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Who is asked.
    pub service: ExternalService,
    /// Path and query of the question, which is a GET. Default `/`.
    pub path: String,
    /// For the answer. Default 2 s.
    #[serde(with = "duration::plain")]
    pub timeout: Duration,
    /// Headers of the request that the service gets, lower case, beside `Authorization`, `Cookie` and ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub request_headers: Vec<String>,
    /// Headers of a 2xx answer that go upstream, lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<String>,
    /// Where browsers are sent (302) that are told 401; gets `rd=` with where they wanted to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<String>,
    /// Whether requests pass while the service does not answer. Default false.
    #[serde(skip_serializing_if = "is_false")]
    pub fail_open: bool,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ExternalService {
    /// The peers of an upstream of the config, picked as for any request.
    Upstream(UpstreamId),
    /// This origin: `http` or `https`, host and port.
    Url(String),
    /// Nobody: what the policy names is not there.
    Unavailable(String),
}

/// A secret: compared, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// Takes it.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// Shows it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}
