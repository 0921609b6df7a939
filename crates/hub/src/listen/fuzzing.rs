//! Runs the guard before hyper over bytes in memory.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::connection::Protocol;
use super::guard::{Guarded, Verdicts};

/// What came through the guard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "nothing outside of the fuzz targets reads it"
)]
pub struct Passed {
    /// What hyper would have read, without the placeholder for a head that was refused.
    pub bytes: Vec<u8>,
    /// Which request was refused, from 0, and why.
    pub refused: Option<(usize, &'static str)>,
    /// Whether the connection was given up in the middle of a body.
    pub broken: bool,
}

/// What passes the guard of bytes that come in these pieces, to a reader with a buffer of `room` bytes.
#[must_use]
pub fn pass(pieces: &[&[u8]], room: usize, max_head: usize, max_headers: usize) -> Passed {
    let verdicts = Arc::new(Verdicts::default());
    let pieces = Pieces(pieces.iter().map(|piece| piece.to_vec()).collect());
    let mut guarded = Guarded::new(
        pieces,
        Protocol::Either,
        max_head,
        max_headers,
        Arc::clone(&verdicts),
    );
    let mut context = Context::from_waker(Waker::noop());
    let mut passed = Passed::default();
    let mut room = vec![0; room.max(1)];
    loop {
        let mut buf = ReadBuf::new(&mut room);
        match Pin::new(&mut guarded).poll_read(&mut context, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                passed.bytes.extend_from_slice(buf.filled());
            }
            Poll::Ready(Ok(())) | Poll::Pending => break,
            Poll::Ready(Err(_)) => {
                passed.broken = true;
                break;
            }
        }
    }
    passed.refused = verdicts.refused();
    if passed.refused.is_some() {
        let own = passed
            .bytes
            .len()
            .saturating_sub(super::guard::PLACEHOLDER.len());
        passed.bytes.truncate(own);
    }
    passed
}

struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}
