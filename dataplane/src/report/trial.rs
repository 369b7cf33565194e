//! What policies make of a request that is tried, with the credential that it carries.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde::Serialize;

use super::{WhyReport, WhyRequest};
use crate::{
    access,
    auth::{Asked, Kind, Outcome, Protection, explain::Tried},
    dataplane::Shared,
    table::CompiledRoute,
};

/// What came of trying a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialReport {
    /// The method that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// What it found; `None` where nobody was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'static str>,
    /// Who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// The same for people; has nothing of the credential.
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
    if let Some(client) = trial.client
        && let Err(reject) = access::check(&route.policy.access, client.to_canonical())
    {
        let message = format!("{client} may not send requests");
        why.refuse(reject.reason(), &message);
        why.trial = Some(TrialReport::of(None, message));
        return;
    }
    if let Some(cors) = &route.cors
        && cors.preflight(&trial.method, &trial.headers).is_some()
    {
        let message = "a preflight of CORS: Hale answers it, and asks nobody who they are";
        why.trial = Some(TrialReport::of(Some(Outcome::Exempt), message.to_owned()));
        return;
    }
    let Protection::AnyOf(guard) = &route.protection else {
        return;
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
    why.trial = Some(tried.into());
}

/// Whether a body would follow: a signature may cover it.
fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || (headers.get(header::CONTENT_LENGTH)).is_some_and(|length| length != "0")
}

impl TrialReport {
    fn of(outcome: Option<Outcome>, message: String) -> Self {
        Self {
            method: None,
            outcome: outcome.map(Outcome::as_str),
            consumer: None,
            message,
        }
    }
}

impl From<Tried> for TrialReport {
    fn from(tried: Tried) -> Self {
        Self {
            method: tried.kind.map(Kind::as_str),
            outcome: tried.outcome.map(Outcome::as_str),
            consumer: tried.consumer.map(|consumer| consumer.to_string()),
            message: tried.message,
        }
    }
}
