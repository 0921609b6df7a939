use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http::{Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::record::Record;

pin_project! {
    /// The answer's body; when it ends or is dropped, the line is written.
    #[derive(Debug)]
    pub struct AccessLogBody<B> {
        #[pin]
        inner: B,
        pending: Option<Pending>,
    }
}

impl<B: Body> AccessLogBody<B> {
    pub(super) fn new(inner: B, mut pending: Option<Pending>) -> Self {
        if inner.is_end_stream()
            && let Some(pending) = &mut pending
        {
            pending.complete = true;
        }
        Self { inner, pending }
    }
}

impl<B: Body> Body for AccessLogBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(pending) = this.pending {
                    let sent = frame.data_ref().map_or(0, Buf::remaining);
                    pending.record.bytes += u64::try_from(sent).unwrap_or(u64::MAX);
                    // A server need not ask again after this.
                    pending.complete |=
                        this.inner.is_end_stream() || pending.length == Some(pending.record.bytes);
                }
            }
            Some(Err(_)) => {
                if let Some(pending) = this.pending {
                    pending.complete = false;
                }
                *this.pending = None;
            }
            None => {
                if let Some(pending) = this.pending {
                    pending.complete = true;
                }
                *this.pending = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A line that is written when this is dropped.
#[derive(Debug)]
pub(super) struct Pending {
    record: Record,
    /// How long the body is, if that is known.
    length: Option<u64>,
    complete: bool,
}

impl Pending {
    pub(super) const fn new(record: Record) -> Self {
        Self {
            record,
            length: None,
            complete: false,
        }
    }

    pub(super) fn answered<B: Body>(&mut self, response: &Response<B>) {
        self.record.answered(response);
        self.length = response.body().size_hint().exact();
        let status = response.status();
        self.complete = self.length == Some(0)
            || self.record.method() == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    }

    pub(super) fn failed(&mut self) {
        self.record.failed();
        self.complete = true;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.record.write(!self.complete);
    }
}
