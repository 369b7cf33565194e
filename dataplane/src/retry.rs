//! May this be tried again?
//!
//! What was certainly not processed may go to another peer, whatever its method. What was sent may be
//! sent again only if that cannot do harm (it is idempotent, or its policy says so) and can be done (its
//! body was kept). Retries have a budget for each upstream, because the moment when everything fails is
//! the moment when retries would double the load.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use jiff::Timestamp;

use crate::{
    config::{NonIdempotent, Protocol, Retry, SamePeer},
    forward::{AttemptError, Phase},
    reason::Reason,
};

mod budget;

pub(crate) use budget::{Budget, Permit};

/// Tries of a request that was never sent, without a policy: the first and two more.
const CONNECT_TRIES: u32 = 3;
/// Refused connections of one request that count as no try while there is a peer that was not asked: they cost
/// next to nothing, and in a rollout several pods may be gone before Kubernetes says so.
const REFUSALS: u32 = 8;
/// The longest `Retry-After` that is waited for; a peer that asks for more has its answer passed on, because
/// the client can wait better than we.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(1);

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What is known of a request before its first attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// Sending it twice does what sending it once does (RFC 9110 §9.2.2), or its client or policy says
    /// that it may be sent twice.
    pub(crate) repeatable: bool,
    /// It is gRPC, and its policy names codes that may be tried again.
    grpc: bool,
    /// Its peer can say that it did not look at it, after it was sent.
    refusable: bool,
}

impl Nature {
    pub(crate) fn of(
        method: &Method,
        headers: &HeaderMap,
        retry: Option<&Retry>,
        protocol: Protocol,
    ) -> Self {
        let declared = || match retry.map(|retry| retry.non_idempotent) {
            Some(NonIdempotent::Always) => true,
            Some(NonIdempotent::WithIdempotencyKey) => headers.contains_key("idempotency-key"),
            Some(NonIdempotent::Never) | None => false,
        };
        Self {
            repeatable: is_idempotent(method) || declared(),
            grpc: retry.is_some_and(|retry| !retry.grpc_codes.is_empty()) && is_grpc(headers),
            refusable: protocol == Protocol::Http2,
        }
    }

    /// The same, but what a peer may have looked at is not sent again.
    pub(crate) const fn sent_once(self) -> Self {
        Self {
            repeatable: false,
            grpc: false,
            ..self
        }
    }

    /// An upgrade, which is never sent again.
    pub(crate) const fn upgrade() -> Self {
        Self {
            repeatable: false,
            grpc: false,
            refusable: false,
        }
    }

    /// Whether there are outcomes after which it would be sent again, so that it should be kept.
    pub(crate) const fn kept(self) -> bool {
        self.repeatable || self.grpc || self.refusable
    }
}

/// Whether it is a call of gRPC, in whatever encoding.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// What decides whether an answer is passed on or the request tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    /// Of an answer without messages: its gRPC status is in the head.
    grpc: Option<u32>,
    /// `Retry-After`, where it can be read.
    wait: Duration,
}

impl Reply {
    pub(crate) fn of<B>(response: &Response<B>) -> Self {
        let status = response.status();
        let headers = response.headers();
        let number = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
        let asks = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let wait = headers.get(header::RETRY_AFTER).filter(|_| asks);
        Self {
            status,
            grpc: headers.get(GRPC_STATUS).and_then(number),
            wait: wait.and_then(retry_after).unwrap_or_default(),
        }
    }

    /// Whether any policy could want another try after it.
    pub(crate) fn worth_a_look(self) -> bool {
        self.status.as_u16() >= 400 || self.grpc.is_some_and(|code| code != 0)
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()?;
    Duration::try_from(at.duration_since(Timestamp::now())).ok()
}

/// RFC 9110 §9.2.2; TRACE never gets here.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    )
}

impl Next {
    /// At once, and without asking the budget.
    const fn at_once(reuse: bool) -> Self {
        Self::Again {
            reuse,
            backoff: Duration::ZERO,
            at_least: Duration::ZERO,
            budgeted: false,
        }
    }
}

/// The tries of one request.
pub(crate) struct Tries<'a> {
    retry: Option<&'a Retry>,
    nature: Nature,
    /// Attempts made.
    made: u32,
    /// Attempts that failed after something was sent.
    sent: u32,
    /// Connections that were refused while there was another peer.
    refused: u32,
}

