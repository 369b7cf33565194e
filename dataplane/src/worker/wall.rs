//! What time it is, told to every request without asking the system each time.
//!
//! The system's clock is set while we run, and runs on while a virtual machine stands still, which the clock of
//! instants does not. So the two are held against each other again with each sweep: what expires by the clock must
//! not go on because a process is old.

use std::{cell::Cell, time::SystemTime};

use tokio::time::Instant;

/// The system's clock, read at an instant.
pub(super) struct Wall(Cell<(Instant, SystemTime)>);

impl Wall {
    pub(super) fn new(instant: Instant, system: SystemTime) -> Self {
        Self(Cell::new((instant, system)))
    }

    /// Both clocks were read again.
    pub(super) fn set(&self, instant: Instant, system: SystemTime) {
        self.0.set((instant, system));
    }

    /// The time of an instant, which may be before the last reading.
    pub(super) fn at(&self, instant: Instant) -> SystemTime {
        let (read, system) = self.0.get();
        match instant.checked_duration_since(read) {
            Some(since) => system.checked_add(since),
            None => system.checked_sub(read.saturating_duration_since(instant)),
        }
        .unwrap_or(system)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_clock_that_was_set_is_followed() {
        let (began, then) = (Instant::now(), SystemTime::UNIX_EPOCH + 1_000_000 * SECOND);
        let wall = Wall::new(began, then);
        assert_eq!(wall.at(began + 9 * SECOND), then + 9 * SECOND);
        for step in [3600, 7 * 86_400] {
            // Forward, as after a pause of the machine, and back.
            let read = began + 10 * SECOND;
            for system in [then + step * SECOND, then - step * SECOND] {
                wall.set(read, system);
                assert_eq!(wall.at(read), system);
                assert_eq!(wall.at(read + SECOND), system + SECOND);
                assert_eq!(wall.at(began), system - 10 * SECOND, "a request of before");
            }
        }
    }
}
