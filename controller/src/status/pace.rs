//! At most one write for an object in five seconds, and the first at once.

use std::{collections::HashMap, hash::Hash, time::Duration};

use tokio::time::Instant;

const APART: Duration = Duration::from_secs(5);

/// When each object was written last.
#[derive(Debug)]
pub(super) struct Pace<K> {
    written: HashMap<K, Instant>,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Self {
            written: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash> Pace<K> {
    /// When `key` may be written, if that is later than now.
    pub(super) fn due(&self, key: &K, now: Instant) -> Option<Instant> {
        let due = *self.written.get(key)? + APART;
        (due > now).then_some(due)
    }

    /// `key` is being written; whether that succeeds does not matter.
    pub(super) fn wrote(&mut self, key: K, now: Instant) {
        self.written.insert(key, now);
    }

    /// Forgets what was written too long ago to matter.
    pub(super) fn forget_before(&mut self, now: Instant) {
        self.written.retain(|_, at| *at + APART > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_write_is_at_once_and_the_next_five_seconds_later() {
        let mut pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.due(&"a", start), None);
        pace.wrote("a", start);
        assert_eq!(pace.due(&"a", start + APART / 2), Some(start + APART));
        assert_eq!(pace.due(&"b", start + APART / 2), None);
        assert_eq!(pace.due(&"a", start + APART), None);
        pace.forget_before(start + APART);
        assert!(pace.written.is_empty());
    }
}
