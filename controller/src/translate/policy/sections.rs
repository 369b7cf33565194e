//! The sections of a policy, judged and turned into what the dataplane takes.
//!
//! The API server has checked most of this already; files and older definitions have not. Each section
//! is judged by itself, so that a typo in one does not switch the others off.

mod access;
mod active;
mod balance;
mod cors;
mod limits;
mod passive;
mod rate_limit;
mod requests;
mod session;

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use hale_crds::{HealthCheck, UpstreamPolicySpec};
use hale_dataplane::config::{
    self, AccessRules, Cors, HealthPolicy, ObjectRef, PathHandling, Percent, RateLimit, Timeouts,
    UpstreamLimits,
};

use crate::{
    cluster::Cluster,
    settings::{ObjectKey, Settings},
    translate::endpoints::CheckAt,
};

use super::{
    auth::{self, Guard},
    section::Section,
    tls::{self, TlsParts},
};

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
    pub(super) path: Option<PathHandling>,
    pub(super) auth: Option<Guard>,
    pub(super) access: Option<Judged<Arc<AccessRules>>>,
    pub(super) rate_limit: Option<Judged<Arc<RateLimit>>>,
    pub(super) cors: Option<Judged<Arc<Cors>>>,
}

/// Where a policy is, and what it may refer to.
pub(super) struct Place<'a> {
    pub(super) policy: ObjectRef,
    pub(super) cluster: &'a Cluster,
    pub(super) settings: &'a Settings,
}

impl Place<'_> {
    /// An object of the policy's namespace: a reference cannot leave it.
    pub(super) fn own(&self, name: &str) -> ObjectKey {
        ObjectKey::new(&*self.policy.namespace, name)
    }
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
    pub(super) fn read(spec: &UpstreamPolicySpec, place: &Place<'_>) -> Self {
        let source = &place.policy;
        let tls = spec.tls.as_ref();
        let replicas = place.cluster.replicas();
        Self {
            health_check: spec.health_check.as_ref().map(health_check),
            load_balancer: spec.load_balancer.as_ref().map(balance::balancing),
            session: spec.session_persistence.as_ref().map(session::session),
            circuit_breaker: spec.circuit_breaker.as_ref().map(limits::limits),
            tls: tls.map(|tls| tls::read(tls, &source.namespace, place.cluster)),
            retry: spec.retry.as_ref().map(requests::retry),
            timeouts: spec.timeouts.as_ref().map(requests::timeouts),
            path: spec.path.as_ref().map(requests::path),
            auth: spec.auth.as_ref().map(|it| auth::read(it, place)),
            access: spec.access.as_ref().map(|it| access::read(it, source)),
            rate_limit: (spec.rate_limit.as_ref()).map(|it| rate_limit::read(it, source, replicas)),
            cors: spec.cors.as_ref().map(|it| cors::read(it, source)),
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
            Section::Path => self.path.is_some(),
            Section::Auth => self.auth.is_some(),
            Section::Access => self.access.is_some(),
            Section::RateLimit => self.rate_limit.is_some(),
            Section::Cors => self.cors.is_some(),
        }
    }

    /// Whether there is a section that only a Service can have.
    pub(super) fn has_peer_sections(&self) -> bool {
        let mut all = Section::ALL.into_iter();
        all.any(|section| section.is_of_peers() && self.has(section))
    }

    /// What to say of a section that refuses requests, because it, or a part of it, cannot be used.
    pub(super) fn refusal(&self, section: Section) -> Option<&'static str> {
        match section {
            Section::Tls if self.tls.as_ref().is_some_and(Result::is_err) => {
                Some("TLS cannot be made, so requests are refused with 503 TlsError")
            }
            Section::Auth if self.auth.as_ref().is_some_and(Guard::is_unusable) => {
                Some("auth cannot be used, so requests are refused with 503 AuthUnavailable")
            }
            Section::Auth if self.auth.iter().any(|auth| !auth.errors.is_empty()) => {
                Some("methods that cannot be used refuse with 503 AuthUnavailable")
            }
            Section::Access if self.access.as_ref().is_some_and(Result::is_err) => {
                Some("access cannot be used, so requests are refused with 503 NotAccepted")
            }
            _ => None,
        }
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
            self.access.as_ref().and_then(|it| it.as_ref().err()),
            self.rate_limit.as_ref().and_then(|it| it.as_ref().err()),
            self.cors.as_ref().and_then(|it| it.as_ref().err()),
        ]
        .into_iter()
        .flatten()
        .chain(self.auth.iter().flat_map(|auth| &auth.errors))
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

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn duration(
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
