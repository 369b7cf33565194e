//! A [`Config`] compiled: what a request reads, immutable but for the peers' vitals.
//!
//! A request loads the table once and keeps it; the next table is built beside it and swapped in.
//! What did not change is shared, and vitals go from table to table with their peer, so a change of
//! one Ingress neither forgets what was learnt of a peer nor disturbs a connection.
//!
//! **Invariant:** the eligible set of an upstream is computed when a verdict or the config changes,
//! never when a request arrives; a pick only reads it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use crate::{
    balance::{self, Candidates, Eligible, Picker, Ring, Since},
    config::{self, Action, Config, Problem, RequestPolicy, UpstreamId},
    health::{self, ProbeKey, ProbeTarget, Standing, Vitals},
    metrics::{Metrics, UpstreamMetrics},
    retry::Budget,
    route::Router,
    session,
    tls::{self, CertificateStore},
};

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
    /// Sorted by id.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
}

/// A route as a request needs it.
pub(crate) struct CompiledRoute {
    pub(crate) target: Target,
    pub(crate) policy: RequestPolicy,
}

/// Where a route leads.
pub(crate) enum Target {
    Forward(Arc<Upstream>),
    Reject(Problem),
}

/// An upstream as a request needs it.
pub(crate) struct Upstream {
    /// What it was compiled from.
    pub(crate) config: config::Upstream,
    pub(crate) peers: Vec<Peer>,
    /// TLS to the peers.
    pub(crate) tls: Option<tls::ClientTls>,
    /// Changes when connections made before must not be used: other protocol, other TLS.
    pub(crate) transport: u64,
    pub(crate) picker: Picker,
    pub(crate) budget: Budget,
    pub(crate) metrics: Arc<UpstreamMetrics>,
    eligible: ArcSwap<Candidates>,
    /// The points of all peers, where requests are hashed.
    ring: Option<Ring>,
    /// Peers by what names them in cookies, sorted; empty where there are no sessions.
    by_key: Vec<(u64, u32)>,
    /// Orders refreshes: the last one to read verdicts is the last one to store.
    refresh: Mutex<()>,
}

/// A peer as a request needs it.
pub(crate) struct Peer {
    pub(crate) config: config::Peer,
    pub(crate) state: Arc<PeerState>,
}

/// What outlives a table: one for each peer identity.
pub(crate) struct PeerState {
    /// Names the peer in connection pools; never used again after the peer is gone.
    pub(crate) id: u64,
    /// Names the peer in cookies and on the hash ring, to every replica alike.
    pub(crate) key: u64,
    pub(crate) vitals: Arc<Vitals>,
    /// Whether idle connections to it may be kept.
    poolable: AtomicBool,
    /// Since when it gets requests; nobody but refreshes looks at it.
    since: Mutex<Since>,
}

impl PeerState {
    /// Whether idle connections to it may be kept.
    pub(crate) fn poolable(&self) -> bool {
        self.poolable.load(Ordering::Relaxed)
    }

