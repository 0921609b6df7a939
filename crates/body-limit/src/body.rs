use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A body that fails with [`LengthLimitError`] at its limit. Trailers are not counted.
    #[derive(Debug)]
    pub struct Limited<B> {
        #[pin]
        body: B,
        left: u64,
        ended: bool,
        exceeded: Option<Arc<AtomicBool>>,
    }
}

impl<B: Body> Limited<B> {
    /// `body`, up to `limit` bytes. A body that knows its length and keeps within the limit needs no flag to tell
    /// that it went beyond.
    pub(crate) fn new(body: B, limit: u64) -> Self {
        let fits = body.size_hint().upper().is_some_and(|most| most <= limit);
        let exceeded = (!fits).then(Arc::default);
        Self {
            body,
            left: limit,
            ended: false,
            exceeded,
        }
    }

    pub(crate) fn exceeded(&self) -> Option<Arc<AtomicBool>> {
        self.exceeded.clone()
    }
}

impl<B> Body for Limited<B>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    type Data = B::Data;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(this.body.poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                *this.ended = true;
                return Poll::Ready(Some(Err(error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        let len = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        let Some(left) = this.left.checked_sub(len) else {
            *this.ended = true;
            if let Some(exceeded) = this.exceeded {
                exceeded.store(true, Relaxed);
            }
            return Poll::Ready(Some(Err(Box::new(LengthLimitError))));
        };
        *this.left = left;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        // What goes beyond the limit never comes.
        if hint.lower() <= self.left && hint.upper().is_none_or(|most| most > self.left) {
            hint.set_upper(self.left);
        }
        hint
    }
}

/// The body is larger than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LengthLimitError;

impl LengthLimitError {
    /// Whether `error` is this one, or was caused by it.
    #[must_use]
    pub fn caused(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl fmt::Display for LengthLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is larger than allowed")
    }
}

impl Error for LengthLimitError {}
