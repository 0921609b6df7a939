use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, LOCATION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http::{Uri, Version, request};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use proactions_edge::{
    ClientInfo, ConfigError, JsonRejection, Rejection, RejectionKind, RenderRejection, RequestId,
};
use tower_service::Service;

use super::from_client::FromClient;
use super::meter::{Meter, Metered};
use super::policy::{ProxyPolicies, ProxyPolicy, Remove};
use super::{redirect, tunnel};
use crate::client::{Protocols, cleaned};
use crate::direct::Driven;
use crate::headers::{strip_request, strip_response};
use crate::{Body, EgressPolicy, HttpClient, HttpClientConfig, Outgoing, SendError, UpstreamBody};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Serves `/proxy/forward/{id}` and everything below: passes each request on to the upstream of that id.
///
/// 1. **The upstream** is found by the exact id in the path; an unknown one is 404. Its scheme, host and port come
///    from the configuration. The rest of the path is appended as it came; one that could lead upwards is 400. So is
///    the query, less parameters that the configured URL has.
/// 2. **The request's header** loses everything that [`strip_request`] lists: hop-by-hop fields, `Authorization`,
///    `Cookie`, claims about the client. It loses what `remove_source_headers` names. It gains `x-request-id` if the
///    request has a [`RequestId`], with `xfwd` the `X-Forwarded-` fields from the [`ClientInfo`], and last
///    `options.headers`, which replace what is there.
/// 3. **Host** is the upstream's. With `changeOrigin: false` it is the one that the client asked for, if it can be read
///    as a host and a port; the connection and its certificate stay the upstream's.
/// 4. **The answer's header** loses what [`strip_response`] lists, `Set-Cookie` among it (the cookie would be this
///    program's host's), trailers, `WWW-Authenticate` (an answer to it would never travel) and `Access-Control-` fields (who may
///    read an answer is decided here). A `Location` below the proxy's URL is rewritten to lead through the proxy, and
///    no `Location` shows the query of the proxy's URL.
/// 5. **Redirects** are passed on unless `followRedirects`. `GET` and `HEAD` follow all, others only a 303, as a `GET`; no
///    body is sent twice. Another origin gets a handful of the client's fields and nothing of `options`; it must be
///    named in `allowHosts`, or be public. From `https` to `http` is not followed. Too many: 502.
/// 6. **WebSockets** pass with `ws: true`, over HTTP/1.1, once the upstream has answered 101; before that, nothing that
///    the client sends reaches it. Otherwise `Upgrade` is left out. A tunnel ends when one side does, or after a silence
///    of both for `proxyTimeout`.
/// 7. **Bodies** stream both ways; what is in memory is what the connections buffer.
/// 8. **One event** with the target `proxy` is logged when the exchange has ended, in whichever way.
///
/// A WebSocket needs a server that allows upgrades (hyper's `serve_connection_with_upgrades`).
#[derive(Clone)]
pub struct ForwardProxies<R = JsonRejection> {
    routes: Arc<HashMap<Arc<str>, Route>>,
    renderer: R,
}

struct Route {
    policy: ProxyPolicy,
    /// The proxy's own path, to which locations are rewritten.
    prefix: String,
    client: HttpClient,
    upgrading: Option<HttpClient>,
    redirects: Option<Redirects>,
}

struct Redirects {
    max: u64,
    /// For origins that an upstream named: without this proxy's certificates.
    foreign: HttpClient,
}

/// What an upstream answered.
enum Answer {
    Plain(Response<UpstreamBody>),
    Upgraded(Response<Driven>, OnUpgrade),
}

impl ForwardProxies {
    /// The path that all of them begin with.
    pub const PREFIX: &'static str = "/proxy/forward/";

    /// Services for no proxy, which take no TLS.
    #[must_use]
    pub fn none() -> Self {
        Self {
            routes: Arc::default(),
            renderer: JsonRejection,
        }
    }

