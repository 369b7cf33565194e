//! User and password (RFC 7617).

use http::HeaderValue;

use super::{Asked, Decision, Outcome};
use crate::config::{self, Resolved};

/// A [`config::Basic`], compiled.
pub(super) struct Basic {
    config: config::Basic,
}

impl Basic {
    pub(super) fn compile(config: &config::Basic, _old: Option<&Self>) -> Self {
        Self {
            config: config.clone(),
        }
    }

    pub(super) async fn decide(&self, _asked: &Asked<'_>) -> Decision {
        Decision::Unavailable(Outcome::Unavailable, String::new())
    }

    pub(super) fn unavailable(&self) -> Option<&str> {
        match &self.config.users {
            Resolved::Known(_) => None,
            Resolved::Unavailable(why) => Some(why),
        }
    }

    pub(super) fn challenge(&self) -> HeaderValue {
        let text = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.config.realm);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Basic realm=\"\""))
    }
}
