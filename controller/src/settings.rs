//! What the command line decides about translation.

use std::{fmt, str::FromStr};

use hale_dataplane::config::{EscapedSlashes, RepeatedSlashes};
use serde::{Deserialize, Serialize};

/// The namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// A key of both parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A text that is not `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not NAMESPACE/NAME")]
pub struct ObjectKeyError(String);

impl FromStr for ObjectKey {
    type Err = ObjectKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name))
                if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
            {
                Ok(Self::new(namespace, name))
            }
            _ => Err(ObjectKeyError(text.to_owned())),
        }
    }
}

/// What translation is told beside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Name of the `IngressClass` that is ours even if no such object says so.
    pub ingress_class: String,
    /// `spec.controller` of the `IngressClass`es that are ours.
    pub controller_class: String,
    /// Whether Ingresses without a class are ours, too.
    pub watch_ingress_without_class: bool,
    /// The namespace that is looked at; `None` is all.
    pub watch_namespace: Option<String>,
    /// The Service whose first port answers what no rule takes.
    pub default_backend: Option<ObjectKey>,
    /// The Secret with the certificate for server names that no other certificate fits.
    pub default_certificate: Option<ObjectKey>,
    /// Whether plain HTTP for hosts with TLS is answered with 308 to https.
    pub ssl_redirect: bool,
    /// How `%2F` in paths is handled where no policy sets it.
    pub escaped_slashes: EscapedSlashes,
    /// How repeated slashes in paths are handled where no policy sets it.
    pub repeated_slashes: RepeatedSlashes,
    /// Whether endpoints may be loopback or link-local addresses: true where manifests
    /// come from files, and nowhere else.
    pub allow_loopback_endpoints: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ingress_class: "hale".to_owned(),
            controller_class: hale_crds::CONTROLLER_NAME.to_owned(),
            watch_ingress_without_class: false,
            watch_namespace: None,
            default_backend: None,
            default_certificate: None,
            ssl_redirect: true,
            escaped_slashes: EscapedSlashes::Keep,
            repeated_slashes: RepeatedSlashes::Keep,
            allow_loopback_endpoints: false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key: ObjectKey = "shop/checkout".parse().unwrap();
        assert_eq!(key, ObjectKey::new("shop", "checkout"));
        assert_eq!(key.to_string(), "shop/checkout");
        for text in ["", "shop", "/a", "a/", "a/b/c"] {
            assert!(text.parse::<ObjectKey>().is_err(), "{text:?}");
        }
    }
}
