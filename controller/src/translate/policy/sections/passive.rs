//! `spec.healthCheck.passive`.

use std::time::Duration;

use hale_crds::PassiveCheck;
use hale_dataplane::config::{self, OutlierPolicy, Percent};

use super::{DAY, Judged, duration, number, percent};

const DEFAULT_MAX_EJECTION: Duration = Duration::from_secs(5 * 60);

pub(super) fn passive(check: &PassiveCheck) -> Judged<OutlierPolicy> {
    let base_ejection = duration(
        "healthCheck.passive.baseEjection",
        &check.base_ejection,
        Duration::from_millis(100)..=DAY,
    )?;
    let max_ejection = match &check.max_ejection {
        Some(max) => duration("healthCheck.passive.maxEjection", max, base_ejection..=DAY)?,
        None => base_ejection.max(DEFAULT_MAX_EJECTION),
    };
    let policy = OutlierPolicy {
        consecutive_errors: number(
            "healthCheck.passive.consecutiveErrors",
            check.consecutive_errors,
            0..=1000,
        )?,
        consecutive_5xx: number(
            "healthCheck.passive.consecutive5xx",
            check.consecutive_5xx,
            0..=1000,
        )?,
        error_percent: check
            .error_percent
            .as_ref()
            .map(error_percent)
            .transpose()?,
        base_ejection,
        max_ejection,
        max_ejected: percent(
            "healthCheck.passive.maxEjectedPercent",
            check.max_ejected_percent,
        )?,
    };
    if policy.consecutive_errors == 0
        && policy.consecutive_5xx == 0
        && policy.error_percent.is_none()
    {
        return Err(
            "healthCheck.passive: no rule is left that ejects: set consecutiveErrors, \
                    consecutive5xx or errorPercent, or remove passive"
                .to_owned(),
        );
    }
    Ok(policy)
}

fn error_percent(share: &hale_crds::ErrorPercent) -> Judged<config::ErrorPercent> {
    let threshold = number(
        "healthCheck.passive.errorPercent.threshold",
        share.threshold,
        1..=100,
    )?;
    Ok(config::ErrorPercent {
        threshold: Percent::new(threshold).unwrap_or_default(),
        min_requests: number(
            "healthCheck.passive.errorPercent.minRequests",
            share.min_requests,
            1..=1_000_000,
        )?,
        window: duration(
            "healthCheck.passive.errorPercent.window",
            &share.window,
            Duration::from_secs(1)..=Duration::from_secs(600),
        )?,
    })
}
