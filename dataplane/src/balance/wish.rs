//! What a request asks of the pick besides a good peer: the one of its session, or the one of its key.

use http::{HeaderMap, header};
use tokio::time::Instant;

use super::{KeyHash, Wanted};
use crate::{
    config::{Balance, HashKey},
    exchange::Exchange,
    health::Standing,
    sanitize,
    session::{self, Session},
    table::Upstream,
};

/// Read from the request before its head goes upstream. Empty, and made without looking, where the upstream
/// has neither sessions nor hashing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// The hash of its key, if it has one.
    pub(crate) hash: Option<u64>,
    /// The session that it brought, if that has not run out.
    pub(crate) session: Option<Session>,
    /// The peer that its client is logged in to, by its [`id`](crate::table::PeerState::id).
    pub(crate) bound: Option<u64>,
    /// Whether the client speaks https, to us or to a proxy that we trust.
    pub(crate) https: bool,
}

impl Wish {
    pub(crate) fn of(upstream: &Upstream, exchange: &Exchange, headers: &HeaderMap) -> Self {
        let mut wish = Self {
            bound: exchange.conn.logged_in.peer(),
            ..Self::default()
        };
        if let Balance::ConsistentHash(key) = &upstream.config.balance {
            wish.hash = hash(key, exchange, headers);
        }
        if let Some(config) = &upstream.config.session {
            wish.session = session::read(config, headers, exchange.unix_time());
            wish.https = sanitize::is_https(headers, &exchange.conn.client);
        }
        wish
    }

    /// Whether any peer will do: who has a session is not sent to another peer for that peer's sake.
    pub(crate) fn may_move(&self) -> bool {
        self.session.is_none() && self.bound.is_none()
    }
}

/// An empty value is none: it would send all who have none to one peer.
fn hash(key: &HashKey, exchange: &Exchange, headers: &HeaderMap) -> Option<u64> {
    let hash = KeyHash::new();
    let value = match key {
        // HTTP/2 has it in another place.
        HashKey::Header(name) if name == header::HOST.as_str() => exchange.host().as_bytes(),
        HashKey::Header(name) => headers.get(name.as_str())?.as_bytes(),
        HashKey::Cookie(name) => session::cookie(headers, name)?,
        HashKey::SourceIp => {
            return Some(match exchange.client.to_canonical() {
                std::net::IpAddr::V4(ip) => hash.write(&ip.octets()).finish(),
                std::net::IpAddr::V6(ip) => hash.write(&ip.octets()).finish(),
            });
        }
        HashKey::Uri => {
            let hash = hash.write(exchange.path().as_bytes());
            return Some(match exchange.uri.query() {
                Some(query) => hash.write(b"?").write(query.as_bytes()).finish(),
                None => hash.finish(),
            });
        }
    };
    (!value.is_empty()).then(|| hash.write(value).finish())
}

impl Upstream {
    /// The number of the peer with this id.
    fn peer_with(&self, id: u64) -> Option<u32> {
        let place = self.peers.iter().position(|peer| peer.state.id == id)?;
        u32::try_from(place).ok()
    }

    /// The number of the peer that gets the request now: its session's while that one serves, else one that
    /// is chosen among the eligible. `None` if there is no eligible peer that `admits` one more.
    ///
    /// A session stays on a peer that drains for as long as it serves, although nobody else is sent there.
    /// It does not stay on one that no connection could be made to a moment ago, or that failed this request.
    pub(crate) fn pick(
        &self,
        wish: &Wish,
        tried: &[u32],
        now: Instant,
        admits: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let candidates = self.eligible();
        let stays = |number: &u32| {
            let fits = |peer| {
                let serves = self.standing(peer) != Standing::Exclude
                    || candidates.peers.binary_search(number).is_ok();
                serves && !peer.state.vitals.is_unreachable(now)
            };
            !tried.contains(number)
                && self.peers.get(*number as usize).is_some_and(fits)
                && admits(*number)
        };
        let bound = wish.bound.and_then(|id| self.peer_with(id));
        let kept = bound.or_else(|| self.peer_of(wish.session?.peer));
        if let Some(number) = kept.filter(stays) {
            return Some(number);
        }
        let wanted = Wanted {
            balance: &self.config.balance,
            candidates: &candidates,
            hash: wish.hash,
            tried,
            now,
        };
        // The eligible are numbers of this upstream's own peers.
        let vitals = |number: u32| &*self.peers[number as usize].state.vitals;
        self.picker.pick(&wanted, vitals, admits)
    }
}
