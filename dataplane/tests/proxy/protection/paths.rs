//! Spellings × methods × policies.

use futures::StreamExt;
use hale_dataplane::config::Config;

use super::{EXHAUSTED, config, policies, reached};
use crate::{
    support::Hale,
    wire::{Recorder, get, status, talk},
};

/// Other ways to write `/admin`: each is the protected path, and is refused as that is.
pub(super) const SAME: [&str; 52] = [
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
    "/admin%2f",
    "/admin%2Fx",
    "/admin%2F%2fx",
    "/%2fadmin",
    "/%2Fadmin",
    "/%2f%2Fadmin//x",
    "/%2F/admin",
    "/admin%3Fx",
    "/admin%3fx/y",
    "/admin%23",
    "/admin%23x%3Fy",
    "/admin;x%3Fy",
    "/;x%2Fadmin",
    "/%3Bx%2fadmin",
    "/;/%2F/;x/admin%2F;y",
    "/x//..%3B/admin",
    "/x//../../admin",
    "//x/..//admin",
];

/// Ways that servers disagree on: whatever becomes of them, the origin does not see the protected path.
const ODD: [&[u8]; 54] = [
    b"/admin#x",
    b"/#/../admin",
    b"/x/..%2Fadmin",
    b"/x/.%2F..%2Fadmin",
    b"/x%2F../admin",
    b"/x/..%3B%2Fadmin",
    b"/x/..%3F/admin",
    b"/x%2F%2e%2E%2Fadmin",
    b"/%252Fadmin",
    b"/admin%252Fx",
    b"/admin%253Fx",
    b"/%2F..%2Fadmin",
    b"/admin%2F..%2F..%2Fx",
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
pub(super) const NO: [&str; 4] = ["401", "403", "429", "503"];

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
