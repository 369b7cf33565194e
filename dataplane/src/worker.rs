//! One data thread: its runtime, its connections and its pool. A request never leaves it.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use slab::Slab;
use tokio::{sync::watch, time::Instant};

use crate::{
    access_log::LogBuffer,
    admission::Gate,
    dataplane::Shared,
    listen::{
        self, Bound,
        guard::{CoarseClock, Guard, SWEEP},
    },
    pool::Pool,
    table::PeerTable,
};

mod wall;

use wall::Wall;

const DRAIN_TICK: Duration = Duration::from_millis(20);
/// Ticks without a request after which connections that do not end are left: 2 s.
const QUIET_TICKS: u32 = 100;

/// Runs hyper's tasks on this thread; they need not be `Send`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// What all workers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Serve.
    Serving,
    /// Serve, and tell clients to go elsewhere.
    Announced,
    /// Take no new connection, finish what is in flight.
    Draining,
    /// End.
    Stopped,
}

/// A table, held by the requests of one worker: counting them touches no other thread's memory.
pub(crate) struct Snapshot(Arc<PeerTable>);

impl std::ops::Deref for Snapshot {
    type Target = PeerTable;

    fn deref(&self) -> &PeerTable {
        &self.0
    }
}

/// The state of one worker. Lives on its thread.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) clock: Arc<CoarseClock>,
    pub(crate) connections: RefCell<Slab<Arc<Guard>>>,
    /// Upgraded connections: hyper has let go of them.
    pub(crate) tunnels: Cell<usize>,
    pub(crate) announced: Cell<bool>,
    table: RefCell<Rc<Snapshot>>,
    log: RefCell<Option<LogBuffer>>,
    started: Instant,
    wall: Wall,
    random: Cell<u64>,
}

impl Worker {
    fn new(shared: Arc<Shared>, index: u64) -> Self {
        let table = Rc::new(Snapshot(shared.table.load_full()));
        let seed = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(1, |since| u64::from(since.subsec_nanos()) << 8);
        Self {
            pool: Rc::new(Pool::new(index + 1)),
            clock: Arc::new(CoarseClock::new()),
            connections: RefCell::default(),
            tunnels: Cell::new(0),
            announced: Cell::new(false),
            table: RefCell::new(table),
            log: RefCell::new(shared.log.as_ref().map(crate::access_log::Log::buffer)),
            started: Instant::now(),
            wall: Wall::new(Instant::now(), SystemTime::now()),
            random: Cell::new(crate::balance::mix(seed ^ index) | 1),
            shared,
        }
    }

    /// The current table. Only a pointer is compared; the reference count stays on this thread.
    pub(crate) fn table(&self) -> Rc<Snapshot> {
        let current = self.shared.table.load();
        let mut cached = self.table.borrow_mut();
        if !Arc::ptr_eq(&current, &cached.0) {
            *cached = Rc::new(Snapshot(Arc::clone(&current)));
        }
        Rc::clone(&cached)
    }

    /// The next random number (xorshift64*): for jitter, not for secrets.
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A random duration below `most`: full jitter.
    pub(crate) fn jitter(&self, most: Duration) -> Duration {
        let share = (self.random() >> 11) as f64 / (1_u64 << 53) as f64;
        most.mul_f64(share)
    }

    /// Wall-clock time of an instant, by the system's clock as it was with the last sweep.
    pub(crate) fn wall(&self, at: Instant) -> SystemTime {
        self.wall.at(at)
    }

