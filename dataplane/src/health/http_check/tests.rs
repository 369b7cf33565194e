//! Against scripted peers on real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod protocols;

use std::{net::SocketAddr, sync::Arc};

use super::*;
use crate::{
    config::CheckKind,
    health::{
        check::USES,
        origin::{Act, Origin, ample, answer, refusing, short, silent, target},
        testing,
    },
    reason::Reason,
};

struct Asker {
    plan: HttpPlan,
    target: ProbeTarget,
    checker: HttpChecker,
}

impl Asker {
    fn new(check: &HttpCheck, address: SocketAddr) -> Self {
        let active = testing::check(CheckKind::Http(check.clone()));
        Self {
            plan: HttpPlan::new(check, active.interval).unwrap(),
            target: target(&Arc::new(active), address),
            checker: HttpChecker::new(Arc::new(Semaphore::new(1))),
        }
    }

    /// `+` or `-` and the words, and `*` where a new connection was made.
    async fn ask(&mut self, deadline: Deadline) -> String {
        let mut signs = Signs::default();
        let result = self
            .checker
            .check(&self.plan, &self.target, deadline, &mut signs)
            .await;
        let star = if signs.connected { "*" } else { "" };
        match result {
            Ok(words) => format!("{star}+ {words}"),
            Err(words) => format!("{star}- {words}"),
        }
    }
}

fn healthz() -> HttpCheck {
    testing::http_check("/healthz")
}

fn with_body(wanted: BodyMatch) -> HttpCheck {
    HttpCheck {
        expected_body: Some(wanted),
        ..healthz()
    }
}

async fn once(check: &HttpCheck, act: Act, deadline: Deadline) -> String {
    let origin = Origin::always(act).await;
    Asker::new(check, origin.address).ask(deadline).await
}

