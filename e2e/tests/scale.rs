//! How big the load runs are, and how they tell what came of them.
//!
//! Small by default, so that CI is short; `HALE_E2E_FULL=1` makes them as big as those that
//! `docs/failure-runs.md` shows, and each prints its row of the table there.

use anyhow::ensure;
use hale_e2e::load::{Load, Report};
use hale_e2e::wait::until;
use std::time::Duration;

/// The size of a run.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// Pods of the backend, where the run is about them.
    pub(crate) pods: i32,
    /// Requests per second.
    pub(crate) rate: u32,
    /// The load goes on for so long at least.
    seconds: u32,
}

impl Scale {
    pub(crate) fn of_restart() -> Self {
        Self::of(5, 200, 0)
    }

    pub(crate) fn of_outage() -> Self {
        // The outage itself has its length.
        Self::of(4, 100, 0)
    }

    pub(crate) fn of_upgrade() -> Self {
        Self::of(2, 200, 0)
    }

    fn of(pods: i32, rate: u32, seconds: u32) -> Self {
        if std::env::var_os("HALE_E2E_FULL").is_some_and(|full| full == "1") {
            return Self {
                pods: 10,
                rate: 500,
                seconds: 60,
            };
        }
        Self {
            pods,
            rate,
            seconds,
        }
    }

    /// Waits until the load has been going on for as long as it should.
    pub(crate) async fn whole(self, load: &Load) -> anyhow::Result<()> {
        let wanted = u64::from(self.rate) * u64::from(self.seconds);
        let limit = Duration::from_secs(u64::from(self.seconds) + 20);
        until("the load to be whole", limit, || async {
            let sent = load.so_far().sent;
            ensure!(sent >= wanted, "{sent} of {wanted} were sent");
            Ok(())
        })
        .await
    }

    /// Prints the run's row of the table, and below it all that is known.
    pub(crate) fn print(self, run: &str, wanted: &str, report: &Report, more: &str) {
        let (rate, sent, failed) = (self.rate, report.sent, report.failed());
        eprintln!("| {run}, {rate} req/s | {wanted} | {failed} of {sent} fail{more} |");
        eprintln!("e2e: {run}: {report}");
    }
}
