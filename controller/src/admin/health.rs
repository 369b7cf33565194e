//! `/livez`, `/readyz` and `/metrics`.

use std::sync::Arc;

use hale_dataplane::prometheus_client::{encoding::text::encode, registry::Registry};
use http::StatusCode;

use super::{Answer, Answers};
use crate::lifecycle::{Lifecycle, Phase};

/// Answers kubelet and Prometheus.
pub struct Health {
    /// Where the process stands.
    pub lifecycle: Lifecycle,
    /// Every metric of the process.
    pub registry: Arc<Registry>,
}

impl Answers for Health {
    fn answer(&self, path: &str, _query: &str, _host: &str) -> Option<Answer> {
        Some(match path {
            // That this thread answers is all that is asked: a restart would mend neither a lost API
            // server nor a dead upstream.
            "/livez" | "/healthz" => Answer::text(StatusCode::OK, "ok"),
            "/readyz" => match self.lifecycle.phase() {
                Phase::Ready => Answer::text(StatusCode::OK, "ok"),
                Phase::Starting(waiting) => Answer::text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("starting: waiting for {waiting}"),
                ),
                Phase::Stopping => Answer::text(StatusCode::SERVICE_UNAVAILABLE, "shutting down"),
            },
            "/metrics" => self.metrics(),
            _ => return None,
        })
    }
}

impl Health {
    fn metrics(&self) -> Answer {
        let mut body = String::with_capacity(16 * 1024);
        match encode(&mut body, &self.registry) {
            Ok(()) => Answer {
                status: StatusCode::OK,
                content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body,
            },
            Err(error) => Answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("cannot write the metrics: {error}"),
            ),
        }
    }
}
