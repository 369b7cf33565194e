//! What a scrape shows.

use prometheus_client::encoding::text;

use super::*;

fn id(service: &str) -> UpstreamId {
    UpstreamId {
        namespace: "shop".into(),
        service: service.into(),
        port: "http".into(),
    }
}

fn nothing() -> Report {
    Report {
        generation: 3,
        fingerprint: "sha256:ab".into(),
        published: Some(jiff::Timestamp::now()),
        upstreams: Vec::new(),
        unavailable: Vec::new(),
    }
}

fn scrape(metrics: &Arc<Metrics>) -> String {
    let mut registry = Registry::default();
    metrics.register(&mut registry, nothing);
    let mut out = String::new();
    text::encode(&mut out, &registry).unwrap();
    out
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

#[test]
fn counts_appear_under_their_names() {
    let metrics = Arc::new(Metrics::default());
    let cart = metrics.upstream(&id("cart"));
    cart.request(Some(200), Duration::from_micros(900));
    cart.request(Some(204), Duration::from_millis(1));
    cart.request(Some(503), Duration::from_secs(90));
    cart.request(None, Duration::from_millis(3));
    cart.attempt(Outcome::ConnectRefused);
    cart.attempt(Outcome::Answered(200));
    cart.retry();
    cart.probes().count(true);
    cart.probes().count(false);
    cart.ejections().count(crate::health::EjectionRule::Trial);
    metrics.reject(Reason::NoRoute);
    metrics.reject(Reason::ShuttingDown);
    let text = scrape(&metrics);
    for line in [
        r#"hale_ejections_total{upstream="shop/cart:http",rule="trial"} 1"#,
        r#"hale_requests_total{upstream="shop/cart:http",code_class="2xx"} 2"#,
        r#"hale_requests_total{upstream="shop/cart:http",code_class="5xx"} 1"#,
        r#"hale_requests_total{upstream="shop/cart:http",code_class="none"} 1"#,
        r#"hale_request_duration_seconds_count{upstream="shop/cart:http"} 4"#,
        r#"hale_request_duration_seconds_bucket{le="0.001",upstream="shop/cart:http"} 2"#,
        r#"hale_request_duration_seconds_bucket{le="0.005",upstream="shop/cart:http"} 3"#,
        r#"hale_request_duration_seconds_bucket{le="60.0",upstream="shop/cart:http"} 3"#,
        r#"hale_request_duration_seconds_bucket{le="+Inf",upstream="shop/cart:http"} 4"#,
        r#"hale_upstream_attempts_total{upstream="shop/cart:http",outcome="ConnectRefused"} 1"#,
        r#"hale_upstream_attempts_total{upstream="shop/cart:http",outcome="Answered"} 1"#,
        r#"hale_upstream_retries_total{upstream="shop/cart:http"} 1"#,
        r#"hale_probes_total{upstream="shop/cart:http",result="pass"} 1"#,
        r#"hale_probes_total{upstream="shop/cart:http",result="fail"} 1"#,
        r#"hale_rejects_total{reason="NoRoute"} 1"#,
        r#"hale_rejects_total{reason="ShuttingDown"} 1"#,
        r#"hale_rejects_total{reason="Overloaded"} 0"#,
        "hale_table_generation 3",
        r#"hale_table_info{fingerprint="sha256:ab"} 1"#,
        "hale_access_log_dropped_total 0",
    ] {
        assert!(has(&text, line), "{line} is missing in\n{text}");
    }
    assert!(text.contains("hale_table_age_seconds "));
}

#[test]
fn a_handle_outlives_tables_and_ends_with_its_upstream() {
    let metrics = Arc::new(Metrics::default());
    metrics.upstream(&id("cart")).retry();
    metrics.upstream(&id("cart")).retry();
    metrics.upstream(&id("gone")).retry();
    metrics.retain(|upstream| upstream.service == "cart");
    let text = scrape(&metrics);
    assert!(
        has(
            &text,
            r#"hale_upstream_retries_total{upstream="shop/cart:http"} 2"#
        ),
        "{text}"
    );
    assert!(!text.contains("gone"));
}

fn policy(name: &str) -> ObjectRef {
    ObjectRef {
        kind: "UpstreamPolicy",
        namespace: "shop".into(),
        name: name.into(),
    }
}

#[test]
fn policies_count_by_method_and_outcome_until_they_are_gone() {
    use crate::auth::{Kind, Outcome};
    let metrics = Arc::new(Metrics::default());
    let members = metrics.policy(&policy("members"));
    members.decided(Some(Kind::Basic), Outcome::Allowed);
    members.decided(Some(Kind::External), Outcome::Overloaded);
    members.decided(None, Outcome::NoCredential);
    metrics
        .policy(&policy("members"))
        .decided(Some(Kind::Basic), Outcome::Allowed);
    members.limited();
    members.denied();
    metrics.policy(&policy("gone")).denied();
    metrics.retain_policies(|source| source.name == "members");
    let text = scrape(&metrics);
    for line in [
        r#"hale_auth_requests_total{policy="shop/members",method="basic",outcome="Allowed"} 2"#,
        r#"hale_auth_requests_total{policy="shop/members",method="external",outcome="Overloaded"} 1"#,
        r#"hale_auth_requests_total{policy="shop/members",method="none",outcome="NoCredential"} 1"#,
        r#"hale_rate_limited_requests_total{policy="shop/members"} 1"#,
        r#"hale_access_denied_requests_total{policy="shop/members"} 1"#,
    ] {
        assert!(has(&text, line), "{line} is missing in\n{text}");
    }
    assert_eq!(text.matches("hale_auth_requests_total{").count(), 3);
    assert!(!text.contains("gone"));
}

#[test]
fn threads_count_apart_and_are_added_up() {
    let metrics = Arc::new(Metrics::default());
    let upstream = metrics.upstream(&id("cart"));
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..100 {
                    upstream.attempt(Outcome::Saturated);
                }
            });
        }
    });
    let line =
        r#"hale_upstream_attempts_total{upstream="shop/cart:http",outcome="Saturated"} 1200"#;
    assert!(has(&scrape(&metrics), line));
}

#[test]
fn connections_count_while_they_live() {
    let metrics = Arc::new(Metrics::default());
    let open = metrics.connection(Listener::Https);
    drop(metrics.connection(Listener::Https));
    metrics.connection_refused();
    metrics.tls_failure();
    let text = scrape(&metrics);
    for line in [
        r#"hale_connections{listener="https"} 1"#,
        r#"hale_connections{listener="http"} 0"#,
        r#"hale_connections_accepted_total{listener="https"} 2"#,
        "hale_connections_refused_total 1",
        "hale_tls_handshake_failures_total 1",
    ] {
        assert!(has(&text, line), "{line} is missing in\n{text}");
    }
    drop(open);
    assert!(has(
        &scrape(&metrics),
        r#"hale_connections{listener="https"} 0"#
    ));
}

#[test]
fn every_outcome_and_reason_has_its_own_place() {
    for (at, outcome) in Outcome::ALL.iter().enumerate() {
        assert_eq!(outcome.index(), at);
    }
    for (at, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, at);
    }
}
