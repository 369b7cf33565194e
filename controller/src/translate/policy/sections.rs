//! The sections of a policy, judged and turned into what the dataplane takes.
//!
//! The API server has checked most of this already; files and older definitions have not. Each section
//! is judged by itself, so that a typo in one does not switch the others off.

mod active;
mod balance;
mod limits;
mod passive;
mod session;

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use hale_crds::{Failure, HealthCheck, UpstreamPolicySpec};
use hale_dataplane::config::{self, HealthPolicy, Percent, RetryOn, Timeouts, UpstreamLimits};

use crate::translate::endpoints::CheckAt;

use super::{Section, tls::TlsParts};

pub(in crate::translate) use balance::Balancing;
use session::Session;

/// A section, or what is wrong with it.
pub(super) type Judged<T> = Result<T, String>;

/// All sections of a policy.
pub(super) struct Sections {
    pub(super) health_check: Option<Judged<Health>>,
    pub(super) load_balancer: Option<Judged<Balancing>>,
    pub(super) session: Option<Judged<Session>>,
    pub(super) circuit_breaker: Option<Judged<UpstreamLimits>>,
    pub(super) tls: Option<Judged<TlsParts>>,
    pub(super) retry: Option<Judged<config::Retry>>,
    pub(super) timeouts: Option<Judged<Timeouts>>,
}

/// What `healthCheck` says.
#[derive(Clone)]
pub(in crate::translate) struct Health {
    /// For the dataplane.
    pub(in crate::translate) policy: HealthPolicy,
    /// Where checks go, to be resolved for each peer.
    pub(in crate::translate) check_at: Option<CheckAt>,
}

impl Sections {
    pub(super) fn read(spec: &UpstreamPolicySpec, tls: Option<Judged<TlsParts>>) -> Self {
        Self {
            health_check: spec.health_check.as_ref().map(health_check),
            load_balancer: spec.load_balancer.as_ref().map(balance::balancing),
            session: spec.session_persistence.as_ref().map(session::session),
            circuit_breaker: spec.circuit_breaker.as_ref().map(limits::limits),
            tls,
            retry: spec.retry.as_ref().map(retry),
            timeouts: spec.timeouts.as_ref().map(timeouts),
        }
    }

    /// Whether the policy has a section, valid or not.
    pub(super) fn has(&self, section: Section) -> bool {
        match section {
            Section::HealthCheck => self.health_check.is_some(),
            Section::LoadBalancer => self.load_balancer.is_some(),
            Section::SessionPersistence => self.session.is_some(),
            Section::CircuitBreaker => self.circuit_breaker.is_some(),
            Section::Tls => self.tls.is_some(),
            Section::Retry => self.retry.is_some(),
            Section::Timeouts => self.timeouts.is_some(),
        }
    }

    /// Whether there is a section that only a Service can have.
    pub(super) fn has_peer_sections(&self) -> bool {
        let mut all = Section::ALL.into_iter();
        all.any(|section| section.is_of_peers() && self.has(section))
    }

    /// Whether the policy refuses requests, because its TLS cannot be had.
    pub(super) fn refuses(&self) -> bool {
        self.tls.as_ref().is_some_and(Result::is_err)
    }

    /// Where checks go.
    pub(super) fn check_at(&self) -> Option<&CheckAt> {
        self.health_check.as_ref()?.as_ref().ok()?.check_at.as_ref()
    }

    /// What is wrong, over all sections.
    pub(super) fn errors(&self) -> Vec<&str> {
        [
            self.health_check.as_ref().and_then(|it| it.as_ref().err()),
            self.load_balancer.as_ref().and_then(|it| it.as_ref().err()),
            self.session.as_ref().and_then(|it| it.as_ref().err()),
            self.circuit_breaker
                .as_ref()
                .and_then(|it| it.as_ref().err()),
            self.tls.as_ref().and_then(|it| it.as_ref().err()),
            self.retry.as_ref().and_then(|it| it.as_ref().err()),
            self.timeouts.as_ref().and_then(|it| it.as_ref().err()),
        ]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect()
    }
}

