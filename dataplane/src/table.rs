//! A [`Config`] compiled: what a request reads, immutable but for the peers' vitals.
//!
//! A request loads the table once and keeps it; the next table is built beside it and swapped in.
//! What did not change is shared, and vitals go from table to table with their peer, so a change of
//! one Ingress neither forgets what was learnt of a peer nor disturbs a connection.
//!
//! **Invariant:** the eligible set of an upstream is computed when a verdict or the config changes,
//! never when a request arrives; a pick only reads it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use jiff::Timestamp;

use crate::{
    auth::jwt::Endpoint,
    config::{self, Config, ObjectRef, UpstreamId},
    health::{OutlierTarget, ProbeTarget},
    metrics::Metrics,
    route::Router,
    tls::CertificateStore,
};

mod guards;
mod lookup;
mod peer;
mod route;
mod upstream;

use guards::Guards;
pub(crate) use lookup::LookupError;
pub(crate) use peer::{Concern, Peer, PeerState};
use route::compile_route;
pub(crate) use route::{CompiledRoute, Target};
pub(crate) use upstream::Upstream;

/// A compiled config.
pub(crate) struct PeerTable {
    /// Counts published tables; 0 is the empty one before the first.
    pub(crate) generation: u64,
    /// Digest of the config.
    pub(crate) fingerprint: String,
    /// When it was published.
    pub(crate) published: Option<Timestamp>,
    /// What it was compiled from.
    pub(crate) config: Config,
    /// Finds virtual host and route.
    pub(crate) router: Router,
    /// Certificates by server name.
    pub(crate) certificates: CertificateStore,
    /// Parallel to `config.hosts[..].routes[..]`.
    routes: Vec<Vec<CompiledRoute>>,
    /// `config.default_route`, compiled.
    default_route: Option<CompiledRoute>,
    guards: Guards,
    /// Sorted by id.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
}

impl PeerTable {
    /// The table before the first config: it routes nothing.
    pub(crate) fn empty() -> Self {
        let config = Config::default();
        Self {
            generation: 0,
            fingerprint: String::new(),
            published: None,
            router: Router::new(&config.hosts),
            certificates: CertificateStore::new(&config),
            routes: Vec::new(),
            default_route: None,
            guards: Guards::default(),
            upstreams: Vec::new(),
            config,
        }
    }

    /// The table that follows this one: new facts, old vitals, unchanged upstreams shared.
    pub(crate) fn next(&self, config: Config, metrics: &Metrics) -> Self {
        let old: HashMap<&UpstreamId, &Arc<Upstream>> = self
            .upstreams
            .iter()
            .map(|upstream| (&upstream.config.id, upstream))
            .collect();
        let upstreams: Vec<Arc<Upstream>> = config
            .upstreams
            .iter()
            .map(|new| match old.get(&new.id) {
                Some(old) if old.config == *new => Arc::clone(old),
                old => Arc::new(Upstream::compile(new, old.map(|old| &***old), metrics)),
            })
            .collect();
        let by_id: HashMap<&UpstreamId, &Arc<Upstream>> = upstreams
            .iter()
            .map(|upstream| (&upstream.config.id, upstream))
            .collect();
        let guards = Guards::compile(&config, &self.guards);
        let routes = config
            .hosts
            .iter()
            .map(|host| {
                host.routes
                    .iter()
                    .map(|route| compile_route(route, &by_id, &guards, metrics))
                    .collect()
            })
            .collect();
        Self {
            generation: self.generation + 1,
            fingerprint: fingerprint(&config),
            published: Some(Timestamp::now()),
            router: Router::new(&config.hosts),
            certificates: CertificateStore::new(&config),
            routes,
            default_route: config
                .default_route
                .as_ref()
                .map(|route| compile_route(route, &by_id, &guards, metrics)),
            guards,
            upstreams,
            config,
        }
    }

    /// Where keys of tokens are fetched.
    pub(crate) fn key_endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.guards.key_endpoints()
    }

    /// The route at an index that the router gave.
    pub(crate) fn route(&self, host: usize, route: usize) -> Option<&CompiledRoute> {
        self.routes.get(host)?.get(route)
    }

    /// What answers when no route takes a request.
    pub(crate) fn default_route(&self) -> Option<&CompiledRoute> {
        self.default_route.as_ref()
    }

    /// Every route, the default one last, with what it was compiled from.
    pub(crate) fn all_routes(&self) -> impl Iterator<Item = (&config::Route, &CompiledRoute)> {
        let hosts = self.config.hosts.iter().zip(&self.routes);
        hosts
            .flat_map(|(host, compiled)| host.routes.iter().zip(compiled))
            .chain(self.config.default_route.iter().zip(&self.default_route))
    }

    /// The policies whose decisions are counted.
    pub(crate) fn counted_policies(&self) -> HashSet<&ObjectRef> {
        self.all_routes()
            .flat_map(|(_, route)| {
                let limit = route.policy.rate_limit.as_ref();
                [
                    route.policy.auth.source(),
                    route.policy.access.source(),
                    limit.map(|limit| &limit.source),
                ]
            })
            .flatten()
            .collect()
    }

    /// Marks the peers that `next` no longer has: their idle connections are not kept.
    pub(crate) fn retire_missing(&self, next: &Self) {
        let kept: HashSet<u64> = next
            .upstreams
            .iter()
            .flat_map(|upstream| upstream.peers.iter().map(|peer| peer.state.id))
            .collect();
        for peer in self.upstreams.iter().flat_map(|upstream| &upstream.peers) {
            if !kept.contains(&peer.state.id) {
                peer.state.poolable.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Everything that the prober must look at.
    pub(crate) fn probe_targets(&self) -> Vec<ProbeTarget> {
        self.upstreams
            .iter()
            .flat_map(|upstream| upstream.probe_targets())
            .collect()
    }

    /// Every peer whose requests are judged.
    pub(crate) fn outlier_targets(&self) -> Vec<OutlierTarget> {
        self.upstreams
            .iter()
            .filter(|upstream| upstream.config.health.passive.is_some())
            .flat_map(|upstream| {
                let health = Arc::new(upstream.config.health.clone());
                upstream.peers.iter().map(move |peer| OutlierTarget {
                    key: upstream.key(peer),
                    vitals: Arc::clone(&peer.state.vitals),
                    readiness: peer.config.readiness,
                    health: match &peer.health {
                        Some(own) => Arc::new((**own).clone()),
                        None => Arc::clone(&health),
                    },
                    counters: Arc::clone(upstream.metrics.ejections()),
                })
            })
            .collect()
    }
}

/// The SHA-256 of the config as JSON, in hex, shortened to 16 digits.
fn fingerprint(config: &Config) -> String {
    struct Hasher(::aws_lc_rs::digest::Context);
    impl std::io::Write for Hasher {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = Hasher(::aws_lc_rs::digest::Context::new(
        &::aws_lc_rs::digest::SHA256,
    ));
    // Plain data into a hash: neither side can fail.
    let _ = serde_json::to_writer(std::io::BufWriter::new(&mut hasher), config);
    hasher
        .0
        .finish()
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
