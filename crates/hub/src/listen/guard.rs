//! Reads HTTP/1 before hyper does, and lets only what has one meaning pass.
//!
//! hyper accepts more than the grammar allows (bare line feeds, a length beside a transfer coding), hides some of
//! it (the fragment of a target), and answers what it does not accept by itself, without the hub's headers and
//! log. Here a head is held back until it is whole, and checked. In the place of one that is refused hyper gets a
//! plain request, which [`Verdicts`] tells the listener to have answered with the refusal; nothing after it is
//! read. The framing of bodies is followed, so that the next head is known to be one.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Protocol;
use super::framing::{Body, Malformed, Search, check_head, search_end, too_large};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What hyper reads in the place of a head that is refused.
pub(super) const PLACEHOLDER: &[u8] =
    b"GET / HTTP/1.1\r\nhost: invalid\r\nconnection: close\r\n\r\n";

/// How much a client may still send after a refusal, and for how long, so that closing does not reset the
/// connection before the client has read why.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// Which request of a connection is refused, and why: what the guard tells the listener.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// Requests that were passed on, a refused one included.
    passed: AtomicU64,
    /// Requests that hyper has handed over.
    seen: AtomicU64,
    refused: OnceLock<(u64, Malformed)>,
    /// Why the connection is not read any more, if a body or the preface was at fault.
    broken: OnceLock<Malformed>,
    opaque: AtomicBool,
    /// Whether the beginning of a head has come, and not its end.
    holds_a_head: AtomicBool,
}

impl Verdicts {
    /// Why the next request that hyper hands over is refused, if it is.
    pub(super) fn next(&self) -> Option<Malformed> {
        let index = self.seen.fetch_add(1, Relaxed);
        let (refused, why) = self.refused.get()?;
        (*refused == index).then_some(*why)
    }

    /// What was at fault behind a head, if anything was.
    pub(super) fn broken(&self) -> Option<Malformed> {
        self.broken.get().copied()
    }

    #[cfg(feature = "fuzzing")]
    pub(super) fn refused(&self) -> Option<(usize, &'static str)> {
        let (index, why) = self.refused.get()?;
        Some((usize::try_from(*index).ok()?, why.as_str()))
    }

    pub(super) fn holds_a_head(&self) -> bool {
        self.holds_a_head.load(Relaxed)
    }

    #[cfg(test)]
    pub(super) fn hold_a_head(&self) {
        self.holds_a_head.store(true, Relaxed);
    }

    /// From now on the bytes are another protocol's.
    pub(super) fn upgraded(&self) {
        self.opaque.store(true, Relaxed);
    }
}

#[derive(Debug)]
enum State {
    /// The first bytes may still be the preface of HTTP/2.
    Begin,
    /// HTTP/2 was agreed on, and nothing else may come. hyper-util would look for itself, whatever it is told.
    Preface,
    Head,
    Body(Body),
    /// A body is at fault: what came before it is passed on, then reading fails.
    Broken(Malformed),
    /// Nothing is looked at any more: HTTP/2, or another protocol.
    Opaque,
    /// Nothing is passed on any more.
    Refused,
}

pin_project! {
    /// A stream that is read through the guard.
    #[derive(Debug)]
    pub(super) struct Guarded<T> {
        #[pin]
        stream: T,
        state: State,
        // What was read and not passed on.
        held: BytesMut,
        // How much of `held`, from its beginning, may be passed on.
        cleared: usize,
        // How much of what is held was searched for the end of a head.
        searched: usize,
        max_head: usize,
        max_headers: usize,
        verdicts: Arc<Verdicts>,
        // Boxed, because a connection that can be upgraded has to be `Unpin`.
        linger: Option<Pin<Box<tokio::time::Sleep>>>,
        lingered: usize,
        closed: bool,
    }
}

impl<T> Guarded<T> {
    pub(super) fn new(
        stream: T,
        protocol: Protocol,
        max_head: usize,
        max_headers: usize,
        verdicts: Arc<Verdicts>,
    ) -> Self {
        Self {
            stream,
            state: match protocol {
                Protocol::Either => State::Begin,
                Protocol::Http1 => State::Head,
                Protocol::Http2 => State::Preface,
            },
            held: BytesMut::new(),
            cleared: 0,
            searched: 0,
            max_head,
            max_headers,
            verdicts,
            linger: None,
            lingered: 0,
            closed: false,
        }
    }
}

