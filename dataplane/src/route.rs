//! Host and path to route, compiled once and never changed.
//!
//! A [`Router`] answers with indexes into the config that it was made from, so that everything else a
//! route needs can sit in a plain vector beside it. Hosts are three look-ups at most (exact, one-label
//! wildcard, any); paths are one binary search and a walk along parents, whatever their number.
//!
//! The host decides first, and alone: a request whose host has a virtual host of its own is matched
//! with the routes of that host and no others, even if none of them takes its path. So says the Ingress
//! API ("the request matches this rule if the http host header is equal to host"), and so do server
//! blocks of nginx: the owner of `shop.example.com` does not inherit paths that somebody else declared
//! for `*.example.com`. What no route takes goes to the config's default route.

use std::{cmp::Reverse, collections::HashMap};

use crate::config::{HostPattern, VirtualHost};

use paths::Paths;

mod paths;

/// The route that takes a request, as indexes into `Config::hosts` and `VirtualHost::routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which virtual host.
    pub host: usize,
    /// Which of its routes.
    pub route: usize,
}

/// The virtual hosts of a config, compiled.
#[derive(Debug, Default)]
pub(crate) struct Router {
    exact: HashMap<Box<str>, usize>,
    /// By suffix, without the `*.`.
    wildcard: HashMap<Box<str>, usize>,
    any: Option<usize>,
    hosts: Vec<Host>,
}

#[derive(Debug)]
struct Host {
    pattern: HostPattern,
    paths: Paths,
}

/// How many patterns or rules [`Router::nearest`] tells at most.
const NEAREST: usize = 5;

impl Router {
    /// Compiles the hosts. Of a pattern or a path rule that occurs twice the first wins.
    pub(crate) fn new(hosts: &[VirtualHost]) -> Self {
        let mut router = Self::default();
        for (index, host) in hosts.iter().enumerate() {
            match &host.host {
                HostPattern::Exact(name) => {
                    router.exact.entry(name.as_str().into()).or_insert(index);
                }
                HostPattern::Wildcard(suffix) => {
                    router
                        .wildcard
                        .entry(suffix.as_str().into())
                        .or_insert(index);
                }
                HostPattern::Any => {
                    router.any.get_or_insert(index);
                }
            }
            router.hosts.push(Host {
                pattern: host.host.clone(),
                paths: Paths::new(host.routes.iter().map(|route| &route.path)),
            });
        }
        router
    }

    /// The virtual host for a normalised authority (lower case, no port, no trailing dot).
    pub(crate) fn host(&self, host: &str) -> Option<usize> {
        if let Some(index) = self.exact.get(host) {
            return Some(*index);
        }
        if !self.wildcard.is_empty()
            && let Some((label, suffix)) = host.split_once('.')
            && !label.is_empty()
            && let Some(index) = self.wildcard.get(suffix)
        {
            return Some(*index);
        }
        self.any
    }

    /// The route for a normalised authority and a canonical path.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<Found> {
        let host = self.host(host)?;
        let route = self.hosts.get(host)?.paths.find(path)?;
        Some(Found { host, route })
    }

    /// Patterns and rules that came nearest to a request that no route takes, nearest first, for people.
    /// Looks at everything: not for the request path.
    pub(crate) fn nearest(&self, host: &str, path: &str) -> Vec<String> {
        let Some(host) = self.host(host).and_then(|index| self.hosts.get(index)) else {
            return self.nearest_hosts(host);
        };
        let mut rules: Vec<_> = host.paths.rules().collect();
        rules.sort_by_key(|rule| Reverse(shared(rule.text(), path)));
        rules.truncate(NEAREST);
        rules
            .iter()
            .map(|rule| format!("{} {rule}", host.pattern))
            .collect()
    }

    fn nearest_hosts(&self, wanted: &str) -> Vec<String> {
        let mut patterns: Vec<String> = self
            .hosts
            .iter()
            .map(|host| host.pattern.to_string())
            .collect();
        patterns.sort_by_cached_key(|pattern| distance(pattern, wanted));
        patterns.truncate(NEAREST);
        patterns
    }
}

