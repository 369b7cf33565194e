//! A Secret that is deleted, emptied, malformed or of another type reaches the dataplane as `Resolved::Unavailable`,
//! a policy that makes no sense as `Auth::Unavailable`: 503, whatever the request carries, and on that route alone.

use hale_dataplane::config::{Auth, Config, RequestPolicy, Resolved};

use super::{any_of, api_key, broken, places, policy, reached, requiring, unresolved, with};
use crate::{
    support::Hale,
    wire::{Recorder, get, status, talk, values},
};

/// A credential of every kind, well formed as far as that goes without keys.
const CARRIED: [&str; 9] = [
    "",
    "authorization: Basic YW5uOnNlY3JldA==\r\n",
    "authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.\r\n",
    "x-api-key: secret\r\n",
    "cookie: api_key=secret\r\n",
    "authorization: AWS4-HMAC-SHA256 Credential=AK/20261123/eu/s3/aws4_request, SignedHeaders=host, Signature=00\r\n\
     x-amz-date: 20261123T000000Z\r\n",
    "authorization: SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=00\r\nx-sdk-date: 20261123T000000Z\r\n",
    "signature-input: sig1=(\"@path\");created=1;keyid=\"AK\";alg=\"hmac-sha256\"\r\nsignature: sig1=:AAAA:\r\n",
    "authorization: Signature keyId=\"AK\",algorithm=\"hmac-sha256\",headers=\"date\",signature=\"AAAA\"\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_resolved_denies_on_its_route_alone() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    let mut cases: Vec<(&str, RequestPolicy)> = unresolved()
        .into_iter()
        .map(|(name, method)| (name, requiring(any_of(vec![method]))))
        .collect();
    let all = unresolved().into_iter().map(|(_, method)| method);
    cases.push(("all together", requiring(any_of(all.take(8).collect()))));
    let unusable = RequestPolicy {
        auth: Auth::Unavailable(broken()),
        ..RequestPolicy::default()
    };
    cases.push(("an unusable policy", unusable));
    for (name, admin) in cases {
        let mut beside = any_of(vec![api_key(
            places()[0].1.clone(),
            Resolved::Known(hale_dataplane::config::ApiKeys::default()),
        )]);
        beside.source = policy("beside");
        beside.exempt_paths =
            vec![hale_dataplane::config::PathRule::prefix("/beside/open").unwrap()];
        let prefixes = [
            ("/", RequestPolicy::default()),
            ("/admin", admin),
            ("/beside", requiring(beside)),
        ];
        hale.dataplane.publish(with(&recorder, &prefixes));
        for lines in CARRIED {
            for target in ["/admin", "/admin?api_key=secret", "/admin;x"] {
                let answer = talk(&hale, get(target, lines)).await;
                assert_eq!(status(&answer), "503", "{name}: {target} {lines} {answer}");
                let reason = values(&answer, "x-hale-reason");
                assert_eq!(reason, ["AuthUnavailable"], "{name}: {target} {lines}");
                assert!(!answer.contains("secret"), "{name}: {answer}");
            }
            for target in ["/open", "/beside/open"] {
                let answer = talk(&hale, get(target, lines)).await;
                assert_eq!(status(&answer), "200", "{name}: {target} {lines} {answer}");
            }
        }
        assert!(
            reached(&recorder).is_empty(),
            "{name}: {:#?}",
            reached(&recorder)
        );
    }
}

/// The one that can be judged does not open what the other would have to close.
#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_works_does_not_stand_in_for_one_that_does_not() {
    let recorder = Recorder::new().await;
    let hale = Hale::start(Config::default());
    let (_, header) = places()[0].clone();
    let known = api_key(
        header,
        Resolved::Known(hale_dataplane::config::ApiKeys::default()),
    );
    for (name, method) in unresolved() {
        for methods in [
            vec![method.clone(), known.clone()],
            vec![known.clone(), method.clone()],
        ] {
            let prefixes = [
                ("/", RequestPolicy::default()),
                ("/admin", requiring(any_of(methods))),
            ];
            hale.dataplane.publish(with(&recorder, &prefixes));
            for lines in CARRIED {
                let answer = talk(&hale, get("/admin?api_key=secret", lines)).await;
                let status = status(&answer);
                assert!(["401", "503"].contains(&status), "{name}: {lines} {answer}");
            }
        }
    }
    assert!(reached(&recorder).is_empty(), "{:#?}", reached(&recorder));
}