    /// Services for these proxies. `tls` is what upstreams without certificates of their own are spoken to with.
    ///
    /// # Errors
    /// When a key does not fit its certificate, or is of an unknown kind; the keys are as in
    /// [`ProxyPolicies::try_from`].
    pub fn new(
        policies: &ProxyPolicies,
        config: &HttpClientConfig,
        tls: &rustls::ClientConfig,
        egress: &EgressPolicy,
    ) -> Result<Self, ConfigError> {
        let mut routes = HashMap::new();
        let mut found = Vec::new();
        for (index, policy) in policies.iter().enumerate() {
            match Route::new(policy, config, tls, egress) {
                Ok(route) => {
                    routes.insert(Arc::clone(&policy.id), route);
                }
                Err(error) => {
                    let key = format!("[{index}].options.ssl");
                    found.push(ConfigError::new(key, error.to_string()));
                }
            }
        }
        ConfigError::check(
            Self {
                routes: Arc::new(routes),
                renderer: JsonRejection,
            },
            found,
        )
    }
}

impl<R> ForwardProxies<R> {
    /// Renders refusals in another way than [`JsonRejection`].
    #[must_use]
    pub fn rendering<R2>(self, renderer: R2) -> ForwardProxies<R2> {
        ForwardProxies {
            routes: self.routes,
            renderer,
        }
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Rejection> {
        let (head, body) = request.into_parts();
        if matches!(head.method, Method::CONNECT | Method::TRACE) {
            return Err(Rejection::new(RejectionKind::MethodNotAllowed));
        }
        let not_found = || Rejection::new(RejectionKind::NotFound);
        let (id, tail) = split(head.uri.path()).ok_or_else(not_found)?;
        let route = self.routes.get(id).ok_or_else(not_found)?;
        let tail = tail.to_owned();
        let mut meter = Meter::new(&route.policy.id, &head);
        match route.run(head, &tail, body, &mut meter).await? {
            Answer::Plain(answer) => {
                meter.answered(answer.status());
                Ok(answer.map(|body| Body::new(Metered::new(body, meter))))
            }
            Answer::Upgraded(mut answer, client) => {
                meter.answered(answer.status());
                let upstream = hyper::upgrade::on(&mut answer);
                tokio::spawn(tunnel::run(client, upstream, route.silence(), meter));
                let mut switching = Response::new(Body::empty());
                *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                let mut headers = std::mem::take(answer.headers_mut());
                strip_response(&mut headers);
                to_client(&mut headers);
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                *switching.headers_mut() = headers;
                Ok(switching)
            }
        }
    }
}

impl Route {
    fn new(
        policy: &ProxyPolicy,
        config: &HttpClientConfig,
        tls: &rustls::ClientConfig,
        egress: &EgressPolicy,
    ) -> Result<Self, rustls::Error> {
        let own_tls = policy.tls.derive(tls)?;
        // The certificates of one upstream say nothing about the outbound proxy before it.
        let client = |protocols| {
            HttpClient::speaking(config, own_tls.clone(), tls.clone(), egress, protocols)
        };
        let redirects = policy.follow_redirects.then(|| Redirects {
            max: policy.max_redirects.unwrap_or(config.max_redirects),
            foreign: HttpClient::with_egress(config, tls.clone(), &egress.for_foreign_hosts()),
        });
        Ok(Self {
            prefix: format!("{}{}", ForwardProxies::PREFIX, policy.id),
            client: client(if policy.change_origin {
                Protocols::Any
            } else {
                Protocols::Http1
            }),
            upgrading: policy.ws.then(|| client(Protocols::Http1)),
            redirects,
            policy: policy.clone(),
        })
    }

    /// How long the upstream may be silent.
    fn silence(&self) -> Duration {
        let own = self.policy.upstream_silence;
        own.unwrap_or_else(|| self.client.silence())
    }

    async fn run(
        &self,
        mut head: request::Parts,
        tail: &str,
        body: Body,
        meter: &mut Meter,
    ) -> Result<Answer, Rejection> {
        let outgoing = Outgoing::new(
            head.method.clone(),
            &self.policy.base,
            tail,
            head.uri.query(),
        )
        .map_err(|_| {
            let bad = Rejection::new(RejectionKind::BadRequest);
            meter.refused(bad.with_message("The path or query cannot be forwarded"))
        })?;
        let has_body = !body.is_end_stream();
        let upgrade = match &self.upgrading {
            Some(client) if asks_for_websocket(&head) => {
                let waiting = head.extensions.remove::<OnUpgrade>();
                waiting.map(|waiting| (client, waiting))
            }
            _ => None,
        };
        if upgrade.is_some() && has_body {
            let bad = Rejection::new(RejectionKind::BadRequest);
            return Err(meter.refused(bad.with_message("An upgrade has no body")));
        }
        let host = (!self.policy.change_origin)
            .then(|| asked_host(&head))
            .flatten();
        let method = head.method.clone();
        let headers = self.headers(head);
        let kept = self.redirects.as_ref().map(|_| headers.clone());
        let at = outgoing.uri().clone();
        let outgoing = outgoing
            .stripped_headers(headers)
            .host(host.clone())
            .timeout(self.silence());

        if let Some((client, waiting)) = upgrade {
            let answer = client
                .exchange(outgoing.upgrade())
                .await
                .map_err(|error| meter.failed(&error))?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                return self.pass(answer, &at, meter).await;
            }
            let switched = answer.headers().get(UPGRADE);
            if !switched.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
                let error = SendError::protocol("it switched to another protocol");
                return Err(meter.failed(&error));
            }
            return Ok(Answer::Upgraded(answer, waiting));
        }

