//! Path rules, as Ingress has them, whose order is their precedence.

use std::{cmp::Ordering, fmt};

use serde::{Serialize, Serializer};

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
    Unmatchable(String, &'static str),
}

impl PathRule {
    /// An exact rule.
    pub fn exact(path: &str) -> Result<Self, PathError> {
        check(path)?;
        Ok(Self::Exact(path.to_owned()))
    }

    /// A prefix rule; trailing slashes do not matter.
    pub fn prefix(path: &str) -> Result<Self, PathError> {
        check(path.trim_end_matches('/')).or_else(|error| {
            if path.starts_with('/') && path.trim_end_matches('/').is_empty() {
                Ok(())
            } else {
                Err(error)
            }
        })?;
        Ok(Self::Prefix(path.trim_end_matches('/').to_owned()))
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

fn check(path: &str) -> Result<(), PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute(path.to_owned()));
    }
    let unmatchable = |why| Err(PathError::Unmatchable(path.to_owned(), why));
    if path.contains("//") {
        return unmatchable("doubled slashes are merged in requests");
    }
    if path
        .split('/')
        .any(|element| element == "." || element == "..")
    {
        return unmatchable("dot segments are resolved in requests");
    }
    Ok(())
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
