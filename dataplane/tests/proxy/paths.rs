//! One path, whatever its spelling: what is refused, and what goes upstream.

use hale_dataplane::{
    config::{Access, EscapedSlashes, PathRule, Problem, RepeatedSlashes},
    reason::Reason,
};

use crate::{
    support::{Hale, Shop},
    wire::{Recorder, get, status, talk, values},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_disagree_on_is_refused_at_the_door() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for path in [
        "/a%2f../b",
        "/a%2F..%2Fb",
        "/a/..%3Fb",
        "/a%5cb",
        "/a%00",
        "/%",
        "/%zz",
        "/a/..;/b",
        "/%2e%2e;x/b",
        "/..%2f..%2fetc/passwd",
        "*",
        "/a\\b",
    ] {
        let response = talk(&hale, get(path, "")).await;
        assert_eq!(status(&response), "400", "{path}");
        // hyper refuses some of these before we see them, without a reason.
        if path != "/a\\b" {
            assert_eq!(values(&response, "x-hale-reason"), ["BadRequest"], "{path}");
        }
        assert!(
            !response.contains("etc/passwd"),
            "nothing is reflected: {response}"
        );
    }
    for path in ["/\u{e4}", "/a\u{1}b", "/a\u{7f}"] {
        assert_eq!(status(&talk(&hale, get(path, "")).await), "400", "{path:?}");
    }
    assert!(recorder.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_canonical_path_and_the_query_as_it_was() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for (sent, wanted) in [
        ("/a/b", "/a/b"),
        ("//a///b", "//a///b"),
        ("/a//../b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/../../x", "/x"),
        ("/%61?%61=%2e%2e//..", "/a?%61=%2e%2e//.."),
        ("/%c3%a4", "/%C3%A4"),
        ("/a%20b?", "/a%20b?"),
    ] {
        assert_eq!(status(&talk(&hale, get(sent, "")).await), "200", "{sent}");
        let request = recorder.seen().pop().unwrap();
        assert!(
            request.starts_with(&format!("GET {wanted} HTTP/1.1\r\n")),
            "{sent}: {request}"
        );
    }
}

/// Spellings that applications need.
const APPLICATIONS: [&str; 14] = [
    "/api/v4/projects/group%2Fproject",
    "/api/v4/projects/group%2Fproject/repository/files/src%2F.ci%2Fmain.rs?ref=main",
    "/api/repositories/https:%2F%2Fgithub.com%2Fx%2Fy",
    "/api/v1/repositories/https:%2F%2Fgithub.com%2Fx%2Fy",
    "/job/a%252Fb/",
    "/api/queues/%2F/q",
    "/_matrix/client/v3/rooms/!a:b/state//x",
    "/_matrix/client/v3/directory/room/%23room:b",
    "/@scope%2fpkg",
    "/@scope%2Fpkg",
    "/bucket//key",
    "/a//b",
    "//a",
    "/wiki/What%3F",
];

/// Beside a protected path, too: what is open is served as it was sent, in both versions.
#[tokio::test(flavor = "multi_thread")]
async fn applications_get_the_paths_that_their_clients_sent() {
    let recorder = Recorder::new().await;
    let mut shop = Shop::of(&[recorder.origin.address]);
    for guarded in [false, true] {
        let mut config = shop.config();
        if guarded {
            let mut admin = config.hosts[0].routes[0].clone();
            admin.path = PathRule::prefix("/admin").unwrap();
            admin.policy.access = Access::Unavailable(Problem {
                reason: Reason::NotAccepted,
                message: String::new(),
            });
            config.hosts[0].routes.insert(0, admin);
        }
        let hale = Hale::start(config);
        for path in APPLICATIONS {
            let response = talk(&hale, get(path, "")).await;
            assert_eq!(status(&response), "200", "{path}: {response}");
            let request = recorder.seen().pop().unwrap();
            assert!(
                request.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
                "{path}: {request}"
            );
            let response = hale.send_http2(request_of(path)).await;
            assert_eq!(response.status(), 200, "{path}");
            let request = recorder.seen().pop().unwrap();
            assert!(request.starts_with(&format!("GET {path} HTTP/1.1\r\n")));
        }
    }
    shop.policy.path.escaped_slashes = EscapedSlashes::Reject;
    shop.policy.path.repeated_slashes = RepeatedSlashes::Merge;
    let hale = shop.serve();
    let response = talk(&hale, get("/a%2Fb", "")).await;
    assert_eq!(status(&response), "400");
    assert!(response.contains("The path has an encoded slash"));
    assert_eq!(status(&talk(&hale, get("//a///b?x=//", "")).await), "200");
    let request = recorder.seen().pop().unwrap();
    assert!(
        request.starts_with("GET /a/b?x=// HTTP/1.1\r\n"),
        "{request}"
    );
}

fn request_of(path: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    crate::support::request("GET", path, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_that_are_not_proxied() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    for request in [
        "TRACE / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n",
        "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\nconnection: close\r\n\r\n",
    ] {
        let response = talk(&hale, request).await;
        assert_eq!(status(&response), "405", "{request}");
        assert_eq!(values(&response, "x-hale-reason"), ["MethodNotAllowed"]);
    }
    let long = format!(
        "{} / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n",
        "M".repeat(33)
    );
    assert_eq!(status(&talk(&hale, long).await), "400");
    assert!(recorder.seen().is_empty());
    let unknown = "PURGE /x HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&talk(&hale, unknown).await), "200");
    assert!(recorder.only().starts_with("PURGE /x "));
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_and_headers_have_limits() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let response = talk(&hale, get(&format!("/{}", "a".repeat(17 * 1024)), "")).await;
    assert_eq!(status(&response), "414");
    assert_eq!(values(&response, "x-hale-reason"), ["UriTooLong"]);
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(status(&talk(&hale, get("/", &many)).await), "431");
    let large = format!("x: {}\r\n", "a".repeat(80 * 1024));
    assert_eq!(status(&talk(&hale, get("/", &large)).await), "431");
    assert!(recorder.seen().is_empty());
}