        let body = if has_body {
            let bytes = Arc::clone(&meter.received);
            Body::new(FromClient::new(body, bytes, self.policy.client_silence))
        } else {
            Body::empty()
        };
        let answer = self
            .client
            .exchange(outgoing.body(body))
            .await
            .and_then(not_switched)
            .map_err(|error| meter.failed(&error))?;
        match (&self.redirects, kept) {
            (Some(redirects), Some(kept)) => {
                let mut trail = Trail {
                    at,
                    method,
                    has_body,
                    headers: kept,
                    host,
                    foreign: false,
                };
                let answer = self.follow(redirects, answer, &mut trail, meter).await?;
                self.pass(answer, &trail.at, meter).await
            }
            _ => self.pass(answer, &at, meter).await,
        }
    }

    async fn follow(
        &self,
        redirects: &Redirects,
        mut answer: Response<Driven>,
        trail: &mut Trail,
        meter: &mut Meter,
    ) -> Result<Response<Driven>, Rejection> {
        let mut followed = 0;
        while let Some(next) = redirect::next(
            &trail.method,
            trail.has_body,
            &trail.at,
            answer.status(),
            answer.headers(),
        ) {
            meter.redirected(answer.status());
            if followed == redirects.max {
                let refused = Rejection::new(RejectionKind::BadGateway)
                    .with_message("The upstream service redirects too often");
                return Err(meter.failed_as("too_many_redirects", refused));
            }
            followed += 1;
            drop(answer);
            trail.go(next, &self.policy);
            let client = if trail.foreign {
                &redirects.foreign
            } else {
                &self.client
            };
            let outgoing = Outgoing::to(trail.method.clone(), trail.at.clone())
                .stripped_headers(trail.headers.clone())
                .host(trail.host.clone())
                .timeout(self.silence());
            answer = client
                .exchange(outgoing)
                .await
                .and_then(not_switched)
                .map_err(|error| meter.failed(&error))?;
        }
        Ok(answer)
    }

    /// What the upstream gets to see of the client's header, and what it gets beyond it.
    fn headers(&self, head: request::Parts) -> HeaderMap {
        let request_id = head.extensions.get::<RequestId>();
        let client = head.extensions.get::<ClientInfo>();
        let mut headers = head.headers;
        strip_request(&mut headers);
        match &self.policy.remove {
            Remove::These(names) => {
                for name in names {
                    headers.remove(name);
                }
            }
            Remove::All => headers = needed(&headers),
        }
        if let Some(id) = request_id {
            headers.insert(REQUEST_ID, id.as_header().clone());
        }
        if let Some(client) = client.filter(|_| self.policy.xfwd) {
            let mut set = |name, value: Option<HeaderValue>| {
                if let Some(value) = value {
                    headers.insert(HeaderName::from_static(name), value);
                }
            };
            let address = HeaderValue::try_from(client.ip.to_string()).ok();
            set("x-forwarded-for", address);
            let scheme = HeaderValue::from_static(client.scheme.as_str());
            set("x-forwarded-proto", Some(scheme));
            set("x-forwarded-host", plain_host(client.host.as_ref()));
        }
        for (name, value) in &self.policy.headers {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }

    /// An answer as a client gets it; it came from `at`.
    async fn pass(
        &self,
        answer: Response<Driven>,
        at: &Uri,
        meter: &mut Meter,
    ) -> Result<Answer, Rejection> {
        let mut answer = cleaned(answer, self.silence())
            .await
            .map_err(|error| meter.failed(&error))?;
        to_client(answer.headers_mut());
        let base = &self.policy.base;
        match redirect::rewritten(base, &self.prefix, at, answer.headers()) {
            Some(location) => {
                answer.headers_mut().insert(LOCATION, location);
            }
            // What cannot be read may hold the query.
            None if base.has_query() => {
                answer.headers_mut().remove(LOCATION);
            }
            None => {}
        }
        Ok(Answer::Plain(answer))
    }
}

