//! The metrics in the words of Prometheus, made at each scrape.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{
    Listener, Metrics, Outcome,
    policies::PolicySums,
    queue::Waited,
    shard::{BOUNDS, CLASSES, Sums},
};
use crate::{
    health::{EjectionRule, Standing},
    reason::Reason,
    report::Report,
};

type MakeReport = Box<dyn Fn() -> Report + Send + Sync>;

/// What the registry asks at each scrape.
pub(super) struct Exposition {
    metrics: Arc<Metrics>,
    report: MakeReport,
}

impl Exposition {
    pub(super) fn new(metrics: Arc<Metrics>, report: MakeReport) -> Self {
        Self { metrics, report }
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

/// The counts of one upstream at one moment, under the text of its id.
struct Counted {
    upstream: String,
    sums: Sums,
    probes: [u64; 2],
    waiting: u64,
    waits: [u64; Waited::ALL.len()],
    ejections: [u64; EjectionRule::ALL.len()],
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counted = self.counted();
        requests(&mut encoder, &counted)?;
        attempts(&mut encoder, &counted)?;
        waits(&mut encoder, &counted)?;
        probes(&mut encoder, &counted)?;
        ejections(&mut encoder, &counted)?;
        policies(&mut encoder, &self.metrics)?;
        edge(&mut encoder, &self.metrics)?;
        let report = (self.report)();
        peers(&mut encoder, &report)?;
        table(&mut encoder, &report)
    }
}

impl Exposition {
    fn counted(&self) -> Vec<Counted> {
        self.metrics
            .upstreams()
            .iter()
            .map(|(id, upstream)| Counted {
                upstream: id.to_string(),
                sums: Sums::of(&upstream.shards),
                probes: upstream.probes.counts(),
                waiting: upstream.queue.waiting(),
                waits: upstream.queue.ended(),
                ejections: upstream.ejections.counts(),
            })
            .collect()
    }
}

fn waits(encoder: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> fmt::Result {
    let waited = |one: &&Counted| one.waiting + one.waits.iter().sum::<u64>() > 0;
    let help = "Requests that wait for a peer";
    let mut metric = gauge(encoder, "hale_upstream_waiting", help)?;
    for one in counted.iter().filter(waited) {
        metric
            .encode_family(&[("upstream", one.upstream.as_str())])?
            .encode_gauge(&one.waiting)?;
    }
    let help = "Requests that had to wait for a peer, by how the wait ended";
    let mut metric = counter(encoder, "hale_upstream_waits", help)?;
    for one in counted {
        for (how, count) in Waited::ALL.iter().zip(one.waits) {
            let labels = [
                ("upstream", one.upstream.as_str()),
                ("result", how.as_str()),
            ];
            seen(&mut metric, &labels, count)?;
        }
    }
    Ok(())
}

fn requests(encoder: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> fmt::Result {
    let help =
        "Requests that were routed to an upstream, by class of the status that the client got";
    let mut metric = counter(encoder, "hale_requests", help)?;
    for one in counted {
        for (class, count) in CLASSES.iter().zip(one.sums.requests) {
            let labels = [("upstream", one.upstream.as_str()), ("code_class", *class)];
            seen(&mut metric, &labels, count)?;
        }
    }
    let help = "From the head of a request to the last byte of its response";
    let mut metric = encoder.encode_descriptor(
        "hale_request_duration",
        help,
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for one in counted {
        let count: u64 = one.sums.buckets.iter().sum();
        if count == 0 {
            continue;
        }
        let bounds = BOUNDS.iter().map(|micros| seconds(*micros));
        let buckets: Vec<(f64, u64)> = bounds
            .chain([f64::INFINITY])
            .zip(one.sums.buckets)
            .collect();
        metric
            .encode_family(&[("upstream", one.upstream.as_str())])?
            .encode_histogram::<NoLabelSet>(seconds(one.sums.micros), count, &buckets, None)?;
    }
    Ok(())
}

fn attempts(encoder: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> fmt::Result {
    let help = "Attempts to have a request answered by a peer, by what came of them";
    let mut metric = counter(encoder, "hale_upstream_attempts", help)?;
    for one in counted {
        for (outcome, count) in Outcome::ALL.iter().zip(one.sums.attempts) {
            let labels = [
                ("upstream", one.upstream.as_str()),
                ("outcome", outcome.as_str()),
            ];
            seen(&mut metric, &labels, count)?;
        }
    }
    let mut metric = counter(encoder, "hale_upstream_retries", "Attempts after the first")?;
    for one in counted {
        let labels = [("upstream", one.upstream.as_str())];
        seen(&mut metric, &labels, one.sums.retries)?;
    }
    let help = "Attempts that the retry budget had no room for";
    let mut metric = counter(encoder, "hale_upstream_retries_refused", help)?;
    for one in counted {
        let labels = [("upstream", one.upstream.as_str())];
        seen(&mut metric, &labels, one.sums.retries_refused)?;
    }
    Ok(())
}

fn probes(encoder: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> fmt::Result {
    let mut metric = counter(encoder, "hale_probes", "Active checks, by result")?;
    for one in counted {
        for (result, count) in ["pass", "fail"].into_iter().zip(one.probes) {
            let labels = [("upstream", one.upstream.as_str()), ("result", result)];
            seen(&mut metric, &labels, count)?;
        }
    }
    Ok(())
}

fn ejections(encoder: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> fmt::Result {
    let help = "Peers taken out for what they answered requests with, by rule";
    let mut metric = counter(encoder, "hale_ejections", help)?;
    for one in counted {
        for (rule, count) in EjectionRule::ALL.iter().zip(one.ejections) {
            let labels = [("upstream", one.upstream.as_str()), ("rule", rule.as_str())];
            seen(&mut metric, &labels, count)?;
        }
    }
    Ok(())
}

/// What policies decided. They are named as kubectl does, without their kind: it is always the same.
fn policies(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let counted: Vec<(String, PolicySums)> = metrics
        .policies()
        .iter()
        .map(|(source, policy)| {
            let name = format!("{}/{}", source.namespace, source.name);
            (name, policy.sums())
        })
        .collect();
    let help = "Requests that the auth section of a policy decided about, by method and outcome";
    let mut metric = counter(encoder, "hale_auth_requests", help)?;
    for (policy, sums) in &counted {
        for (method, outcome, count) in sums.decisions() {
            let labels = [
                ("policy", policy.as_str()),
                ("method", method),
                ("outcome", outcome),
            ];
            seen(&mut metric, &labels, count)?;
        }
    }
    let help = "Requests that the access section of a policy refused";
    let mut metric = counter(encoder, "hale_access_denied_requests", help)?;
    for (policy, sums) in &counted {
        seen(&mut metric, &[("policy", policy.as_str())], sums.denied)?;
    }
    let help = "Requests that the rateLimit section of a policy refused";
    let mut metric = counter(encoder, "hale_rate_limited_requests", help)?;
    for (policy, sums) in &counted {
        seen(&mut metric, &[("policy", policy.as_str())], sums.limited)?;
    }
    Ok(())
}

/// What is counted at the edge, whatever the upstream.
fn edge(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let help = "Answers that the proxy gave by itself, by reason";
    let mut metric = counter(encoder, "hale_rejects", help)?;
    for (reason, count) in Reason::ALL.iter().zip(&metrics.rejects) {
        let labels = [("reason", reason.as_str())];
        add(&mut metric, &labels, count.load(Ordering::Relaxed))?;
    }
    let mut metric = gauge(encoder, "hale_connections", "Connections that are open")?;
    for (listener, open) in Listener::ALL.iter().zip(&metrics.open) {
        metric
            .encode_family(&[("listener", listener.as_str())])?
            .encode_gauge(&open.load(Ordering::Relaxed))?;
    }
    let mut metric = counter(encoder, "hale_connections_accepted", "Connections accepted")?;
    for (listener, accepted) in Listener::ALL.iter().zip(&metrics.accepted) {
        let labels = [("listener", listener.as_str())];
        add(&mut metric, &labels, accepted.load(Ordering::Relaxed))?;
    }
    for (name, help, count) in [
        (
            "hale_connections_refused",
            "Connections closed at once because there were too many",
            &metrics.refused,
        ),
        (
            "hale_tls_handshake_failures",
            "TLS handshakes with clients that failed",
            &metrics.tls_failures,
        ),
        (
            "hale_access_log_dropped",
            "Lines of the access log that were lost because its writer was behind",
            &*metrics.log_dropped,
        ),
    ] {
        let count = count.load(Ordering::Relaxed);
        counter(encoder, name, help)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
    }
    Ok(())
}

fn peers(encoder: &mut DescriptorEncoder<'_>, report: &Report) -> fmt::Result {
    let help = "Peers by standing and by the reason for not being in the best one";
    let mut metric = gauge(encoder, "hale_peers", help)?;
    for upstream in &report.upstreams {
        let id = upstream.id.to_string();
        let mut counts: BTreeMap<(Standing, Option<Reason>), u64> = BTreeMap::new();
        for peer in &upstream.peers {
            *counts.entry((peer.standing, peer.reason)).or_default() += 1;
        }
        for ((standing, reason), count) in counts {
            let labels = [
                ("upstream", id.as_str()),
                ("standing", standing_label(standing)),
                ("reason", reason.map_or("", Reason::as_str)),
            ];
            metric.encode_family(&labels)?.encode_gauge(&count)?;
        }
    }
    let help = "Whether failing verdicts are ignored, because too few peers were left";
    let mut metric = gauge(encoder, "hale_upstream_panic", help)?;
    for upstream in &report.upstreams {
        metric
            .encode_family(&[("upstream", upstream.id.to_string().as_str())])?
            .encode_gauge(&u64::from(upstream.panic))?;
    }
    let help = "Requests that peers are answering";
    let mut metric = gauge(encoder, "hale_upstream_in_flight", help)?;
    for upstream in &report.upstreams {
        let in_flight: u64 = upstream
            .peers
            .iter()
            .map(|peer| u64::from(peer.in_flight))
            .sum();
        metric
            .encode_family(&[("upstream", upstream.id.to_string().as_str())])?
            .encode_gauge(&in_flight)?;
    }
    Ok(())
}

fn table(encoder: &mut DescriptorEncoder<'_>, report: &Report) -> fmt::Result {
    let help = "Counts the tables published";
    gauge(encoder, "hale_table_generation", help)?.encode_gauge(&report.generation)?;
    let Some(published) = report.published else {
        return Ok(());
    };
    let age = Timestamp::now().duration_since(published).as_secs_f64();
    encoder
        .encode_descriptor(
            "hale_table_age",
            "Time since the table was published",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?
        .encode_gauge(&age.max(0.0))?;
    let help = "The table that is served: replicas that serve the same have the same fingerprint";
    encoder
        .encode_descriptor("hale_table", help, None, MetricType::Info)?
        .encode_info(&[("fingerprint", report.fingerprint.as_str())])
}

const fn standing_label(standing: Standing) -> &'static str {
    match standing {
        Standing::Exclude => "Exclude",
        Standing::Draining => "Draining",
        Standing::Unproven => "Unproven",
        Standing::Serve => "Serve",
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn counter<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

fn gauge<'e>(
    encoder: &'e mut DescriptorEncoder<'_>,
    name: &'e str,
    help: &str,
) -> Result<MetricEncoder<'e>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}

fn add(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, count: u64) -> fmt::Result {
    metric
        .encode_family(labels)?
        .encode_counter::<NoLabelSet, _, f64>(&count, None)
}

/// A series that appears with its first count.
fn seen(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, count: u64) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    add(metric, labels, count)
}
