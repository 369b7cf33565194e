//! Which web pages of other origins may read answers (Fetch standard, "CORS protocol").
//!
//! Hale answers preflights itself, before anybody is asked who they are: browsers send none of their credentials
//! with them. It owns the `Access-Control-*` headers of every answer of a route that has this section, its own
//! refusals included, so that a page can read why.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Response};

use crate::config;

/// A [`config::Cors`], compiled.
pub(crate) struct Cors {
    #[allow(dead_code)]
    config: Arc<config::Cors>,
}

impl Cors {
    pub(crate) fn compile(config: &Arc<config::Cors>) -> Self {
        Self {
            config: Arc::clone(config),
        }
    }

    /// The answer to a preflight; `None` if the request is none.
    pub(crate) fn preflight(&self, _method: &Method, _headers: &HeaderMap) -> Option<Response<()>> {
        None
    }

    /// Says on an answer to a request of this origin who may read it.
    pub(crate) fn decorate(&self, _origin: Option<&HeaderValue>, _headers: &mut HeaderMap) {}
}
