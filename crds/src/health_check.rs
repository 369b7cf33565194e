//! `spec.healthCheck`: when a peer may be picked.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{Duration, PassiveCheck};

/// When a peer may be picked.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// `Require`: a pod that Kubernetes calls not ready is not served. `Ignore`: the checks of this
    /// section alone decide. Default `Require`.
    #[serde(default)]
    pub readiness: Readiness,
    /// Pods that terminate and still serve. `LastResort`: served when nothing better is left.
    /// `Never`: not served. Default `LastResort`.
    #[serde(default)]
    pub terminating: Terminating,
    /// Percent of peers that must be eligible; below it failing checks and ejections (never readiness)
    /// are ignored, because a check that fails nearly everywhere is more likely wrong than right.
    /// 0–100, default 0: never.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold: i32,
    /// A check that each Hale makes of each peer. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveCheck>,
    /// Which peers are ejected for how they answer requests. `{}` turns it on. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<PassiveCheck>,
}

/// Whether Kubernetes' word on readiness counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Readiness {
    /// A pod that is not ready is not served.
    #[default]
    Require,
    /// The checks of the section alone decide.
    Ignore,
}

/// Pods that terminate and still serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Terminating {
    /// Served when nothing better is left.
    #[default]
    LastResort,
    /// Not served.
    Never,
}

/// A check of each peer, made by each replica of Hale.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.http), has(self.grpc), has(self.tcp), has(self.fromReadinessProbe)].exists_one(it, it)")
    .message("set exactly one of http, grpc, tcp and fromReadinessProbe"))]
#[x_kube(validation = Rule::new("!has(self.fromReadinessProbe) || (!has(self.port) && !has(self.timeout) && self.interval == '5s' && self.unhealthyThreshold == 3 && self.healthyThreshold == 2)")
    .message("with fromReadinessProbe, port, interval, timeout and thresholds are the probe's: leave them out")
    .field_path(".fromReadinessProbe"))]
#[x_kube(validation = Rule::new("!has(self.timeout) || duration(self.timeout) <= duration(self.interval)")
    .message("timeout must not be longer than interval")
    .field_path(".timeout"))]
#[x_kube(validation = Rule::new("!has(self.timeout) || duration(self.timeout) >= duration('10ms')")
    .message("timeout must be at least 10ms")
    .field_path(".timeout"))]
#[x_kube(validation = Rule::new("duration(self.interval) >= duration('100ms') && duration(self.interval) <= duration('1h')")
    .message("interval must be 100ms to 1h")
    .field_path(".interval"))]
pub struct ActiveCheck {
    /// Checks with an HTTP request: over TLS where the traffic is, HTTP/2 where the traffic is.
    /// Exactly one of `http`, `grpc`, `tcp` and `fromReadinessProbe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// Checks with `grpc.health.v1.Health/Check`, which must answer `SERVING`: over HTTP/2, and over TLS
    /// where the traffic is. Exactly one of `http`, `grpc`, `tcp` and `fromReadinessProbe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCheck>,
    /// Checks by connecting, and over TLS where the traffic is. Exactly one of `http`, `grpc`, `tcp` and
    /// `fromReadinessProbe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// Checks each pod by its own readinessProbe: `{}`. What is asked, where, how often and how strictly
    /// is the probe's. Exactly one of `http`, `grpc`, `tcp` and `fromReadinessProbe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_readiness_probe: Option<FromReadinessProbe>,
    /// Where checks go: a number, or the name of another port of the Service. Default: the port of
    /// the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<CheckPort>,
    /// From the start of one check to the start of the next. 100ms to 1h, default 5s.
    #[serde(default = "default_interval")]
    pub interval: Duration,
    /// For one check, connecting included. 10ms to `interval`, default 2s (or `interval`, where that is
    /// shorter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Each wait is changed at random by up to this many percent of the interval, so that replicas and
    /// peers do not beat in step; the first checks are spread as well. 0–100, default 20.
    #[serde(default = "default_jitter")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: i32,
    /// Failures in a row until a peer is out. 1–100, default 3.
    #[serde(default = "default_unhealthy_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: i32,
    /// Passes in a row until a peer is back. 1–100, default 2. A peer that was never checked is in
    /// with its first pass.
    #[serde(default = "default_healthy_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: i32,
    /// A peer before its first check. `Checking`: served only while no peer has passed. `Healthy`:
    /// served like one that has passed. Default `Checking`.
    #[serde(default)]
    pub initial: Initial,
}

