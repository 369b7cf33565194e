//! Ways around a policy that lead through something else: another policy, a path that is exempt, a header.

use std::sync::Arc;

use hale_dataplane::config::{
    Auth, AuthRules, Config, PathRule, RateLimit, RateLimitKey, RequestPolicy,
};

use super::{
    EXHAUSTED, any_of, config,
    paths::{NO, SAME},
    policies, reached, requiring, with,
};
use crate::{
    support::Hale,
    wire::{Recorder, get, status, talk},
};

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

/// A request can be counted by one limit, and whoever may choose between two would choose the greater.
#[tokio::test(flavor = "multi_thread")]
async fn a_greater_limit_does_not_stand_in_for_a_lesser_one() {
    let recorder = Recorder::new().await;
    let limited = |name: &str, requests| RequestPolicy {
        rate_limit: Some(Arc::new(RateLimit {
            source: super::policy(name),
            requests,
            ..(*super::limit(RateLimitKey::Address)).clone()
        })),
        ..RequestPolicy::default()
    };
    let open = RequestPolicy::default;
    let guarded = || requiring(any_of(vec![super::methods().swap_remove(0).1]));
    let both = |name| RequestPolicy {
        auth: guarded().auth,
        ..limited(name, 100)
    };
    for (whole, part, wanted) in [
        (limited("whole", 100), limited("part", 2), "400"),
        (both("whole"), both("part"), "400"),
        (guarded(), limited("part", 2), "400"),
        (limited("whole", 100), guarded(), "400"),
        (open(), limited("part", 100), "200"),
        (limited("whole", 100), open(), "200"),
        (limited("same", 100), limited("same", 100), "200"),
        (both("same"), both("same"), "503"),
        (guarded(), both("part"), "503"),
        (open(), both("part"), "503"),
    ] {
        let hale = Hale::start(with(&recorder, &[("/", whole), ("/login", part)]));
        for target in ["/login;x", "/login%3Bx/y"] {
            let answer = talk(&hale, get(target, "")).await;
            assert_eq!(status(&answer), wanted, "{target}: {answer}");
            let is_counted = answer.contains("ratelimit:");
            assert!(wanted != "200" || is_counted, "{target}: {answer}");
        }
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
        Arc::make_mut(rules).exempt_paths = vec![
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

/// A stranger who says to come from where one may come from, or from somewhere else each time.
#[tokio::test(flavor = "multi_thread")]
async fn no_client_says_where_it_comes_from() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    let by_address = policies().into_iter();
    let by_address = by_address.filter(|(name, _)| [EXHAUSTED, "access"].contains(&name.as_str()));
    for (name, policy) in by_address {
        hale.dataplane.publish(config(&recorder, &policy));
        talk(&hale, get("/admin", "")).await;
        let before = reached(&recorder).len();
        for header in [
            "X-Forwarded-For",
            "x_forwarded_for",
            "Forwarded",
            "X-Real-IP",
            "X-Client-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "X-Cluster-Client-IP",
            "X-Envoy-External-Address",
        ] {
            for value in [
                "203.0.113.5",
                "for=203.0.113.5",
                "203.0.113.5, 127.0.0.1",
                "::ffff:203.0.113.5",
            ] {
                let answer = talk(&hale, get("/admin", &format!("{header}: {value}\r\n"))).await;
                assert!(
                    NO.contains(&status(&answer)),
                    "{name}: {header}: {value}: {answer}"
                );
            }
        }
        // A load balancer's word, on a port where none is expected.
        let told = "PROXY TCP4 203.0.113.5 127.0.0.1 4000 80\r\n";
        let answer = talk(&hale, format!("{told}{}", get("/admin", ""))).await;
        assert_ne!(status(&answer), "200", "{name}: {answer}");
        assert_eq!(reached(&recorder).len(), before, "{name}");
    }
}
