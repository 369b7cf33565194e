//! What `hale why` says of signatures that are refused.

use super::{super::explain::explain, *};

/// What is said of the first request of a profile after a change.
fn told(profile: SignatureProfile, change: impl FnOnce(&mut Case)) -> String {
    let (data, mut case) = first(profile);
    change(&mut case);
    let sample = data.sample(&case);
    let outcome = outcome(&data.method(profile), &sample, b"");
    assert_ne!(outcome, Outcome::Allowed);
    explain(profile, &sample.signed()).unwrap_or_else(|| format!("only {}", outcome.as_str()))
}

/// A change of the header's value.
fn replace(name: &'static str, from: &'static str, to: &'static str) -> impl Fn(&mut Case) {
    move |case| {
        let mut headers = case.headers.iter_mut();
        let (_, value) = headers
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .unwrap();
        assert!(value.contains(from), "{value}");
        *value = value.replace(from, to);
    }
}

fn with(name: &'static str, value: &'static str) -> impl Fn(&mut Case) {
    move |case| case.headers.push((name.to_owned(), value.to_owned()))
}

fn without(name: &'static str) -> impl Fn(&mut Case) {
    move |case| {
        case.headers
            .retain(|(given, _)| !given.eq_ignore_ascii_case(name))
    }
}

#[test]
fn nothing_is_wrong_with_what_is_good() {
    for profile in PROFILES {
        let data = Data::of(profile);
        for case in &data.cases {
            let told = explain(profile, &data.sample(case).signed());
            assert_eq!(told, None, "{profile:?}: {}", case.name);
        }
    }
}

/// And never with the signature.
#[test]
fn what_cannot_be_read_is_said_of_every_request_that_cannot() {
    for profile in PROFILES {
        let data = Data::of(profile);
        let method = data.method(profile);
        for case in &data.cases {
            for (what, changed) in changes(profile, case) {
                if changed.url.parse::<Uri>().is_err() {
                    continue;
                }
                let sample = data.sample(&changed);
                let told = explain(profile, &sample.signed());
                if outcome(&method, &sample, &changed.bytes()) == Outcome::Malformed
                    && !what.contains("parameter")
                {
                    assert!(told.is_some(), "{profile:?}: {}, {what}", case.name);
                }
                let Some(told) = told else { continue };
                let values = changed.headers.iter().map(|(_, value)| value.as_str());
                for value in values.chain([changed.url.as_str()]) {
                    let secret = value
                        .rsplit(['=', ':', '"'])
                        .find(|part| part.len() > 40)
                        .unwrap_or("none");
                    assert!(!told.contains(secret), "{told}");
                }
            }
        }
    }
}

#[test]
fn aws4_names_what_is_missing_or_not_signed() {
    let aws4 = |change: &dyn Fn(&mut Case)| told(SignatureProfile::Aws4, |case| change(case));
    let auth = "authorization";
    for (change, wanted) in [
        (
            &without("x-amz-date") as &dyn Fn(&mut Case),
            "neither x-amz-date nor date is there",
        ),
        (
            &with("X-Amz-Meta-Owner", "ada"),
            "these headers are there and not signed (SignedHeaders does not name them): \"x-amz-meta-owner\"",
        ),
        (
            &replace(auth, "SignedHeaders=host;x-amz-date, ", ""),
            "Authorization lacks SignedHeaders",
        ),
        (
            &replace(auth, "host;x-amz-date", "x-amz-date"),
            "the header host is not signed: SignedHeaders does not name it",
        ),
        (
            &replace(auth, "host;x-amz-date", "host;x-amz-date;x-owner"),
            "SignedHeaders names \"x-owner\", which the request does not have",
        ),
        (
            &replace(auth, "host;x-amz-date", "x-amz-date;host"),
            "the names of SignedHeaders are not sorted, or one is there twice",
        ),
        (
            &replace(auth, "/aws4_request", ""),
            "Credential is not written as in KEY/20260102/REGION/SERVICE/aws4_request",
        ),
        (
            &replace("x-amz-date", "20260102T030405Z", "2026-01-02"),
            "x-amz-date is \"2026-01-02\", not written as 20260102T030405Z",
        ),
        (
            &replace("x-amz-date", "T030405Z", "T033405Z"),
            "x-amz-date is 1800 s ahead of this machine's clock, and clockSkew is 300 s",
        ),
        (
            &replace(auth, "Signature=", "Signature=X"),
            "Signature is not 64 hexadecimal digits in lower case",
        ),
        (
            &with("Authorization", "Bearer x"),
            "Authorization with AWS4-HMAC-SHA256 is there beside another one, has more than 8 KiB, or is not ASCII",
        ),
        (&|case| case.method = "PATCH".into(), "only WrongCredential"),
    ] {
        assert_eq!(aws4(change), wanted);
    }
}

#[test]
fn the_other_profiles_name_it_too() {
    let auth = "authorization";
    for (profile, change, wanted) in [
        (
            SignatureProfile::Sdk,
            &without("x-sdk-date") as &dyn Fn(&mut Case),
            "the header x-sdk-date is not there",
        ),
        (
            SignatureProfile::Sdk,
            &with("x-sdk-more", "1"),
            "these headers are there and not signed (SignedHeaders does not name them): \"x-sdk-more\"",
        ),
        (
            SignatureProfile::Sdk,
            &|case| case.url = format!("{}a;b", case.url),
            "the path has a character that is not escaped (one of !$&'()*+,;=:@): to this signature it is the same as its escape, so it must be sent as that",
        ),
        (
            SignatureProfile::Cavage,
            &|case| case.method = "gEt".into(),
            "the method \"gEt\" has lower-case letters, which (request-target) does not tell from others",
        ),
        (
            SignatureProfile::HttpSignature,
            &replace("signature-input", "\"@method\" ", ""),
            "signature-input does not name @method: they must be signed",
        ),
        (
            SignatureProfile::HttpSignature,
            &replace("signature-input", ";keyid=\"AKIDEXAMPLE\"", ""),
            "signature-input has no parameter keyid",
        ),
        (
            SignatureProfile::HttpSignature,
            &without("signature"),
            "signature-input is there, and signature is not",
        ),
        (
            SignatureProfile::Cavage,
            &replace(
                auth,
                "headers=\"(request-target) host",
                "headers=\"(request-target)",
            ),
            "headers does not name host: they must be signed",
        ),
        (
            SignatureProfile::Cavage,
            &replace(auth, "hmac-sha256", "rsa-sha256"),
            "algorithm is \"rsa-sha256\", not \"hs2019\" or \"hmac-sha256\"",
        ),
        (
            SignatureProfile::Cavage,
            &without("date"),
            "headers names \"date\", which the request does not have",
        ),
    ] {
        assert_eq!(told(profile, |case| change(case)), wanted, "{profile:?}");
    }
}

#[test]
fn a_body_that_is_not_signed_is_said_to_be() {
    for (profile, name) in [
        (SignatureProfile::HttpSignature, "content-digest"),
        (SignatureProfile::Cavage, "digest"),
    ] {
        let (data, case) = first(profile);
        let mut sample = data.sample(&case);
        sample.has_body = true;
        let told = explain(profile, &sample.signed());
        let wanted = format!(
            "the body is not signed: the header {name} is not there, and the policy's signedBody is Required"
        );
        assert_eq!(told, Some(wanted));
    }
}
