//! Who sent a request is for Hale to say: a client's own word of it goes nowhere, in no spelling, also where no
//! credential was asked for.

use bytes::Bytes;
use hale_dataplane::config::{
    ApiKeys, CredentialPlace, ExternalService, PathRule, Protocol, RequestPolicy, Resolved,
};
use http_body_util::{BodyExt, Full};

use super::{any_of, api_key, external, jwt, requiring, with};
use crate::{
    support::{Hale, Origin, Shop},
    wire::{Recorder, status, talk},
};

/// Names of ours, of the claims of tokens (`x-user`) and of the external service (`x-team` and more), as some servers
/// read them: CGI and its kin make `_` of whatever is no letter or digit.
const NAMES: [&str; 31] = [
    "X-Hale-Consumer",
    "x-hale-consumer",
    "X-HALE-CONSUMER",
    "X_Hale_Consumer",
    "x-hale_consumer",
    "x.hale.consumer",
    "x~hale~consumer",
    "x-hale.consumer",
    "X-Hale-Auth",
    "x_hale_auth",
    "x|hale|auth",
    "X-Hale-Anything",
    "X-User",
    "x-user",
    "X_User",
    "x.user",
    "x!user",
    "X-Team",
    "x_team",
    "x'team",
    "x^team",
    "x`team",
    "X-Forwarded-User",
    "x-forwarded-user",
    "X_FORWARDED_USER",
    "x.forwarded.user",
    "X-Original-User",
    "x-original_user",
    "X-Mail",
    "x_mail",
    "x.mail",
];

/// Everybody may have `/public`; the policy's methods set `x-user`, `x-team` and more.
fn guarded() -> RequestPolicy {
    let mut rules = any_of(vec![
        jwt(Resolved::Known(Default::default())),
        api_key(
            CredentialPlace::Header("x-api-key".into()),
            Resolved::Known(ApiKeys::default()),
        ),
        external(ExternalService::Url("http://127.0.0.1:1".into())),
    ]);
    rules.exempt_paths = vec![PathRule::prefix("/public").unwrap()];
    requiring(rules)
}

/// Requests that say who they are, in every way that a header or trailer can be said.
fn spoofs() -> Vec<String> {
    let close = "POST /public HTTP/1.1\r\nhost: shop.test\r\n";
    let mut all = Vec::new();
    for name in NAMES {
        all.push(format!("{close}connection: close\r\n{name}: root\r\n\r\n"));
        all.push(format!(
            "{close}connection: close\r\n{name}: a\r\n{name}: root\r\n\r\n"
        ));
        all.push(format!("{close}connection: close\r\n{name}:root\r\n\r\n"));
        all.push(format!("{close}connection: close\r\n{name} : root\r\n\r\n"));
        all.push(
            format!("{close}connection: close\r\nx-other: a\r\n {name}: root\r\n\r\n")
                .replace("\r\n ", "\r\n\t"),
        );
        all.push(format!(
            "{close}connection: close, {name}\r\n{name}: root\r\n\r\n"
        ));
        all.push(format!("{close}connection: close\r\nte: trailers\r\ntrailer: {name}\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{name}: root\r\n\r\n"));
        all.push(format!("{close}connection: close\r\ntrailer: a, {name}, b\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{name}: root\r\n\r\n"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_says_who_it_is() {
    let recorder = Recorder::new().await;
    // A proxy that is trusted passes on what its own clients say of themselves.
    for proxies in [vec![], vec!["127.0.0.0/8".parse().unwrap()]] {
        let hale = Hale::with(with(&recorder, &[("/", guarded())]), |options| {
            options.trusted_proxies = proxies.clone();
        });
        let mut passed = 0;
        for request in spoofs() {
            let answer = talk(&hale, &request).await;
            passed += usize::from(status(&answer) == "200");
            for seen in recorder.seen() {
                assert!(!seen.contains("root"), "{request}\nbecame\n{seen}");
            }
        }
        assert!(passed > spoofs().len() / 2, "{passed} passed");
    }
}

/// Trailers of HTTP/2 come without being announced.
#[tokio::test(flavor = "multi_thread")]
async fn no_client_says_who_it_is_in_trailers_of_http2() {
    let (told, mut said) = tokio::sync::mpsc::unbounded_channel();
    let origin = Origin::http2(move |request: http::Request<hyper::body::Incoming>| {
        let told = told.clone();
        async move {
            let collected = request.into_body().collect().await.unwrap();
            told.send(collected.trailers().cloned().unwrap_or_default())
                .unwrap();
            http::Response::new(Full::new(Bytes::from_static(b"ok")))
        }
    })
    .await;
    let mut shop = Shop::of(&[origin.address]);
    shop.upstream.protocol = Protocol::Http2;
    shop.policy = guarded();
    let hale = shop.serve();
    for name in NAMES {
        let request = format!(
            "POST /public HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\ntrailer: {name}, x-sum\r\n\
             transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{name}: root\r\nx-sum: 1\r\n\r\n"
        );
        assert_eq!(status(&talk(&hale, request).await), "200", "{name}");
        let trailers = said.recv().await.unwrap();
        assert!(
            !trailers.values().any(|value| value == "root"),
            "{trailers:?}"
        );
    }
}
