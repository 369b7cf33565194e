//! Asks a peer of an upstream, picked as for any request: what Hale knows of its health and limits holds for
//! questions, too, and what comes of them is noted.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, header, response};
use tokio::time::Instant;

use super::{super::Authorized, NoAnswer, question::Question};
use crate::{
    admission::{self, Ask, Current, Denied, Seat},
    attempts::{Stopwatch, record_failure},
    balance::Wish,
    body::RequestBody,
    config::Protocol,
    exchange::outcome_of,
    forward::{self, AttemptError, Limits, Patience, Phase},
    health::explain,
    metrics::Outcome,
    reason::Reason,
    report,
    table::{Peer, Upstream},
    worker::Worker,
};

/// One peer, and another one after a connection that failed.
const TRIES: u32 = 2;
/// To connect, as long as the question may take that long.
const CONNECT: Duration = Duration::from_secs(1);

/// The head of the answer, or why there is none.
pub(super) async fn ask(
    worker: &Worker,
    upstream: &Arc<Upstream>,
    question: &Question,
    limit: Duration,
) -> Result<response::Parts, NoAnswer> {
    let began = Instant::now();
    let answer = attempts(worker, upstream, question, began + limit).await;
    let status = answer.as_ref().ok().map(|answer| answer.status.as_u16());
    upstream.metrics.request(status, began.elapsed());
    let named = |why| format!("{}: {why}", upstream.config.id);
    answer.map_err(|none| match none {
        NoAnswer::Silent(why) => NoAnswer::Silent(named(why)),
        NoAnswer::Impossible(why) => NoAnswer::Impossible(named(why)),
        NoAnswer::Overloaded(why) => NoAnswer::Overloaded(named(why)),
    })
}

