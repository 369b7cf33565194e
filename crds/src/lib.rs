//! What users of Hale declare: the `UpstreamPolicy` custom resource.
//!
//! The Rust types are the one source: the schema, its bounds, the CEL rules and the text of
//! `kubectl explain` are derived from them, and `hale crds` prints what is derived. A field enters in
//! the same change that makes it work: nothing is accepted and then ignored.
//!
//! Values that a newer API server may have let in (a duration out of range, a union with two
//! branches) deserialise all the same and are judged in translation, object by object, because an
//! object that cannot be read would stop the watch of all others.

// The derive of `KubeSchema` declares a public twin of each type inside a function.
#![allow(unreachable_pub)]
// Columns of the printer have like types.
#![allow(clippy::duplicated_attributes)]

mod duration;
mod health_check;
mod policy;
mod requests;
mod status;
mod tls;

pub use duration::{Duration, DurationError};
pub use health_check::{
    ActiveCheck, CheckPort, ExpectedBody, HealthCheck, HttpCheck, HttpHeader, Initial, Readiness,
    TcpCheck, Terminating,
};
pub use policy::{
    LoadBalancer, LoadBalancerType, TargetKind, TargetRef, UpstreamPolicy, UpstreamPolicySpec,
};
pub use requests::{NonIdempotent, Retry, RetryBudget, RetryOn, SamePeer, Timeouts};
pub use status::{
    AncestorRef, AncestorStatus, MAX_UNHEALTHY_PEERS, TargetStatus, UnhealthyPeer,
    UpstreamPolicyStatus,
};
pub use tls::{CaCertificateRef, CaKind, SecretRef, Tls};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of everything that Hale defines.
pub const GROUP: &str = "hale-ingress.io";

/// What Hale calls itself in `IngressClass.spec.controller` and in `status.ancestors`.
pub const CONTROLLER_NAME: &str = "hale-ingress.io/controller";

/// The definition of `UpstreamPolicy`, as it is installed.
pub fn crd() -> CustomResourceDefinition {
    UpstreamPolicy::crd()
}
