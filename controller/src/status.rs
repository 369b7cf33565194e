//! What the leader writes back: conditions and peers on policies, addresses on Ingresses, and Events.
//!
//! What is to be written is computed from a snapshot, the dataplane's report and the time, and written where it
//! differs from what is there: at most once in five seconds for an object, the first time at once. Nothing is written
//! for a probe that repeats its result, and traffic never waits for any of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use hale_crds::{UpstreamPolicy, UpstreamPolicyStatus};
use hale_dataplane::{Dataplane, report::Report};
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressLoadBalancerIngress};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use crate::{
    api_error::explain,
    cluster::key,
    events::{Events, Teller},
    metrics::{Metrics, ResultLabel},
    publish::{Newest, Published},
    settings::{ObjectKey, Settings},
    translate::IngressOutcome,
    watch::Watches,
};

mod addresses;
mod pace;
mod policy;

pub use policy::{Disagreements, Share, Shares, Upstreams, policy_status};
pub(crate) use policy::{shortened, without_count};

use pace::Pace;

/// How the field managers of all Hales begin.
pub(crate) const MANAGER: &str = "hale";
/// The longest name of a field manager that the API server takes.
const MANAGER_LENGTH: usize = 128;
/// Changes within this time are one change.
const GATHER: Duration = Duration::from_millis(100);
/// How often to look without a change: a disagreement of probe and readiness becomes one by lasting.
const LOOK: Duration = Duration::from_secs(5);
/// After this time the store has seen our own write, and is believed again.
const ECHO: Duration = Duration::from_secs(10);
/// For one write.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Writes at a time.
const AT_ONCE: usize = 8;

/// Everything that writing needs.
pub struct Writer {
    /// The API server.
    pub client: Client,
    /// Who this replica is.
    pub identity: String,
    /// The stores, for the statuses that are there.
    pub watches: Arc<Watches>,
    /// The snapshots.
    pub newest: Newest,
    /// The proxy.
    pub dataplane: Dataplane,
    /// Whether this replica leads.
    pub leads: watch::Receiver<bool>,
    /// `--publish-status-address`.
    pub addresses: Vec<String>,
    /// The controller's metrics.
    pub metrics: Metrics,
}

/// The field manager: whose the written fields are. Hales of different controller classes may share a cluster, and none
/// takes back what another wrote.
fn manager(settings: &Settings) -> String {
    let class = &settings.controller_class;
    if class == hale_crds::CONTROLLER_NAME {
        return MANAGER.to_owned();
    }
    let name = format!("{MANAGER}:{class}");
    name.chars().take(MANAGER_LENGTH).collect()
}

/// A leadership that nobody else wants.
pub fn always_leads() -> watch::Receiver<bool> {
    // A receiver keeps its last value when its sender is gone.
    watch::channel(true).1
}

/// Writes for as long as the process lives, whenever this replica leads.
pub async fn write(mut writer: Writer) {
    let mut changes = writer.dataplane.changes();
    let mut wake = Instant::now();
    let mut term = None;
    loop {
        tokio::select! {
            () = closed_is_never(writer.newest.changed()) => {}
            () = closed_is_never(changes.changed()) => {}
            () = closed_is_never(writer.leads.changed()) => {}
            () = tokio::time::sleep_until(wake) => {}
        }
        tokio::time::sleep(GATHER).await;
        changes.mark_unchanged();
        let leads = *writer.leads.borrow_and_update();
        writer.metrics.leader.set(i64::from(leads));
        let newest = writer.newest.borrow_and_update().clone();
        wake = Instant::now() + LOOK;
        let Some(published) = newest else { continue };
        if !leads {
            term = None;
            continue;
        }
        let term = term.get_or_insert_with(|| Term::new(&writer));
        let report = writer.dataplane.report();
        term.events.tell(&published, &report, Instant::now());
        wake = wake.min(term.write(&writer, &published, &report).await);
    }
}

/// Waits for a change; of a channel without sender there is none.
async fn closed_is_never<E>(change: impl Future<Output = Result<(), E>>) {
    if change.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What is remembered while this replica leads.
struct Term {
    events: Events,
    pace: Pace<Target>,
    written: HashMap<ObjectKey, (UpstreamPolicyStatus, Instant)>,
    shares: Shares,
    disagreements: Disagreements,
}

/// An object whose status is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Target {
    Policy(ObjectKey),
    Ingress(ObjectKey),
}

/// One write.
enum Write {
    /// With the version of the policy that it was made for.
    Policy(ObjectKey, Box<Share>, Option<String>),
    Ingress(ObjectKey, Vec<IngressLoadBalancerIngress>),
    /// Takes back what we wrote on an Ingress that is ours no longer, and nothing else.
    Release(ObjectKey),
}

