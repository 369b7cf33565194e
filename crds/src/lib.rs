//! What users of Hale declare: the `UpstreamPolicy` custom resource.
//!
//! The Rust types are the one source: the schema, its bounds, the CEL rules and the text of
//! `kubectl explain` are derived from them, and `hale crds` prints what is derived. A field enters in
//! the same change that makes it work: nothing is accepted and then ignored.
//!
//! Values that a newer API server may have let in (a duration out of range, a union with two
//! branches) deserialise all the same and are judged in translation, object by object, because an
//! object that cannot be read would stop the watch of all others.

// The derive of `KubeSchema` declares a public twin of each type inside a function.
#![allow(unreachable_pub)]
// Columns of the printer have like types.
#![allow(clippy::duplicated_attributes)]

mod access;
mod auth;
mod circuit_breaker;
mod cors;
mod duration;
mod health_check;
mod load_balancer;
mod passive_check;
mod path;
mod policy;
mod rate_limit;
mod requests;
mod session_persistence;
mod status;
mod tls;

pub use access::Access;
pub use auth::{
    AccessKeyAuth, AccessKeyProfile, ApiKeyAuth, Auth, AuthMethod, BasicAuth, BasicFormat,
    ClaimToHeader, ConfigMapRef, ExemptPath, ExemptPathType, ExternalAuth, ExternalServiceRef,
    Jwks, JwtAlgorithm, JwtAuth, LabelValue, RequiredClaim, SecretSelector, SignedBody,
};
pub use circuit_breaker::{CircuitBreaker, PeerLimits, Queue};
pub use cors::{Cors, CorsMethod};
pub use duration::{Duration, DurationError};
pub use health_check::{
    ActiveCheck, CheckPort, ExpectedBody, FromReadinessProbe, GrpcCheck, HealthCheck, HttpCheck,
    HttpHeader, Initial, Readiness, TcpCheck, Terminating,
};
pub use load_balancer::{ConsistentHash, LoadBalancer, LoadBalancerType, SlowStart, SourceIp, Uri};
pub use passive_check::{ErrorPercent, PassiveCheck};
pub use path::{EscapedSlashes, Path, RepeatedSlashes};
pub use policy::{TargetKind, TargetRef, UpstreamPolicy, UpstreamPolicySpec};
pub use rate_limit::{ClientAddress, Consumer, RateLimit, RateLimitKey, WholeRoute};
pub use requests::{Failure, GrpcCode, NonIdempotent, Retry, RetryBudget, SamePeer, Timeouts};
pub use session_persistence::{SessionPersistence, SessionPersistenceType};
pub use status::{
    AncestorRef, AncestorStatus, MAX_UNHEALTHY_PEERS, TargetStatus, UnhealthyPeer,
    UpstreamPolicyStatus,
};
pub use tls::{CaCertificateRef, CaKind, SecretRef, Tls};

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// The API group of everything that Hale defines.
pub const GROUP: &str = "hale-ingress.io";

/// What Hale calls itself in `IngressClass.spec.controller` and in `status.ancestors`.
pub const CONTROLLER_NAME: &str = "hale-ingress.io/controller";

/// The definition of `UpstreamPolicy`, as it is installed.
///
/// Optional fields are not nullable here, other than in [`UpstreamPolicy::crd`]: the API server drops
/// a `null` that is not allowed, and keeps one that is, which CEL's `has()` would take for a value.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = UpstreamPolicy::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            for_people(schema);
        }
    }
    crd
}

