//! `/api/v1/status` and `/api/v1/why`.

use std::net::IpAddr;

use hale_dataplane::{
    Dataplane,
    report::{Report, Trial, WhyReport, WhyRequest},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Answer, Answering, Answers, Context, context, query};
use crate::{
    finding::Finding,
    lifecycle::{Lifecycle, Phase},
    publish::Newest,
};

/// What the controller adds to the dataplane's report.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerState {
    /// Whether this replica writes statuses; absent where there is nothing to write to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<bool>,
    /// What is wrong with which object, in order.
    pub findings: Vec<FindingLine>,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingLine {
    /// `Ingress shop/cart`.
    pub object: String,
    /// A code.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl From<&Finding> for FindingLine {
    fn from(finding: &Finding) -> Self {
        Self {
            object: finding.object.to_string(),
            reason: finding.reason.as_str().to_owned(),
            message: finding.message.clone(),
        }
    }
}

/// Answers `hale status` and `hale why`.
pub struct Api {
    /// The proxy.
    pub dataplane: Dataplane,
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// What the controller knows now.
    pub controller: Box<dyn Fn() -> ControllerState + Send + Sync>,
    /// What was published last.
    pub newest: Newest,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    phase: String,
    #[serde(flatten)]
    controller: ControllerState,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Why {
    #[serde(flatten)]
    why: WhyReport,
    #[serde(flatten)]
    context: Context,
}

/// A request to try. It may hold credentials: nothing prints it, and what is wrong with it is said without it.
#[derive(Deserialize)]
struct Question {
    url: String,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    client: Option<IpAddr>,
}

impl Answers for Api {
    fn answer(&self, path: &str, query: &str, host: &str) -> Option<Answer> {
        if !is_loopback(host) {
            return Some(not_loopback());
        }
        match path {
            "/api/v1/status" => Some(json(&self.status())),
            "/api/v1/why" => Some(self.why(query)),
            _ => None,
        }
    }

    fn question<'a>(&'a self, path: &'a str, host: &'a str, json: &'a [u8]) -> Answering<'a> {
        Box::pin(async move {
            if !is_loopback(host) {
                return Some(not_loopback());
            }
            match path {
                "/api/v1/why" => Some(self.try_request(json).await),
                _ => None,
            }
        })
    }
}

impl Api {
    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION"),
            phase: match self.lifecycle.phase() {
                Phase::Starting(waiting) => format!("Starting: waiting for {waiting}"),
                Phase::Ready => "Ready".to_owned(),
                Phase::Stopping => "ShuttingDown".to_owned(),
            },
            controller: (self.controller)(),
            report: self.dataplane.report(),
        }
    }

    fn why(&self, query: &str) -> Answer {
        let Some(url) = query::value(query, "url") else {
            return Answer::text(
                StatusCode::BAD_REQUEST,
                "ask for /api/v1/why?url=http://HOST/PATH",
            );
        };
        match split(&url) {
            Ok((request, ..)) => self.explained(&request, self.dataplane.why(&request)),
            Err(message) => Answer::text(StatusCode::BAD_REQUEST, message),
        }
    }

    async fn try_request(&self, json: &[u8]) -> Answer {
        let (request, trial) = match trial(json) {
            Ok(asked) => asked,
            Err(message) => return Answer::text(StatusCode::BAD_REQUEST, message),
        };
        match self.dataplane.why_trying(request.clone(), trial).await {
            Ok(why) => self.explained(&request, why),
            Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    fn explained(&self, request: &WhyRequest, why: Option<WhyReport>) -> Answer {
        let Some(why) = why else {
            return Answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "nothing is served yet: no table was published",
            );
        };
        let newest = self.newest.borrow().clone();
        let context = newest.map_or_else(Context::default, |published| {
            context::of(&published, request, &why, Timestamp::now())
        });
        json(&Why { why, context })
    }
}

fn not_loopback() -> Answer {
    Answer::text(
        StatusCode::FORBIDDEN,
        "this port answers only to a loopback Host, as in http://127.0.0.1/",
    )
}

