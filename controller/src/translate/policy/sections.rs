//! The sections of a policy, judged and turned into what the dataplane takes.
//!
//! The API server has checked most of this already; files and older definitions have not. Each section
//! is judged by itself, so that a typo in one does not switch the others off.

mod balance;
mod limits;
mod passive;
mod session;

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive, time::Duration};

use hale_crds::{
    ActiveCheck, CheckPort, ExpectedBody, Failure, GrpcCheck, HealthCheck, HttpCheck, TcpCheck,
    UpstreamPolicySpec,
};
use hale_dataplane::config::{
    self, BodyMatch, CheckKind, HealthPolicy, Percent, RetryOn, StatusRange, Timeouts,
    UpstreamLimits,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

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
        Some(port) => Some(check_at(port)?),
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
            active: section.active.as_ref().map(active).transpose()?,
            passive: section.passive.as_ref().map(passive::passive).transpose()?,
        },
        check_at,
    })
}

fn check_at(port: &CheckPort) -> Judged<CheckAt> {
    match &port.0 {
        IntOrString::Int(value) => {
            number("healthCheck.active.port", *value, 1..=65535).map(CheckAt::Number)
        }
        IntOrString::String(name) => Ok(CheckAt::Name(name.clone())),
    }
}

fn active(check: &ActiveCheck) -> Judged<config::ActiveCheck> {
    let interval = duration(
        "healthCheck.active.interval",
        &check.interval,
        Duration::from_millis(100)..=Duration::from_secs(3600),
    )?;
    let timeout = match &check.timeout {
        Some(timeout) => duration(
            "healthCheck.active.timeout",
            timeout,
            Duration::from_millis(10)..=interval,
        )?,
        None => interval.min(Duration::from_secs(2)),
    };
    Ok(config::ActiveCheck {
        kind: check_kind(check)?,
        interval,
        timeout,
        jitter: percent("healthCheck.active.jitterPercent", check.jitter_percent)?,
        unhealthy_threshold: number(
            "healthCheck.active.unhealthyThreshold",
            check.unhealthy_threshold,
            1..=100,
        )?,
        healthy_threshold: number(
            "healthCheck.active.healthyThreshold",
            check.healthy_threshold,
            1..=100,
        )?,
        initial: match check.initial {
            hale_crds::Initial::Checking => config::Initial::Checking,
            hale_crds::Initial::Healthy => config::Initial::Healthy,
        },
    })
}

/// The one branch of the union that is set.
fn check_kind(check: &ActiveCheck) -> Judged<CheckKind> {
    let http = check.http.as_ref().map(http_check);
    let grpc = check.grpc.as_ref().map(grpc_check);
    let tcp = check.tcp.as_ref().map(|tcp| Ok(tcp_check(tcp)));
    let mut kinds = [http, grpc, tcp].into_iter().flatten();
    match (kinds.next(), kinds.next()) {
        (Some(kind), None) => kind,
        _ => Err("healthCheck.active: set exactly one of http, grpc and tcp".to_owned()),
    }
}

fn tcp_check(check: &TcpCheck) -> CheckKind {
    CheckKind::Tcp(config::TcpCheck {
        send: check.send.clone(),
        receive: check.receive.clone(),
    })
}

fn grpc_check(check: &GrpcCheck) -> Judged<CheckKind> {
    let service = &check.service;
    if service.len() > 253 || !service.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "healthCheck.active.grpc.service: {service:?} is not the name of a gRPC service: up to 253 characters \
             of ASCII, without spaces"
        ));
    }
    Ok(CheckKind::Grpc(config::GrpcCheck {
        service: service.clone(),
    }))
}

fn http_check(check: &HttpCheck) -> Judged<CheckKind> {
    let wrong =
        |field: &str, error: &dyn Display| Err(format!("healthCheck.active.http.{field}: {error}"));
    if let Err(error) = http::Method::from_bytes(check.method.as_bytes()) {
        return wrong("method", &error);
    }
    if !check.path.starts_with('/') {
        return wrong("path", &"must begin with '/'");
    }
    if let Err(error) = check.path.parse::<http::uri::PathAndQuery>() {
        return wrong("path", &error);
    }
    if let Some(host) = &check.host
        && let Err(error) = host.parse::<http::uri::Authority>()
    {
        return wrong("host", &error);
    }
    for header in &check.headers {
        if let Err(error) = http::HeaderName::from_bytes(header.name.as_bytes()) {
            return wrong("headers", &error);
        }
        if let Err(error) = http::HeaderValue::from_str(&header.value) {
            return wrong("headers", &error);
        }
    }
    Ok(CheckKind::Http(config::HttpCheck {
        method: check.method.clone(),
        path: check.path.clone(),
        host: check.host.clone(),
        headers: check
            .headers
            .iter()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
        expected_statuses: check
            .expected_statuses
            .iter()
            .map(|text| status_range(text))
            .collect::<Judged<_>>()?,
        expected_body: check.expected_body.as_ref().map(body_match).transpose()?,
    }))
}

fn status_range(text: &str) -> Judged<StatusRange> {
    let status = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|status| (100..=599).contains(status))
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (status(from), status(to)) {
        (Some(from), Some(to)) if from <= to => Ok(StatusRange { from, to }),
        _ => Err(format!(
            "healthCheck.active.http.expectedStatuses: {text:?} is not a status or a range as in 200-299"
        )),
    }
}

fn body_match(body: &ExpectedBody) -> Judged<BodyMatch> {
    match (&body.contains, &body.regex) {
        (Some(text), None) => Ok(BodyMatch::Contains(text.clone())),
        (None, Some(regex)) => regex::bytes::RegexBuilder::new(regex)
            .size_limit(REGEX_BYTES)
            .build()
            .map(|_| BodyMatch::Regex(regex.clone()))
            .map_err(|error| {
                // Several lines, of which the last says it.
                let words = error.to_string();
                let words = words.lines().last().unwrap_or_default();
                let words = words.trim_start_matches("error: ");
                format!("healthCheck.active.http.expectedBody.regex {regex:?}: {words}")
            }),
        _ => Err(
            "healthCheck.active.http.expectedBody: set exactly one of contains and regex"
                .to_owned(),
        ),
    }
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

/// What a compiled expression may take: the dataplane's own limit.
const REGEX_BYTES: usize = 256 * 1024;

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
