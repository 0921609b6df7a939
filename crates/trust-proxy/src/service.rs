use std::task::{Context, Poll};

use http::Request;
use proactions_edge::Peer;
use tower_service::Service;

use crate::TrustProxy;

/// The service that [`TrustProxyLayer`](crate::TrustProxyLayer) makes. See the [crate documentation](crate).
#[derive(Clone, Debug)]
pub struct TrustProxyService<S> {
    inner: S,
    policy: TrustProxy,
}

impl<S> TrustProxyService<S> {
    pub(crate) const fn new(inner: S, policy: TrustProxy) -> Self {
        Self { inner, policy }
    }

    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service inside.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service inside.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B> Service<Request<B>> for TrustProxyService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(peer) = request.extensions().get::<Peer>().copied() {
            let client = self.policy.resolve_request(peer, &request);
            request.extensions_mut().insert(client);
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use proactions_edge::{ClientInfo, Scheme};
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::TrustProxyLayer;

    async fn seen(policy: TrustProxy, request: Request<()>) -> Option<ClientInfo> {
        let service =
            TrustProxyLayer::new(policy).layer(service_fn(|request: Request<()>| async move {
                Ok::<_, Infallible>(Response::new(
                    request.extensions().get::<ClientInfo>().cloned(),
                ))
            }));
        service.oneshot(request).await.unwrap().into_body()
    }

    fn peer() -> Peer {
        Peer::new("127.0.0.1:5000".parse().unwrap(), Scheme::Http)
    }

    #[tokio::test]
    async fn the_client_is_handed_on() {
        let mut request = Request::get("https://hub.example.com/x")
            .header("x-forwarded-for", "192.0.2.7")
            .body(())
            .unwrap();
        request.extensions_mut().insert(peer());
        let client = seen(TrustProxy::hops(1), request).await.unwrap();
        assert_eq!(client.ip, "192.0.2.7".parse::<std::net::IpAddr>().unwrap());
        assert_eq!(client.trusted_hops, 1);
        assert_eq!(client.host_str(), Some("hub.example.com"));
    }

    #[tokio::test]
    async fn without_a_peer_nothing_is_known() {
        let request = Request::get("/")
            .header("x-forwarded-for", "192.0.2.7")
            .body(())
            .unwrap();
        assert_eq!(seen(TrustProxy::hops(1), request).await, None);
    }

    #[tokio::test]
    async fn errors_of_the_inner_service_pass_untouched() {
        let mut service = TrustProxyLayer::new(TrustProxy::None)
            .layer(service_fn(|_: Request<()>| async { Err::<(), _>("down") }));
        assert_eq!(
            service.ready().await.unwrap().call(Request::new(())).await,
            Err("down")
        );
    }
}