/// What the guard makes of the bytes that it holds.
struct Sorter<'a> {
    state: &'a mut State,
    searched: usize,
    max_head: usize,
    max_headers: usize,
    verdicts: &'a Verdicts,
}

impl Sorter<'_> {
    /// How many of `bytes` may be passed on. In [`State::Refused`] the placeholder is to follow them.
    fn clear(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return at;
            }
            match self.state {
                State::Begin | State::Preface => {
                    let len = rest.len().min(PREFACE.len());
                    if rest.get(..len) != PREFACE.get(..len) {
                        *self.state = match self.state {
                            State::Preface => self.broken(Malformed::Preface),
                            _ => State::Head,
                        };
                        // What was compared with the preface was not searched for the end of a head.
                        self.searched = 0;
                    } else if len < PREFACE.len() {
                        return at;
                    } else {
                        *self.state = State::Opaque;
                    }
                }
                State::Opaque => return bytes.len(),
                State::Refused | State::Broken(_) => return at,
                State::Head => match self.head(rest, if at == 0 { self.searched } else { 0 }) {
                    None => return at,
                    Some(Ok((len, body))) => {
                        self.verdicts.passed.fetch_add(1, Relaxed);
                        at += len;
                        if body != Body::None {
                            *self.state = State::Body(body);
                        }
                    }
                    Some(Err(why)) => {
                        let index = self.verdicts.passed.fetch_add(1, Relaxed);
                        let _ = self.verdicts.refused.set((index, why));
                        *self.state = State::Refused;
                        return at;
                    }
                },
                State::Body(body) => match body.advance(rest) {
                    Ok(len) => {
                        at += len;
                        if matches!(self.state, State::Body(Body::None)) {
                            *self.state = State::Head;
                        }
                    }
                    Err(why) => *self.state = self.broken(why),
                },
            }
        }
    }

    fn broken(&self, why: Malformed) -> State {
        let _ = self.verdicts.broken.set(why);
        State::Broken(why)
    }

    fn head(&self, bytes: &[u8], searched: usize) -> Option<Result<(usize, Body), Malformed>> {
        // A line end before a request line is passed over (RFC 9112, section 2.2).
        let blank = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
        let rest = bytes.get(blank..).unwrap_or_default();
        // What is beyond is not looked at, so that the verdict does not depend on how much has come at once.
        let head = rest.get(..self.max_head).unwrap_or(rest);
        match search_end(head, searched.saturating_sub(blank).min(head.len())) {
            Search::Found(len) => {
                let head = head.get(..len).unwrap_or_default();
                Some(check_head(head, self.max_headers).map(|body| (blank + len, body)))
            }
            Search::Hopeless => Some(Err(Malformed::LineEnd)),
            Search::Incomplete if rest.len() <= self.max_head => None,
            Search::Incomplete => Some(Err(too_large(head))),
        }
    }
}

