//! Who may be picked, with all that was worked out beforehand for choosing among them.

use std::{ops::Deref, time::Duration};

use tokio::time::Instant;

use super::{Eligible, Ring, Since, Warming};

/// The eligible, ready to be chosen from. Replaced whole, so that a pick sees one state.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    eligible: Eligible,
    /// The points of the eligible, where requests are hashed.
    pub(super) ring: Option<Ring>,
    pub(super) warming: Option<Warming>,
}

impl Candidates {
    /// `ring` has the points of all peers.
    pub(crate) fn new(eligible: Eligible, ring: Option<&Ring>, warming: Option<Warming>) -> Self {
        Self {
            ring: ring.map(|ring| ring.only(&eligible.peers)),
            warming,
            eligible,
        }
    }

    /// Whether these are the ones that are new.
    pub(crate) fn warms(&self, warming: Option<&Warming>) -> bool {
        self.warming.as_ref() == warming
    }

    /// Which of them are new among the others, if that matters.
    pub(crate) fn warming(
        eligible: &Eligible,
        window: Option<Duration>,
        since: impl Fn(u32) -> Since,
        now: Instant,
    ) -> Option<Warming> {
        Warming::new(window?, &eligible.peers, since, now)
    }
}

impl Deref for Candidates {
    type Target = Eligible;

    fn deref(&self) -> &Eligible {
        &self.eligible
    }
}