fn health_check(section: &HealthCheck) -> Judged<Health> {
    let panic_threshold = percent("healthCheck.panicThreshold", section.panic_threshold)?;
    let check_at = match section
        .active
        .as_ref()
        .and_then(|active| active.port.as_ref())
    {
        Some(port) => Some(active::check_at(port)?),
        None => None,
    };
    Ok(Health {
        policy: HealthPolicy {
            ignore_readiness: section.readiness == hale_crds::Readiness::Ignore,
            terminating: match section.terminating {
                hale_crds::Terminating::LastResort => config::Terminating::LastResort,
                hale_crds::Terminating::Never => config::Terminating::Never,
            },
            panic_threshold,
            active: section.active.as_ref().map(active::active).transpose()?,
            passive: section.passive.as_ref().map(passive::passive).transpose()?,
        },
        check_at,
    })
}

fn retry(section: &hale_crds::Retry) -> Judged<config::Retry> {
    let on = |failure| section.failures.contains(&failure);
    Ok(config::Retry {
        attempts: number("retry.attempts", section.attempts, 0..=10)?,
        codes: section
            .codes
            .iter()
            .map(|code| number("retry.codes", *code, 400..=599))
            .collect::<Judged<_>>()?,
        on: RetryOn {
            connect_error: on(Failure::ConnectError),
            reset: on(Failure::Reset),
            timeout: on(Failure::Timeout),
        },
        backoff: duration(
            "retry.backoff",
            &section.backoff,
            Duration::ZERO..=Duration::from_secs(60),
        )?,
        per_try_timeout: section
            .per_try_timeout
            .as_ref()
            .map(|timeout| {
                let range = Duration::from_millis(1)..=DAY;
                duration("retry.perTryTimeout", timeout, range)
            })
            .transpose()?,
        non_idempotent: match section.non_idempotent {
            hale_crds::NonIdempotent::Never => config::NonIdempotent::Never,
            hale_crds::NonIdempotent::WithIdempotencyKey => {
                config::NonIdempotent::WithIdempotencyKey
            }
            hale_crds::NonIdempotent::Always => config::NonIdempotent::Always,
        },
        same_peer: match section.same_peer {
            hale_crds::SamePeer::LastResort => config::SamePeer::LastResort,
            hale_crds::SamePeer::Never => config::SamePeer::Never,
        },
        grpc_codes: grpc_codes(&section.grpc_codes),
        budget: config::RetryBudget {
            percent: percent("retry.budget.percent", section.budget.percent)?,
            interval: duration(
                "retry.budget.interval",
                &section.budget.interval,
                Duration::from_secs(1)..=Duration::from_secs(3600),
            )?,
            min_retries: number(
                "retry.budget.minRetries",
                section.budget.min_retries,
                0..=1000,
            )?,
        },
    })
}

/// Sorted, each once: files may repeat themselves.
fn grpc_codes(codes: &[hale_crds::GrpcCode]) -> Vec<u32> {
    let numbers: BTreeSet<u32> = codes.iter().map(|code| code.number()).collect();
    numbers.into_iter().collect()
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn timeouts(section: &hale_crds::Timeouts) -> Judged<Timeouts> {
    let deadline = |field, text: &hale_crds::Duration| {
        duration(field, text, Duration::ZERO..=DAY)
            .map(|value| Some(value).filter(|value| !value.is_zero()))
    };
    Ok(Timeouts {
        connect: deadline("timeouts.connect", &section.connect)?,
        request: deadline("timeouts.request", &section.request)?,
        backend_request: deadline("timeouts.backendRequest", &section.backend_request)?,
        idle: deadline("timeouts.idle", &section.idle)?,
    })
}

fn duration(
    field: &str,
    text: &hale_crds::Duration,
    range: RangeInclusive<Duration>,
) -> Judged<Duration> {
    let value = text.parse().map_err(|error| format!("{field}: {error}"))?;
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(format!(
            "{field}: {} is not within {:?} and {:?}",
            text.as_str(),
            range.start(),
            range.end()
        ))
    }
}

fn number<T: TryFrom<i32>>(field: &str, value: i32, range: RangeInclusive<i32>) -> Judged<T> {
    T::try_from(value)
        .ok()
        .filter(|_| range.contains(&value))
        .ok_or_else(|| {
            format!(
                "{field}: {value} is not within {} and {}",
                range.start(),
                range.end()
            )
        })
}

fn percent(field: &str, value: i32) -> Judged<Percent> {
    u8::try_from(value)
        .ok()
        .and_then(Percent::new)
        .ok_or_else(|| format!("{field}: {value} is not within 0 and 100"))
}
