//! Signatures of independent clients, and what becomes of them when anything is changed.

mod explained;
mod spellings;

use std::time::Duration;

use aws_lc_rs::digest as sha;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, Request, Uri, request::Parts};
use serde::Deserialize;

use super::*;
use crate::{
    auth::Outcome,
    config::{AccessKeys, SecretBytes, SignedBody},
    sanitize::{canonical_path, merged},
};

/// A request to look at.
pub(super) struct Sample {
    parts: Parts,
    /// The path that goes upstream.
    pub(super) forwarded: String,
    authority: String,
    pub(super) https: bool,
    pub(super) has_body: bool,
    pub(super) now: i64,
    pub(super) body: SignedBody,
}

impl Sample {
    pub(super) fn new(method: &str, url: &str) -> Self {
        let uri: Uri = url.parse().unwrap();
        let (parts, ()) = Request::builder()
            .method(method)
            .uri(&uri)
            .body(())
            .unwrap()
            .into_parts();
        Self {
            authority: uri
                .authority()
                .map_or_else(String::new, ToString::to_string),
            parts,
            forwarded: canonical_path(uri.path()).unwrap_or_default().into_owned(),
            https: uri.scheme_str() == Some("https"),
            has_body: false,
            now: 0,
            body: SignedBody::Required,
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.parts.headers.append(name, value.parse().unwrap());
        self
    }

    pub(super) fn signed(&self) -> Signed<'_> {
        Signed {
            method: &self.parts.method,
            path: self.parts.uri.path(),
            forwarded: &self.forwarded,
            query: self.parts.uri.query(),
            headers: &self.parts.headers,
            authority: &self.authority,
            https: self.https,
            has_body: self.has_body,
            now: self.now,
            skew: 300,
            body: self.body,
        }
    }
}

/// What `generate.py` wrote.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    now: i64,
    key_id: String,
    secret: String,
    cases: Vec<Case>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    name: String,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
    signed_body: String,
}

impl Data {
    fn of(profile: SignatureProfile) -> Self {
        let text = match profile {
            SignatureProfile::Aws4 => include_str!("../../../tests/data/access_key/aws4.json"),
            SignatureProfile::Sdk => include_str!("../../../tests/data/access_key/sdk.json"),
            SignatureProfile::HttpSignature => {
                include_str!("../../../tests/data/access_key/http_signature.json")
            }
            SignatureProfile::Cavage => include_str!("../../../tests/data/access_key/cavage.json"),
        };
        serde_json::from_str(text).unwrap()
    }

    fn method(&self, profile: SignatureProfile) -> AccessKey {
        method(profile, &self.key_id, &self.secret, |_| {})
    }

    fn sample(&self, case: &Case) -> Sample {
        let mut sample = Sample::new(&case.method, &case.url);
        for (name, value) in &case.headers {
            sample = sample.with(name, value);
        }
        sample.has_body = !case.body.is_empty();
        sample.now = self.now;
        sample.body = match case.signed_body.as_str() {
            "Optional" => SignedBody::Optional,
            _ => SignedBody::Required,
        };
        sample
    }
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        STANDARD.decode(&self.body).unwrap()
    }
}

const PROFILES: [SignatureProfile; 4] = [
    SignatureProfile::Aws4,
    SignatureProfile::Sdk,
    SignatureProfile::HttpSignature,
    SignatureProfile::Cavage,
];

/// Three keys: the one of the samples, one that is no longer valid with the same secret, and another.
fn method(
    profile: SignatureProfile,
    id: &str,
    secret: &str,
    change: impl FnOnce(&mut config::AccessKey),
) -> AccessKey {
    let entry = |id: &str, secret: &str, not_after: Option<&str>| AccessKeyEntry {
        id: id.to_owned(),
        secret: SecretBytes::new(secret.as_bytes()),
        consumer: Arc::from("shop"),
        not_after: not_after.map(|end| end.parse().unwrap()),
    };
    let mut config = config::AccessKey {
        profile,
        keys: Resolved::Known(AccessKeys(vec![
            entry(id, secret, None),
            entry("AKIDEXPIRED", secret, Some("2026-01-02T03:04:05Z")),
            entry("AKIDOTHER", "another secret", None),
        ])),
        clock_skew: Duration::from_secs(300),
        signed_body: SignedBody::Required,
        replay_window: None,
    };
    change(&mut config);
    AccessKey::compile(&config, "shop", &Memory::default())
}

