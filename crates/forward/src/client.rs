use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame, SizeHint};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use crate::direct::{Direct, Driven};
use crate::egress::EgressConnector;
use crate::gather::Gathered;
use crate::headers::strip_response;
use crate::{Body, BoxError, EgressPolicy, HttpClientConfig, Outgoing, SendError, SendErrorKind};

/// How long resolving, connecting and the TLS handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Shorter than the 60 to 75 seconds after which common servers close an idle connection, so that a request
/// seldom meets a connection that is just being closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);

const POOL_MAX_IDLE_PER_HOST: usize = 256;

/// How long an answer's failure waits for what came before it to leave: when a body fails, hyper and h2 drop what they
/// have not written yet, the head too.
const LEAVE_TIME: Duration = Duration::from_millis(100);

/// How much of an answer an HTTP/1 connection reads ahead for a client that reads slowly, in bytes. An answer's head has
/// to fit in.
pub(crate) const READ_AHEAD: usize = 128 * 1024;

/// How fast a body that is there as a whole is sent at least, in bytes a second. Nobody sees how far it has come.
const UPLOAD_RATE: u64 = 256 * 1024;

/// Calls upstreams: pooled connections, HTTP/1.1 and HTTP/2 (by ALPN), deadlines. It follows no redirect,
/// keeps no cookie and repeats no request that may have reached the upstream; only a request that met a pooled
/// connection at its end, before a byte of it was sent, is sent on another one.
///
/// Cloning is cheap; clones share the pool.
#[derive(Clone)]
pub struct HttpClient {
    pool: Arc<dyn Dispatch>,
    timeout: Duration,
    /// What a proxy for plain HTTP wants to see on each request.
    proxy_credentials: Option<HeaderValue>,
    plain_proxy: bool,
}

/// Which protocols a client speaks over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocols {
    Any,
    /// What is asked of it needs HTTP/1.1: an upgrade, or a `Host` of one's own.
    Http1,
}

impl HttpClient {
    /// A client that speaks TLS as `tls` says, and plain HTTP where a URL says `http`. It may call any host.
    #[must_use]
    pub fn new(config: &HttpClientConfig, tls: rustls::ClientConfig) -> Self {
        Self::with_egress(config, tls, &EgressPolicy::open())
    }

    /// As [`HttpClient::new`], within these rules about where a connection may go.
    #[must_use]
    pub fn with_egress(
        config: &HttpClientConfig,
        tls: rustls::ClientConfig,
        egress: &EgressPolicy,
    ) -> Self {
        Self::speaking(config, tls.clone(), tls, egress, Protocols::Any)
    }

    /// `tls` is for the upstream, `to_proxy` for an outbound proxy that is spoken to over TLS.
    pub(crate) fn speaking(
        config: &HttpClientConfig,
        mut tls: rustls::ClientConfig,
        mut to_proxy: rustls::ClientConfig,
        egress: &EgressPolicy,
        protocols: Protocols,
    ) -> Self {
        // The connector sets these itself, and refuses to take others. A proxy is spoken to in HTTP/1.1.
        tls.alpn_protocols.clear();
        to_proxy.alpn_protocols.clear();
        let connector = EgressConnector::new(egress, Some(Arc::new(to_proxy)));
        let builder = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1();
        let connector = match protocols {
            Protocols::Any => builder.enable_http2().wrap_connector(connector),
            Protocols::Http1 => builder.wrap_connector(connector),
        };
        Self::with_connector(config, connector).through(egress)
    }

    /// A client for plain HTTP only; a URL with `https` fails.
    #[must_use]
    pub fn without_tls(config: &HttpClientConfig) -> Self {
        Self::without_tls_within(config, &EgressPolicy::open())
    }

    /// As [`HttpClient::without_tls`], within these rules about where a connection may go.
    #[must_use]
    pub fn without_tls_within(config: &HttpClientConfig, egress: &EgressPolicy) -> Self {
        Self::with_connector(config, EgressConnector::new(egress, None)).through(egress)
    }