fn default_interval() -> Duration {
    Duration::new("5s")
}

const fn default_jitter() -> i32 {
    20
}

const fn default_unhealthy_threshold() -> i32 {
    3
}

const fn default_healthy_threshold() -> i32 {
    2
}

/// A peer before its first check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Initial {
    /// Served only while no peer has passed.
    #[default]
    Checking,
    /// Served like one that has passed.
    Healthy,
}

/// An HTTP request, and the response that passes. Redirects are not followed.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// Method of the request. Default `GET`.
    #[serde(default = "default_method")]
    #[schemars(extend("enum" = ["GET", "HEAD", "OPTIONS", "POST"]))]
    pub method: String,
    /// Path and query of the request. Default `/`.
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// Host header of the request. Default: the peer's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._:\[\]-]+$"))]
    pub host: Option<String>,
    /// More headers of the request. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<HttpHeader>,
    /// Statuses that pass: numbers or ranges, as in `200-299`. 1 to 16, default `200-399`.
    #[serde(default = "default_statuses")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 7), regex(pattern = r"^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"))
    )]
    #[x_kube(validation = Rule::new("self.all(s, !s.contains('-') || int(s.substring(0, 3)) <= int(s.substring(4)))")
        .message("a range of statuses goes from the lower to the higher, as in 200-299"))]
    pub expected_statuses: Vec<String>,
    /// What the first 4 KiB of the body must hold. Default: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_body: Option<ExpectedBody>,
}

fn default_method() -> String {
    "GET".to_owned()
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_statuses() -> Vec<String> {
    vec!["200-399".to_owned()]
}

/// A header of a check.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeader {
    /// Name of the header; the `Host` has a field of its own.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
    )]
    #[x_kube(validation = Rule::new("!(self.lowerAscii() in ['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'te', 'trailer', 'keep-alive'])")
        .message("this header cannot be set: use the field host for the Host; framing and connection headers are Hale's own"))]
    pub name: String,
    /// Value of the header.
    #[schemars(length(max = 1024), regex(pattern = r"^[\t\x20-\x7e]*$"))]
    pub value: String,
}

/// What a body must hold.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.contains) != has(self.regex)")
    .message("set exactly one of contains and regex"))]
pub struct ExpectedBody {
    /// This text. Exactly one of `contains` and `regex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub contains: Option<String>,
    /// A match of this regular expression (RE2 syntax, as in Go and Rust: no look-around, no
    /// back-references). Exactly one of `contains` and `regex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub regex: Option<String>,
}

/// A question by the gRPC health protocol. Anything but `SERVING` fails.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcCheck {
    /// Name of the gRPC service that is asked for, as the server registers it. At most 253 characters.
    /// Default "": the server as a whole.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = r"^[!-~]*$"))]
    pub service: String,
}

/// A connection, with text to send and to want.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpCheck {
    /// Text that is sent once connected. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub send: Option<String>,
    /// Text that must be in the first 4 KiB that the peer sends. Default: connecting is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub receive: Option<String>,
}

/// The check of each pod is its own readinessProbe: `httpGet`, `grpc` or `tcpSocket` of the container that
/// has the port of the traffic, or else of the first that has a probe. A pod whose probe is a command, or
/// that has none, is not checked, and an Event on the Service says so.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FromReadinessProbe {}

/// A port by number or by the name that it has in the Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckPort(pub IntOrString);

impl JsonSchema for CheckPort {
    fn schema_name() -> Cow<'static, str> {
        "CheckPort".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 1,
            "maximum": 65535,
            "maxLength": 63,
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        })
    }
}
