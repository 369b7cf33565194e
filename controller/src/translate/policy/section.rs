//! The sections of a policy, by name.

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    HealthCheck,
    LoadBalancer,
    SessionPersistence,
    CircuitBreaker,
    Tls,
    Retry,
    Timeouts,
    Path,
    Auth,
    Access,
    RateLimit,
    Cors,
}

impl Section {
    pub(super) const ALL: [Self; 12] = [
        Self::HealthCheck,
        Self::LoadBalancer,
        Self::SessionPersistence,
        Self::CircuitBreaker,
        Self::Tls,
        Self::Retry,
        Self::Timeouts,
        Self::Path,
        Self::Auth,
        Self::Access,
        Self::RateLimit,
        Self::Cors,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HealthCheck => "healthCheck",
            Self::LoadBalancer => "loadBalancer",
            Self::SessionPersistence => "sessionPersistence",
            Self::CircuitBreaker => "circuitBreaker",
            Self::Tls => "tls",
            Self::Retry => "retry",
            Self::Timeouts => "timeouts",
            Self::Path => "path",
            Self::Auth => "auth",
            Self::Access => "access",
            Self::RateLimit => "rateLimit",
            Self::Cors => "cors",
        }
    }

    /// Whether it describes peers, and not requests.
    pub(super) const fn is_of_peers(self) -> bool {
        match self {
            Self::HealthCheck
            | Self::LoadBalancer
            | Self::SessionPersistence
            | Self::CircuitBreaker
            | Self::Tls => true,
            Self::Retry
            | Self::Timeouts
            | Self::Path
            | Self::Auth
            | Self::Access
            | Self::RateLimit
            | Self::Cors => false,
        }
    }

    /// Whether it keeps requests out: what cannot be understood of it keeps out all.
    pub(super) const fn protects(self) -> bool {
        matches!(self, Self::Auth | Self::Access)
    }
}
