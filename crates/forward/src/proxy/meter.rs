use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, StatusCode, request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use proactions_edge::{ClientInfo, Principal, Rejection, RequestId};
use tokio::time::Instant;

use crate::{BoxError, SendError, SendErrorKind, UpstreamBody};

/// One exchange, from the moment its proxy is known until its answer has ended. When it is dropped it leaves one
/// event in the log, whichever way it ended.
pub(super) struct Meter {
    proxy: Arc<str>,
    started: Instant,
    method: Method,
    client: Option<ClientInfo>,
    request_id: Option<RequestId>,
    principal: Option<Principal>,
    upstream_status: Option<StatusCode>,
    status: Option<StatusCode>,
    redirects: u64,
    /// Of the request's body, or from the client through a tunnel.
    pub(super) received: Arc<AtomicU64>,
    /// Of the answer's body, or to the client through a tunnel.
    pub(super) sent: Arc<AtomicU64>,
    ending: Ending,
}

enum Ending {
    ClientLeft,
    Complete,
    /// A name for the log, the details, and whether an operator should look.
    Failed(&'static str, String, bool),
}

impl Meter {
    pub(super) fn new(proxy: &Arc<str>, head: &request::Parts) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            started: Instant::now(),
            method: head.method.clone(),
            client: head.extensions.get().cloned(),
            request_id: head.extensions.get().cloned(),
            principal: head.extensions.get().cloned(),
            upstream_status: None,
            status: None,
            redirects: 0,
            received: Arc::default(),
            sent: Arc::default(),
            ending: Ending::ClientLeft,
        }
    }

    pub(super) const fn answered(&mut self, status: StatusCode) {
        self.upstream_status = Some(status);
        self.status = Some(status);
    }

    pub(super) const fn redirected(&mut self, status: StatusCode) {
        self.upstream_status = Some(status);
        self.redirects += 1;
    }

    /// The request is not sent; gives back what the client is told.
    pub(super) fn refused(&mut self, rejection: Rejection) -> Rejection {
        self.status = Some(rejection.status());
        self.ending = Ending::Failed("refused", rejection.message().to_owned(), false);
        rejection
    }

    /// There is no answer to pass on; gives back what the client is told.
    pub(super) fn failed(&mut self, error: &SendError) -> Rejection {
        let rejection = error.rejection();
        self.status = Some(rejection.status());
        self.broke(error);
        rejection
    }

    pub(super) fn failed_as(&mut self, name: &'static str, rejection: Rejection) -> Rejection {
        self.status = Some(rejection.status());
        self.ending = Ending::Failed(name, rejection.message().to_owned(), true);
        rejection
    }

    pub(super) fn tunnel_ended(&mut self, why: Option<(&'static str, String)>) {
        self.ending = match why {
            None => Ending::Complete,
            Some((name, details)) => Ending::Failed(name, details, false),
        };
    }

    fn broke(&mut self, error: &SendError) {
        let by_client = matches!(
            error.kind(),
            SendErrorKind::RequestBody | SendErrorKind::RequestTimeout
        );
        self.ending = Ending::Failed(error.kind().as_str(), error.to_string(), !by_client);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let duration = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // The event's level has to be a constant.
        macro_rules! event {
            ($level:ident, $message:literal, $outcome:expr, $error:expr) => {
                tracing::$level!(
                    target: "proxy",
                    requestId = self.request_id.as_ref().map(RequestId::as_str),
                    username = self.principal.as_ref().map(|principal| &*principal.id),
                    ip = self.client.as_ref().map(|client| tracing::field::display(client.ip)),
                    proxy = &*self.proxy,
                    method = self.method.as_str(),
                    upstreamStatus = self.upstream_status.map(|status| status.as_u16()),
                    statusCode = self.status.map(|status| status.as_u16()),
                    duration,
                    bytesReceived = self.received.load(Ordering::Relaxed),
                    bytesSent = self.sent.load(Ordering::Relaxed),
                    redirects = (self.redirects > 0).then_some(self.redirects),
                    outcome = $outcome,
                    error = $error,
                    $message
                )
            };
        }
        match &self.ending {
            Ending::Complete => event!(info, "request forwarded", "complete", None::<&str>),
            Ending::ClientLeft => event!(
                info,
                "forwarded request left by the client",
                "client_left",
                None::<&str>
            ),
            Ending::Failed(name, details, false) => event!(
                info,
                "forwarded request ended early",
                *name,
                Some(details.as_str())
            ),
            Ending::Failed(name, details, true) => event!(
                error,
                "request could not be forwarded",
                *name,
                Some(details.as_str())
            ),
        }
    }
}

/// An answer's body on its way.
pub(super) struct Metered {
    body: UpstreamBody,
    meter: Meter,
}

impl Metered {
    pub(super) fn new(body: UpstreamBody, mut meter: Meter) -> Self {
        if body.is_end_stream() {
            meter.ending = Ending::Complete;
        }
        Self { body, meter }
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let sent = &this.meter.sent;
                    sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                if this.body.is_end_stream() {
                    this.meter.ending = Ending::Complete;
                }
            }
            Some(Err(error)) => this.meter.broke(error),
            None => this.meter.ending = Ending::Complete,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