/// Where a request has come to on its way along redirects.
struct Trail {
    at: Uri,
    method: Method,
    has_body: bool,
    headers: HeaderMap,
    host: Option<HeaderValue>,
    /// Once it has left the upstream's origin it gets no credentials any more, even if it comes back.
    foreign: bool,
}

impl Trail {
    fn go(&mut self, next: redirect::Next, policy: &ProxyPolicy) {
        if next.method != self.method || self.has_body {
            for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE] {
                self.headers.remove(name);
            }
        }
        self.has_body = false;
        if !self.foreign && !redirect::same_origin(&policy.base, &next.uri) {
            self.foreign = true;
            self.headers = redirect::keep_for_anybody(&self.headers, &policy.headers);
            self.host = None;
        }
        self.at = next.uri;
        self.method = next.method;
    }
}

/// Id and rest of a path.
fn split(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix(ForwardProxies::PREFIX)?;
    path.split_at_checked(path.find('/').unwrap_or(path.len()))
}

fn not_switched(answer: Response<Driven>) -> Result<Response<Driven>, SendError> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(SendError::protocol(
            "it switched protocols without being asked",
        ));
    }
    Ok(answer)
}

/// Whether this is the opening handshake of a WebSocket (RFC 6455 section 4.2.1).
fn asks_for_websocket(head: &request::Parts) -> bool {
    let headers = &head.headers;
    let mut upgrades = headers.get_all(UPGRADE).iter();
    let websocket = upgrades
        .next()
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let nominated = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    head.method == Method::GET
        && head.version == Version::HTTP_11
        && websocket
        && upgrades.next().is_none()
        && nominated
        && headers.contains_key("sec-websocket-key")
        && headers
            .get("sec-websocket-version")
            .is_some_and(|version| version == "13")
}

/// What of a client's header a request needs: what describes its body, and what opens a WebSocket.
fn needed(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in headers {
        let name_text = name.as_str();
        if name_text.starts_with("content-") || name_text.starts_with("sec-websocket-") {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// The host that the client asked for, as far as it was found out who that is.
fn asked_host(head: &request::Parts) -> Option<HeaderValue> {
    let known = head.extensions.get::<ClientInfo>();
    match known {
        Some(client) => plain_host(client.host.as_ref()),
        None => plain_host(head.headers.get(http::header::HOST)),
    }
}

/// The value if it is a host with or without a port, and nothing else.
fn plain_host(host: Option<&HeaderValue>) -> Option<HeaderValue> {
    let host = host?;
    let plain =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    let bytes = host.as_bytes();
    let good = (1..=255).contains(&bytes.len()) && bytes.iter().all(plain);
    (good && Uri::try_from(bytes).is_ok()).then(|| host.clone())
}

/// Removes what would undo this program's own decisions about who may call it and read its answers.
fn to_client(headers: &mut HeaderMap) {
    headers.remove(WWW_AUTHENTICATE);
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
}

impl<R> Service<Request<Body>> for ForwardProxies<R>
where
    R: RenderRejection<Body> + Clone + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ForwardFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ForwardFuture {
        let this = self.clone();
        let request_id: Option<RequestId> = request.extensions().get().cloned();
        ForwardFuture(Box::pin(async move {
            this.answer(request).await.unwrap_or_else(|rejection| {
                rejection.into_response(&this.renderer, request_id.as_ref())
            })
        }))
    }
}

impl<R> fmt::Debug for ForwardProxies<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardProxies")
            .field("ids", &self.routes.keys())
            .finish_non_exhaustive()
    }
}

/// The future of [`ForwardProxies`]. Dropping it ends the upstream's call.
#[must_use = "futures do nothing unless polled"]
pub struct ForwardFuture(Pin<Box<dyn Future<Output = Response<Body>> + Send>>);

impl Future for ForwardFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for ForwardFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForwardFuture")
    }
}