    /// Milliseconds since this worker began.
    pub(crate) fn elapsed_ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn log(&self, record: &crate::access_log::Record<'_>) {
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.push(record);
        }
    }

    pub(crate) fn logs(&self) -> bool {
        self.shared.log.is_some()
    }

    /// Closes an idle connection of an upstream that has too many, of this worker or of another: whoever waits
    /// is woken when it is closed.
    pub(crate) fn make_room(&self, gate: &Arc<Gate>) {
        if !self.pool.evict(gate) {
            gate.want(self.pool.id());
            self.shared.reclaim.send_modify(|count| *count += 1);
        }
    }

    fn sweep(&self, tick: u64) {
        self.clock.set(self.started.elapsed());
        self.wall.set(Instant::now(), SystemTime::now());
        for (_, guard) in self.connections.borrow().iter() {
            guard.sweep();
        }
        if tick.is_multiple_of(4) {
            self.pool.prune(Instant::now());
            // A table that nobody uses any more is let go.
            drop(self.table());
        }
    }

    fn flush_log(&self) {
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.flush();
        }
    }

    /// What is still in flight: requests and tunnels.
    fn in_flight(&self) -> usize {
        let requests: usize = self
            .connections
            .borrow()
            .iter()
            .map(|(_, guard)| guard.active() as usize)
            .sum();
        requests + self.tunnels.get()
    }

    /// Asks connections to end when their requests are answered.
    fn finish(&self, which: impl Fn(&Guard) -> bool) {
        for (_, guard) in self.connections.borrow().iter() {
            if which(guard) {
                guard.finish();
            }
        }
    }
}

/// The thread's main function: accepts, serves, and returns when told to stop. Gives the number of
/// requests that were cut.
pub(crate) fn run(shared: Arc<Shared>, index: u64, bound: Vec<Bound>) -> io::Result<usize> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let mut stages = shared.stage.subscribe();
        let worker = Rc::new(Worker::new(Arc::clone(&shared), index));
        tokio::task::spawn_local(house_keeping(Rc::clone(&worker)));
        tokio::task::spawn_local(follow_table(Rc::clone(&worker), shared.changes.subscribe()));
        tokio::task::spawn_local(follow_wants(Rc::clone(&worker), shared.reclaim.subscribe()));
        let mut accepting = Vec::new();
        for bound in bound {
            accepting.push(tokio::task::spawn_local(listen::accept(
                Rc::clone(&worker),
                bound,
            )));
        }
        let cut = drain(&worker, &mut stages, &accepting).await;
        worker.flush_log();
        Ok(cut)
    })
}

/// Waits for the stages of a shutdown. Gives the number of requests that were cut.
async fn drain(
    worker: &Rc<Worker>,
    stages: &mut watch::Receiver<Stage>,
    accepting: &[tokio::task::JoinHandle<()>],
) -> usize {
    // The sender lives as long as the dataplane; without it there is nothing to serve for.
    let _ = stages.wait_for(|stage| *stage >= Stage::Announced).await;
    worker.announced.set(true);
    worker.finish(Guard::is_multiplexed);
    let _ = stages.wait_for(|stage| *stage >= Stage::Draining).await;
    for task in accepting {
        task.abort();
    }
    let mut tick = tokio::time::interval(DRAIN_TICK);
    let mut quiet = 0;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                worker.finish(|_| true);
                // A connection whose last answer is still being written has no request any more; one that
                // does not end for another reason is not waited for.
                quiet = if worker.in_flight() == 0 { quiet + 1 } else { 0 };
                let all_ended = worker.connections.borrow().is_empty() && worker.tunnels.get() == 0;
                if all_ended || quiet > QUIET_TICKS {
                    return 0;
                }
            }
            _ = stages.wait_for(|stage| *stage >= Stage::Stopped) => return worker.in_flight(),
        }
    }
}

async fn house_keeping(worker: Rc<Worker>) {
    let mut sweep = tokio::time::interval(SWEEP);
    let mut flush = tokio::time::interval(Duration::from_millis(100));
    let mut ticks = 0;
    loop {
        tokio::select! {
            _ = sweep.tick() => {
                ticks += 1;
                worker.sweep(ticks);
            }
            _ = flush.tick() => worker.flush_log(),
        }
    }
}

/// Lets go at once of connections to peers that drain, fail or leave.
async fn follow_table(worker: Rc<Worker>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        worker.pool.prune(Instant::now());
    }
}

/// Closes idle connections that other workers want room for.
async fn follow_wants(worker: Rc<Worker>, mut wants: watch::Receiver<u64>) {
    while wants.changed().await.is_ok() {
        worker.pool.give_way();
    }
}
