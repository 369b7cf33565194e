//! What policies say of requests, in words.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    auth::{AuthGuard, Protection, explain::Wanted},
    config::{self, Access, ObjectRef, RateLimitKey},
    reason::Reason,
    table::{CompiledRoute, PeerTable, Upstream},
};

/// A policy that cannot let in whom it should.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unavailable {
    /// The policy; where it is not known the object that declared a route that it protects.
    pub object: ObjectRef,
    /// What requests are refused with.
    pub reason: Reason,
    /// What is to be mended.
    pub message: String,
}

/// What a route's policies say, section by section.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoliciesReport {
    /// Who may send requests; `None` if everybody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthReport>,
    /// From where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<SectionReport>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<SectionReport>,
    /// From which web pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<SectionReport>,
}

impl PoliciesReport {
    /// The policies.
    pub fn sources(&self) -> impl Iterator<Item = &ObjectRef> {
        let auth = self.auth.as_ref().map(|auth| auth.source.as_ref());
        let sections = [&self.access, &self.rate_limit, &self.cors];
        let sections = sections.into_iter().flatten();
        let sources = sections.map(|section| section.source.as_ref()).chain(auth);
        sources.flatten()
    }
}

/// One section of a policy, in words.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SectionReport {
    /// The policy, if it could be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectRef>,
    /// What it says, or why it cannot be used.
    pub message: String,
}

/// The `auth` section of a policy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthReport {
    /// The policy, if it could be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectRef>,
    /// Whether everybody may have the path.
    pub exempt: bool,
    /// Methods, in the order in which they are asked.
    pub methods: Vec<MethodReport>,
    /// Why nobody is let in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unavailable: String,
}

/// One method of an `auth` section.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MethodReport {
    /// `basic`, `jwt`, `accessKey`, `apiKey` or `external`.
    pub method: &'static str,
    /// What it wants to see.
    pub wants: String,
    /// Why it can let nobody in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

/// Policies that cannot let in whom they should, each once.
pub(super) fn unavailable(table: &PeerTable) -> Vec<Unavailable> {
    let mut found = BTreeSet::new();
    let mut problems = BTreeSet::new();
    let mut asked = BTreeSet::new();
    for (route, compiled) in table.all_routes() {
        match &compiled.protection {
            Protection::Open => {}
            Protection::AnyOf(guard) => {
                if asked.insert(route.policy.auth.source())
                    && let Some(message) = unavailable_methods(guard, compiled)
                {
                    found.insert(Unavailable {
                        object: guard.rules.source.clone(),
                        reason: Reason::AuthUnavailable,
                        message,
                    });
                }
            }
            Protection::Unavailable(problem) => {
                problems.insert((problem.message.as_str(), problem.reason, &route.source));
            }
        }
        if let Access::Unavailable(problem) = &route.policy.access {
            problems.insert((problem.message.as_str(), problem.reason, &route.source));
        }
    }
    let mut last = None;
    for (message, reason, object) in problems {
        // One line for all routes that a policy protects.
        if last.replace((message, reason)) != Some((message, reason)) {
            found.insert(Unavailable {
                object: object.clone(),
                reason,
                message: message.to_owned(),
            });
        }
    }
    found.into_iter().collect()
}

fn unavailable_methods(guard: &AuthGuard, route: &CompiledRoute) -> Option<String> {
    let (mut lost, mut left) = (Vec::new(), Vec::new());
    for method in guard.wanted(service(route)) {
        match method.unavailable {
            Some(why) => lost.push(format!("{}: {why}", method.kind.as_str())),
            None => left.push(method.kind.as_str()),
        }
    }
    let lost = (!lost.is_empty()).then(|| lost.join("; "))?;
    Some(if left.is_empty() {
        format!("nobody is let in: {lost}")
    } else {
        format!("{lost}; {} still lets in", left.join(", "))
    })
}