#[tokio::test]
async fn the_status_decides() {
    let strict = HttpCheck {
        expected_statuses: vec![
            StatusRange { from: 200, to: 299 },
            StatusRange { from: 418, to: 418 },
        ],
        ..healthz()
    };
    for (check, status, wanted) in [
        (healthz(), 200, "*+ HTTP 200"),
        (healthz(), 399, "*+ HTTP 399"),
        (healthz(), 503, "*- HTTP 503, want 200-399"),
        (strict.clone(), 418, "*+ HTTP 418"),
        (
            strict.clone(),
            300,
            "*- HTTP 300, want 200-299, 418 (redirects are not followed)",
        ),
        (strict, 404, "*- HTTP 404, want 200-299, 418"),
    ] {
        let act = Act::Answer(answer(status, "body"));
        assert_eq!(once(&check, act, ample()).await, wanted);
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
    let origin = Origin::always(Act::Answer(redirect.into())).await;
    let words = Asker::new(&healthz(), origin.address).ask(ample()).await;
    assert_eq!(words, "*+ HTTP 302");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn the_body_decides_where_it_is_wanted() {
    let ok = || with_body(BodyMatch::Contains("\"ok\"".into()));
    let up = || with_body(BodyMatch::Regex("^(up|ready)$".into()));
    let long = |spaces: usize| answer(200, &(" ".repeat(spaces) + "\"ok\"" + &"x".repeat(100_000)));
    for (check, text, wanted) in [
        (ok(), answer(200, "{\"state\":\"ok\"}"), "*+ HTTP 200"),
        (
            ok(),
            answer(200, "{\"state\":\"no\"}"),
            r#"*- HTTP 200, want a body with "\"ok\"""#,
        ),
        (ok(), answer(503, "\"ok\""), "*- HTTP 503, want 200-399"),
        (ok(), long(4092), "*+ HTTP 200"),
        (
            ok(),
            long(4093),
            r#"*- HTTP 200, want a body with "\"ok\"" in its first 4 KiB"#,
        ),
        (up(), answer(200, "ready"), "*+ HTTP 200"),
        (
            up(),
            answer(200, "not ready"),
            r#"*- HTTP 200, want a body that matches "^(up|ready)$""#,
        ),
    ] {
        assert_eq!(once(&check, Act::Answer(text), ample()).await, wanted);
    }
}

#[tokio::test]
async fn a_body_that_stops_is_told_apart() {
    let check = with_body(BodyMatch::Contains("ready".into()));
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nrea";
    assert_eq!(
        once(&check, Act::Last(head.into()), ample()).await,
        "*- HTTP 200, want a body with \"ready\" before the connection ended"
    );
    assert_eq!(
        once(&check, Act::Hang(head.into()), short()).await,
        "*- HTTP 200, want a body with \"ready\" in time"
    );
    let enough = format!("{head}dy");
    assert_eq!(
        once(&check, Act::Hang(enough), short()).await,
        "*+ HTTP 200"
    );
}

#[tokio::test]
async fn an_endless_body_that_nobody_wants_changes_nothing() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let words = once(&healthz(), Act::Hang(head.into()), ample()).await;
    assert_eq!(words, "*+ HTTP 200");
}

#[tokio::test]
async fn what_went_wrong_is_said() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "y".repeat(20_000));
    type Case = (Act, fn() -> Deadline, &'static str);
    let cases: [Case; 6] = [
        (Act::Hang(String::new()), short, "*- no answer within 500ms"),
        (
            Act::Hang("HTTP/1.1 2".into()),
            short,
            "*- no answer within 500ms",
        ),
        (Act::Close, ample, "*- connection closed without an answer"),
        (Act::Reset, ample, "*- connection reset without an answer"),
        (
            Act::Last("220 mail\r\n".into()),
            ample,
            "*- the answer is not HTTP; does the port speak TLS, or HTTP/2?",
        ),
        (
            Act::Hang(long),
            ample,
            "*- the answer's head is larger than 8 KiB",
        ),
    ];
    for (act, deadline, wanted) in cases {
        assert_eq!(once(&healthz(), act, deadline()).await, wanted);
    }
    let (_held, address) = refusing();
    let words = Asker::new(&healthz(), address).ask(ample()).await;
    assert_eq!(words, "- connection refused");
    let (_held, address) = silent();
    let words = Asker::new(&healthz(), address).ask(short()).await;
    assert_eq!(words, "- no connection within 500ms");
}

#[tokio::test]
async fn the_request_is_what_the_policy_says() {
    let origin = Origin::always(Act::Answer(answer(204, ""))).await;
    let address = origin.address;
    let check = HttpCheck {
        method: "POST".into(),
        path: "/check?deep=1".into(),
        host: Some("shop.example".into()),
        headers: vec![
            ("X-Probe".into(), "1".into()),
            ("User-Agent".into(), "mine".into()),
        ],
        ..healthz()
    };
    assert_eq!(
        Asker::new(&check, address).ask(ample()).await,
        "*+ HTTP 204"
    );
    assert_eq!(
        Asker::new(&healthz(), address).ask(ample()).await,
        "*+ HTTP 204"
    );
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.trim_end().lines().map(Into::into).collect();
        lines[1..].sort();
        lines
    };
    let requests = origin.requests();
    assert_eq!(
        sorted(&requests[0]),
        [
            "POST /check?deep=1 HTTP/1.1",
            "accept: */*",
            "content-length: 0",
            "host: shop.example",
            "user-agent: mine",
            "x-probe: 1",
        ]
    );
    assert_eq!(
        sorted(&requests[1]),
        [
            "GET /healthz HTTP/1.1".to_owned(),
            "accept: */*".into(),
            format!("host: {address}"),
            concat!("user-agent: hale-check/", env!("CARGO_PKG_VERSION")).into(),
        ]
    );
}

