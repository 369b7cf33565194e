//! Every answer that the proxy gives by itself: status, reason, and a body that says why.
//!
//! The reason is the one source of status, title and metric label. A body reflects nothing of the request.

use std::{borrow::Cow, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    config::{ByReason, Problem, UpstreamId},
    reason::Reason,
    sanitize::{Bad, PathError},
};

/// An answer of the proxy's own.
#[derive(Clone, Debug)]
pub struct Reject {
    reason: Reason,
    status: StatusCode,
    /// For everybody if borrowed; if owned it names objects and is for explained answers.
    message: Cow<'static, str>,
    upstream: Option<Box<About>>,
}

#[derive(Clone, Debug)]
struct About {
    id: UpstreamId,
    peers: Option<Peers>,
}

/// The peers of the upstream that could not serve.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peers {
    /// How many there are.
    pub total: usize,
    /// Why they are not served.
    pub by_reason: ByReason,
    /// One by one; shown to explained clients alone, so it may be left empty for others.
    #[serde(skip)]
    pub detail: Vec<PeerDetail>,
}

/// Why one peer is not served.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerDetail {
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

/// What a client wants to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `application/problem+json` (RFC 9457).
    #[default]
    Json,
    /// A page for people.
    Html,
    /// HTTP 200 with `grpc-status`, without a body.
    Grpc,
}

/// To whom a [`Reject`] is told.
#[derive(Clone, Copy, Debug)]
pub struct Audience<'a> {
    /// How.
    pub form: Form,
    /// Whether names and addresses of peers may be told.
    pub explain: bool,
    /// The request's id.
    pub request_id: Option<&'a HeaderValue>,
}

impl Form {
    /// By `Content-Type` and `Accept` of the request.
    pub fn of(headers: &HeaderMap) -> Self {
        let _ = headers;
        Self::Json
    }
}

impl Reject {
    /// For a reason, with its own status and no more words than its title.
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: Cow::Borrowed(""),
            upstream: None,
        }
    }

    /// Adds a sentence for everybody.
    #[must_use]
    pub fn saying(mut self, message: &'static str) -> Self {
        self.message = Cow::Borrowed(message);
        self
    }

    /// Adds the upstream.
    #[must_use]
    pub fn of_upstream(mut self, id: &UpstreamId) -> Self {
        self.upstream = Some(Box::new(About {
            id: id.clone(),
            peers: None,
        }));
        self
    }

    /// Adds the upstream and its peers.
    #[must_use]
    pub fn of_peers(mut self, id: &UpstreamId, peers: Peers) -> Self {
        self.upstream = Some(Box::new(About {
            id: id.clone(),
            peers: Some(peers),
        }));
        self
    }

    /// The reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The status of the answer; a gRPC client gets it as `grpc-status`.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer.
    pub fn respond(&self, audience: &Audience<'_>) -> Response<Full<Bytes>> {
        let _ = audience;
        Response::new(Full::new(Bytes::new()))
    }
}

impl From<&Problem> for Reject {
    fn from(problem: &Problem) -> Self {
        Self {
            message: Cow::Owned(problem.message.clone()),
            ..Self::new(problem.reason)
        }
    }
}

impl From<Bad> for Reject {
    fn from(_: Bad) -> Self {
        Self::new(Reason::BadRequest)
    }
}

impl From<PathError> for Reject {
    fn from(error: PathError) -> Self {
        Bad::Path(error).into()
    }
}
