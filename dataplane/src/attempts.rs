//! The attempts of one request, one after another, until a peer answers or nothing is left to try.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    access_log::Attempt,
    admission::{self, Ask, Current, Seat},
    body::RequestBody,
    config::RequestPolicy,
    exchange::{Exchange, outcome_of},
    forward::{self, AttemptError, Lease, Limits, Phase},
    metrics::Outcome,
    pipeline::Answer,
    reason::Reason,
    reject::Reject,
    report,
    retry::{Nature, Next, Tries},
    table::{Peer, Upstream},
};

/// How recently a kept connection must have been used to carry a request that cannot be repeated.
const FRESH: Duration = Duration::from_secs(1);

/// The request as it goes upstream, without its body; made again for each try.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Head {
    pub(crate) fn with(self, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}

/// What is known between one attempt and the next.
pub(crate) struct Attempts<'a> {
    policy: &'a RequestPolicy,
    upstream: Current<'a>,
    nature: Nature,
    deadline: Option<Instant>,
    tries: Tries<'a>,
    /// Peers that failed this request.
    tried: Vec<u32>,
    /// To make the request again once it was sent; `None` if that may never be.
    spare: Option<Head>,
    bodyless: bool,
    /// Whether a kept connection may be used.
    reuse: bool,
    last: Option<Box<AttemptError>>,
}

/// What follows an attempt.
enum Step {
    Done(Result<Answer, Reject>),
    Again {
        request: Request<RequestBody>,
        backoff: Duration,
    },
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(
        policy: &'a RequestPolicy,
        upstream: &'a Arc<Upstream>,
        nature: Nature,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            policy,
            upstream: Current::Route(upstream),
            nature,
            deadline,
            tries: Tries::new(policy.retry.as_ref(), nature),
            tried: Vec::new(),
            spare: None,
            bodyless: true,
            reuse: true,
            last: None,
        }
    }

    /// Makes them.
    pub(crate) async fn run(
        mut self,
        exchange: &mut Exchange,
        head: Head,
        body: RequestBody,
    ) -> Result<Answer, Reject> {
        self.spare = self.nature.repeatable.then(|| head.clone());
        self.bodyless = body.is_end_stream();
        let mut request = head.with(body);
        loop {
            let (index, seat) = self.admit(exchange).await?;
            let upstream = self.upstream.clone();
            let Some(peer) = upstream.peers.get(index as usize) else {
                return Err(unserved(exchange, &upstream, self.last.as_deref()));
            };
            exchange.in_flight = Some(seat);
            let pool = &exchange.conn.worker.pool;
            let sent = forward::send(pool, &upstream, peer, request, self.limits()).await;
            let step = match sent {
                Ok((response, lease)) => self.answered(exchange, peer, response, lease),
                Err(mut error) => match error.saturated() {
                    Some(unsent) => {
                        request = unsent;
                        exchange.in_flight = None;
                        continue;
                    }
                    None => self.failed(exchange, peer, error),
                },
            };
            match step {
                Step::Done(answer) => return answer,
                Step::Again {
                    request: next,
                    backoff,
                } => {
                    self.tried.push(index);
                    // What failed does not count any more; the next attempt waits like everybody.
                    exchange.in_flight = None;
                    if !backoff.is_zero() {
                        tokio::time::sleep(exchange.conn.worker.jitter(backoff)).await;
                    }
                    request = next;
                }
            }
        }
    }

    /// A peer and a seat with it, for the next attempt.
    async fn admit(&mut self, exchange: &mut Exchange) -> Result<(u32, Seat), Reject> {
        let ask = Ask {
            same_peer: self.same_peer(),
            fresh: self.fresh(),
            deadline: self.deadline,
        };
        let last = self.last.as_deref();
        admission::seat(exchange, &mut self.upstream, &mut self.tried, ask, last).await
    }

    /// How recently a kept connection must have been used to carry the next attempt.
    fn fresh(&self) -> Duration {
        match (self.reuse, self.nature.repeatable && self.bodyless) {
            (false, _) => Duration::ZERO,
            (true, true) => Duration::MAX,
            (true, false) => FRESH,
        }
    }

    /// Whether a peer that failed may be asked again when there is no other. A connection that was closed
    /// for idleness says nothing against its peer.
    fn same_peer(&self) -> bool {
        let innocent = |error: &AttemptError| error.reused || error.phase == Phase::Unsent;
        self.tries.same_peer() || self.last.as_deref().is_some_and(innocent)
    }

    fn answered(
        &mut self,
        exchange: &mut Exchange,
        peer: &Peer,
        response: Response<Incoming>,
        lease: Lease,
    ) -> Step {
        peer.state.vitals.record_success();
        let status = response.status();
        note(exchange, peer, Outcome::Answered(status.as_u16()));
        if self.policy.retry.is_some() && status.as_u16() >= 400 {
            let repeated = self.repeated(exchange);
            let next = self.tries.after_status(status, repeated.is_some());
            if let Some(step) = self.again(exchange, next, repeated) {
                return step;
            }
        }
        Step::Done(Ok(Answer::Peer {
            response,
            lease: Some(lease),
            deadline: self.deadline,
        }))
    }

    fn failed(
        &mut self,
        exchange: &mut Exchange,
        peer: &Peer,
        mut error: Box<AttemptError>,
    ) -> Step {
        note_failure(exchange, peer, &error);
        if let Some(reject) = client_failed(exchange) {
            return Step::Done(Err(reject));
        }
        let unsent = error.unsent();
        let repeated = if unsent {
            None
        } else {
            self.repeated(exchange)
        };
        let next = self.tries.after_error(&error, repeated.is_some());
        let request = if unsent {
            error.request.take()
        } else {
            repeated
        };
        let step = self.again(exchange, next, request);
        self.last = Some(error);
        step.unwrap_or_else(|| {
            Step::Done(Err(unserved(
                exchange,
                &self.upstream,
                self.last.as_deref(),
            )))
        })
    }

    /// The request once more, if it was kept.
    fn repeated(&self, exchange: &Exchange) -> Option<Request<RequestBody>> {
        let head = self.spare.as_ref()?;
        let body = match &exchange.progress {
            None => RequestBody::empty(),
            Some(progress) => progress.replay()?,
        };
        Some(head.clone().with(body))
    }

    /// Another try, if deadline and budget leave room for it.
    fn again(
        &mut self,
        exchange: &Exchange,
        next: Next,
        request: Option<Request<RequestBody>>,
    ) -> Option<Step> {
        let Next::Again {
            reuse,
            backoff,
            budgeted,
        } = next
        else {
            return None;
        };
        let request = request?;
        let now = Instant::now();
        if self.deadline.is_some_and(|at| now >= at) {
            return None;
        }
        let elapsed = exchange.conn.worker.elapsed_ms(now);
        let retry = self.policy.retry.as_ref();
        if budgeted && !self.upstream.budget.withdraw(retry, elapsed) {
            return None;
        }
        self.reuse = reuse;
        Some(Step::Again { request, backoff })
    }

    fn limits(&self) -> Limits {
        let left = self
            .deadline
            .map(|at| at.saturating_duration_since(Instant::now()));
        let least = |limit: Option<Duration>| match (limit, left) {
            (Some(limit), Some(left)) => Some(limit.min(left)),
            (limit, left) => limit.or(left),
        };
        let retry = self.policy.retry.as_ref();
        let per_try = retry.and_then(|retry| retry.per_try_timeout);
        Limits {
            connect: least(self.policy.timeouts.connect),
            head: least(per_try.or(self.policy.timeouts.backend_request)),
            fresh: self.fresh(),
        }
    }
}

