//! Policies and refusals in words, for `hale why` and `hale status`.
//!
//! Only operators read them, so they say what clients are not told: which part of a credential is wrong. The
//! credential itself is in none of them.

use std::sync::Arc;

use super::{Asked, AuthGuard, Decision, Kind, Method, Note, Outcome, Refused, exempt};
use crate::{
    config::{AuthMethod, CredentialPlace, ExternalService, SignatureProfile},
    reason::Reason,
};

/// What a method of a policy wants.
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    /// `an API key in the header x-api-key`
    pub(crate) what: String,
    /// Why it can let nobody in.
    pub(crate) unavailable: Option<String>,
}

/// What came of trying a request.
pub(crate) struct Tried {
    /// The method that decided, or would be asked to.
    pub(crate) kind: Option<Kind>,
    /// `None` if that is the external service, which is not asked.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) consumer: Option<Arc<str>>,
    /// What the request would be refused with.
    pub(crate) reason: Option<Reason>,
    pub(crate) message: String,
}

impl AuthGuard {
    /// What its methods want, in order.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = Wanted> {
        let methods = self.methods.iter().zip(&self.rules.methods);
        methods.map(|(compiled, config)| Wanted {
            kind: compiled.kind(),
            what: what(config),
            unavailable: compiled.unavailable().map(|why| why.to_string()),
        })
    }

    /// Whether everybody may have a canonical path.
    pub(crate) fn exempts(&self, path: &str) -> bool {
        exempt::is_exempt(&self.rules.exempt_paths, path)
    }

    /// Decides as [`super::check`] does, but asks no external service.
    pub(crate) async fn try_request(self: &Arc<Self>, asked: &Asked<'_>) -> Tried {
        let mut decided = (None, Decision::Absent);
        if self.exempts(asked.path) {
            decided = self.decide(asked).await;
        } else {
            for (method, config) in self.methods.iter().zip(&self.rules.methods) {
                if let AuthMethod::External(external) = config
                    && method.unavailable().is_none()
                {
                    return Tried {
                        kind: Some(Kind::External),
                        outcome: None,
                        consumer: None,
                        reason: None,
                        message: format!(
                            "{} would be asked, and decides",
                            service(&external.service)
                        ),
                    };
                }
                let decision = method.decide(asked).await;
                if !matches!(decision, Decision::Absent) {
                    decided = (Some(method.kind()), decision);
                    break;
                }
            }
        }
        self.tried(decided.0, decided.1)
    }

    fn tried(self: &Arc<Self>, kind: Option<Kind>, decision: Decision) -> Tried {
        let why = match &decision {
            Decision::Unavailable(_, why) if !why.is_empty() => Some(why.clone()),
            Decision::Absent if self.methods.iter().all(Method::is_unavailable) => {
                Some(self.why_unavailable())
            }
            Decision::IfBody(..) => {
                Some("the signature is good, if the body is the one that was signed".to_owned())
            }
            _ => None,
        };
        let decision = match decision {
            Decision::IfBody(granted, _) => Decision::Granted(granted),
            decision => decision,
        };
        let (note, verdict) = self.verdict(kind, decision);
        let Note {
            kind,
            consumer,
            outcome,
        } = note;
        Tried {
            kind,
            consumer,
            reason: match verdict {
                Ok(_) => None,
                Err(Refused::Reject(reject)) => Some(reject.reason()),
                Err(Refused::Answer(_)) => Some(Reason::AuthRequired),
            },
            message: why.unwrap_or_else(|| sentence(kind, outcome).to_owned()),
            outcome: Some(outcome),
        }
    }
}

