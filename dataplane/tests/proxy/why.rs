//! What `why` says of requests that policies decide about.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use hale_dataplane::{
    config::{
        Access, AccessRules, ApiKey, ApiKeyEntry, ApiKeys, Auth, AuthMethod, AuthRules, Basic,
        Config, Cors, CredentialPlace, External, ExternalService, PathRule, Resolved, UpstreamId,
    },
    reason::Reason,
    report::{Trial, WhyReport, WhyRequest},
};
use http::{HeaderMap, Method};

use crate::support::{Hale, Origin, Shop, dead, policy};

fn api_key() -> AuthMethod {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, b"s3cret").as_ref());
    AuthMethod::ApiKey(ApiKey {
        location: CredentialPlace::Header("x-api-key".into()),
        keys: Resolved::Known(ApiKeys(vec![ApiKeyEntry {
            consumer: "acme".into(),
            digest: hash,
        }])),
    })
}

fn any_of(methods: Vec<AuthMethod>) -> Auth {
    Auth::AnyOf(Arc::new(AuthRules {
        source: policy(),
        methods,
        exempt_paths: vec![PathRule::exact("/healthz").unwrap()],
        forward_credential: false,
    }))
}

/// A shop that works, whose policy asks peers of `auth/judge:http`.
fn asking(
    shop: SocketAddr,
    judge: &[SocketAddr],
    fail_open: bool,
    before: Option<AuthMethod>,
) -> Config {
    let mut shop = Shop::of(&[shop]);
    let mut upstream = Shop::of(judge).upstream;
    upstream.id = UpstreamId {
        namespace: "auth".into(),
        service: "judge".into(),
        port: "http".into(),
    };
    let external = AuthMethod::External(External {
        service: ExternalService::Upstream(upstream.id.clone()),
        path: "/".into(),
        timeout: Duration::from_secs(5),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        sign_in: None,
        fail_open,
    });
    shop.policy.auth = any_of(before.into_iter().chain([external]).collect());
    let mut config = shop.config();
    config.upstreams.insert(0, upstream);
    config
}

fn question(path: &str) -> WhyRequest {
    WhyRequest {
        https: false,
        host: "shop.test".into(),
        path: path.into(),
    }
}

