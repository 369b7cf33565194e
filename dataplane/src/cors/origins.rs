//! Which origins a list has. Exact ones are a set; those with a `*` are sets of host endings, by scheme and port,
//! in which each ending of a host is looked up: the work is that of the host's labels, not of the list.

use std::collections::{HashMap, HashSet};

/// Hosts are at most this long (RFC 1035 §2.3.4).
const HOST_LIMIT: usize = 253;

/// A list of origins, compiled.
#[derive(Default)]
pub(super) struct Origins {
    any: bool,
    exact: HashSet<Box<[u8]>>,
    /// Host endings that begin with a dot; the empty one is every host.
    endings: HashMap<Place, HashSet<Box<str>>>,
}

/// Where an origin is, but for its host.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    https: bool,
    port: u16,
}

impl Origins {
    /// Patterns that are none match nothing.
    pub(super) fn compile(patterns: &[String]) -> Self {
        let mut origins = Self::default();
        for pattern in patterns {
            let pattern = pattern.to_ascii_lowercase();
            if pattern == "*" {
                origins.any = true;
            } else if let Some((place, host)) = split(&pattern)
                && let Some(ending) = host.strip_prefix('*')
            {
                if (ending.is_empty() || ending.starts_with('.')) && !ending.contains('*') {
                    let endings = origins.endings.entry(place).or_default();
                    endings.insert(ending.into());
                }
            } else if !pattern.contains('*') {
                origins.exact.insert(serialized(&pattern).into());
            }
        }
        origins
    }

    /// Whether it has every origin that has a host.
    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// Whether it has this one, as browsers write it: scheme and host in lower case, no port that is the scheme's.
    /// `null`, which every sandboxed page and every file is, it has only by that name.
    pub(super) fn has(&self, origin: &[u8]) -> bool {
        if self.exact.contains(origin) {
            return true;
        }
        if self.any {
            return origin != b"null";
        }
        if self.endings.is_empty() {
            return false;
        }
        let parts = std::str::from_utf8(origin).ok().and_then(split);
        let Some((place, host)) = parts.filter(|(_, host)| is_host(host)) else {
            return false;
        };
        let Some(endings) = self.endings.get(&place) else {
            return false;
        };
        let mut dots = host.match_indices('.').filter(|(at, _)| *at > 0);
        endings.contains("") || dots.any(|(at, _)| endings.contains(&host[at..]))
    }
}

/// Scheme and port, and the host.
fn split(origin: &str) -> Option<(Place, &str)> {
    let (https, rest) = match origin.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, origin.strip_prefix("http://")?),
    };
    // The last colon of an IPv6 address is within its brackets.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (rest, if https { 443 } else { 80 }),
    };
    (!host.is_empty()).then_some((Place { https, port }, host))
}

/// What `*` stands for is labels: letters, digits, hyphens and underscores, none of them empty.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        !label.is_empty() && label.bytes().all(fits)
    };
    host.len() <= HOST_LIMIT && host.split('.').all(is_label)
}

/// As browsers write it: without the port that is the scheme's, and without a path.
fn serialized(origin: &str) -> &[u8] {
    let origin = origin.trim_end_matches('/');
    let port = if origin.starts_with("https:") {
        ":443"
    } else {
        ":80"
    };
    origin.strip_suffix(port).unwrap_or(origin).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(patterns: &[&str], origin: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.into()).collect();
        Origins::compile(&patterns).has(origin.as_bytes())
    }

    #[test]
    fn an_exact_origin_is_scheme_host_and_port() {
        for (pattern, origin, wanted) in [
            ("https://a.example", "https://a.example", true),
            ("https://A.example", "https://a.example", true),
            ("https://a.example:443", "https://a.example", true),
            ("https://a.example/", "https://a.example", true),
            ("http://a.example:80", "http://a.example", true),
            ("http://a.example:8080", "http://a.example:8080", true),
            (
                "https://[2001:db8::1]:8443",
                "https://[2001:db8::1]:8443",
                true,
            ),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "https://b.a.example", false),
            ("https://a.example", "https://a.example.evil.example", false),
            ("https://a.example", "https://a.example\0", false),
            ("https://a.example", "null", false),
            ("null", "null", true),
            ("*", "https://a.example", true),
            ("*", "null", false),
        ] {
            assert_eq!(has(&[pattern], origin), wanted, "{pattern} {origin}");
        }
        assert!(has(&["*", "null"], "null"));
    }

    #[test]
    fn a_star_is_one_or_more_labels() {
        for (pattern, origin, wanted) in [
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com", "https://b.a.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://.example.com", false),
            ("https://*.example.com", "https://a..example.com", false),
            ("https://*.example.com", "https://evilexample.com", false),
            ("https://*.example.com", "https://a.example.com.evil", false),
            (
                "https://*.example.com",
                "https://evil.com/.example.com",
                false,
            ),
            (
                "https://*.example.com",
                "https://evil.com#.example.com",
                false,
            ),
            ("https://*.example.com", "https://evil@a.example.com", false),
            ("https://*.example.com", "http://a.example.com", false),
            ("https://*.example.com", "https://a.example.com:8443", false),
            (
                "https://*.example.com:8443",
                "https://a.example.com:8443",
                true,
            ),
            ("https://*.example.com:443", "https://a.example.com", true),
            ("https://*", "https://anything.example", true),
            ("https://*", "http://anything.example", false),
            ("https://*", "null", false),
            ("https://*example.com", "https://evilexample.com", false),
            ("https://a.*.example.com", "https://a.b.example.com", false),
            ("https://*.*.example.com", "https://a.b.example.com", false),
        ] {
            assert_eq!(has(&[pattern], origin), wanted, "{pattern} {origin}");
        }
    }
}
