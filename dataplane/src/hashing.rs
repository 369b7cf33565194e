//! Threads for work that takes milliseconds by design: comparing passwords with their hashes.
//!
//! A data thread that hashed would keep all its connections waiting, so such work goes to a few threads of the lowest
//! priority, which use what the data threads leave. The queue in front of them is short: who does not fit is told at
//! once, instead of waiting for an answer that comes when nobody waits any more. In the queue, clients take turns, and
//! each has a part of it alone: whoever guesses passwords waits for their own guesses.

use std::{
    fmt, io,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use crate::sanitize;

/// How much waits, of all clients.
const QUEUE: usize = 64;
/// How much waits of one client; of IPv6 of one network of 64 bits.
const QUEUE_OF_ONE: usize = 16;
/// How long work and the wait for it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What every other thread of the machine goes before.
const LOWEST_PRIORITY: i32 = 19;

/// There is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be checked")]
pub(crate) struct Busy;

/// The threads, and the queue in front of them. The threads end with it.
pub(crate) struct Hashing(Arc<Queue>);

struct Queue {
    state: Mutex<State>,
    more: Condvar,
    /// Of `State::jobs`, so that a flood is turned away without the lock.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// At most [`QUEUE`].
    jobs: Vec<Job>,
    /// The round that is under way: each client has one job in each.
    round: u64,
    next: u64,
    ended: bool,
}

struct Job {
    number: u64,
    round: u64,
    client: IpAddr,
    work: Box<dyn FnOnce() + Send>,
}

/// A place in the queue, given up when it is dropped.
struct Place<'a> {
    queue: &'a Queue,
    number: u64,
}

impl Hashing {
    /// Starts half as many threads as there are processors.
    pub(crate) fn start() -> io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let hashing = Self::idle();
        for index in 0..(processors / 2).max(1) {
            let queue = Arc::clone(&hashing.0);
            std::thread::Builder::new()
                .name(format!("hale-hash-{index}"))
                .spawn(move || queue.work_off())?;
        }
        Ok(hashing)
    }

    /// Without threads.
    fn idle() -> Self {
        Self(Arc::new(Queue {
            state: Mutex::default(),
            more: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// How much work there was so far.
    #[cfg(test)]
    pub(crate) fn entered(&self) -> u64 {
        self.0.lock().next
    }

    /// Does the work on one of the threads. Work that has not begun is taken back when the future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        client: IpAddr,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move || {
            let _ = reply.send(work());
        });
        let place = self.0.enter(client, work)?;
        let result = tokio::time::timeout(PATIENCE, answer).await;
        drop(place);
        result.ok().and_then(Result::ok).ok_or(Busy)
    }
}

impl Drop for Hashing {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.more.notify_all();
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Hashing({} wait)",
            self.0.waiting.load(Ordering::Relaxed)
        )
    }
}

impl Queue {
    /// Held for the time of a glance at 64 places.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, client: IpAddr, work: Box<dyn FnOnce() + Send>) -> Result<Place<'_>, Busy> {
        if self.waiting.load(Ordering::Relaxed) >= QUEUE {
            return Err(Busy);
        }
        let client = sanitize::network(client);
        let mut state = self.lock();
        let (mut own, mut round) = (0, state.round);
        for job in state.jobs.iter().filter(|job| job.client == client) {
            own += 1;
            round = round.max(job.round + 1);
        }
        if own >= QUEUE_OF_ONE || state.jobs.len() >= QUEUE {
            return Err(Busy);
        }
        let number = state.next;
        state.next += 1;
        state.jobs.push(Job {
            number,
            round,
            client,
            work,
        });
        self.waiting.store(state.jobs.len(), Ordering::Relaxed);
        drop(state);
        self.more.notify_one();
        Ok(Place {
            queue: self,
            number,
        })
    }

    /// Takes what matches best out of the queue.
    fn take(&self, state: &mut State, which: impl Fn(&[Job]) -> Option<usize>) -> Option<Job> {
        let index = which(&state.jobs)?;
        let job = state.jobs.swap_remove(index);
        self.waiting.store(state.jobs.len(), Ordering::Relaxed);
        Some(job)
    }

    /// The next job of the client whose turn it is; waits for one. `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            let first = |jobs: &[Job]| {
                let jobs = jobs.iter().enumerate();
                let first = jobs.min_by_key(|(_, job)| (job.round, job.number));
                first.map(|(index, _)| index)
            };
            if let Some(job) = self.take(&mut state, first) {
                state.round = job.round;
                return Some(job);
            }
            state = (self.more.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a thread does.
    fn work_off(&self) {
        // On Linux, no process means this thread.
        if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
            tracing::warn!(%error, "passwords are hashed at the priority of traffic");
        }
        while let Some(job) = self.next() {
            // Whoever waits sees that the sender is gone.
            let _ = catch_unwind(AssertUnwindSafe(job.work));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        let own = |jobs: &[Job]| jobs.iter().position(|job| job.number == self.number);
        let job = self.queue.take(&mut state, own);
        drop(state);
        drop(job);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
