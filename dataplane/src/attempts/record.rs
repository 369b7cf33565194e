//! Records the outcome of attempts: in the access log, in the peer's vitals, and in the rejection if no peer answered.

use tokio::time::Instant;

use crate::{
    access_log::Attempt,
    admission::Seat,
    exchange::{Exchange, outcome_of},
    forward::{AttemptError, Phase},
    health::InFlight,
    metrics::Outcome,
    reason::Reason,
    reject::Reject,
    report,
    table::{Peer, Upstream},
};

/// Records the outcome of an attempt.
pub(crate) fn note(exchange: &mut Exchange, peer: &Peer, outcome: Outcome) {
    exchange.served_by = matches!(outcome, Outcome::Answered(_)).then_some(peer.state.key);
    exchange.attempted(Attempt {
        peer: peer.config.address,
        outcome,
    });
}

/// Records an attempt without a response, and in the peer's vitals where the peer is to blame.
pub(crate) fn note_failure(exchange: &mut Exchange, peer: &Peer, error: &AttemptError) {
    note(exchange, peer, outcome_of(error.reason));
    if (exchange.progress.as_ref()).is_some_and(|progress| progress.mismatched.get()) {
        // The client's body was not the one that it had signed: the request was ended for that.
        return;
    }
    let in_flight = exchange.in_flight.as_ref().and_then(Seat::in_flight);
    record_failure(peer, error, in_flight, client_failed(exchange).is_some());
}

/// Records in the peer's vitals a failure that the peer is to blame for.
pub(crate) fn record_failure(
    peer: &Peer,
    error: &AttemptError,
    in_flight: Option<&InFlight>,
    client_failed: bool,
) {
    if error.gave_up || error.late || error.is_own() {
        // The peer did not fail this request: another request or check found it failing and recorded that, its time
        // was not over, or the shortage was Hale's.
        return;
    }
    let vitals = &peer.state.vitals;
    if error.phase <= Phase::Handshake {
        vitals.record_connect_failure(error.reason, error.message.as_str(), Instant::now());
    } else if error.phase == Phase::Sent && !error.reused && !client_failed {
        vitals.record_lost_request(error.reason, error.message.as_str());
    }
    if error.blames_peer() && !client_failed {
        vitals.failed(&error.message, in_flight, Instant::now());
    }
}

/// The fault of the client's own body, for which no peer is to blame.
pub(super) fn client_failed(exchange: &Exchange) -> Option<Reject> {
    exchange.progress.as_ref()?.fault().map(Reject::new)
}

/// The rejection where no peer answered, or no peer was eligible.
pub(crate) fn unserved(
    exchange: &mut Exchange,
    upstream: &Upstream,
    error: Option<&AttemptError>,
) -> Reject {
    exchange.in_flight = None;
    let peers = report::reject_peers(upstream, exchange.explains());
    let id = &upstream.config.id;
    match (error, &upstream.config.problem) {
        (Some(error), _) => {
            let reject = Reject::new(error.reason).of_peers(id, peers);
            match exchange.attempts.last() {
                Some(attempt) if exchange.explains() => {
                    reject.explaining(format!("{}: {}", attempt.peer, error.message))
                }
                _ => reject,
            }
        }
        (None, Some(problem)) => Reject::from(problem).of_peers(id, peers),
        (None, None) => Reject::new(Reason::NoEligiblePeer).of_peers(id, peers),
    }
}
