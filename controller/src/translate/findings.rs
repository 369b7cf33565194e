//! Findings as they are collected.

use std::collections::BTreeSet;

use hale_dataplane::config::ObjectRef;

use crate::finding::{Finding, FindingReason, Severity};

/// A set: the same problem met twice is told once.
#[derive(Default)]
pub(super) struct Findings(BTreeSet<Finding>);

impl Findings {
    /// Adds one.
    pub(super) fn add(
        &mut self,
        object: ObjectRef,
        reason: FindingReason,
        severity: Severity,
        message: String,
    ) {
        self.0.insert(Finding {
            object,
            reason,
            severity,
            message,
        });
    }

    /// Sorted by object.
    pub(super) fn into_sorted(self) -> Vec<Finding> {
        self.0.into_iter().collect()
    }
}
