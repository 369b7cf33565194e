//! `/api/v1/status` and `/api/v1/why`.

use std::net::IpAddr;

use hale_dataplane::{
    Dataplane,
    report::{Report, WhyReport, WhyRequest},
};
use http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;

use super::{Answer, Answers, Context, context, query};
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

impl Answers for Api {
    fn answer(&self, path: &str, query: &str, host: &str) -> Option<Answer> {
        if !is_loopback(host) {
            return Some(Answer::text(
                StatusCode::FORBIDDEN,
                "this port answers only to a loopback Host, as in http://127.0.0.1/",
            ));
        }
        match path {
            "/api/v1/status" => Some(json(&self.status())),
            "/api/v1/why" => Some(self.why(query)),
            _ => None,
        }
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
        let request = match request(&url) {
            Ok(request) => request,
            Err(message) => return Answer::text(StatusCode::BAD_REQUEST, message),
        };
        match self.dataplane.why(&request) {
            Some(why) => {
                let newest = self.newest.borrow().clone();
                let context = newest.map_or_else(Context::default, |published| {
                    context::of(&published, &request, &why, Timestamp::now())
                });
                json(&Why { why, context })
            }
            None => Answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "nothing is served yet: no table was published",
            ),
        }
    }
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

/// Takes a URL apart by hand: a strict parser would refuse the very URLs that people ask about.
fn request(url: &str) -> Result<WhyRequest, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let https = match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => true,
        "http" | "ws" => false,
        other => return Err(format!("{other:?} is neither http nor https")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() {
        return Err(format!("{url:?} has no host"));
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Ok(WhyRequest {
        https,
        host: host.to_owned(),
        path: if path.is_empty() { "/" } else { path }.to_owned(),
    })
}

#[cfg(test)]
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
            assert_eq!(request(url), Ok(wanted), "{url}");
        }
        assert!(request("ftp://x/").is_err());
        assert!(request("http:///x").is_err());
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
