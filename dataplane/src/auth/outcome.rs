//! What is told of a decision: to logs, metrics and `hale why`, never to clients.

/// The kinds of methods, for logs, metrics and `X-Hale-Auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Basic,
    Jwt,
    AccessKey,
    ApiKey,
    External,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Basic,
        Self::Jwt,
        Self::AccessKey,
        Self::ApiKey,
        Self::External,
    ];

    /// As it is told.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Jwt => "jwt",
            Self::AccessKey => "accessKey",
            Self::ApiKey => "apiKey",
            Self::External => "external",
        }
    }
}

/// What came of looking at a credential, for logs, metrics and `hale why`; clients are not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Outcome {
    /// It is good.
    Allowed,
    /// None was needed: the path is exempt.
    Exempt,
    /// There was none.
    NoCredential,
    /// It cannot be read.
    Malformed,
    /// Nobody has this name, key id or API key.
    UnknownConsumer,
    /// Password or signature are wrong.
    WrongCredential,
    /// It, or its key, is no longer valid.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// The request's date is too far from ours.
    ClockSkew,
    /// The same signature was taken before.
    Replayed,
    /// Issuer, audience or algorithm are not what the policy wants.
    NotForUs,
    /// The body is not the one that was signed, or the signature does not cover it.
    BodyMismatch,
    /// Who it is is known, and they may not: a claim or scope is missing, or the external service says so.
    Forbidden,
    /// It cannot be checked now.
    Unavailable,
    /// Too many checks wait.
    Overloaded,
}

impl Outcome {
    pub(crate) const ALL: [Self; 15] = [
        Self::Allowed,
        Self::Exempt,
        Self::NoCredential,
        Self::Malformed,
        Self::UnknownConsumer,
        Self::WrongCredential,
        Self::Expired,
        Self::NotYetValid,
        Self::ClockSkew,
        Self::Replayed,
        Self::NotForUs,
        Self::BodyMismatch,
        Self::Forbidden,
        Self::Unavailable,
        Self::Overloaded,
    ];

    /// As it is told.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "Allowed",
            Self::Exempt => "Exempt",
            Self::NoCredential => "NoCredential",
            Self::Malformed => "Malformed",
            Self::UnknownConsumer => "UnknownConsumer",
            Self::WrongCredential => "WrongCredential",
            Self::Expired => "Expired",
            Self::NotYetValid => "NotYetValid",
            Self::ClockSkew => "ClockSkew",
            Self::Replayed => "Replayed",
            Self::NotForUs => "NotForUs",
            Self::BodyMismatch => "BodyMismatch",
            Self::Forbidden => "Forbidden",
            Self::Unavailable => "Unavailable",
            Self::Overloaded => "Overloaded",
        }
    }
}
