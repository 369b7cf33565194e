//! `spec.path`: how paths are forwarded that servers read in several ways.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How encoded and repeated slashes in request paths are handled. `auth`, `access` and `rateLimit` apply to every
/// reading of a path, whichever form is forwarded.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// How `%2F` in a path is handled. `Keep` forwards it as sent, `Reject` answers 400, and `Decode` forwards it as `/`
    /// and matches the path again. Default `Keep`.
    #[serde(default)]
    pub escaped_slashes: EscapedSlashes,
    /// How repeated slashes in a path are handled. `Keep` forwards them as sent, and `Merge` forwards one slash and
    /// matches the path again. Default `Keep`.
    #[serde(default)]
    pub repeated_slashes: RepeatedSlashes,
}

/// How `%2F` in a path is handled.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EscapedSlashes {
    /// Forwarded as sent.
    #[default]
    Keep,
    /// Answered with 400.
    Reject,
    /// Forwarded as `/`, and matched again.
    Decode,
}

/// How repeated slashes in a path are handled.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RepeatedSlashes {
    /// Forwarded as sent.
    #[default]
    Keep,
    /// Forwarded as one, and matched again.
    Merge,
}
