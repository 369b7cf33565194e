//! `spec.access`: which addresses may send requests.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Which client addresses may send requests, asked before anything else. The address is that of the client, as
/// trusted proxies tell it. Who may not is answered with 403 `AddressDenied`. A section that is not valid lets
/// nobody in.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.allow) && size(self.allow) > 0) || (has(self.deny) && size(self.deny) > 0)")
    .message("set allow, deny or both"))]
pub struct Access {
    /// Networks that may send requests, as `10.0.0.0/8`, `2001:db8::/32` or, one address, `192.0.2.7/32`. At
    /// most 256. Default: everybody who is not in `deny`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 4, max = 43), regex(pattern = CIDR)))]
    pub allow: Vec<String>,
    /// Networks that may not, whatever `allow` says. At most 256. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 4, max = 43), regex(pattern = CIDR)))]
    pub deny: Vec<String>,
}

/// A pattern and not CEL's `isCIDR`, which API servers before 1.31 do not know: they would refuse the whole
/// definition. What passes it and is no network all the same is found in translation, and lets nobody in.
const CIDR: &str = r"^(((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])/([0-9]|[12][0-9]|3[0-2])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))$";
