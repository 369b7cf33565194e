//! Path rules, as Ingress has them, whose order is their precedence.

use std::{cmp::Ordering, fmt};

use serde::{Serialize, Serializer};

use crate::sanitize::{canonical_path, comparable};

/// Which paths a rule takes. `Ord` is precedence: the least that matches wins, which is Exact before
/// Prefix and a longer prefix before a shorter one (Ingress API, "Multiple matches").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathRule {
    /// This path, byte for byte.
    Exact(String),
    /// This path and everything below it, element by element; kept without its trailing slashes, so
    /// `/` is the empty string and takes every path.
    Prefix(String),
}

/// What is wrong with a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("path {0:?} must begin with '/'")]
    NotAbsolute(String),
    /// No request can have it: requests' paths are made canonical before they are matched.
    #[error("path {0:?} can never match: {1}")]
    Unmatchable(String, String),
}

impl PathRule {
    /// An exact rule. The path is made canonical as requests' paths are.
    pub fn exact(path: &str) -> Result<Self, PathError> {
        Ok(Self::Exact(canonical(path)?))
    }

    /// A prefix rule; trailing slashes do not matter.
    pub fn prefix(path: &str) -> Result<Self, PathError> {
        let mut prefix = canonical(path)?;
        prefix.truncate(prefix.trim_end_matches('/').len());
        Ok(Self::Prefix(prefix))
    }

    /// Whether the rule takes this canonical path.
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == path,
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

/// The form in which requests' paths are matched. What a person writes plainly (`/straße`) is escaped first,
/// as browsers do.
fn canonical(path: &str) -> Result<String, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute(path.to_owned()));
    }
    let unmatchable = |why: String| PathError::Unmatchable(path.to_owned(), why);
    let elements = path.trim_end_matches('/').split('/').skip(1);
    if elements.clone().any(str::is_empty) {
        return Err(unmatchable(
            "repeated slashes are compared merged".to_owned(),
        ));
    }
    if elements
        .clone()
        .any(|element| element == "." || element == "..")
    {
        return Err(unmatchable(
            "dot segments are resolved in requests".to_owned(),
        ));
    }
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    let text = canonical_path(&escaped).map_err(|error| unmatchable(error.to_string()))?;
    if text.contains("%2F") {
        return Err(unmatchable(
            "encoded slashes are compared decoded".to_owned(),
        ));
    }
    Ok(comparable(&text))
}

impl Ord for PathRule {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a.cmp(b),
            (Self::Exact(_), Self::Prefix(_)) => Ordering::Less,
            (Self::Prefix(_), Self::Exact(_)) => Ordering::Greater,
            (Self::Prefix(a), Self::Prefix(b)) => b.len().cmp(&a.len()).then_with(|| a.cmp(b)),
        }
    }
}

impl PartialOrd for PathRule {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "= {path}"),
            Self::Prefix(prefix) => write!(f, "{prefix}/*"),
        }
    }
}

impl Serialize for PathRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn exact(path: &str) -> String {
        PathRule::exact(path).map_or_else(|error| error.to_string(), |rule| rule.to_string())
    }

    #[test]
    fn rules_have_the_form_of_requests() {
        assert_eq!(exact("/%7eann"), "= /~ann");
        assert_eq!(exact("/%40ann/%7Bx%7D"), "= /@ann/{x}");
        assert_eq!(exact("/stra\u{df}e/a b"), "= /stra%C3%9Fe/a%20b");
        assert_eq!(exact("/%c3%9f"), "= /%C3%9F");
        assert_eq!(
            PathRule::prefix("/a//").unwrap(),
            PathRule::Prefix("/a".into())
        );
        assert_eq!(
            PathRule::prefix("/").unwrap(),
            PathRule::Prefix(String::new())
        );
    }

    #[test]
    fn rules_that_no_request_can_have_are_refused() {
        for path in [
            "a", "", "/a//b", "/a/../b", "/a/./b", "/a%2fb", "/a%zz", "/a\\b",
        ] {
            assert!(PathRule::exact(path).is_err(), "{path}");
        }
    }

    #[test]
    fn exact_goes_before_prefix_and_long_before_short() {
        let prefix = |path| PathRule::prefix(path).unwrap();
        let mut rules = [
            prefix("/"),
            prefix("/a"),
            prefix("/a/b"),
            PathRule::exact("/a").unwrap(),
        ];
        rules.sort();
        let order: Vec<String> = rules.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["= /a", "/a/b/*", "/a/*", "/*"]);
    }
}
