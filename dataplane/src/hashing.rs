//! Threads for work that takes milliseconds by design: comparing passwords with their hashes.
//!
//! A data thread that hashed would keep all its connections waiting, so such work goes to a few threads of the lowest
//! priority, which use what the data threads leave. The queue in front of them is shared by namespaces and, within
//! each, by client networks ([`fair`]): they take turns, and in a full queue a newcomer displaces the newest job of
//! the largest holder. A client that guesses passwords waits for its own guesses.
//!
//! The writer of a Secret chooses what its hashes cost. Costly ones, of half a second and more, run on half of the
//! threads at most, and the other threads are left to cheaper ones.

use std::{
    fmt, io,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{fair, sanitize};

/// Jobs that wait, of all clients.
const QUEUE: usize = 256;
/// Jobs of one client that wait in one namespace.
const QUEUE_OF_ONE: u64 = 64;
/// For a job and its wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Every other thread of the machine goes before these.
const LOWEST_PRIORITY: i32 = 19;

/// There is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be checked")]
pub(crate) struct Busy;

/// Who asks for a hash, and which kind.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    /// The namespace of the policy.
    pub(crate) namespace: Arc<str>,
    /// The address of the client.
    pub(crate) client: IpAddr,
    /// Whether the hash takes half a second or more.
    pub(crate) costly: bool,
}

type Holder = fair::Holder<Arc<str>, Member>;
type Job = Box<dyn FnOnce() + Send>;

/// Clients wait by themselves in each lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    network: IpAddr,
    costly: bool,
}

/// The threads, and the queue in front of them. The threads end with it.
pub(crate) struct Hashing(Arc<Line>);

struct Line {
    state: Mutex<State>,
    more: Condvar,
    /// Threads that may run costly jobs at a time.
    costly_threads: usize,
}

struct State {
    queue: fair::Queue<Arc<str>, Member, Job>,
    /// Costly jobs that run.
    costly: usize,
    ended: bool,
}

/// A place in the queue, given up when it is dropped.
struct Place<'a> {
    line: &'a Line,
    ticket: fair::Ticket<Arc<str>, Member>,
}

impl Hashing {
    /// Starts half as many threads as there are processors, and at least two.
    pub(crate) fn start() -> io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = (processors / 2).max(2);
        let hashing = Self::idle(threads / 2);
        for index in 0..threads {
            let line = Arc::clone(&hashing.0);
            std::thread::Builder::new()
                .name(format!("hale-hash-{index}"))
                .spawn(move || line.work_off())?;
        }
        Ok(hashing)
    }

    /// Without threads.
    fn idle(costly_threads: usize) -> Self {
        Self(Arc::new(Line {
            state: Mutex::new(State {
                queue: fair::Queue::new(QUEUE),
                costly: 0,
                ended: false,
            }),
            more: Condvar::new(),
            costly_threads,
        }))
    }

    /// How much work there was so far.
    #[cfg(test)]
    pub(crate) fn entered(&self) -> u64 {
        self.0.lock().queue.entered()
    }

    /// Does the work on one of the threads. Work that has not begun is taken back when the future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        asker: Asker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move || {
            let _ = reply.send(work());
        });
        let place = self.0.enter(asker, work)?;
        // Displaced work is dropped, and its sender with it.
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
        write!(f, "Hashing({} wait)", self.0.lock().queue.len())
    }
}

impl Line {
    /// Held for the time of one step of the queue, which has at most 256 jobs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, asker: Asker, work: Job) -> Result<Place<'_>, Busy> {
        let member = Member {
            network: sanitize::network(asker.client),
            costly: asker.costly,
        };
        let holder = Holder::new(asker.namespace, member);
        let mut state = self.lock();
        if state.queue.len_of(&holder) >= QUEUE_OF_ONE {
            return Err(Busy);
        }
        let entered = state.queue.push(holder, work);
        drop(state);
        let entered = entered.map_err(|_| Busy)?;
        drop(entered.displaced);
        self.more.notify_one();
        Ok(Place {
            line: self,
            ticket: entered.ticket,
        })
    }

    /// The next job of the client whose turn it is, and whether it is a costly one; waits for one. `None` at the end.
    fn next(&self) -> Option<(bool, Job)> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            let room = state.costly < self.costly_threads;
            let next = (state.queue).pop_if(|holder| room || !holder.member.costly);
            if let Some((holder, job)) = next {
                state.costly += usize::from(holder.member.costly);
                return Some((holder.member.costly, job));
            }
            state = (self.more.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, costly: bool) {
        if costly {
            self.lock().costly -= 1;
            self.more.notify_one();
        }
    }

    /// What a thread does.
    fn work_off(&self) {
        // On Linux, no process means this thread.
        if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
            tracing::warn!(%error, "passwords are hashed at the priority of traffic");
        }
        while let Some((costly, job)) = self.next() {
            // Whoever waits sees that the sender is gone.
            let _ = catch_unwind(AssertUnwindSafe(job));
            self.done(costly);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let job = self.line.lock().queue.take(&self.ticket);
        drop(job);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