impl<T: AsyncRead> AsyncRead for Guarded<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut this = self.project();
        loop {
            if *this.cleared > 0 {
                let len = (*this.cleared).min(buf.remaining());
                buf.put_slice(this.held.get(..len).unwrap_or_default());
                this.held.advance(len);
                *this.cleared -= len;
                return Poll::Ready(Ok(()));
            }
            if let State::Broken(why) = this.state {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    why.as_str(),
                )));
            }
            if matches!(this.state, State::Refused) {
                // hyper waits for the end of a connection that is not read any more by other means.
                return Poll::Pending;
            }
            if this.verdicts.opaque.load(Relaxed) && !matches!(this.state, State::Opaque) {
                *this.state = State::Opaque;
                *this.cleared = this.held.len();
                continue;
            }
            if this.held.is_empty() && matches!(this.state, State::Opaque) {
                return this.stream.poll_read(cx, buf);
            }
            let before = buf.filled().len();
            ready!(this.stream.as_mut().poll_read(cx, buf))?;
            let came = buf.filled().len() - before;
            if came == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut sorter = Sorter {
                state: this.state,
                searched: *this.searched,
                max_head: *this.max_head,
                max_headers: *this.max_headers,
                verdicts: this.verdicts,
            };
            if this.held.is_empty() {
                // The usual case: what came is passed on where it is.
                let bytes = buf.filled().get(before..).unwrap_or_default();
                let cleared = sorter.clear(bytes);
                if cleared < came && !matches!(this.state, State::Refused | State::Broken(_)) {
                    let rest = bytes.get(cleared..).unwrap_or_default();
                    this.held.extend_from_slice(rest);
                    *this.searched = rest.len();
                }
                buf.set_filled(before + cleared);
                if matches!(this.state, State::Refused) {
                    this.held.extend_from_slice(PLACEHOLDER);
                    *this.cleared = PLACEHOLDER.len();
                }
                let begun = matches!(this.state, State::Head) && !this.held.is_empty();
                this.verdicts.holds_a_head.store(begun, Relaxed);
                if cleared > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                let bytes = buf.filled().get(before..).unwrap_or_default();
                this.held.extend_from_slice(bytes);
                buf.set_filled(before);
                *this.cleared = sorter.clear(this.held);
                if matches!(this.state, State::Refused) {
                    this.held.truncate(*this.cleared);
                    this.held.extend_from_slice(PLACEHOLDER);
                    *this.cleared = this.held.len();
                }
                *this.searched = this.held.len() - *this.cleared;
                let begun = matches!(this.state, State::Head) && *this.searched > 0;
                this.verdicts.holds_a_head.store(begun, Relaxed);
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite> AsyncWrite for Guarded<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if !*this.closed {
            ready!(this.stream.as_mut().poll_shutdown(cx))?;
            *this.closed = true;
        }
        if !matches!(this.state, State::Refused) {
            return Poll::Ready(Ok(()));
        }
        if this.linger.is_none() {
            *this.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        if let Some(linger) = this.linger.as_mut()
            && linger.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Ok(()));
        }
        let mut rest = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut rest);
            match ready!(this.stream.as_mut().poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() && *this.lingered < LINGER_BYTES => {
                    *this.lingered += buf.filled().len();
                }
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_head_that_began_like_the_preface_ends_where_it_ends() {
        let sent = b"PRI * HTTP/2.0\r\n\r\nf\n";
        for cut in 1..sent.len() {
            let (first, second) = sent.split_at(cut);
            let verdicts = Arc::new(Verdicts::default());
            let stream = AsyncReadExt::chain(first, second);
            let mut guarded =
                Guarded::new(stream, Protocol::Either, 1024, 16, Arc::clone(&verdicts));
            let mut read = vec![0; 256];
            let len = guarded.read(&mut read).await.unwrap();
            assert_eq!(read.get(..len), Some(PLACEHOLDER), "cut at {cut}");
            let refused = verdicts.refused.get();
            assert_eq!(refused, Some(&(0, Malformed::Target)), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn it_tells_that_the_beginning_of_a_head_is_there() {
        let one = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let two = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";
        let sent = format!("{one}{two}abc");
        for cut in 1..sent.len() {
            let (first, second) = sent.as_bytes().split_at(cut);
            let verdicts = Arc::new(Verdicts::default());
            let (mut client, stream) = tokio::io::duplex(256);
            let mut guarded =
                Guarded::new(stream, Protocol::Http1, 1024, 16, Arc::clone(&verdicts));
            let mut read = vec![0; 256];
            client.write_all(first).await.unwrap();
            while timeout(Duration::ZERO, guarded.read(&mut read))
                .await
                .is_ok()
            {}
            let whole = cut == one.len() || cut >= one.len() + two.len();
            assert_eq!(verdicts.holds_a_head(), !whole, "cut at {cut}");
            client.write_all(second).await.unwrap();
            while timeout(Duration::ZERO, guarded.read(&mut read))
                .await
                .is_ok()
            {}
            assert!(!verdicts.holds_a_head(), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn the_verdict_on_a_large_head_does_not_depend_on_its_packets() {
        let sent = format!("GET / HTTP/1.1\r\nHost: {}\n\r\n", "h".repeat(1024));
        for first in [sent.len(), 900, 1024, 1025, 1040] {
            let (first, second) = sent.as_bytes().split_at(first);
            let verdicts = Arc::new(Verdicts::default());
            let stream = AsyncReadExt::chain(first, second);
            let mut guarded =
                Guarded::new(stream, Protocol::Http1, 1024, 16, Arc::clone(&verdicts));
            let mut read = vec![0; 4096];
            let _ = guarded.read(&mut read).await.unwrap();
            let refused = verdicts.refused.get();
            assert_eq!(refused, Some(&(0, Malformed::HeadTooLarge)), "{first:?}");
        }
    }
}