/// How many leading bytes are the same.
fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Edit distance (Levenshtein), one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let best = (diagonal + usize::from(x != y))
                .min(left + 1)
                .min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Action, ObjectRef, PathRule, Problem, RequestPolicy, Route};
    use crate::reason::Reason;

    fn route(path: PathRule) -> Route {
        Route {
            https_redirect: false,
            path,
            source: ObjectRef {
                kind: "Ingress",
                namespace: "shop".into(),
                name: "web".into(),
            },
            action: Action::Reject(Problem {
                reason: Reason::NotAccepted,
                message: String::new(),
            }),
            policy: RequestPolicy::default(),
        }
    }

    fn hosts(list: &[(&str, &[&str])]) -> Vec<VirtualHost> {
        list.iter()
            .map(|(host, paths)| VirtualHost {
                host: HostPattern::parse(host).unwrap(),
                routes: paths
                    .iter()
                    .map(|path| {
                        route(match path.strip_prefix('=') {
                            Some(path) => PathRule::exact(path).unwrap(),
                            None => PathRule::prefix(path).unwrap(),
                        })
                    })
                    .collect(),
            })
            .collect()
    }

    /// The rule in words of the Ingress API, without an index.
    fn naive(hosts: &[VirtualHost], host: &str, path: &str) -> Option<Found> {
        let takes = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(name) => name.as_str() == host,
            HostPattern::Wildcard(suffix) => host
                .strip_suffix(suffix.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
            HostPattern::Any => true,
        };
        let (index, host) = hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| takes(&host.host))
            .min_by(|(_, a), (_, b)| a.host.cmp(&b.host))?;
        let (route, _) = host
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.path.takes(path))
            .min_by(|(_, a), (_, b)| a.path.cmp(&b.path))?;
        Some(Found { host: index, route })
    }

    fn at(router: &Router, host: &str, path: &str) -> Option<(usize, usize)> {
        router
            .find(host, path)
            .map(|found| (found.host, found.route))
    }

    #[test]
    fn the_most_specific_host_decides_alone() {
        let router = Router::new(&hosts(&[
            ("a.example.com", &["/only"]),
            ("*.example.com", &["/"]),
            ("", &["/"]),
        ]));
        assert_eq!(at(&router, "a.example.com", "/only/x"), Some((0, 0)));
        assert_eq!(
            at(&router, "a.example.com", "/else"),
            None,
            "no fall-through"
        );
        assert_eq!(at(&router, "b.example.com", "/else"), Some((1, 0)));
        assert_eq!(
            at(&router, "b.a.example.com", "/"),
            Some((2, 0)),
            "one label"
        );
        assert_eq!(
            at(&router, "example.com", "/"),
            Some((2, 0)),
            "at least one label"
        );
        assert_eq!(at(&router, ".example.com", "/"), Some((2, 0)));
        assert_eq!(at(&router, "[::1]", "/"), Some((2, 0)));
    }

    #[test]
    fn paths_follow_the_table_of_the_ingress_api() {
        for (rules, path, wanted) in [
            (vec!["/"], "/any/path", Some(0)),
            (vec!["=/foo"], "/foo", Some(0)),
            (vec!["=/foo"], "/bar", None),
            (vec!["=/foo"], "/foo/", None),
            (vec!["=/foo/"], "/foo", None),
            (vec!["/foo"], "/foo", Some(0)),
            (vec!["/foo"], "/foo/", Some(0)),
            (vec!["/foo/"], "/foo", Some(0)),
            (vec!["/aaa/bb"], "/aaa/bbb", None),
            (vec!["/aaa/bbb"], "/aaa/bbb/ccc", Some(0)),
            (vec!["/aaa/bbb"], "/aaa/bbbxyz", None),
            (vec!["/", "/aaa"], "/aaa/ccc", Some(1)),
            (vec!["/", "/aaa"], "/ccc", Some(0)),
            (vec!["/aaa", "/", "/aaa/bbb"], "/aaa/bbb", Some(2)),
            (vec!["/foo", "=/foo"], "/foo", Some(1)),
            (vec!["/a-b", "/a", "/a/b"], "/a/c", Some(1)),
            (vec!["/a-b", "/a", "/a/b"], "/a-b/c", Some(0)),
            (vec!["/foo", "/foo"], "/foo", Some(0)),
            (vec![], "/", None),
        ] {
            let router = Router::new(&hosts(&[("", &rules)]));
            let found = router.find("x", path).map(|found| found.route);
            assert_eq!(found, wanted, "{rules:?} {path}");
        }
    }

    #[test]
    fn nearest_names_what_a_person_may_have_meant() {
        let router = Router::new(&hosts(&[
            ("blog.example.com", &["/"]),
            ("shop.example.com", &["/cart", "/checkout"]),
        ]));
        let hosts = router.nearest("shpo.example.com", "/");
        assert_eq!(hosts.first().unwrap(), "shop.example.com");
        let rules = router.nearest("shop.example.com", "/check-out");
        assert_eq!(rules.first().unwrap(), "shop.example.com /checkout/*");
    }

    fn any_host() -> impl Strategy<Value = String> {
        proptest::string::string_regex("(\\*\\.)?[ab](\\.[ab]){0,2}|").unwrap()
    }

    fn any_path() -> impl Strategy<Value = String> {
        proptest::string::string_regex("(/[ab.!~-]{1,2}){0,4}/?")
            .unwrap()
            .prop_map(|path| if path.is_empty() { "/".into() } else { path })
    }

    fn any_rule() -> impl Strategy<Value = PathRule> {
        (any::<bool>(), any_path()).prop_filter_map("dot segments", |(exact, path)| {
            if exact {
                PathRule::exact(&path).ok()
            } else {
                PathRule::prefix(&path).ok()
            }
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_matcher(
            list in prop::collection::vec((any_host(), prop::collection::vec(any_rule(), 0..12)), 0..8),
            requests in prop::collection::vec(("[ab](\\.[ab]){0,3}", any_path()), 1..20),
        ) {
            let hosts: Vec<VirtualHost> = list
                .into_iter()
                .map(|(host, rules)| VirtualHost {
                    host: HostPattern::parse(&host).unwrap(),
                        routes: rules.into_iter().map(route).collect(),
                })
                .collect();
            let router = Router::new(&hosts);
            for (host, path) in requests {
                prop_assert_eq!(router.find(&host, &path), naive(&hosts, &host, &path), "{} {}", host, path);
            }
        }
    }
}
