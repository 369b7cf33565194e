//! Methods that can never decide: the first whose credential a request has decides, so of two that look for the same
//! one the second is never asked. Nobody is let in by that who should not be, and some are refused who should be let in.

use std::fmt;

use hale_crds::{AccessKeyProfile, AuthMethod};

/// A credential that a method decides about wherever it is there, whatever it says.
#[derive(PartialEq)]
enum Credential<'a> {
    UserPass,
    Bearer,
    Signature(AccessKeyProfile),
    Header(String),
    Query(&'a str),
    Cookie(&'a str),
}

impl fmt::Display for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserPass => f.write_str("Authorization: Basic"),
            Self::Bearer => f.write_str("Authorization: Bearer"),
            Self::Signature(_) => f.write_str("signature of this profile"),
            Self::Header(name) => write!(f, "key in the header {name}"),
            Self::Query(name) => write!(f, "key in the parameter {name} of the query"),
            Self::Cookie(name) => write!(f, "key in the cookie {name}"),
        }
    }
}

/// The name of a method and the credentials that it looks for. An external service has none of its own.
fn wanted(method: &AuthMethod) -> (&'static str, Vec<Credential<'_>>) {
    if method.basic.is_some() {
        return ("basic", vec![Credential::UserPass]);
    }
    if method.jwt.is_some() {
        return ("jwt", vec![Credential::Bearer]);
    }
    if let Some(it) = &method.access_key {
        return ("accessKey", vec![Credential::Signature(it.profile)]);
    }
    let Some(it) = &method.api_key else {
        return ("external", Vec::new());
    };
    let mut wanted = Vec::new();
    if let Some(name) = &it.header {
        let name = name.to_ascii_lowercase();
        // There a key may stand alone, or behind `Bearer` as tokens do.
        if name == "authorization" {
            wanted.push(Credential::Bearer);
        }
        wanted.push(Credential::Header(name));
    }
    wanted.extend(it.query.as_deref().map(Credential::Query));
    wanted.extend(it.cookie.as_deref().map(Credential::Cookie));
    ("apiKey", wanted)
}

/// A sentence for each method that is never asked.
pub(super) fn unreachable(methods: &[AuthMethod]) -> Vec<String> {
    let mut before: Vec<(Credential<'_>, String)> = Vec::new();
    let mut told = Vec::new();
    for (index, method) in methods.iter().enumerate() {
        let (name, wanted) = wanted(method);
        let field = format!("auth.anyOf[{index}].{name}");
        let taken = |it: &Credential<'_>| before.iter().find(|(before, _)| before == it);
        if let Some((credential, by)) = wanted.last().and_then(taken)
            && wanted.iter().all(|it| taken(it).is_some())
        {
            told.push(format!(
                "{field} is never asked: {by} comes first and decides about every {credential}"
            ));
        }
        before.extend(wanted.into_iter().map(|it| (it, field.clone())));
    }
    told
}
