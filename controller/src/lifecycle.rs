//! Where the process stands between its start and its end, for `/readyz` and for those who wait.

use std::sync::Arc;

use tokio::sync::watch;

/// Where the process stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has been published yet; the text says what is waited for.
    Starting(String),
    /// Serving what the cluster says.
    Ready,
    /// Still serving, and about to end: others should be asked.
    Stopping,
}

/// The phase, shared. Cheap to clone; all clones are the same one.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
}

impl Lifecycle {
    /// A process that starts.
    pub fn new(waiting_for: impl Into<String>) -> Self {
        Self {
            phase: Arc::new(watch::Sender::new(Phase::Starting(waiting_for.into()))),
        }
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Says what is still waited for; too late once ready.
    pub fn waiting_for(&self, what: impl Into<String>) {
        let what = what.into();
        self.phase.send_if_modified(|phase| match phase {
            Phase::Starting(text) if *text != what => {
                *text = what;
                true
            }
            _ => false,
        });
    }

    /// The first table was published. A process that is stopping stays so.
    pub fn ready(&self) {
        self.phase.send_if_modified(|phase| {
            let first = matches!(phase, Phase::Starting(_));
            if first {
                *phase = Phase::Ready;
            }
            first
        });
    }

    /// The end begins; there is no way back.
    pub fn stop(&self) {
        self.phase.send_replace(Phase::Stopping);
    }

    /// Waits until the process is ready or stopping.
    pub async fn started(&self) {
        self.until(|phase| !matches!(phase, Phase::Starting(_)))
            .await;
    }

    /// Waits until the process is stopping.
    pub async fn stopping(&self) {
        self.until(|phase| *phase == Phase::Stopping).await;
    }

    async fn until(&self, wanted: impl FnMut(&Phase) -> bool) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.phase.subscribe().wait_for(wanted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopping_process_does_not_become_ready() {
        let lifecycle = Lifecycle::new("Ingresses");
        lifecycle.waiting_for("Secrets");
        assert_eq!(lifecycle.phase(), Phase::Starting("Secrets".into()));
        lifecycle.stop();
        lifecycle.ready();
        lifecycle.waiting_for("Services");
        assert_eq!(lifecycle.phase(), Phase::Stopping);
    }
}
