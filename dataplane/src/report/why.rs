//! How a request would be answered now, and why: the same steps as a request takes, up to the pick.

use std::sync::Arc;

use serde::Serialize;

use super::{PoliciesReport, Trial, TrialReport, UpstreamReport, policies, trial, upstream_report};
use crate::{
    admission,
    config::ObjectRef,
    dataplane::Shared,
    exchange::{self, Taken},
    reason::Reason,
    sanitize,
    table::{LookupError, PeerTable, Target},
};

/// What a message begins with where TLS comes first.
const REDIRECTED: &str = "answered with 308 to https: ";

/// A request to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyRequest {
    /// Whether it would come over TLS.
    pub https: bool,
    /// The authority, without its port.
    pub host: String,
    /// The path, as a client would send it.
    pub path: String,
}

/// How a request would be answered now, and why.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyReport {
    /// The path as it is matched; `None` if it would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_path: Option<String>,
    /// The host pattern that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path rule that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The object that declared the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectRef>,
    /// `Serve`, or why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people.
    pub message: String,
    /// Host patterns and path rules that came nearest, where none took the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
    /// The upstream that would get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamReport>,
    /// The upstream that its policy asks about each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_upstream: Option<UpstreamReport>,
    /// What the policies of the rule say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<PoliciesReport>,
    /// What they made of the request that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<TrialReport>,
}

impl WhyReport {
    /// Policies come before the upstream: it is not asked.
    pub(super) fn refuse(&mut self, reason: Reason, message: &str) {
        self.reason = Some(reason);
        self.say(message);
    }

    /// Hale answers by itself, whatever the upstream could do.
    pub(super) fn answer(&mut self, message: &str) {
        self.reason = None;
        self.say(message);
    }

    /// Takes what came of trying the request, if anything was tried.
    pub(super) fn tell(&mut self, report: TrialReport) {
        let is_tried = report.access.is_some()
            || report.preflight.is_some()
            || report.outcome.is_some()
            || !report.message.is_empty();
        self.trial = is_tried.then_some(report);
    }

    fn say(&mut self, message: &str) {
        let first = match self.message.starts_with(REDIRECTED) {
            true => REDIRECTED,
            false => "",
        };
        self.message = format!("{first}{message}");
    }

    fn name_rule(&mut self, table: &PeerTable, taken: Taken, https: bool) {
        if let Taken::Route(found) = taken
            && let Some(virtual_host) = table.config.hosts.get(found.host)
        {
            self.host = Some(virtual_host.host.to_string());
            if let Some(route) = virtual_host.routes.get(found.route) {
                self.path = Some(route.path.to_string());
                self.source = Some(route.source.clone());
                if route.https_redirect && !https {
                    self.message = REDIRECTED.to_owned();
                }
            }
        } else if let (Taken::Default, Some(route)) = (taken, &table.config.default_route) {
            self.source = Some(route.source.clone());
        }
    }

    fn name_target(&mut self, target: &Target) {
        match target {
            Target::Reject(problem) => {
                self.reason = Some(problem.reason);
                self.message.push_str(&problem.message);
            }
            Target::Forward(upstream) => {
                let report = upstream_report(upstream);
                self.reason = report.reason;
                if report.reason.is_none() {
                    let total = report.peers.len();
                    self.message
                        .push_str(&format!("{}/{total} peers serve", report.serving));
                    if let Some(pressure) = admission::pressure(upstream) {
                        self.message.push_str(&format!("; {pressure}"));
                    }
                } else {
                    self.message.push_str(&report.message);
                }
                self.upstream = Some(report);
            }
        }
    }
}

/// How a request would be answered.
pub(crate) fn why(table: &PeerTable, request: &WhyRequest) -> WhyReport {
    let mut why = WhyReport {
        canonical_path: None,
        host: None,
        path: None,
        source: None,
        reason: None,
        message: String::new(),
        nearest: Vec::new(),
        upstream: None,
        auth_upstream: None,
        policies: None,
        trial: None,
    };
    let path = match sanitize::canonical_path(&request.path) {
        Ok(path) => path,
        Err(error) => {
            why.refuse(Reason::BadRequest, &error.to_string());
            return why;
        }
    };
    let host = normal(&request.host);
    why.canonical_path = Some(path.to_string());
    let (taken, path) = match taken(table, &host, &path) {
        Ok((taken, None)) => (taken, path),
        Ok((taken, Some(changed))) => (taken, changed.into()),
        Err(error) => {
            why.refuse(Reason::BadRequest, &error.to_string());
            return why;
        }
    };
    why.canonical_path = Some(path.to_string());
    why.name_rule(table, taken, request.https);
    let Some(route) = exchange::route_of(table, taken) else {
        let message = format!("no host and path rule takes {host}{path}");
        why.refuse(Reason::NoRoute, &message);
        why.nearest = table.router.nearest(&host, &path);
        return why;
    };
    why.name_target(&route.target);
    let policies = policies::of(route, &path);
    if let Some((reason, message)) = policies::refusal(route, &policies) {
        why.refuse(reason, &message);
    }
    let asks = policies.auth.as_ref().is_some_and(|auth| !auth.exempt);
    let service = route.authority_service.as_ref().filter(|_| asks);
    why.auth_upstream = service.map(|upstream| upstream_report(upstream));
    why.policies = Some(policies);
    why
}

/// The same, with what the policies make of a request that carries this.
pub(crate) async fn why_trying(
    table: &PeerTable,
    shared: &Arc<Shared>,
    request: &WhyRequest,
    trial: &Trial,
) -> WhyReport {
    let mut why = why(table, request);
    let taken = why
        .canonical_path
        .as_deref()
        .and_then(|path| taken(table, &normal(&request.host), path).ok());
    if let Some(route) = taken.and_then(|(taken, _)| exchange::route_of(table, taken)) {
        trial::try_request(route, shared, request, trial, &mut why).await;
    }
    why
}

fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The route, and the path that its policy forwards where that is another.
fn taken(
    table: &PeerTable,
    host: &str,
    path: &str,
) -> Result<(Taken, Option<String>), LookupError> {
    let routed = table.resolve(host, path)?;
    let taken = match routed.found {
        Some(found) => Taken::Route(found),
        None if table.default_route().is_some() => Taken::Default,
        None => Taken::Nothing,
    };
    Ok((taken, routed.path))
}
