//! `spec.healthCheck.active`.

use std::{fmt::Display, time::Duration};

use hale_crds::{ActiveCheck, CheckPort, ExpectedBody, GrpcCheck, HttpCheck, TcpCheck};
use hale_dataplane::config::{self, BodyMatch, CheckKind, StatusRange};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Judged, duration, number, percent};
use crate::translate::endpoints::CheckAt;

/// What a compiled expression may take: the dataplane's own limit.
const REGEX_BYTES: usize = 256 * 1024;

pub(super) fn check_at(port: &CheckPort) -> Judged<CheckAt> {
    match &port.0 {
        IntOrString::Int(value) => {
            number("healthCheck.active.port", *value, 1..=65535).map(CheckAt::Number)
        }
        IntOrString::String(name) => Ok(CheckAt::Name(name.clone())),
    }
}

pub(super) fn active(check: &ActiveCheck) -> Judged<config::ActiveCheck> {
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
    let own = check.from_readiness_probe.as_ref().map(|_| of_pods(check));
    let mut kinds = [http, grpc, tcp, own].into_iter().flatten();
    match (kinds.next(), kinds.next()) {
        (Some(kind), None) => kind,
        _ => Err(
            "healthCheck.active: set exactly one of http, grpc, tcp and fromReadinessProbe"
                .to_owned(),
        ),
    }
}

/// Pace and port are the probe's; what would be ignored is refused.
fn of_pods(check: &ActiveCheck) -> Judged<CheckKind> {
    let paced = check.interval.as_str() != "5s"
        || check.unhealthy_threshold != 3
        || check.healthy_threshold != 2;
    if paced || check.timeout.is_some() || check.port.is_some() {
        return Err(
            "healthCheck.active.fromReadinessProbe: port, interval, timeout and thresholds are the probe's: leave \
             them out"
                .to_owned(),
        );
    }
    Ok(CheckKind::OfPeer)
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