    fn through(mut self, egress: &EgressPolicy) -> Self {
        if let Some(proxy) = egress.proxy() {
            self.plain_proxy = true;
            self.proxy_credentials.clone_from(&proxy.credentials);
        }
        self
    }

    /// A client over other connections: through a proxy, in a test, or with rules of one's own about where a
    /// connection may go.
    #[must_use]
    pub fn with_connector<C>(config: &HttpClientConfig, connector: C) -> Self
    where
        C: Service<Uri> + Clone + Send + Sync + 'static,
        C::Response: Read + Write + Connection + Send + Unpin + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send + Unpin + 'static,
    {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
            .http1_max_buf_size(READ_AHEAD)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build::<_, Body>(ConnectDeadline(connector.clone()));
        let direct = Direct::new(
            ConnectDeadline(connector),
            POOL_MAX_IDLE_PER_HOST,
            POOL_IDLE_TIMEOUT,
        );
        Self {
            pool: Arc::new(Pools { client, direct }),
            timeout: config.timeout(),
            proxy_credentials: None,
            plain_proxy: false,
        }
    }

    /// How long an upstream may be silent where a request says nothing else.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How much longer an upstream may be silent for a body of so many bytes that is there as a whole.
    #[must_use]
    pub const fn time_to_send(bytes: u64) -> Duration {
        Duration::from_millis(bytes.saturating_mul(1000) / UPLOAD_RATE)
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// Dropping the future, or the answer's body, ends the call: an HTTP/1 connection is closed, an HTTP/2
    /// stream is reset. The answer's head holds neither hop-by-hop fields nor what
    /// [`strip_response`](crate::headers::strip_response) lists. An answer 101 is a failure, and so is one whose
    /// body has failed by the time that its head is here.
    ///
    /// # Errors
    /// When there is no answer in time, or none at all, or one that cannot be passed on, or the egress rules do not
    /// allow the connection.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Response<UpstreamBody>, SendError> {
        let silence = outgoing.timeout.unwrap_or(self.timeout);
        let response = self.exchange(outgoing).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::protocol(
                "it switched protocols without being asked",
            ));
        }
        cleaned(response, silence).await
    }

    /// Sends a request that may end in another protocol. The answer is as the upstream gave it; unless it is 101,
    /// it belongs through [`cleaned`].
    pub(crate) async fn exchange(&self, outgoing: Outgoing) -> Result<Response<Driven>, SendError> {
        let silence = outgoing.timeout.unwrap_or(self.timeout);
        let upgrade = outgoing.is_upgrade();
        let mut request = outgoing.into_request();
        let proxied = self.plain_proxy && request.uri().scheme() == Some(&Scheme::HTTP);
        if let Some(credentials) = self.proxy_credentials.as_ref().filter(|_| proxied) {
            let name = http::header::PROXY_AUTHORIZATION;
            request.headers_mut().insert(name, credentials.clone());
        }
        let request_id = request.headers().get("x-request-id").cloned();
        let (request, upload) = Upload::watch(request);
        let time_to_send = match &upload {
            None => Self::time_to_send(request.body().size_hint().exact().unwrap_or_default()),
            Some(_) => Duration::ZERO,
        };
        // A task has to drive a connection that may outlive its answer, or whose request is still being sent while
        // nobody reads the answer.
        let direct = upload.is_none() && !upgrade && request.uri().scheme() == Some(&Scheme::HTTP);
        let mut call = if direct {
            self.pool.direct(request)
        } else {
            self.pool.dispatch(request)
        };
        let mut wait = silence + time_to_send;
        let response = loop {
            match tokio::time::timeout(wait, call.as_mut()).await {
                Ok(response) => break response,
                // While the client is still sending, the upstream has nothing to answer yet.
                Err(_) => match upload.as_ref().and_then(|upload| upload.time_left(silence)) {
                    Some(left) => wait = left,
                    None if upload.as_ref().is_some_and(|upload| upload.is_awaited()) => {
                        return Err(SendError::client_silent());
                    }
                    None => return Err(SendError::timeout()),
                },
            }
        };
        let response = response.inspect_err(|error| {
            if error.kind() == SendErrorKind::Refused {
                tracing::warn!(
                    target: "security",
                    event = "egress_refused",
                    requestId = request_id.as_ref().and_then(|id| id.to_str().ok()),
                    error = %error,
                    "an outgoing connection was refused",
                );
            }
        })?;
        if proxied && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(SendError::connect(
                "the outbound proxy refuses the credentials (407)",
            ));
        }
        if !response.body().is_end_stream() && is_coded(response.headers()) {
            return Err(SendError::protocol(
                "it used another transfer coding than chunked",
            ));
        }
        Ok(response)
    }

    pub(crate) const fn silence(&self) -> Duration {
        self.timeout
    }
}

