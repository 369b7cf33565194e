//! The path rules of one host, searched in the time of one binary search.

use std::{cmp::Ordering, fmt};

use crate::config::PathRule;

/// Path rules, compiled.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Sorted by text.
    exact: Vec<(Box<str>, usize)>,
    /// Sorted element by element, so that everything below a prefix follows it directly.
    prefixes: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    route: usize,
    /// The longest other prefix that this one is below.
    parent: Option<usize>,
}

/// A rule, for people.
#[derive(Debug)]
pub(super) enum Rule<'a> {
    Exact(&'a str),
    Prefix(&'a str),
}

impl Rule<'_> {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
        }
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "= {text}"),
            Self::Prefix(text) => write!(f, "{text}/*"),
        }
    }
}

impl Paths {
    /// Compiles rules; the position of each is its route.
    pub(super) fn new<'a>(rules: impl Iterator<Item = &'a PathRule>) -> Self {
        let mut paths = Self::default();
        for (route, rule) in rules.enumerate() {
            match rule {
                PathRule::Exact(text) => paths.exact.push((text.as_str().into(), route)),
                PathRule::Prefix(text) => paths.prefixes.push(Prefix {
                    text: text.as_str().into(),
                    route,
                    parent: None,
                }),
            }
        }
        // Both sorts are stable and the first of equals is kept.
        paths.exact.sort_by(|(a, _), (b, _)| a.cmp(b));
        paths.exact.dedup_by(|(b, _), (a, _)| a == b);
        paths.prefixes.sort_by(|a, b| by_element(&a.text, &b.text));
        paths.prefixes.dedup_by(|b, a| a.text == b.text);
        for index in 1..paths.prefixes.len() {
            let parent = paths.covering(Some(index - 1), &paths.prefixes[index].text);
            paths.prefixes[index].parent = parent;
        }
        paths
    }

    /// The route for a canonical path: an exact rule, else the longest prefix.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        if let Ok(index) = self.exact.binary_search_by(|(text, _)| (**text).cmp(path)) {
            return self.exact.get(index).map(|(_, route)| *route);
        }
        // The longest prefix that takes the path is the greatest one that is not after it, or an ancestor
        // of that one: whatever sorts between a prefix and something below it is below it, too.
        let after = self
            .prefixes
            .partition_point(|prefix| by_element(&prefix.text, path) != Ordering::Greater);
        let index = self.covering(after.checked_sub(1), path)?;
        self.prefixes.get(index).map(|prefix| prefix.route)
    }

    /// `start` or the nearest of its ancestors that takes the path.
    fn covering(&self, start: Option<usize>, path: &str) -> Option<usize> {
        let mut next = start;
        while let Some(index) = next {
            let prefix = self.prefixes.get(index)?;
            if takes(&prefix.text, path) {
                return Some(index);
            }
            next = prefix.parent;
        }
        None
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        let exact = self.exact.iter().map(|(text, _)| Rule::Exact(text));
        let prefixes = self
            .prefixes
            .iter()
            .map(|prefix| Rule::Prefix(&prefix.text));
        exact.chain(prefixes)
    }
}

fn takes(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Compares element by element: as bytes, with `/` before every other byte.
fn by_element(a: &str, b: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    for (x, y) in a.bytes().zip(b.bytes()) {
        if x != y {
            return rank(x).cmp(&rank(y));
        }
    }
    a.len().cmp(&b.len())
}
