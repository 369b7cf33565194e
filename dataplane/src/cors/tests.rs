use std::time::Duration;

use super::*;
use crate::config::ObjectRef;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn config() -> config::Cors {
    config::Cors {
        source: ObjectRef {
            kind: "UpstreamPolicy",
            namespace: "shop".into(),
            name: "web".into(),
        },
        allow_origins: strings(&["https://a.example"]),
        allow_methods: strings(&["GET", "PUT"]),
        allow_headers: strings(&["X-One", "Authorization"]),
        expose_headers: strings(&["X-Seen"]),
        allow_credentials: false,
        max_age: Duration::from_secs(60),
    }
}

fn compiled(change: impl FnOnce(&mut config::Cors)) -> Cors {
    let mut config = config();
    change(&mut config);
    Cors::compile(&Arc::new(config))
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn ask(cors: &Cors, origin: &str, method: &str, names: Option<&str>) -> HeaderMap {
    let mut asked = headers(&[
        ("origin", origin),
        ("access-control-request-method", method),
    ]);
    if let Some(names) = names {
        asked.insert("access-control-request-headers", names.parse().unwrap());
    }
    let answer = cors.preflight(&Method::OPTIONS, &asked).unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    answer.headers().clone()
}

fn said<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

const ORIGIN: &str = "access-control-allow-origin";
const METHODS: &str = "access-control-allow-methods";
const HEADERS: &str = "access-control-allow-headers";
const CREDENTIALS: &str = "access-control-allow-credentials";
const EXPOSE: &str = "access-control-expose-headers";

#[test]
fn only_options_with_both_headers_is_a_preflight() {
    let cors = compiled(|_| {});
    let asked = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
    ];
    assert!(cors.preflight(&Method::OPTIONS, &headers(&asked)).is_some());
    assert!(cors.preflight(&Method::GET, &headers(&asked)).is_none());
    assert!(
        cors.preflight(&Method::OPTIONS, &headers(&asked[..1]))
            .is_none()
    );
    assert!(
        cors.preflight(&Method::OPTIONS, &headers(&asked[1..]))
            .is_none()
    );
}

#[test]
fn a_preflight_that_is_allowed_is_told_the_lists() {
    let answer = ask(
        &compiled(|_| {}),
        "https://a.example",
        "PUT",
        Some("x-one,authorization"),
    );
    assert_eq!(said(&answer, ORIGIN), Some("https://a.example"));
    assert_eq!(said(&answer, METHODS), Some("GET, PUT"));
    assert_eq!(said(&answer, HEADERS), Some("X-One, Authorization"));
    assert_eq!(said(&answer, "access-control-max-age"), Some("60"));
    assert_eq!(said(&answer, CREDENTIALS), None);
}

#[test]
fn a_preflight_that_is_not_allowed_is_told_nothing() {
    let cors = compiled(|_| {});
    for (origin, method, names) in [
        ("https://b.example", "PUT", None),
        ("null", "PUT", None),
        ("https://a.example", "DELETE", None),
        ("https://a.example", "put", None),
        ("https://a.example", "PUT", Some("x-two")),
        ("https://a.example", "PUT", Some("x-one, x-two")),
        ("https://a.example", "PUT", Some("x one")),
    ] {
        let answer = ask(&cors, origin, method, names);
        for name in &OURS {
            assert!(!answer.contains_key(name), "{origin} {method} {names:?}");
        }
        assert!(said(&answer, "vary").unwrap().contains("Origin"));
    }
    let twice = headers(&[
        ("origin", "https://a.example"),
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
    ]);
    let answer = cors.preflight(&Method::OPTIONS, &twice).unwrap();
    assert!(!answer.headers().contains_key(ORIGIN));
}

#[test]
fn methods_that_need_no_permission_are_allowed() {
    for method in ["GET", "HEAD", "POST"] {
        let answer = ask(
            &compiled(|_| {}),
            "https://a.example",
            method,
            Some("x-one"),
        );
        assert!(answer.contains_key(ORIGIN), "{method}");
    }
}

#[test]
fn stars_are_told_as_they_are_without_credentials_and_spelt_out_with_them() {
    let all = |config: &mut config::Cors| {
        config.allow_origins = strings(&["*"]);
        config.allow_methods = strings(&["*"]);
        config.allow_headers = strings(&["*"]);
        config.expose_headers = strings(&["*"]);
    };
    let answer = ask(
        &compiled(all),
        "https://x.example",
        "PURGE",
        Some("x-a, x-b"),
    );
    assert_eq!(said(&answer, ORIGIN), Some("*"));
    assert_eq!(said(&answer, METHODS), Some("*"));
    assert_eq!(said(&answer, HEADERS), Some("*"));
    let with = compiled(|config| {
        all(config);
        config.allow_credentials = true;
    });
    let answer = ask(&with, "https://x.example", "PURGE", Some("x-a, x-b"));
    assert_eq!(said(&answer, ORIGIN), Some("https://x.example"));
    assert_eq!(said(&answer, METHODS), Some("PURGE"));
    assert_eq!(said(&answer, HEADERS), Some("x-a, x-b"));
    assert_eq!(said(&answer, CREDENTIALS), Some("true"));
    assert_eq!(said(&ask(&with, "null", "GET", None), ORIGIN), None);
    let mut answer = headers(&[("etag", "1"), ("set-cookie", "a=b")]);
    with.decorate(&Page::Of("https://x.example".parse().unwrap()), &mut answer);
    assert_eq!(said(&answer, EXPOSE), Some("etag, vary"));
}

