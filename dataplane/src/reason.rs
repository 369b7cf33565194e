//! Why: one closed list of reasons, used in responses, logs, metrics, status, Events and commands.

use std::fmt;

use serde::{Serialize, Serializer};

/// Defines the enum, its spelling, and the list of all of it, in one place.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $kebab:literal,)*) => {
        /// A reason code. The order is that of the list in the manual.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code, `CamelCase`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The code as the last part of `urn:hale:…`.
            pub const fn kebab(self) -> &'static str {
                match self { $(Self::$name => $kebab,)* }
            }
        }
    };
}

reasons! {
    // Of a peer.
    /// Kubernetes says that the pod is not ready.
    NotReady = "not-ready",
    /// The pod terminates.
    Terminating = "terminating",
    /// No check has ended yet.
    NotYetChecked = "not-yet-checked",
    /// The policy's active check fails.
    ActiveCheckFailed = "active-check-failed",
    /// The outlier detector took the peer out.
    Ejected = "ejected",
    /// The peer is at its limit of connections or requests.
    Saturated = "saturated",
    /// Nothing listens on the address.
    ConnectRefused = "connect-refused",
    /// The address does not answer.
    ConnectTimeout = "connect-timeout",
    /// The TLS handshake with the peer failed.
    TlsError = "tls-error",
    // Of an upstream.
    /// The route names a Service that does not exist.
    ServiceNotFound = "service-not-found",
    /// The Service has no such port.
    PortNotFound = "port-not-found",
    /// The Service is of type `ExternalName` and that is not allowed.
    ExternalNameRefused = "external-name-refused",
    /// The Service has no endpoints.
    NoEndpoints = "no-endpoints",
    /// The Service's selector matches no pod.
    SelectorMatchesNothing = "selector-matches-nothing",
    /// The Service's pods wait for a node.
    PodsNotScheduled = "pods-not-scheduled",
    /// The upstream has peers and none of them is eligible.
    NoEligiblePeer = "no-eligible-peer",
    /// The upstream is at its limit of connections or requests.
    CircuitOpen = "circuit-open",
    /// The request waited in the upstream's queue for too long.
    QueueTimeout = "queue-timeout",
    /// The upstream's retries are spent.
    RetryBudgetExhausted = "retry-budget-exhausted",
    /// The peer did not answer in time.
    UpstreamTimeout = "upstream-timeout",
    /// The connection to the peer ended before the response was complete.
    UpstreamReset = "upstream-reset",
    /// The peer's answer is not HTTP that can be passed on.
    ProtocolError = "protocol-error",
    // Of a request.
    /// No host or path rule takes the request.
    NoRoute = "no-route",
    /// The object that declared the route was not accepted.
    NotAccepted = "not-accepted",
    /// The request is malformed.
    BadRequest = "bad-request",
    /// The request's header section is too large.
    HeadersTooLarge = "headers-too-large",
    /// The request target is too long.
    UriTooLong = "uri-too-long",
    /// The request body is too large.
    BodyTooLarge = "body-too-large",
    /// The request body did not arrive in time.
    BodyTimeout = "body-timeout",
    /// The method is not proxied.
    MethodNotAllowed = "method-not-allowed",
    /// Credentials are wanted.
    AuthRequired = "auth-required",
    /// The credentials were refused.
    AuthDenied = "auth-denied",
    /// Credentials cannot be checked now.
    AuthUnavailable = "auth-unavailable",
    /// Too many requests.
    RateLimited = "rate-limited",
    /// The client's address is not allowed.
    AddressDenied = "address-denied",
    /// The host is not served over this TLS connection.
    MisdirectedRequest = "misdirected-request",
    /// The request passed Hale too often: its upstream leads back to it.
    LoopDetected = "loop-detected",
    /// This Hale is at a limit of its own.
    Overloaded = "overloaded",
    /// This Hale is shutting down.
    ShuttingDown = "shutting-down",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
