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
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    admission::Gate,
    auth::{Protection, jwt::Endpoint},
    balance::{self, Candidates, Eligible, Picker, Ring, Since},
    config::{
        self, Action, Auth, AuthMethod, Config, ExternalService, ObjectRef, Problem, RequestPolicy,
        UpstreamId,
    },
    cors::Cors,
    health::{self, OutlierTarget, ProbeKey, ProbeTarget, Standing, Verdict, Vitals},
    metrics::{Metrics, PolicyMetrics, UpstreamMetrics},
    rate_limit::Limiter,
    retry::Budget,
    route::Router,
    session,
    tls::{self, CertificateStore},
    waiting,
};

mod guards;
mod lookup;

use guards::Guards;
pub(crate) use lookup::LookupError;

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

/// A route as a request needs it.
pub(crate) struct CompiledRoute {
    pub(crate) target: Target,
    pub(crate) policy: RequestPolicy,
    pub(crate) protection: Protection,
    /// The upstream that the protection's external method asks.
    pub(crate) authority_service: Option<Arc<Upstream>>,
    pub(crate) limiter: Option<Arc<Limiter>>,
    pub(crate) cors: Option<Arc<Cors>>,
    /// Where what its policies decide is counted.
    pub(crate) counters: Counters,
}

/// Where the decisions of a route's policies are counted, by section.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) auth: Option<Arc<PolicyMetrics>>,
    pub(crate) access: Option<Arc<PolicyMetrics>>,
    pub(crate) limit: Option<Arc<PolicyMetrics>>,
}

impl Counters {
    fn of(policy: &RequestPolicy, metrics: &Metrics) -> Self {
        Self {
            auth: policy.auth.source().map(|source| metrics.policy(source)),
            access: policy.access.source().map(|source| metrics.policy(source)),
            limit: policy
                .rate_limit
                .as_ref()
                .map(|limit| metrics.policy(&limit.source)),
        }
    }
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
    /// Shared by the tables that follow each other: a rollout does not refill it.
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Arc<UpstreamMetrics>,
    /// What counts against its limits, and who waits; goes from table to table.
    pub(crate) gate: Arc<Gate>,
    eligible: ArcSwap<Candidates>,
    /// Whether an ejected peer waits for its trial.
    trials: AtomicBool,
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
    /// The upstream's policy with the peer's own check, or with none; `None` where the upstream's check is
    /// for every peer.
    health: Option<Box<config::HealthPolicy>>,
}

/// What speaks against waiting for a peer, the worse the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Concern {
    /// Nothing.
    None,
    /// It used to answer, and now answers neither its check nor requests.
    Silent,
    /// It is found failing.
    Out,
}

/// What outlives a table: one for each peer identity.
pub(crate) struct PeerState {
    /// Names the peer in connection pools; never used again after the peer is gone.
    pub(crate) id: u64,
    /// Names the peer in cookies and on the hash ring, to every replica alike.
    pub(crate) key: u64,
    pub(crate) vitals: Arc<Vitals>,
    /// Its upstream's.
    pub(crate) gate: Arc<Gate>,
    /// Connections to it, those of checks not counted.
    pub(crate) connections: AtomicU32,
    /// Whether idle connections to it may be kept.
    poolable: AtomicBool,
    /// Since when it gets requests; nobody but refreshes looks at it.
    since: Mutex<Since>,
    /// Whether it is found failing.
    out: AtomicBool,
}

impl PeerState {
    /// Of a peer that nothing is known of but what Kubernetes says.
    fn new(upstream: &UpstreamId, peer: &config::Peer, gate: Arc<Gate>, since: Since) -> Self {
        Self {
            id: next_id(),
            key: session::peer_key(upstream, peer.address, &peer.uid),
            vitals: Arc::new(Vitals::new(peer.readiness, Instant::now())),
            gate,
            connections: AtomicU32::new(0),
            poolable: AtomicBool::new(true),
            since: Mutex::new(since),
            out: AtomicBool::new(false),
        }
    }

    /// Connections to it, those of checks not counted.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether its connections, or those of the whole upstream, are as many as may be.
    pub(crate) fn fills_a_limit(&self) -> bool {
        !self.gate.has_connection_room(self)
    }

    /// Whether idle connections to it may be kept.
    pub(crate) fn poolable(&self) -> bool {
        self.poolable.load(Ordering::Relaxed)
    }

    fn since(&self) -> Since {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer that is out begins anew when it comes back, and one that was out begins now.
    fn settle(&self, excluded: bool, picked: bool, now: Instant) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if excluded {
            *since = Since::Fresh;
        } else if picked && *since == Since::Fresh {
            *since = Since::At(now);
        }
    }

    /// Whether who waits for it should look elsewhere. Kubernetes' word does not count here: a pod that terminates, is
    /// not ready or lost its label may well finish what it has.
    pub(crate) fn concern(&self) -> Concern {
        if self.out.load(Ordering::Relaxed) {
            Concern::Out
        } else if self.vitals.is_silent() {
            Concern::Silent
        } else {
            Concern::None
        }
    }

