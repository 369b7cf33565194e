//! The HTTP check: one request, the status wanted, and where the policy says so a text in the body.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use memchr::memmem;
use regex::bytes::{Regex, RegexBuilder};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    check::{Deadline, Failure, Keeper, Kept, READ_LIMIT, Signs, Wire, quote},
    prober::ProbeTarget,
};
use crate::config::{BodyMatch, HttpCheck, StatusRange};

/// How long the rest of a body that nobody wants may take, so that the connection can be kept.
const DRAIN: Duration = Duration::from_millis(100);
/// What a compiled expression may take.
const REGEX_BYTES: usize = 256 * 1024;

/// A check, prepared once for all peers of an upstream.
pub(super) struct HttpPlan {
    method: Method,
    path: http::uri::PathAndQuery,
    host: Option<HeaderValue>,
    headers: HeaderMap,
    statuses: Vec<StatusRange>,
    body: Option<Wanted>,
    interval: Duration,
}

enum Wanted {
    Contains(String),
    Regex(Regex),
}

/// Makes the checks of one peer.
pub(super) struct HttpChecker {
    keeper: Keeper,
}

impl HttpPlan {
    /// Prepares a check made every `interval`; fails with the words for a check that cannot be sent.
    pub(super) fn new(check: &HttpCheck, interval: Duration) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!("hale-check/", env!("CARGO_PKG_VERSION"))),
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let mut host = match &check.host {
            Some(host) => Some(value("host", host)?),
            None => None,
        };
        let mut own = HeaderMap::new();
        for (name, text) in &check.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("{} is not a header name", quote(name)))?;
            let text = value(name, text)?;
            if header == header::HOST {
                host = Some(text);
            } else {
                own.append(header, text);
            }
        }
        let method = Method::from_bytes(check.method.as_bytes())
            .map_err(|_| format!("{} is not a method", quote(&check.method)))?;
        if [Method::POST, Method::PUT, Method::PATCH].contains(&method) {
            // Without a length, some servers answer 411.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        headers.extend(own);
        Ok(Self {
            method,
            path: check
                .path
                .parse()
                .map_err(|_| format!("{} is not a path", quote(&check.path)))?,
            host,
            headers,
            statuses: check.expected_statuses.clone(),
            body: match &check.expected_body {
                None => None,
                Some(BodyMatch::Contains(text)) => Some(Wanted::Contains(text.clone())),
                Some(BodyMatch::Regex(text)) => Some(Wanted::Regex(
                    RegexBuilder::new(text)
                        .size_limit(REGEX_BYTES)
                        .build()
                        .map_err(|_| format!("{} cannot be compiled", quote(text)))?,
                )),
            },
            interval,
        })
    }

    fn request(&self, target: &ProbeTarget, http2: bool) -> Result<Request<Full<Bytes>>, String> {
        let host = match &self.host {
            Some(host) => host.clone(),
            None => value("host", &target.address.to_string())?,
        };
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(self.path.clone());
        if http2 {
            parts.scheme = Some(match target.tls {
                Some(_) => http::uri::Scheme::HTTPS,
                None => http::uri::Scheme::HTTP,
            });
            let authority = http::uri::Authority::try_from(host.as_bytes())
                .map_err(|_| "the host is not an authority".to_owned())?;
            parts.authority = Some(authority);
        }
        let uri = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        let mut request = Request::new(Full::default());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        request.headers_mut().clone_from(&self.headers);
        if !http2 {
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }

    fn judge_status(&self, status: StatusCode) -> Result<(), String> {
        let code = status.as_u16();
        if self
            .statuses
            .iter()
            .any(|range| (range.from..=range.to).contains(&code))
        {
            return Ok(());
        }
        let followed = if status.is_redirection() {
            " (redirects are not followed)"
        } else {
            ""
        };
        Err(format!(
            "HTTP {code}, want {}{followed}",
            ranges(&self.statuses)
        ))
    }
}

