//! From a snapshot to what is served: translate, compare, publish, and tell those who write statuses.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use hale_dataplane::Dataplane;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    cluster::{Cluster, Objects},
    expiry,
    finding::{Finding, Severity},
    lifecycle::Lifecycle,
    metrics::Metrics,
    settings::Settings,
    translate::{Translation, translate},
};

pub mod hold_off;

/// One snapshot, and what it became.
#[derive(Debug)]
pub struct Published {
    /// Counts the snapshots of this process, from 1; also those that changed nothing.
    pub sequence: u64,
    /// The snapshot.
    pub cluster: Cluster,
    /// What it became.
    pub translation: Translation,
    /// What the command line decided.
    pub settings: Settings,
    /// What reading the objects found, before translation.
    pub read_findings: Vec<Finding>,
}

impl Published {
    /// Everything that is wrong at this time, with which object.
    pub fn findings(&self, now: Timestamp) -> impl Iterator<Item = Cow<'_, Finding>> {
        let lasting = self.read_findings.iter().chain(&self.translation.findings);
        lasting
            .map(Cow::Borrowed)
            .chain(expiry::findings(self, now).into_iter().map(Cow::Owned))
    }
}

/// The newest snapshot; `None` before the first.
pub type Newest = watch::Receiver<Option<Arc<Published>>>;

/// Publishes snapshots, one after another.
pub struct Publisher {
    dataplane: Dataplane,
    settings: Settings,
    metrics: Metrics,
    lifecycle: Lifecycle,
    newest: watch::Sender<Option<Arc<Published>>>,
}

impl Publisher {
    /// A publisher that has published nothing.
    pub fn new(
        dataplane: Dataplane,
        settings: Settings,
        metrics: Metrics,
        lifecycle: Lifecycle,
    ) -> Self {
        Self {
            dataplane,
            settings,
            metrics,
            lifecycle,
            newest: watch::Sender::new(None),
        }
    }

    /// What was published last, and all that follows.
    pub fn newest(&self) -> Newest {
        self.newest.subscribe()
    }

    /// Translates the objects and serves the result, unless it is what is served already.
    pub fn publish(&self, objects: Objects, read_findings: Vec<Finding>) -> Arc<Published> {
        let began = Instant::now();
        let cluster = Cluster::new(objects);
        let translation = translate(&cluster, &self.settings);
        let translated = began.elapsed();
        let before = self.newest.borrow().clone();
        let changed = before
            .as_ref()
            .is_none_or(|before| before.translation.config != translation.config);
        let generation = changed.then(|| self.dataplane.publish(translation.config.clone()));
        let took = began.elapsed();
        self.metrics
            .translated(took, changed, &translation.findings);
        log(before.as_deref(), &translation, &read_findings);
        let published = Arc::new(Published {
            sequence: before.map_or(1, |before| before.sequence + 1),
            cluster,
            translation,
            settings: self.settings.clone(),
            read_findings,
        });
        if let Some(generation) = generation {
            tracing::info!(
                generation,
                sequence = published.sequence,
                upstreams = published.translation.config.upstreams.len(),
                hosts = published.translation.config.hosts.len(),
                findings = published.translation.findings.len(),
                translate_ms = milliseconds(translated),
                publish_ms = milliseconds(took.saturating_sub(translated)),
                "serving a new table"
            );
        }
        self.newest.send_replace(Some(Arc::clone(&published)));
        self.lifecycle.ready();
        published
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Logs each finding once, when it appears.
fn log(before: Option<&Published>, translation: &Translation, read: &[Finding]) {
    if before.is_some_and(|before| {
        before.translation.findings == translation.findings && before.read_findings == read
    }) {
        return;
    }
    let known = |finding: &Finding| {
        before.is_some_and(|before| {
            before.translation.findings.contains(finding) || before.read_findings.contains(finding)
        })
    };
    for finding in read.iter().chain(&translation.findings) {
        if known(finding) {
            continue;
        }
        let (object, reason) = (&finding.object, finding.reason.as_str());
        match finding.severity {
            Severity::Warning => tracing::warn!(%object, reason, "{}", finding.message),
            Severity::Notice => tracing::info!(%object, reason, "{}", finding.message),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use hale_dataplane::{AccessLog, Options, prometheus_client::registry::Registry};
    use serde_json::json;

    use super::*;
    use crate::lifecycle::Phase;

    fn objects(path: &str) -> Objects {
        let backend = json!({"service": {"name": "none", "port": {"number": 80}}});
        let rule =
            json!({"http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}});
        let ingress = json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"ingressClassName": "hale", "rules": [rule]},
        });
        Objects {
            ingresses: vec![Arc::new(serde_json::from_value(ingress).unwrap())],
            ..Objects::default()
        }
    }

    #[test]
    fn what_is_served_already_is_not_published_again() {
        let dataplane = Dataplane::start(Options {
            http: vec![(Ipv4Addr::LOCALHOST, 0).into()],
            https: Vec::new(),
            workers: 1,
            access_log: AccessLog::Off,
            ..Options::default()
        })
        .unwrap();
        let lifecycle = Lifecycle::new("a test");
        let metrics = Metrics::new(&mut Registry::default());
        let publisher = Publisher::new(
            dataplane.clone(),
            Settings::default(),
            metrics,
            lifecycle.clone(),
        );
        assert!(publisher.newest().borrow().is_none());
        let steps = [("/a", 1, 1), ("/a", 2, 1), ("/b", 3, 2)];
        for (path, sequence, generation) in steps {
            let published = publisher.publish(objects(path), Vec::new());
            assert_eq!(published.sequence, sequence);
            assert_eq!(dataplane.report().generation, generation, "after {path}");
            assert_eq!(lifecycle.phase(), Phase::Ready);
        }
    }
}
