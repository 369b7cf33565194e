//! Which replica writes statuses and Events: one Lease, and one holder.
//!
//! Clocks of machines differ, so nobody's timestamps are compared: a candidate takes the Lease when it has seen
//! the same record for the record's whole duration, by its own clock. Only writing depends on the Lease; traffic
//! never does.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::api_error::explain;

/// What is needed to stand for election.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this is: unique among replicas.
    pub identity: String,
    /// How long a holder that is not heard of keeps the Lease.
    pub ttl: Duration,
}

/// This replica's part in the election, running in the background.
#[derive(Debug)]
pub struct Leadership {
    leads: watch::Receiver<bool>,
    release: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Leadership {
    /// Stands for election until released.
    pub fn stand(client: Client, candidate: Candidate) -> Self {
        let (sender, leads) = watch::channel(false);
        let (release, released) = oneshot::channel();
        let election = Election {
            api: Api::namespaced(client, &candidate.namespace),
            candidate,
            record: Record::default(),
            renewed: None,
            leads: sender,
            failure: None,
        };
        let task = tokio::spawn(election.run(released));
        Self {
            leads,
            release,
            task,
        }
    }

    /// Whether this replica leads; changes are told.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// Gives the Lease up, if this replica holds it, so that another can lead at once.
    pub async fn release(self) {
        let _ = self.release.send(());
        // The task ends by itself; if it panicked, the Lease runs out.
        let _ = self.task.await;
    }
}

struct Election {
    api: Api<Lease>,
    candidate: Candidate,
    record: Record,
    /// When this replica last wrote the Lease, if it holds it.
    renewed: Option<Instant>,
    leads: watch::Sender<bool>,
    failure: Option<String>,
}

impl Election {
    async fn run(mut self, mut released: oneshot::Receiver<()>) {
        loop {
            let step = tokio::time::timeout(self.candidate.ttl / 3, self.step());
            let failure = tokio::select! {
                _ = &mut released => break,
                outcome = step => match outcome {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(explain(&error)),
                    Err(_) => Some("the API server does not answer in time".to_owned()),
                },
            };
            if let Some(error) = self.news(failure) {
                tracing::warn!(
                    lease = self.candidate.name,
                    error,
                    "cannot read or write the Lease"
                );
            }
            self.abdicate_when_late(Instant::now());
            let pause = if self.renewed.is_some() {
                self.candidate.ttl / 3
            } else {
                // More often than a leader renews, so that a released Lease is soon taken.
                self.candidate.ttl / 6
            };
            tokio::select! {
                _ = &mut released => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        if self.renewed.take().is_some() {
            self.leads.send_replace(false);
            match tokio::time::timeout(Duration::from_secs(3), self.give_up()).await {
                Ok(Ok(())) => tracing::info!(lease = self.candidate.name, "released the Lease"),
                Ok(Err(error)) => tracing::warn!(%error, "cannot release the Lease; it runs out"),
                Err(_) => tracing::warn!("cannot release the Lease in time; it runs out"),
            }
        }
    }

    /// The failure, unless it is the one that was logged last: an API server may be away for hours.
    fn news(&mut self, failure: Option<String>) -> Option<String> {
        let news = failure.clone().filter(|_| failure != self.failure);
        self.failure = failure;
        news
    }

    /// A leader that could not renew for two thirds of the duration stops leading, well before another may begin.
    fn abdicate_when_late(&mut self, now: Instant) {
        if let Some(renewed) = self.renewed
            && now.duration_since(renewed) >= self.candidate.ttl * 2 / 3
        {
            tracing::warn!(
                lease = self.candidate.name,
                "stopped leading: the Lease could not be renewed"
            );
            self.renewed = None;
            self.leads.send_replace(false);
        }
    }

    async fn step(&mut self) -> Result<(), kube::Error> {
        let asked = Instant::now();
        let params = PostParams::default();
        let name = self.candidate.name.clone();
        let written = match self.api.get_opt(&name).await? {
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(claim(&self.candidate, None, Timestamp::now())),
                };
                self.api.create(&params, &lease).await
            }
            Some(mut lease) => {
                let spec = lease.spec.take().unwrap_or_default();
                if !self
                    .record
                    .may_take(&spec, &self.candidate.identity, Instant::now())
                {
                    if self.renewed.take().is_some() {
                        tracing::warn!(
                            lease = name,
                            "stopped leading: another replica holds the Lease"
                        );
                    }
                    self.leads.send_if_modified(std::mem::take);
                    return Ok(());
                }
                lease.spec = Some(claim(&self.candidate, Some(&spec), Timestamp::now()));
                // The resourceVersion that was read goes along: of two writers, one is refused.
                self.api.replace(&name, &params, &lease).await
            }
        };
        match written {
            Ok(_) => {
                if self.renewed.replace(asked).is_none() {
                    tracing::info!(
                        lease = name,
                        identity = self.candidate.identity,
                        "leading: this replica writes statuses and Events"
                    );
                }
                self.leads
                    .send_if_modified(|leads| !std::mem::replace(leads, true));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn give_up(&mut self) -> Result<(), kube::Error> {
        let mut lease = self.api.get(&self.candidate.name).await?;
        let Some(spec) = &mut lease.spec else {
            return Ok(());
        };
        if spec.holder_identity.as_deref() != Some(&self.candidate.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        let params = PostParams::default();
        self.api
            .replace(&self.candidate.name, &params, &lease)
            .await?;
        Ok(())
    }
}

/// The record of a holder, as it is written.
fn claim(candidate: &Candidate, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let before = before.cloned().unwrap_or_default();
    let mine = before.holder_identity.as_deref() == Some(&candidate.identity);
    let changes_hands = !mine && before.holder_identity.is_some();
    let transitions = before.lease_transitions.unwrap_or(0);
    LeaseSpec {
        acquire_time: before
            .acquire_time
            .filter(|_| mine)
            .or(Some(MicroTime(now))),
        lease_transitions: Some(transitions.saturating_add(i32::from(changes_hands))),
        holder_identity: Some(candidate.identity.clone()),
        lease_duration_seconds: i32::try_from(candidate.ttl.as_secs().max(1)).ok(),
        renew_time: Some(MicroTime(now)),
        ..before
    }
}

/// The record that was seen last, and since when by our own clock.
#[derive(Debug, Default)]
struct Record {
    seen: Option<(LeaseSpec, Instant)>,
}

impl Record {
    /// Whether the Lease may be written by `me`: it is mine, nobody's, or has not changed for its duration.
    fn may_take(&mut self, spec: &LeaseSpec, me: &str, now: Instant) -> bool {
        let since = match &self.seen {
            Some((seen, since)) if seen == spec => *since,
            _ => {
                self.seen = Some((spec.clone(), now));
                now
            }
        };
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        holder.is_empty()
            || holder == me
            || now.duration_since(since) >= Duration::from_secs(seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn candidate(identity: &str) -> Candidate {
        Candidate {
            namespace: "hale".into(),
            name: "hale-leader".into(),
            identity: identity.into(),
            ttl: Duration::from_secs(15),
        }
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_does_not_change_runs_out_by_our_own_clock() {
        // Written by a machine whose clock is a year behind.
        let theirs = claim(&candidate("b"), None, time(-31_536_000));
        let mut record = Record::default();
        assert!(!record.may_take(&theirs, "a", Instant::now()));
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(!record.may_take(&theirs, "a", Instant::now()));
        let renewed = claim(&candidate("b"), Some(&theirs), time(-31_535_995));
        assert!(!record.may_take(&renewed, "a", Instant::now()));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert!(record.may_take(&renewed, "a", Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_lease_and_our_own_are_taken_at_once() {
        let mut record = Record::default();
        let mut spec = claim(&candidate("a"), None, time(0));
        assert!(record.may_take(&spec, "a", Instant::now()));
        spec.holder_identity = Some(String::new());
        assert!(record.may_take(&spec, "b", Instant::now()));
    }

    #[test]
    fn a_change_of_holder_is_counted_and_a_renewal_is_not() {
        let first = claim(&candidate("a"), None, time(0));
        let renewed = claim(&candidate("a"), Some(&first), time(5));
        assert_eq!(renewed.lease_transitions, first.lease_transitions);
        assert_eq!(renewed.acquire_time, first.acquire_time);
        let taken = claim(&candidate("b"), Some(&renewed), time(9));
        assert_eq!(taken.lease_transitions, Some(1));
        assert_eq!(taken.acquire_time, Some(MicroTime(time(9))));
    }
}