#[test]
fn a_star_is_not_authorization() {
    for credentials in [false, true] {
        let with = |names: &[&str]| {
            let cors = compiled(|config| {
                config.allow_headers = strings(names);
                config.allow_credentials = credentials;
            });
            let names = Some("x-a, Authorization");
            let answer = ask(&cors, "https://a.example", "PUT", names);
            let said = said(&answer, HEADERS).map(str::to_owned);
            (answer.contains_key(ORIGIN), said)
        };
        assert_eq!(with(&["*"]), (false, None), "{credentials}");
        let told = match credentials {
            true => "x-a, Authorization",
            false => "*, Authorization",
        };
        let told = (true, Some(told.to_owned()));
        assert_eq!(with(&["*", "Authorization"]), told, "{credentials}");
    }
}

#[test]
fn answers_say_who_may_read_them_and_nothing_that_the_upstream_said() {
    let cors = compiled(|config| config.allow_credentials = true);
    let upstream = || {
        headers(&[
            (ORIGIN, "https://evil.example"),
            (CREDENTIALS, "true"),
            (EXPOSE, "x-secret"),
            (METHODS, "DELETE"),
            ("access-control-allow-private-network", "true"),
            ("vary", "Accept"),
        ])
    };
    let mut answer = upstream();
    cors.decorate(&Page::Of("https://a.example".parse().unwrap()), &mut answer);
    assert_eq!(said(&answer, ORIGIN), Some("https://a.example"));
    assert_eq!(said(&answer, CREDENTIALS), Some("true"));
    assert_eq!(said(&answer, EXPOSE), Some("X-Seen"));
    assert_eq!(said(&answer, METHODS), None);
    for page in [
        Page::None,
        Page::Of("https://evil.example".parse().unwrap()),
    ] {
        let mut answer = upstream();
        cors.decorate(&page, &mut answer);
        assert!(OURS.iter().all(|name| !answer.contains_key(name)));
        let vary: Vec<_> = answer.get_all("vary").iter().collect();
        assert_eq!(
            vary,
            ["Accept", "Origin"],
            "caches must know, whatever is said"
        );
    }
}

#[test]
fn vary_is_said_once_and_not_where_the_answer_is_for_all() {
    let page = Page::Of("https://a.example".parse().unwrap());
    for told in ["Accept, origin", "*"] {
        let mut answer = headers(&[("vary", told)]);
        compiled(|_| {}).decorate(&page, &mut answer);
        assert_eq!(answer.get_all("vary").iter().count(), 1);
    }
    let mut answer = HeaderMap::new();
    compiled(|config| config.allow_origins = strings(&["*"])).decorate(&Page::None, &mut answer);
    assert_eq!(said(&answer, ORIGIN), Some("*"));
    assert!(!answer.contains_key("vary"));
}

#[test]
fn why_a_preflight_is_not_allowed_is_told_as_it_is_answered() {
    let cors = compiled(|_| {});
    let told = |pairs: &[(&'static str, &str)]| {
        let asked = headers(pairs);
        let judged = cors.explain(&config(), &Method::OPTIONS, &asked).unwrap();
        let answer = cors.preflight(&Method::OPTIONS, &asked).unwrap();
        assert_eq!(judged.allowed, answer.headers().contains_key(ORIGIN));
        judged.message
    };
    let (method, names) = (
        "access-control-request-method",
        "access-control-request-headers",
    );
    let origin = ("origin", "https://a.example");
    for (pairs, wanted) in [
        (
            &[origin, (method, "PUT"), (names, "x-one")][..],
            "origin, method and headers are allowed by cors of UpstreamPolicy shop/web",
        ),
        (
            &[("origin", "https://b.example"), (method, "PUT")],
            r#"the origin "https://b.example" is not one of allowOrigins of UpstreamPolicy shop/web ("https://a.example")"#,
        ),
        (
            &[origin, origin, (method, "PUT")],
            "the request has more than one Origin",
        ),
        (
            &[origin, (method, "DELETE")],
            r#"the method "DELETE" is not one of allowMethods of UpstreamPolicy shop/web ("GET" or "PUT")"#,
        ),
        (
            &[origin, (method, "PUT"), (names, "x-one, x-two")],
            r#"the header "x-two" is not one of allowHeaders of UpstreamPolicy shop/web ("X-One" or "Authorization")"#,
        ),
        (
            &[origin, (method, "PUT"), (names, "x one")],
            "Access-Control-Request-Headers has what is no name of a header",
        ),
    ] {
        assert_eq!(told(pairs), wanted);
    }
    let plain = headers(&[origin]);
    assert!(cors.explain(&config(), &Method::OPTIONS, &plain).is_none());
}