/// What comes of a request with this body.
fn outcome(method: &AccessKey, sample: &Sample, body: &[u8]) -> Outcome {
    match method.judge(&sample.signed(), true) {
        Decision::Absent => Outcome::NoCredential,
        Decision::Granted(granted) => {
            assert_eq!(granted.consumer.as_deref(), Some("shop"));
            Outcome::Allowed
        }
        Decision::IfBody(_, BodyCheck::Digests(digests)) => {
            let mut digester = digests.begin();
            body.chunks(7).for_each(|piece| digester.update(piece));
            if digester.finish() {
                Outcome::Allowed
            } else {
                Outcome::BodyMismatch
            }
        }
        Decision::IfBody(_, BodyCheck::Signature(pending)) => {
            let digest = sha::digest(&sha::SHA256, body);
            match pending.settle(digest.as_ref()) {
                Ok(()) => Outcome::Allowed,
                Err(outcome) => outcome,
            }
        }
        Decision::Denied(outcome) | Decision::Unavailable(outcome, _) => outcome,
        Decision::Passed(_) | Decision::Answer(..) => panic!("nobody was asked"),
    }
}

#[test]
fn signatures_of_independent_clients_are_good() {
    for profile in PROFILES {
        let data = Data::of(profile);
        let method = data.method(profile);
        for case in &data.cases {
            let mut sample = data.sample(case);
            if case.name.ends_with("execute-api: a doubled slash") {
                // It was signed with one slash: that is what must be forwarded.
                let kept = outcome(&method, &sample, &case.bytes());
                assert_eq!(kept, Outcome::WrongCredential);
                sample.forwarded = merged(&sample.forwarded);
            }
            let outcome = outcome(&method, &sample, &case.bytes());
            assert_eq!(outcome, Outcome::Allowed, "{profile:?}: {}", case.name);
        }
    }
}

/// A URL with reserved characters of its path escaped that were plain, and plain that were escaped: one of them, and
/// all.
fn swaps(url: &str) -> Vec<(&'static str, String)> {
    let from = url.find("://").unwrap() + 3;
    let (origin, path) = url.split_at(from + url[from..].find('/').unwrap());
    let mut all = Vec::new();
    let (mut escaped, mut plain) = (path.to_owned(), path.to_owned());
    for byte in "!$&'()*+,;=:@".chars() {
        let escape = format!("%{:02X}", byte as u32);
        all.push(("an escape for a literal", path.replace(byte, &escape)));
        all.push((
            "a literal for an escape",
            path.replace(&escape, &byte.to_string()),
        ));
        escaped = escaped.replace(byte, &escape);
        plain = plain.replace(&escape, &byte.to_string());
    }
    all.push(("escapes for all literals", escaped));
    all.push(("literals for all escapes", plain));
    all.retain(|(_, swapped)| swapped != path);
    let urls = all.into_iter();
    urls.map(|(what, path)| (what, format!("{origin}{path}")))
        .collect()
}

/// Everything that a case can be changed in without its signature being made again.
fn changes(profile: SignatureProfile, case: &Case) -> Vec<(&'static str, Case)> {
    let mut changed = Vec::new();
    let mut change = |name: &'static str, edit: &dyn Fn(&mut Case)| {
        let mut case = case.clone();
        edit(&mut case);
        changed.push((name, case));
    };
    let (base, query) = case.url.split_once('?').unwrap_or((&case.url, ""));
    change("method", &|case| case.method = "PATCH".to_owned());
    let at = |base: &str| {
        let url = format!("{base}?{query}");
        url.trim_end_matches('?').to_owned()
    };
    for (name, more) in [("path", "x"), ("deeper", "/x"), ("escape", "%2e")] {
        change(name, &|case| case.url = at(&format!("{base}{more}")));
    }
    change("host", &|case| {
        case.url = case.url.replacen(".com", ".org", 1)
    });
    change("another host", &|case| {
        case.url = case.url.replacen("://", "://x", 1)
    });
    change("port", &|case| {
        case.url = case.url.replacen(".com", ".com:81", 1)
    });
    let with = |pair: &str| match query {
        "" => format!("{base}?{pair}"),
        query => format!("{base}?{query}&{pair}"),
    };
    change("another parameter", &|case| case.url = with("admin=1"));
    change("an empty parameter", &|case| case.url = with("&"));
    if let Some(first) = query.split('&').next().filter(|first| !first.is_empty()) {
        change("the same parameter again", &|case| case.url = with(first));
        change("a parameter in front", &|case| {
            case.url = format!("{base}?a=9&{query}")
        });
    }
    for (index, (name, value)) in case.headers.iter().enumerate() {
        let signed = !matches!(
            name.to_ascii_lowercase().as_str(),
            "signature" | "user-agent"
        );
        // The upper limit of a length is not signed by anybody who does not say so.
        if signed {
            change("a header gone", &|case| drop(case.headers.remove(index)));
            change("another value", &|case| {
                case.headers[index].1 = format!("{value}1")
            });
            change("a header twice", &|case| {
                case.headers.push((name.clone(), format!("{value}x")));
            });
        }
    }
    for (name, swapped) in swaps(base) {
        change(name, &|case| case.url = at(&swapped));
    }
    change("lower case", &|case| {
        case.method = case.method.to_ascii_lowercase()
    });
    // SDK adds a slash to every path, and most services of AWS4 merge them.
    if profile != SignatureProfile::Sdk && !base.ends_with('/') {
        change("a slash more", &|case| case.url = at(&format!("{base}/")));
    }
    changed
}

