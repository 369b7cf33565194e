//! `hale why URL`: the rule, the upstream, the peers and the reason, as sentences.

use std::fmt::Write;

use jiff::Timestamp;

use super::{status_table, view::Why};

/// The whole answer as text.
pub(super) fn write(url: &str, why: &Why, now: Timestamp) -> String {
    let mut text = String::new();
    let verdict = match &why.reason {
        None => "would be served".to_owned(),
        Some(reason) => format!("would be refused: {reason}"),
    };
    let _ = writeln!(text, "{url} {verdict}");
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
}
