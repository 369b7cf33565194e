//! What the cluster says, kept up to date: one watch for each kind (and for what policies name or select), and a tick
//! when something changed that matters.
//!
//! Lists and watches are kube's; the stores are ours, because they drop what nobody reads before it is kept, and
//! because a change of what was dropped is no change: resource versions, managed fields and statuses would make a
//! busy cluster tick all day.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hale_crds::UpstreamPolicy;
use hale_dataplane::prometheus_client::metrics::gauge::Gauge;
use k8s_openapi::api::{
    core::v1::{Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::{Ingress, IngressClass},
};
use kube::{Api, Client, runtime::watcher};
use tokio::sync::Notify;

use crate::{
    cluster::{Objects, SERVICE_NAME_LABEL, key},
    finding::Finding,
    metrics::{KindLabel, Metrics},
    publish::Newest,
    settings::ObjectKey,
};

mod definition;
mod follow;
mod leaving;
mod named;
pub mod pods;
pub mod probes;
mod replicas;
mod store;
mod trim;

use follow::{Follow, follow};
use leaving::Leaving;
use named::Named;
pub use store::Store;
pub(crate) use trim::Watched;

/// How long a watch lasts, at least; the longest stays below [`SILENCE`].
const WATCH_SECONDS: u32 = 40;
/// A connection to the API server on which nothing came for so long is lost: a healthy one ends its watches
/// before.
pub const SILENCE: Duration = Duration::from_secs(58);

/// How long snapshots wait for what a policy newly refers to.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long the first one does: nobody asks a replica that is not ready, and one that refuses requests only because it
/// has not heard of their Secrets yet should not be.
pub const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// Settles when the connections to the API server are given up.
///
/// A server that vanished without a word is noticed after `silence`: each connection on which nothing was read for so
/// long is closed, and what was asked for on it is asked for again on another.
pub fn with_limits(mut config: kube::Config, silence: Duration) -> kube::Config {
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    config
}

/// A snapshot, and what stood in the way of taking it.
pub struct Snapshot {
    /// What is known.
    pub objects: Objects,
    /// What policies refer to and cannot be read, and kinds that cannot be listed any more, sorted.
    pub findings: Vec<Finding>,
}

/// Every watch of the process.
pub struct Watches {
    /// Ingresses, of every class.
    pub ingresses: Store<Ingress>,
    /// Policies.
    pub policies: Store<UpstreamPolicy>,
    /// The Service of `--publish-service`, with its status.
    pub publish_service: Option<Store<Service>>,
    /// Why Services without endpoints have none.
    empty_services: pods::EmptyServices,
    /// The readinessProbes that policies ask for.
    probes: probes::PodProbes,
    /// Ticks when something changed.
    pub ticks: Arc<Notify>,
    /// Ticks when a pod that is served begins to leave.
    pub urgent: Arc<Notify>,
    ingress_classes: Store<IngressClass>,
    services: Store<Service>,
    endpoint_slices: Store<EndpointSlice>,
    tls_secrets: Store<Secret>,
    named: Named,
    leaving: Leaving,
    /// Ticks when something changed of those.
    leaving_ticks: Arc<Notify>,
    /// The slices of Hale's own Service.
    own_slices: Option<Store<EndpointSlice>>,
}

/// Services that Hale looks at for its own sake.
#[derive(Clone, Copy, Default)]
pub struct OwnServices<'a> {
    /// The one whose address Ingresses get.
    pub published: Option<&'a ObjectKey>,
    /// The one whose endpoints are the replicas of this Hale.
    pub replicas: Option<&'a ObjectKey>,
}

impl Watches {
    /// Starts to list and watch. `namespace` is the only one that is looked at; `None` is all.
    pub fn start(
        client: &Client,
        namespace: Option<&str>,
        own: OwnServices<'_>,
        metrics: &Metrics,
    ) -> Self {
        let ticks = Arc::new(Notify::new());
        let starter = Starter {
            client,
            namespace,
            metrics,
            ticks: &ticks,
        };
        let leaving_ticks = Arc::new(Notify::new());
        let pods = Starter {
            ticks: &leaving_ticks,
            ..starter
        };
        let tls = watcher::Config::default().fields("type=kubernetes.io/tls");
        let publish_service = own.published.map(|key| {
            let one = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
            let api = Api::<Service>::namespaced(client.clone(), &key.namespace);
            starter.start_apart(api, one, trim::publish_service, 6)
        });
        // In a namespace of its own, perhaps: the slices that are watched anyway need not be among them.
        let own_slices = own.replicas.map(|key| {
            let label = format!("{SERVICE_NAME_LABEL}={}", key.name);
            let api = Api::namespaced(client.clone(), &key.namespace);
            let config = watcher::Config::default().labels(&label);
            starter.start_apart(api, config, EndpointSlice::trim, 7)
        });
        Self {
            ingresses: starter.start(watcher::Config::default(), 0),
            ingress_classes: starter.start_with(
                Api::all(client.clone()),
                watcher::Config::default(),
                IngressClass::trim,
                1,
            ),
            services: starter.start(watcher::Config::default(), 2),
            endpoint_slices: starter.start(watcher::Config::default(), 3),
            tls_secrets: starter.start(tls, 4),
            policies: starter.start(watcher::Config::default(), 5),
            publish_service,
            empty_services: pods::EmptyServices::default(),
            probes: probes::PodProbes::default(),
            named: Named::new(client.clone(), metrics.clone(), Arc::clone(&ticks)),
            leaving: pods.start(watcher::Config::default(), 8),
            leaving_ticks,
            own_slices,
            urgent: Arc::default(),
            ticks,
        }
    }