/// A peer of `eligible` that, if possible, was not tried yet.
pub(crate) fn pick<'u>(
    upstream: &'u Upstream,
    eligible: &[u32],
    tried: &[u32],
    same_peer: bool,
) -> Option<(u32, &'u Peer)> {
    // The eligible are numbers of this upstream's own peers.
    let vitals = |index: u32| &*upstream.peers[index as usize].state.vitals;
    let index = upstream.picker.pick(
        &upstream.config.balance,
        eligible,
        vitals,
        tried,
        Instant::now(),
    )?;
    if tried.contains(&index) && !same_peer {
        return None;
    }
    Some((index, upstream.peers.get(index as usize)?))
}

/// Notes what came of an attempt.
pub(crate) fn note(exchange: &mut Exchange, peer: &Peer, outcome: Outcome) {
    exchange.attempted(Attempt {
        peer: peer.config.address,
        outcome,
    });
}

/// Notes an attempt without a response, also in the peer's vitals where it is to blame.
pub(crate) fn note_failure(exchange: &mut Exchange, peer: &Peer, error: &AttemptError) {
    note(exchange, peer, outcome_of(error.reason));
    if error.phase <= Phase::Handshake {
        let vitals = &peer.state.vitals;
        vitals.record_connect_failure(error.reason, error.message.as_str(), Instant::now());
    }
}

/// The client's own body failed: nobody upstream is to blame.
fn client_failed(exchange: &Exchange) -> Option<Reject> {
    let progress = exchange.progress.as_ref()?;
    let reason = match (progress.client_failed.get(), progress.client_silent.get()) {
        (_, true) => Reason::BodyTimeout,
        (true, false) => Reason::BadRequest,
        (false, false) => return None,
    };
    Some(Reject::new(reason))
}

/// No peer answered, or there was none to ask.
pub(crate) fn unserved(
    exchange: &mut Exchange,
    upstream: &Upstream,
    error: Option<&AttemptError>,
) -> Reject {
    exchange.in_flight = None;
    let peers = report::reject_peers(upstream, exchange.explains());
    let id = &upstream.config.id;
    match (error, &upstream.config.problem) {
        (Some(error), _) => Reject::new(error.reason).of_peers(id, peers),
        (None, Some(problem)) => Reject::from(problem).of_peers(id, peers),
        (None, None) => Reject::new(Reason::NoEligiblePeer).of_peers(id, peers),
    }
}
