//! `spec.sessionPersistence`: a client stays with its peer.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// A client stays with the peer that served it first: also while that peer terminates and still serves,
/// until it is out. Then the client gets another one, and stays with that.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.absoluteTimeout) || (duration(self.absoluteTimeout) >= duration('1s') && duration(self.absoluteTimeout) <= duration('9600h'))")
    .message("absoluteTimeout must be 1s to 9600h: browsers keep no cookie for longer than 400 days")
    .field_path(".absoluteTimeout"))]
pub struct SessionPersistence {
    /// `Cookie`: a cookie that Hale sets, and that names the peer without telling its address.
    /// Default `Cookie`.
    #[serde(default, rename = "type")]
    pub kind: SessionPersistenceType,
    /// Name of the cookie: letters, digits, `_`, `.` and `-`, the first a letter or digit. Services that
    /// one host leads to need different names. At most 128 characters. Default: `HALE-` and eight
    /// hexadecimal digits that are made from the names of the Service and its port.
    // No prefix `__Host-` or `__Secure-`: over plain HTTP browsers drop such cookies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    )]
    pub session_name: Option<String>,
    /// How long a session lasts, from its first response. 1s to 9600h. Default: until the browser ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute_timeout: Option<Duration>,
}

/// What a client is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionPersistenceType {
    /// A cookie.
    #[default]
    Cookie,
}
