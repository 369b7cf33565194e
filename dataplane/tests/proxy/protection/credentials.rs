//! Good credentials pass, or nothing of what is beside this file would mean much; and each opens what it is for,
//! for its own request.

use aws_lc_rs::digest;
use hale_dataplane::{
    auth::{jwt::KeySet, password::Users},
    config::{
        AccessKeyEntry, AccessKeys, ApiKeyEntry, ApiKeys, AuthMethod, Config, ExternalService,
        RequestPolicy, Resolved, SecretBytes,
    },
};

use super::{
    PROFILES, access_key, any_of, api_key, basic, config, external, judge::is_admin, jwt, places,
    requiring,
};
use crate::{
    signing::Signer,
    support::{Hale, Origin},
    wire::{Recorder, get, status, talk, values},
};

const USERS: &str = "ann:$2y$05$5EAc1LJN8tPIsOrSkPAzGehXl1ZzzgHd6H1cqnS1xwjnN3TuZdz0O";
/// A key that was thrown away after it signed [`TOKEN`]: issuer, audience `shop`, subject `ann`, until 2100.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"shop-1","x":"L80OMrp40S1tZhWsNkWzBCneBuL5r8Y3fc4xOsYOTR4","y":"NgRpXpq9xeozmrYjq2JKL5EkKfNUMi71KHxL9DNEjwg"}]}"#;
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InNob3AtMSJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0IiwiYXVkIjoic2hvcCIsInN1YiI6ImFubiIsImlhdCI6MTc2Mzg1NjAwMCwiZXhwIjo0MTAyNDQ0ODAwfQ.Z0PbUoMmpdjdr9NGJ1xk1dc3xo0DKZJqNYtQ1p8JWtAJKZDuG4SpGNZNBEDlXBfpLvuk1dFg1qrJoPwn5a0pmQ";

const ROBOT: Signer = Signer {
    id: "AKROBOT",
    secret: "secret of robot",
};

fn users() -> Resolved<Users> {
    let (users, refused) = Users::from_htpasswd(USERS.as_bytes());
    assert!(refused.is_empty(), "{refused:?}");
    Resolved::Known(users)
}

fn api_keys() -> Resolved<ApiKeys> {
    let digest = digest::digest(&digest::SHA256, b"k-4711");
    Resolved::Known(ApiKeys(vec![ApiKeyEntry {
        consumer: "acme".into(),
        digest: digest.as_ref().try_into().unwrap(),
    }]))
}

fn access_keys() -> Resolved<AccessKeys> {
    Resolved::Known(AccessKeys(vec![AccessKeyEntry {
        id: ROBOT.id.into(),
        secret: SecretBytes::new(ROBOT.secret.as_bytes()),
        consumer: "robot".into(),
        not_after: None,
    }]))
}

/// A method, a target below `/admin` with a good credential, and who that is.
struct Good {
    name: &'static str,
    method: AuthMethod,
    target: &'static str,
    lines: String,
    consumer: &'static str,
    kind: &'static str,
}

fn good() -> Vec<Good> {
    let of = |name, method, lines: &str, consumer, kind| Good {
        name,
        method,
        target: "/admin",
        lines: lines.to_owned(),
        consumer,
        kind,
    };
    let [header, query, cookie] = places().map(|(_, place)| api_key(place, api_keys()));
    let mut all = vec![
        of(
            "basic",
            basic(users()),
            "authorization: Basic YW5uOmNvcnJlY3QgaG9yc2U=\r\n",
            "ann",
            "basic",
        ),
        of(
            "jwt",
            jwt(Resolved::Known(
                KeySet::parse(JWKS.as_bytes(), false).unwrap(),
            )),
            &format!("authorization: Bearer {TOKEN}\r\n"),
            "ann",
            "jwt",
        ),
        of("header", header, "x-api-key: k-4711\r\n", "acme", "apiKey"),
        of(
            "cookie",
            cookie,
            "cookie: a=b; api_key=k-4711\r\n",
            "acme",
            "apiKey",
        ),
        Good {
            target: "/admin?a=b&api_key=k-4711",
            ..of("query", query, "", "acme", "apiKey")
        },
    ];
    all.extend(PROFILES.map(|(name, profile)| {
        let lines = ROBOT.sign(profile, "GET", "/admin", b"");
        let method = access_key(profile, access_keys());
        of(name, method, &lines, "robot", "accessKey")
    }));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_credential_opens_its_own_request_and_no_other() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    for good in good() {
        let name = good.name;
        let policy = requiring(any_of(vec![good.method.clone()]));
        hale.dataplane.publish(config(&recorder, &policy));
        let spoofed = format!(
            "{}x-hale-consumer: root\r\nx_hale_consumer: root\r\nx.user: root\r\nx-user: root\r\n",
            good.lines
        );
        for lines in [&good.lines, &spoofed] {
            let answer = talk(&hale, get(good.target, lines)).await;
            assert_eq!(status(&answer), "200", "{name}: {answer}");
            let seen = recorder.seen().pop().unwrap();
            assert!(is_admin(&seen), "{name}: {seen}");
            assert_eq!(values(&seen, "x-hale-consumer"), [good.consumer], "{name}");
            assert_eq!(values(&seen, "x-hale-auth"), [good.kind], "{name}");
            if name == "jwt" {
                assert_eq!(values(&seen, "x-user"), ["ann"]);
            }
            assert!(values(&seen, "x.user").is_empty(), "{name}: {seen}");
            for credential in ["k-4711", "YW5u", "Bearer", "Signature"] {
                assert!(!seen.contains(credential), "{name}: {seen}");
            }
        }
        // The same connection, without it, and the other way round.
        let with = get(good.target, &good.lines).replace("connection: close\r\n", "");
        let without = get("/admin", "").replace("connection: close\r\n", "");
        let answers = talk(
            &hale,
            format!("{without}{with}{without}{with}{}", get("/admin", "")),
        )
        .await;
        let statuses: Vec<&str> = answers
            .match_indices("HTTP/1.1 ")
            .map(|(at, _)| status(&answers[at..]))
            .collect();
        assert_eq!(
            statuses,
            ["401", "200", "401", "200", "401"],
            "{name}: {answers}"
        );
    }
}

