//! The resource itself: what it is attached to, and its sections.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Access, Auth, CircuitBreaker, Cors, HealthCheck, LoadBalancer, Path, RateLimit, Retry,
    SessionPersistence, Timeouts, Tls, UpstreamPolicyStatus,
};

/// How Hale treats the peers of a Service (its pods), and the requests of a Service or an Ingress.
///
/// A section that is absent leaves the defaults in force. If two policies have the same section for
/// the same target, the older policy's is in force and the other policy says so in its status.
/// Sections are never merged field by field. A section for an Ingress goes before the same section
/// for the Services behind it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "hale-ingress.io",
    version = "v1alpha1",
    kind = "UpstreamPolicy",
    plural = "upstreampolicies",
    singular = "upstreampolicy",
    shortname = "upol",
    category = "hale",
    namespaced,
    status = "UpstreamPolicyStatus",
    derive = "PartialEq",
    doc = "UpstreamPolicy says how Hale treats the peers of a Service (health checks, balancing, sessions, limits, TLS) and the requests to a Service or Ingress (timeouts, retries, who may send them, from where and how many). Its status says which peers are out, why, and since when.",
    label("gateway.networking.k8s.io/policy", "Direct"),
    printcolumn(
        name = "TARGET",
        type_ = "string",
        json_path = ".spec.targetRefs[0].name",
        description = "The first target."
    ),
    printcolumn(
        name = "ACCEPTED",
        type_ = "string",
        json_path = r#".status.ancestors[0].conditions[?(@.type=="Accepted")].status"#,
        description = "Whether the policy is valid and in force for the first target."
    ),
    printcolumn(
        name = "HEALTHY",
        type_ = "string",
        json_path = ".status.healthy",
        description = "Peers that are served, of all peers of all targets."
    ),
    printcolumn(
        name = "REASON",
        type_ = "string",
        json_path = r#".status.ancestors[0].conditions[?(@.type=="Healthy")].reason"#,
        description = "Why the first target is healthy or not."
    ),
    printcolumn(
        name = "PROGRAMMED",
        type_ = "string",
        json_path = r#".status.ancestors[0].conditions[?(@.type=="Programmed")].status"#,
        description = "Whether the proxy serves by this policy.",
        priority = 1
    ),
    printcolumn(
        name = "AGREES",
        type_ = "string",
        json_path = r#".status.ancestors[0].conditions[?(@.type=="ReadinessAgrees")].status"#,
        description = "Whether the policy's check and the pods' readiness agree.",
        priority = 1
    ),
    printcolumn(
        name = "AGE",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.healthCheck) || has(self.loadBalancer) || has(self.sessionPersistence) || has(self.circuitBreaker) || has(self.tls)) || self.targetRefs.all(t, t.kind == 'Service')")
    .message("healthCheck, loadBalancer, sessionPersistence, circuitBreaker and tls describe the peers of a Service: with them every targetRef must be a Service")
    .field_path(".targetRefs"))]
pub struct UpstreamPolicySpec {
    /// What the policy is for: 1 to 16 Services (or single ports of them) or Ingresses of the policy's
    /// own namespace.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a.kind == b.kind && a.name == b.name && (has(a.sectionName) ? a.sectionName : '') == (has(b.sectionName) ? b.sectionName : '')))")
        .message("the same target is named twice"))]
    pub target_refs: Vec<TargetRef>,
    /// When a peer may be picked: readiness, termination, and an active check by Hale itself.
    /// For Services only. Default: ready peers are served, without an active check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// How a peer is picked among the eligible. For Services only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// A client stays with its peer. For Services only. `{}` turns it on. Default: every request is
    /// balanced by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
    /// How much the peers get at a time, and what waits for room. For Services only. Default: no limit,
    /// and up to 100 requests wait for 1s when there is no eligible peer for a moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// TLS to the peers. For Services only. Default: plain text, or TLS without authentication where
    /// the Service port's `appProtocol` is `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What is tried again after a failure. Default: only what was never sent (connect errors), on
    /// up to 2 other peers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Deadlines of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// How encoded and repeated slashes in paths are handled. Default: the flags `--escaped-slashes` and
    /// `--repeated-slashes`, which forward them as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Who may send requests: whom one of the methods identifies. Others are answered with 401. What cannot be
    /// used (a Secret that is missing, a section that is not valid) refuses requests with 503; it never lets
    /// them through. Default: everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Which client addresses may send requests, asked before anything else. Others are answered with 403
    /// `AddressDenied`; a section that is not valid lets nobody in. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// How many requests are taken, by all replicas of Hale together. What is above is answered with 429 and
    /// `Retry-After`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Which web pages of other origins may read answers (CORS). Hale answers preflights itself, before `rateLimit`
    /// and `auth`. Default: Hale adds nothing, and passes on what the
    /// upstream says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// A target in the policy's own namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'Service') == (self.group == '')")
    .message("group must be \"\" for kind Service and networking.k8s.io for kind Ingress")
    .field_path(".group"))]
#[x_kube(validation = Rule::new("!has(self.sectionName) || self.kind == 'Service'")
    .message("sectionName names a port of a Service: an Ingress has none")
    .field_path(".sectionName"))]
pub struct TargetRef {
    /// API group of the target: "" for a Service, `networking.k8s.io` for an Ingress.
    #[schemars(length(max = 253), extend("enum" = ["", "networking.k8s.io"]))]
    pub group: String,
    /// Kind of the target: `Service` or `Ingress`.
    pub kind: TargetKind,
    /// Name of the target.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of a port of the Service (its number where it has no name). Default: all ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub section_name: Option<String>,
}

/// Kinds that a policy can be attached to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TargetKind {
    /// A Service, or one of its ports.
    Service,
    /// An Ingress: all its rules.
    Ingress,
}

impl TargetKind {
    /// As in `kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Ingress => "Ingress",
        }
    }
}
