//! One check of one peer: what all kinds share, and the words for what went wrong.
//!
//! Every phase runs against one deadline, so that the message can say which of them did not end: a
//! person mends "no connection" elsewhere than "no answer".

mod connection;

use std::{error::Error, io, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    explain::describe,
    grpc_check::{GrpcChecker, GrpcPlan},
    http_check::{HttpChecker, HttpPlan},
    prober::ProbeTarget,
    tcp_check,
};
use crate::{
    config::{ActiveCheck, CheckKind, TcpCheck},
    fault::{Fault, overslept},
};

#[cfg(test)]
pub(super) use connection::USES;
pub(super) use connection::{Failure, Keeper, Kept, Wire, shake_hands};

/// How much of an answer is read.
pub(super) const READ_LIMIT: usize = 4096;

/// A check, prepared once for all peers of an upstream.
pub(super) struct Plan {
    /// What was prepared.
    pub(super) check: Arc<ActiveCheck>,
    label: String,
    kind: PlanKind,
}

enum PlanKind {
    Http(Box<HttpPlan>),
    Tcp(TcpCheck),
    Grpc(GrpcPlan),
    /// The check cannot be made, and every one fails with these words.
    Impossible(String),
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) pass: bool,
    /// `GET /healthz: HTTP 503, want 200-399`.
    pub(super) message: String,
    /// What it showed besides.
    pub(super) signs: Signs,
}

/// What a check shows besides its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signs {
    /// The peer takes connections.
    pub(super) connected: bool,
    /// Why there is no connection.
    pub(super) fault: Option<Fault>,
}

impl Signs {
    /// Whether Hale itself could not make the check: it says nothing about the peer.
    pub(super) fn is_own(&self) -> bool {
        self.fault == Some(Fault::Own)
    }
}

/// What a check needs to know of its moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// The timeout that made it, for messages.
    pub(super) timeout: Duration,
}

/// Makes the checks of one peer, one after the other. A parameter of the prober's loop, which tests
/// script.
pub(super) trait Check: Send {
    /// Makes one check; ends by `deadline`.
    fn check(
        &mut self,
        plan: &Plan,
        target: &ProbeTarget,
        deadline: Deadline,
    ) -> impl Future<Output = Outcome> + Send;

    /// Keeps nothing from earlier checks.
    fn forget(&mut self);
}

/// The real checks.
pub(super) struct Checker {
    http: HttpChecker,
    grpc: GrpcChecker,
}

impl Checker {
    /// `kept` bounds the connections that are kept between checks, over all peers.
    pub(super) fn new(kept: Arc<Semaphore>) -> Self {
        Self {
            http: HttpChecker::new(Arc::clone(&kept)),
            grpc: GrpcChecker::new(kept),
        }
    }
}

impl Check for Checker {
    async fn check(&mut self, plan: &Plan, target: &ProbeTarget, deadline: Deadline) -> Outcome {
        let mut signs = Signs::default();
        let result = match &plan.kind {
            PlanKind::Http(http) => self.http.check(http, target, deadline, &mut signs).await,
            PlanKind::Tcp(tcp) => tcp_check::check(tcp, target, deadline, &mut signs).await,
            PlanKind::Grpc(grpc) => self.grpc.check(grpc, target, deadline, &mut signs).await,
            PlanKind::Impossible(words) => Err(words.clone()),
        };
        let (pass, words) = match result {
            Ok(words) => (true, words),
            Err(words) => (false, words),
        };
        Outcome {
            pass,
            message: plan.say(target, &words),
            signs,
        }
    }

    fn forget(&mut self) {
        self.http.forget();
        self.grpc.forget();
    }
}

impl Plan {
    pub(super) fn new(check: Arc<ActiveCheck>) -> Self {
        let kind = match &check.kind {
            CheckKind::Http(http) => match HttpPlan::new(http, check.interval) {
                Ok(plan) => PlanKind::Http(Box::new(plan)),
                Err(words) => PlanKind::Impossible(words),
            },
            CheckKind::Tcp(tcp) => PlanKind::Tcp(tcp.clone()),
            CheckKind::Grpc(grpc) => PlanKind::Grpc(GrpcPlan::new(grpc, check.interval)),
            // The table hands in the peer's own check, or none.
            CheckKind::OfPeer => PlanKind::Impossible("the pod has no check of its own".into()),
        };
        Self {
            label: describe(&check),
            check,
            kind,
        }
    }

    /// The words with what they are about: the port is named where it is not the traffic's.
    fn say(&self, target: &ProbeTarget, words: &str) -> String {
        let label = &self.label;
        if target.address.port() == target.key.address.port() {
            format!("{label}: {words}")
        } else {
            format!("{label} on port {}: {words}", target.address.port())
        }
    }
}

impl Deadline {
    pub(super) fn after(timeout: Duration, now: Instant) -> Self {
        Self {
            at: now + timeout,
            timeout,
        }
    }

    /// What `future` gives, or that there was no `what` in time.
    pub(super) async fn within<T>(
        self,
        what: &str,
        future: impl Future<Output = T>,
    ) -> Result<T, String> {
        timeout_at(self.at, future)
            .await
            .map_err(|_| format!("no {what} within {:?}", self.timeout))
    }
}

/// Connects.
pub(super) async fn connect(
    address: std::net::SocketAddr,
    deadline: Deadline,
    signs: &mut Signs,
) -> Result<TcpStream, String> {
    let connected = deadline.within("connection", TcpStream::connect(address));
    let stream = match connected.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            signs.fault = Some(Fault::of(&error));
            return Err(io_words(&error));
        }
        Err(words) => {
            signs.fault = Some(match overslept(deadline.at) {
                true => Fault::Own,
                false => Fault::Silent,
            });
            return Err(words);
        }
    };
    // Costs latency alone where it fails.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// An I/O error as people say it, without numbers.
pub(super) fn io_words(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    let words = match error.kind() {
        Kind::ConnectionRefused => "connection refused",
        Kind::ConnectionReset => "connection reset",
        Kind::ConnectionAborted => "connection aborted",
        Kind::HostUnreachable => "host unreachable",
        Kind::NetworkUnreachable => "network unreachable",
        Kind::TimedOut => "connection timed out",
        Kind::BrokenPipe | Kind::UnexpectedEof => "connection closed",
        _ => return error.to_string(),
    };
    words.into()
}

/// The first I/O error among an error and its causes.
pub(super) fn io_cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

/// A text in quotes, short and on one line.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut short: String = text.chars().take(LONGEST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
