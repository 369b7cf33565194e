//! Every answer that the proxy gives by itself: status, reason, and a body that says why.
//!
//! The [`Reason`] is the one source of status, title and metric label. The body follows what the client can
//! read, and reflects nothing of the request: what it says comes from the config and from our own state.
//! Counts of peers by reason are for everybody; names of objects and addresses (the client's own among them, which it may not
//! know) only for clients that may be explained to.

use std::{borrow::Cow, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    config::{ByReason, Problem, UpstreamId},
    reason::Reason,
    sanitize::{Bad, PathError, names::X_HALE_REASON},
};

mod form;
mod page;
mod words;

pub(crate) use form::Form;

/// An answer of the proxy's own.
#[derive(Clone, Debug)]
pub(crate) struct Reject {
    reason: Reason,
    status: StatusCode,
    message: Message,
    about: Option<Box<About>>,
    /// Whether the request's own deadline has passed.
    late: bool,
    /// Headers besides those of every reject.
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A sentence, and who may read it.
#[derive(Clone, Debug)]
enum Message {
    None,
    /// Says nothing of the cluster.
    Everybody(&'static str),
    /// Names objects of the cluster.
    Explained(String),
}

#[derive(Clone, Debug)]
struct About {
    upstream: UpstreamId,
    peers: Option<Peers>,
}

/// The peers of the upstream that could not serve.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Peers {
    /// How many there are.
    pub total: usize,
    /// Why they are not served.
    pub by_reason: ByReason,
    /// One by one; told to explained clients alone, so it may be left empty for others.
    #[serde(skip)]
    pub detail: Vec<PeerDetail>,
}

/// Why one peer is not served.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerDetail {
    /// Its address.
    pub peer: SocketAddr,
    /// Its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The reason.
    pub reason: Reason,
    /// The same for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// To whom a [`Reject`] is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audience<'a> {
    /// How.
    pub form: Form,
    /// Whether names and addresses of objects and peers may be told.
    pub explain: bool,
    /// The request's id.
    pub request_id: Option<&'a HeaderValue>,
}

impl Reject {
    /// For a reason, with its own status and no more words than its title.
    pub(crate) fn new(reason: Reason) -> Self {
        Self {
            reason,
            status: words::status(reason),
            message: Message::None,
            about: None,
            late: false,
            headers: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds a sentence for everybody.
    #[must_use]
    pub(crate) fn saying(mut self, message: &'static str) -> Self {
        self.message = Message::Everybody(message);
        self
    }

    /// Adds a sentence for clients that may be explained to.
    #[must_use]
    pub(crate) fn explaining(mut self, message: String) -> Self {
        self.message = Message::Explained(message);
        self
    }

    /// Adds the upstream and its peers.
    #[must_use]
    pub(crate) fn of_peers(mut self, upstream: &UpstreamId, peers: Peers) -> Self {
        let upstream = upstream.clone();
        self.about = Some(Box::new(About {
            upstream,
            peers: Some(peers),
        }));
        self
    }

    /// The same answer, when the request's own deadline has passed: what it was waiting for is still the reason, and
    /// to gRPC it is the caller's deadline that was exceeded, whatever that was.
    #[must_use]
    pub(crate) fn late(mut self) -> Self {
        self.late = true;
        self
    }

    /// The same answer, because there was no room for another try after the last failure.
    #[must_use]
    pub(crate) fn because_spent(mut self) -> Self {
        let failure = std::mem::replace(&mut self.reason, Reason::RetryBudgetExhausted);
        if let Message::Explained(message) = &mut self.message {
            *message = format!("the last try: {failure}: {message}");
        }
        self
    }

    /// The reason.
    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }

    /// The answer, as it is for GET.
    pub(crate) fn respond(&self, audience: &Audience<'_>) -> Response<Full<Bytes>> {
        let body = match audience.form {
            Form::Json => self.json(audience),
            Form::Html => page::html(&self.view(audience)).into_bytes(),
            Form::Grpc => Vec::new(),
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        let headers = response.headers_mut();
        headers.reserve(8);
        headers.insert(header::CONTENT_TYPE, audience.form.content_type());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::SERVER, HeaderValue::from_static("hale"));
        headers.insert(
            X_HALE_REASON,
            HeaderValue::from_static(self.reason.as_str()),
        );
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if audience.form == Form::Grpc {
            let status = if self.late {
                words::DEADLINE_EXCEEDED
            } else {
                words::grpc_status(self.reason)
            };
            let sentence = self.sentence(audience.explain);
            form::grpc_headers(headers, status, self.reason, &sentence);
            return response;
        }
        if audience.form == Form::Html {
            headers.insert(header::CONTENT_SECURITY_POLICY, page::POLICY);
        }
        if let Some(seconds) = words::retry_after(self.reason)
            && !headers.contains_key(header::RETRY_AFTER)
        {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        *response.status_mut() = self.status;
        response
    }

    /// The shape of the body, in the order of the manual.
    fn view<'a>(&'a self, audience: &Audience<'a>) -> View<'a> {
        let peers = self.about.as_ref().and_then(|about| about.peers.as_ref());
        View {
            kind: self.reason,
            title: words::title(self.reason),
            status: self.status.as_u16(),
            reason: self.reason,
            message: match &self.message {
                Message::Everybody(message) => Some(message),
                Message::Explained(message) if audience.explain => Some(message),
                _ => None,
            },
            upstream: self
                .about
                .as_ref()
                .filter(|_| audience.explain)
                .map(|about| &about.upstream),
            peers,
            detail: peers
                .filter(|_| audience.explain)
                .map(|peers| peers.detail.as_slice())
                .unwrap_or_default(),
            request_id: audience.request_id.and_then(|id| id.to_str().ok()),
        }
    }

    fn json(&self, audience: &Audience<'_>) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        // Writing to memory does not fail; were it to, the head still tells status and reason.
        if serde_json::to_writer(&mut body, &self.view(audience)).is_err() {
            body.clear();
        }
        body.push(b'\n');
        body
    }

    /// All that fits on a line.
    fn sentence(&self, explain: bool) -> Cow<'static, str> {
        let title = words::title(self.reason);
        let counts = self
            .about
            .as_ref()
            .and_then(|about| about.peers.as_ref())
            .map(|peers| words::counts(&peers.by_reason))
            .filter(|counts| !counts.is_empty());
        match (&self.message, counts) {
            (Message::Everybody(message), _) => format!("{title}: {message}").into(),
            (Message::Explained(message), _) if explain => format!("{title}: {message}").into(),
            (_, Some(counts)) => format!("{title}: {counts}").into(),
            _ => title.into(),
        }
    }
}

/// What a body says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    #[serde(rename = "type", serialize_with = "urn")]
    kind: Reason,
    title: &'static str,
    status: u16,
    reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a UpstreamId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<&'a Peers>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    detail: &'a [PeerDetail],
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn urn<S: serde::Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:hale:{}", reason.kebab()))
}

impl From<Reason> for Reject {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl From<&Problem> for Reject {
    fn from(problem: &Problem) -> Self {
        Self::new(problem.reason).explaining(problem.message.clone())
    }
}

impl From<Bad> for Reject {
    fn from(bad: Bad) -> Self {
        let mut reject = Self::new(Reason::BadRequest).saying(bad.as_str());
        if bad == Bad::TransferEncoding {
            reject.status = StatusCode::NOT_IMPLEMENTED;
        }
        reject
    }
}

impl From<PathError> for Reject {
    fn from(error: PathError) -> Self {
        Bad::Path(error).into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