/// What a method wants to see.
fn what(method: &AuthMethod) -> String {
    match method {
        AuthMethod::Basic(basic) => format!(
            "user and password in Authorization: Basic, realm {:?}",
            basic.realm
        ),
        AuthMethod::Jwt(jwt) => {
            let mut text = format!("a token of {} in Authorization: Bearer", jwt.issuer);
            let names = jwt.required_claims.iter();
            let claims: Vec<String> = names.map(|claim| claim.claim.clone()).collect();
            for (what, list, between) in [
                (", for ", &jwt.audiences, " or "),
                (", with the scope ", &jwt.required_scopes, " and "),
                (", with the claim ", &claims, " and "),
            ] {
                if !list.is_empty() {
                    text.push_str(what);
                    text.push_str(&list.join(between));
                }
            }
            text
        }
        AuthMethod::AccessKey(access_key) => {
            format!("a request signed with {}", profile(access_key.profile))
        }
        AuthMethod::ApiKey(api_key) => match &api_key.location {
            CredentialPlace::Header(name) => format!("an API key in the header {name}"),
            CredentialPlace::Query(name) => format!("an API key in the query parameter {name}"),
            CredentialPlace::Cookie(name) => format!("an API key in the cookie {name}"),
        },
        AuthMethod::External(external) => {
            format!("the word of {}", service(&external.service))
        }
    }
}

fn service(service: &ExternalService) -> String {
    match service {
        ExternalService::Upstream(id) => id.to_string(),
        ExternalService::Url(url) => url.clone(),
        ExternalService::Unavailable(_) => "a service that is not there".to_owned(),
    }
}

const fn profile(profile: SignatureProfile) -> &'static str {
    match profile {
        SignatureProfile::Aws4 => "AWS4-HMAC-SHA256",
        SignatureProfile::Sdk => "SDK-HMAC-SHA256",
        SignatureProfile::HttpSignature => "hmac-sha256 (HTTP Message Signatures)",
        SignatureProfile::Cavage => "hmac-sha256 (draft-cavage-http-signatures)",
    }
}

/// What an outcome means where a method of this kind says it.
const fn sentence(kind: Option<Kind>, outcome: Outcome) -> &'static str {
    match (kind, outcome) {
        (_, Outcome::Allowed) => "the credential is good",
        (_, Outcome::Exempt) => "the path is exempt: everybody may have it",
        (_, Outcome::NoCredential) => "the request has none of the credentials that are wanted",
        (_, Outcome::Malformed) => {
            "the credential cannot be read: it is not written as it should be"
        }
        (Some(Kind::Basic), Outcome::UnknownConsumer) => "no user of the Secret has this name",
        (Some(Kind::Jwt), Outcome::UnknownConsumer) => {
            "no key of the key set is the one that the token names"
        }
        (Some(Kind::AccessKey), Outcome::UnknownConsumer) => {
            "no Secret that the selector takes has this key id"
        }
        (_, Outcome::UnknownConsumer) => "no consumer of the Secret has this key",
        (Some(Kind::Basic), Outcome::WrongCredential) => {
            "the user is known, and the password is wrong"
        }
        (Some(Kind::Jwt), Outcome::WrongCredential) => {
            "the token's signature is not by the key that it names"
        }
        (Some(Kind::AccessKey), Outcome::WrongCredential) => {
            "the key is known, and the signature is not the one of this request: method, path, query or a signed header differ from what was signed, or the secret key is another"
        }
        (_, Outcome::WrongCredential) => "the credential is wrong",
        (Some(Kind::AccessKey), Outcome::Expired) => {
            "the key (notAfter) or the signature is no longer valid"
        }
        (_, Outcome::Expired) => "it is no longer valid",
        (_, Outcome::NotYetValid) => "it is not valid yet: is the clock of its issuer right?",
        (_, Outcome::ClockSkew) => {
            "the request's date is farther from this machine's than clockSkew: one of the two clocks is wrong, or the request is old"
        }
        (_, Outcome::Replayed) => "the same signature was taken before, within replayWindow",
        (_, Outcome::NotForUs) => {
            "issuer, audience or algorithm are not those that the policy wants"
        }
        (_, Outcome::BodyMismatch) => {
            "the signature does not cover the body, or covers another one"
        }
        (Some(Kind::Jwt), Outcome::Forbidden) => {
            "the token is good, and a claim or scope that is wanted is missing"
        }
        (_, Outcome::Forbidden) => "who it is is known, and they may not",
        (_, Outcome::Unavailable) => "it cannot be checked now",
        (_, Outcome::Overloaded) => "too many checks wait",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_sentence_of_its_own() {
        let mut sentences = Outcome::ALL.map(|outcome| sentence(Some(Kind::ApiKey), outcome));
        sentences.sort_unstable();
        for pair in sentences.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
    }
}