    /// What has not been listed yet, and why; `None` when everything has.
    pub fn missing(&self) -> Option<String> {
        [
            self.ingresses.missing(),
            self.ingress_classes.missing(),
            self.services.missing(),
            self.endpoint_slices.missing(),
            self.tls_secrets.missing(),
            self.policies.missing(),
            self.publish_service.as_ref().and_then(Store::missing),
        ]
        .into_iter()
        .flatten()
        .next()
    }

    /// Kinds whose objects may be out of date.
    fn stale(&self) -> impl Iterator<Item = Finding> {
        [
            self.ingresses.finding(),
            self.ingress_classes.finding(),
            self.services.finding(),
            self.endpoint_slices.finding(),
            self.tls_secrets.finding(),
            self.policies.finding(),
        ]
        .into_iter()
        .flatten()
    }

    /// Looks at pods where snapshots want to know more of them than endpoints tell.
    pub fn look_at_pods(&self, client: &Client, newest: &Newest) {
        let (empty, probes) = (self.empty_services.clone(), self.probes.clone());
        let ticks = || Arc::clone(&self.ticks);
        tokio::spawn(empty.look(client.clone(), newest.clone(), ticks()));
        tokio::spawn(probes.look(client.clone(), newest.clone(), ticks()));
        let leaving = (self.leaving.clone(), Arc::clone(&self.leaving_ticks));
        tokio::spawn(leaving::tell(
            leaving,
            newest.clone(),
            Arc::clone(&self.urgent),
        ));
    }

    /// A snapshot. What policies refer to is followed from the first snapshot on that holds such a policy; its first
    /// listing is waited for (with `patience`, which is bounded), so that a new policy is not refused for want of it.
    /// What was not listed by then is not in the snapshot, and whoever needs it is refused.
    pub async fn snapshot(&self, patience: Duration) -> Snapshot {
        let policies = self.policies.all();
        self.named.follow(&policies);
        self.named.listed(patience).await;
        let (named, config_maps) = self.named.all();
        // A Secret may be found by its type, its name and its labels. What was asked for by a policy has more in it.
        let found = self.tls_secrets.all().into_iter().chain(named);
        let secrets: BTreeMap<_, _> = found
            .map(|secret| (key(&secret.metadata), secret))
            .collect();
        let mut findings = self.named.findings(&policies);
        findings.extend(self.stale());
        findings.sort();
        let slices = self.own_slices.as_ref().map(Store::all).unwrap_or_default();
        let objects = Objects {
            ingresses: self.ingresses.all(),
            ingress_classes: self.ingress_classes.all(),
            services: self.services.all(),
            endpoint_slices: self.endpoint_slices.all(),
            secrets: secrets.into_values().collect(),
            config_maps,
            policies,
            empty_services: self.empty_services.causes(),
            pods: self.probes.pods(),
            unread_pods: self.probes.unread(),
            leaving_pods: leaving::uids(&self.leaving).collect(),
            replicas: replicas::ready(&slices),
        };
        Snapshot { objects, findings }
    }
}

/// What the start of each watch needs.
#[derive(Clone, Copy)]
struct Starter<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    metrics: &'a Metrics,
    ticks: &'a Arc<Notify>,
}

impl Starter<'_> {
    /// Watches a kind in the namespaces that are looked at.
    fn start<K>(&self, config: watcher::Config, index: u32) -> Store<K>
    where
        K: Watched + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let api = match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        self.start_with(api, config, K::trim, index)
    }

    fn start_with<K: Watched>(
        &self,
        api: Api<K>,
        config: watcher::Config,
        trim: fn(&mut K),
        index: u32,
    ) -> Store<K> {
        let label = KindLabel { kind: K::KIND };
        let watching = self.metrics.watching.get_or_create_owned(&label);
        let objects = self.metrics.objects.get_or_create_owned(&label);
        self.follow(api, config, trim, index, (watching, objects))
    }

    /// Watches some objects of a kind that is watched as a whole, too: their state is not what its metrics tell.
    fn start_apart<K: Watched>(
        &self,
        api: Api<K>,
        config: watcher::Config,
        trim: fn(&mut K),
        index: u32,
    ) -> Store<K> {
        self.follow(api, config, trim, index, Default::default())
    }

    fn follow<K: Watched>(
        &self,
        api: Api<K>,
        config: watcher::Config,
        trim: fn(&mut K),
        index: u32,
        (watching, objects): (Gauge, Gauge),
    ) -> Store<K> {
        let store = Store::new(K::KIND);
        let label = KindLabel { kind: K::KIND };
        tokio::spawn(follow(Follow {
            api,
            // Kinds take turns at starting their watches anew.
            config: config.timeout(WATCH_SECONDS + 2 * index),
            trim,
            store: store.clone(),
            ticks: Arc::clone(self.ticks),
            watching,
            objects,
            errors: self.metrics.watch_errors.get_or_create_owned(&label),
        }));
        store
    }
}

#[cfg(test)]
mod tests;