/// What has an effect on who it is comes once, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn two_credentials_are_not_one_good_one() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    for good in good() {
        let name = good.name;
        let policy = requiring(any_of(vec![good.method.clone()]));
        hale.dataplane.publish(config(&recorder, &policy));
        let wrong = match name {
            "basic" => "authorization: Basic YW5uOndyb25n\r\n",
            "jwt" => "authorization: Bearer e30.e30.e30\r\n",
            "header" => "x-api-key: k-0815\r\n",
            "cookie" => "cookie: api_key=k-0815\r\n",
            "AWS4" => {
                "authorization: AWS4-HMAC-SHA256 Credential=AKROBOT/20260101/eu/shop/aws4_request, SignedHeaders=host, Signature=00\r\n"
            }
            "SDK" => {
                "authorization: SDK-HMAC-SHA256 Access=AKROBOT, SignedHeaders=host;x-sdk-date, Signature=00\r\n"
            }
            "HTTPSignature" => "signature: sig1=:AA==:\r\n",
            "Cavage" => {
                "authorization: Signature keyId=\"AKROBOT\",headers=\"(request-target) host date\",signature=\"AA==\"\r\n"
            }
            _ => continue,
        };
        for lines in [
            format!("{}{wrong}", good.lines),
            format!("{wrong}{}", good.lines),
        ] {
            let answer = talk(&hale, get(good.target, &lines)).await;
            assert_ne!(status(&answer), "200", "{name}: {lines}");
        }
    }
    let (_, query) = places()[1].clone();
    let policy = requiring(any_of(vec![api_key(query, api_keys())]));
    hale.dataplane.publish(config(&recorder, &policy));
    for target in [
        "/admin?api_key=k-4711&api_key=k-0815",
        "/admin?api_key=k-0815&api_key=k-4711",
        "/admin?api_key=k-4711&api%5Fkey=k-0815",
    ] {
        let answer = talk(&hale, get(target, "")).await;
        assert_ne!(status(&answer), "200", "{target}");
    }
}

/// A signature is of one request: not of another path, query, method or host.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_opens_nothing_but_what_was_signed() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    for (name, profile) in PROFILES {
        let policy = requiring(any_of(vec![access_key(profile, access_keys())]));
        hale.dataplane.publish(config(&recorder, &policy));
        let lines = ROBOT.sign(profile, "GET", "/admin/x", b"");
        let signed = get("/admin/x", &lines);
        let before = recorder.seen().len();
        assert_eq!(status(&talk(&hale, &signed).await), "200", "{name}");
        for other in [
            signed.replace("GET /admin/x ", "GET /admin/y "),
            signed.replace("GET /admin/x ", "GET /admin "),
            signed.replace("GET /admin/x ", "GET /admin/x?a=b "),
            signed.replace("GET /admin/x ", "GET /admin/x;a "),
            signed.replace("GET /admin/x ", "GET /admin/x/../y "),
            signed.replace("GET ", "DELETE "),
            signed.replace("host: shop.test", "host: other.test"),
            signed.replace("GET /admin/x ", "GET http://other.test/admin/x "),
        ] {
            let answer = talk(&hale, &other).await;
            assert_eq!(status(&answer), "401", "{name}: {other}\n{answer}");
        }
        assert_eq!(recorder.seen().len(), before + 1, "{name}");
    }
}

/// The service that is asked sees who Hale says it is, and its word is kept to what it may say.
#[tokio::test(flavor = "multi_thread")]
async fn another_service_opens_with_its_own_word_alone() {
    let recorder = Recorder::new().await;
    let gate = Origin::http1(|request: http::Request<hyper::body::Incoming>| async move {
        let told = request.headers().get("authorization");
        let status = match told.and_then(|value| value.to_str().ok()) {
            Some("let me in") => 200,
            Some("redirect") => 302,
            Some("fail") => 500,
            _ => 401,
        };
        http::Response::builder()
            .status(status)
            .header("x-team", "blue")
            .header("x-hale-consumer", "root")
            .header("x-other", "root")
            .body(Default::default())
            .unwrap()
    })
    .await;
    let service = ExternalService::Url(format!("http://{}", gate.address));
    let policy: RequestPolicy = requiring(any_of(vec![external(service)]));
    let hale = Hale::start(config(&recorder, &policy));
    let spoof = "x-team: root\r\nx_team: root\r\nx-hale-consumer: root\r\n";
    let answer = talk(
        &hale,
        get("/admin", &format!("authorization: let me in\r\n{spoof}")),
    )
    .await;
    assert_eq!(status(&answer), "200", "{answer}");
    let seen = recorder.only();
    assert!(!seen.contains("root"), "{seen}");
    assert_eq!(values(&seen, "x-team"), ["blue"]);
    for lines in ["", "authorization: redirect\r\n", "authorization: fail\r\n"] {
        let answer = talk(&hale, get("/admin", &format!("{lines}{spoof}"))).await;
        assert_ne!(status(&answer), "200", "{lines}: {answer}");
    }
    assert_eq!(recorder.seen().len(), 1);
}
