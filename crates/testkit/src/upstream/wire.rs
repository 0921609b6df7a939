//! A socket that records what it reads and can end with a reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::log::Log;

#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    log: Arc<Log>,
    connection: usize,
    reset: Arc<AtomicBool>,
}

impl Wire {
    pub(super) fn new(
        stream: TcpStream,
        log: Arc<Log>,
        connection: usize,
        reset: Arc<AtomicBool>,
    ) -> Self {
        Self {
            stream,
            log,
            connection,
            reset,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
        self.log
            .change(|entries| entries.connections[self.connection].open = false);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            self.log.change(|entries| {
                let wire = &mut entries.connections[self.connection].wire;
                let room = self.log.record_limit.saturating_sub(wire.len());
                wire.extend_from_slice(&read[..read.len().min(room)]);
            });
        }
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A shutdown sends FIN, and the reset that was asked for would come too late.
        if self.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
