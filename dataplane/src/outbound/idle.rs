//! Connections of one origin that wait for the next question.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout};

use super::Sender;

/// Connections kept for the next question.
const MOST: usize = 16;
/// For how long.
const KEPT_FOR: Duration = Duration::from_secs(20);
/// For how long the rest of an answer is read that nobody waits for.
const REST_FOR: Duration = Duration::from_secs(1);

/// Connections that wait.
#[derive(Default)]
pub(super) struct Idle {
    kept: Mutex<Vec<Kept>>,
    /// Connections whose answers are read to their ends first.
    finishing: AtomicUsize,
}

struct Kept {
    sender: Sender,
    since: Instant,
}

impl Idle {
    /// A connection that is still open, as far as is known. Whoever finds the list taken opens another.
    pub(super) fn take(&self) -> Option<Sender> {
        let mut kept = self.kept.try_lock().ok()?;
        while let Some(kept) = kept.pop() {
            if kept.since.elapsed() < KEPT_FOR && !kept.sender.is_closed() {
                return Some(kept.sender);
            }
        }
        None
    }

    pub(super) fn keep(&self, sender: Sender) {
        let Ok(mut kept) = self.kept.try_lock() else {
            return;
        };
        if !sender.is_closed() {
            let since = Instant::now();
            kept.retain(|kept| kept.since.elapsed() < KEPT_FOR && !kept.sender.is_closed());
            if kept.len() < MOST {
                kept.push(Kept { sender, since });
            }
        }
    }

    /// Keeps a connection once the rest of its answer has come. Where that is too much, too slow or too many at a
    /// time, the connection is let go of.
    pub(super) fn keep_after(self: &Arc<Self>, sender: Sender, rest: Incoming, most: usize) {
        if rest.is_end_stream() {
            return self.keep(sender);
        }
        let finishing = Finishing::begin(Arc::clone(self));
        if let Some(finishing) = finishing {
            tokio::spawn(async move {
                if let Ok(true) = timeout(REST_FOR, is_read(rest, most)).await {
                    finishing.0.keep(sender);
                }
            });
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.lock().map_or(0, |kept| kept.len())
    }
}

/// Counts a connection while the rest of its answer is read.
struct Finishing(Arc<Idle>);

impl Finishing {
    fn begin(idle: Arc<Idle>) -> Option<Self> {
        let before = idle.finishing.fetch_add(1, Relaxed);
        let begun = Self(idle);
        (before < MOST).then_some(begun)
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        self.0.finishing.fetch_sub(1, Relaxed);
    }
}

/// Reads up to so many bytes: whether that was all of them.
async fn is_read(mut rest: Incoming, most: usize) -> bool {
    let mut left = most;
    while let Some(frame) = rest.frame().await {
        let length = frame.map(|frame| frame.data_ref().map_or(0, Bytes::len));
        match length.ok().and_then(|length| left.checked_sub(length)) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}
