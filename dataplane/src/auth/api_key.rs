//! A secret that is sent as it is.

use http::{HeaderMap, HeaderValue};

use super::{Asked, Decision, Outcome};
use crate::config::{self, Resolved};

/// A [`config::ApiKey`], compiled.
pub(super) struct ApiKey {
    config: config::ApiKey,
}

impl ApiKey {
    pub(super) fn compile(config: &config::ApiKey) -> Self {
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

    pub(super) fn challenge(&self) -> Option<HeaderValue> {
        None
    }
}

/// Takes one cookie out of all `Cookie` lines, and leaves the others.
pub(super) fn remove_cookie(_headers: &mut HeaderMap, _name: &str) {}
