//! The sentences: what methods want, and what outcomes mean.

use super::super::{Kind, Outcome};
use crate::config::{AuthMethod, CredentialPlace, ExternalService, SignatureProfile};

/// What a method wants to see.
pub(super) fn what(method: &AuthMethod) -> String {
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

pub(super) fn service(service: &ExternalService) -> String {
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
pub(super) const fn sentence(kind: Option<Kind>, outcome: Outcome) -> &'static str {
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