impl Wanted {
    fn judge(&self, status: StatusCode, read: &BodyRead) -> Result<(), String> {
        let (found, wanted) = match self {
            Self::Contains(text) => (
                memmem::find(&read.bytes, text.as_bytes()).is_some(),
                format!("with {}", quote(text)),
            ),
            Self::Regex(regex) => (
                regex.is_match(&read.bytes),
                format!("that matches {}", quote(regex.as_str())),
            ),
        };
        let how = match (found, &read.end) {
            (true, _) => return Ok(()),
            (false, End::Complete) => "",
            (false, End::TooLong) => " in its first 4 KiB",
            (false, End::TooSlow) => " in time",
            (false, End::Broken) => " before the connection ended",
        };
        Err(format!(
            "HTTP {}, want a body {wanted}{how}",
            status.as_u16()
        ))
    }
}

impl HttpChecker {
    /// Keeps connections as far as there are permits.
    pub(super) fn new(permits: Arc<Semaphore>) -> Self {
        Self {
            keeper: Keeper::new(permits),
        }
    }

    /// Makes one check. The words tell what was found.
    pub(super) async fn check(
        &mut self,
        plan: &HttpPlan,
        target: &ProbeTarget,
        deadline: Deadline,
        signs: &mut Signs,
    ) -> Result<String, String> {
        if let Some(kept) = self.keeper.take(target) {
            match self.exchange(kept, plan, target, deadline).await {
                Ok(words) => return Ok(words),
                Err(Failure::Final(words)) => return Err(words),
                Err(Failure::Broken(_)) => {}
            }
        }
        let fresh = Keeper::open(target, Wire::Traffic, deadline, signs).await?;
        signs.connected = true;
        self.exchange(fresh, plan, target, deadline)
            .await
            .map_err(Failure::words)
    }

    /// Keeps no connection.
    pub(super) fn forget(&mut self) {
        self.keeper.forget();
    }

    async fn exchange(
        &mut self,
        mut kept: Kept,
        plan: &HttpPlan,
        target: &ProbeTarget,
        deadline: Deadline,
    ) -> Result<String, Failure> {
        let request = plan.request(target, kept.connection.is_http2())?;
        let response = deadline
            .within("answer", kept.connection.send(request))
            .await??;
        let status = response.status();
        let judged = plan.judge_status(status);
        let until = match (&judged, &plan.body) {
            (Ok(()), Some(_)) => deadline.at,
            _ => deadline.at.min(Instant::now() + DRAIN),
        };
        let read = read_body(response.into_body(), until).await;
        if matches!(read.end, End::Complete) {
            self.keeper.keep(kept, plan.interval);
        }
        judged?;
        if let Some(wanted) = &plan.body {
            wanted.judge(status, &read)?;
        }
        Ok(format!("HTTP {}", status.as_u16()))
    }
}

struct BodyRead {
    bytes: BytesMut,
    end: End,
}

enum End {
    Complete,
    TooLong,
    TooSlow,
    Broken,
}

/// Reads a body up to its limit, or until `until`.
async fn read_body(mut body: Incoming, until: Instant) -> BodyRead {
    let mut bytes = BytesMut::new();
    let end = loop {
        if body.is_end_stream() {
            break End::Complete;
        }
        match timeout_at(until, body.frame()).await {
            Err(_) => break End::TooSlow,
            Ok(None) => break End::Complete,
            Ok(Some(Err(_))) => break End::Broken,
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                let room = READ_LIMIT - bytes.len();
                if data.len() > room {
                    bytes.extend_from_slice(data.get(..room).unwrap_or_default());
                    break End::TooLong;
                }
                bytes.extend_from_slice(&data);
            }
        }
    };
    BodyRead { bytes, end }
}

fn value(name: &str, text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| format!("the value of {} cannot be sent", quote(name)))
}

/// `200-299, 304`.
fn ranges(ranges: &[StatusRange]) -> String {
    let ranges: Vec<String> = ranges
        .iter()
        .map(|range| match range.from == range.to {
            true => range.from.to_string(),
            false => format!("{}-{}", range.from, range.to),
        })
        .collect();
    ranges.join(", ")
}

#[cfg(test)]
mod tests;
