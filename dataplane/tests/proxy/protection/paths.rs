//! Spellings × methods × policies.

use futures::StreamExt;
use hale_dataplane::config::{
    Auth, AuthRules, Config, HostPattern, PathRule, RequestPolicy, VirtualHost,
};

use super::{EXHAUSTED, any_of, config, policies, reached, requiring, routes, with};
use crate::{
    support::{Hale, Shop},
    wire::{Recorder, get, status, talk, values},
};

/// Other ways to write `/admin`: each is the protected path, and is refused as that is.
const SAME: [&str; 34] = [
    "/admin",
    "/admin/",
    "/admin/x",
    "/admin?x",
    "/admin?/../..",
    "/admin/?",
    "//admin",
    "///admin",
    "//admin//x",
    "/./admin",
    "/././admin",
    "/.//admin",
    "/admin/.",
    "/admin/./",
    "/admin/x/..",
    "/x/../admin",
    "/x/y/../../admin",
    "/x/..//admin",
    "/../admin",
    "/../../admin",
    "/%2e/admin",
    "/%2e%2e/admin",
    "/x/%2E%2e/admin",
    "/x/.%2e/admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%61%64%6D%69%6Ex/../admin",
    "/admin;x",
    "/admin;x=1/y",
    "/;/admin",
    "/;x=1/admin;y",
    "/admin%3Bx",
    "/x/..%3B/admin",
    "/x/..%3bv=1/admin%3b",
];

/// Ways that servers disagree on: whatever becomes of them, the origin does not see the protected path.
const ODD: [&[u8]; 46] = [
    b"/admin#x",
    b"/#/../admin",
    b"/admin%2f",
    b"/admin%2Fx",
    b"/%2fadmin",
    b"/x%2f..%2fadmin",
    b"/x/..%2fadmin",
    b"/admin%00",
    b"/admin%00x",
    b"/admin%5c",
    b"/%5cadmin",
    b"/x/..%5cadmin",
    b"/x\\..\\admin",
    b"\\admin",
    b"/\\admin",
    b"/admin\\",
    b"/public/..;/admin",
    b"/public/..;x=1/admin",
    b"/public/.;/../admin",
    b"/..;/admin",
    b"/%2e%2e;/admin",
    b"/x;/../admin",
    b"/x;/%2e%2e/admin",
    b"/;/x/..%3B/admin",
    b"/admin/..%3B/y",
    b"/;/admin/..%3B/..%3B/y",
    b"/x/%3B/..%3B/..%3B/admin",
    b"/admin%20",
    b"/admin%09",
    b"/admin%0a",
    b"/admin%",
    b"/admin%zz",
    b"/%u0061dmin",
    b"/%2561dmin",
    b"/%c1%a1dmin",
    b"/%c0%afadmin",
    b"/%c0%ae%c0%ae/admin",
    b"/%e0%80%afadmin",
    b"/\xc1\xa1dmin",
    b"/admin\t",
    b"/\tadmin",
    b"/admin\x0b",
    b"/admin\xa0",
    b"admin",
    b"*",
    b"./admin",
];

/// Method, lines and body.
const METHODS: [(&str, &str, &str); 14] = [
    ("GET", "", ""),
    ("HEAD", "", ""),
    ("POST", "content-length: 3\r\n", "a=1"),
    ("PUT", "transfer-encoding: chunked\r\n", "0\r\n\r\n"),
    ("PATCH", "content-length: 3\r\n", "a=1"),
    ("DELETE", "", ""),
    ("OPTIONS", "", ""),
    (
        "OPTIONS",
        "origin: http://evil.test\r\naccess-control-request-method: GET\r\n",
        "",
    ),
    ("PROPFIND", "depth: 1\r\n", ""),
    ("FOO", "", ""),
    ("get", "", ""),
    ("CONNECT", "", ""),
    ("TRACE", "", ""),
    (
        "GET",
        "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "",
    ),
];

/// What a connection can carry, written by hand.
fn message(index: usize, target: &[u8]) -> Vec<u8> {
    let (method, lines, body) = METHODS[index];
    let close = match lines.starts_with("upgrade") {
        true => "upgrade, close",
        false => "close",
    };
    let mut bytes = format!("{method} ").into_bytes();
    bytes.extend_from_slice(target);
    bytes.extend_from_slice(
        format!(" HTTP/1.1\r\nhost: shop.test\r\nconnection: {close}\r\n{lines}\r\n{body}")
            .as_bytes(),
    );
    bytes
}

