//! One method of a policy: what all of them can be asked.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};

use super::{
    Asked, Decision, Kind, Memory, Outcome, Places, Refused, access_key, api_key, basic, external,
    jwt,
};
use crate::{config::AuthMethod, reason::Reason, reject::Reject, sanitize};

/// A method, compiled.
pub(super) enum Method {
    Basic(basic::Basic),
    Jwt(jwt::Jwt),
    AccessKey(access_key::AccessKey),
    ApiKey(api_key::ApiKey),
    External(external::External),
}

impl Method {
    pub(super) fn compile(
        method: &AuthMethod,
        namespace: &str,
        memory: &Memory,
        old: Option<&Self>,
    ) -> Self {
        match (method, old) {
            (AuthMethod::Basic(new), _) => {
                Self::Basic(basic::Basic::compile(new, namespace, &memory.passwords))
            }
            (AuthMethod::Jwt(new), Some(Self::Jwt(old))) => {
                Self::Jwt(jwt::Jwt::compile(new, Some(old)))
            }
            (AuthMethod::Jwt(new), _) => Self::Jwt(jwt::Jwt::compile(new, None)),
            (AuthMethod::AccessKey(new), _) => Self::AccessKey(access_key::AccessKey::compile(
                new,
                namespace,
                &memory.signatures,
            )),
            (AuthMethod::ApiKey(new), _) => Self::ApiKey(api_key::ApiKey::compile(new)),
            (AuthMethod::External(new), _) => Self::External(external::External::compile(new)),
        }
    }

    pub(super) async fn decide(&self, asked: &Asked<'_>) -> Decision {
        let decision = match self {
            Self::Basic(method) => method.decide(asked).await,
            Self::Jwt(method) => method.decide(asked).await,
            Self::AccessKey(method) => method.decide(asked),
            Self::ApiKey(method) => method.decide(asked),
            Self::External(method) => method.decide(asked).await,
        };
        match decision {
            // What was signed, or judged by somebody else, goes upstream with all of its headers, or not at all.
            Decision::Granted(_) | Decision::IfBody(..)
                if self.judges_headers() && sanitize::takes_away(asked.headers) =>
            {
                let reject = Reject::new(Reason::BadRequest)
                    .saying("Connection names headers that are not the connection's own");
                Decision::Answer(Outcome::Malformed, Box::new(Refused::Reject(reject)))
            }
            decision => decision,
        }
    }

    /// What is wrong with a credential that was refused, if more can be said than the outcome says. Works it out again:
    /// only `hale why` asks.
    pub(super) fn explain(&self, asked: &Asked<'_>, outcome: Outcome) -> Option<String> {
        match self {
            Self::Basic(method) => method.explain(asked.headers, outcome),
            Self::Jwt(method) => method.explain(asked.headers, asked.now),
            Self::AccessKey(method) => method.explain(asked),
            Self::ApiKey(_) | Self::External(_) => None,
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Basic(_) => Kind::Basic,
            Self::Jwt(_) => Kind::Jwt,
            Self::AccessKey(_) => Kind::AccessKey,
            Self::ApiKey(_) => Kind::ApiKey,
            Self::External(_) => Kind::External,
        }
    }

    /// Why it can let nobody in.
    pub(super) fn unavailable(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Basic(method) => method.unavailable().map(Cow::Borrowed),
            Self::Jwt(method) => method.unavailable(),
            Self::AccessKey(method) => method.unavailable().map(Cow::Borrowed),
            Self::ApiKey(method) => method.unavailable().map(Cow::Borrowed),
            Self::External(method) => method.unavailable().map(Cow::Borrowed),
        }
    }

    pub(super) fn is_unavailable(&self) -> bool {
        self.unavailable().is_some()
    }

    /// Headers that it may set upstream, beside consumer and method.
    pub(super) fn sets(&self) -> Vec<HeaderName> {
        match self {
            Self::Jwt(method) => method.sets(),
            Self::External(method) => method.sets(),
            Self::Basic(_) | Self::AccessKey(_) | Self::ApiKey(_) => Vec::new(),
        }
    }

    /// Whether what it says is about headers besides its credential.
    const fn judges_headers(&self) -> bool {
        matches!(self, Self::AccessKey(_) | Self::External(_))
    }

    /// Where it looks for its credential. The external service is asked about requests as they are.
    pub(super) fn places(&self) -> Places {
        match self {
            Self::Basic(_) => Places::scheme("Basic"),
            Self::Jwt(_) => Places::scheme("Bearer"),
            Self::AccessKey(method) => method.places(),
            Self::ApiKey(method) => method.places(),
            Self::External(_) => Places::default(),
        }
    }

    /// What a 401 says of it (RFC 9110 §11.6.1).
    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Self::Basic(method) => Some(method.challenge()),
            Self::Jwt(method) => Some(method.challenge()),
            Self::AccessKey(method) => Some(method.challenge()),
            Self::ApiKey(_) => Some(api_key::ApiKey::challenge()),
            Self::External(_) => None,
        }
    }
}
