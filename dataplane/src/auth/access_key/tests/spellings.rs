//! Credentials that only look like good ones.

use super::*;

use SignatureProfile::{Aws4, Cavage, HttpSignature, Sdk};

/// Of a profile's first signature, what is written otherwise, and what comes of it.
const SPELLINGS: &[(SignatureProfile, &str, &str, Outcome)] = &[
    (
        Aws4,
        "SignedHeaders=host;x-amz-date",
        "SignedHeaders=",
        Outcome::Malformed,
    ),
    (
        Aws4,
        "SignedHeaders=host;x-amz-date",
        "SignedHeaders=x-amz-date",
        Outcome::Malformed,
    ),
    (
        Aws4,
        "SignedHeaders=host;x-amz-date",
        "SignedHeaders=host",
        Outcome::Malformed,
    ),
    (
        Aws4,
        "host;x-amz-date",
        "x-amz-date;host",
        Outcome::Malformed,
    ),
    (
        Aws4,
        "host;x-amz-date",
        "host;host;x-amz-date",
        Outcome::Malformed,
    ),
    (
        Aws4,
        "host;x-amz-date",
        "Host;X-Amz-Date",
        Outcome::Malformed,
    ),
    (
        Aws4,
        "host;x-amz-date",
        "host;x-absent;x-amz-date",
        Outcome::Malformed,
    ),
    (Aws4, "AKIDEXAMPLE", "AKIDNOBODY", Outcome::UnknownConsumer),
    (Aws4, "AKIDEXAMPLE", "akidexample", Outcome::UnknownConsumer),
    (Aws4, "AKIDEXAMPLE", "AKIDOTHER", Outcome::WrongCredential),
    (
        Aws4,
        "/eu-central-1/",
        "/eu-central-2/",
        Outcome::WrongCredential,
    ),
    (Aws4, "/eu-central-1/", "/eu central/", Outcome::Malformed),
    (Aws4, "/execute-api/", "/s3/", Outcome::WrongCredential),
    (Aws4, "aws4_request", "aws4_Request", Outcome::Malformed),
    (Aws4, "/20260102/", "/20260103/", Outcome::Malformed),
    (Aws4, "20260102T", "20260102t", Outcome::Malformed),
    (Aws4, "Signature=", "Signature=0", Outcome::Malformed),
    (Aws4, "Signature=", "signature=", Outcome::Malformed),
    (Aws4, "Signature=", "X=1, Signature=", Outcome::Malformed),
    (
        Aws4,
        "Credential=",
        "Credential=A/20260102/a/b/aws4_request, Credential=",
        Outcome::Malformed,
    ),
    (
        Aws4,
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA512",
        Outcome::NoCredential,
    ),
    (Aws4, "AWS4-HMAC-SHA256", "Bearer", Outcome::NoCredential),
    (Sdk, "AKIDEXAMPLE", "AKIDNOBODY", Outcome::UnknownConsumer),
    (Sdk, "AKIDEXAMPLE", "AKIDOTHER", Outcome::WrongCredential),
    (Sdk, "host;x-sdk-date", "x-sdk-date", Outcome::Malformed),
    (Sdk, "host;x-sdk-date", "host", Outcome::Malformed),
    (Sdk, "host;x-sdk-date", "", Outcome::Malformed),
    (Sdk, "Access=", "Credential=", Outcome::Malformed),
    (
        HttpSignature,
        "AKIDEXAMPLE",
        "AKIDNOBODY",
        Outcome::UnknownConsumer,
    ),
    (
        HttpSignature,
        "AKIDEXAMPLE",
        "AKIDOTHER",
        Outcome::WrongCredential,
    ),
    (HttpSignature, "\"@method\" ", "", Outcome::WrongCredential),
    (
        HttpSignature,
        " \"@target-uri\"",
        "",
        Outcome::WrongCredential,
    ),
    (
        HttpSignature,
        "\"@method\"",
        "\"@METHOD\"",
        Outcome::WrongCredential,
    ),
    (
        HttpSignature,
        "\"@method\"",
        "\"@method\";req",
        Outcome::Malformed,
    ),
    (
        HttpSignature,
        "\"@method\"",
        "\"@method\" \"@method\"",
        Outcome::Malformed,
    ),
    (
        HttpSignature,
        "hmac-sha256",
        "hmac-sha512",
        Outcome::Malformed,
    ),
    (HttpSignature, ";created=1767323045", "", Outcome::Malformed),
    (
        HttpSignature,
        "created=1767323045",
        "created=\"1767323045\"",
        Outcome::Malformed,
    ),
    (
        HttpSignature,
        "created=1767323045",
        "created=1767323045;created=1767323045",
        Outcome::Malformed,
    ),
    (
        HttpSignature,
        "keyid=",
        "expires=1767323044;keyid=",
        Outcome::Expired,
    ),
    (
        Cavage,
        "AKIDEXAMPLE",
        "AKIDNOBODY",
        Outcome::UnknownConsumer,
    ),
    (Cavage, "AKIDEXAMPLE", "AKIDOTHER", Outcome::WrongCredential),
    (Cavage, "(request-target) ", "", Outcome::WrongCredential),
    (Cavage, " host", "", Outcome::WrongCredential),
    (Cavage, " date", "", Outcome::WrongCredential),
    (
        Cavage,
        "headers=\"(request-target) host date\"",
        "headers=\"\"",
        Outcome::Malformed,
    ),
    (
        Cavage,
        "headers=\"(request-target) host date\",",
        "",
        Outcome::Malformed,
    ),
    (Cavage, "host date", "host host date", Outcome::Malformed),
    (Cavage, "host date", "Host date", Outcome::WrongCredential),
    (Cavage, "hmac-sha256", "rsa-sha256", Outcome::Malformed),
    (
        Cavage,
        "host date",
        "host date (created)",
        Outcome::Malformed,
    ),
    (
        Cavage,
        "keyId=",
        "keyId=\"AKIDOTHER\",keyId=",
        Outcome::Malformed,
    ),
    (
        Cavage,
        "Signature keyId",
        "Signatures keyId",
        Outcome::NoCredential,
    ),
];

/// Every part of what a scheme adds, spelled in ways that only look alike.
#[test]
fn credentials_in_other_spellings_are_not_accepted() {
    let edit = |profile: SignatureProfile, from: &str, to: &str| {
        let data = Data::of(profile);
        let case = data
            .cases
            .iter()
            .find(|case| case.name.contains("a path"))
            .unwrap();
        let mut case = case.clone();
        let mut found = false;
        for (_, value) in &mut case.headers {
            found |= value.contains(from);
            *value = value.replace(from, to);
        }
        assert!(found, "{profile:?} has no {from}");
        let outcome = outcome(&data.method(profile), &data.sample(&case), b"");
        assert_ne!(outcome, Outcome::Allowed, "{profile:?}: {from} -> {to}");
        outcome
    };
    for (profile, from, to, wanted) in SPELLINGS {
        assert_eq!(
            edit(*profile, from, to),
            *wanted,
            "{profile:?}: {from} -> {to}"
        );
    }
}