/// Also joins the lines of each paragraph: `kubectl explain` breaks them itself.
fn for_people(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(description) = &mut schema.description {
        let paragraphs: Vec<String> = description
            .split("\n\n")
            .map(|paragraph| paragraph.replace('\n', " "))
            .collect();
        *description = paragraphs.join("\n\n");
    }
    for property in schema.properties.iter_mut().flat_map(BTreeMap::values_mut) {
        for_people(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        for_people(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        for_people(values);
    }
}

/// [`crd`] as YAML.
///
/// # Errors
/// None that can be met: the definition is fixed.
pub fn crd_yaml() -> Result<String, serde_saphyr::SerializeError> {
    serde_saphyr::to_string(&crd())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
        visit(path, schema);
        for (name, property) in schema.properties.iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            walk(&format!("{path}[]"), items, visit);
        }
        if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
            walk(&format!("{path}{{}}"), values, visit);
        }
    }

    fn schema() -> JSONSchemaProps {
        let version = crd().spec.versions.remove(0);
        version.schema.unwrap().open_api_v3_schema.unwrap()
    }

    #[test]
    fn everything_is_bounded_and_nothing_is_nullable() {
        let mut unbounded = Vec::new();
        walk("", &schema(), &mut |path, schema| {
            let bounded = match schema.type_.as_deref() {
                Some("string") => {
                    schema.max_length.is_some() || schema.enum_.is_some() || schema.format.is_some()
                }
                Some("array") => schema.max_items.is_some(),
                Some("integer") if path.starts_with(".spec") => {
                    schema.minimum.is_some() && schema.maximum.is_some()
                }
                Some("object") if schema.additional_properties.is_some() => {
                    schema.max_properties.is_some()
                }
                _ => true,
            };
            // The API's own type, written by us alone.
            if !bounded && !path.contains(".conditions[]") {
                unbounded.push(path.to_owned());
            }
            assert_eq!(schema.nullable, None, "{path}");
        });
        assert_eq!(unbounded, Vec::<String>::new());
    }

    #[test]
    fn every_field_of_spec_is_explained() {
        walk("", &schema(), &mut |path, schema| {
            let item = path.ends_with("[]") || path.is_empty();
            let explained = schema
                .description
                .as_ref()
                .is_some_and(|text| text.len() > 10);
            assert!(item || !path.starts_with(".spec") || explained, "{path}");
        });
    }

    /// YAML 1.1, which kubectl reads, takes these for booleans.
    #[test]
    fn no_field_is_a_boolean_in_yaml() {
        walk("", &schema(), &mut |path, _| {
            let name = path.rsplit('.').next().unwrap().to_ascii_lowercase();
            assert!(
                !["on", "off", "y", "n", "yes", "no"].contains(&name.as_str()),
                "{path}"
            );
        });
    }

    #[test]
    fn the_smallest_policy_has_the_defaults() {
        let policy: UpstreamPolicy = serde_json::from_value(serde_json::json!({
            "apiVersion": "hale-ingress.io/v1alpha1",
            "kind": "UpstreamPolicy",
            "metadata": {"name": "checkout"},
            "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": "checkout"}],
                "healthCheck": {"active": {"http": {}}, "passive": {}},
                "circuitBreaker": {},
                "retry": {},
                "timeouts": {},
                "auth": {"anyOf": [
                    {"basic": {"secretRef": {"name": "users"}}},
                    {"jwt": {"issuer": "a", "jwks": {"uri": "https://a.test/keys"}}},
                    {"accessKey": {"profile": "AWS4", "secretSelector": {"matchLabels": {"app": "a"}}}},
                    {"external": {"service": {"name": "auth", "port": 80}}},
                ]},
                "access": {"deny": ["192.0.2.0/24"]},
                "rateLimit": {"requests": 5},
                "cors": {"allowOrigins": ["*"]},
            },
        }))
        .unwrap();
        let health_check = policy.spec.health_check.unwrap();
        let (active, passive) = (health_check.active.unwrap(), health_check.passive.unwrap());
        assert_eq!(active.interval, Duration::new("5s"));
        assert_eq!(active.timeout, None);
        assert_eq!(
            (active.unhealthy_threshold, active.healthy_threshold),
            (3, 2)
        );
        assert_eq!(active.http.unwrap().expected_statuses, ["200-399"]);
        assert_eq!(
            (passive.consecutive_errors, passive.consecutive_5xx),
            (5, 0)
        );
        assert_eq!(passive.error_percent, None);
        assert_eq!(passive.base_ejection, Duration::new("10s"));
        assert_eq!(passive.max_ejected_percent, 50);
        let queue = policy.spec.circuit_breaker.unwrap().queue;
        assert_eq!((queue.max, queue.timeout), (100, Duration::new("1s")));
        assert_eq!(policy.spec.retry.unwrap().codes, [502, 503, 504]);
        assert_eq!(policy.spec.timeouts.unwrap().connect, Duration::new("1s"));
        assert_eq!(
            policy.spec.rate_limit.unwrap().interval,
            Duration::new("1s")
        );
        let cors = policy.spec.cors.unwrap();
        assert_eq!(cors.max_age, Duration::new("5s"));
        assert!(!cors.allow_credentials);
        assert_eq!(cors.allow_methods.len(), 3);
        auth_has_its_defaults(&policy.spec.auth.unwrap());
    }

    fn auth_has_its_defaults(auth: &Auth) {
        let [basic, jwt, access_key, external] = auth.any_of.as_slice() else {
            panic!("{auth:?}");
        };
        assert!(!auth.forward_credential);
        let basic = basic.basic.as_ref().unwrap();
        assert_eq!(
            (basic.realm.as_str(), basic.format),
            ("Hale", BasicFormat::AuthFile)
        );
        let jwt = jwt.jwt.as_ref().unwrap();
        assert_eq!(jwt.algorithms, [JwtAlgorithm::Rs256, JwtAlgorithm::Es256]);
        assert_eq!(jwt.consumer_claim, "sub");
        assert_eq!(jwt.clock_skew, Duration::new("60s"));
        let access_key = access_key.access_key.as_ref().unwrap();
        assert_eq!(access_key.clock_skew, Duration::new("300s"));
        assert_eq!(access_key.replay_window, Duration::new("0s"));
        assert_eq!(access_key.signed_body, SignedBody::Required);
        let external = external.external.as_ref().unwrap();
        assert_eq!(
            (external.path.as_str(), &external.timeout),
            ("/", &Duration::new("2s"))
        );
        assert!(!external.fail_open);
    }

    #[test]
    fn auth_tells_what_it_refers_to() {
        let auth: Auth = serde_json::from_value(serde_json::json!({"anyOf": [
            {"basic": {"secretRef": {"name": "users"}}},
            {"apiKey": {"header": "x-key", "secretRef": {"name": "keys"}}},
            {"jwt": {"issuer": "a", "jwks": {"secretRef": {"name": "tokens"}}}},
            {"jwt": {"issuer": "b", "jwks": {"configMapRef": {"name": "public"}}}},
            {"jwt": {"issuer": "c", "jwks": {"uri": "https://a.test", "caCertificateRefs": [
                {"kind": "ConfigMap", "name": "ca"}, {"kind": "Secret", "name": "secret-ca"},
            ]}}},
            {"accessKey": {"profile": "SDK", "secretSelector": {"matchLabels": {"app": "a"}}}},
        ]}))
        .unwrap();
        let secrets: Vec<_> = auth.secrets().collect();
        assert_eq!(secrets, ["users", "keys", "tokens", "secret-ca"]);
        let config_maps: Vec<_> = auth.config_maps().collect();
        assert_eq!(config_maps, ["public", "ca"]);
        let selector = auth.secret_selectors().next().unwrap();
        let labels = |value: &str| BTreeMap::from([("app".to_owned(), value.to_owned())]);
        assert!(selector.matches(&labels("a")));
        assert!(!selector.matches(&labels("b")));
        assert!(!selector.matches(&BTreeMap::new()));
        let nothing = SecretSelector {
            match_labels: BTreeMap::new(),
        };
        assert!(
            !nothing.matches(&labels("a")),
            "an empty selector selects nothing"
        );
    }
}
