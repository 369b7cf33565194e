//! Paths that everybody may have.

use crate::{config::PathRule, sanitize};

/// Whether a canonical path is exempt. A path with `;parameters` must be exempt however servers read them:
/// some read `/public/..;/admin` as `/admin`.
pub(super) fn is_exempt(rules: &[PathRule], path: &str) -> bool {
    let exempt = |path: &str| rules.iter().any(|rule| rule.takes(path));
    if rules.is_empty() || !exempt(path) {
        return false;
    }
    sanitize::readings(path).is_ok_and(|readings| readings.iter().all(|reading| exempt(reading)))
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
        for path in ["/public", "/public/a", "/public/a;v=1", "/healthz"] {
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
        ] {
            assert!(!is_exempt(&rules, path), "{path}");
        }
        assert!(!is_exempt(&[], "/healthz"));
    }
}
