//! What is seen from outside: answers for people, the access log, metrics.

use hale_dataplane::{
    AccessLog,
    config::Readiness,
    prometheus_client::{encoding::text::encode, registry::Registry},
};
use serde_json::{Value, json};

use crate::{
    support::{Hale, Origin, Shop, dead, until},
    wire::{Recorder, body, get, status, talk, values},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_reads_a_page() {
    let mut shop = Shop::of(&[dead().await]);
    shop.upstream.peers[0].readiness = Readiness::Unready;
    let hale = shop.serve();
    let page = talk(
        &hale,
        get(
            "/%3Cscript%3E?%3Cscript%3E",
            "accept: text/html,*/*;q=0.8\r\n",
        ),
    )
    .await;
    assert_eq!(values(&page, "content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(values(&page, "cache-control"), ["no-store"]);
    assert_eq!(values(&page, "retry-after"), ["5"]);
    assert!(
        body(&page).contains("<h1>No healthy upstream</h1>"),
        "{page}"
    );
    assert!(
        body(&page).contains("NotReady"),
        "loopback is explained to: {page}"
    );
    assert!(!page.contains("script"), "nothing is reflected: {page}");
    let head = talk(
        &hale,
        get("/", "accept: text/html\r\n").replacen("GET", "HEAD", 1),
    )
    .await;
    assert_eq!((status(&head), body(&head)), ("503", ""));
    assert_ne!(values(&head, "content-length"), ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_counts_and_no_names() {
    let mut shop = Shop::of(&[dead().await]);
    shop.upstream.peers[0].readiness = Readiness::Unready;
    let pod = shop.upstream.peers[0].pod.clone().unwrap();
    let hale = Hale::with(shop.config(), |options| options.explain = Vec::new());
    let response = talk(&hale, get("/", "")).await;
    let told: Value = serde_json::from_str(body(&response)).unwrap();
    assert_eq!(
        told["peers"],
        json!({"total": 1, "byReason": {"NotReady": 1}})
    );
    assert_eq!(told.get("detail"), None);
    assert_eq!(told.get("upstream"), None);
    let html = talk(&hale, get("/", "accept: text/html\r\n")).await;
    for response in [response, html] {
        assert!(!response.contains(&pod), "{response}");
        assert!(!response.contains("shop/web"), "{response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loopback_address_in_x_forwarded_for_makes_no_client_local() {
    let mut shop = Shop::of(&[dead().await]);
    shop.upstream.peers[0].readiness = Readiness::Unready;
    // The tests' own connections come from 127.0.0.1, which stands for a trusted balancer here.
    let hale = Hale::with(shop.config(), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        options.explain = vec!["127.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()];
    });
    for claimed in ["127.1.0.1", "::1", "::ffff:127.1.0.1", "198.51.100.7, ::1"] {
        let head = format!("x-forwarded-for: {claimed}\r\n");
        let response = talk(&hale, get("/", &head)).await;
        let told: Value = serde_json::from_str(body(&response)).unwrap();
        assert_eq!(told.get("detail"), None, "{claimed}");
        assert_eq!(told.get("upstream"), None, "{claimed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_every_attempt_and_no_secret() {
    let path = std::env::temp_dir().join(format!("hale-observed-{}.log", std::process::id()));
    let origin = Origin::saying("hello").await;
    let refused = dead().await;
    let hale = Hale::with(Shop::of(&[refused, origin.address]).config(), |options| {
        options.access_log = AccessLog::File(path.clone());
    });
    let lines = || -> Vec<Value> {
        std::fs::read_to_string(&path)
            .unwrap_or_default()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    // Round robin meets the dead peer with one of the first two.
    for _ in 0..2 {
        let headers = "user-agent: te\"st\r\nauthorization: Bearer secret\r\ncookie: secret\r\n";
        assert_eq!(
            status(&talk(&hale, get("/a/../b?token=secret", headers)).await),
            "200"
        );
    }
    talk(&hale, get("/%00secret", "")).await;
    until("three lines are written", async || lines().len() == 3).await;
    let retried = lines()
        .into_iter()
        .find(|line| line["attempts"].as_array().unwrap().len() == 2)
        .unwrap();
    assert_eq!(
        retried["attempts"],
        json!([
            {"peer": refused.to_string(), "outcome": "ConnectRefused"},
            {"peer": origin.address.to_string(), "status": 200},
        ])
    );
    for (key, wanted) in [
        ("client", json!("127.0.0.1")),
        ("method", json!("GET")),
        ("host", json!("shop.test")),
        ("path", json!("/b")),
        ("query_len", json!(12)),
        ("protocol", json!("HTTP/1.1")),
        ("status", json!(200)),
        ("bytes_out", json!(5)),
        ("route", json!("Ingress shop/web")),
        ("upstream", json!("shop/web:http")),
        ("user_agent", json!("te\"st")),
    ] {
        assert_eq!(retried[key], wanted, "{key}");
    }
    let bad = lines()
        .into_iter()
        .find(|line| line["status"] == json!(400))
        .unwrap();
    assert_eq!(
        (&bad["reason"], &bad["attempts"]),
        (&json!("BadRequest"), &json!([]))
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        !text.contains("token") && !text.contains("Bearer"),
        "{text}"
    );
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let recorder = Recorder::new().await;
    let hale = recorder.hale();
    let mut registry = Registry::default();
    hale.dataplane.register_metrics(&mut registry);
    for _ in 0..3 {
        talk(&hale, get("/", "")).await;
    }
    talk(&hale, get("/%00", "")).await;
    let scrape = || {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    };
    let wanted = [
        r#"hale_requests_total{upstream="shop/web:http",code_class="2xx"} 3"#,
        r#"hale_request_duration_seconds_count{upstream="shop/web:http"} 3"#,
        r#"hale_upstream_attempts_total{upstream="shop/web:http",outcome="Answered"} 3"#,
        r#"hale_rejects_total{reason="BadRequest"} 1"#,
        r#"hale_peers{upstream="shop/web:http",standing="Serve",reason=""} 1"#,
        r#"hale_connections_accepted_total{listener="http"} 4"#,
        r#"hale_connections{listener="http"} 0"#,
        "hale_table_generation 1",
    ];
    until("everything is counted", async || {
        let text = scrape();
        wanted
            .iter()
            .all(|line| text.lines().any(|found| found == *line))
    })
    .await;
}