/// Whether a body is more than chunked. What else was done to it is undone nowhere, and the field that names it is not
/// passed on.
fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers
        .get_all(TRANSFER_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(<[u8]>::trim_ascii);
    match codings.next() {
        None => false,
        Some(first) => !first.eq_ignore_ascii_case(b"chunked") || codings.next().is_some(),
    }
}

/// An answer without what must not reach a client.
///
/// # Errors
/// When its body has failed already, before any of it came. Nothing is waited for.
pub(crate) async fn cleaned(
    response: Response<Driven>,
    silence: Duration,
) -> Result<Response<UpstreamBody>, SendError> {
    let (mut head, body) = response.into_parts();
    strip_response(&mut head.headers);
    head.version = http::Version::HTTP_11;
    // hyper leaves types of its own there, such as handles on the connection.
    head.extensions.clear();
    let mut body = UpstreamBody::new(body, silence);
    body.begin().await?;
    Ok(Response::from_parts(head, body))
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// When a request's body was last moved on, so that a long upload is not taken for a silent upstream.
struct Upload {
    started: tokio::time::Instant,
    /// In milliseconds since the start.
    moved: AtomicU64,
    /// There is room for more of it, and its sender has not sent more.
    awaited: AtomicBool,
}

impl Upload {
    /// Watches the request's body, unless it is there as a whole.
    fn watch(request: Request<Body>) -> (Request<Body>, Option<Arc<Self>>) {
        if request.body().is_whole() {
            return (request, None);
        }
        let upload = Arc::new(Self {
            started: tokio::time::Instant::now(),
            moved: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
        });
        let request = request.map(|body| {
            Body::new(Watched {
                body,
                upload: Arc::clone(&upload),
            })
        });
        (request, Some(upload))
    }

    fn time_left(&self, silence: Duration) -> Option<Duration> {
        let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
        (moved + silence)
            .checked_sub(self.started.elapsed())
            .filter(|left| !left.is_zero())
    }

    fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }
}