#[tokio::test]
async fn a_connection_is_kept_for_a_while() {
    let origin = Origin::always(Act::Answer(answer(200, "fine"))).await;
    let mut asker = Asker::new(&healthz(), origin.address);
    for check in 0..2 * USES {
        let wanted = if check % USES == 0 {
            "*+ HTTP 200"
        } else {
            "+ HTTP 200"
        };
        assert_eq!(asker.ask(ample()).await, wanted, "{check}");
    }
    assert_eq!(origin.connections(), 2);

    // Requests could not connect: a kept connection would only hide that.
    let vitals = asker.target.vitals.clone();
    let now = Instant::now();
    vitals.record_connect_failure(Reason::ConnectRefused, "connection refused", now);
    assert_eq!(asker.ask(ample()).await, "*+ HTTP 200");
    vitals.record_success();
    assert_eq!(asker.ask(ample()).await, "+ HTTP 200");
    assert_eq!(origin.connections(), 3);
}

#[tokio::test]
async fn connections_are_kept_as_far_as_there_is_room() {
    let origin = Origin::always(Act::Answer(answer(200, "fine"))).await;
    let mut first = Asker::new(&healthz(), origin.address);
    let mut second = Asker::new(&healthz(), origin.address);
    second.checker = HttpChecker::new(first.checker.keeper.permits.clone());
    assert_eq!(first.ask(ample()).await, "*+ HTTP 200");
    assert_eq!(second.ask(ample()).await, "*+ HTTP 200");
    assert_eq!(second.ask(ample()).await, "*+ HTTP 200");
    assert_eq!(first.ask(ample()).await, "+ HTTP 200");
    first.checker.forget();
    assert_eq!(second.ask(ample()).await, "*+ HTTP 200");
    assert_eq!(second.ask(ample()).await, "+ HTTP 200");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_no_failure() {
    // With and without a word, before the next request and because of it.
    let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let scripts: [fn(usize, &str) -> Act; 4] = [
        |_, close| Act::Last(close.into()),
        |_, _| Act::Last(answer(200, "")),
        |on_connection, _| match on_connection {
            0 => Act::Answer(answer(200, "")),
            _ => Act::Close,
        },
        |on_connection, _| match on_connection {
            0 => Act::Answer(answer(200, "")),
            _ => Act::Reset,
        },
    ];
    for script in scripts {
        let origin = Origin::start(move |on_connection, _| script(on_connection, close)).await;
        let mut asker = Asker::new(&healthz(), origin.address);
        for _ in 0..3 {
            assert_eq!(asker.ask(ample()).await, "*+ HTTP 200");
        }
        assert_eq!(origin.connections(), 3);
    }
}

#[tokio::test]
async fn a_kept_connection_that_hangs_is_a_failure_and_not_kept() {
    let origin = Origin::start(|on_connection, _| match on_connection {
        0 => Act::Answer(answer(200, "")),
        _ => Act::Hang(String::new()),
    })
    .await;
    let mut asker = Asker::new(&healthz(), origin.address);
    assert_eq!(asker.ask(ample()).await, "*+ HTTP 200");
    assert_eq!(asker.ask(short()).await, "- no answer within 500ms");
    assert_eq!(asker.ask(ample()).await, "*+ HTTP 200");
}

#[test]
fn a_check_that_cannot_be_sent_says_why() {
    let with = |change: fn(&mut HttpCheck)| {
        let mut check = healthz();
        change(&mut check);
        HttpPlan::new(&check, Duration::from_secs(5)).err().unwrap()
    };
    let words = [
        with(|check| check.method = "GET IT".into()),
        with(|check| check.path = "/a b".into()),
        with(|check| check.headers = vec![("a b".into(), "c".into())]),
        with(|check| check.headers = vec![("a".into(), "b\nc".into())]),
        with(|check| check.expected_body = Some(BodyMatch::Regex("(".into()))),
    ];
    assert_eq!(
        words,
        [
            "\"GET IT\" is not a method",
            "\"/a b\" is not a path",
            "\"a b\" is not a header name",
            "the value of \"a\" cannot be sent",
            "\"(\" cannot be compiled",
        ]
    );
}
