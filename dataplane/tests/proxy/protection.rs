//! The adversary: no spelling, method, protocol or trick gets an answer out of a protected path without its
//! credential.
//!
//! What decides is not what Hale answers but what the origin was sent: it keeps every request, and [`reached`]
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

mod http2;
mod identity;
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
        response_headers: vec!["x-team".into()],
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
            https_redirect: false,
            routes: routes(&shop, prefixes),
        }],
        ..shop.config()
    }
}

fn routes(shop: &Shop, prefixes: &[(&str, RequestPolicy)]) -> Vec<Route> {
    let mut routes: Vec<Route> = prefixes
        .iter()
        .map(|(path, policy)| Route {
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

/// Requests that the origin was sent and that some usual server would take for the protected path.
fn reached(recorder: &Recorder) -> Vec<String> {
    let seen = recorder.seen().into_iter();
    seen.filter(|request| is_admin(request)).collect()
}

/// Whether some usual server would take this request for one below `/admin`.
fn is_admin(request: &str) -> bool {
    let target = request.split(' ').nth(1).unwrap_or_default();
    let told = ["x-original-url", "x-rewrite-url"].into_iter();
    let told = told.flat_map(|name| crate::wire::values(request, name));
    std::iter::once(target)
        .chain(told)
        .any(|target| readings(target).any(|path| path == "/admin" || path.starts_with("/admin/")))
}

/// A target as servers read it: with `;parameters`, without those that are written plainly, and without those
/// that are escaped, too; decoded once; slashes merged, dots resolved.
fn readings(target: &str) -> impl Iterator<Item = String> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => path,
    };
    let decoded = decode(path);
    let stripped = decode(&without_parameters(path));
    let both = without_parameters(&decoded);
    [decoded, stripped, both]
        .into_iter()
        .map(|path| resolve(&path))
}

fn without_parameters(path: &str) -> String {
    let segments = path.split('/');
    let plain = segments.map(|segment| segment.split(';').next().unwrap_or_default());
    plain.collect::<Vec<_>>().join("/")
}

fn decode(path: &str) -> String {
    let mut bytes = path.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let digits = bytes.as_slice_hex();
        match (byte, digits) {
            (b'%', Some(value)) => {
                bytes.nth(1);
                out.push(value);
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

trait Hex {
    /// The value of the two hexadecimal digits that come next.
    fn as_slice_hex(&self) -> Option<u8>;
}

impl Hex for std::str::Bytes<'_> {
    fn as_slice_hex(&self) -> Option<u8> {
        let mut ahead = self.clone();
        let mut digit = || char::from(ahead.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        u8::try_from(high * 16 + low).ok()
    }
}

fn resolve(path: &str) -> String {
    let path = path.split('\0').next().unwrap_or_default();
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[test]
fn the_judge_sees_what_servers_see() {
    let sees = |target: &str| is_admin(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"));
    for target in [
        "/admin",
        "//admin/x",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/admin;x",
        "/;/admin",
        "/admin%3Bx",
        "/public/..;/admin",
        "/public/..%3b/admin",
        "/admin/..%3B/y",
        "/;/admin/..%3B/..%3B/y",
        "/%2e%2e/admin",
        "/%2fadmin",
        "/admin%00",
        "/\\admin",
        "http://other/admin?x",
        "/admin#x",
    ] {
        assert!(sees(target), "{target}");
    }
    for target in ["/", "/administrator", "/x/admin", "/%2561dmin", "/?/admin"] {
        assert!(!sees(target), "{target}");
    }
    assert!(is_admin("GET / HTTP/1.1\r\nX-Original-URL: /admin\r\n\r\n"));
}
