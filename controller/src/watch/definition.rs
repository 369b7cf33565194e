//! Whether the definition of a custom kind exists.
//!
//! A 404 for a custom kind has two causes: its CustomResourceDefinition is deleted, and all objects with it, or the API
//! server does not serve the kind at the moment (during an upgrade, or with `served: false`). Only the first one says
//! that there are no objects, so the definition itself decides.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, core::response::Status};

use crate::api_error::explain;

/// The name of the definition of policies.
pub(super) const POLICY_DEFINITION: &str = "upstreampolicies.hale-ingress.io";

/// The state of a CustomResourceDefinition.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// It exists: the kind is not served at the moment.
    Exists,
    /// The API server says that there is none of this name.
    Missing,
    /// Unknown, and why.
    Unknown(String),
}

/// Asks for the definition `name`.
pub(super) async fn definition(client: Client, name: &str) -> Definition {
    let api = Api::<CustomResourceDefinition>::all(client);
    match api.get_metadata(name).await {
        Ok(_) => Definition::Exists,
        Err(kube::Error::Api(status)) if says_missing(&status, name) => Definition::Missing,
        Err(error) => Definition::Unknown(explain(&error)),
    }
}

/// Whether a 404 is about this very object. A 404 for the path alone comes from an API server that does not serve
/// definitions.
fn says_missing(status: &Status, name: &str) -> bool {
    let details = status.details.as_ref();
    status.code == 404
        && status.reason == "NotFound"
        && details.is_some_and(|it| it.name == name && it.kind == "customresourcedefinitions")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_404_about_the_definition_itself_says_that_it_is_missing() {
        let name = POLICY_DEFINITION;
        let missing = |status: serde_json::Value| -> bool {
            says_missing(&serde_json::from_value(status).unwrap(), name)
        };
        let details = |name: &str, kind: &str| json!({"name": name, "kind": kind});
        let kind = "customresourcedefinitions";
        let status = |code: u16, reason: &str, details: serde_json::Value| json!({"code": code, "reason": reason, "details": details});
        assert!(missing(status(404, "NotFound", details(name, kind))));
        assert!(!missing(json!({"code": 404, "reason": "NotFound"})));
        assert!(!missing(json!({"code": 404})));
        assert!(!missing(status(404, "NotFound", details("other", kind))));
        assert!(!missing(status(404, "NotFound", details(name, ""))));
        assert!(!missing(status(403, "Forbidden", details(name, kind))));
        assert!(!missing(status(
            503,
            "ServiceUnavailable",
            details(name, kind)
        )));
    }
}