/// How every policy says no.
const NO: [&str; 4] = ["401", "403", "429", "503"];

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_and_no_method_gets_past_a_policy() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    let mut sent = 0;
    for (name, policy) in policies() {
        hale.dataplane.publish(config(&recorder, &policy));
        // What is beside it is open, or this would show nothing.
        assert_eq!(
            status(&talk(&hale, get("/open", "")).await),
            "200",
            "{name}"
        );
        let before = match name.as_str() {
            EXHAUSTED => {
                talk(&hale, get("/admin", "")).await;
                reached(&recorder).len()
            }
            _ => 0,
        };
        // What is unresolved differs in nothing from method to method.
        let step = if name.contains("unresolved") { 5 } else { 1 };
        let same = SAME.iter().map(|target| (true, target.as_bytes()));
        let all: Vec<(bool, usize, Vec<u8>)> = same
            .chain(ODD.iter().map(|target| (false, *target)))
            .flat_map(|(same, target)| {
                let methods = (0..METHODS.len()).step_by(step);
                methods.map(move |index| (same, index, message(index, target)))
            })
            .collect();
        sent += all.len();
        let (hale, name) = (&hale, &name);
        futures::stream::iter(all)
            .for_each_concurrent(16, |(same, index, bytes)| async move {
                let answer = talk(hale, &bytes).await;
                let request = String::from_utf8_lossy(&bytes);
                let wanted: &[&str] = match METHODS[index].0 {
                    // Refused before any route is looked at.
                    "TRACE" => &["405"],
                    "CONNECT" => &["400", "405"],
                    _ => &NO,
                };
                if same {
                    let status = status(&answer);
                    assert!(wanted.contains(&status), "{name}: {status} to {request}");
                }
            })
            .await;
        assert_eq!(
            reached(&recorder).len(),
            before,
            "{name}: {:#?}",
            reached(&recorder)
        );
    }
    assert!(sent > 10_000, "{sent}");
}

/// Where two readings of a path lead to two policies, none is walked around by the other: the first keeps
/// strangers out, the second lets everybody in.
#[tokio::test(flavor = "multi_thread")]
async fn a_lesser_policy_does_not_stand_in_for_a_better_one() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    let lesser = requiring(AuthRules {
        source: super::policy("lesser"),
        exempt_paths: vec![PathRule::prefix("/").unwrap()],
        ..any_of(vec![super::methods().swap_remove(0).1])
    });
    for (name, policy) in policies() {
        if name == EXHAUSTED {
            continue;
        }
        hale.dataplane.publish(with(
            &recorder,
            &[
                ("/", lesser.clone()),
                ("/admin", policy),
                ("/admin/public", lesser.clone()),
            ],
        ));
        let answer = talk(&hale, get("/admin/public", "")).await;
        assert_eq!(status(&answer), "200", "{name}: {answer}");
        for target in [
            "/admin",
            "/admin/..%3B/y",
            "/admin/x/..%3B/..%3B/y",
            "/;/admin/..%3B/..%3B/y",
            "/admin/public;x",
            "/admin/public;x/y",
            "/admin/public%3Bx",
            "/;/admin/public%3Bx",
            "/admin/x/..%3B/public",
        ] {
            let answer = talk(&hale, get(target, "")).await;
            assert_ne!(status(&answer), "200", "{name}: {target}");
        }
        let others: Vec<_> = reached(&recorder)
            .into_iter()
            .filter(|seen| !seen.starts_with("GET /admin/public HTTP"))
            .collect();
        assert!(others.is_empty(), "{name}: {others:#?}");
    }
}

/// Whole requests that name their host, or their path, in unusual ways. `HOST` stands for the protected host.
const WHOLE: [&str; 32] = [
    "GET /admin HTTP/1.1\r\nHost: HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nHOST: HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost:HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: \t HOST \t\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST.\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST..\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST:80\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST:\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST.:443\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST:99999\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST:80:80\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST%2e\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: %48OST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST\0\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST, other\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: other, HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: other@HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST/x\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: other\r\nhost: HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: HOST\r\nhost: other\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost: other\r\n HOST\r\n\r\n",
    "GET /admin HTTP/1.1\r\nhost : HOST\r\n\r\n",
    "GET http://HOST/admin HTTP/1.1\r\nhost: other\r\n\r\n",
    "GET HTTP://HOST:80//admin HTTP/1.1\r\nhost: other\r\n\r\n",
    "GET http://HOST./x/../admin HTTP/1.1\r\nhost: other\r\n\r\n",
    "GET http://u:p@HOST/admin HTTP/1.1\r\nhost: HOST\r\n\r\n",
    "GET ftp://HOST/admin HTTP/1.1\r\nhost: HOST\r\n\r\n",
    "GET http:/admin HTTP/1.1\r\nhost: HOST\r\n\r\n",
    "GET /admin HTTP/1.0\r\n\r\n",
    "GET /admin HTTP/1.0\r\nhost: HOST\r\n\r\n",
    "GET /admin\r\n\r\n",
    "GET  /admin HTTP/1.1\r\nhost: HOST\r\n\r\n",
];