impl Write {
    fn target(&self) -> Target {
        match self {
            Self::Policy(key, ..) => Target::Policy(key.clone()),
            Self::Ingress(key, _) | Self::Release(key) => Target::Ingress(key.clone()),
        }
    }
}

impl Term {
    fn new(writer: &Writer) -> Self {
        let teller = Teller::start(
            writer.client.clone(),
            writer.identity.clone(),
            &writer.metrics,
        );
        Self {
            events: Events::new(teller),
            pace: Pace::default(),
            written: HashMap::new(),
            shares: Shares::default(),
            disagreements: Disagreements::default(),
        }
    }

    /// Writes what differs. Returns when to look again at the latest.
    async fn write(&mut self, writer: &Writer, published: &Published, report: &Report) -> Instant {
        let mut writes = self.policies(writer, published, report);
        writes.extend(ingresses(writer, published));
        writes.extend(released(&writer.watches.ingresses.all(), published));
        let now = Instant::now();
        self.pace.forget_before(now);
        let mut again = now + LOOK;
        writes.retain(|write| match self.pace.due(&write.target(), now) {
            Some(due) => {
                again = again.min(due);
                false
            }
            None => true,
        });
        for write in &writes {
            self.pace.wrote(write.target(), now);
        }
        let manager = manager(&published.settings);
        let mut results = futures::stream::iter(writes)
            .map(|write| apply(&writer.client, &manager, write))
            .buffer_unordered(AT_ONCE);
        while let Some((write, outcome)) = results.next().await {
            let result = match outcome {
                Ok(()) => {
                    if let Write::Policy(key, share, _) = write {
                        let status = share.status.clone();
                        self.written.insert(key.clone(), (status, Instant::now()));
                        self.shares.wrote(key, *share);
                    }
                    "ok"
                }
                // Somebody else wrote since it was read: what there is to write is to be thought over.
                Err(WriteError::Api(kube::Error::Api(status))) if status.code == 409 => "conflict",
                // The object is gone, and with it the need to write.
                Err(WriteError::Api(kube::Error::Api(status))) if status.code == 404 => "gone",
                Err(error) => {
                    tracing::warn!(object = ?write.target(), %error, "cannot write a status; trying again");
                    "error"
                }
            };
            let label = ResultLabel { result };
            writer.metrics.status_writes.get_or_create(&label).inc();
        }
        again
    }

    fn policies(&mut self, writer: &Writer, published: &Published, report: &Report) -> Vec<Write> {
        self.written.retain(|_, (_, at)| at.elapsed() < ECHO);
        let upstreams = Upstreams::new(report);
        let now = Timestamp::now();
        self.disagreements.observe(report, now);
        let controller = &published.settings.controller_class;
        self.shares
            .retain(|key| writer.watches.policies.get(key).is_some());
        let mut writes = Vec::new();
        for outcome in &published.translation.policies {
            let key = ObjectKey::new(&outcome.namespace, &outcome.name);
            let Some(policy) = writer.watches.policies.get(&key) else {
                continue;
            };
            let stored = policy.status.as_ref();
            let written = self.written.get(&key).map(|(status, _)| status);
            let there = written.or(stored);
            let (disagreements, shares) = (&self.disagreements, &mut self.shares);
            let mine = policy_status(outcome, &upstreams, disagreements, there, controller, now);
            // What others have in it is read from the store, which hears of them.
            let Some(share) = shares.share(&key, mine, stored, controller) else {
                continue;
            };
            if stored == Some(&share.status) {
                shares.wrote(key, share);
            } else if written != Some(&share.status) {
                let version = policy.metadata.resource_version.clone();
                writes.push(Write::Policy(key, Box::new(share), version));
            }
        }
        writes
    }
}

/// Ingresses that are ours and have another address than they should.
fn ingresses(writer: &Writer, published: &Published) -> Vec<Write> {
    let service = writer.watches.publish_service.as_ref();
    let service = service.and_then(|store| store.all().into_iter().next());
    let Some(wanted) = addresses::wanted(&writer.addresses, service.as_deref()) else {
        return Vec::new();
    };
    let mut writes = Vec::new();
    for outcome in &published.translation.ingresses {
        let key = ObjectKey::new(&outcome.namespace, &outcome.name);
        let Some(ingress) = writer.watches.ingresses.get(&key) else {
            continue;
        };
        if addresses::written(&ingress) != wanted {
            writes.push(Write::Ingress(key, wanted.clone()));
        }
    }
    writes
}

