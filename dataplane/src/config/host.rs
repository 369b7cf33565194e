//! Host names and the patterns that take them.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

/// A DNS name in lower case, without a trailing dot or port (RFC 1123).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Hostname(String);

/// What is wrong with a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// Longer than 253 bytes, or empty.
    #[error("{0:?} must have 1 to 253 characters")]
    Length(String),
    /// A label that is empty, too long, or has characters other than letters, digits and `-`.
    #[error("{0:?} is not a DNS name: each label has 1 to 63 letters, digits or inner hyphens")]
    Label(String),
    /// A `*` that is not the whole first label of at least two.
    #[error("{0:?}: a wildcard must be the whole first label, as in *.example.com")]
    Wildcard(String),
}

impl Hostname {
    /// Lower-cases, drops one trailing dot and checks the labels.
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return Err(HostnameError::Length(text.to_owned()));
        }
        if name.split('.').all(is_label) {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(HostnameError::Label(text.to_owned()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which hosts a rule is for. Ordered by precedence: the first that matches wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host alone.
    Exact(Hostname),
    /// `*.suffix`: any one label before the suffix, as Ingress has it.
    Wildcard(Hostname),
    /// Every host.
    Any,
}

impl HostPattern {
    /// Reads an Ingress host: empty is every host, `*.x` a wildcard, else exact.
    pub fn parse(text: &str) -> Result<Self, HostnameError> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) if !suffix.contains('*') => Ok(Self::Wildcard(Hostname::parse(suffix)?)),
            _ if text.contains('*') => Err(HostnameError::Wildcard(text.to_owned())),
            _ => Ok(Self::Exact(Hostname::parse(text)?)),
        }
    }

    /// As it is written in an Ingress; `*` for every host.
    pub fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Exact(name) => Cow::Borrowed(name.as_str()),
            Self::Wildcard(suffix) => Cow::Owned(format!("*.{suffix}")),
            Self::Any => Cow::Borrowed("*"),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_text())
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
