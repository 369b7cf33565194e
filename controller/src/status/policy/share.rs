//! One status, and perhaps several Hales that have something to say in it (GEP-713): installations of different
//! controller classes share a cluster, its policies and their statuses.
//!
//! Each has its own entries in `ancestors`, and leaves those of others as they are. The list is atomic for the API
//! server, so entries of others are written again as they were read; the policy's `resourceVersion` refuses the write
//! if they are others by now. What a status has only once (counts and peers) is of those that serve a target, and of
//! them the one whose view changed last: none writes because another sees it differently. One that serves no target is
//! silent where another reports the policy. So it comes to rest, and an installation that was removed stands in nobody's
//! way.

use std::collections::HashMap;

use hale_crds::{AncestorStatus, UpstreamPolicyStatus};

use crate::settings::ObjectKey;

/// Entries in `status.ancestors`, as the CRD bounds them.
const MAX_ANCESTORS: usize = 16;

/// A status to be written, and what of it is this installation's view.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The whole status, with what others have in it.
    pub status: UpstreamPolicyStatus,
    /// What this installation says that a status has only once.
    view: UpstreamPolicyStatus,
}

/// What this installation said of each policy.
#[derive(Debug, Default)]
pub struct Shares {
    told: HashMap<ObjectKey, UpstreamPolicyStatus>,
}

impl Shares {
    /// What to write into the status that is `there`, if anything, where an installation alone would write `mine`.
    pub fn share(
        &self,
        policy: &ObjectKey,
        mine: UpstreamPolicyStatus,
        there: Option<&UpstreamPolicyStatus>,
        controller: &str,
    ) -> Option<Share> {
        let entries = there.map_or(&[][..], |status| &status.ancestors);
        let (ours, others): (Vec<_>, Vec<_>) = entries
            .iter()
            .partition(|entry| entry.controller_name == controller);
        let view = UpstreamPolicyStatus {
            ancestors: Vec::new(),
            ..mine.clone()
        };
        let share = |once: &UpstreamPolicyStatus, ancestors| Share {
            status: UpstreamPolicyStatus {
                ancestors,
                ..once.clone()
            },
            view: view.clone(),
        };
        let Some(there) = there.filter(|_| !others.is_empty()) else {
            return Some(share(&view, mine.ancestors));
        };
        let others_serve = others.iter().any(|entry| serves(entry));
        if mine.ancestors.iter().any(serves) {
            let news = self.told.get(policy) != Some(&view);
            let once = if news || !others_serve { &view } else { there };
            return Some(share(once, placed(mine.ancestors, entries, controller)));
        }
        if ours.is_empty() {
            return None;
        }
        // Two may have begun to report at the same time: one of them gives way.
        let gives_way = |entry: &&AncestorStatus| *entry.controller_name < *controller;
        if others_serve || others.iter().any(gives_way) {
            let ancestors = others.into_iter().cloned().collect();
            return Some(share(there, ancestors));
        }
        Some(share(&view, placed(mine.ancestors, entries, controller)))
    }

    /// A share is what the cluster has.
    pub fn wrote(&mut self, policy: ObjectKey, share: Share) {
        self.told.insert(policy, share.view);
    }

    /// Forgets policies that are gone.
    pub fn retain(&mut self, is_there: impl Fn(&ObjectKey) -> bool) {
        self.told.retain(|policy, _| is_there(policy));
    }
}

/// Whether an installation serves a target: only then it knows of its peers.
fn serves(entry: &AncestorStatus) -> bool {
    let mut conditions = entry.conditions.iter();
    conditions.any(|condition| condition.type_ == "Healthy")
}

