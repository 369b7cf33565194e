//! A client's body before it is given to a peer: what authorization asks of it is settled here.

use std::{net::IpAddr, rc::Rc, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use http_body::Body;
use hyper::body::Incoming;

use super::{
    BodyError, Check, Kind, Progress, REPLAY_LIMIT, RequestBody, Stream, discard,
    held::Held,
    kept::{self, Memory, Reserved},
    readers::Reader,
};
use crate::{
    auth::{
        AuthGuard, Outcome,
        access_key::{BodyCheck, Digests},
    },
    reason::Reason,
};

/// The largest body that is read before its request goes on.
const READ_LIMIT: usize = 1024 * 1024;
/// What all such bodies may hold together, in the whole process.
const READ_MEMORY: usize = 64 * 1024 * 1024;
/// For all of such a body: memory is not held for as long as somebody sends a byte now and then.
const READ_TIME: Duration = Duration::from_secs(60);

static MEMORY: Memory = Memory::of(READ_MEMORY);

/// A body that nobody has read, or that was read whole.
pub(crate) struct Upload {
    /// `None` once it was read.
    incoming: Option<Incoming>,
    /// Made when the body is first read: most requests have none.
    progress: Option<Rc<Progress>>,
    /// Whose headers the trailers may not have.
    guard: Option<Arc<AuthGuard>>,
    /// What it must have been when it has gone by.
    digests: Option<Digests>,
    /// Whether the rest of an unread body is read a little further, so that the client sees the answer. HTTP/2 would
    /// have to reset the stream for each DATA frame that is still on its way, and ends a connection after many.
    discard_rest: bool,
}

/// Why a body is not what a signature asks for.
pub(crate) enum Unmet {
    /// It was read, and is not the one.
    Refused(Outcome),
    /// It could not be read, or not be remembered.
    Unread(Outcome, Reason),
}

impl Upload {
    pub(crate) fn new(incoming: Incoming, discard_rest: bool) -> Self {
        Self {
            incoming: Some(incoming),
            progress: None,
            guard: None,
            digests: None,
            discard_rest,
        }
    }

    /// Its trailers may not have the headers that this guard's methods set.
    pub(crate) fn guarded_by(&mut self, guard: &Arc<AuthGuard>) {
        self.guard = Some(Arc::clone(guard));
    }

    /// Whether there is no body; one that must be the one that was signed is looked at in any case.
    pub(crate) fn is_empty(&self) -> bool {
        self.digests.is_none() && self.incoming.as_ref().is_some_and(Body::is_end_stream)
    }

    /// Whether only the body that was signed may go on.
    pub(crate) fn is_bound(&self) -> bool {
        self.digests.is_some() || self.incoming.is_none()
    }

    /// Sees to it that the body is the one that was signed: now, or when it has gone by.
    pub(crate) async fn meet(&mut self, check: BodyCheck, client: IpAddr) -> Result<(), Unmet> {
        match check {
            BodyCheck::Digests(digests) => match self.room_ahead(client) {
                Some((length, room, _reader)) => self.read_ahead(digests, length, room).await,
                None => {
                    self.digests = Some(digests);
                    Ok(())
                }
            },
            BodyCheck::Signature(pending) => {
                let crowded = Unmet::Unread(Outcome::Overloaded, Reason::Overloaded);
                let _reader = Reader::begin(client).ok_or(crowded)?;
                let mut hash = digest::Context::new(&digest::SHA256);
                let room = Reserved::new(&MEMORY);
                self.read_in_time(READ_LIMIT, room, |data| hash.update(data))
                    .await?;
                let digest = hash.finish();
                pending
                    .settle(digest.as_ref())
                    .map_err(|outcome| match outcome {
                        Outcome::Overloaded => Unmet::Unread(outcome, Reason::Overloaded),
                        outcome => Unmet::Refused(outcome),
                    })
            }
        }
    }

    /// Room for a body that is read before its request goes on though it could stream: it is not longer than what is
    /// kept for another try, and its peer can then not answer before it was looked at. Who finds no room is not
    /// refused: their body streams, and the answer is held back.
    fn room_ahead(&self, client: IpAddr) -> Option<(usize, Reserved, Reader)> {
        let length = self.incoming.as_ref()?.size_hint().exact()?;
        let length = usize::try_from(length).ok()?;
        if length > REPLAY_LIMIT {
            return None;
        }
        let mut room = Reserved::new(&kept::MEMORY);
        if !room.grow(length) {
            return None;
        }
        Some((length, room, Reader::begin(client)?))
    }

    /// Reads all of it, and keeps it if it is the one that was signed.
    async fn read_ahead(
        &mut self,
        digests: Digests,
        length: usize,
        room: Reserved,
    ) -> Result<(), Unmet> {
        let mut digester = digests.begin();
        self.read_in_time(length, room, |data| digester.update(data))
            .await?;
        match digester.finish() {
            true => Ok(()),
            false => Err(Unmet::Refused(Outcome::BodyMismatch)),
        }
    }

    async fn read_in_time(
        &mut self,
        most: usize,
        room: Reserved,
        look: impl FnMut(&[u8]),
    ) -> Result<(), Unmet> {
        let read = tokio::time::timeout(READ_TIME, self.read(most, room, look)).await;
        let silent = Unmet::Unread(Outcome::Malformed, Reason::BodyTimeout);
        read.unwrap_or(Err(silent))
    }

    /// Reads all of it, up to `most` bytes, and keeps it.
    async fn read(
        &mut self,
        most: usize,
        room: Reserved,
        mut look: impl FnMut(&[u8]),
    ) -> Result<(), Unmet> {
        let too_large = || Unmet::Unread(Outcome::BodyMismatch, Reason::BodyTooLarge);
        let told = self
            .incoming
            .as_ref()
            .map(|incoming| incoming.size_hint().lower());
        if told.is_some_and(|told| told > most as u64) {
            return Err(too_large());
        }
        let Some(incoming) = self.incoming.take() else {
            return Ok(());
        };
        let progress = self.progress();
        progress.keep_all(most, room);
        let guard = self.guard.clone();
        let mut stream = Stream::new(incoming, guard, None, self.discard_rest);
        loop {
            let frame = match std::future::poll_fn(|cx| stream.poll(&progress, cx)).await {
                None => return Ok(()),
                Some(Ok(frame)) => frame,
                Some(Err(BodyError::Idle(_) | BodyError::Deadline)) => {
                    return Err(Unmet::Unread(Outcome::Malformed, Reason::BodyTimeout));
                }
                Some(Err(_)) => return Err(Unmet::Unread(Outcome::Malformed, Reason::BadRequest)),
            };
            if let Some(data) = frame.data_ref() {
                look(data);
            }
            if progress.bytes.get() > most as u64 {
                return Err(too_large());
            }
            if !progress.keeps() {
                return Err(Unmet::Unread(Outcome::Overloaded, Reason::Overloaded));
            }
        }
    }

    fn progress(&mut self) -> Rc<Progress> {
        Rc::clone(self.progress.get_or_insert_default())
    }

    /// As it is given to a peer. `keep` keeps it for another try.
    pub(crate) fn into_body(mut self, keep: bool) -> (RequestBody, Rc<Progress>) {
        let progress = self.progress();
        let Some(incoming) = self.incoming.take() else {
            // What was read is whole, or its request would not have come here.
            let body = progress.replay().unwrap_or_else(RequestBody::empty);
            return (body, progress);
        };
        if keep {
            progress.keep();
        }
        let (discard, guard) = (self.discard_rest, self.guard.take());
        let body = match self.digests.take().map(Check::new) {
            None => RequestBody::stream(
                Stream::new(incoming, guard, None, discard),
                Rc::clone(&progress),
            ),
            check => {
                progress.hold(Held::new(Stream::new(incoming, guard, check, discard)));
                RequestBody(Kind::Held(Rc::clone(&progress)))
            }
        };
        (body, progress)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let rest = self.incoming.take().filter(|rest| !rest.is_end_stream());
        if let Some(rest) = rest.filter(|_| self.discard_rest) {
            tokio::task::spawn_local(discard(rest));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Request, Response, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::AsyncWriteExt,
        sync::mpsc,
        time::{Instant, sleep},
    };

    use super::*;

    /// What comes of reading a body of so many bytes, of which one is sent every `pause`.
    async fn read(
        length: usize,
        pause: Duration,
        memory: &'static Memory,
    ) -> Result<usize, Reason> {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (done, mut outcome) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            let done = done.clone();
            async move {
                let mut upload = Upload::new(request.into_body(), false);
                let room = Reserved::new(memory);
                let read = upload.read_in_time(READ_LIMIT, room, |_| {}).await;
                let kept = || {
                    let (body, _) = upload.into_body(false);
                    usize::try_from(body.size_hint().exact().unwrap()).unwrap()
                };
                let _ = done.send(match read {
                    Ok(_) => Ok(kept()),
                    Err(Unmet::Unread(_, reason)) => Err(reason),
                    Err(Unmet::Refused(outcome)) => panic!("{outcome:?}"),
                });
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        let client = async move {
            let (_answers, mut client) = tokio::io::split(client);
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
            client.write_all(head.as_bytes()).await?;
            for _ in 0..length {
                sleep(pause).await;
                client.write_all(b"x").await?;
            }
            // A client that goes away is not answered.
            std::future::pending::<std::io::Result<()>>().await
        };
        let server = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        // Both may end before the outcome is looked at.
        let work = async {
            let _ = futures::future::join(client, server).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = outcome.recv() => outcome.unwrap(),
            () = work => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_not_waited_for_as_long_as_its_bytes_trickle() {
        static MEMORY: Memory = Memory::of(1024);
        let slowly = Duration::from_secs(5);
        assert_eq!(read(11, slowly, &MEMORY).await, Ok(11));
        let start = Instant::now();
        assert_eq!(read(100, slowly, &MEMORY).await, Err(Reason::BodyTimeout));
        assert_eq!(start.elapsed(), READ_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn what_all_bodies_hold_has_an_end_and_is_given_back() {
        static MEMORY: Memory = Memory::of(1000);
        let at_once = Duration::ZERO;
        assert_eq!(read(1000, at_once, &MEMORY).await, Ok(1000));
        assert_eq!(read(1001, at_once, &MEMORY).await, Err(Reason::Overloaded));
        assert_eq!(read(1000, at_once, &MEMORY).await, Ok(1000));
        let pace = Duration::from_millis(1);
        let together = tokio::join!(read(600, pace, &MEMORY), read(600, pace, &MEMORY));
        assert!(
            matches!(
                together,
                (Err(Reason::Overloaded), _) | (_, Err(Reason::Overloaded))
            ),
            "{together:?}"
        );
    }
}
