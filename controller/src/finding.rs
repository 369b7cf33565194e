//! What is wrong with which object, for Events, logs, status and commands.

use hale_dataplane::config::ObjectRef;
use serde::Serialize;

/// Something that a person should know about an object. A bad object costs only itself: it becomes a
/// finding, and everything else is served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The object to mend.
    pub object: ObjectRef,
    /// The code.
    pub reason: FindingReason,
    /// How bad it is.
    pub severity: Severity,
    /// One or two sentences: what is wrong, what that costs, what to do.
    pub message: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// Something that was asked for is not served.
    Warning,
    /// Everything is served, and something is worth knowing.
    Notice,
}

/// The codes of findings: a closed list, also the reasons of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum FindingReason {
    /// A rule names a Service that does not exist.
    ServiceNotFound,
    /// A rule names a port that its Service does not have.
    PortNotFound,
    /// A rule names a Service of type `ExternalName`.
    ExternalNameRefused,
    /// A rule names a backend that is no Service.
    BackendUnsupported,
    /// The Service's selector matches no pod.
    SelectorMatchesNothing,
    /// The Service's pods wait for a node.
    PodsNotScheduled,
    /// Pods of the Service fail, and none is ready.
    PodsFailing,
    /// The Service has no endpoints.
    NoEndpoints,
    /// An endpoint that cannot be used.
    EndpointInvalid,
    /// A pod whose readinessProbe cannot be made a check.
    ProbeUnusable,
    /// A `appProtocol` that is not known.
    AppProtocolUnknown,
    /// A host that is no DNS name.
    HostInvalid,
    /// A path that no request can have, or of an unknown type.
    PathInvalid,
    /// Another object has the host and path.
    HostConflict,
    /// A TLS Secret that is missing or cannot be used.
    TlsSecretInvalid,
    /// A certificate that does not name its host.
    TlsHostNotCovered,
    /// A certificate that has expired.
    TlsCertificateExpired,
    /// A certificate that expires soon.
    TlsCertificateExpires,
    /// A policy that is not valid.
    PolicyInvalid,
    /// Another policy has the section.
    PolicyConflicted,
    /// A policy's target does not exist.
    PolicyTargetNotFound,
    /// A Secret or ConfigMap that a policy refers to and that may not be read, or was not yet.
    ReferenceUnreadable,
    /// A kind that the API server does not list any more: its last known state stays in force.
    KindUnavailable,
    /// A credential that cannot be used: a line of an htpasswd file, an API key, a Secret with an access key.
    CredentialInvalid,
    /// A method of a policy that can never decide, because one before it takes the same credential.
    MethodUnreachable,
    /// Annotations of another controller, which ask for something that is not done.
    AnnotationIgnored,
    /// A manifest of a kind that Hale does not read.
    KindIgnored,
    /// The manifests cannot be read: what they were before is still served.
    ManifestsUnreadable,
}

impl FindingReason {
    /// The code, `CamelCase`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceNotFound => "ServiceNotFound",
            Self::PortNotFound => "PortNotFound",
            Self::ExternalNameRefused => "ExternalNameRefused",
            Self::BackendUnsupported => "BackendUnsupported",
            Self::SelectorMatchesNothing => "SelectorMatchesNothing",
            Self::PodsNotScheduled => "PodsNotScheduled",
            Self::PodsFailing => "PodsFailing",
            Self::NoEndpoints => "NoEndpoints",
            Self::EndpointInvalid => "EndpointInvalid",
            Self::ProbeUnusable => "ProbeUnusable",
            Self::AppProtocolUnknown => "AppProtocolUnknown",
            Self::HostInvalid => "HostInvalid",
            Self::PathInvalid => "PathInvalid",
            Self::HostConflict => "HostConflict",
            Self::TlsSecretInvalid => "TlsSecretInvalid",
            Self::TlsHostNotCovered => "TlsHostNotCovered",
            Self::TlsCertificateExpired => "TlsCertificateExpired",
            Self::TlsCertificateExpires => "TlsCertificateExpires",
            Self::PolicyInvalid => "PolicyInvalid",
            Self::PolicyConflicted => "PolicyConflicted",
            Self::PolicyTargetNotFound => "PolicyTargetNotFound",
            Self::ReferenceUnreadable => "ReferenceUnreadable",
            Self::KindUnavailable => "KindUnavailable",
            Self::CredentialInvalid => "CredentialInvalid",
            Self::MethodUnreachable => "MethodUnreachable",
            Self::AnnotationIgnored => "AnnotationIgnored",
            Self::KindIgnored => "KindIgnored",
            Self::ManifestsUnreadable => "ManifestsUnreadable",
        }
    }
}
