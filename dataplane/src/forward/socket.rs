//! The socket of a connection to a peer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::pool::Busy;

/// A socket that can be read after its peer has stopped reading: a peer that answers early (413, 401) and closes
/// resets the connection while the body is still written, and its answer is there to be read all the same
/// (RFC 9112 §9.6). hyper would give up with the first failed write.
pub(crate) struct Socket {
    stream: TcpStream,
    /// How a write failed; what is written since then is dropped.
    broken: Option<io::ErrorKind>,
    busy: Busy,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, busy: Busy) -> Self {
        Self {
            stream,
            broken: None,
            busy,
        }
    }

    /// Takes `length` bytes as written if the peer has stopped reading.
    fn written(
        &mut self,
        length: usize,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.broken = Some(error.kind());
                Poll::Ready(Ok(length))
            }
            polled => polled,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.busy.get() {
            // Without it the connection ends as any other: nothing depends on it.
            let _ = SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match (self.broken, &polled) {
            (Some(kind), Poll::Ready(Ok(()))) if buffer.filled().len() == before => {
                Poll::Ready(Err(kind.into()))
            }
            _ => polled,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.broken.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(bytes.len(), polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.broken.is_some() {
            return Poll::Ready(Ok(length));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(length, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken.is_some() || self.busy.get() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