/// The request of a question.
fn trial(json: &[u8]) -> Result<(WhyRequest, Trial), String> {
    let question: Question = serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("the question cannot be read: line {line}, column {column}")
    })?;
    let (mut request, authority, target) = split(&question.url)?;
    let mut headers = HeaderMap::new();
    for (number, (name, value)) in (1..).zip(&question.headers) {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::try_from(value);
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err(format!(
                "header {number} has a byte that headers cannot have"
            ));
        };
        value.set_sensitive(true);
        headers
            .try_append(name, value)
            .map_err(|_| "too many headers".to_owned())?;
    }
    let mut authority = authority.to_owned();
    // As with curl, a Host of one's own goes before that of the URL.
    if let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    {
        authority = host.to_owned();
        request.host = host_of(host).to_owned();
    }
    let method = question.method.as_deref().unwrap_or("GET");
    let trial = Trial {
        method: Method::from_bytes(method.as_bytes())
            .map_err(|_| "the method is not one that HTTP can have".to_owned())?,
        target: (target.split('#').next().unwrap_or_default())
            .parse()
            .map_err(|_| "the path or the query has a byte that a URL cannot have".to_owned())?,
        authority,
        headers,
        client: question.client,
    };
    Ok((request, trial))
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(body) => Answer {
            status: StatusCode::OK,
            content_type: "application/json",
            body,
        },
        Err(error) => Answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("cannot write the answer: {error}"),
        ),
    }
}

/// Whether a Host header names this machine. A name that resolves to loopback is not enough: anybody can
/// publish one.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Takes a URL apart by hand, into what is asked for, authority and target: a strict parser would refuse the very URLs
/// that people ask about. Messages do not repeat it: its query may hold a credential.
fn split(url: &str) -> Result<(WhyRequest, &str, String), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let https = match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => true,
        "http" | "ws" => false,
        _ => return Err("the URL begins neither with http:// nor with https://".to_owned()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let host = host_of(authority);
    if host.is_empty() {
        return Err("the URL has no host".to_owned());
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    let target = format!("{slash}{target}");
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let request = WhyRequest {
        https,
        host: host.to_owned(),
        path: path.to_owned(),
    };
    Ok((request, authority, target))
}

/// The host of an authority, without its port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let cases = [
            (
                "http://shop.example/cart?x=1",
                (false, "shop.example", "/cart"),
            ),
            ("https://shop.example:8443", (true, "shop.example", "/")),
            ("shop.example/a/../b", (false, "shop.example", "/a/../b")),
            ("http://[::1]:8080/x#y", (false, "::1", "/x")),
            ("http://shop.example?x", (false, "shop.example", "/")),
        ];
        for (url, (https, host, path)) in cases {
            let wanted = WhyRequest {
                https,
                host: host.into(),
                path: path.into(),
            };
            assert_eq!(split(url).map(|split| split.0), Ok(wanted), "{url}");
        }
        assert!(split("ftp://x/").is_err());
        assert!(split("http:///x").is_err());
    }

    #[test]
    fn a_question_is_a_request_and_what_is_wrong_with_it_is_said_without_it() {
        let question = |text: &str| trial(text.as_bytes());
        let (request, trial) = question(
            r#"{"url": "https://10.0.0.1:8443/a?key=secret#x", "method": "PUT", "client": "192.0.2.1",
                "headers": [["Host", "shop.example:8443"], ["X-Api-Key", "secret"], ["x-api-key", "two"]]}"#,
        )
        .ok()
        .unwrap();
        assert_eq!(
            (request.host.as_str(), request.https),
            ("shop.example", true)
        );
        assert_eq!((request.path.as_str(), &trial.method), ("/a", &Method::PUT));
        assert_eq!(trial.authority, "shop.example:8443");
        assert_eq!(trial.target, "/a?key=secret");
        assert_eq!(trial.headers.get_all("x-api-key").iter().count(), 2);
        assert!(!format!("{:?}", trial.headers).contains("secret"));
        for wrong in [
            r#"{"url": "http://shop.example/", "headers": "secret"}"#,
            r#"{"url": "http://shop.example/", "client": "secret"}"#,
            r#"{"url": "http://shop.example/", "method": "sec ret"}"#,
            r#"{"url": "http://shop.example/", "headers": [["secret ", "x"]]}"#,
            r#"{"url": "http://shop.example/", "headers": [["x", "secret\n"]]}"#,
            r#"{"url": "secret://x"}"#,
            r#"{"url": "http:///secret"}"#,
        ] {
            let error = question(wrong).err().unwrap();
            assert!(!error.contains("sec"), "{error}");
        }
    }

    #[test]
    fn only_loopback_hosts_are_answered() {
        for host in [
            "localhost:10255",
            "127.0.0.1",
            "[::1]:10255",
            "127.9.9.9:1",
            "LOCALHOST",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1:10255",
            "localhost.evil:1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