    fn set_out(&self, out: bool) {
        if !self.out.swap(out, Ordering::Relaxed) && out {
            waiting::announce();
        }
    }
}

impl Peer {
    /// What the active check says, as the pick has it: a peer that has no check of its own is not one that
    /// waits for its first check.
    fn probe(&self) -> Verdict {
        match &self.health {
            Some(own) if own.active.is_none() => Verdict::Pass,
            _ => self.state.vitals.probe(),
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
    fn settle(&self, eligible: &Eligible, now: Instant) {
        for (number, peer) in (0_u32..).zip(&self.peers) {
            let excluded = self.standing(peer) == Standing::Exclude;
            let picked = eligible.peers.binary_search(&number).is_ok();
            peer.state.settle(excluded, picked, now);
        }
    }

    /// Reads all verdicts again. Returns whether the eligible set changed.
    pub(crate) fn refresh(&self) -> bool {
        let _order = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        let next = eligible(&self.config.health, &self.peers);
        let now = Instant::now();
        self.settle(&next, now);
        let since = |number: u32| {
            let peer = self.peers.get(number as usize);
            peer.map_or(Since::Always, |peer| peer.state.since())
        };
        let warming = Candidates::warming(&next, self.config.slow_start, since, now);
        let current = self.eligible.load();
        let changed = ***current != next;
        let mut picked = vec![false; self.peers.len()];
        for &index in &next.peers {
            if let Some(picked) = picked.get_mut(index as usize) {
                *picked = true;
            }
        }
        let mut trials = false;
        for (peer, picked) in self.peers.iter().zip(picked) {
            let keep = picked && next.class != Standing::Draining;
            peer.state.poolable.store(keep, Ordering::Relaxed);
            let on_trial = self.config.health.passive.is_some() && peer.state.vitals.on_trial();
            trials |= on_trial;
            peer.state.set_out(!picked && self.fails(peer));
        }
        self.gate.note_empty(next.peers.is_empty(), now);
        self.trials.store(trials, Ordering::Relaxed);
        if changed || !current.warms(warming.as_ref()) {
            let next = Candidates::new(next, self.ring.as_ref(), warming);
            self.eligible.store(Arc::new(next));
            self.gate.wake();
        }
        changed
    }

    /// An ejected peer to which this request, and no other, is to go now: what comes of it decides whether
    /// the peer is back. It must be handed over at once.
    ///
    /// A request that could be repeated is preferred, and one that has failed already is not risked again,
    /// as long as another peer is left. If none is, an ejected one is tried before its time.
    pub(crate) fn trial(&self, tried: &[u32], repeatable: bool) -> Option<(u32, &Peer)> {
        let eligible = self.eligible();
        let early = eligible.peers.is_empty();
        if !early && (!tried.is_empty() || !self.trials.load(Ordering::Relaxed)) {
            return None;
        }
        self.config.health.passive.as_ref()?;
        let now = Instant::now();
        (0_u32..).zip(&self.peers).find(|(index, peer)| {
            let vitals = &peer.state.vitals;
            let otherwise = health::standing(
                self.health(peer),
                peer.config.readiness,
                vitals.probe(),
                Verdict::Pass,
            );
            let wanted = otherwise > Standing::Exclude && otherwise >= eligible.class;
            wanted
                && vitals.outlier() == Verdict::Fail
                && !tried.contains(index)
                && vitals.claim_trial(repeatable, early, now)
        })
    }

    /// Whether a peer is out for what was found, and not for what Kubernetes says of it.
    fn fails(&self, peer: &Peer) -> bool {
        let vitals = &peer.state.vitals;
        let (probe, outlier) = (vitals.probe(), vitals.outlier());
        let ready = config::Readiness::Ready;
        health::standing(self.health(peer), ready, probe, outlier) == Standing::Exclude
    }

    /// The policy that is in force for one of its peers.
    pub(crate) fn health<'a>(&'a self, peer: &'a Peer) -> &'a config::HealthPolicy {
        peer.health.as_deref().unwrap_or(&self.config.health)
    }

    /// The standing of one of its peers.
    pub(crate) fn standing(&self, peer: &Peer) -> Standing {
        let vitals = &peer.state.vitals;
        health::standing(
            self.health(peer),
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
            (peer.config.readiness, peer.probe(), vitals.outlier())
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
}

impl PeerTable {
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

impl Upstream {
    fn key(&self, peer: &Peer) -> ProbeKey {
        ProbeKey {
            upstream: self.config.id.clone(),
            address: peer.config.address,
            uid: peer.config.uid.clone(),
        }
    }

    fn compile(new: &config::Upstream, old: Option<&Self>, metrics: &Metrics) -> Self {
        let states: HashMap<(SocketAddr, &str), &Arc<PeerState>> = old
            .iter()
            .flat_map(|old| &old.peers)
            .map(|peer| ((peer.config.address, peer.config.uid.as_str()), &peer.state))
            .collect();
        // Peers of an upstream that is new are new to us alone.
        let begins = old.map_or(Since::Always, |_| Since::Fresh);
        let gate = match old {
            Some(old) => Arc::clone(&old.gate),
            None => Arc::new(Gate::new(Instant::now())),
        };
        gate.set_limits(&new.limits);
        // A verdict of another check is not a verdict of this one.
        let same_check = old.is_none_or(|old| old.config.health.active == new.health.active);
        let peers: Vec<Peer> = new
            .peers
            .iter()
            .map(|peer| {
                let known = states.get(&(peer.address, peer.uid.as_str())).copied();
                let state = known.map_or_else(
                    || Arc::new(PeerState::new(&new.id, peer, Arc::clone(&gate), begins)),
                    Arc::clone,
                );
                state
                    .vitals
                    .set_readiness(peer.readiness, peer.trouble.as_deref());
                let health = own_health(&new.health, peer);
                let policy = health.as_deref().unwrap_or(&new.health);
                if policy.active.is_none() && (health.is_some() || !same_check) {
                    state.vitals.forget_checks();
                }
                Peer {
                    config: peer.clone(),
                    state,
                    health,
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
        Self {
            metrics: metrics.upstream(&new.id),
            eligible: ArcSwap::from_pointee(Candidates::new(eligible, ring.as_ref(), None)),
            ring,
            by_key,
            gate,
            peers,
            tls,
            transport,
            picker: Picker::new(next_id()),
            trials: AtomicBool::new(false),
            budget: old.map_or_else(Arc::default, |old| Arc::clone(&old.budget)),
            refresh: Mutex::new(()),
            config: new.clone(),
        }
    }

    fn probe_targets(&self) -> impl Iterator<Item = ProbeTarget> {
        let active = match &self.config.health.active {
            Some(active) if active.kind == config::CheckKind::OfPeer => None,
            active => active.clone().map(Arc::new),
        };
        self.peers.iter().filter_map(move |peer| {
            let mut address = peer.config.address;
            address.set_port(peer.config.check_port.unwrap_or(address.port()));
            // What terminates is on its way out, and its check tells nothing that matters.
            (peer.config.readiness != config::Readiness::Gone).then_some(())?;
            // Where the policy takes its checks from the pods, they are made as kubelet makes them.
            let own = peer
                .config
                .check
                .as_deref()
                .filter(|_| peer.health.is_some());
            let (check, protocol, tls) = match own {
                Some(own) => (
                    Arc::new(own.check.clone()),
                    config::Protocol::Http1,
                    own.tls.then(tls::ClientTls::of_kubelet),
                ),
                None => (
                    active.clone()?,
                    self.config.protocol,
                    self.tls.as_ref().map(|tls| Arc::clone(&tls.config)),
                ),
            };
            let server_name = match (&self.tls, own) {
                (Some(tls), None) => tls.server_name(peer.config.address),
                _ => address.ip().into(),
            };
            Some(ProbeTarget {
                key: self.key(peer),
                vitals: Arc::clone(&peer.state.vitals),
                check,
                address,
                protocol,
                tls,
                server_name,
                readiness: peer.config.readiness,
                counters: Arc::clone(self.metrics.probes()),
            })
        })
    }
}

/// The policy of a peer whose check is its own.
fn own_health(
    policy: &config::HealthPolicy,
    peer: &config::Peer,
) -> Option<Box<config::HealthPolicy>> {
    let active = policy.active.as_ref()?;
    (active.kind == config::CheckKind::OfPeer).then(|| {
        Box::new(config::HealthPolicy {
            active: peer.check.as_ref().map(|own| own.check.clone()),
            ..policy.clone()
        })
    })
}

fn compile_route(
    route: &config::Route,
    upstreams: &HashMap<&UpstreamId, &Arc<Upstream>>,
    guards: &Guards,
    metrics: &Metrics,
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
    let compiled = guards.of(&route.policy);
    CompiledRoute {
        target,
        protection: compiled.protection,
        authority_service: authority_service(&route.policy.auth)
            .and_then(|id| upstreams.get(id))
            .map(|upstream| Arc::clone(upstream)),
        limiter: compiled.limiter,
        cors: compiled.cors,
        counters: Counters::of(&route.policy, metrics),
        policy: route.policy.clone(),
    }
}

/// The upstream that is asked about requests.
fn authority_service(auth: &Auth) -> Option<&UpstreamId> {
    let Auth::AnyOf(rules) = auth else {
        return None;
    };
    rules.methods.iter().find_map(|method| match method {
        AuthMethod::External(external) => match &external.service {
            ExternalService::Upstream(id) => Some(id),
            _ => None,
        },
        _ => None,
    })
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