async fn tried(
    hale: &Hale,
    method: Method,
    headers: &[(&'static str, &str)],
    client: Option<&str>,
) -> WhyReport {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let trial = Trial {
        method,
        target: "/".parse().unwrap(),
        authority: "shop.test".into(),
        headers: map,
        client: client.map(|client| client.parse().unwrap()),
    };
    let why = hale.dataplane.why_trying(question("/"), trial).await;
    why.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_auth_service_refuses_as_the_dead_upstream_of_a_route_does() {
    let origin = Origin::saying("hello").await;
    let gone = dead().await;
    let hale = Hale::start(asking(origin.address, &[gone], false, None));
    let before = hale.dataplane.why(&question("/")).unwrap();
    assert_eq!(before.reason, None, "nobody knows yet");
    assert_eq!(hale.get("/").await.status(), 503);

    let why = hale.dataplane.why(&question("/")).unwrap();
    assert_eq!(why.reason, Some(Reason::AuthUnavailable), "{why:?}");
    let trouble = "auth/judge:http: ConnectRefused: ";
    assert!(
        why.message
            .starts_with(&format!("nobody is let in: external: {trouble}")),
        "{}",
        why.message
    );
    let peers = why.auth_upstream.unwrap().peers;
    assert_eq!(peers[0].address, gone);
    let why = tried(&hale, Method::GET, &[], None).await;
    assert_eq!(why.reason, Some(Reason::AuthUnavailable));
    assert!(why.message.starts_with(trouble), "{}", why.message);
    let unavailable = hale.dataplane.report().unavailable;
    assert_eq!(unavailable.len(), 1, "{unavailable:?}");
    assert!(unavailable[0].message.contains(trouble), "{unavailable:?}");

    let exempt = hale.dataplane.why(&question("/healthz")).unwrap();
    assert_eq!(exempt.reason, None);
    assert!(exempt.auth_upstream.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auth_service_without_peers_costs_only_whom_it_would_be_asked_about() {
    let origin = Origin::saying("hello").await;
    let hale = Hale::start(asking(origin.address, &[], false, Some(api_key())));
    let why = hale.dataplane.why(&question("/")).unwrap();
    assert_eq!(why.reason, None, "an API key will do");
    let methods = why.policies.unwrap().auth.unwrap().methods;
    let lost = methods[1].unavailable.as_deref().unwrap_or_default();
    assert!(
        lost.starts_with("auth/judge:http: NoEligiblePeer"),
        "{lost}"
    );
    let good = tried(&hale, Method::GET, &[("x-api-key", "s3cret")], None).await;
    assert_eq!(good.reason, None);
    let none = tried(&hale, Method::GET, &[], None).await;
    assert_eq!(none.reason, Some(Reason::AuthUnavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn fail_open_is_told_and_refuses_nobody() {
    let origin = Origin::saying("hello").await;
    let hale = Hale::start(asking(origin.address, &[], true, None));
    assert_eq!(hale.get("/").await.status(), 200);
    let why = hale.dataplane.why(&question("/")).unwrap();
    assert_eq!(why.reason, None);
    let methods = why.policies.unwrap().auth.unwrap().methods;
    assert!(
        methods[0].wants.contains("failOpen lets requests pass"),
        "{methods:?}"
    );
    let why = tried(&hale, Method::GET, &[], None).await;
    assert_eq!(why.reason, None);
    assert!(why.trial.unwrap().message.contains("failOpen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entry_of_access_that_decided_is_named() {
    let origin = Origin::saying("hello").await;
    let mut shop = Shop::of(&[origin.address]);
    shop.policy.access = Access::Rules(Arc::new(AccessRules {
        source: policy(),
        allow: vec!["192.0.2.0/24".parse().unwrap()],
        deny: vec!["192.0.2.64/26".parse().unwrap()],
    }));
    let hale = shop.serve();
    for (client, refused, wanted) in [
        (
            "192.0.2.7",
            false,
            "192.0.2.7, which is in allow of UpstreamPolicy shop/web, by 192.0.2.0/24",
        ),
        (
            "192.0.2.66",
            true,
            "192.0.2.66, which is in deny of UpstreamPolicy shop/web, by 192.0.2.64/26",
        ),
        (
            "198.51.100.1",
            true,
            "198.51.100.1, which is not in allow of UpstreamPolicy shop/web",
        ),
    ] {
        let why = tried(&hale, Method::GET, &[], Some(client)).await;
        assert_eq!(why.reason, refused.then_some(Reason::AddressDenied));
        assert_eq!(why.trial.unwrap().access.as_deref(), Some(wanted));
    }
    let unasked = tried(&hale, Method::GET, &[], None).await;
    assert!(unasked.reason.is_none() && unasked.trial.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_told_whether_it_is_allowed() {
    // Without a peer, and with nobody let in: neither is asked for a preflight.
    let mut shop = Shop::of(&[]);
    shop.policy.auth = any_of(vec![AuthMethod::Basic(Basic {
        realm: "Hale".into(),
        users: Resolved::Unavailable("Secret shop/users does not exist".into()),
    })]);
    shop.policy.cors = Some(Arc::new(Cors {
        source: policy(),
        allow_origins: vec!["https://a.example".into()],
        allow_methods: vec!["PUT".into()],
        allow_headers: Vec::new(),
        expose_headers: Vec::new(),
        allow_credentials: false,
        max_age: Duration::from_secs(5),
    }));
    let hale = shop.serve();
    let method = ("access-control-request-method", "PUT");
    for (origin, allowed) in [("https://a.example", true), ("https://b.example", false)] {
        let headers = [("origin", origin), method];
        let why = tried(&hale, Method::OPTIONS, &headers, None).await;
        assert_eq!(why.reason, None, "{why:?}");
        let trial = why.trial.unwrap();
        assert_eq!(trial.outcome, None);
        let preflight = trial.preflight.unwrap();
        assert_eq!(preflight.allowed, allowed, "{}", preflight.message);
    }
    let plain = tried(&hale, Method::OPTIONS, &[], None).await;
    assert_eq!(plain.reason, Some(Reason::AuthUnavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_no_method_reads_is_named_by_its_scheme_only() {
    let origin = Origin::saying("hello").await;
    let mut shop = Shop::of(&[origin.address]);
    for (methods, wants) in [
        (vec![api_key()], "no method of the policy reads it"),
        (
            vec![AuthMethod::Basic(Basic {
                realm: "Hale".into(),
                users: Resolved::Known(
                    hale_dataplane::auth::password::Users::from_htpasswd(
                        b"ada:{SHA}CEo1Ae3vaEXy8eQZjsOiuBz1xrw=",
                    )
                    .0,
                ),
            })],
            "the policy wants Basic",
        ),
    ] {
        shop.policy.auth = any_of(methods);
        let hale = shop.serve();
        for (value, given) in [
            ("bearer s3cret", "with scheme Bearer"),
            ("s3cret", "without a scheme that Hale knows"),
        ] {
            let why = tried(&hale, Method::GET, &[("authorization", value)], None).await;
            assert_eq!(why.reason, Some(Reason::AuthRequired));
            let wanted = format!("Authorization is there, {given}; {wants}");
            assert_eq!(why.message, wanted);
        }
    }
}
