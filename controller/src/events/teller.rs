//! Sends Events: repeated ones are counted by the recorder, one object gets only so many, and a slow API server makes
//! us drop some rather than wait.

use std::{collections::HashMap, time::Duration};

use hale_dataplane::prometheus_client::metrics::{counter::Counter, family::Family};
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use tokio::{sync::mpsc, time::Instant};

use super::{Note, shortened};
use crate::metrics::{Metrics, ResultLabel};

/// Events of one object in a burst.
const BURST: f64 = 12.0;
/// After a burst, one Event of an object in this time.
const REFILL: Duration = Duration::from_secs(30);
/// Events that wait to be sent.
const QUEUE: usize = 512;
/// For one Event to be sent.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Takes notes, and sends them in the background.
pub struct Teller {
    queue: mpsc::Sender<Note>,
    budgets: Budgets,
    results: Family<ResultLabel, Counter>,
}

impl Teller {
    /// Starts to send. `instance` is who this replica is.
    pub fn start(client: Client, instance: String, metrics: &Metrics) -> Self {
        let (queue, notes) = mpsc::channel(QUEUE);
        let reporter = Reporter {
            controller: hale_crds::CONTROLLER_NAME.to_owned(),
            instance: Some(instance),
        };
        let results = metrics.events.clone();
        tokio::spawn(send(
            Recorder::new(client, reporter),
            notes,
            results.clone(),
        ));
        Self {
            queue,
            budgets: Budgets::default(),
            results,
        }
    }

    /// Sends the note, soon.
    pub fn tell(&mut self, note: Note, now: Instant) {
        let object = [
            &note.regarding.kind,
            &note.regarding.namespace,
            &note.regarding.name,
        ];
        let object = object.map(|part| part.clone().unwrap_or_default());
        if !self.budgets.spend(object, now) || self.queue.try_send(note).is_err() {
            count(&self.results, "dropped");
        }
    }
}

fn count(results: &Family<ResultLabel, Counter>, result: &'static str) {
    results.get_or_create(&ResultLabel { result }).inc();
}

async fn send(
    recorder: Recorder,
    mut notes: mpsc::Receiver<Note>,
    results: Family<ResultLabel, Counter>,
) {
    while let Some(note) = notes.recv().await {
        let event = Event {
            type_: note.type_,
            reason: note.reason.to_owned(),
            // The recorder takes Events for the same that differ in the note alone. What must stay apart goes here.
            action: shortened(&note.note, 128),
            note: Some(shortened(&note.note, 1024)),
            secondary: note.related,
        };
        let sent = recorder.publish(&event, &note.regarding);
        match tokio::time::timeout(TIMEOUT, sent).await {
            Ok(Ok(())) => count(&results, "ok"),
            Ok(Err(error)) => {
                tracing::debug!(reason = note.reason, %error, "an Event could not be sent");
                count(&results, "error");
            }
            Err(_) => count(&results, "error"),
        }
    }
}

/// What each object may still say.
#[derive(Default)]
struct Budgets(HashMap<[String; 3], (f64, Instant)>);

impl Budgets {
    fn spend(&mut self, object: [String; 3], now: Instant) -> bool {
        // An object that was quiet for long enough has its whole budget again, and need not be remembered.
        let whole = REFILL.mul_f64(BURST);
        self.0.retain(|_, (_, at)| now.duration_since(*at) < whole);
        let (left, at) = self.0.entry(object).or_insert((BURST, now));
        let earned = now.duration_since(*at).as_secs_f64() / REFILL.as_secs_f64();
        *left = (*left + earned).min(BURST);
        *at = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_a_burst_and_then_one_in_thirty_seconds() {
        let mut budgets = Budgets::default();
        let object = |name: &str| ["Ingress".to_owned(), "shop".to_owned(), name.to_owned()];
        let start = Instant::now();
        let burst = (0..100)
            .filter(|_| budgets.spend(object("a"), start))
            .count();
        assert_eq!(burst, 12);
        assert!(budgets.spend(object("b"), start));
        assert!(!budgets.spend(object("a"), start + Duration::from_secs(15)));
        assert!(budgets.spend(object("a"), start + Duration::from_secs(31)));
        assert!(!budgets.spend(object("a"), start + Duration::from_secs(31)));
    }
}
