//! What goes upstream and downstream, header by header.

use http::{Request, request::Parts};
use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::sanitize::{authority, client_address};

struct Case {
    client: &'static str,
    version: Version,
    method: Method,
    https: bool,
    websocket: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            client: "192.0.2.1",
            version: Version::HTTP_11,
            method: Method::GET,
            https: false,
            websocket: false,
        }
    }
}

const PROXY: Case = Case {
    client: "10.0.0.1",
    version: Version::HTTP_11,
    method: Method::GET,
    https: false,
    websocket: false,
};

impl Case {
    fn send(&self, lines: &[(&str, &str)]) -> HeaderMap {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let client = ClientInfo::new(self.client.parse().unwrap(), self.https, &trusted);
        let mut parts = parts(self, lines);
        let authority = authority(&parts).unwrap();
        let address = client_address(&parts.headers, &client, &trusted);
        request_headers(
            &mut parts.headers,
            &Forwarding {
                via: true,
                client: &client,
                address,
                authority: &authority,
                request_id: &HeaderValue::from_static("id-1"),
                method: &self.method,
                version: self.version,
                websocket: self.websocket,
            },
        );
        parts.headers
    }
}

fn parts(case: &Case, lines: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder()
        .version(case.version)
        .method(&case.method);
    request = if case.version == Version::HTTP_2 {
        request.uri("https://shop.example.com/")
    } else {
        request.uri("/").header(HOST, "shop.example.com")
    };
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

#[test]
fn hop_by_hop_headers_stay_on_their_connection() {
    let headers = Case::default().send(&[
        ("connection", "keep-alive, X-Secret-Hop"),
        ("connection", "close"),
        ("x-secret-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers, deflate;q=0.5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-authenticate", "Basic"),
        ("expect", "100-continue"),
        ("accept", "*/*"),
    ]);
    for gone in [
        "connection",
        "x-secret-hop",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "proxy-authenticate",
        "expect",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(all(&headers, "te"), ["trailers"]);
    assert_eq!(all(&headers, "accept"), ["*/*"]);
    assert!(!Case::default().send(&[("te", "gzip")]).contains_key("te"));
}

#[test]
fn connection_cannot_take_away_what_others_rely_on() {
    let named = "Host, Content-Length, Authorization, Cookie, X-Forwarded-For, X-Forwarded-Proto, X-Real-IP, \
                 X-Request-ID, Forwarded, Via, X-Hale-Consumer, X-Other";
    let headers = Case {
        method: Method::POST,
        ..Case::default()
    }
    .send(&[
        ("connection", named),
        ("content-length", "3"),
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("via", "1.1 other"),
        ("x-other", "1"),
    ]);
    for kept in [
        "host",
        "content-length",
        "authorization",
        "cookie",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
        "forwarded",
    ] {
        assert!(headers.contains_key(kept), "{kept}");
    }
    assert_eq!(all(&headers, "via"), ["1.1 other", "1.1 hale"]);
    assert!(!headers.contains_key("x-other"));
}

#[test]
fn a_clients_forwarded_headers_are_replaced() {
    let headers = Case::default().send(&[
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x_forwarded_for", "3.3.3.3"),
        ("X-Forwarded_For", "3.3.3.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "1"),
        ("x-forwarded-prefix", "/admin"),
        ("x-real-ip", "1.1.1.1"),
        ("x-request-id", "mine"),
        ("forwarded", "for=1.1.1.1"),
        ("x-hale-consumer", "root"),
        ("any_thing", "1"),
    ]);
    assert_eq!(all(&headers, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(all(&headers, "x-real-ip"), ["192.0.2.1"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["shop.example.com"]);
    assert_eq!(all(&headers, "x-forwarded-port"), ["80"]);
    assert_eq!(all(&headers, "x-request-id"), ["id-1"]);
    assert_eq!(all(&headers, "forwarded"), ["for=192.0.2.1;proto=http"]);
    for gone in [
        "x-forwarded-prefix",
        "x-hale-consumer",
        "any_thing",
        "x_forwarded_for",
        "x-forwarded_for",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
}

#[test]
fn a_trusted_proxys_are_appended_to_or_kept() {
    let headers = PROXY.send(&[
        ("x-forwarded-for", "1.1.1.1, 198.51.100.7"),
        ("x-forwarded-for", "10.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/shop"),
        ("x-real-ip", "1.1.1.1"),
        ("forwarded", "for=198.51.100.7"),
        ("x-hale-consumer", "root"),
    ]);
    assert_eq!(
        all(&headers, "x-forwarded-for"),
        ["1.1.1.1, 198.51.100.7, 10.2.2.2, 10.0.0.1"]
    );
    assert_eq!(all(&headers, "x-real-ip"), ["198.51.100.7"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&headers, "x-forwarded-port"), ["443"]);
    assert_eq!(all(&headers, "x-forwarded-prefix"), ["/shop"]);
    assert_eq!(
        all(&headers, "forwarded"),
        ["for=198.51.100.7", "for=10.0.0.1;proto=https"]
    );
    assert!(!headers.contains_key("x-hale-consumer"));
    let lists = PROXY.send(&[
        ("x-forwarded-proto", "https,http"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.test, b.test"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-port", "80"),
    ]);
    assert_eq!(all(&lists, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&lists, "x-forwarded-host"), ["a.test"]);
    assert_eq!(all(&lists, "x-forwarded-port"), ["8443"]);
    assert_eq!(all(&lists, "forwarded"), ["for=10.0.0.1;proto=https"]);
    let bare = PROXY.send(&[]);
    assert_eq!(all(&bare, "x-forwarded-for"), ["10.0.0.1"]);
    assert_eq!(all(&bare, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&bare, "forwarded"), ["for=10.0.0.1;proto=http"]);
}

#[test]
fn http2_requests_become_fit_for_http1() {
    let http2 = Case {
        version: Version::HTTP_2,
        https: true,
        ..Case::default()
    };
    let headers = http2.send(&[
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("content-length", "5"),
        ("content-length", "5"),
    ]);
    assert_eq!(all(&headers, "cookie"), ["a=1; b=2"]);
    assert_eq!(all(&headers, "host"), ["shop.example.com"]);
    assert_eq!(all(&headers, "content-length"), ["5"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&headers, "x-forwarded-port"), ["443"]);
    assert_eq!(all(&headers, "via"), ["2 hale"]);
}

#[test]
fn a_length_that_says_nothing_goes_and_one_that_does_stays() {
    let of = |method: Method| {
        let case = Case {
            method,
            ..Case::default()
        };
        all(&case.send(&[("content-length", "0")]), "content-length").len()
    };
    assert_eq!(
        [of(Method::GET), of(Method::HEAD), of(Method::DELETE)],
        [0, 0, 0]
    );
    assert_eq!(
        [of(Method::POST), of(Method::PUT), of(Method::PATCH)],
        [1, 1, 1]
    );
}

#[test]
fn a_websocket_handshake_keeps_its_upgrade() {
    let headers = Case {
        websocket: true,
        ..Case::default()
    }
    .send(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "x"),
    ]);
    assert_eq!(all(&headers, "connection"), ["upgrade"]);
    assert_eq!(all(&headers, "upgrade"), ["websocket"]);
    assert_eq!(all(&headers, "sec-websocket-key"), ["x"]);
}

#[test]
fn responses_lose_hop_by_hop_and_gain_via() {
    let send = |lines: &[(&'static str, &'static str)], switching| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        response_headers(&mut headers, Version::HTTP_11, switching);
        headers
    };
    let headers = send(
        &[
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2"),
            ("x-hale-reason", "NoRoute"),
            ("content-length", "3"),
            ("x_under", "kept"),
            ("server", "origin"),
        ],
        false,
    );
    for gone in [
        "connection",
        "x-hop",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "x-hale-reason",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(all(&headers, "content-length"), ["3"]);
    assert_eq!(all(&headers, "x_under"), ["kept"]);
    assert_eq!(all(&headers, "server"), ["origin"]);
    assert_eq!(all(&headers, "via"), ["1.1 hale"]);
    assert_eq!(all(&send(&[], false), "server"), ["hale"]);
    let headers = send(
        &[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-accept", "x"),
        ],
        true,
    );
    assert_eq!(all(&headers, "connection"), ["upgrade"]);
    assert_eq!(all(&headers, "upgrade"), ["websocket"]);
}

#[test]
fn trailers_cannot_change_what_was_sent() {
    let mut map = HeaderMap::new();
    for name in [
        "grpc-status",
        "grpc-message",
        "x-checksum",
        "transfer-encoding",
        "content-length",
        "host",
        "authorization",
        "x-forwarded-for",
        "x-hale-consumer",
        "set-cookie",
        "connection",
        "trailer",
    ] {
        map.append(name, HeaderValue::from_static("1"));
    }
    trailers(&mut map);
    let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["grpc-message", "grpc-status", "x-checksum"]);
}

proptest! {
    /// Whatever a stranger sends, what goes upstream says who it is and switches nothing.
    #[test]
    fn strangers_cannot_say_what_proxies_say(
        lines in prop::collection::vec(
            (prop::sample::select(vec![
                "connection", "x-forwarded-for", "x_forwarded_for", "x-real-ip", "x-real_ip", "forwarded", "te",
                "x-request-id", "upgrade", "transfer-encoding", "keep-alive", "x-hale-auth", "x-forwarded-proto",
                "cookie", "authorization", "via", "proxy-connection", "accept", "x-forwarded-user",
            ]),
            prop::sample::select(vec![
                "x-forwarded-for", "x-real-ip, forwarded", "close", "upgrade", "1.1.1.1", "via, x-request-id", "",
                "host, cookie, authorization", ",,;", "https", "\"", "x-forwarded-for,", " x-real-ip ",
            ])),
            0..12,
        ),
    ) {
        let headers = Case::default().send(&lines);
        for (name, value) in [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example.com"),
            ("host", "shop.example.com"),
            ("x-request-id", "id-1"),
            ("forwarded", "for=192.0.2.1;proto=http"),
        ] {
            prop_assert_eq!(all(&headers, name), vec![value]);
        }
        prop_assert_eq!(headers.get_all(VIA).iter().next_back().unwrap(), "1.1 hale");
        for name in headers.keys() {
            let class = names::class(name.as_str());
            prop_assert!(!matches!(class, names::Class::Hop(_) | names::Class::Hale | names::Class::Odd), "{}", name);
            prop_assert!(name != "x-forwarded-user");
        }
        for kept in ["cookie", "authorization", "accept"] {
            let sent = lines.iter().any(|(name, _)| *name == kept);
            prop_assert_eq!(headers.contains_key(kept), sent, "{}", kept);
        }
    }
}
