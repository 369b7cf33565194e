//! `auth.anyOf[].external`.

use std::time::Duration;

use hale_crds::{CheckPort, ExternalAuth};
use hale_dataplane::config::{External, ExternalService, ObjectRef};
use http::Uri;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    settings::ObjectKey,
    translate::service::{self, PortRef},
};

use super::{
    super::{
        names::{self, Use},
        sections::{Judged, Place, duration},
    },
    Told,
    jwt::is_plain,
};

/// A Service port that must be an upstream, so that it can be asked.
#[derive(Clone)]
pub(in crate::translate) struct Question {
    /// The policy that asks.
    pub(in crate::translate) policy: ObjectRef,
    /// Whom it asks.
    pub(in crate::translate) service: ObjectKey,
    port: CheckPort,
}

impl Question {
    /// The port, as the policy names it.
    pub(in crate::translate) fn port(&self) -> PortRef<'_> {
        match &self.port.0 {
            IntOrString::Int(number) => PortRef::Number(*number),
            IntOrString::String(name) => PortRef::Name(name),
        }
    }
}

pub(super) fn read(
    section: &ExternalAuth,
    field: &str,
    place: &Place<'_>,
    question: &mut Option<Question>,
    told: &mut Told,
) -> Judged<External> {
    let path = &section.path;
    let is_path = path.parse::<Uri>().is_ok_and(|uri| uri.host().is_none());
    let is_shown = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !path.starts_with('/') || !is_path || !path.bytes().all(is_shown) {
        return Err(format!("{field}.path: {path:?} is no path"));
    }
    let timeout = duration(
        &format!("{field}.timeout"),
        &section.timeout,
        Duration::from_millis(10)..=Duration::from_secs(30),
    )?;
    if let Some(url) = &section.sign_in {
        is_web(url).ok_or_else(|| format!("{field}.signIn: {url:?} is no http or https URL"))?;
    }
    let headers = |name: &str, headers: &[String], what| -> Judged<Vec<String>> {
        let named = headers.iter().enumerate();
        named
            .map(|(index, header)| names::header(&format!("{field}.{name}[{index}]"), header, what))
            .collect()
    };
    Ok(External {
        service: service(section, field, place, question, told)?,
        path: path.clone(),
        timeout,
        request_headers: headers("requestHeaders", &section.request_headers, Use::Question)?,
        response_headers: headers("responseHeaders", &section.response_headers, Use::Answer)?,
        sign_in: section.sign_in.clone(),
        fail_open: section.fail_open,
    })
}

/// Whom requests are asked about. A Service is asked once it is an upstream; until then it is unavailable.
fn service(
    section: &ExternalAuth,
    field: &str,
    place: &Place<'_>,
    question: &mut Option<Question>,
    told: &mut Told,
) -> Judged<ExternalService> {
    match (&section.service, &section.url) {
        (Some(reference), None) => {
            let wanted = Question {
                policy: place.policy.clone(),
                service: place.own(&reference.name),
                port: reference.port.clone(),
            };
            let key = &wanted.service;
            let found = place.cluster.services().get(key).map(AsRef::as_ref);
            match service::port(key, found, wanted.port()) {
                Ok(_) => {
                    let why = format!("Service {key} is not known yet");
                    *question = Some(wanted);
                    Ok(ExternalService::Unavailable(why))
                }
                Err(problem) => {
                    let field = format!("{field}.service");
                    told.errors.push(format!("{field}: {}", problem.message));
                    Ok(ExternalService::Unavailable(problem.message))
                }
            }
        }
        (None, Some(url)) => {
            let origin = is_web(url).filter(|uri| matches!(uri.path(), "" | "/"));
            let is_origin = origin.is_some_and(|uri| uri.query().is_none());
            if !is_origin {
                return Err(format!(
                    "{field}.url: {url:?} is not http or https, host and port alone"
                ));
            }
            Ok(ExternalService::Url(url.trim_end_matches('/').to_owned()))
        }
        _ => Err(format!("{field}: set exactly one of service and url")),
    }
}

/// The URL, if it is one of the web.
fn is_web(url: &str) -> Option<Uri> {
    let uri = url.parse::<Uri>().ok().filter(|_| is_plain(url))?;
    matches!(uri.scheme_str(), Some("http" | "https")).then_some(uri)
}
