//! Requests signed with a secret key (AK/SK).

use http::HeaderValue;

use super::{Asked, Decision, Outcome};
use crate::config::{self, Resolved, SignatureProfile};

/// A [`config::AccessKey`], compiled.
pub(super) struct AccessKey {
    config: config::AccessKey,
}

impl AccessKey {
    pub(super) fn compile(config: &config::AccessKey, _old: Option<&Self>) -> Self {
        Self {
            config: config.clone(),
        }
    }

    pub(super) fn decide(&self, _asked: &Asked<'_>) -> Decision {
        Decision::Unavailable(Outcome::Unavailable, String::new())
    }

    pub(super) fn unavailable(&self) -> Option<&str> {
        match &self.config.keys {
            Resolved::Known(_) => None,
            Resolved::Unavailable(why) => Some(why),
        }
    }

    pub(super) fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static(match self.config.profile {
            SignatureProfile::Aws4 => "AWS4-HMAC-SHA256",
            SignatureProfile::Sdk => "SDK-HMAC-SHA256",
            SignatureProfile::HttpSignature | SignatureProfile::Cavage => "Signature",
        })
    }
}
