//! What a policy refers to: which Secrets and ConfigMaps, all of its own namespace.

use hale_crds::{
    AuthMethod, BasicFormat, CaCertificateRef, CaKind, SecretSelector, UpstreamPolicy,
};

use crate::cluster::namespace;

/// Something that one watch follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) namespace: String,
    pub(super) which: Which,
}

/// Which objects of a kind and namespace, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// The one of this name; of its data the keys that have a meaning.
    Name(String),
    /// The one of this name; all of its data, because its keys are names of users.
    Whole(String),
    /// Those with labels.
    Labels(String),
}

/// What a field of a policy refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) kind: CaKind,
    pub(super) part: Part,
    /// Where the policy says so.
    pub(super) field: String,
}

impl Reference {
    /// For people.
    pub(super) fn name(&self) -> String {
        let (kind, namespace) = (self.kind.as_str(), &self.part.namespace);
        match &self.part.which {
            Which::Name(name) | Which::Whole(name) => format!("{kind} {namespace}/{name}"),
            Which::Labels(labels) => format!("{kind}s of namespace {namespace} with {labels}"),
        }
    }
}

/// Everything that a policy refers to, but for client certificates: these are of the type that is watched anyway.
pub(super) fn of(policy: &UpstreamPolicy) -> Vec<Reference> {
    let mut found = Found {
        namespace: namespace(&policy.metadata),
        references: Vec::new(),
    };
    if let Some(tls) = &policy.spec.tls {
        found.authorities(&tls.ca_certificate_refs, "tls");
    }
    let methods = policy.spec.auth.iter().flat_map(|auth| &auth.any_of);
    for (index, method) in methods.enumerate() {
        found.method(method, &format!("auth.anyOf[{index}]"));
    }
    found.references
}

struct Found<'a> {
    namespace: &'a str,
    references: Vec<Reference>,
}

impl Found<'_> {
    fn method(&mut self, method: &AuthMethod, field: &str) {
        if let Some(basic) = &method.basic {
            let name = basic.secret_ref.name.clone();
            let which = match basic.format {
                BasicFormat::AuthFile => Which::Name(name),
                BasicFormat::AuthMap => Which::Whole(name),
            };
            self.add(CaKind::Secret, which, format!("{field}.basic.secretRef"));
        }
        if let Some(api_key) = &method.api_key {
            let which = Which::Whole(api_key.secret_ref.name.clone());
            self.add(CaKind::Secret, which, format!("{field}.apiKey.secretRef"));
        }
        if let Some(keys) = &method.access_key
            && let Some(selector) = selector(&keys.secret_selector)
        {
            let field = format!("{field}.accessKey.secretSelector");
            self.add(CaKind::Secret, Which::Labels(selector), field);
        }
        if let Some(jwt) = &method.jwt {
            let field = format!("{field}.jwt.jwks");
            if let Some(secret) = &jwt.jwks.secret_ref {
                let which = Which::Name(secret.name.clone());
                self.add(CaKind::Secret, which, format!("{field}.secretRef"));
            }
            if let Some(map) = &jwt.jwks.config_map_ref {
                let which = Which::Name(map.name.clone());
                self.add(CaKind::ConfigMap, which, format!("{field}.configMapRef"));
            }
            self.authorities(&jwt.jwks.ca_certificate_refs, &field);
        }
    }

    fn authorities(&mut self, references: &[CaCertificateRef], field: &str) {
        for reference in references {
            let which = Which::Name(reference.name.clone());
            let field = format!("{field}.caCertificateRefs");
            self.add(reference.kind, which, field);
        }
    }

    fn add(&mut self, kind: CaKind, which: Which, field: String) {
        self.references.push(Reference {
            kind,
            part: Part {
                namespace: self.namespace.to_owned(),
                which,
            },
            field,
        });
    }
}

/// The selector as the API server reads it. `None` if no Secret can have these labels: without any it would select all,
/// and a comma would begin another condition.
fn selector(selector: &SecretSelector) -> Option<String> {
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
    };
    let labels = &selector.match_labels;
    let valid = !labels.is_empty()
        && labels
            .iter()
            .all(|(name, value)| !name.is_empty() && plain(name) && plain(&value.0));
    let pairs = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", value.0));
    valid.then(|| pairs.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(spec: &serde_json::Value) -> UpstreamPolicy {
        let mut spec = spec.clone();
        spec["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "checkout"}]);
        let object = json!({
            "apiVersion": "hale-ingress.io/v1alpha1",
            "kind": "UpstreamPolicy",
            "metadata": {"namespace": "shop", "name": "checkout"},
            "spec": spec,
        });
        serde_json::from_value(object).unwrap()
    }

    fn told(spec: &serde_json::Value) -> Vec<String> {
        let references = of(&policy(spec)).into_iter();
        references
            .map(|it| {
                let whole = matches!(it.part.which, Which::Whole(_));
                let whole = if whole { ", whole" } else { "" };
                format!("{}: {}{whole}", it.field, it.name())
            })
            .collect()
    }

    #[test]
    fn every_field_that_names_an_object_is_followed() {
        let bundle =
            json!([{"kind": "ConfigMap", "name": "ca"}, {"kind": "Secret", "name": "roots"}]);
        let jwt = |jwks: serde_json::Value| json!({"jwt": {"issuer": "i", "jwks": jwks}});
        let spec = json!({
            "tls": {"caCertificateRefs": bundle, "clientCertificateRef": {"name": "client"}},
            "auth": {"anyOf": [
                {"basic": {"secretRef": {"name": "users"}}},
                {"basic": {"secretRef": {"name": "map"}, "format": "AuthMap"}},
                {"apiKey": {"header": "X-Key", "secretRef": {"name": "keys"}}},
                {"accessKey": {"profile": "AWS4", "secretSelector": {"matchLabels": {"b": "2", "a.b/c": "x_1"}}}},
                jwt(json!({"secretRef": {"name": "jwks"}})),
                jwt(json!({"configMapRef": {"name": "jwks"}})),
                jwt(json!({"uri": "https://idp.example/jwks", "caCertificateRefs": bundle})),
            ]},
        });
        let wanted = [
            "tls.caCertificateRefs: ConfigMap shop/ca",
            "tls.caCertificateRefs: Secret shop/roots",
            "auth.anyOf[0].basic.secretRef: Secret shop/users",
            "auth.anyOf[1].basic.secretRef: Secret shop/map, whole",
            "auth.anyOf[2].apiKey.secretRef: Secret shop/keys, whole",
            "auth.anyOf[3].accessKey.secretSelector: Secrets of namespace shop with a.b/c=x_1,b=2",
            "auth.anyOf[4].jwt.jwks.secretRef: Secret shop/jwks",
            "auth.anyOf[5].jwt.jwks.configMapRef: ConfigMap shop/jwks",
            "auth.anyOf[6].jwt.jwks.caCertificateRefs: ConfigMap shop/ca",
            "auth.anyOf[6].jwt.jwks.caCertificateRefs: Secret shop/roots",
        ];
        assert_eq!(told(&spec), wanted);
    }

    #[test]
    fn a_selector_that_no_secret_can_fit_is_not_asked_for() {
        let labels = [
            json!({}),
            json!({"": "a"}),
            json!({"a": "b,c!=d"}),
            json!({"a in (b)": "c"}),
            json!({"a": "b c"}),
        ];
        for labels in labels {
            let key = json!({"profile": "AWS4", "secretSelector": {"matchLabels": labels}});
            let spec = json!({"auth": {"anyOf": [{"accessKey": key}]}});
            assert!(told(&spec).is_empty(), "{labels}");
        }
    }
}
