//! Peers of which Kubernetes and the check say different things, and since when.
//!
//! A peer's report says since when its reason is what it is. For a ready peer that fails its check that is since when
//! the two differ; for one that is not ready and passes, nobody says since when it passes, so that is remembered here.

use std::{collections::HashMap, net::SocketAddr};

use hale_dataplane::{
    config::{Readiness, UpstreamId},
    health::Verdict,
    report::{PeerReport, Report},
};
use jiff::Timestamp;

type PeerKey = (UpstreamId, SocketAddr);

/// Since when each peer is not ready and passes.
#[derive(Debug, Default)]
pub struct Disagreements {
    passing: HashMap<PeerKey, Timestamp>,
    looked: bool,
}

impl Disagreements {
    /// Looks at the peers. At the first look what differs may have done so for as long as the peer is not ready.
    pub fn observe(&mut self, report: &Report, now: Timestamp) {
        let mut before = std::mem::take(&mut self.passing);
        for upstream in report.upstreams.iter().filter(|upstream| upstream.checked) {
            for peer in upstream.peers.iter().filter(|peer| passes_unready(peer)) {
                let key = (upstream.id.clone(), peer.address);
                let begin = if self.looked { now } else { peer.since };
                let since = before.remove(&key).unwrap_or(begin);
                self.passing.insert(key, since);
            }
        }
        self.looked = true;
    }

    /// Since when the two differ, and whether it is the check that fails; `None` where they agree.
    pub(super) fn since(
        &self,
        upstream: &UpstreamId,
        peer: &PeerReport,
    ) -> Option<(Timestamp, bool)> {
        if peer.readiness == Readiness::Ready && peer.probe == Verdict::Fail {
            return Some((peer.since, true));
        }
        let since = self.passing.get(&(upstream.clone(), peer.address))?;
        passes_unready(peer).then_some((*since, false))
    }
}

fn passes_unready(peer: &PeerReport) -> bool {
    peer.readiness == Readiness::Unready && peer.probe == Verdict::Pass
}
