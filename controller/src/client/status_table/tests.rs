#![allow(clippy::unwrap_used)]

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn example() -> Status {
    serde_json::from_value(serde_json::json!({
        "version": "0.1.0", "phase": "Ready", "leader": true,
        "generation": 7, "fingerprint": "sha256:0123456789abcdef", "published": at(-300),
        "upstreams": [
            {"id": "shop/checkout:http", "checked": true, "serving": 1, "panic": false,
             "byReason": {"ActiveCheckFailed": 1}, "peers": [
                {"address": "10.244.0.7:8080", "pod": "checkout-7d9f-abcde", "readiness": "Ready", "probe": "Fail",
                 "standing": "Exclude", "serving": false, "reason": "ActiveCheckFailed",
                 "message": "GET /healthz: HTTP 503, want 200-399, 7 in a row", "since": at(-240),
                 "lastCheck": {"at": at(-2), "durationMs": 3, "pass": false, "message": "", "inARow": 7},
                 "requests": 12, "inFlight": 0},
                {"address": "10.244.0.8:8080", "pod": "checkout-7d9f-fghij", "readiness": "Ready", "probe": "Pass",
                 "standing": "Serve", "serving": true, "since": at(-90_000),
                 "lastCheck": {"at": at(-1), "durationMs": 12, "pass": true, "message": "", "inARow": 900},
                 "requests": 123_456, "inFlight": 3}]},
            {"id": "shop/search:80", "checked": false, "serving": 0, "panic": false, "reason": "NoEndpoints",
             "message": "Service shop/search has no endpoints", "byReason": {}, "peers": []}],
        "unavailable": [{"object": "UpstreamPolicy shop/partners", "reason": "AuthUnavailable",
                         "message": "nobody is let in: apiKey: Secret shop/keys does not exist"}],
        "findings": [{"object": "Ingress shop/web", "reason": "ServiceNotFound", "message": "no Service shop/cart"}],
    }))
    .unwrap()
}

#[test]
fn the_table_is_read_at_a_glance() {
    let wanted = "\
Hale 0.1.0 Ready, leader | table 7 of 5m0s ago (sha256:01234) | 2 upstreams, 1/2 peers serving

shop/checkout:http  1/2 serving
  PEER             POD                  STANDING  REASON             LAST CHECK         TOOK  SINCE  REQUESTS  IN FLIGHT
  10.244.0.7:8080  checkout-7d9f-abcde  Exclude   ActiveCheckFailed  FAIL x7 2s ago     3ms   4m0s   12        0
      GET /healthz: HTTP 503, want 200-399, 7 in a row
  10.244.0.8:8080  checkout-7d9f-fghij  Serve     -                  pass x900 1s ago   12ms  25h0m  123456    3

shop/search:80  0/0 serving  (no active check)  NoEndpoints: Service shop/search has no endpoints

Policies that do not let in whom they should
  UpstreamPolicy shop/partners AuthUnavailable: nobody is let in: apiKey: Secret shop/keys does not exist

Findings
  Ingress shop/web ServiceNotFound: no Service shop/cart
";
    let text = write(&example(), None, at(0));
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(squeezed(&text), squeezed(wanted), "\n{text}");
    let column = |needle: &str| -> Vec<usize> {
        let holds = |line: &&str| line.contains("10.244") || line.contains("PEER");
        text.lines()
            .filter(holds)
            .filter_map(|line| line.find(needle))
            .collect()
    };
    assert_eq!(column("checkout-7d9f")[0], column("POD")[0], "\n{text}");
}

#[test]
fn a_filter_keeps_what_is_asked_for() {
    let text = write(&example(), Some("search"), at(0));
    assert!(
        text.contains("shop/search:80") && !text.contains("shop/checkout"),
        "{text}"
    );
    assert!(write(&example(), Some("none"), at(0)).contains("No upstream has that name"));
}

#[test]
fn ages_have_the_units_that_matter() {
    let cases = [
        (-5, "0s"),
        (59, "59s"),
        (300, "5m0s"),
        (3_000, "50m"),
        (9_000, "2h30m"),
        (266_400, "3d2h"),
    ];
    for (seconds, wanted) in cases {
        assert_eq!(age(at(-seconds), at(0)), wanted);
    }
}

#[test]
fn a_fault_of_a_policy_is_told_once() {
    let line = |object: &str, message: &str| serde_json::json!({"object": object, "reason": "R", "message": message});
    let status: Status = serde_json::from_value(serde_json::json!({
        "upstreams": [{"id": "shop/web:80"}],
        "unavailable": [
            line("UpstreamPolicy shop/a", "nobody is let in: apiKey: Secret shop/keys does not exist"),
            line("Ingress shop/web", "UpstreamPolicy shop/b: auth.anyOf[0]: set one: nobody is let in until that is mended"),
        ],
        "findings": [
            line("UpstreamPolicy shop/a", "auth.anyOf[0].apiKey: Secret shop/keys does not exist"),
            line("UpstreamPolicy shop/b", "auth.anyOf[0]: set one"),
            line("UpstreamPolicy shop/a", "auth.anyOf[0].apiKey: Secret shop/keys does not exist; retry: too many"),
            line("UpstreamPolicy shop/aa", "auth.anyOf[0].apiKey: Secret shop/keys does not exist"),
        ],
    }))
    .unwrap();
    let text = write(&status, None, at(0));
    let (_, findings) = text.split_once("\nFindings\n").unwrap();
    let objects: Vec<&str> = findings
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(objects, ["shop/a", "shop/aa"], "{text}");
    assert!(text.contains("| 1 upstream, 0/0 peers serving\n"), "{text}");
}