#[test]
fn a_request_that_was_changed_is_not_accepted() {
    for profile in PROFILES {
        let data = Data::of(profile);
        let method = data.method(profile);
        let (mut tried, mut swapped) = (0, 0);
        for case in &data.cases {
            for (what, changed) in changes(profile, case) {
                swapped += usize::from(what.contains("literal"));
                // Paths that mean the same, and headers that no signature of this case is over.
                let Ok(uri) = changed.url.parse::<Uri>() else {
                    continue;
                };
                assert!(uri.authority().is_some());
                let outcome = outcome(&method, &data.sample(&changed), &changed.bytes());
                tried += 1;
                assert_ne!(
                    outcome,
                    Outcome::Allowed,
                    "{profile:?}: {}, {what}: {} {:?}",
                    case.name,
                    changed.url,
                    changed.headers
                );
            }
        }
        assert!(tried > 150, "{profile:?}: {tried}");
        // Nothing is left to be read into a path that is signed as it is.
        let signs_it_raw = matches!(
            profile,
            SignatureProfile::HttpSignature | SignatureProfile::Cavage
        );
        assert!(signs_it_raw || swapped > 7, "{profile:?}: {swapped}");
    }
}

/// The first request of a profile that has no body.
fn first(profile: SignatureProfile) -> (Data, Case) {
    let data = Data::of(profile);
    let case = data
        .cases
        .iter()
        .find(|case| case.body.is_empty())
        .unwrap()
        .clone();
    (data, case)
}

#[test]
fn dates_are_taken_within_the_skew_and_no_further() {
    for profile in PROFILES {
        let (data, case) = first(profile);
        let method = data.method(profile);
        for (off, wanted) in [
            (-301, Outcome::ClockSkew),
            (-300, Outcome::Allowed),
            (300, Outcome::Allowed),
            (301, Outcome::ClockSkew),
            (i64::MAX / 2, Outcome::ClockSkew),
        ] {
            let mut sample = data.sample(&case);
            sample.now = data.now.saturating_add(off);
            assert_eq!(outcome(&method, &sample, b""), wanted, "{profile:?}: {off}");
        }
    }
}

#[test]
fn presigned_urls_are_good_until_they_expire() {
    let data = Data::of(SignatureProfile::Aws4);
    let method = data.method(SignatureProfile::Aws4);
    let case = data
        .cases
        .iter()
        .find(|case| case.url.contains("X-Amz-Expires=3600"));
    let case = case.unwrap();
    for (off, wanted) in [
        (-301, Outcome::ClockSkew),
        (-300, Outcome::Allowed),
        (3600, Outcome::Allowed),
        (3601, Outcome::Expired),
    ] {
        let mut sample = data.sample(case);
        sample.now = data.now + off;
        assert_eq!(outcome(&method, &sample, b""), wanted, "{off}");
    }
    for (from, to) in [
        ("Expires=3600", "Expires=7200"),
        ("Expires=3600", "Expires=0"),
        ("Expires=3600", "Expires=604801"),
        ("Expires=3600", "Expires=-1"),
        ("Expires=3600", "Expires=3600&X-Amz-Expires=3600"),
        ("SignedHeaders=host", "SignedHeaders="),
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256&", ""),
        ("X-Amz-Signature", "x-amz-signature"),
        ("X-Amz-Date=2026", "X-Amz-Date=2027"),
    ] {
        assert!(case.url.contains(from), "{from}");
        let mut changed = case.clone();
        changed.url = case.url.replace(from, to);
        let outcome = outcome(&method, &data.sample(&changed), b"");
        assert_ne!(outcome, Outcome::Allowed, "{from} -> {to}");
    }
    let both = data
        .sample(case)
        .with("authorization", "AWS4-HMAC-SHA256 Credential=x");
    assert_eq!(outcome(&method, &both, b""), Outcome::Malformed);
    let other = data.sample(case).with("authorization", "Basic eDp5");
    assert_eq!(outcome(&method, &other, b""), Outcome::Allowed);
    let unsigned = data.sample(case).with("x-amz-acl", "public-read");
    assert_eq!(outcome(&method, &unsigned, b""), Outcome::Malformed);
}

