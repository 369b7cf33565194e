//! What the origin was sent, in the eyes of the servers that it might be.

use crate::wire::{Recorder, values};

/// Requests that the origin was sent and that some usual server would take for the protected path.
pub(super) fn reached(recorder: &Recorder) -> Vec<String> {
    let seen = recorder.seen().into_iter();
    seen.filter(|request| is_admin(request)).collect()
}

/// Whether some usual server would take this request for one below `/admin`.
pub(super) fn is_admin(request: &str) -> bool {
    let target = request.split(' ').nth(1).unwrap_or_default();
    let told = ["x-original-url", "x-rewrite-url"].into_iter();
    let told = told.flat_map(|name| values(request, name));
    std::iter::once(target)
        .chain(told)
        .any(|target| readings(target).any(|path| path == "/admin" || path.starts_with("/admin/")))
}

/// A target as servers read it: with `;parameters`, without those that are written plainly, and without those
/// that are escaped, too; decoded once; slashes merged, dots resolved.
fn readings(target: &str) -> impl Iterator<Item = String> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => path,
    };
    let decoded = decode(path);
    let stripped = decode(&without_parameters(path));
    let both = without_parameters(&decoded);
    let all = [decoded, stripped, both];
    // Servers that decode before they look for the query end the path at what was escaped.
    let cut = |path: &String| path.split(['?', '#']).next().unwrap_or_default().to_owned();
    let early = without_parameters(&cut(&all[0]));
    let cut: Vec<String> = all.iter().map(cut).collect();
    all.into_iter()
        .chain(cut)
        .chain([early])
        .map(|path| resolve(&path))
}

fn without_parameters(path: &str) -> String {
    let segments = path.split('/');
    let plain = segments.map(|segment| segment.split(';').next().unwrap_or_default());
    plain.collect::<Vec<_>>().join("/")
}

fn decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = path.get(at + 1..at + 3).filter(|_| byte == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn resolve(path: &str) -> String {
    let path = path.split('\0').next().unwrap_or_default();
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[test]
fn the_judge_sees_what_servers_see() {
    let sees = |target: &str| is_admin(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
    for target in [
        "/admin",
        "//admin/x",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/admin;x",
        "/;/admin",
        "/admin%3Bx",
        "/public/..;/admin",
        "/public/..%3b/admin",
        "/admin/..%3B/y",
        "/;/admin/..%3B/..%3B/y",
        "/%2e%2e/admin",
        "/%2fadmin",
        "/admin%00",
        "/\\admin",
        "http://other/admin?x",
        "/admin#x",
        "/admin%3Fx",
        "/admin%23/y",
        "/;x%2Fadmin",
        "//admin%2Fx",
    ] {
        assert!(sees(target), "{target}");
    }
    for target in ["/", "/administrator", "/x/admin", "/%2561dmin", "/?/admin"] {
        assert!(!sees(target), "{target}");
    }
    assert!(is_admin("GET / HTTP/1.1\r\nX-Original-URL: /admin\r\n\r\n"));
}
