//! The adversary: no spelling, method, protocol or trick gets an answer out of a protected path without its
//! credential.
//!
//! What decides is not what Hale answers but what the origin was sent: it keeps every request, and [`judge`]
//! reads their targets in each way that usual servers read them. `/` beside the protected `/admin` is open and
//! leads to the same origin, so that whatever Hale takes for another path is told by the origin's records.

use std::{sync::Arc, time::Duration};

use hale_dataplane::{
    auth::{jwt::KeySet, password::Users},
    config::{
        Access, AccessKey, AccessKeys, AccessRules, Action, ApiKey, ApiKeys, Auth, AuthMethod,
        AuthRules, Basic, Config, CredentialPlace, External, ExternalService, HostPattern, Jwt,
        JwtAlgorithm, JwtKeys, ObjectRef, PathRule, Problem, RateLimit, RateLimitKey,
        RequestPolicy, Resolved, Route, SignatureProfile, SignedBody, VirtualHost,
    },
    reason::Reason,
};

use crate::{support::Shop, wire::Recorder};
use judge::reached;

mod credentials;
mod detours;
mod hosts;
mod http2;
mod identity;
mod judge;
mod paths;
mod smuggling;
mod swap;
mod unavailable;

/// What a policy object is called.
fn policy(name: &str) -> ObjectRef {
    ObjectRef {
        kind: "UpstreamPolicy",
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn any_of(methods: Vec<AuthMethod>) -> AuthRules {
    AuthRules {
        source: policy("admin"),
        methods,
        exempt_paths: Vec::new(),
        forward_credential: false,
    }
}

fn basic(users: Resolved<Users>) -> AuthMethod {
    AuthMethod::Basic(Basic {
        realm: "Hale".into(),
        users,
    })
}

fn jwt(keys: Resolved<KeySet>) -> AuthMethod {
    AuthMethod::Jwt(Jwt {
        issuer: "https://issuer.test".into(),
        audiences: vec!["shop".into()],
        keys: JwtKeys::Inline(keys),
        algorithms: vec![JwtAlgorithm::Es256],
        required_claims: Vec::new(),
        required_scopes: Vec::new(),
        claims_to_headers: vec![hale_dataplane::config::ClaimToHeader {
            claim: "sub".into(),
            header: "x-user".into(),
        }],
        consumer_claim: "sub".into(),
        clock_skew: Duration::from_secs(60),
    })
}

fn access_key(profile: SignatureProfile, keys: Resolved<AccessKeys>) -> AuthMethod {
    AuthMethod::AccessKey(AccessKey {
        profile,
        keys,
        clock_skew: Duration::from_secs(300),
        signed_body: SignedBody::Optional,
        replay_window: None,
    })
}

fn api_key(location: CredentialPlace, keys: Resolved<ApiKeys>) -> AuthMethod {
    AuthMethod::ApiKey(ApiKey { location, keys })
}

fn external(service: ExternalService) -> AuthMethod {
    AuthMethod::External(External {
        service,
        path: "/".into(),
        timeout: Duration::from_secs(2),
        request_headers: Vec::new(),
        response_headers: ["x-team", "x-forwarded-user", "x-original-user", "x.mail"]
            .map(String::from)
            .to_vec(),
        sign_in: None,
        fail_open: false,
    })
}

const PROFILES: [(&str, SignatureProfile); 4] = [
    ("AWS4", SignatureProfile::Aws4),
    ("SDK", SignatureProfile::Sdk),
    ("HTTPSignature", SignatureProfile::HttpSignature),
    ("Cavage", SignatureProfile::Cavage),
];

fn places() -> [(&'static str, CredentialPlace); 3] {
    [
        (
            "apiKey in a header",
            CredentialPlace::Header("x-api-key".into()),
        ),
        (
            "apiKey in the query",
            CredentialPlace::Query("api_key".into()),
        ),
        (
            "apiKey in a cookie",
            CredentialPlace::Cookie("api_key".into()),
        ),
    ]
}

/// Every kind of authentication, with nobody in it: no credential is good.
fn methods() -> Vec<(&'static str, AuthMethod)> {
    let mut all = vec![
        ("basic", basic(Resolved::Known(Users::default()))),
        ("jwt", jwt(Resolved::Known(KeySet::default()))),
        (
            "external",
            external(ExternalService::Url("http://127.0.0.1:1".into())),
        ),
    ];
    for (name, profile) in PROFILES {
        let keys = Resolved::Known(AccessKeys::default());
        all.push((name, access_key(profile, keys)));
    }
    for (name, place) in places() {
        let keys = Resolved::Known(ApiKeys::default());
        all.push((name, api_key(place, keys)));
    }
    all
}

/// Every kind whose Secret, ConfigMap or Service cannot be used.
fn unresolved() -> Vec<(&'static str, AuthMethod)> {
    fn gone<T>() -> Resolved<T> {
        Resolved::Unavailable("Secret shop/keys does not exist".into())
    }
    let mut all = vec![
        ("basic", basic(gone())),
        ("jwt", jwt(gone())),
        (
            "external",
            external(ExternalService::Unavailable(
                "Service shop/gate does not exist".into(),
            )),
        ),
    ];
    for (name, profile) in PROFILES {
        all.push((name, access_key(profile, gone())));
    }
    for (name, place) in places() {
        all.push((name, api_key(place, gone())));
    }
    all
}

fn requiring(rules: AuthRules) -> RequestPolicy {
    RequestPolicy {
        auth: Auth::AnyOf(Arc::new(rules)),
        ..RequestPolicy::default()
    }
}

fn broken() -> Problem {
    Problem {
        reason: Reason::AuthUnavailable,
        message: "UpstreamPolicy shop/admin cannot be used".into(),
    }
}

fn limit(key: RateLimitKey) -> Arc<RateLimit> {
    Arc::new(RateLimit {
        source: policy("admin"),
        requests: 1,
        interval: Duration::from_secs(3600),
        burst: 0,
        key,
        replicas: 1,
    })
}

/// Only this network, in which no test is.
fn elsewhere() -> Access {
    Access::Rules(Arc::new(AccessRules {
        source: policy("admin"),
        allow: vec!["203.0.113.0/24".parse().unwrap()],
        deny: Vec::new(),
    }))
}

/// Every policy that keeps strangers out. The last is a limit that one request exhausts.
fn policies() -> Vec<(String, RequestPolicy)> {
    let mut all: Vec<(String, RequestPolicy)> = Vec::new();
    for (name, method) in methods() {
        all.push((name.into(), requiring(any_of(vec![method]))));
    }
    for (name, method) in unresolved() {
        let name = format!("{name}, unresolved");
        all.push((name, requiring(any_of(vec![method]))));
    }
    let every = methods().into_iter().map(|(_, method)| method).take(8);
    all.push(("several".into(), requiring(any_of(every.collect()))));
    let auth = Auth::Unavailable(broken());
    let unusable = RequestPolicy {
        auth,
        ..RequestPolicy::default()
    };
    all.push(("unusable auth".into(), unusable));
    for (name, access) in [
        ("access", elsewhere()),
        ("unusable access", Access::Unavailable(broken())),
    ] {
        let policy = RequestPolicy {
            access,
            ..RequestPolicy::default()
        };
        all.push((name.into(), policy));
    }
    let keyed = places()[0].1.clone();
    let by_consumer = RequestPolicy {
        rate_limit: Some(limit(RateLimitKey::Consumer)),
        ..requiring(any_of(vec![api_key(
            keyed,
            Resolved::Known(ApiKeys::default()),
        )]))
    };
    all.push(("consumer limit".into(), by_consumer));
    let exhausted = RequestPolicy {
        rate_limit: Some(limit(RateLimitKey::Address)),
        ..RequestPolicy::default()
    };
    all.push((EXHAUSTED.into(), exhausted));
    all
}

const EXHAUSTED: &str = "exhausted limit";

/// `/` is open, `/admin` has the policy, and both lead to the same origin.
fn config(recorder: &Recorder, admin: &RequestPolicy) -> Config {
    with(
        recorder,
        &[("/", RequestPolicy::default()), ("/admin", admin.clone())],
    )
}

/// Prefixes, each with its policy, on every host.
fn with(recorder: &Recorder, prefixes: &[(&str, RequestPolicy)]) -> Config {
    let shop = Shop::of(&[recorder.origin.address]);
    Config {
        hosts: vec![VirtualHost {
            host: HostPattern::Any,
            routes: routes(&shop, prefixes),
        }],
        ..shop.config()
    }
}

fn routes(shop: &Shop, prefixes: &[(&str, RequestPolicy)]) -> Vec<Route> {
    let mut routes: Vec<Route> = prefixes
        .iter()
        .map(|(path, policy)| Route {
            https_redirect: false,
            path: PathRule::prefix(path).unwrap(),
            source: ObjectRef {
                kind: "Ingress",
                namespace: "shop".into(),
                name: "web".into(),
            },
            action: Action::Forward(shop.upstream.id.clone()),
            policy: policy.clone(),
        })
        .collect();
    routes.sort_by(|a, b| a.path.cmp(&b.path));
    routes
}