#[test]
fn a_signature_is_taken_once_where_signatures_are_remembered() {
    for profile in PROFILES {
        let (data, case) = first(profile);
        let memory = Memory::default();
        let once = |window| {
            let method = method(profile, &data.key_id, &data.secret, |config| {
                config.replay_window = window;
            });
            AccessKey::compile(&method.config, "shop", &memory)
        };
        let method = once(Some(Duration::from_secs(1)));
        let sample = data.sample(&case);
        // `hale why` asks, and takes nothing.
        assert!(matches!(
            method.judge(&sample.signed(), false),
            Decision::Granted(_)
        ));
        assert_eq!(
            outcome(&method, &sample, b""),
            Outcome::Allowed,
            "{profile:?}"
        );
        for off in [-300, 0, 1, 300] {
            let mut again = data.sample(&case);
            again.now = data.now + off;
            assert_eq!(
                outcome(&method, &again, b""),
                Outcome::Replayed,
                "{profile:?} {off}"
            );
        }
        // What is remembered outlives every change of the policy, also one that forgets to ask for it.
        assert_eq!(outcome(&once(None), &sample, b""), Outcome::Allowed);
        let again = once(Some(Duration::from_secs(9)));
        assert_eq!(outcome(&again, &sample, b""), Outcome::Replayed);
    }
}

#[test]
fn another_body_is_not_accepted() {
    for profile in PROFILES {
        let data = Data::of(profile);
        let method = data.method(profile);
        let mut seen = 0;
        for case in data.cases.iter().filter(|case| !case.body.is_empty()) {
            if case.signed_body == "Optional" {
                // Nothing vouches for this one, and that is what the policy has to allow.
                let mut strict = data.sample(case);
                strict.body = SignedBody::Required;
                assert_ne!(
                    outcome(&method, &strict, &case.bytes()),
                    Outcome::Allowed,
                    "{}",
                    case.name
                );
                continue;
            }
            let mut bytes = case.bytes();
            bytes[3] ^= 1;
            let sample = data.sample(case);
            for body in [&bytes[..], &bytes[1..], b"x", b""] {
                let outcome = outcome(&method, &sample, body);
                assert_ne!(outcome, Outcome::Allowed, "{profile:?}: {}", case.name);
            }
            let mut none = data.sample(case);
            none.has_body = false;
            assert_ne!(
                outcome(&method, &none, b""),
                Outcome::Allowed,
                "{profile:?}: {}",
                case.name
            );
            seen += 1;
        }
        assert!(seen > 0, "{profile:?}");
        let (_, case) = first(profile);
        let mut more = data.sample(&case);
        more.has_body = true;
        assert_ne!(
            outcome(&method, &more, b"more"),
            Outcome::Allowed,
            "{profile:?}: a body"
        );
    }
}

#[test]
fn an_expired_key_is_told_from_a_wrong_signature() {
    let data = Data::of(SignatureProfile::Cavage);
    let (_, mut case) = first(SignatureProfile::Cavage);
    // The key id is not under this signature, so the same secret makes it good for another id.
    for (_, value) in &mut case.headers {
        *value = value.replace("AKIDEXAMPLE", "AKIDEXPIRED");
    }
    let method = data.method(SignatureProfile::Cavage);
    assert_eq!(outcome(&method, &data.sample(&case), b""), Outcome::Expired);
    let mut before = data.sample(&case);
    before.now -= 1;
    assert_eq!(outcome(&method, &before, b""), Outcome::Allowed);
}

