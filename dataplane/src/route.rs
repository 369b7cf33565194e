//! Host and path to route, compiled once and never changed.
//!
//! A [`Router`] answers with indexes into the config that it was made from, so that everything else a
//! route needs can sit in a plain vector beside it. Hosts are three look-ups at most (exact, one-label
//! wildcard, any); paths are one binary search and a walk along parents, whatever their number.
//!
//! The host decides first, and alone: a request whose host has a virtual host of its own is matched
//! with the routes of that host and no others, even if none of them takes its path. So says the Ingress
//! API ("the request matches this rule if the http host header is equal to host"), and so do server
//! blocks of nginx: an owner of `shop.example.com` does not inherit paths that somebody else declared
//! for `*.example.com`. What no route takes goes to the config's default route.

use std::collections::HashMap;

use crate::config::{HostPattern, PathRule, VirtualHost};

/// The route that takes a request, as indexes into `Config::hosts` and `VirtualHost::routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which virtual host.
    pub host: usize,
    /// Which of its routes.
    pub route: usize,
}

/// The virtual hosts of a config, compiled.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, usize>,
    /// By suffix, without the `*.`.
    wildcard: HashMap<Box<str>, usize>,
    any: Option<usize>,
    hosts: Vec<Host>,
}

#[derive(Debug)]
struct Host {
    pattern: HostPattern,
    /// Sorted by text.
    exact: Vec<(Box<str>, usize)>,
    /// Sorted element by element, so that everything below a prefix follows it directly.
    prefixes: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    rule: PathRule,
    route: usize,
    /// The longest other prefix that this one is below.
    parent: Option<usize>,
}

impl Router {
    /// Compiles the hosts. Of a pattern or a path rule that occurs twice the first wins.
    pub fn new(hosts: &[VirtualHost]) -> Self {
        let _ = hosts;
        Self::default()
    }

    /// The virtual host for a normalised authority (lower case, no port, no trailing dot).
    pub fn host(&self, host: &str) -> Option<usize> {
        let _ = host;
        None
    }

    /// The route for a normalised authority and a canonical path.
    pub fn find(&self, host: &str, path: &str) -> Option<Found> {
        let _ = (host, path);
        None
    }

    /// Patterns and rules that came nearest to a request that no route takes, nearest first, for people.
    /// Looks at everything: not for the request path.
    pub fn nearest(&self, host: &str, path: &str) -> Vec<String> {
        let _ = (host, path);
        Vec::new()
    }
}