struct Watched {
    body: Body,
    upload: Arc<Upload>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let awaited = frame.is_pending();
        self.upload.awaited.store(awaited, Ordering::Relaxed);
        if !awaited {
            let moved = self.upload.started.elapsed().as_millis();
            let moved = u64::try_from(moved).unwrap_or(u64::MAX);
            self.upload.moved.store(moved, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

type Exchange = Pin<Box<dyn Future<Output = Result<Response<Driven>, SendError>> + Send>>;

trait Dispatch: Send + Sync {
    /// Over connections that tasks drive.
    fn dispatch(&self, request: Request<Body>) -> Exchange;

    /// Over connections that are driven by whoever waits for the answer.
    fn direct(&self, request: Request<Body>) -> Exchange;
}

/// The connections to upstreams.
struct Pools<C> {
    client: Client<ConnectDeadline<C>, Body>,
    direct: Direct<ConnectDeadline<C>>,
}

impl<C> Dispatch for Pools<C>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Send + Unpin + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + Unpin + 'static,
{
    fn dispatch(&self, request: Request<Body>) -> Exchange {
        let call = self.client.request(request);
        Box::pin(async move {
            match call.await {
                Ok(response) => Ok(response.map(Driven::from)),
                Err(error) => Err(SendError::of_client(error)),
            }
        })
    }

    fn direct(&self, request: Request<Body>) -> Exchange {
        let direct = self.direct.clone();
        Box::pin(async move {
            let answer = direct.exchange(request).await;
            answer.map_err(SendError::of_direct)
        })
    }
}

/// A connector with a deadline for everything until the connection can be used.
#[derive(Clone)]
struct ConnectDeadline<C>(C);

impl<C> Service<Uri> for ConnectDeadline<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.0.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
                Ok(connection) => connection.map_err(Into::into),
                Err(_) => Err(BoxError::from(io::Error::from(io::ErrorKind::TimedOut))),
            }
        })
    }
}

/// The body of an upstream's answer. It fails when the upstream is silent for too long.
///
/// Small pieces that are there at the same time become one, so that a burst costs one write; none is waited for.
/// Trailers are dropped: nothing has asked for them, and a client may take them for fields of the head.
pub struct UpstreamBody {
    body: Gathered<Driven>,
    silence: Duration,
    /// Made when the upstream is first waited for; set anew at most once a wait, not once a frame.
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    waiting: bool,
    /// What was there when the head was.
    first: Option<Bytes>,
    ended: bool,
    /// How it ends, once what came before has had time to leave.
    failure: Option<SendError>,
}

impl UpstreamBody {
    const fn new(body: Driven, silence: Duration) -> Self {
        Self {
            body: Gathered::new(body),
            silence,
            deadline: None,
            waiting: false,
            first: None,
            ended: false,
            failure: None,
        }
    }

    /// Looks once at what is there.
    async fn begin(&mut self) -> Result<(), SendError> {
        if self.is_end_stream() {
            return Ok(());
        }
        match poll_fn(|cx| Poll::Ready(self.poll_data(cx))).await {
            Poll::Pending => {}
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(data))) => self.first = Some(data),
            Poll::Ready(Some(Err(error))) => return Err(error),
        }
        Ok(())
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SendError>>> {
        while let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => return Poll::Ready(None),
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(data))),
                Some(Ok(Err(_trailers))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(SendError::of_body(error)))),
            }
        }
        let deadline = self.wait(self.silence);
        deadline.poll(cx).map(|()| Some(Err(SendError::timeout())))
    }

    /// The deadline, set anew if this is the beginning of a wait.
    fn wait(&mut self, time: Duration) -> Pin<&mut tokio::time::Sleep> {
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        if !self.waiting {
            self.waiting = true;
            deadline.as_mut().reset(tokio::time::Instant::now() + time);
        }
        deadline.as_mut()
    }
}

impl http_body::Body for UpstreamBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = self.get_mut();
        if let Some(data) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        if this.failure.is_none() {
            match ready!(this.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Err(error)) => {
                    this.failure = Some(error);
                    this.waiting = false;
                    this.wait(LEAVE_TIME);
                }
                None => {
                    this.ended = true;
                    return Poll::Ready(None);
                }
            }
        }
        if let Some(deadline) = &mut this.deadline {
            ready!(deadline.as_mut().poll(cx));
        }
        this.ended = true;
        Poll::Ready(this.failure.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.failure.is_none() && (self.ended || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |data| data.len() as u64);
        if self.ended {
            return SizeHint::with_exact(first);
        }
        let rest = self.body.size_hint();
        let mut whole = SizeHint::new();
        whole.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            whole.set_upper(upper);
        }
        whole
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamBody")
    }
}

impl From<UpstreamBody> for Body {
    fn from(body: UpstreamBody) -> Self {
        Self::new(body)
    }
}
