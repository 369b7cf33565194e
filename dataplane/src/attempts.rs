//! The attempts of one request, one after another, until a peer answers or nothing is left to try.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    admission::{self, Ask, Current, Seat},
    auth::{self, Authorized},
    balance::Wish,
    body::RequestBody,
    config::{Balance, RequestPolicy},
    exchange::Exchange,
    forward::{self, AttemptError, Lease, Limits, Patience, Phase},
    metrics::Outcome,
    pipeline::Answer,
    reason::Reason,
    reject::Reject,
    retry::{Nature, Next, Reply, Tries},
    table::{Concern, Peer, Upstream},
};

mod record;

use record::client_failed;
pub(crate) use record::{note, note_failure, record_failure, unserved};

/// How recently a kept connection must have been used to carry a request that cannot be repeated. Servers
/// close idle connections after a second at the least, and most after several: half of it leaves room for the
/// way there and for clocks that began before ours.
const FRESH: Duration = Duration::from_millis(500);

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
    authorized: &'a Authorized,
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
    /// The budget had no room for another try.
    spent: bool,
    /// There was no room for a connection to the peer that was picked.
    crowded: bool,
}

/// What follows an attempt.
enum Step {
    Done(Result<Answer, Reject>),
    Again {
        request: Request<RequestBody>,
        wait: Duration,
    },
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(
        authorized: &'a Authorized,
        policy: &'a RequestPolicy,
        upstream: &'a Arc<Upstream>,
        nature: Nature,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            authorized,
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
            spent: false,
            crowded: false,
        }
    }

    /// Makes them.
    pub(crate) async fn run(
        mut self,
        exchange: &mut Exchange,
        head: Head,
        body: RequestBody,
    ) -> Result<Answer, Reject> {
        self.spare = self.nature.kept().then(|| head.clone());
        self.bodyless = body.is_end_stream();
        let mut request = head.with(body);
        loop {
            let (index, seat) = self.admit(exchange).await?;
            let upstream = self.upstream.clone();
            let Some(peer) = upstream.peers.get(index as usize) else {
                return Err(unserved(exchange, &upstream, self.last.as_deref()));
            };
            exchange.in_flight = Some(seat);
            exchange.asking = Some(peer.config.address);
            let limits = self.limits(peer, exchange);
            let stopwatch = Stopwatch::start(&upstream);
            let pool = &exchange.conn.worker.pool;
            let sent = forward::send(self.authorized, pool, &upstream, peer, request, limits).await;
            stopwatch.stop(peer, &sent);
            let step = match sent {
                Ok((response, lease)) => match self.hold(exchange, peer, &response, lease).await {
                    Ok(lease) => self.answered(exchange, index, response, lease),
                    Err(reject) => Step::Done(Err(reject)),
                },
                Err(mut error) => match error.saturated() {
                    Some(unsent) => {
                        request = unsent;
                        exchange.in_flight = None;
                        exchange.asking = None;
                        self.crowded = true;
                        continue;
                    }
                    None => self.failed(exchange, (index, peer), error),
                },
            };
            match step {
                Step::Done(answer) => return answer,
                Step::Again {
                    request: next,
                    wait,
                } => {
                    // The peer is free meanwhile, and the next attempt waits like everybody.
                    exchange.in_flight = None;
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
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
            trial: !self.crowded,
            // A client that has a session is the last to find out whether a peer is well again.
            repeatable: self.nature.repeatable && exchange.wish.session.is_none(),
            wish: exchange.wish,
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

    /// Notes an answer, and keeps it back until the request's body is known to be the one that was signed, where it
    /// has to be. What is held is given back while it is of use.
    async fn hold(
        &self,
        exchange: &mut Exchange,
        peer: &Peer,
        response: &Response<Incoming>,
        lease: Lease,
    ) -> Result<Option<Lease>, Reject> {
        let status = response.status().as_u16();
        let in_flight = exchange.in_flight.as_ref().and_then(Seat::in_flight);
        let vitals = &peer.state.vitals;
        vitals.answered(status, in_flight, Instant::now());
        note(exchange, peer, Outcome::Answered(status));
        let held = exchange.progress.as_ref().filter(|body| body.is_held());
        let Some(progress) = held else {
            return Ok(Some(lease));
        };
        let known = match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, progress.known()).await,
            None => Ok(progress.known().await),
        };
        let reason = match known.unwrap_or(Err(Reason::UpstreamTimeout)) {
            Ok(sent) => return Ok(Some(lease).filter(|_| sent)),
            Err(reason) => reason,
        };
        exchange.in_flight = None;
        Err(match reason {
            Reason::AuthRequired => self.wrong_body(exchange),
            reason => Reject::new(reason),
        })
    }

    fn answered(
        &mut self,
        exchange: &mut Exchange,
        index: u32,
        response: Response<Incoming>,
        lease: Option<Lease>,
    ) -> Step {
        if self.policy.retry.is_some() {
            let reply = Reply::of(&response);
            let repeated = reply.worth_a_look().then(|| self.repeated(exchange));
            let repeated = repeated.flatten();
            let next = self.tries.after_answer(reply, repeated.is_some());
            if let Some(step) = self.again(exchange, next, repeated) {
                self.tried.push(index);
                if let Some(lease) = lease {
                    lease.release_after(response.into_body());
                }
                return step;
            }
        }
        if let Some(progress) = &exchange.progress {
            progress.forget();
        }
        Step::Done(Ok(Answer::Peer {
            response,
            lease,
            deadline: self.deadline,
        }))
    }

    fn failed(
        &mut self,
        exchange: &mut Exchange,
        (index, peer): (u32, &Peer),
        mut error: Box<AttemptError>,
    ) -> Step {
        note_failure(exchange, peer, &error);
        if let Some(reject) = client_failed(exchange) {
            if reject.reason() == Reason::AuthRequired {
                return Step::Done(Err(self.wrong_body(exchange)));
            }
            return Step::Done(Err(reject));
        }
        let repeated = match error.request {
            Some(_) => None,
            None => self.repeated(exchange),
        };
        self.tried.push(index);
        self.upstream.renew(&exchange.conn.worker, &mut self.tried);
        let others = others(&self.upstream, &self.tried, peer);
        let next = self.tries.after_error(&error, repeated.is_some(), others);
        let request = error.request.take().or(repeated);
        if let Some(step) = self.again(exchange, next, request) {
            self.last = Some(error);
            return step;
        }
        let mut reject = unserved(exchange, &self.upstream, Some(&error));
        if self.spent {
            reject = reject.because_spent();
        }
        Step::Done(Err(reject))
    }

    /// The body was not the one that its sender had signed: nobody upstream has seen the end of it.
    fn wrong_body(&self, exchange: &mut Exchange) -> Reject {
        if let Some(note) = &mut exchange.auth {
            note.outcome = auth::Outcome::BodyMismatch;
        }
        self.authorized.wrong_body()
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
        exchange: &mut Exchange,
        next: Next,
        request: Option<Request<RequestBody>>,
    ) -> Option<Step> {
        let Next::Again {
            reuse,
            backoff,
            at_least,
            budgeted,
        } = next
        else {
            return None;
        };
        let request = request?;
        let now = Instant::now();
        let wait = exchange.conn.worker.jitter(backoff).max(at_least);
        if self.deadline.is_some_and(|at| now + wait >= at) {
            return None;
        }
        if budgeted {
            let elapsed = exchange.conn.worker.elapsed_ms(now);
            let upstream = &self.upstream;
            let retry = self.policy.retry.as_ref();
            let active = || active(upstream);
            let Some(permit) = upstream.budget.withdraw(retry, active, elapsed) else {
                upstream.metrics.retry_refused();
                self.spent = true;
                return None;
            };
            exchange.permit = Some(permit);
        }
        self.reuse = reuse;
        Some(Step::Again { request, wait })
    }

    fn limits<'s>(&'s self, peer: &Peer, exchange: &'s Exchange) -> Limits<'s> {
        // A session is not left for a pause of its peer.
        let concern = match exchange.wish.session {
            Some(_) => peer.state.concern().max(Concern::Silent),
            None => peer.state.concern(),
        };
        Limits {
            connect: self.policy.timeouts.connect,
            head: head_limit(self.policy),
            deadline: self.deadline,
            fresh: self.fresh(),
            logged_in: Some(&exchange.conn.logged_in),
            patience: Patience {
                tried: &self.tried,
                repeatable: self.nature.repeatable,
                progress: exchange.progress.as_deref(),
                concern,
            },
        }
    }
}

/// For how long a peer may take to begin its answer.
pub(crate) fn head_limit(policy: &RequestPolicy) -> Option<Duration> {
    let retry = policy.retry.as_ref();
    let per_try = retry.and_then(|retry| retry.per_try_timeout);
    per_try.or(policy.timeouts.backend_request)
}

/// Takes the time to a response's head, where picks go by it.
pub(crate) struct Stopwatch(Option<Instant>);

impl Stopwatch {
    pub(crate) fn start(upstream: &Upstream) -> Self {
        Self((upstream.config.balance == Balance::PeakEwma).then(Instant::now))
    }

    /// What failed early says nothing of how quick the peer is.
    pub(crate) fn stop<T>(
        self,
        peer: &Peer,
        sent: &Result<(Response<Incoming>, T), Box<AttemptError>>,
    ) {
        let Some(start) = self.0 else { return };
        let fine = match sent {
            Ok((response, _)) => !response.status().is_server_error(),
            // Whoever waited no longer, the peer takes at least so long.
            Err(error) if error.reason == Reason::UpstreamTimeout && !error.unsent() => false,
            Err(_) => return,
        };
        let now = Instant::now();
        peer.state.vitals.record_latency(now - start, fine, now);
    }
}

/// Requests that the upstream's peers are answering.
fn active(upstream: &Upstream) -> u64 {
    upstream
        .peers
        .iter()
        .map(|peer| u64::from(peer.state.vitals.in_flight()))
        .sum()
}

/// A peer of `eligible` that, if possible, was not tried yet.
pub(crate) fn pick<'u>(
    upstream: &'u Upstream,
    wish: &Wish,
    tried: &[u32],
    same_peer: bool,
    admits: impl Fn(u32) -> bool,
) -> Option<(u32, &'u Peer)> {
    let index = upstream.pick(wish, tried, Instant::now(), admits)?;
    if tried.contains(&index) && !same_peer {
        return None;
    }
    Some((index, upstream.peers.get(index as usize)?))
}

/// Whether there is an eligible peer besides those that were `tried` and `last`.
pub(crate) fn others(upstream: &Upstream, tried: &[u32], last: &Peer) -> bool {
    upstream.eligible().peers.iter().any(|index| {
        let other = upstream.peers.get(*index as usize);
        other.is_some_and(|other| other.state.id != last.state.id) && !tried.contains(index)
    })
}
