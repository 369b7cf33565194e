//! The buckets of a limit: when each will be full, in tables of atomics of a fixed size.
//!
//! A bucket that is full is like one that was never used, so its cell is free for the next key. Cells are in sets
//! of eight, and a key's hash says which set of each table is its own. The tables are 1 Ki, 8 Ki and 64 Ki cells
//! large and made when the one before has no room: a limit of few keys takes 16 KiB, and none takes more than
//! 1.2 MiB, whatever is sent.
//!
//! Keys that fit are counted exactly. When all of a key's cells are others', which takes tens of thousands of
//! keys in use, the one of the largest table that is nearest to being full is given up: its key may have back a
//! little early what it had used. Sharing the cell instead would let a flood of keys shut out everybody else.
//!
//! There is no lock. Two threads may give the same cell away, or count into one while it is given away: then a
//! request is counted for the wrong key, or a key is counted in two cells until one is free again. Only keys that
//! begin at the same moment can meet that, and it is over when they pause.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Cells of a set: one cache line of tags, and one of times.
const WAYS: usize = 8;
/// Sets of each table, as powers of 2.
const TABLES: [u32; 3] = [7, 10, 13];
/// By how much the clocks of requests may be apart that are counted at the same time. In nanoseconds: 1 s.
const SLACK: u64 = 1_000_000_000;

/// How fast a bucket is filled, and how much it holds. In nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// For one token.
    each: u64,
    /// For all that the bucket holds.
    all: u64,
}

/// What came of taking a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was there.
    Yes {
        /// Whole tokens that are left.
        left: u64,
        /// When all are there again.
        full: Duration,
    },
    /// It was not.
    No {
        /// When one will be.
        wait: Duration,
        /// When all are there again.
        full: Duration,
    },
}

impl Rate {
    /// Of a bucket of `requests` + `burst` tokens, of which `requests` are filled in within `interval`.
    pub(super) fn new(requests: u32, interval: Duration, burst: u32) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let each = (interval / u64::from(requests.max(1))).max(1);
        let all = each.saturating_mul(u64::from(requests.max(1)) + u64::from(burst));
        Self { each, all }
    }

    /// When a bucket that has been emptied now is full, if that is long before what was stored: a limit that
    /// became smaller does not hold against anybody what the old one allowed.
    fn less(self, full: u64, now: u64) -> Option<u64> {
        let most = now.saturating_add(self.all);
        (full > most.saturating_add(SLACK)).then_some(most)
    }

    /// Takes one of a bucket that will be full at `full`. Gives when it will be then, if one was there.
    fn take(self, full: u64, now: u64) -> (Option<u64>, Taken) {
        let full = full.max(now);
        let next = full.saturating_add(self.each);
        let used = next - now;
        match used.checked_sub(self.all) {
            None | Some(0) => {
                let taken = Taken::Yes {
                    left: (self.all - used) / self.each,
                    full: Duration::from_nanos(used),
                };
                (Some(next), taken)
            }
            Some(lacking) => {
                let taken = Taken::No {
                    wait: Duration::from_nanos(lacking),
                    full: Duration::from_nanos(full - now),
                };
                (None, taken)
            }
        }
    }
}

/// The tables.
#[derive(Default)]
pub(super) struct Cells([OnceLock<Box<[Set]>>; TABLES.len()]);

/// The cells of some keys.
#[derive(Default)]
#[repr(align(64))]
struct Set {
    /// The hash of the key that has the cell; 0 is none.
    tags: [AtomicU64; WAYS],
    /// When its bucket will be full.
    full: [AtomicU64; WAYS],
}

/// A cell that a key may have.
struct Cell<'c> {
    tag: &'c AtomicU64,
    full: &'c AtomicU64,
}

impl Cells {
    /// Takes a token of the bucket of the key with this hash. `now` counts from any fixed moment.
    pub(super) fn take(&self, hash: u64, rate: Rate, now: Duration) -> Taken {
        let hash = hash.max(1);
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let cell = self.cell(hash, now);
        let mut seen = cell.full.load(Relaxed);
        loop {
            let less = rate.less(seen, now);
            let (next, taken) = rate.take(less.unwrap_or(seen), now);
            let Some(next) = next.or(less) else {
                return taken;
            };
            match cell
                .full
                .compare_exchange_weak(seen, next, Relaxed, Relaxed)
            {
                Ok(_) => return taken,
                Err(newer) => seen = newer,
            }
        }
    }

    /// The key's cell; if it has none, one that is free, or is given up for it.
    fn cell(&self, hash: u64, now: u64) -> Cell<'_> {
        loop {
            let known = self.sets(hash).find_map(|set| set.of(hash));
            if let Some(cell) = known {
                return cell;
            }
            let mut last = None;
            for (table, sets) in TABLES.iter().zip(&self.0) {
                let sets = sets.get_or_init(|| (0..1 << table).map(|_| Set::default()).collect());
                let free = set_of(sets, hash).map(|set| set.nearest());
                last = free.or(last);
                if last.as_ref().is_some_and(|(_, full)| *full <= now) {
                    break;
                }
            }
            let Some((cell, full)) = last else { continue };
            let tag = cell.tag.load(Relaxed);
            // Whoever is faster has it, and this key looks again.
            if cell
                .tag
                .compare_exchange(tag, hash, Relaxed, Relaxed)
                .is_ok()
            {
                let _ = cell.full.compare_exchange(full, now, Relaxed, Relaxed);
                return cell;
            }
        }
    }

    /// The key's sets of the tables that there are.
    fn sets(&self, hash: u64) -> impl Iterator<Item = &Set> {
        self.0
            .iter()
            .map_while(OnceLock::get)
            .filter_map(move |sets| set_of(sets, hash))
    }
}

fn set_of(sets: &[Set], hash: u64) -> Option<&Set> {
    // Never larger than `sets`, which is a power of 2.
    #[allow(clippy::cast_possible_truncation)]
    sets.get(hash as usize & (sets.len() - 1))
}

impl Set {
    fn cells(&self) -> impl Iterator<Item = Cell<'_>> {
        let cells = self.tags.iter().zip(&self.full);
        cells.map(|(tag, full)| Cell { tag, full })
    }

    fn of(&self, hash: u64) -> Option<Cell<'_>> {
        self.cells().find(|cell| cell.tag.load(Relaxed) == hash)
    }

    /// The cell that is full first, and when.
    fn nearest(&self) -> (Cell<'_>, u64) {
        let first = Cell {
            tag: &self.tags[0],
            full: &self.full[0],
        };
        let start = first.full.load(Relaxed);
        self.cells().skip(1).fold((first, start), |best, cell| {
            let full = cell.full.load(Relaxed);
            if full < best.1 { (cell, full) } else { best }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
