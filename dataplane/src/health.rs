//! Which peers may be picked: Kubernetes' readiness and our own verdicts, merged in one place.

use serde::Serialize;

use crate::config::{HealthPolicy, Initial, Readiness, Terminating};

/// What one source (the active check, the outlier detector) says of a peer. Three values, never a
/// boolean: "not looked yet" is not "healthy". Each verdict has one writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Verdict {
    /// Not looked yet.
    #[default]
    Unknown,
    /// Fine.
    Pass,
    /// Not fine.
    Fail,
}

/// What the sources make together. `Ord`: better is greater; the pick takes the best class that is
/// not empty, and never `Exclude`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Standing {
    /// Not picked.
    Exclude,
    /// Terminating and still serving.
    Draining,
    /// Ready, and not checked yet.
    Unproven,
    /// Ready, and passing what is checked.
    Serve,
}

/// The whole policy of health, as a table.
pub fn standing(
    policy: &HealthPolicy,
    readiness: Readiness,
    probe: Verdict,
    outlier: Verdict,
) -> Standing {
    let unproven = match &policy.active {
        Some(active) if active.initial == Initial::Checking => Standing::Unproven,
        _ => Standing::Serve,
    };
    match (readiness, probe, outlier) {
        (_, Verdict::Fail, _) | (_, _, Verdict::Fail) | (Readiness::Gone, _, _) => {
            Standing::Exclude
        }
        (Readiness::Unready, _, _) if !policy.ignore_readiness => Standing::Exclude,
        (Readiness::Draining, _, _) => match policy.terminating {
            Terminating::LastResort => Standing::Draining,
            Terminating::Never => Standing::Exclude,
        },
        (Readiness::Ready | Readiness::Unready, Verdict::Pass, _) => Standing::Serve,
        (Readiness::Ready | Readiness::Unready, Verdict::Unknown, _) => unproven,
    }
}
