//! Policies and refusals in words, for `hale why` and `hale status`.
//!
//! Only operators read them, so they say what clients are not told: which part of a credential is wrong. The
//! credential itself is in none of them.

mod words;

use std::sync::Arc;

use http::{HeaderMap, header};

use self::words::{sentence, service, what};
use super::{Asked, AuthGuard, Decision, Kind, Method, Note, Outcome, Refused, exempt};
use crate::{
    config::{AuthMethod, External},
    reason::Reason,
    report,
    table::Upstream,
};

/// What becomes of requests where nobody answers and the policy says `failOpen`.
const OPEN: &str = "nobody answers, and failOpen lets requests pass";
/// Schemes of `Authorization` that may be named: whatever else begins the header may be the secret itself.
const SCHEMES: [&str; 12] = [
    "Basic",
    "Bearer",
    "Digest",
    "Negotiate",
    "NTLM",
    "DPoP",
    "OAuth",
    "ApiKey",
    "Token",
    "Signature",
    "AWS4-HMAC-SHA256",
    "SDK-HMAC-SHA256",
];

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
    /// What its methods want, in order. `service` is the upstream that its external method asks.
    pub(crate) fn wanted(&self, service: Option<&Upstream>) -> impl Iterator<Item = Wanted> {
        let methods = self.methods.iter().zip(&self.rules.methods);
        methods.map(move |(compiled, config)| {
            let mut wanted = Wanted {
                kind: compiled.kind(),
                what: what(config),
                unavailable: compiled.unavailable().map(|why| why.to_string()),
            };
            match silence(config, service) {
                Some(Silence::Refused(why)) => {
                    wanted.unavailable = wanted.unavailable.or(Some(why))
                }
                Some(Silence::Passed(why)) => {
                    wanted.what = format!("{} ({why}: {OPEN})", wanted.what);
                }
                None => {}
            }
            wanted
        })
    }

    /// Whether everybody may have a canonical path.
    pub(crate) fn exempts(&self, path: &str) -> bool {
        exempt::is_exempt(&self.rules.exempt_paths, path)
    }

    /// Decides as [`super::check`] does, but asks no external service.
    pub(crate) async fn try_request(self: &Arc<Self>, asked: &Asked<'_>) -> Tried {
        if self.exempts(asked.path) {
            let (kind, decision) = self.decide(asked).await;
            return self.tried(kind, decision, None);
        }
        for (method, config) in self.methods.iter().zip(&self.rules.methods) {
            if let AuthMethod::External(external) = config
                && method.unavailable().is_none()
            {
                let service = asked.authority_service.map(|upstream| &**upstream);
                return would_ask(external, silence(config, service));
            }
            let decision = method.decide(asked).await;
            if !matches!(decision, Decision::Absent) {
                let detail = match &decision {
                    Decision::Denied(outcome) => method.explain(asked, *outcome),
                    _ => None,
                };
                return self.tried(Some(method.kind()), decision, detail);
            }
        }
        let stray = self.stray_credential(asked.headers);
        self.tried(None, Decision::Absent, stray)
    }

    /// `detail` goes before the sentence that every such outcome has.
    fn tried(
        self: &Arc<Self>,
        kind: Option<Kind>,
        decision: Decision,
        detail: Option<String>,
    ) -> Tried {
        let why = match &decision {
            Decision::Unavailable(_, why) if !why.is_empty() => Some(why.clone()),
            Decision::Absent if self.methods.iter().all(Method::is_unavailable) => {
                Some(self.why_unavailable())
            }
            Decision::IfBody(..) => {
                Some("the signature is good, if the body is the one that was signed".to_owned())
            }
            _ => detail,
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

    /// What is in `Authorization`, if no method reads it. What is no scheme that is known may itself be a secret.
    fn stray_credential(&self, headers: &HeaderMap) -> Option<String> {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let given = value.split(|byte| *byte == b' ').next()?;
        let known = SCHEMES
            .iter()
            .find(|scheme| scheme.as_bytes().eq_ignore_ascii_case(given));
        let given = known.map_or_else(
            || "without a scheme that Hale knows".to_owned(),
            |scheme| format!("with scheme {scheme}"),
        );
        let wanted: Vec<&str> = (self.methods.iter())
            .flat_map(|method| method.places().schemes())
            .collect();
        let wants = match wanted.as_slice() {
            [] => "no method of the policy reads it".to_owned(),
            wanted => format!("the policy wants {}", wanted.join(" or ")),
        };
        Some(format!("Authorization is there, {given}; {wants}"))
    }
}

/// What would come of a question that is not asked.
fn would_ask(external: &External, silence: Option<Silence>) -> Tried {
    let (outcome, reason, message) = match silence {
        None => {
            let service = service(&external.service);
            (None, None, format!("{service} would be asked, and decides"))
        }
        Some(Silence::Passed(why)) => (Some(Outcome::Unavailable), None, format!("{why}: {OPEN}")),
        Some(Silence::Refused(why)) => {
            let reason = Some(Reason::AuthUnavailable);
            (Some(Outcome::Unavailable), reason, why)
        }
    };
    Tried {
        kind: Some(Kind::External),
        outcome,
        consumer: None,
        reason,
        message,
    }
}

/// That the upstream of an external method answers nobody now, and what that means.
enum Silence {
    Refused(String),
    /// The policy lets requests pass.
    Passed(String),
}

fn silence(method: &AuthMethod, service: Option<&Upstream>) -> Option<Silence> {
    let AuthMethod::External(external) = method else {
        return None;
    };
    let (reason, why) = report::trouble(service?)?;
    // A peer that breaks off was there: that opens nothing.
    let was_there = matches!(reason, Reason::UpstreamReset | Reason::ProtocolError);
    Some(match external.fail_open && !was_there {
        true => Silence::Passed(why),
        false => Silence::Refused(why),
    })
}
