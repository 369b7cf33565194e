//! `hale why URL`: the rule, the upstream, the peers and the reason, as sentences.

use std::fmt::Write;

use jiff::Timestamp;

use super::{
    status_table,
    view::{Auth, Trial, Why},
};

/// The whole answer as text.
pub(super) fn write(url: &str, why: &Why, now: Timestamp) -> String {
    let mut text = String::new();
    // The query may hold a credential.
    let (plain, query) = match url.split_once('?') {
        Some((plain, _)) => (plain, "?…"),
        None => (url, ""),
    };
    let _ = writeln!(text, "{plain}{query} {}", verdict(why));
    if !why.message.is_empty() {
        let _ = writeln!(text, "  {}", why.message);
    }
    text.push('\n');
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<9} {value}");
        }
    };
    line("host", why.host.as_deref());
    line("path", why.canonical_path.as_deref());
    line("rule", why.path.as_deref());
    line("from", why.source.as_deref());
    line(
        "upstream",
        why.upstream.as_ref().map(|upstream| upstream.id.as_str()),
    );
    write_policies(&mut text, why);
    if let Some(trial) = &why.trial {
        write_trial(&mut text, trial, &why.message);
    }
    if !why.nearest.is_empty() {
        text.push_str("\nNearest rules\n");
        for rule in &why.nearest {
            let _ = writeln!(text, "  {rule}");
        }
    }
    // First the one that decides: the policy's service is asked before the route's.
    let asked = why.auth_upstream.as_ref();
    for upstream in asked.into_iter().chain(&why.upstream) {
        status_table::write_one(&mut text, upstream, now);
    }
    let title = "Ingresses for this host that are not served";
    status_table::write_findings(&mut text, title, &why.not_served);
    if why.more_not_served > 0 {
        let _ = writeln!(text, "  and {} more", why.more_not_served);
    }
    status_table::write_findings(&mut text, "Findings", &why.findings);
    if why.more_findings > 0 {
        let _ = writeln!(
            text,
            "  and {} more: hale status has all",
            why.more_findings
        );
    }
    text
}

/// What would become of the request, and what that still depends on: nobody said no where nobody was asked.
fn verdict(why: &Why) -> String {
    let trial = why.trial.as_ref();
    if let Some(reason) = &why.reason {
        return format!("would be refused: {reason}");
    }
    if let Some(preflight) = trial.and_then(|trial| trial.preflight.as_ref()) {
        return match preflight.allowed {
            true => "would be answered by Hale: the preflight is allowed".to_owned(),
            false => "would be answered by Hale: the preflight is NOT allowed".to_owned(),
        };
    }
    let auth = why.policies.auth.as_ref();
    let guarded = auth.is_some_and(|auth| !auth.exempt)
        && trial.and_then(|trial| trial.outcome.as_deref()).is_none();
    let from =
        why.policies.access.is_some() && trial.and_then(|trial| trial.access.as_deref()).is_none();
    match (guarded, from) {
        (false, false) => "would be served",
        (true, false) => "would be served to whom the policy lets in",
        (false, true) => {
            "would be served to client addresses that the policy lets in: try --client ADDRESS"
        }
        (true, true) => {
            "would be served to whom the policy lets in, at client addresses that it lets in: try --client ADDRESS"
        }
    }
    .to_owned()
}

fn write_policies(text: &mut String, why: &Why) {
    let policies = &why.policies;
    if let Some(auth) = &policies.auth {
        write_auth(text, auth, &why.message);
    }
    for (name, section) in [
        ("access", &policies.access),
        ("limit", &policies.rate_limit),
        ("cors", &policies.cors),
    ] {
        if let Some(section) = section {
            let source = section.source.as_deref().unwrap_or("UNAVAILABLE");
            let _ = write!(text, "  {name:<9} {source}");
            if section.source.is_some() || !is_said(&section.message, &why.message) {
                let _ = write!(text, ": {}", section.message);
            }
            text.push('\n');
        }
    }
}

