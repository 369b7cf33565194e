//! `auth.anyOf[].accessKey`.

use std::{borrow::Cow, collections::BTreeMap};

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Duration;

/// Requests that are signed with a secret key (AK/SK): the secret itself never travels.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.clockSkew) >= duration('1s') && duration(self.clockSkew) <= duration('1h')")
    .message("clockSkew must be 1s to 1h")
    .field_path(".clockSkew"))]
#[x_kube(validation = Rule::new("duration(self.replayWindow) <= duration('1h')")
    .message("replayWindow must be at most 1h; 0s does not remember signatures")
    .field_path(".replayWindow"))]
pub struct AccessKeyAuth {
    /// How requests are signed. `AWS4`: AWS Signature Version 4, in the header or the query. `SDK`:
    /// `SDK-HMAC-SHA256`, as the SDKs of Huawei Cloud sign. `HTTPSignature`: HTTP Message Signatures
    /// (RFC 9421) with `hmac-sha256`. `Cavage`: draft-cavage-http-signatures-12 with `hmac-sha256`.
    pub profile: AccessKeyProfile,
    /// Which Secrets of the policy's namespace hold the keys, each one: `accessKeyId` and `secretAccessKey`,
    /// and optionally `consumer` (default: the Secret's name) and `notAfter` (RFC 3339), from when on the
    /// key is refused. Two keys may name the same consumer, so that keys can be rotated.
    pub secret_selector: SecretSelector,
    /// How far the date of a request may be from Hale's clock. 1s to 1h, default 300s.
    #[serde(default = "default_clock_skew")]
    pub clock_skew: Duration,
    /// Whether the signature must cover the body. `Required`: a body without a digest under the signature is
    /// refused. `Optional`: it passes; a digest that is there is checked all the same. Default `Required`.
    #[serde(default)]
    pub signed_body: SignedBody,
    /// For how long each replica of Hale remembers a signature, so that it is taken once. 0s to 1h, default
    /// 0s: signatures are not remembered, and a request can be repeated within `clockSkew`.
    #[serde(default = "default_replay_window")]
    pub replay_window: Duration,
}

fn default_clock_skew() -> Duration {
    Duration::new("300s")
}

fn default_replay_window() -> Duration {
    Duration::new("0s")
}

/// How requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessKeyProfile {
    /// AWS Signature Version 4.
    #[serde(rename = "AWS4")]
    Aws4,
    /// `SDK-HMAC-SHA256`.
    #[serde(rename = "SDK")]
    Sdk,
    /// HTTP Message Signatures (RFC 9421).
    #[serde(rename = "HTTPSignature")]
    HttpSignature,
    /// draft-cavage-http-signatures-12.
    Cavage,
}

/// Whether a signature must cover the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SignedBody {
    /// It must.
    #[default]
    Required,
    /// It may.
    Optional,
}

/// Secrets by their labels.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretSelector {
    /// Labels that a Secret must have, all of them: 1 to 8.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8))]
    pub match_labels: BTreeMap<String, LabelValue>,
}

impl SecretSelector {
    /// Whether an object with these labels is selected. Without a label to match, nothing is.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let mut wanted = self.match_labels.iter();
        !self.match_labels.is_empty()
            && wanted.all(|(name, value)| labels.get(name) == Some(&value.0))
    }
}

/// The value of a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabelValue(pub String);

impl JsonSchema for LabelValue {
    fn schema_name() -> Cow<'static, str> {
        "LabelValue".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The value of a label.",
            "maxLength": 63,
            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        })
    }
}
