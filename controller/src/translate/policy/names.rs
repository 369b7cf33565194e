//! Names of headers in policies: which may be read, and which may be written. What is refused here is what the
//! dataplane would not take.

pub(super) use hale_dataplane::auth::names::Use;
use hale_dataplane::auth::names::is_barred;

use super::sections::Judged;

/// Bytes of a name.
const LONGEST: usize = 128;

/// The name of a header, in lower case. Names with an underscore are dropped from requests, because many servers
/// take it for a hyphen.
pub(super) fn header(field: &str, name: &str, what: Use) -> Judged<String> {
    let name = token(field, name)?;
    if name.contains('_') {
        return Err(format!(
            "{field}: {name} has an underscore: such headers are dropped from requests"
        ));
    }
    if is_barred(&name, what) {
        return Err(format!(
            "{field}: {name} cannot be used here: Hale, the connection or the message itself has it"
        ));
    }
    Ok(name)
}

/// A name as HTTP allows it (RFC 9110 §5.6.2), in lower case.
pub(super) fn token(field: &str, name: &str) -> Judged<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(fits) {
        return Err(format!("{field}: {name:?} is no name of a header"));
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn names_are_lower_case_tokens() {
        assert_eq!(header("f", "X-User", Use::Claim).unwrap(), "x-user");
        for name in ["", "a b", "a:b", "ä", "x_user", "a\r\nb"] {
            assert!(header("f", name, Use::Count).is_err(), "{name:?}");
        }
        assert!(token("f", "x_user").is_ok());
    }

    #[test]
    fn nobody_writes_what_is_ours() {
        for what in [
            Use::Credential,
            Use::Claim,
            Use::Question,
            Use::Answer,
            Use::Count,
        ] {
            for name in ["Host", "connection", "X-Hale-Consumer", "Content-Length"] {
                assert!(header("f", name, what).is_err(), "{name}");
            }
        }
        assert!(header("f", "Authorization", Use::Claim).is_err());
        assert!(header("f", "Authorization", Use::Answer).is_ok());
        assert!(header("f", "X-Forwarded-For", Use::Answer).is_err());
        assert!(header("f", "X-Forwarded-User", Use::Answer).is_ok());
        for name in ["X-Original-URL", "X-Forwarded-Prefix", "X.Forwarded.For"] {
            assert!(header("f", name, Use::Answer).is_err(), "{name}");
            assert!(header("f", name, Use::Claim).is_err(), "{name}");
        }
        assert!(header("f", "X-Forwarded-Port", Use::Question).is_err());
        assert!(header("f", "X-Forwarded-User", Use::Question).is_ok());
        assert!(header("f", "Authorization", Use::Credential).is_ok());
    }

    /// The rules about names of headers in a schema, each with the field that it is for.
    fn rules<'v>(field: &'v str, value: &'v Value, found: &mut Vec<(&'v str, &'v str)>) {
        match value {
            Value::Object(entries) => {
                for (name, entry) in entries {
                    match entry.as_str() {
                        Some(rule) if name == "rule" && rule.contains("lowerAscii() in [") => {
                            found.push((field, rule));
                        }
                        _ if matches!(name.as_str(), "items" | "x-kubernetes-validations") => {
                            rules(field, entry, found);
                        }
                        _ => rules(name, entry, found),
                    }
                }
            }
            Value::Array(entries) => {
                for entry in entries {
                    rules(field, entry, found);
                }
            }
            _ => {}
        }
    }

    fn quoted<'r>(rule: &'r str, before: &str, after: char) -> impl Iterator<Item = &'r str> {
        let lists = rule.split(before).skip(1);
        let lists = lists.filter_map(move |list| Some(list.split_once(after)?.0));
        lists.flat_map(|list| list.split('\'').skip(1).step_by(2))
    }

    #[test]
    fn the_api_server_refuses_the_same_names() {
        let crd = serde_json::to_value(hale_crds::crd()).unwrap();
        let auth = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/auth";
        let mut found = Vec::new();
        rules("", crd.pointer(auth).unwrap(), &mut found);
        let mut all: Vec<&str> = vec!["x-user", "x-hale-consumer", "x-forwarded-user"];
        all.extend(found.iter().flat_map(|(_, rule)| quoted(rule, "in [", ']')));
        let mut uses = Vec::new();
        for (field, rule) in &found {
            let listed: Vec<&str> = quoted(rule, "in [", ']').collect();
            let what = match *field {
                "requestHeaders" => Use::Question,
                "responseHeaders" => Use::Answer,
                "header" if listed.contains(&"authorization") => Use::Claim,
                "header" => Use::Credential,
                other => panic!("{other}"),
            };
            for name in &all {
                let begins = |prefix| name.starts_with(prefix);
                let refuses = listed.contains(name) || quoted(rule, "startsWith(", ')').any(begins);
                assert_eq!(refuses, is_barred(name, what), "{field}: {name}");
            }
            uses.push(what);
        }
        assert_eq!(uses.len(), 4, "{uses:?}");
    }
}
