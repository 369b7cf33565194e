//! Signatures of independent clients, and what becomes of them when anything is changed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Request, Uri, request::Parts};
use serde::Deserialize;

use super::*;
use crate::config::{AccessKeys, SecretBytes};

/// A request to look at.
pub(super) struct Sample {
    parts: Parts,
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
    AccessKey::compile(&config, None)
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
        Decision::Answer(..) => panic!("nobody was asked"),
    }
}

#[test]
fn signatures_of_independent_clients_are_good() {
    for profile in PROFILES {
        let data = Data::of(profile);
        let method = data.method(profile);
        for case in &data.cases {
            let sample = data.sample(case);
            let outcome = outcome(&method, &sample, &case.bytes());
            assert_eq!(outcome, Outcome::Allowed, "{profile:?}: {}", case.name);
        }
    }
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
    change("path", &|case| {
        case.url = format!("{base}x?{query}").trim_end_matches('?').to_owned()
    });
    change("deeper", &|case| {
        case.url = format!("{base}/x?{query}").trim_end_matches('?').to_owned()
    });
    change("escape", &|case| {
        case.url = format!("{base}%2e?{query}")
            .trim_end_matches('?')
            .to_owned()
    });
    change("host", &|case| {
        case.url = case.url.replacen(".example.com", ".example.org", 1)
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
    if profile != SignatureProfile::Sdk {
        change("a slash more", &|case| {
            case.url = format!("{base}/?{query}").trim_end_matches('?').to_owned()
        });
    }
    changed
}

#[test]
fn a_request_that_was_changed_is_not_accepted() {
    for profile in PROFILES {
        let data = Data::of(profile);
        let method = data.method(profile);
        let mut tried = 0;
        for case in &data.cases {
            for (what, changed) in changes(profile, case) {
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
    }
}
