//! `status`: what Hale tells. Written by the leader alone; bounded, whatever the number of peers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Peers that are told one by one; the others are counted.
pub const MAX_UNHEALTHY_PEERS: usize = 32;

/// What Hale makes of the policy, and of the peers that it is for.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamPolicyStatus {
    /// The `metadata.generation` that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One line: `2/5 peers serving`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub summary: Option<String>,
    /// Peers that are served, of all peers: `2/5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub healthy: Option<String>,
    /// One for each target (Gateway API, `PolicyStatus`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ancestors: Vec<AncestorStatus>,
    /// Counts for each Service port that the policy reaches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub targets: Vec<TargetStatus>,
    /// The worst peers, at most 32: which, why, and since when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub unhealthy_peers: Vec<UnhealthyPeer>,
    /// How many more peers are out than `unhealthyPeers` tells.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub unhealthy_peers_omitted: i32,
}

/// What Hale makes of the policy for one target.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorStatus {
    /// The target.
    pub ancestor_ref: AncestorRef,
    /// Who wrote this: `hale-ingress.io/controller`.
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: String,
    /// `Accepted`, `Programmed`, `Healthy`, `ReadinessAgrees`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// A target, as in `spec.targetRefs`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorRef {
    /// API group of the target.
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind of the target.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the target.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the Service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub section_name: Option<String>,
}

/// Counts for one Service port.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Always `Service`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the Service.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name (or number) of its port.
    #[schemars(length(min = 1, max = 63))]
    pub port: String,
    /// Peers that Kubernetes names.
    #[schemars(range(min = 0))]
    pub peers: i32,
    /// Peers that are served.
    #[schemars(range(min = 0))]
    pub serving: i32,
    /// The others, counted by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub by_reason: BTreeMap<String, i32>,
}

/// A peer that is out.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnhealthyPeer {
    /// Address and port.
    #[schemars(length(min = 1, max = 64))]
    pub address: String,
    /// Its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// The pod's node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// Why: a code of the closed list.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Why, for people: `GET /healthz: HTTP 503, want 200-399, 7 in a row`.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Since when.
    pub since: Time,
}
