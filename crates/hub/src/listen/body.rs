use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::activity::{InFlight, Part};

pin_project! {
    /// An answer's body that keeps its request in flight until the last part of it was sent, or dropped.
    #[derive(Debug)]
    pub(super) struct InFlightBody<B> {
        #[pin]
        body: B,
        in_flight: Option<InFlight>,
    }
}

impl<B> InFlightBody<B> {
    pub(super) fn new(body: B, in_flight: Option<InFlight>) -> Self {
        Self { body, in_flight }
    }
}

impl<B: Body<Data = Bytes>> Body for InFlightBody<B> {
    type Data = Sending;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Sending>, B::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        if let Some(in_flight) = this.in_flight.as_mut() {
            in_flight.set_awaited(polled.is_pending());
        }
        polled.map_ok(|frame| {
            frame.map_data(|bytes| Sending {
                bytes,
                part: this.in_flight.as_ref().map(InFlight::part),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that tell when they are written.
#[derive(Debug)]
pub(super) struct Sending {
    bytes: Bytes,
    part: Option<Part>,
}

impl Buf for Sending {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(dst)
    }

    fn advance(&mut self, count: usize) {
        if let Some(part) = &self.part {
            part.taken();
        }
        self.bytes.advance(count);
    }
}
