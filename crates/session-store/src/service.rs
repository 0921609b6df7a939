use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use proactions_edge::{ClientInfo, Peer, RequestId};
use tower_service::Service;

use crate::cookie::{self, Presented};
use crate::session::Core;
use crate::{Session, SessionFuture};

/// The service that [`SessionLayer`](crate::SessionLayer) makes; see the [crate's docs](crate).
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    pub(crate) inner: S,
    pub(crate) core: Arc<Core>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SessionFuture<S::Future, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let session = open(&self.core, &mut request);
        request.extensions_mut().insert(session.clone());
        SessionFuture::new(self.inner.call(request), session)
    }
}

fn open<B>(core: &Arc<Core>, request: &mut Request<B>) -> Session {
    let policy = &core.policy;
    let presented = cookie::take(request.headers_mut(), policy.cookie().name(), |value| {
        core.verified.verify(policy.keys(), value)
    });
    let client = request.extensions().get::<ClientInfo>();
    let scheme = client
        .map(|client| client.scheme)
        .or_else(|| request.extensions().get::<Peer>().map(|peer| peer.scheme));
    let sendable = !policy.cookie().secure() || scheme.is_some_and(|scheme| scheme.is_https());
    if presented == Presented::Refused {
        let request_id = request.extensions().get::<RequestId>();
        tracing::warn!(
            target: "security",
            event = "cookie_signature_bad",
            ip = client.map(|client| tracing::field::display(client.ip)),
            requestId = request_id.map(tracing::field::display),
            "A session cookie without a good signature, or more than one, was ignored"
        );
    }
    let was_presented = presented != Presented::Nothing;
    let id = match presented {
        Presented::Signed(id) => Some(id),
        Presented::Nothing | Presented::Refused => None,
    };
    Session::new(core.clone(), id, was_presented, sendable)
}
