use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::header::{ALLOW, AUTHORIZATION};
use http::{HeaderValue, Request, Response};
use proactions_edge::{
    AllowedOrigin, ClientInfo, Peer, ReadableOrigin, Rejection, RejectionKind, RenderRejection,
    RequestId,
};
use proactions_session_store::Session;
use tower_service::Service;

use crate::access::Access;
use crate::credentials::Presented;
use crate::cross_site::{is_cross_site, is_from_a_page};
use crate::entry::{Core, Entry};
use crate::future::admit;
use crate::{AuthFuture, Credentials};

/// The service that [`AuthLayer`](crate::AuthLayer) makes; see the [crate's docs](crate).
#[derive(Clone, Debug)]
pub struct AuthService<S, R> {
    pub(crate) inner: S,
    pub(crate) core: Arc<Core>,
    pub(crate) renderer: R,
}

impl<S, R, ReqBody, ResBody> Service<Request<ReqBody>> for AuthService<S, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    R: RenderRejection<ResBody> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = AuthFuture<S, ReqBody, ResBody, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let access = &self.core.access;
        let refusal = match access.decide(request.method(), request.uri().path()) {
            Access::Public => {
                if access.is_enabled() {
                    request.headers_mut().remove(AUTHORIZATION);
                    return AuthFuture::calling(self.inner.call(request));
                }
                let extensions = request.extensions();
                let client = extensions.get::<ClientInfo>();
                let allowed = extensions.get::<AllowedOrigin>().is_some()
                    || extensions.get::<ReadableOrigin>().is_some();
                if !is_from_a_page(request.method(), request.headers(), client, allowed) {
                    return AuthFuture::calling(self.inner.call(request));
                }
                tracing::warn!(
                    target: "security",
                    event = "cross_site_refused",
                    ip = client.map(|client| tracing::field::display(client.ip)),
                    requestId = extensions.get::<RequestId>().map(tracing::field::display),
                    "A web page whose origin CORS does not allow made a request, and nobody is asked for credentials"
                );
                Rejection::new(RejectionKind::CrossSite)
            }
            Access::Protected => match self.enter(&request) {
                Ok(mut entry) => {
                    // What needs no I/O is decided here, so that neither the request nor the decision moves into
                    // the future, and the future, which every layer further out copies, stays small. A decision
                    // that is pending is polled again with the waker of whoever awaits it.
                    let mut cx = Context::from_waker(Waker::noop());
                    let request_id = request.extensions().get::<RequestId>();
                    match entry.poll(&mut cx, request_id) {
                        Poll::Ready(Ok(principal)) => {
                            admit(&mut request, principal);
                            return AuthFuture::admitted(self.inner.call(request));
                        }
                        Poll::Ready(Err(refusal)) => {
                            return AuthFuture::refused(
                                refusal.into_response(&self.renderer, request_id),
                            );
                        }
                        Poll::Pending => {}
                    }
                    // The service that was polled ready is the one to call, so it is taken, and an unready
                    // clone stays. See https://docs.rs/tower/latest/tower/trait.Service.html#be-careful-when-cloning-inner-services
                    let clone = self.inner.clone();
                    let ready = std::mem::replace(&mut self.inner, clone);
                    return AuthFuture::entering(entry, ready, request, self.renderer.clone());
                }
                Err(refusal) => *refusal,
            },
            Access::Ambiguous(fault) => {
                let extensions = request.extensions();
                tracing::warn!(
                    target: "security",
                    event = "ambiguous_path",
                    ip = extensions.get::<ClientInfo>().map(|client| tracing::field::display(client.ip)),
                    requestId = extensions.get::<RequestId>().map(tracing::field::display),
                    fault = %fault,
                    "A path that could be read in two ways was refused"
                );
                Rejection::new(RejectionKind::BadRequest)
            }
            Access::Forbidden => Rejection::new(RejectionKind::MethodNotAllowed).with_header(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
            ),
        };
        let request_id = request.extensions().get::<RequestId>();
        AuthFuture::refused(refusal.into_response(&self.renderer, request_id))
    }
}

impl<S, R> AuthService<S, R> {
    /// Gathers what the decision needs of a request.
    fn enter<B>(&self, request: &Request<B>) -> Result<Entry, Box<Rejection>> {
        let credentials = match Credentials::from_headers(request.headers()) {
            Presented::Several => {
                return Err(Box::new(
                    Rejection::new(RejectionKind::BadRequest)
                        .with_message("More than one Authorization header"),
                ));
            }
            Presented::Credentials(Credentials::Basic(_))
                if !self.core.authenticator.accepts_basic() =>
            {
                None
            }
            Presented::Credentials(credentials) => Some(credentials),
            Presented::Nothing | Presented::Unusable => None,
        };
        let extensions = request.extensions();
        let client = extensions.get::<ClientInfo>();
        let ip = client
            .map(|client| client.ip)
            .or_else(|| extensions.get::<Peer>().map(|peer| peer.addr.ip()));
        let origin_is_allowed = extensions.get::<AllowedOrigin>().is_some();
        Ok(Entry::new(
            self.core.clone(),
            extensions.get::<Session>().cloned(),
            credentials,
            ip,
            is_cross_site(
                request.method(),
                request.headers(),
                client,
                origin_is_allowed,
            ),
        ))
    }
}