/// Every policy on a host of its own; every other host leads, unprotected, to the same origin.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_the_host_gets_past_a_policy() {
    let recorder = Recorder::new().await;
    let shop = Shop::of(&[recorder.origin.address]);
    let mut names = Vec::new();
    let mut hosts = Vec::new();
    for (number, (name, policy)) in policies().into_iter().enumerate() {
        if name == EXHAUSTED {
            continue;
        }
        let host = format!("h{number:02}.test");
        let prefixes = [("/", RequestPolicy::default()), ("/admin", policy)];
        hosts.push(VirtualHost {
            host: HostPattern::parse(&host).unwrap(),
            https_redirect: false,
            routes: routes(&shop, &prefixes),
        });
        names.push((host, name));
    }
    let open = routes(&shop, &[("/", RequestPolicy::default())]).pop();
    hosts.sort_by(|a, b| a.host.cmp(&b.host));
    let hale = Hale::start(Config {
        hosts,
        default_route: open,
        ..shop.config()
    });
    let other = get("/admin", "").replace("shop.test", "other.test");
    assert_eq!(
        status(&talk(&hale, other).await),
        "200",
        "other hosts are open"
    );
    for (host, name) in &names {
        for spelled in [
            host.clone(),
            host.to_ascii_uppercase(),
            host.replace('h', "H"),
        ] {
            for request in WHOLE {
                let request = request
                    .replace("HOST", &spelled)
                    .replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
                talk(&hale, request).await;
            }
        }
        let protected = |request: &&String| {
            values(request, "host").iter().any(|seen| {
                let seen = seen.split(':').next().unwrap_or_default();
                seen.trim_end_matches('.').eq_ignore_ascii_case(host)
            })
        };
        let reached = reached(&recorder);
        let reached: Vec<_> = reached.iter().filter(protected).collect();
        assert!(reached.is_empty(), "{name}: {reached:#?}");
    }
}

/// Headers by which some servers let a client, or a proxy before them, say another path.
#[tokio::test(flavor = "multi_thread")]
async fn no_header_names_another_path() {
    let recorder = Recorder::new().await;
    let (_, policy) = policies().swap_remove(0);
    let hale = Hale::start(config(&recorder, &policy));
    for name in [
        "X-Original-URL",
        "x-original-url",
        "X_Original_URL",
        "X-Rewrite-URL",
        "X_REWRITE_URL",
        "X-Original-URI",
        "X-Forwarded-Uri",
        "X-Forwarded-Path",
        "X-Forwarded-Prefix",
    ] {
        let lines = format!("{name}: /admin\r\n");
        let answer = talk(&hale, get("/open", &lines)).await;
        assert_eq!(status(&answer), "200", "{name}");
        let request = recorder.seen().pop().unwrap();
        assert!(!request.contains("/admin"), "{name}: {request}");
    }
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
    ] {
        for value in ["GET", "OPTIONS", "CONNECT"] {
            let lines = format!("{name}: {value}\r\n");
            let answer = talk(&hale, get("/admin", &lines)).await;
            assert!(NO.contains(&status(&answer)), "{name}: {answer}");
        }
    }
    assert!(reached(&recorder).is_empty());
}

/// Beside a policy of the whole host, paths that everybody may have.
#[tokio::test(flavor = "multi_thread")]
async fn exempt_paths_are_no_way_in() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    for (name, mut policy) in policies() {
        let Auth::AnyOf(rules) = &mut policy.auth else {
            continue;
        };
        std::sync::Arc::make_mut(rules).exempt_paths = vec![
            PathRule::prefix("/public").unwrap(),
            PathRule::exact("/healthz").unwrap(),
        ];
        // A limit by consumer would count what is exempt, too.
        policy.rate_limit = None;
        hale.dataplane.publish(with(&recorder, &[("/", policy)]));
        for open in ["/public", "/public/x", "/healthz", "/x/../healthz"] {
            let answer = talk(&hale, get(open, "")).await;
            assert_eq!(status(&answer), "200", "{name}: {open}");
        }
        let ways = [
            "/public/../admin",
            "/public/%2e%2e/admin",
            "/public/..;/admin",
            "/public/..%3B/admin",
            "/public/x/..%3B/..%3B/admin",
            "/public%3B/../admin",
            "/public;/../admin",
            "/public/..%2fadmin",
            "/public%2f..%2fadmin",
            "/public/..%5cadmin",
            "/public\\..\\admin",
            "/public/%2e%2e%3b/admin",
            "/healthz/../admin",
            "/healthz/..%3B/admin",
            "/healthz;/../admin",
            "/admin?/public",
            "/admin#/public",
            "/admin;/public",
            "/admin%3B/public",
            "/admin%23/public",
            "//public/..//admin",
        ];
        for target in ways.into_iter().chain(SAME) {
            let answer = talk(&hale, get(target, "")).await;
            assert_ne!(status(&answer), "200", "{name}: {target}");
        }
        assert!(
            reached(&recorder).is_empty(),
            "{name}: {:#?}",
            reached(&recorder)
        );
    }
}