    fn since(&self) -> Since {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer that is out begins anew when it comes back, and one that was out begins now.
    fn settle(&self, excluded: bool, picked: bool, begins: Since) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if excluded {
            *since = Since::Fresh;
        } else if picked && *since == Since::Fresh {
            *since = begins;
        }
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl Upstream {
    /// The peers that may be picked now.
    pub(crate) fn eligible(&self) -> arc_swap::Guard<Arc<Candidates>> {
        self.eligible.load()
    }

    /// The number of the peer that a cookie names.
    pub(crate) fn peer_of(&self, key: u64) -> Option<u32> {
        let found = self.by_key.binary_search_by_key(&key, |(key, _)| *key);
        Some(self.by_key.get(found.ok()?)?.1)
    }

    /// Notes since when peers get requests.
    fn settle(&self, eligible: &Eligible, begins: Since) {
        for (number, peer) in (0_u32..).zip(&self.peers) {
            let excluded = self.standing(peer) == Standing::Exclude;
            let picked = eligible.peers.binary_search(&number).is_ok();
            peer.state.settle(excluded, picked, begins);
        }
    }

    /// Reads all verdicts again. Returns whether the eligible set changed.
    pub(crate) fn refresh(&self) -> bool {
        let _order = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        let next = eligible(&self.config.health, &self.peers);
        let now = tokio::time::Instant::now();
        self.settle(&next, Since::At(now));
        let since = |number: u32| {
            let peer = self.peers.get(number as usize);
            peer.map_or(Since::Always, |peer| peer.state.since())
        };
        let warming = Candidates::warming(&next, self.config.slow_start, since, now);
        let current = self.eligible.load();
        let changed = ***current != next;
        let mut keep = vec![false; self.peers.len()];
        for &index in &next.peers {
            if let Some(keep) = keep.get_mut(index as usize) {
                *keep = next.class != Standing::Draining;
            }
        }
        for (peer, keep) in self.peers.iter().zip(keep) {
            peer.state.poolable.store(keep, Ordering::Relaxed);
        }
        if changed || !current.warms(warming.as_ref()) {
            let next = Candidates::new(next, self.ring.as_ref(), warming);
            self.eligible.store(Arc::new(next));
        }
        changed
    }

    /// The standing of one of its peers.
    pub(crate) fn standing(&self, peer: &Peer) -> Standing {
        let vitals = &peer.state.vitals;
        health::standing(
            &self.config.health,
            peer.config.readiness,
            vitals.probe(),
            vitals.outlier(),
        )
    }
}

fn eligible(policy: &config::HealthPolicy, peers: &[Peer]) -> Eligible {
    balance::eligible(
        policy,
        peers.iter().map(|peer| {
            let vitals = &peer.state.vitals;
            (peer.config.readiness, vitals.probe(), vitals.outlier())
        }),
    )
}

/// The hash ring, and the peers in the order of their keys; each only where it is wanted.
fn by_key(config: &config::Upstream, peers: &[Peer]) -> (Option<Ring>, Vec<(u64, u32)>) {
    let keys = || peers.iter().map(|peer| peer.state.key);
    let hashes = matches!(config.balance, config::Balance::ConsistentHash(_));
    let mut sorted: Vec<(u64, u32)> = match config.session {
        Some(_) => keys().zip(0..).collect(),
        None => Vec::new(),
    };
    sorted.sort_unstable();
    (hashes.then(|| Ring::new(keys())), sorted)
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
        let routes = config
            .hosts
            .iter()
            .map(|host| {
                host.routes
                    .iter()
                    .map(|route| compile_route(route, &by_id))
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
                .map(|route| compile_route(route, &by_id)),
            upstreams,
            config,
        }
    }

    /// The route at an index that the router gave.
    pub(crate) fn route(&self, host: usize, route: usize) -> Option<&CompiledRoute> {
        self.routes.get(host)?.get(route)
    }

    /// What answers when no route takes a request.
    pub(crate) fn default_route(&self) -> Option<&CompiledRoute> {
        self.default_route.as_ref()
    }

    /// Marks the peers that `next` no longer has: their idle connections are not kept.
    pub(crate) fn retire_missing(&self, next: &Self) {
        let kept: std::collections::HashSet<u64> = next
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
}

impl Upstream {
    fn compile(new: &config::Upstream, old: Option<&Self>, metrics: &Metrics) -> Self {
        let states: HashMap<(SocketAddr, &str), &Arc<PeerState>> = old
            .iter()
            .flat_map(|old| &old.peers)
            .map(|peer| ((peer.config.address, peer.config.uid.as_str()), &peer.state))
            .collect();
        // A verdict of another check is not a verdict of this one.
        let same_check = old.is_none_or(|old| old.config.health.active == new.health.active);
        let peers: Vec<Peer> = new
            .peers
            .iter()
            .map(|peer| {
                let known = states.get(&(peer.address, peer.uid.as_str())).copied();
                let state = known.map_or_else(
                    || {
                        Arc::new(PeerState {
                            id: next_id(),
                            key: session::peer_key(&new.id, peer.address, &peer.uid),
                            vitals: Arc::new(Vitals::new(
                                peer.readiness,
                                tokio::time::Instant::now(),
                            )),
                            poolable: AtomicBool::new(true),
                            since: Mutex::new(Since::Fresh),
                        })
                    },
                    Arc::clone,
                );
                state.vitals.set_readiness(peer.readiness);
                if !same_check && new.health.active.is_none() {
                    state.vitals.forget_checks();
                }
                Peer {
                    config: peer.clone(),
                    state,
                }
            })
            .collect();
        let same_transport =
            |old: &&Self| old.config.protocol == new.protocol && old.config.tls == new.tls;
        let (transport, tls) = match old.filter(same_transport) {
            Some(old) => (old.transport, old.tls.clone()),
            None => (
                next_id(),
                new.tls
                    .as_ref()
                    .map(|tls| tls::ClientTls::new(tls, new.protocol)),
            ),
        };
        let (ring, by_key) = by_key(new, &peers);
        let eligible = eligible(&new.health, &peers);
        let upstream = Self {
            metrics: metrics.upstream(&new.id),
            eligible: ArcSwap::from_pointee(Candidates::new(eligible.clone(), ring.as_ref(), None)),
            ring,
            by_key,
            peers,
            tls,
            transport,
            picker: Picker::new(next_id()),
            budget: Budget::new(),
            refresh: Mutex::new(()),
            config: new.clone(),
        };
        if old.is_none() {
            // They are new to us alone.
            upstream.settle(&eligible, Since::Always);
        }
        upstream
    }

    fn probe_targets(&self) -> impl Iterator<Item = ProbeTarget> {
        let active = self.config.health.active.clone().map(Arc::new);
        self.peers.iter().filter_map(move |peer| {
            let mut address = peer.config.address;
            address.set_port(peer.config.check_port.unwrap_or(address.port()));
            // What terminates is on its way out, and its check tells nothing that matters.
            (peer.config.readiness != config::Readiness::Gone).then_some(())?;
            Some(ProbeTarget {
                key: ProbeKey {
                    upstream: self.config.id.clone(),
                    address: peer.config.address,
                    uid: peer.config.uid.clone(),
                },
                vitals: Arc::clone(&peer.state.vitals),
                check: active.clone()?,
                address,
                protocol: self.config.protocol,
                tls: self.tls.as_ref().map(|tls| Arc::clone(&tls.config)),
                server_name: self.tls.as_ref().map_or_else(
                    || peer.config.address.ip().into(),
                    |tls| tls.server_name(peer.config.address),
                ),
                readiness: peer.config.readiness,
                counters: Arc::clone(self.metrics.probes()),
            })
        })
    }
}

fn compile_route(
    route: &config::Route,
    upstreams: &HashMap<&UpstreamId, &Arc<Upstream>>,
) -> CompiledRoute {
    let target = match &route.action {
        Action::Reject(problem) => Target::Reject(problem.clone()),
        Action::Forward(id) => match upstreams.get(id) {
            Some(upstream) => Target::Forward(Arc::clone(upstream)),
            // The controller lists what it names; if it did not, the route says so and stays closed.
            None => Target::Reject(Problem {
                reason: crate::reason::Reason::ServiceNotFound,
                message: format!("the upstream {id} is not known"),
            }),
        },
    };
    CompiledRoute {
        target,
        policy: route.policy.clone(),
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
