//! What clients read.

use http::HeaderMap;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;

fn upstream() -> UpstreamId {
    UpstreamId {
        namespace: "shop".into(),
        service: "checkout".into(),
        port: "http".into(),
    }
}

fn no_peer() -> Reject {
    let detail = PeerDetail {
        peer: "10.244.0.7:8080".parse().unwrap(),
        pod: Some("checkout-7d9f-abcde".into()),
        reason: Reason::ActiveCheckFailed,
        message: "GET /healthz: HTTP 503, want 200-399, 7 in a row <b>".into(),
        since: "2026-11-22T10:00:00Z".parse().unwrap(),
    };
    Reject::new(Reason::NoEligiblePeer).of_peers(
        &upstream(),
        Peers {
            total: 5,
            by_reason: [(Reason::NotReady, 1), (Reason::ActiveCheckFailed, 4)].into(),
            detail: vec![detail],
        },
    )
}

fn audience(form: Form, explain: bool) -> Audience<'static> {
    static ID: HeaderValue = HeaderValue::from_static("id-1");
    Audience {
        form,
        explain,
        request_id: Some(&ID),
    }
}

/// Status, headers and body.
fn answer(reject: &Reject, audience: &Audience<'_>) -> (u16, HeaderMap, String) {
    let (parts, body) = reject.respond(audience).into_parts();
    let mut body = Box::pin(body.collect());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok(body)) = body.as_mut().poll(&mut context) else {
        panic!("a full body is ready");
    };
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    (parts.status.as_u16(), parts.headers, text)
}

fn body(reject: &Reject, explain: bool) -> Value {
    serde_json::from_str(&answer(reject, &audience(Form::Json, explain)).2).unwrap()
}

#[test]
fn the_explained_503_has_the_shape_of_the_manual() {
    let (status, headers, text) = answer(&no_peer(), &audience(Form::Json, true));
    assert_eq!(status, 503);
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(headers["x-hale-reason"], "NoEligiblePeer");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["retry-after"], "5");
    let wanted = concat!(
        r#"{"type":"urn:hale:no-eligible-peer","title":"No healthy upstream","status":503,"reason":"NoEligiblePeer","#,
        r#""upstream":"shop/checkout:http","peers":{"total":5,"byReason":{"NotReady":1,"ActiveCheckFailed":4}},"#,
        r#""detail":[{"peer":"10.244.0.7:8080","pod":"checkout-7d9f-abcde","reason":"ActiveCheckFailed","#,
        r#""message":"GET /healthz: HTTP 503, want 200-399, 7 in a row <b>","since":"2026-11-22T10:00:00Z"}],"#,
        r#""requestId":"id-1"}"#,
        "\n"
    );
    assert_eq!(text, wanted);
}

#[test]
fn names_and_addresses_are_for_explained_clients() {
    let told = body(&no_peer(), false);
    assert_eq!(
        told["peers"],
        json!({"total": 5, "byReason": {"ActiveCheckFailed": 4, "NotReady": 1}})
    );
    assert_eq!(told.get("detail"), None);
    for form in [Form::Json, Form::Html, Form::Grpc] {
        let (_, headers, text) = answer(&no_peer(), &audience(form, false));
        let all = format!("{headers:?}{text}");
        assert!(
            !all.contains("10.244") && !all.contains("abcde"),
            "{form:?}"
        );
    }
    let problem = Problem {
        reason: Reason::ServiceNotFound,
        message: "Service shop/checkout does not exist".into(),
    };
    let reject = Reject::from(&problem);
    assert_eq!(body(&reject, false).get("message"), None);
    assert_eq!(
        body(&reject, true)["message"],
        json!("Service shop/checkout does not exist")
    );
}

