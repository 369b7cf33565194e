//! `auth.anyOf[].external`.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{CheckPort, Duration};

/// Another service is asked about each request, as by `auth-url` of ingress-nginx: a GET with the headers
/// `Authorization` and `Cookie` of the request and `X-Original-Method`, `X-Original-URL` and their like. 2xx lets the
/// request in; 401 and 403 go to the client; everything else, and no answer, is 503.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.service), has(self.url)].exists_one(it, it)")
    .message("set exactly one of service and url"))]
#[x_kube(validation = Rule::new("duration(self.timeout) >= duration('10ms') && duration(self.timeout) <= duration('30s')")
    .message("timeout must be 10ms to 30s")
    .field_path(".timeout"))]
pub struct ExternalAuth {
    /// A Service of the policy's namespace. Its pods are picked as for any request, by the policies for
    /// that Service. Exactly one of `service` and `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ExternalServiceRef>,
    /// A server elsewhere, `http` or `https`, host and port: `https://auth.example.com`. Exactly one of
    /// `service` and `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^https?://[A-Za-z0-9.\-_\[\]:]+$")
    )]
    pub url: Option<String>,
    /// Path and query of the question. Default `/`.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r##"^/[!"$-~]*$"##))]
    pub path: String,
    /// For the answer. 10ms to 30s, default 2s.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,
    /// More headers of the request that the service gets: at most 32; `X-Forwarded-*` only from trusted proxies.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^`|~]+$")
        )
    )]
    #[x_kube(validation = Rule::new("self.all(h, !(h.lowerAscii() in ['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'proxy-authenticate', 'expect', 'http2-settings', 'forwarded', 'via', 'cdn-loop', 'x-forwarded-port', 'x-forwarded-prefix', 'x-original-uri', 'x-original-host', 'x-rewrite-url']) && !h.lowerAscii().startsWith('x-hale-'))")
        .message("headers of the connection, of proxies and x-hale-* are not passed to the service"))]
    pub request_headers: Vec<String>,
    /// Headers of a 2xx answer that go upstream, and that clients cannot set: at most 32. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(
            length(min = 1, max = 128),
            regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^`|~]+$")
        )
    )]
    #[x_kube(validation = Rule::new("self.all(h, !(h.lowerAscii() in ['host', 'content-length', 'content-type', 'content-encoding', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'keep-alive', 'proxy-connection', 'proxy-authorization', 'proxy-authenticate', 'expect', 'http2-settings', 'forwarded', 'via', 'cdn-loop', 'x-real-ip', 'x-request-id', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port', 'x-forwarded-prefix', 'x-forwarded-method', 'x-forwarded-uri', 'x-original-url', 'x-original-uri', 'x-original-method', 'x-original-host', 'x-rewrite-url', 'set-cookie']) && !h.lowerAscii().startsWith('x-hale-'))")
        .message("a header is named that Hale or the message itself has"))]
    pub response_headers: Vec<String>,
    /// Where browsers are sent (302) that the service answers with 401. What they wanted is added to the query as
    /// `rd`. Default: they get the 401.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 1024),
        regex(pattern = r"^https?://[A-Za-z0-9.\-_\[\]:]+(/[!-~]*)?$")
    )]
    pub sign_in: Option<String>,
    /// Whether requests pass while the service cannot be reached, is silent for `timeout`, or has its proxy answer
    /// 502, 503 or 504. Default false: they are refused with 503.
    #[serde(default)]
    pub fail_open: bool,
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_timeout() -> Duration {
    Duration::new("2s")
}

/// A port of a Service of the policy's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalServiceRef {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The port, by name or number.
    pub port: CheckPort,
}
