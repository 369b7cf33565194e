//! How an attempt failed, and how far it had come.

use std::io;

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::patience::Late;
use crate::{body::RequestBody, fault::Fault, reason::Reason, sanitize};

/// How far an attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// No connection was made.
    Connect,
    /// The TLS or HTTP handshake failed.
    Handshake,
    /// Connected, and the request was certainly not processed.
    Unsent,
    /// The request may have been processed.
    Sent,
}

/// A failed attempt.
pub(crate) struct AttemptError {
    pub(crate) phase: Phase,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// The connection had carried requests before: the peer may just have closed it for idleness.
    pub(crate) reused: bool,
    /// The peer was found failing while it was waited for, and there is another.
    pub(crate) gave_up: bool,
    /// The time that was over was not the peer's.
    pub(crate) late: bool,
    /// The peer was not there, or sent nothing in the time that was its own.
    pub(crate) silent: bool,
    /// The request, where it can be had back.
    pub(crate) request: Option<Request<RequestBody>>,
}

impl AttemptError {
    pub(super) fn new(phase: Phase, reason: Reason, message: String) -> Box<Self> {
        Box::new(Self {
            phase,
            reason,
            message,
            reused: false,
            gave_up: false,
            late: false,
            silent: false,
            request: None,
        })
    }

    /// No connection, because of an I/O error.
    pub(super) fn connecting(error: &io::Error) -> Box<Self> {
        let fault = Fault::of(error);
        let reason = match fault {
            Fault::Own => Reason::Overloaded,
            Fault::Silent if error.kind() == io::ErrorKind::TimedOut => Reason::ConnectTimeout,
            _ => Reason::ConnectRefused,
        };
        let mut failed = Self::new(Phase::Connect, reason, format!("connect: {error}"));
        failed.silent = fault.is_silence();
        failed
    }

    /// A handshake failed; `reason` is for what the peer is to blame for.
    pub(super) fn shaking_hands(fault: Fault, reason: Reason, message: String) -> Box<Self> {
        let reason = match fault {
            Fault::Own => Reason::Overloaded,
            _ => reason,
        };
        Self::new(Phase::Handshake, reason, message)
    }

    /// On a connection that had carried requests before, or not.
    pub(super) fn on_reused(mut self: Box<Self>, reused: bool) -> Box<Self> {
        self.reused = reused;
        self
    }

    /// Whether the request was certainly not processed.
    pub(crate) fn unsent(&self) -> bool {
        self.phase < Phase::Sent
    }

    /// The request, where nothing failed but that there was no room for a connection.
    pub(crate) fn saturated(&mut self) -> Option<Request<RequestBody>> {
        if self.reason == Reason::Saturated {
            self.request.take()
        } else {
            None
        }
    }

    /// Whether it speaks against its peer. A connection that was closed for idleness does not, nor a
    /// request that was given back, nor one that we gave up or whose client waits no longer, nor a shortage of Hale.
    pub(crate) fn blames_peer(&self) -> bool {
        match self.phase {
            _ if self.gave_up || self.late || self.is_own() => false,
            Phase::Connect | Phase::Handshake => self.reason != Reason::Saturated,
            Phase::Unsent => false,
            Phase::Sent => !self.reused || self.reason != Reason::UpstreamReset,
        }
    }
}

impl AttemptError {
    /// Whether Hale itself could not do it: nothing is known of the peer.
    pub(crate) fn is_own(&self) -> bool {
        self.reason == Reason::Overloaded
    }
}

/// What hyper gives for a request.
pub(crate) type Answer = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// Why there is no answer.
pub(super) enum Silence {
    Late(Late),
    GaveUp,
}

/// The peer was found failing meanwhile. Were there no other after all, the client would be told of them all.
pub(super) fn given_up(phase: Phase) -> Box<AttemptError> {
    let message = "the peer was found failing while it was waited for".to_owned();
    let mut error = AttemptError::new(phase, Reason::NoEligiblePeer, message);
    error.gave_up = true;
    error
}

