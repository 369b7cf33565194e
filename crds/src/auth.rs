//! `spec.auth`: who may send requests. Its methods are in the modules below.

mod access_key;
mod api_key;
mod basic;
mod external;
mod jwt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access_key::{AccessKeyAuth, AccessKeyProfile, LabelValue, SecretSelector, SignedBody};
pub use api_key::ApiKeyAuth;
pub use basic::{BasicAuth, BasicFormat};
pub use external::{ExternalAuth, ExternalServiceRef};
pub use jwt::{ClaimToHeader, ConfigMapRef, Jwks, JwtAlgorithm, JwtAuth, RequiredClaim};

use crate::CaKind;

/// Who may send requests. The first of the methods whose credential a request has decides; a request
/// with none of them is answered with 401 and the challenges of all. What cannot be used (a Secret that
/// is missing, a section that is not valid) refuses requests with 503; it never lets them through. Who it
/// is goes upstream as `X-Hale-Consumer`, by which method as `X-Hale-Auth`; clients cannot set these.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// The methods, in the order in which they are asked: 1 to 8. One of type `external` decides about every
    /// request, so it can only be the last.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = Rule::new("self.filter(m, has(m.external)).size() <= 1 && (!self.exists(m, has(m.external)) || has(self[size(self) - 1].external))")
        .message("external decides about every request: it can only be the last method"))]
    pub any_of: Vec<AuthMethod>,
    /// Paths that everybody may have, such as health pages and ACME challenges: at most 16. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub exempt_paths: Vec<ExemptPath>,
    /// Whether the credential that was checked goes on to the upstream. Default false.
    #[serde(default)]
    pub forward_credential: bool,
}

/// A way to show who one is: exactly one of `basic`, `jwt`, `accessKey`, `apiKey` and `external`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.basic), has(self.jwt), has(self.accessKey), has(self.apiKey), has(self.external)].exists_one(it, it)")
    .message("set exactly one of basic, jwt, accessKey, apiKey and external"))]
pub struct AuthMethod {
    /// User and password (RFC 7617). Exactly one of the methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// A signed token (JWT, RFC 7519) in `Authorization: Bearer`. Exactly one of the methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,
    /// Requests signed with a secret key (AK/SK). Exactly one of the methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<AccessKeyAuth>,
    /// A secret that is sent as it is, in a header, the query or a cookie. Exactly one of the methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyAuth>,
    /// Another service is asked about each request. Exactly one of the methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalAuth>,
}

/// A path, or a path and all below it, that everybody may have.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'Prefix' || !self.path.matches('^/+$')")
    .message("this exempts every path: remove the auth section for that")
    .field_path(".path"))]
pub struct ExemptPath {
    /// `Exact`: this path alone. `Prefix`: this path and what is below it, by whole path elements. Default
    /// `Exact`.
    #[serde(default, rename = "type")]
    pub kind: ExemptPathType,
    /// The path, beginning with `/`, as it is after dot segments, doubled slashes and escapes are resolved.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[^?#]*$"))]
    pub path: String,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExemptPathType {
    /// This path alone.
    #[default]
    Exact,
    /// This path and what is below it.
    Prefix,
}

impl Auth {
    /// Names of the Secrets that the section refers to, all of the policy's namespace.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let credentials = self.any_of.iter().flat_map(|method| {
            let jwks = method.jwt.iter();
            let basic = method.basic.iter().map(|it| &it.secret_ref);
            let api_key = method.api_key.iter().map(|it| &it.secret_ref);
            let jwks = jwks.filter_map(|it| it.jwks.secret_ref.as_ref());
            basic.chain(api_key).chain(jwks)
        });
        credentials
            .map(|reference| reference.name.as_str())
            .chain(self.authorities(CaKind::Secret))
    }

    /// Names of the ConfigMaps that the section refers to, all of the policy's namespace.
    pub fn config_maps(&self) -> impl Iterator<Item = &str> {
        let tokens = self.any_of.iter().filter_map(|method| method.jwt.as_ref());
        tokens
            .filter_map(|jwt| jwt.jwks.config_map_ref.as_ref())
            .map(|reference| reference.name.as_str())
            .chain(self.authorities(CaKind::ConfigMap))
    }

    /// What selects the Secrets with access keys, in the policy's namespace.
    pub fn secret_selectors(&self) -> impl Iterator<Item = &SecretSelector> {
        let keys = self.any_of.iter().filter_map(|it| it.access_key.as_ref());
        keys.map(|keys| &keys.secret_selector)
    }

    fn authorities(&self, kind: CaKind) -> impl Iterator<Item = &str> {
        let tokens = self.any_of.iter().filter_map(|method| method.jwt.as_ref());
        tokens
            .flat_map(|jwt| &jwt.jwks.ca_certificate_refs)
            .filter(move |reference| reference.kind == kind)
            .map(|reference| reference.name.as_str())
    }
}
