//! What the targets share: how one input is taken apart, and how a future is driven that waits for nobody.
//!
//! Inputs are texts as far as possible, so that seeds can be read and a found one can be understood: one line for each
//! thing that a target wants to know, then what is to be read.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The first line, without its end, and what follows.
#[must_use]
pub fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[]),
    }
}

/// The first line as text, and what follows.
#[must_use]
pub fn text_line(data: &[u8]) -> Option<(&str, &[u8])> {
    let (first, rest) = line(data);
    Some((std::str::from_utf8(first).ok()?, rest))
}

/// `data` in pieces whose sizes are told by the bytes of `sizes`, over and over: `a` or `A` is 1, `z` is 26.
#[must_use]
pub fn cut<'d>(mut data: &'d [u8], sizes: &[u8]) -> Vec<&'d [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if data.is_empty() {
            break;
        }
        let (piece, rest) = data.split_at(usize::from(size & 31).clamp(1, data.len()));
        pieces.push(piece);
        data = rest;
    }
    if !data.is_empty() {
        pieces.push(data);
    }
    pieces
}

/// What a future gives that waits for nothing outside of itself.
///
/// # Panics
/// When it waits all the same.
pub fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    // A future may ask to be polled again at once; the limit is far beyond what any of them needs.
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("the future waits for something that does not come");
}

/// A body that comes in these pieces.
#[derive(Debug)]
pub struct Pieces(std::vec::IntoIter<Bytes>);

impl Pieces {
    /// A copy of them.
    #[must_use]
    pub fn new(pieces: &[&[u8]]) -> Self {
        let copies: Vec<_> = pieces
            .iter()
            .map(|piece| Bytes::copy_from_slice(piece))
            .collect();
        Self(copies.into_iter())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The bytes with every percent escape undone once; `None` if one is broken.
#[must_use]
pub fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let digits = rest.get(..2)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            let digits = std::str::from_utf8(digits).ok()?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            decoded.push(*byte);
        }
    }
    Some(decoded)
}

/// The header fields of lines `name: value`; lines that are none are passed over.
#[must_use]
pub fn headers(data: &[u8]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(200) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        let value = http::HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
