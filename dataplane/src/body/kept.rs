//! What was received of a body, kept for another try.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::REPLAY_LIMIT;

/// What all bodies that are kept for another try may hold together, in the whole process.
const REPLAY_MEMORY: usize = 64 * 1024 * 1024;

/// Memory for kept bodies, under a bound. Above it nothing is kept, and so not tried again: a crowd of
/// uploads must not become an outage of its own.
pub(super) struct Memory {
    used: AtomicUsize,
    most: usize,
}

/// For bodies that stream while they are kept.
pub(super) static MEMORY: Memory = Memory::of(REPLAY_MEMORY);

impl Memory {
    pub(super) const fn of(most: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most,
        }
    }
}

/// A part of a [`Memory`], given back when dropped.
pub(super) struct Reserved {
    of: &'static Memory,
    size: usize,
}

impl Reserved {
    pub(super) fn new(of: &'static Memory) -> Self {
        Self { of, size: 0 }
    }

    /// Takes so much more. Returns false, and takes nothing, if there is not so much.
    pub(super) fn grow(&mut self, by: usize) -> bool {
        if self.of.used.fetch_add(by, Relaxed) + by > self.of.most {
            self.of.used.fetch_sub(by, Relaxed);
            return false;
        }
        self.size += by;
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.size > 0 {
            self.of.used.fetch_sub(self.size, Relaxed);
        }
    }
}

/// A body as far as it was received.
pub(super) struct Kept {
    pub(super) wanted: bool,
    pub(super) complete: bool,
    /// Bytes.
    size: usize,
    most: usize,
    /// At least as much as there is.
    memory: Reserved,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            wanted: false,
            complete: false,
            size: 0,
            most: REPLAY_LIMIT,
            memory: Reserved::new(&MEMORY),
            chunks: Vec::new(),
            trailers: None,
        }
    }
}

impl Kept {
    /// Keeps up to `most` bytes, in `memory` and more of it as needed.
    pub(super) fn within(most: usize, memory: Reserved) -> Self {
        Self {
            wanted: true,
            most,
            memory,
            ..Self::default()
        }
    }

    /// The frames again, the last one first, and their bytes.
    pub(super) fn frames(&self) -> (Vec<Frame<Bytes>>, u64) {
        let mut frames: Vec<Frame<Bytes>> = self.chunks.iter().cloned().map(Frame::data).collect();
        frames.extend(self.trailers.clone().map(Frame::trailers));
        frames.reverse();
        (frames, self.size as u64)
    }

    pub(super) fn saw(&mut self, frame: &Frame<Bytes>) {
        if !self.wanted {
            return;
        }
        if let Some(data) = frame.data_ref() {
            let size = self.size + data.len();
            let more = size.saturating_sub(self.memory.size);
            if size <= self.most && (more == 0 || self.memory.grow(more)) {
                self.size = size;
                self.chunks.push(data.clone());
            } else {
                *self = Self::default();
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http_body::Body;

    use super::*;
    use crate::body::Progress;

    fn data(size: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; size]))
    }

    fn keeping(memory: &'static Memory) -> Progress {
        let progress = Progress::default();
        progress.keep_all(REPLAY_LIMIT, Reserved::new(memory));
        progress
    }

    fn room(most: usize) -> &'static Memory {
        Box::leak(Box::new(Memory::of(most)))
    }

    #[test]
    fn a_body_is_kept_up_to_its_limit() {
        let memory = room(REPLAY_MEMORY);
        let progress = keeping(memory);
        progress.saw(&data(REPLAY_LIMIT));
        assert!(!progress.replayable(), "not all of it was seen");
        progress.ended();
        let replay = progress.replay().unwrap();
        assert_eq!(replay.size_hint().exact(), Some(REPLAY_LIMIT as u64));
        progress.saw(&data(1));
        assert!(progress.replay().is_none(), "one byte too many");
        assert_eq!(memory.used.load(Relaxed), 0);
    }

    #[test]
    fn bodies_are_kept_while_there_is_memory_for_them() {
        let memory = room(100);
        let (first, second) = (keeping(memory), keeping(memory));
        first.saw(&data(60));
        second.saw(&data(60));
        first.ended();
        second.ended();
        assert!(first.replayable());
        assert!(!second.replayable());
        first.forget();
        assert!(!first.replayable());
        assert_eq!(memory.used.load(Relaxed), 0);
        let third = keeping(memory);
        third.saw(&data(100));
        third.ended();
        assert!(third.replayable());
        drop(third);
        assert_eq!(memory.used.load(Relaxed), 0);
    }

    #[test]
    fn what_was_reserved_is_used_before_more_is_asked_for() {
        let memory = room(100);
        let mut reserved = Reserved::new(memory);
        assert!(reserved.grow(100));
        let progress = Progress::default();
        progress.keep_all(100, reserved);
        progress.saw(&data(40));
        progress.saw(&data(60));
        progress.ended();
        assert!(progress.replayable());
        assert_eq!(memory.used.load(Relaxed), 100);
        drop(progress);
        assert_eq!(memory.used.load(Relaxed), 0);
    }
}
