//! `spec.path`: what becomes of paths that servers read in several ways.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of encoded and repeated slashes in the paths of requests. Whatever is forwarded, `auth`, `access` and
/// `rateLimit` hold for every path that some server would take it for.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// `%2F` in a path. `Keep`: forwarded as sent. `Reject`: answered with 400. `Decode`: forwarded as `/`, and matched
    /// again. Default `Keep`.
    #[serde(default)]
    pub escaped_slashes: EscapedSlashes,
    /// Repeated slashes in a path. `Keep`: forwarded as sent. `Merge`: forwarded as one, and matched again. Default
    /// `Keep`.
    #[serde(default)]
    pub repeated_slashes: RepeatedSlashes,
}

/// What becomes of `%2F` in a path.
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

/// What becomes of repeated slashes in a path.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RepeatedSlashes {
    /// Forwarded as sent.
    #[default]
    Keep,
    /// Forwarded as one, and matched again.
    Merge,
}
