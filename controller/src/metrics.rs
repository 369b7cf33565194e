//! The controller's own metrics. Labels come from closed enums, never from objects.

use std::time::Duration;

use hale_dataplane::prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::finding::Finding;

/// Handles of every metric. Cheap to clone; all clones are the same ones.
#[derive(Clone)]
pub struct Metrics {
    /// Whether a kind has been listed and is being watched.
    pub watching: Family<KindLabel, Gauge>,
    /// Objects of a kind in memory.
    pub objects: Family<KindLabel, Gauge>,
    /// Failed listings and watches.
    pub watch_errors: Family<KindLabel, Counter>,
    /// Whether this replica writes statuses and Events.
    pub leader: Gauge,
    /// Status writes, by result.
    pub status_writes: Family<ResultLabel, Counter>,
    /// Events, by result.
    pub events: Family<ResultLabel, Counter>,
    /// Folders that could not be read.
    pub manifest_errors: Counter,
    translations: Counter,
    publishes: Counter,
    translate_seconds: Histogram,
    findings: Family<ReasonLabel, Gauge>,
}

/// A kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// `Ingress`, …
    pub kind: &'static str,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// `ok`, `error`, or `dropped`.
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Metrics {
    /// Makes the metrics and adds them to a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            watching: Family::default(),
            objects: Family::default(),
            watch_errors: Family::default(),
            leader: Gauge::default(),
            status_writes: Family::default(),
            events: Family::default(),
            manifest_errors: Counter::default(),
            translations: Counter::default(),
            publishes: Counter::default(),
            // 0.1 ms to 1.6 s.
            translate_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 15)),
            findings: Family::default(),
        };
        let m = &metrics;
        registry.register(
            "hale_watching",
            "Whether a kind was listed and is being watched",
            m.watching.clone(),
        );
        registry.register(
            "hale_objects",
            "Objects of a kind in memory",
            m.objects.clone(),
        );
        registry.register(
            "hale_watch_errors",
            "Failed listings and watches",
            m.watch_errors.clone(),
        );
        registry.register(
            "hale_leader",
            "Whether this replica writes statuses and Events",
            m.leader.clone(),
        );
        registry.register(
            "hale_status_writes",
            "Status writes by result",
            m.status_writes.clone(),
        );
        registry.register("hale_events", "Events by result", m.events.clone());
        registry.register(
            "hale_manifest_errors",
            "Times that the folder of manifests could not be used",
            m.manifest_errors.clone(),
        );
        registry.register(
            "hale_translations",
            "Snapshots of the cluster that were translated",
            m.translations.clone(),
        );
        registry.register(
            "hale_publishes",
            "Translations that changed what is served",
            m.publishes.clone(),
        );
        registry.register(
            "hale_translate_seconds",
            "Time to read a snapshot, translate and publish it",
            m.translate_seconds.clone(),
        );
        registry.register(
            "hale_findings",
            "What is wrong with objects, by reason",
            m.findings.clone(),
        );
        metrics
    }

    /// A snapshot was translated.
    pub fn translated(&self, took: Duration, changed: bool, findings: &[Finding]) {
        self.translations.inc();
        if changed {
            self.publishes.inc();
        }
        self.translate_seconds.observe(took.as_secs_f64());
        self.findings.clear();
        for finding in findings {
            let reason = finding.reason.as_str();
            self.findings.get_or_create(&ReasonLabel { reason }).inc();
        }
    }
}
