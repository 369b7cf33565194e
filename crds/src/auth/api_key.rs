//! `auth.anyOf[].apiKey`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::SecretRef;

/// A secret that is sent as it is. Only its SHA-256 is kept.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.header), has(self.query), has(self.cookie)].exists_one(it, it)")
    .message("set exactly one of header, query and cookie"))]
pub struct ApiKeyAuth {
    /// The key is the value of this request header. Exactly one of `header`, `query` and `cookie`.
    // Headers with an underscore are dropped before anybody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^`|~]+$")
    )]
    #[x_kube(validation = Rule::new("!(self.lowerAscii() in ['host', 'cookie', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'proxy-authenticate', 'expect', 'http2-settings']) && !self.lowerAscii().startsWith('x-hale-') && !self.lowerAscii().startsWith('x-forwarded-')")
        .message("this header is not for an API key: Hale or the connection has it"))]
    pub header: Option<String>,
    /// The key is the value of this parameter of the query. Exactly one of `header`, `query` and `cookie`.
    /// URLs end up in logs and histories of browsers: prefer `header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9\-._~]+$"))]
    pub query: Option<String>,
    /// The key is the value of this cookie. Exactly one of `header`, `query` and `cookie`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
    )]
    pub cookie: Option<String>,
    /// The Secret of the policy's namespace with one key for each consumer, whose value is the API key. One that was
    /// made for something else (a type of `kubernetes.io`, an access key) is refused.
    pub secret_ref: SecretRef,
}