/// Time was over before there was a connection, or a response.
pub(super) fn too_late(phase: Phase, late: Late) -> Box<AttemptError> {
    let connecting = phase < Phase::Sent;
    match late {
        Late::Peer(limit) if connecting => {
            let message = format!("no connection within {limit:?}");
            silent(AttemptError::new(phase, Reason::ConnectTimeout, message))
        }
        Late::Peer(limit) => {
            let message = format!("no response within {limit:?}");
            silent(AttemptError::new(phase, Reason::UpstreamTimeout, message))
        }
        Late::Ourselves => {
            let message = "Hale was too busy to wait for the peer".to_owned();
            AttemptError::new(phase, Reason::Overloaded, message)
        }
        Late::Request => {
            let what = if connecting { "connection" } else { "response" };
            let message = format!("no {what} before the request's own deadline");
            let mut error = AttemptError::new(phase, Reason::UpstreamTimeout, message);
            error.late = true;
            error
        }
    }
}

fn silent(mut error: Box<AttemptError>) -> Box<AttemptError> {
    error.silent = true;
    error
}

/// Time was over while another request was opening the connection. That one says what it found of the peer; those that
/// wait may have waited for one whose client went away.
pub(super) fn outwaited(late: Late) -> Box<AttemptError> {
    let mut error = match late {
        Late::Peer(_) => {
            let message = "no connection while it was waited for".to_owned();
            silent(AttemptError::new(
                Phase::Connect,
                Reason::ConnectTimeout,
                message,
            ))
        }
        Late::Request | Late::Ourselves => too_late(Phase::Connect, late),
    };
    error.late = true;
    error
}

/// Reads hyper's outcome of a request.
pub(super) fn classify(
    answer: Result<Answer, Silence>,
    reused: bool,
) -> Result<Response<Incoming>, Box<AttemptError>> {
    let failed = |phase, reason, message, request| {
        let mut error = AttemptError::new(phase, reason, message).on_reused(reused);
        error.request = request;
        Err(error)
    };
    match answer {
        Ok(Ok(response)) if !sanitize::is_framed_once(response.version(), response.headers()) => {
            let message = "the end of the response is not certain".to_owned();
            failed(Phase::Sent, Reason::ProtocolError, message, None)
        }
        Ok(Ok(response)) => Ok(response),
        Err(Silence::GaveUp) => Err(given_up(Phase::Sent).on_reused(reused)),
        Err(Silence::Late(late)) => Err(too_late(Phase::Sent, late).on_reused(reused)),
        Ok(Err(mut error)) => {
            if let Some(request) = error.take_message() {
                let message = format!("the connection was closed: {}", error.error());
                return failed(Phase::Unsent, Reason::UpstreamReset, message, Some(request));
            }
            let error = error.into_error();
            let (phase, reason) = if refused_stream(&error) {
                (Phase::Unsent, Reason::UpstreamReset)
            } else if error.is_parse() || error.is_parse_status() {
                (Phase::Sent, Reason::ProtocolError)
            } else if Fault::of_http(&error) == Fault::Own {
                (Phase::Sent, Reason::Overloaded)
            } else {
                (Phase::Sent, Reason::UpstreamReset)
            };
            failed(phase, reason, describe(&error), None)
        }
    }
}

/// The answer to a request that asked for no other protocol. A peer that switches all the same speaks something else
/// from there on, which no client has asked to hear.
pub(super) fn unswitched(
    response: Response<Incoming>,
    reused: bool,
) -> Result<Response<Incoming>, Box<AttemptError>> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let message = "the peer switched to a protocol that was not asked for".to_owned();
    Err(AttemptError::new(Phase::Sent, Reason::ProtocolError, message).on_reused(reused))
}

/// Whether the peer said that it did not look at the stream (RFC 9113 §8.7). Of a peer's GOAWAY h2 only tells
/// the streams above the last one that the peer took on; those below end as they end.
fn refused_stream(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            error.is_remote()
                && (error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away())
        })
}

/// Why a response broke off, if that speaks against its peer: who takes a single stream back has a reason, and a
/// limit of Hale's own is none of the peer's doing.
pub(crate) fn broke_off(error: &hyper::Error) -> Option<String> {
    let source = std::error::Error::source(error);
    let taken_back = source
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|error| {
            let calm = [h2::Reason::NO_ERROR, h2::Reason::CANCEL];
            error.is_reset() && error.reason().is_some_and(|reason| calm.contains(&reason))
        });
    let blames = !taken_back && Fault::of_http(error) != Fault::Own;
    blames.then(|| describe(error))
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