/// Whether and how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Answer with what there is.
    Stop,
    /// Try again. What was sent counts in the budget, and may wait.
    Again {
        /// A kept connection may be used.
        reuse: bool,
        /// The wait before, at most; the caller draws.
        backoff: Duration,
        /// The wait before, at least: the peer asked for it.
        at_least: Duration,
        /// Whether the budget must be asked.
        budgeted: bool,
    },
}

impl<'a> Tries<'a> {
    pub(crate) fn new(retry: Option<&'a Retry>, nature: Nature) -> Self {
        Self {
            retry,
            nature,
            made: 0,
            sent: 0,
            refused: 0,
        }
    }

    /// Whether the peer that failed may be tried again when no other is left.
    pub(crate) fn same_peer(&self) -> bool {
        self.retry
            .is_some_and(|retry| retry.same_peer == SamePeer::LastResort)
    }

    /// After an attempt without a response. `replayable`: the whole request can be made again; `others`:
    /// there is an eligible peer that it was not sent to.
    pub(crate) fn after_error(
        &mut self,
        error: &AttemptError,
        replayable: bool,
        others: bool,
    ) -> Next {
        // The peer was found failing, and there is another that is not: nothing was wrong with the request.
        // This ends, because no peer is given up twice.
        if error.gave_up {
            return if error.unsent() || (self.nature.repeatable && replayable) {
                Next::at_once(true)
            } else {
                Next::Stop
            };
        }
        let refused = error.phase == Phase::Connect && error.reason == Reason::ConnectRefused;
        if refused && others && self.refused < REFUSALS && self.retries_connect_errors() {
            self.refused += 1;
            return Next::at_once(true);
        }
        self.made += 1;
        if error.unsent() {
            let most = self
                .retry
                .map_or(CONNECT_TRIES, |retry| CONNECT_TRIES.max(retry.attempts + 1));
            let wanted = self.retries_connect_errors();
            let again = self.made < most && wanted && (error.request.is_some() || replayable);
            // Refusing a stream or closing an idle connection is no sign of trouble; refusing a
            // connection is one of this peer alone. Neither is worth a wait.
            return if again {
                Next::at_once(error.phase != Phase::Unsent)
            } else {
                Next::Stop
            };
        }
        self.sent += 1;
        if !(self.nature.repeatable && replayable) {
            return Next::Stop;
        }
        let timeout = error.reason == Reason::UpstreamTimeout;
        match self.retry {
            // An idle connection that was closed under the request: once, at once, on a fresh one.
            _ if error.reused && !timeout && self.sent == 1 => Next::at_once(false),
            None if !timeout && self.sent == 1 => Next::Again {
                reuse: false,
                backoff: Duration::ZERO,
                at_least: Duration::ZERO,
                budgeted: true,
            },
            Some(retry) if self.made <= retry.attempts => {
                let wanted = if timeout {
                    retry.on.timeout
                } else {
                    retry.on.reset
                };
                if wanted {
                    self.paced(retry, timeout, Duration::ZERO)
                } else {
                    Next::Stop
                }
            }
            _ => Next::Stop,
        }
    }

    fn retries_connect_errors(&self) -> bool {
        self.retry.is_none_or(|retry| retry.on.connect_error)
    }

    /// After a response, none of which was passed on yet.
    ///
    /// A gRPC status that the policy names is tried again whatever `nonIdempotent` says: every gRPC call is a
    /// POST, and an answer without a message is how servers say that they did not take it on.
    pub(crate) fn after_answer(&mut self, reply: Reply, replayable: bool) -> Next {
        self.made += 1;
        self.sent += 1;
        match self.retry {
            Some(retry)
                if self.made <= retry.attempts
                    && replayable
                    && reply.wait <= RETRY_AFTER_MOST
                    && self.unwelcome(retry, reply) =>
            {
                self.paced(retry, true, reply.wait)
            }
            _ => Next::Stop,
        }
    }

    fn unwelcome(&self, retry: &Retry, reply: Reply) -> bool {
        // Sent again it would go the same way round.
        if reply.status == StatusCode::LOOP_DETECTED {
            return false;
        }
        let by_status = self.nature.repeatable && retry.codes.contains(&reply.status.as_u16());
        let by_code = |code: u32| self.nature.grpc && retry.grpc_codes.contains(&code);
        by_status || reply.grpc.is_some_and(by_code)
    }

    fn paced(&self, retry: &Retry, reuse: bool, at_least: Duration) -> Next {
        let factor = 1 << (self.made - 1).min(6);
        Next::Again {
            reuse,
            backoff: retry.backoff * factor,
            at_least,
            budgeted: true,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
