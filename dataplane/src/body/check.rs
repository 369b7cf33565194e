//! A body that must be the one that was signed, looked at on its way.
//!
//! Its last piece is held back until the digest of the whole is known, so a peer never sees the end of another.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::auth::access_key::{Digester, Digests};

/// What was seen of it.
pub(super) struct Check {
    /// `None` when the end was reached.
    digester: Option<Digester>,
    passed: bool,
    held: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Check {
    pub(super) fn new(digests: Digests) -> Box<Self> {
        Box::new(Self {
            digester: Some(digests.begin()),
            passed: false,
            held: None,
            trailers: None,
        })
    }

    /// Takes a frame, and gives the one that it follows.
    pub(super) fn take(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                return None;
            }
        };
        // Nothing is no piece: what goes before it might be the last one.
        if data.is_empty() {
            return None;
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&data);
        }
        self.held.replace(data).map(Frame::data)
    }

    /// There is no more. Gives whether it is the body that was signed.
    pub(super) fn end(&mut self) -> bool {
        self.passed = self.digester.take().is_some_and(Digester::finish);
        if !self.passed {
            self.held = None;
            self.trailers = None;
        }
        self.passed
    }

    /// Whether it is the body that was signed.
    pub(super) fn has_passed(&self) -> bool {
        self.passed
    }

    /// What was held back, once it has passed.
    pub(super) fn release(&mut self) -> Option<Frame<Bytes>> {
        let data = self.held.take().map(Frame::data);
        data.or_else(|| self.trailers.take().map(Frame::trailers))
    }

    /// Whether all of it was given away.
    pub(super) fn is_done(&self) -> bool {
        self.passed && self.held.is_none() && self.trailers.is_none()
    }

    /// Bytes held back.
    pub(super) fn held(&self) -> u64 {
        self.held.as_ref().map_or(0, |data| data.len() as u64)
    }
}
