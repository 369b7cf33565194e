//! Signed tokens (RFC 7519, RFC 8725).

use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use super::{Asked, Decision, Outcome};
use crate::config::{self, JwtKeys, Resolved};

/// Keys of a JSON Web Key Set (RFC 7517), each with the algorithms that it is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeySet {}

impl Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("0 keys")
    }
}

/// A [`config::Jwt`], compiled.
pub(super) struct Jwt {
    config: config::Jwt,
}

impl Jwt {
    pub(super) fn compile(config: &config::Jwt, _old: Option<&Self>) -> Self {
        Self {
            config: config.clone(),
        }
    }

    pub(super) async fn decide(&self, _asked: &Asked<'_>) -> Decision {
        Decision::Unavailable(Outcome::Unavailable, String::new())
    }

    pub(super) fn unavailable(&self) -> Option<&str> {
        match &self.config.keys {
            JwtKeys::Inline(Resolved::Unavailable(why)) => Some(why),
            _ => None,
        }
    }

    pub(super) fn challenge(&self) -> HeaderValue {
        HeaderValue::from_static("Bearer")
    }

    /// Headers that it may set upstream.
    pub(super) fn sets(&self) -> Vec<HeaderName> {
        let names = self.config.claims_to_headers.iter();
        names
            .filter_map(|claim| HeaderName::try_from(&claim.header).ok())
            .collect()
    }
}
