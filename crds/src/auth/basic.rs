//! `auth.anyOf[].basic`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretRef;

/// User and password, from `Authorization: Basic`. Hashes are those of `htpasswd`: bcrypt (`$2a$`, `$2b$`,
/// `$2y$`), SHA-crypt (`$5$`, `$6$`), `$apr1$` and `{SHA}`; plain text and DES are refused.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// The Secret with users and hashed passwords, of the policy's namespace.
    pub secret_ref: SecretRef,
    /// How they are in the Secret. `AuthFile`: the key `auth` holds the lines of an htpasswd file.
    /// `AuthMap`: each key is a user, its value the hash. Default `AuthFile`.
    #[serde(default)]
    pub format: BasicFormat,
    /// What browsers show when they ask for the password. Default `Hale`.
    #[serde(default = "default_realm")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[ !#-\[\]-~]+$"))]
    pub realm: String,
}

fn default_realm() -> String {
    "Hale".to_owned()
}

/// How users are in a Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BasicFormat {
    /// An htpasswd file in the key `auth`.
    #[default]
    AuthFile,
    /// A key for each user.
    AuthMap,
}