/// The entries that are there, with ours in the place of ours. Others are not pushed out, but for ours there may be no
/// room.
fn placed(
    mine: Vec<AncestorStatus>,
    there: &[AncestorStatus],
    controller: &str,
) -> Vec<AncestorStatus> {
    let is_ours = |entry: &&AncestorStatus| entry.controller_name == controller;
    let others = there.iter().filter(|entry| !is_ours(entry));
    let place = there.iter().position(|entry| is_ours(&entry));
    let mut ancestors: Vec<_> = others.cloned().collect();
    let place = place.unwrap_or(ancestors.len()).min(ancestors.len());
    let room = MAX_ANCESTORS.saturating_sub(ancestors.len());
    ancestors.splice(place..place, mine.into_iter().take(room));
    ancestors
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What one installation says of a policy with one target.
    fn said(controller: &str, serves: bool, summary: &str) -> UpstreamPolicyStatus {
        let kinds: &[&str] = if serves {
            &["Accepted", "Healthy"]
        } else {
            &["Accepted"]
        };
        let conditions: Vec<_> = kinds
            .iter()
            .map(|kind| {
                json!({"type": kind, "status": "True", "reason": "A", "message": summary, "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        let target = json!({"group": "", "kind": "Service", "name": "checkout"});
        let entry =
            json!({"ancestorRef": target, "controllerName": controller, "conditions": conditions});
        let status = json!({"observedGeneration": 1, "summary": summary, "ancestors": [entry]});
        serde_json::from_value(status).unwrap()
    }

    /// An installation that writes whenever it has something to write.
    struct Hale {
        name: &'static str,
        serves: bool,
        sees: String,
        shares: Shares,
    }

    impl Hale {
        fn new(name: &'static str, serves: bool) -> Self {
            Self {
                name,
                serves,
                sees: name.to_owned(),
                shares: Shares::default(),
            }
        }

        fn share(&self, there: Option<&UpstreamPolicyStatus>) -> Option<Share> {
            let mine = said(self.name, self.serves, &self.sees);
            let key = ObjectKey::new("shop", "checkout");
            self.shares.share(&key, mine, there, self.name)
        }

        /// Writes into what is `there`, having read `seen`. Returns whether it did.
        fn turn(
            &mut self,
            seen: Option<&UpstreamPolicyStatus>,
            there: &mut Option<UpstreamPolicyStatus>,
        ) -> bool {
            let Some(share) = self.share(seen) else {
                return false;
            };
            let differs = there.as_ref() != Some(&share.status);
            *there = Some(share.status.clone());
            self.shares.wrote(ObjectKey::new("shop", "checkout"), share);
            differs
        }
    }

    /// Turns until nobody writes any more; how many there were.
    fn rest(hales: &mut [Hale], there: &mut Option<UpstreamPolicyStatus>) -> usize {
        let mut writes = 0;
        loop {
            let before = writes;
            for hale in hales.iter_mut() {
                let seen = there.clone();
                writes += usize::from(hale.turn(seen.as_ref(), there));
            }
            if writes == before {
                return writes;
            }
            assert!(writes < 8, "they fight: {there:?}");
        }
    }

    fn controllers(status: Option<&UpstreamPolicyStatus>) -> Vec<&str> {
        let entries = status.iter().flat_map(|status| &status.ancestors);
        entries.map(|it| it.controller_name.as_str()).collect()
    }

    #[test]
    fn alone_it_is_all_ours() {
        let mut there = None;
        let mut hales = [Hale::new("a", false)];
        assert_eq!(rest(&mut hales, &mut there), 1);
        assert_eq!(there, Some(said("a", false, "a")));
    }

    #[test]
    fn the_one_that_serves_reports_and_the_other_is_silent() {
        for (first, second) in [(true, false), (false, true)] {
            let mut there = None;
            let mut hales = [Hale::new("a", first), Hale::new("b", second)];
            rest(&mut hales, &mut there);
            let server = if first { "a" } else { "b" };
            assert_eq!(there, Some(said(server, true, server)));
            hales.reverse();
            assert_eq!(rest(&mut hales, &mut there), 0, "whoever looks first");
        }
    }

    #[test]
    fn where_nobody_serves_the_first_one_reports() {
        let mut there = None;
        let mut hales = [Hale::new("b", false), Hale::new("a", false)];
        assert_eq!(rest(&mut hales, &mut there), 1);
        assert_eq!(controllers(there.as_ref()), ["b"]);
        // Both began at the same time.
        let mut both = said("b", false, "b");
        both.ancestors.extend(said("a", false, "a").ancestors);
        let mut there = Some(both);
        rest(&mut hales, &mut there);
        assert_eq!(controllers(there.as_ref()), ["a"]);
    }

    #[test]
    fn where_both_serve_each_has_its_entries_and_news_are_told_by_whom_they_come_from() {
        let mut there = None;
        let mut hales = [Hale::new("a", true), Hale::new("b", true)];
        rest(&mut hales, &mut there);
        assert_eq!(controllers(there.as_ref()), ["a", "b"]);
        let summary =
            |there: &Option<UpstreamPolicyStatus>| there.clone().unwrap().summary.unwrap();
        assert_eq!(summary(&there), "b", "both told, and none repeats itself");
        for (index, news) in [(0, "of a"), (1, "of b"), (1, "again")] {
            hales[index].sees = news.to_owned();
            assert_eq!(rest(&mut hales, &mut there), 1);
            assert_eq!(summary(&there), news);
        }
    }

    #[test]
    fn an_installation_that_was_removed_stands_in_nobodys_way() {
        let mut there = None;
        rest(&mut [Hale::new("a", true)], &mut there);
        let mut left = [Hale::new("b", true)];
        rest(&mut left, &mut there);
        left[0].sees = "news".to_owned();
        rest(&mut left, &mut there);
        let there = there.unwrap();
        assert_eq!(there.summary.as_deref(), Some("news"));
        assert_eq!(
            there.ancestors[0],
            said("a", true, "a").ancestors[0],
            "its entry is not ours to remove"
        );
    }

    #[test]
    fn one_that_stops_to_serve_takes_its_entries_back() {
        let mut there = None;
        let mut hales = [Hale::new("a", true), Hale::new("b", true)];
        rest(&mut hales, &mut there);
        hales[0].serves = false;
        rest(&mut hales, &mut there);
        assert_eq!(controllers(there.as_ref()), ["b"]);
    }

    #[test]
    fn there_is_no_room_for_more_than_the_definition_has() {
        let mut full = said("z", true, "z");
        full.ancestors = vec![full.ancestors[0].clone(); MAX_ANCESTORS];
        let share = Hale::new("a", true).share(Some(&full)).unwrap();
        assert_eq!(share.status.ancestors, full.ancestors);
    }
}
