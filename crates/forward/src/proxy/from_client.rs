use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::{Body, BoxError};

/// A request's body on its way: counted, and failed when its sender is silent for too long.
pub(super) struct FromClient {
    body: Body,
    bytes: Arc<AtomicU64>,
    silence: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl FromClient {
    pub(super) const fn new(body: Body, bytes: Arc<AtomicU64>, silence: Option<Duration>) -> Self {
        Self {
            body,
            bytes,
            silence,
            timer: None,
            waiting: false,
        }
    }
}

impl HttpBody for FromClient {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            if let Some(data) = frame
                .as_ref()
                .and_then(|frame| frame.as_ref().ok()?.data_ref())
            {
                this.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            return Poll::Ready(frame);
        }
        let Some(silence) = this.silence else {
            return Poll::Pending;
        };
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        if !this.waiting {
            this.waiting = true;
            timer.as_mut().reset(Instant::now() + silence);
        }
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(ClientSilent.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The client did not go on with its body in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientSilent;

impl fmt::Display for ClientSilent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client did not go on with its body in time")
    }
}

impl std::error::Error for ClientSilent {}