#[test]
fn the_page_is_whole_and_escaped() {
    let (status, headers, page) = answer(&no_peer(), &audience(Form::Html, true));
    assert_eq!(status, 503);
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    assert!(
        headers["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("<h1>No healthy upstream</h1>"));
    assert!(page.contains("5: 4 ActiveCheckFailed, 1 NotReady"));
    assert!(page.contains("7 in a row &lt;b&gt;") && !page.contains("<b>"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
}

#[test]
fn grpc_is_answered_in_trailers_only() {
    let (status, headers, body) = answer(&no_peer(), &audience(Form::Grpc, true));
    assert_eq!((status, body.as_str()), (200, ""));
    assert_eq!(headers["content-type"], "application/grpc");
    assert_eq!(headers["grpc-status"], "14");
    assert_eq!(
        headers["grpc-message"],
        "NoEligiblePeer: No healthy upstream: 4 ActiveCheckFailed, 1 NotReady"
    );
    assert_eq!(headers["x-hale-reason"], "NoEligiblePeer");
    for (reason, wanted) in [
        (Reason::UpstreamTimeout, "4"),
        (Reason::AuthRequired, "16"),
        (Reason::AuthDenied, "7"),
        (Reason::RateLimited, "8"),
        (Reason::NoRoute, "12"),
    ] {
        let (_, headers, _) = answer(&reason.into(), &audience(Form::Grpc, false));
        assert_eq!(headers["grpc-status"], wanted, "{reason}");
    }
    let named = || Reject::new(Reason::PortNotFound).explaining("Service shop/web".into());
    for (explain, wanted) in [
        (true, "Service shop/web"),
        (false, "Service port not found"),
    ] {
        let (_, headers, _) = answer(&named(), &audience(Form::Grpc, explain));
        let message = headers["grpc-message"].to_str().unwrap();
        assert!(message.ends_with(wanted), "{message}");
    }
    let percent = Reject::new(Reason::BadRequest).saying("50 % ä");
    let (_, headers, _) = answer(&percent, &audience(Form::Grpc, false));
    assert_eq!(
        headers["grpc-message"],
        "BadRequest: Bad request: 50 %25 %C3%A4"
    );
}

#[test]
fn the_form_follows_the_request() {
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (name, value, wanted) in [
        ("accept", "*/*", Form::Json),
        ("accept", browser, Form::Html),
        ("accept", "TEXT/HTML", Form::Html),
        ("accept", "text/html;q=0.5, application/json", Form::Json),
        ("accept", "application/json;q=0.5, text/html", Form::Html),
        ("accept", "text/html;q=0", Form::Json),
        ("accept", "text/html; q=nonsense", Form::Html),
        ("accept", "text/htmlx", Form::Json),
        ("content-type", "application/grpc", Form::Grpc),
        ("content-type", "application/grpc+proto", Form::Grpc),
        ("content-type", "application/grpc;charset=x", Form::Grpc),
        ("content-type", "application/grpc-web", Form::Json),
        ("content-type", "application/json", Form::Json),
    ] {
        let headers = HeaderMap::from_iter([(
            header::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )]);
        assert_eq!(Form::of(&headers), wanted, "{name}: {value}");
    }
    assert_eq!(Form::of(&HeaderMap::new()), Form::Json);
}

#[test]
fn every_reason_has_a_status_and_words() {
    for reason in Reason::ALL {
        let reject = Reject::new(*reason);
        assert!(reject.status.as_u16() >= 400, "{reason}");
        assert!(
            !words::title(*reason).is_empty() && !words::title(*reason).ends_with('.'),
            "{reason}"
        );
        assert_ne!(
            words::grpc_status(*reason),
            0,
            "{reason}: gRPC never gets an invented OK"
        );
        let told = body(&reject, false);
        assert_eq!(told["type"], json!(format!("urn:hale:{}", reason.kebab())));
        assert_eq!(told["status"], json!(reject.status.as_u16()));
    }
    assert_eq!(Reject::from(Bad::NoHost).status, StatusCode::BAD_REQUEST);
    assert_eq!(
        Reject::from(Bad::TransferEncoding).status,
        StatusCode::NOT_IMPLEMENTED
    );
    assert_eq!(
        body(&Bad::NoHost.into(), false)["message"],
        json!("The request names no host")
    );
}