/// Ingresses that carry a status of ours, and belong to somebody else by now.
fn released(ingresses: &[Arc<Ingress>], published: &Published) -> Vec<Write> {
    let watched = published.settings.watch_namespace.as_deref();
    let manager = manager(&published.settings);
    let outcomes = &published.translation.ingresses;
    let wrote = |ingress: &&Arc<Ingress>| {
        let mut managers = ingress.metadata.managed_fields.iter().flatten();
        managers.any(|entry| entry.manager.as_ref() == Some(&manager))
    };
    let is_ours = |key: &ObjectKey| {
        let find =
            |it: &IngressOutcome| (&*it.namespace, &*it.name).cmp(&(&*key.namespace, &*key.name));
        outcomes.binary_search_by(find).is_ok()
    };
    // The store may be ahead of the snapshot: an Ingress that is new to it is nobody's yet.
    let known: BTreeSet<ObjectKey> = published
        .cluster
        .ingresses()
        .iter()
        .map(|ingress| key(&ingress.metadata))
        .collect();
    ingresses
        .iter()
        .filter(wrote)
        .map(|ingress| key(&ingress.metadata))
        .filter(|key| watched.is_none_or(|watched| key.namespace == watched))
        .filter(|key| known.contains(key) && !is_ours(key))
        .map(Write::Release)
        .collect()
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("{}", explain(.0))]
    Api(#[from] kube::Error),
    #[error("the API server did not answer within {TIMEOUT:?}")]
    Timeout,
}

async fn apply(client: &Client, manager: &str, write: Write) -> (Write, Result<(), WriteError>) {
    let params = PatchParams::apply(manager).force();
    let patch = async {
        match &write {
            Write::Policy(key, share, version) => {
                let api = Api::<UpstreamPolicy>::namespaced(client.clone(), &key.namespace);
                // Without a version, nothing is said of it: null is no version.
                let version = version.iter().map(|it| ("resourceVersion", it));
                let metadata: HashMap<_, _> = version.collect();
                let patch = Patch::Apply(json!({
                    "apiVersion": "hale-ingress.io/v1alpha1",
                    "kind": "UpstreamPolicy",
                    "metadata": metadata,
                    "status": share.status,
                }));
                api.patch_status(&key.name, &params, &patch).await?;
            }
            Write::Ingress(key, addresses) => {
                let api = Api::<Ingress>::namespaced(client.clone(), &key.namespace);
                let patch = Patch::Apply(json!({
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "Ingress",
                    "status": {"loadBalancer": {"ingress": addresses}},
                }));
                api.patch_status(&key.name, &params, &patch).await?;
            }
            Write::Release(key) => {
                let api = Api::<Ingress>::namespaced(client.clone(), &key.namespace);
                // What a manager applied before and applies no longer is removed, unless it is another's, too.
                let patch = Patch::Apply(json!({
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "Ingress",
                }));
                api.patch_status(&key.name, &params, &patch).await?;
            }
        }
        Ok(())
    };
    let outcome = match tokio::time::timeout(TIMEOUT, patch).await {
        Ok(outcome) => outcome,
        Err(_) => Err(WriteError::Timeout),
    };
    (write, outcome)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{
        cluster::{Cluster, Objects},
        translate::translate,
        watch::Watched,
    };

    use super::*;

    fn ingress(name: &str, class: &str, managers: &[(&str, &str)]) -> Arc<Ingress> {
        let managed: Vec<_> = managers
            .iter()
            .map(|(manager, subresource)| {
                json!({"manager": manager, "operation": "Apply", "subresource": subresource, "fieldsV1": {}})
            })
            .collect();
        let value = json!({
            "metadata": {"namespace": "shop", "name": name, "managedFields": managed},
            "spec": {"ingressClassName": class},
        });
        let mut ingress: Ingress = serde_json::from_value(value).unwrap();
        ingress.trim();
        Arc::new(ingress)
    }

    #[test]
    fn what_we_wrote_is_taken_back_from_an_ingress_that_left() {
        let ingresses = vec![
            ingress("left", "nginx", &[("nginx", "status"), (MANAGER, "status")]),
            ingress("ours", "hale", &[(MANAGER, "status")]),
            ingress("theirs", "nginx", &[("nginx", "status")]),
            ingress("made", "nginx", &[(MANAGER, "")]),
            // Of another Hale in the same cluster.
            ingress("other", "edge", &[("hale:edge.example/hale", "status")]),
        ];
        let cluster = Cluster::new(Objects {
            ingresses: ingresses.clone(),
            ..Objects::default()
        });
        let settings = Settings::default();
        let published = Published {
            sequence: 1,
            translation: translate(&cluster, &settings),
            cluster,
            settings,
            read_findings: Vec::new(),
        };
        let mut writes = released(&ingresses, &published).into_iter();
        let released = writes.next().map(|write| write.target());
        assert_eq!(
            released,
            Some(Target::Ingress(ObjectKey::new("shop", "left")))
        );
        assert!(writes.next().is_none());
        let newer = ingress("newer", "nginx", &[(MANAGER, "status")]);
        assert!(super::released(&[newer], &published).is_empty());
    }
}
