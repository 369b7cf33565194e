//! An upstream, compiled: its peers, which of them may be picked, and what is checked of them.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::peer::{Peer, PeerState, next_id};
use crate::{
    admission::Gate,
    balance::{self, Candidates, Eligible, Picker, Ring, Since},
    config,
    health::{self, ProbeKey, ProbeTarget, Standing, Verdict},
    metrics::{Metrics, UpstreamMetrics},
    retry::Budget,
    tls,
};

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

impl Upstream {
    pub(super) fn key(&self, peer: &Peer) -> ProbeKey {
        ProbeKey {
            upstream: self.config.id.clone(),
            address: peer.config.address,
            uid: peer.config.uid.clone(),
        }
    }

    pub(super) fn compile(new: &config::Upstream, old: Option<&Self>, metrics: &Metrics) -> Self {
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

    pub(super) fn probe_targets(&self) -> impl Iterator<Item = ProbeTarget> {
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
