//! `spec.cors`: which web pages of other origins may read answers. Names are those of GEP-1767.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Which web pages of other origins may read answers (CORS, Fetch standard). Hale answers preflights itself,
/// before `rateLimit` and `auth`, and owns the `Access-Control-*` headers of answers; those of the upstream
/// are dropped.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.allowCredentials || !self.allowOrigins.exists(o, o == '*')")
    .message("allowCredentials with the origin * would give every web page the user's session: name the origins")
    .field_path(".allowOrigins"))]
#[x_kube(validation = Rule::new("!self.allowCredentials || !has(self.exposeHeaders) || !self.exposeHeaders.exists(h, h == '*')")
    .message("browsers do not take * for all headers where allowCredentials is true: name the headers")
    .field_path(".exposeHeaders"))]
#[x_kube(validation = Rule::new("size(self.allowMethods) == 1 || !self.allowMethods.exists(m, m == '*')")
    .message("* is all methods: remove the others")
    .field_path(".allowMethods"))]
#[x_kube(validation = Rule::new("duration(self.maxAge) <= duration('24h')")
    .message("maxAge must be at most 24h")
    .field_path(".maxAge"))]
pub struct Cors {
    /// Origins of pages that may read answers: scheme, host and port as in `https://app.example.com`; a `*` at the
    /// beginning of the host stands for one or more labels, as in `https://*.example.com`; `*` alone is every
    /// origin. 1 to 64.
    #[schemars(
        length(min = 1, max = 64),
        inner(
            length(min = 1, max = 253),
            regex(
                pattern = r"^(\*|[a-z][a-z0-9+\-.]*://(\*\.)?([A-Za-z0-9.\-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?)$"
            )
        )
    )]
    pub allow_origins: Vec<String>,
    /// Methods that pages may use; `*` is all. Default GET, HEAD and POST.
    #[serde(default = "default_methods")]
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub allow_methods: Vec<CorsMethod>,
    /// Request headers that pages may set beside those that are always allowed; `*` is all. At most 64. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
        )
    )]
    pub allow_headers: Vec<String>,
    /// Response headers that pages may read beside those that are always allowed; `*` is all, but not where
    /// `allowCredentials` is true. At most 64. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
        )
    )]
    pub expose_headers: Vec<String>,
    /// For how long browsers remember the answer to a preflight. 0s to 24h, default 5s.
    #[serde(default = "default_max_age")]
    pub max_age: Duration,
    /// Whether pages may send cookies and other credentials. Default false.
    #[serde(default)]
    pub allow_credentials: bool,
}

fn default_methods() -> Vec<CorsMethod> {
    vec![CorsMethod::Get, CorsMethod::Head, CorsMethod::Post]
}

fn default_max_age() -> Duration {
    Duration::new("5s")
}

/// Methods, and `*` for all.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum CorsMethod {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// PATCH.
    Patch,
    /// OPTIONS.
    Options,
    /// All of them.
    #[serde(rename = "*")]
    All,
}

impl CorsMethod {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Options => "OPTIONS",
            Self::All => "*",
        }
    }
}