fn write_auth(text: &mut String, auth: &Auth, said: &str) {
    let source = auth.source.as_deref().unwrap_or("UNAVAILABLE");
    let _ = write!(text, "  {:<9} {source}", "auth");
    if auth.exempt {
        text.push_str(", and the path is exempt");
    }
    if auth.source.is_none() && !is_said(&auth.unavailable, said) {
        let _ = write!(text, ": {}", auth.unavailable);
    }
    text.push('\n');
    for method in &auth.methods {
        let _ = write!(text, "            {}: {}", method.method, method.wants);
        if let Some(why) = &method.unavailable {
            let _ = write!(text, "; UNAVAILABLE: {why}");
        }
        text.push('\n');
    }
}

/// Whether the head of the answer, which may begin with the redirect, has the sentence already: once is enough.
fn is_said(sentence: &str, said: &str) -> bool {
    !sentence.is_empty() && said.ends_with(sentence)
}

fn write_trial(text: &mut String, trial: &Trial, said: &str) {
    let mut name = "tried";
    let mut line = |what: &str| {
        let _ = writeln!(text, "  {:<9} {what}", std::mem::take(&mut name));
    };
    if let Some(access) = &trial.access {
        line(&format!("access: {access}"));
    }
    if let Some(preflight) = &trial.preflight {
        line(&format!("preflight: {}", preflight.message));
    }
    let words = [&trial.method, &trial.outcome].into_iter().flatten();
    let words: Vec<&str> = words.map(String::as_str).collect();
    let mut what = words.join(" ");
    if let Some(consumer) = &trial.consumer {
        let _ = write!(what, " as {consumer:?}");
    }
    if !is_said(&trial.message, said) && !trial.message.is_empty() {
        let colon = if what.is_empty() { "" } else { ": " };
        let _ = write!(what, "{colon}{}", trial.message);
    }
    if !what.is_empty() {
        line(&what);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_refusal_names_rule_upstream_and_peers() {
        let why: Why = serde_json::from_value(serde_json::json!({
            "canonicalPath": "/cart", "host": "shop.example", "path": "/*", "source": "Ingress shop/web",
            "reason": "NoEligiblePeer", "message": "No peer of shop/checkout:http may be picked",
            "upstream": {"id": "shop/checkout:http", "checked": true, "serving": 0, "peers": [
                {"address": "10.244.0.7:8080", "standing": "Exclude", "reason": "NotReady", "message": "the pod is not ready"}]},
            "notServed": [{"object": "Ingress shop/old", "reason": "IngressNotOurs", "message": "it names no class"}],
            "findings": [{"object": "Service shop/checkout", "reason": "NoEndpoints", "message": "no pods"}],
        }))
        .unwrap();
        let text = write("http://shop.example/cart", &why, Timestamp::UNIX_EPOCH);
        for wanted in [
            "http://shop.example/cart would be refused: NoEligiblePeer\n",
            "rule      /*\n",
            "from      Ingress shop/web\n",
            "shop/checkout:http  0/1 serving\n",
            "the pod is not ready\n",
            "not served\n  Ingress shop/old IngressNotOurs: it names no class\n",
            "Findings\n  Service shop/checkout NoEndpoints: no pods\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
    }

    #[test]
    fn policies_and_what_they_made_of_a_request_are_told() {
        let why: Why = serde_json::from_value(serde_json::json!({
            "reason": "AuthRequired", "message": "no consumer of the Secret has this key",
            "policies": {
                "auth": {"source": "UpstreamPolicy shop/partners", "exempt": false, "methods": [
                    {"method": "basic", "wants": "user and password", "unavailable": "Secret shop/users does not exist"},
                    {"method": "apiKey", "wants": "an API key in the header x-api-key"}]},
                "access": {"message": "UpstreamPolicy shop/office cannot be used"},
                "rateLimit": {"source": "UpstreamPolicy shop/fair", "message": "100 in 1s for each client address"}},
            "trial": {"method": "apiKey", "outcome": "UnknownConsumer", "consumer": "acme", "message": "no consumer of the Secret has this key"},
        }))
        .unwrap();
        let url = "http://api.example/orders?key=secret";
        let text = write(url, &why, Timestamp::UNIX_EPOCH);
        let wanted = "\
http://api.example/orders?… would be refused: AuthRequired
  no consumer of the Secret has this key

  auth      UpstreamPolicy shop/partners
            basic: user and password; UNAVAILABLE: Secret shop/users does not exist
            apiKey: an API key in the header x-api-key
  access    UNAVAILABLE: UpstreamPolicy shop/office cannot be used
  limit     UpstreamPolicy shop/fair: 100 in 1s for each client address
  tried     apiKey UnknownConsumer as \"acme\"
";
        assert_eq!(text, wanted);
    }

    fn first_line(value: serde_json::Value) -> (String, bool) {
        let why: Why = serde_json::from_value(value).unwrap();
        let text = write("http://shop.example/", &why, Timestamp::UNIX_EPOCH);
        (text.lines().next().unwrap().to_owned(), why.is_served())
    }

    #[test]
    fn what_the_answer_still_depends_on_is_said() {
        let auth = serde_json::json!({"source": "UpstreamPolicy shop/a", "exempt": false});
        let access =
            serde_json::json!({"source": "UpstreamPolicy shop/a", "message": "only 10.0.0.0/8"});
        for (policies, trial, wanted) in [
            (
                serde_json::json!({}),
                serde_json::json!(null),
                "would be served",
            ),
            (
                serde_json::json!({"auth": auth, "access": access}),
                serde_json::json!(null),
                "would be served to whom the policy lets in, at client addresses that it lets in: try --client ADDRESS",
            ),
            (
                serde_json::json!({"auth": auth, "access": access}),
                serde_json::json!({"outcome": "Allowed"}),
                "would be served to client addresses that the policy lets in: try --client ADDRESS",
            ),
            (
                serde_json::json!({"auth": auth, "access": access}),
                serde_json::json!({"outcome": "Allowed", "access": "10.0.0.1, which is in allow"}),
                "would be served",
            ),
        ] {
            let value = serde_json::json!({"policies": policies, "trial": trial});
            let line = format!("http://shop.example/ {wanted}");
            assert_eq!(first_line(value), (line, true));
        }
        for (allowed, wanted) in [(true, "allowed"), (false, "NOT allowed")] {
            let value = serde_json::json!({
                "policies": {"auth": auth},
                "trial": {"preflight": {"allowed": allowed, "message": "the origin"}},
            });
            let line = format!(
                "http://shop.example/ would be answered by Hale: the preflight is {wanted}"
            );
            assert_eq!(first_line(value), (line, allowed));
        }
    }

    #[test]
    fn a_sentence_is_told_once_and_what_was_cut_is_counted() {
        let fault = "UpstreamPolicy shop/office: access: no network";
        let why: Why = serde_json::from_value(serde_json::json!({
            "reason": "NotAccepted", "message": fault, "policies": {"access": {"message": fault}},
            "findings": [{"object": "Ingress shop/web", "reason": "HostConflict", "message": "taken"}],
            "moreFindings": 3, "authUpstream": {"id": "auth/judge:http"},
        }))
        .unwrap();
        let text = write("http://shop.example/", &why, Timestamp::UNIX_EPOCH);
        assert_eq!(text.matches(fault).count(), 1, "{text}");
        assert!(text.contains("  access    UNAVAILABLE\n"), "{text}");
        assert!(text.contains("\nauth/judge:http  0/0 serving"), "{text}");
        assert!(
            text.ends_with("taken\n  and 3 more: hale status has all\n"),
            "{text}"
        );

        let why: Why = serde_json::from_value(serde_json::json!({
            "reason": "AddressDenied", "message": "10.0.0.1 may not send requests",
            "trial": {"access": "10.0.0.1, which is in deny of UpstreamPolicy shop/office, by 10.0.0.0/8"},
        }))
        .unwrap();
        let text = write("http://shop.example/", &why, Timestamp::UNIX_EPOCH);
        let wanted = "\
http://shop.example/ would be refused: AddressDenied
  10.0.0.1 may not send requests

  tried     access: 10.0.0.1, which is in deny of UpstreamPolicy shop/office, by 10.0.0.0/8
";
        assert_eq!(text, wanted);
    }
}
