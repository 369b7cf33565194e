//! Paths that everybody may have.

use crate::{
    config::PathRule,
    sanitize::{self, PathError},
};

/// Whether a canonical path is exempt, however servers read it: some read `/public/..;/admin` as `/admin`.
pub(super) fn is_exempt(rules: &[PathRule], path: &str) -> bool {
    if rules.is_empty() {
        return false;
    }
    let exempt = |reading: &str| match rules.iter().any(|rule| rule.takes(reading)) {
        true => Ok(()),
        false => Err(NotExempt),
    };
    sanitize::visit_readings(path, exempt).is_ok()
}

/// Some reading is not exempt, or there are too many.
struct NotExempt;

impl From<PathError> for NotExempt {
    fn from(_: PathError) -> Self {
        Self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parameters_do_not_make_a_path_exempt() {
        let rules = [
            PathRule::prefix("/public").unwrap(),
            PathRule::exact("/healthz").unwrap(),
        ];
        for path in [
            "/public",
            "/public/a",
            "/public/a;v=1",
            "/public/a%2Fb",
            "/public//a",
            "/public/a%3Fb",
            "/healthz",
        ] {
            assert!(is_exempt(&rules, path), "{path}");
        }
        for path in [
            "/",
            "/publicity",
            "/public/..;/admin",
            "/public/..;a=b/admin",
            "/public;/../admin",
            "/public/x/..;/..;/admin",
            "/public/..%3B/admin",
            "/public/x/..%3B/..%3Bv=1/admin",
            "/healthz;a",
            "/healthz/",
            "/admin;/public",
            "//admin//public",
            "/public%2F/../admin",
            "/admin%3F/public",
            "/healthz%2Fx",
            "/healthz%3Fx/../y",
        ] {
            assert!(!is_exempt(&rules, path), "{path}");
        }
        assert!(!is_exempt(&[], "/healthz"));
    }
}