#[test]
fn chunks_that_are_signed_one_by_one_are_refused() {
    let data = Data::of(SignatureProfile::Aws4);
    let case = data
        .cases
        .iter()
        .find(|case| case.name == "s3: a body")
        .unwrap();
    let mut case = case.clone();
    for (name, value) in &mut case.headers {
        if name.eq_ignore_ascii_case("x-amz-content-sha256") {
            *value = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned();
        }
    }
    let method = data.method(SignatureProfile::Aws4);
    let outcome = outcome(&method, &data.sample(&case), b"");
    assert_eq!(outcome, Outcome::BodyMismatch);
}

#[test]
fn keys_that_cannot_be_had_let_nobody_in() {
    for profile in PROFILES {
        let (data, case) = first(profile);
        let method = method(profile, &data.key_id, &data.secret, |config| {
            config.keys = Resolved::Unavailable("no Secret has the label".to_owned());
        });
        assert_eq!(
            outcome(&method, &data.sample(&case), b""),
            Outcome::Unavailable
        );
        let none = Sample::new("GET", "http://shop.test/");
        assert_eq!(outcome(&method, &none, b""), Outcome::NoCredential);
    }
}

#[test]
fn any_of_several_message_signatures_will_do_and_not_too_many_are_tried() {
    let (data, case) = first(SignatureProfile::HttpSignature);
    let method = data.method(SignatureProfile::HttpSignature);
    let several = |others: usize| {
        let mut case = case.clone();
        for index in 0..others {
            for (name, value) in &mut case.headers {
                let other = match name.to_ascii_lowercase().as_str() {
                    "signature-input" => {
                        format!(
                            "o{index}=(\"@method\" \"@target-uri\");created={};keyid=\"x\"",
                            data.now
                        )
                    }
                    "signature" => format!("o{index}=:{}:", STANDARD.encode([0; 32])),
                    _ => continue,
                };
                *value = format!("{other}, {value}");
            }
        }
        outcome(&method, &data.sample(&case), b"")
    };
    assert_eq!(several(0), Outcome::Allowed);
    assert_eq!(several(3), Outcome::Allowed);
    assert_eq!(several(4), Outcome::Malformed);
}

#[test]
fn what_is_too_long_is_malformed() {
    let data = Data::of(SignatureProfile::Aws4);
    let method = data.method(SignatureProfile::Aws4);
    let (_, case) = first(SignatureProfile::Aws4);
    let try_with = |edit: &dyn Fn(&mut Case)| {
        let mut case = case.clone();
        edit(&mut case);
        outcome(&method, &data.sample(&case), b"")
    };
    let names: Vec<String> = (0..65).map(|number| format!("a{number:02}")).collect();
    let many = format!("SignedHeaders={};", names.join(";"));
    for edit in [
        &|case: &mut Case| case.headers[1].1 = case.headers[1].1.replace("SignedHeaders=", &many),
        &|case: &mut Case| {
            let long = format!("{}, Signature=", "x".repeat(9000));
            case.headers[1].1 = case.headers[1].1.replace(", Signature=", &long);
        },
        &|case: &mut Case| case.url = format!("{}?{}", case.url, vec!["a"; 257].join("&")),
        &|case: &mut Case| case.url = format!("{}?a=%g1", case.url),
    ] as [&dyn Fn(&mut Case); 4]
    {
        assert_eq!(try_with(edit), Outcome::Malformed);
    }
}

/// Prints what an AWS4 signature costs; worth reading from a release build alone:
/// `cargo test --release -p hale-dataplane --lib access_key::tests::the_cost -- --nocapture`.
#[test]
fn the_cost_of_a_signature_is_bounded() {
    const ROUNDS: u32 = 2_000;
    for profile in PROFILES {
        let (data, case) = first(profile);
        let method = data.method(profile);
        let sample = data.sample(&case);
        let mut unknown = case.clone();
        for (_, value) in &mut unknown.headers {
            *value = value.replace("AKIDEXAMPLE", "AKIDNOBODY1");
        }
        let unknown = data.sample(&unknown);
        for (what, sample) in [("good", &sample), ("unknown key", &unknown)] {
            let begin = std::time::Instant::now();
            for _ in 0..ROUNDS {
                std::hint::black_box(method.judge(&sample.signed(), true));
            }
            let each = begin.elapsed() / ROUNDS;
            println!("{profile:?}, {what}: {each:?}");
            assert!(
                each < Duration::from_millis(20),
                "{profile:?}, {what}: {each:?}"
            );
        }
    }
}
