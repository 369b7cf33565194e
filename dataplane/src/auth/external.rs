//! Another service is asked about each request.

use http::HeaderName;

use super::{Asked, Decision, Outcome};
use crate::config::{self, ExternalService};

/// A [`config::External`], compiled.
pub(super) struct External {
    config: config::External,
}

impl External {
    pub(super) fn compile(config: &config::External) -> Self {
        Self {
            config: config.clone(),
        }
    }

    pub(super) async fn decide(&self, _asked: &Asked<'_>) -> Decision {
        Decision::Unavailable(Outcome::Unavailable, String::new())
    }

    pub(super) fn unavailable(&self) -> Option<&str> {
        match &self.config.service {
            ExternalService::Unavailable(why) => Some(why),
            _ => None,
        }
    }

    /// Headers that it may set upstream.
    pub(super) fn sets(&self) -> Vec<HeaderName> {
        let names = self.config.response_headers.iter();
        names
            .filter_map(|name| HeaderName::try_from(name).ok())
            .collect()
    }
}
