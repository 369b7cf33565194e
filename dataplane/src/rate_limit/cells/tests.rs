use std::{
    collections::HashMap,
    sync::{Barrier, atomic::AtomicUsize},
};

use proptest::prelude::*;

use super::*;
use crate::balance::mix;

/// A bucket as one would draw it: tokens, in parts of which `each` are a whole one.
struct Bucket {
    level: u64,
    seen: u64,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: u64) -> bool {
        self.level = rate.all.min(self.level + (now - self.seen));
        self.seen = now;
        let taken = self.level >= rate.each;
        self.level -= if taken { rate.each } else { 0 };
        taken
    }
}

fn yes(taken: Taken) -> bool {
    matches!(taken, Taken::Yes { .. })
}

proptest! {
    #[test]
    fn keys_that_fit_are_counted_as_by_buckets(
        requests in 1_u32..20,
        interval_ms in 1_u64..2_000,
        burst in 0_u32..10,
        steps in prop::collection::vec((0_u64..300, 0_u64..100), 1..600),
    ) {
        let rate = Rate::new(requests, Duration::from_millis(interval_ms), burst);
        let cells = Cells::default();
        let mut buckets: HashMap<u64, Bucket> = HashMap::new();
        let mut now = 0;
        for (key, wait_ms) in steps {
            now += wait_ms * 1_000_000;
            let bucket = buckets.entry(key).or_insert(Bucket { level: rate.all, seen: 0 });
            let taken = cells.take(mix(key), rate, Duration::from_nanos(now));
            prop_assert_eq!(yes(taken), bucket.take(rate, now));
            let (Taken::Yes { full, .. } | Taken::No { full, .. }) = taken;
            prop_assert_eq!(full, Duration::from_nanos(rate.all - bucket.level));
            match taken {
                Taken::Yes { left, .. } => prop_assert_eq!(left, bucket.level / rate.each),
                Taken::No { wait, .. } => {
                    prop_assert_eq!(wait, Duration::from_nanos(rate.each - bucket.level));
                }
            }
        }
    }
}

#[test]
fn who_waits_as_told_is_taken() {
    let rate = Rate::new(3, Duration::from_secs(1), 2);
    let cells = Cells::default();
    let mut now = Duration::from_secs(7);
    for left in (0..5).rev() {
        let Taken::Yes { left: told, .. } = cells.take(1, rate, now) else {
            panic!("five are there");
        };
        assert_eq!(told, left);
    }
    for _ in 0..10 {
        let Taken::No { wait, .. } = cells.take(1, rate, now) else {
            panic!("none is left");
        };
        assert!(!yes(cells.take(
            1,
            rate,
            now + wait - Duration::from_nanos(1)
        )));
        now += wait;
        assert!(yes(cells.take(1, rate, now)));
    }
}

#[test]
fn tables_are_made_when_they_are_needed() {
    let rate = Rate::new(1, Duration::from_secs(1), 0);
    let made = |cells: &Cells| cells.0.iter().filter(|table| table.get().is_some()).count();
    let cells = Cells::default();
    assert_eq!(made(&cells), 0);
    // One after another, each when the one before is done: a cell is enough for all of them.
    for key in 1..10_000 {
        let now = Duration::from_secs(key);
        assert!(yes(cells.take(mix(key), rate, now)));
    }
    assert_eq!(made(&cells), 1);
    for key in 1..20_000 {
        assert!(yes(cells.take(mix(key), rate, Duration::from_secs(20_000))));
    }
    assert_eq!(made(&cells), 3);
}

#[test]
fn thousands_of_keys_are_counted_exactly() {
    let rate = Rate::new(1, Duration::from_secs(1), 0);
    let cells = Cells::default();
    let now = Duration::from_secs(1);
    for key in 0..12_000 {
        assert!(yes(cells.take(mix(key), rate, now)), "{key}");
    }
    for key in 0..12_000 {
        assert!(!yes(cells.take(mix(key), rate, now)), "{key}");
    }
}

#[test]
fn a_flood_of_keys_shuts_nobody_out_and_forgets_few_that_are_busy() {
    let rate = Rate::new(10, Duration::from_secs(10), 0);
    let cells = Cells::default();
    let now = Duration::from_secs(1);
    let busy = 1_000_000..1_000_100_u64;
    for key in busy.clone() {
        (0..10).for_each(|_| assert!(yes(cells.take(mix(key), rate, now))));
    }
    for key in 0..300_000 {
        assert!(
            yes(cells.take(mix(key), rate, now)),
            "a key of its own is fresh"
        );
    }
    let forgotten = busy.filter(|key| yes(cells.take(mix(*key), rate, now)));
    assert_eq!(
        forgotten.count(),
        0,
        "those who used least are given up first"
    );
}

#[test]
fn threads_take_no_more_than_there_is() {
    let rate = Rate::new(1_000, Duration::from_secs(3_600), 0);
    let cells = Cells::default();
    let (taken, start) = (AtomicUsize::new(0), Barrier::new(4));
    // The cell is there before they meet.
    assert!(yes(cells.take(7, rate, Duration::ZERO)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..1_000 {
                    if yes(cells.take(7, rate, Duration::ZERO)) {
                        taken.fetch_add(1, Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(taken.load(Relaxed), 999);
}

#[test]
fn a_smaller_limit_does_not_hold_the_larger_one_against_anybody() {
    let cells = Cells::default();
    let large = Rate::new(100, Duration::from_secs(3_600), 0);
    for _ in 0..100 {
        assert!(yes(cells.take(1, large, Duration::ZERO)));
    }
    let small = Rate::new(1, Duration::from_secs(1), 0);
    for _ in 0..2 {
        let Taken::No { wait, .. } = cells.take(1, small, Duration::ZERO) else {
            panic!("it is empty");
        };
        assert_eq!(wait, Duration::from_secs(1));
    }
    assert!(yes(cells.take(1, small, Duration::from_secs(1))));
}
