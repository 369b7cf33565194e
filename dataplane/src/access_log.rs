//! One JSON object a line for each request, written without a lock on the request path.
//!
//! Each worker fills a buffer of its own. Full buffers, and what a timer finds, go through a bounded
//! channel to one writer thread. When the writer cannot keep up lines are dropped and counted: a slow disk
//! or terminal must not slow requests down.
//!
//! What may hold secrets is not in a [`Record`]: no query, no header but `User-Agent`, and of credentials only whose
//! they were.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    time::{Duration, SystemTime},
};

use http::{Method, Version};

use crate::{
    AccessLog,
    auth::Note,
    config::{ObjectRef, UpstreamId},
    metrics::Outcome,
    reason::Reason,
};

mod json;

/// What is logged of a request.
#[derive(Clone, Debug)]
pub(crate) struct Record<'a> {
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
    /// Who sent it and what came of asking; `None` on routes that are open.
    pub auth: Option<&'a Note>,
    /// The `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// Every attempt, in order.
    pub attempts: &'a [Attempt],
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The peer.
    pub peer: SocketAddr,
    /// What came of it.
    pub outcome: Outcome,
}

/// A worker hands its buffer on when it holds this much.
const FULL: usize = 32 * 1024;
/// Buffers that wait for the writer, over all workers: 4 MiB.
const WAITING: usize = 128;

/// What the writer is told.
#[derive(Debug)]
enum Message {
    Lines(Vec<u8>),
    /// Everything before this is written when the sender is dropped.
    Written(SyncSender<()>),
}

/// The access log of a process.
#[derive(Debug)]
pub(crate) struct Log {
    dropped: Arc<AtomicU64>,
    writer: SyncSender<Message>,
}

impl Log {
    /// Opens the target and starts the writer thread; `None` if the log is off. A file is appended to.
    pub(crate) fn open(target: &AccessLog) -> io::Result<Option<Self>> {
        match target {
            AccessLog::Off => Ok(None),
            AccessLog::Stdout => Self::to(Box::new(io::stdout())).map(Some),
            AccessLog::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path)?;
                Self::to(Box::new(file)).map(Some)
            }
        }
    }

    fn to(out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(WAITING);
        std::thread::Builder::new()
            .name("hale-access-log".to_owned())
            .spawn(move || write(out, &receiver))?;
        Ok(Self {
            dropped: Arc::default(),
            writer: sender,
        })
    }

    /// A buffer for one worker.
    pub(crate) fn buffer(&self) -> LogBuffer {
        LogBuffer {
            text: Vec::new(),
            lines: 0,
            dropped: Arc::clone(&self.dropped),
            writer: self.writer.clone(),
        }
    }

    /// Lines that were dropped so far, to be watched.
    pub(crate) fn dropped_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.dropped)
    }

    /// Waits until everything that was handed on is written. For the end of the process.
    pub(crate) fn close(&self) {
        let (sender, receiver) = mpsc::sync_channel(0);
        if self.writer.send(Message::Written(sender)).is_ok() {
            // An error is the answer: the writer came to our message and let it go.
            let _ = receiver.recv();
        }
    }
}

/// The writer thread: ends with the last buffer and the log itself.
fn write(mut out: Box<dyn Write + Send>, lines: &Receiver<Message>) {
    let mut failing = false;
    while let Ok(message) = lines.recv() {
        match message {
            Message::Lines(text) => {
                let result = out.write_all(&text).and_then(|()| out.flush());
                if let Err(error) = &result
                    && !failing
                {
                    tracing::warn!(%error, "the access log cannot be written");
                }
                failing = result.is_err();
            }
            Message::Written(done) => drop(done),
        }
    }
}

/// The part of the log that belongs to one worker.
#[derive(Debug)]
pub(crate) struct LogBuffer {
    text: Vec<u8>,
    lines: u64,
    dropped: Arc<AtomicU64>,
    writer: SyncSender<Message>,
}

impl LogBuffer {
    /// Adds a line; hands the buffer on when it is full.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        if self.text.capacity() == 0 {
            // Room for the line that makes it full, too.
            self.text.reserve_exact(FULL + 4 * 1024);
        }
        record.write_json(&mut self.text);
        self.lines += 1;
        if self.text.len() >= FULL {
            self.flush();
        }
    }

    /// Hands on what there is. To be called every 100 ms or so; dropping the buffer does it, too.
    pub(crate) fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.text);
        if self.writer.try_send(Message::Lines(text)).is_err() {
            self.dropped.fetch_add(self.lines, Ordering::Relaxed);
        }
        self.lines = 0;
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
