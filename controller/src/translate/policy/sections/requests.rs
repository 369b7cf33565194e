//! `spec.retry`, `spec.timeouts` and `spec.path`.

use std::{collections::BTreeSet, time::Duration};

use hale_crds::Failure;
use hale_dataplane::config::{
    self, EscapedSlashes, PathHandling, RepeatedSlashes, RetryOn, Timeouts,
};

use super::{DAY, Judged, duration, number, percent};

pub(super) fn retry(section: &hale_crds::Retry) -> Judged<config::Retry> {
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

pub(super) fn path(section: &hale_crds::Path) -> PathHandling {
    PathHandling {
        escaped_slashes: match section.escaped_slashes {
            hale_crds::EscapedSlashes::Keep => EscapedSlashes::Keep,
            hale_crds::EscapedSlashes::Reject => EscapedSlashes::Reject,
            hale_crds::EscapedSlashes::Decode => EscapedSlashes::Decode,
        },
        repeated_slashes: match section.repeated_slashes {
            hale_crds::RepeatedSlashes::Keep => RepeatedSlashes::Keep,
            hale_crds::RepeatedSlashes::Merge => RepeatedSlashes::Merge,
        },
    }
}

pub(super) fn timeouts(section: &hale_crds::Timeouts) -> Judged<Timeouts> {
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
