//! `hale why URL`: the rule, the upstream, the peers and the reason, as sentences.

use std::fmt::Write;

use jiff::Timestamp;

use super::{
    status_table,
    view::{Auth, Policies, Trial, Why},
};

/// The whole answer as text.
pub(super) fn write(url: &str, why: &Why, now: Timestamp) -> String {
    let mut text = String::new();
    let guarded = (why.policies.auth.as_ref()).is_some_and(|auth| !auth.exempt);
    let verdict = match &why.reason {
        Some(reason) => format!("would be refused: {reason}"),
        // Nobody was asked, so nobody said no.
        None if guarded && decided(why.trial.as_ref()).is_none() => {
            "would be served to whom the policy lets in".to_owned()
        }
        None => "would be served".to_owned(),
    };
    // The query may hold a credential.
    let (plain, query) = match url.split_once('?') {
        Some((plain, _)) => (plain, "?…"),
        None => (url, ""),
    };
    let _ = writeln!(text, "{plain}{query} {verdict}");
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
    write_policies(&mut text, &why.policies);
    if let Some(trial) = &why.trial {
        write_trial(&mut text, trial);
    }
    if !why.nearest.is_empty() {
        text.push_str("\nNearest rules\n");
        for rule in &why.nearest {
            let _ = writeln!(text, "  {rule}");
        }
    }
    if let Some(upstream) = &why.upstream {
        status_table::write_one(&mut text, upstream, now);
    }
    status_table::write_findings(
        &mut text,
        "Ingresses for this host that are not served",
        &why.not_served,
    );
    status_table::write_findings(&mut text, "Findings", &why.findings);
    text
}

/// What was found, if somebody looked.
fn decided(trial: Option<&Trial>) -> Option<&str> {
    trial?.outcome.as_deref()
}

fn write_policies(text: &mut String, policies: &Policies) {
    if let Some(auth) = &policies.auth {
        write_auth(text, auth);
    }
    for (name, section) in [
        ("access", &policies.access),
        ("limit", &policies.rate_limit),
        ("cors", &policies.cors),
    ] {
        if let Some(section) = section {
            let source = section.source.as_deref().unwrap_or("UNAVAILABLE");
            let _ = writeln!(text, "  {name:<9} {source}: {}", section.message);
        }
    }
}

fn write_auth(text: &mut String, auth: &Auth) {
    let source = auth.source.as_deref().unwrap_or("UNAVAILABLE");
    let _ = write!(text, "  {:<9} {source}", "auth");
    if auth.exempt {
        text.push_str(", and the path is exempt");
    }
    if auth.source.is_none() {
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

fn write_trial(text: &mut String, trial: &Trial) {
    let words = [&trial.method, &trial.outcome].into_iter().flatten();
    let words: Vec<&str> = words.map(String::as_str).collect();
    let _ = write!(text, "  {:<9} {}", "tried", words.join(" "));
    if let Some(consumer) = &trial.consumer {
        let _ = write!(text, " as {consumer:?}");
    }
    let colon = if words.is_empty() { "" } else { ": " };
    let _ = writeln!(text, "{colon}{}", trial.message);
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
  tried     apiKey UnknownConsumer as \"acme\": no consumer of the Secret has this key
";
        assert_eq!(text, wanted);
    }
}
