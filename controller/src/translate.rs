//! `translate(&Cluster, &Settings) -> Translation`: what is served, and what is wrong, decided from a
//! snapshot alone. No clock, no randomness, no I/O, no log; it cannot fail. One rulebook per kind.

use hale_crds::TargetRef;
use hale_dataplane::config::{Config, UpstreamId};
use serde::Serialize;

use crate::{cluster::Cluster, finding::Finding, settings::Settings};

/// What translation gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Translation {
    /// What is served.
    pub config: Config,
    /// What is wrong with which object, sorted, each once.
    pub findings: Vec<Finding>,
    /// The Ingresses that are ours, sorted by namespace and name: their `status.loadBalancer` is ours to
    /// write.
    pub ingresses: Vec<IngressOutcome>,
    /// What became of every policy, sorted by namespace and name.
    pub policies: Vec<PolicyOutcome>,
}

/// An Ingress that is ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressOutcome {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it asks for TLS: its address answers on 443, too.
    pub tls: bool,
    /// The upstreams that its routes reach, sorted.
    pub upstreams: Vec<UpstreamId>,
}

/// What became of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyOutcome {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The `metadata.generation` that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// One for each of `spec.targetRefs`, in their order.
    pub targets: Vec<TargetOutcome>,
}

/// What became of a policy for one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetOutcome {
    /// The target, as it was written.
    pub target: TargetRef,
    /// Whether it is valid and has all its sections.
    pub accepted: Judgement<AcceptedReason>,
    /// Whether the proxy serves by it.
    pub programmed: Judgement<ProgrammedReason>,
    /// The upstreams whose peers the policy is about: those of the Service, or those that the Ingress's
    /// routes reach. Sorted.
    pub upstreams: Vec<UpstreamId>,
}

/// A condition's reason and message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement<R> {
    /// The code.
    pub reason: R,
    /// One sentence.
    pub message: String,
}

/// Reasons of the condition `Accepted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AcceptedReason {
    /// True.
    Accepted,
    /// False: something in the spec cannot be.
    Invalid,
    /// False: an older policy has a section.
    Conflicted,
    /// False: there is no such Service, port or Ingress.
    TargetNotFound,
}

impl AcceptedReason {
    /// The condition's status.
    pub const fn status(self) -> bool {
        matches!(self, Self::Accepted)
    }

    /// The code, `CamelCase`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Invalid => "Invalid",
            Self::Conflicted => "Conflicted",
            Self::TargetNotFound => "TargetNotFound",
        }
    }
}

/// Reasons of the condition `Programmed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProgrammedReason {
    /// True: at least one section is in force, or there is none that could be.
    Programmed,
    /// False: other policies have all its sections.
    Overridden,
    /// False: no route reaches the target, or the policy is not accepted.
    Pending,
}

impl ProgrammedReason {
    /// The condition's status.
    pub const fn status(self) -> bool {
        matches!(self, Self::Programmed)
    }

    /// The code, `CamelCase`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Programmed => "Programmed",
            Self::Overridden => "Overridden",
            Self::Pending => "Pending",
        }
    }
}

/// Decides what is served.
pub fn translate(_cluster: &Cluster, _settings: &Settings) -> Translation {
    Translation::default()
}
