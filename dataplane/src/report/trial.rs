//! What policies make of a request that is tried, with the credential that it carries.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde::Serialize;

use super::{WhyReport, WhyRequest};
use crate::{
    access,
    auth::{Asked, Kind, Outcome, Protection},
    config::Access,
    cors::Judged,
    dataplane::Shared,
    reason::Reason,
    table::CompiledRoute,
};

/// What came of trying a request.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialReport {
    /// The address that counted, and the entry of `access` that decided; `None` where there is no `access`, or no
    /// address to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// What a preflight of CORS is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<PreflightReport>,
    /// The method that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// What it found; `None` where nobody was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// What it found, for people; has nothing of what is secret in the credential.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What a preflight of CORS is told.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightReport {
    /// Whether the page may send its request.
    pub allowed: bool,
    /// Why, or why not.
    pub message: String,
}

/// What a request would carry, to be tried. It may hold credentials, and has no `Debug`.
pub struct Trial {
    /// Its method.
    pub method: Method,
    /// Path and query, as a client would send them.
    pub target: Uri,
    /// Host and port, as a client would write them in `Host`.
    pub authority: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it would come from; `None` leaves `access` unasked.
    pub client: Option<IpAddr>,
}

/// Asks the route's policies about a request, in the order of the pipeline. Limits are not asked: they would count it.
pub(super) async fn try_request(
    route: &CompiledRoute,
    shared: &Arc<Shared>,
    request: &WhyRequest,
    trial: &Trial,
    why: &mut WhyReport,
) {
    let mut report = TrialReport::default();
    let goes_on =
        admits(route, trial, why, &mut report) && !is_answered(route, trial, why, &mut report);
    let guard = match &route.protection {
        Protection::AnyOf(guard) if goes_on => guard,
        _ => return why.tell(report),
    };
    let path = why.canonical_path.clone().unwrap_or_default();
    let mut headers = trial.headers.clone();
    if !headers.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::try_from(&trial.authority)
    {
        headers.insert(header::HOST, host);
    }
    let asked = Asked {
        method: &trial.method,
        uri: &trial.target,
        headers: &headers,
        authority: &trial.authority,
        path: &path,
        client: trial.client.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into()),
        https: request.https,
        trusted: false,
        now: SystemTime::now(),
        has_body: has_body(&trial.headers),
        shared,
        worker: None,
        authority_service: route.authority_service.as_ref(),
        request_id: None,
    };
    let tried = guard.try_request(&asked).await;
    if let Some(reason) = tried.reason {
        why.refuse(reason, &tried.message);
    }
    report.method = tried.kind.map(Kind::as_str);
    report.outcome = tried.outcome.map(Outcome::as_str);
    report.consumer = tried.consumer.map(|consumer| consumer.to_string());
    report.message = tried.message;
    why.tell(report);
}

/// Whether the client's address may send requests.
fn admits(
    route: &CompiledRoute,
    trial: &Trial,
    why: &mut WhyReport,
    report: &mut TrialReport,
) -> bool {
    let rules = match (&route.policy.access, trial.client) {
        (Access::Unavailable(_), _) => return false,
        (Access::Everybody, _) | (_, None) => return true,
        (Access::Rules(rules), Some(client)) => (rules, client.to_canonical()),
    };
    let (rules, client) = rules;
    let ruling = access::rule(rules, client);
    report.access = Some(ruling.words(client, rules));
    if !ruling.admits() {
        let message = format!("{client} may not send requests");
        why.refuse(Reason::AddressDenied, &message);
    }
    ruling.admits()
}

/// Whether it is a preflight, which Hale answers by itself: neither credentials nor peers are asked for.
fn is_answered(
    route: &CompiledRoute,
    trial: &Trial,
    why: &mut WhyReport,
    report: &mut TrialReport,
) -> bool {
    let cors = route.cors.as_ref().zip(route.policy.cors.as_ref());
    let judged =
        cors.and_then(|(cors, config)| cors.explain(config, &trial.method, &trial.headers));
    let Some(Judged { allowed, message }) = judged else {
        return false;
    };
    why.answer("a preflight of CORS: Hale answers it with 204, and asks nobody who they are");
    report.preflight = Some(PreflightReport { allowed, message });
    true
}

/// Whether a body would follow: a signature may cover it.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || (headers.get(header::CONTENT_LENGTH)).is_some_and(|length| length != "0")
}