async fn attempts(
    worker: &Worker,
    upstream: &Arc<Upstream>,
    question: &Question,
    deadline: Instant,
) -> Result<response::Parts, NoAnswer> {
    let mut current = Current::Route(upstream);
    let limit = deadline.saturating_duration_since(Instant::now());
    let mut tried = Vec::new();
    let mut last: Option<Box<AttemptError>> = None;
    // Whether all that were asked were silent: one that was there, or could not be tried, may have said no.
    let mut silent = true;
    let mut crowded = false;
    let mut number = 0;
    while number < TRIES {
        let ask = Ask {
            same_peer: last.as_deref().is_some_and(says_nothing),
            trial: number == 0 && !crowded,
            repeatable: true,
            wish: Wish::default(),
            fresh: if number == 0 {
                Duration::MAX
            } else {
                Duration::ZERO
            },
            deadline: Some(deadline),
        };
        let admitted = admission::admit(worker, &mut current, &mut tried, ask).await;
        let (index, seat) = match admitted {
            Ok(admitted) => admitted,
            // It is there, and has enough to do: whoever sends many requests could bring that about.
            Err(Denied::QueueFull | Denied::Timeout) => {
                let why = "the external service is at the limits of its circuit breaker";
                return Err(NoAnswer::Overloaded(why.to_owned()));
            }
            Err(Denied::Empty | Denied::Exhausted) => break,
        };
        let upstream = current.clone();
        let Some(peer) = upstream.peers.get(index as usize) else {
            break;
        };
        if number > 0 {
            upstream.metrics.retry();
        }
        let fresh = ask.fresh;
        let mut error = match attempt(
            worker, &upstream, peer, seat, &tried, question, fresh, deadline, limit,
        )
        .await?
        {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.saturated().is_some() {
            // Another request took the room: this one waits for its turn.
            crowded = true;
            continue;
        }
        silent &= error.silent && !error.late;
        let again = error.unsent() || error.reason == Reason::UpstreamReset || error.gave_up;
        last = Some(error);
        tried.push(index);
        number += 1;
        if !again || Instant::now() >= deadline {
            break;
        }
    }
    Err(match last {
        None if is_absent(&current) => NoAnswer::Silent(no_peer(&current)),
        None => NoAnswer::Impossible(no_peer(&current)),
        Some(error) if silent => NoAnswer::Silent(error.message),
        Some(error) if error.is_own() => NoAnswer::Overloaded(error.message),
        Some(error) => NoAnswer::Impossible(error.message),
    })
}

/// Whether a peer that was asked at `began` had half of the question's time at the least. The rest went by while the
/// question waited for room, and its silence says nothing.
fn had_time(began: Instant, deadline: Instant, limit: Duration) -> bool {
    deadline.saturating_duration_since(began) >= limit / 2
}

/// Whether the service is absent: Kubernetes lists no serving pod, or each listed pod was silent when it was last
/// checked or asked. A peer that was ejected for an answer, which a client may have provoked, is not absent.
fn is_absent(upstream: &Upstream) -> bool {
    let unreachable =
        |reason: Reason| matches!(reason, Reason::ConnectRefused | Reason::ConnectTimeout);
    let silent = |peer: &Peer| {
        let vitals = &peer.state.vitals;
        match explain(upstream.health(peer), peer.config.readiness, vitals).reason {
            Some(Reason::NotReady | Reason::Terminating) => true,
            Some(Reason::ActiveCheckFailed) => vitals.last_check().is_some_and(|last| last.silent),
            Some(Reason::Ejected) => {
                let refused = vitals.connect_failure();
                let lost = vitals.lost_requests();
                refused.is_some_and(|(_, failure)| unreachable(failure.reason))
                    || lost.is_some_and(|lost| lost.reason == Reason::UpstreamTimeout)
            }
            _ => false,
        }
    };
    upstream.peers.iter().all(silent)
}

/// Whether a connection failed for no fault of its peer.
fn says_nothing(error: &AttemptError) -> bool {
    error.reused || error.phase == Phase::Unsent
}

#[allow(clippy::too_many_arguments)]
async fn attempt(
    worker: &Worker,
    upstream: &Upstream,
    peer: &Peer,
    seat: Seat,
    tried: &[u32],
    question: &Question,
    fresh: Duration,
    deadline: Instant,
    limit: Duration,
) -> Result<Result<response::Parts, Box<AttemptError>>, NoAnswer> {
    let request = request(upstream, question)
        .ok_or_else(|| NoAnswer::Impossible("its name cannot be sent".to_owned()))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let had_time = had_time(Instant::now(), deadline, limit);
    let limits = Limits {
        connect: Some(left.min(CONNECT)),
        head: Some(left),
        deadline: None,
        fresh,
        logged_in: None,
        patience: Patience {
            tried,
            repeatable: true,
            progress: None,
            concern: peer.state.concern(),
        },
    };
    let authorized = Authorized::ourselves();
    let stopwatch = Stopwatch::start(upstream);
    let sent = forward::send(&authorized, &worker.pool, upstream, peer, request, limits).await;
    stopwatch.stop(peer, &sent);
    Ok(match sent {
        Ok((response, lease)) => {
            let (parts, body) = response.into_parts();
            let status = parts.status.as_u16();
            let vitals = &peer.state.vitals;
            vitals.answered(status, seat.in_flight(), Instant::now());
            upstream.metrics.attempt(Outcome::Answered(status));
            lease.release_after(body);
            Ok(parts)
        }
        Err(mut error) => {
            // It waited for room for so long that the peer had little time.
            error.late |= !had_time
                && matches!(
                    error.reason,
                    Reason::ConnectTimeout | Reason::UpstreamTimeout
                );
            upstream.metrics.attempt(outcome_of(error.reason));
            record_failure(peer, &error, seat.in_flight(), false);
            Err(error)
        }
    })
}

/// The question with the Service's own name as its host.
fn request(upstream: &Upstream, question: &Question) -> Option<Request<RequestBody>> {
    let id = &upstream.config.id;
    let host = HeaderValue::try_from(format!("{}.{}.svc", id.service, id.namespace)).ok()?;
    let body = RequestBody::empty();
    match upstream.config.protocol {
        Protocol::Http1 => {
            let mut request = question.plain(body);
            request.headers_mut().insert(header::HOST, host);
            Some(request)
        }
        Protocol::Http2 => question.absolute(body, upstream.tls.is_some(), &host),
    }
}

/// Why nobody can be asked.
fn no_peer(upstream: &Upstream) -> String {
    if let Some(problem) = &upstream.config.problem {
        return format!("{}: {}", problem.reason, problem.message);
    }
    let peers = report::reject_peers(upstream, false);
    let counts = peers.by_reason.iter();
    let counts: Vec<String> = counts
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    let counts = counts.join(", ");
    match peers.total {
        1 => format!("its only peer cannot be asked: {counts}"),
        total => format!("none of {total} peers can be asked: {counts}"),
    }
}