/// What a route's policies say of a canonical path.
pub(super) fn of(route: &CompiledRoute, path: &str) -> PoliciesReport {
    let policy = &route.policy;
    let section = |source: &ObjectRef, message| SectionReport {
        source: Some(source.clone()),
        message,
    };
    PoliciesReport {
        auth: match &route.protection {
            Protection::Open => None,
            Protection::AnyOf(guard) => Some(AuthReport {
                source: Some(guard.rules.source.clone()),
                exempt: guard.exempts(path),
                methods: guard.wanted(service(route)).map(method).collect(),
                unavailable: nobody(guard, route).unwrap_or_default(),
            }),
            Protection::Unavailable(problem) => Some(AuthReport {
                source: None,
                exempt: false,
                methods: Vec::new(),
                unavailable: problem.message.clone(),
            }),
        },
        access: match &policy.access {
            Access::Everybody => None,
            Access::Rules(rules) => Some(section(&rules.source, addresses(rules))),
            Access::Unavailable(problem) => Some(SectionReport {
                source: None,
                message: problem.message.clone(),
            }),
        },
        rate_limit: (policy.rate_limit.as_ref())
            .map(|limit| section(&limit.source, how_many(limit))),
        cors: (policy.cors.as_ref()).map(|cors| section(&cors.source, pages(cors))),
    }
}

/// Why a route lets nobody have the path, whatever they send.
pub(super) fn refusal(
    route: &CompiledRoute,
    policies: &PoliciesReport,
) -> Option<(Reason, String)> {
    if let Access::Unavailable(problem) = &route.policy.access {
        return Some((problem.reason, problem.message.clone()));
    }
    let auth = policies.auth.as_ref()?;
    let reason = match &route.protection {
        Protection::Unavailable(problem) => problem.reason,
        _ => Reason::AuthUnavailable,
    };
    (!auth.exempt && !auth.unavailable.is_empty()).then(|| (reason, auth.unavailable.clone()))
}

fn nobody(guard: &AuthGuard, route: &CompiledRoute) -> Option<String> {
    let mut methods = guard.wanted(service(route));
    let all = methods.all(|method| method.unavailable.is_some());
    all.then(|| unavailable_methods(guard, route)).flatten()
}

/// The upstream that the external method asks.
fn service(route: &CompiledRoute) -> Option<&Upstream> {
    route.authority_service.as_deref()
}

fn method(wanted: Wanted) -> MethodReport {
    MethodReport {
        method: wanted.kind.as_str(),
        wants: wanted.what,
        unavailable: wanted.unavailable,
    }
}

fn addresses(rules: &config::AccessRules) -> String {
    let list = |networks: &[ipnet::IpNet]| -> String {
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        networks.join(", ")
    };
    match (rules.allow.is_empty(), rules.deny.is_empty()) {
        (true, _) => format!("all but {}", list(&rules.deny)),
        (false, true) => format!("only {}", list(&rules.allow)),
        (false, false) => format!("only {}, but not {}", list(&rules.allow), list(&rules.deny)),
    }
}

fn how_many(limit: &config::RateLimit) -> String {
    let key = match &limit.key {
        RateLimitKey::Route => "for the route as a whole".to_owned(),
        RateLimitKey::Address => "for each client address".to_owned(),
        RateLimitKey::Header(name) => format!("for each value of the header {name}"),
        RateLimitKey::Consumer => "for each consumer".to_owned(),
    };
    let burst = match limit.burst {
        0 => String::new(),
        burst => format!(", and {burst} more at once after a pause"),
    };
    let shared = match limit.replicas {
        0 | 1 => String::new(),
        replicas => format!("; each of {replicas} replicas takes its part"),
    };
    format!(
        "{} in {:?} {key}{burst}{shared}",
        limit.requests, limit.interval
    )
}

fn pages(cors: &config::Cors) -> String {
    let credentials = if cors.allow_credentials {
        ", with credentials"
    } else {
        ""
    };
    format!(
        "pages of {} may send {}{credentials}",
        cors.allow_origins.join(", "),
        cors.allow_methods.join(", ")
    )
}
