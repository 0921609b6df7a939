//! Five of the layers around a hyper service, without the hub.
//!
//! ```sh
//! cargo run -p embed-hyper
//! curl -i http://127.0.0.1:3000/ -H 'Origin: https://app.example.com'
//! ```

use std::convert::Infallible;
use std::error::Error;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use proactions_body_limit::{BodyLimitConfig, BodyLimitLayer, BodyLimitPolicy, ByteSize, Limited};
use proactions_cors::{CorsConfig, CorsLayer, CorsPolicy};
use proactions_edge::{Peer, Scheme};
use proactions_ratelimit::{RateLimitConfig, RateLimitLayer, RateLimitPolicy};
use proactions_secure_headers::{SecureHeadersConfig, SecureHeadersLayer, SecureHeadersPolicy};
use proactions_trust_proxy::{TrustProxy, TrustProxyLayer};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut cors = CorsConfig::default();
    cors.origin = Some("https://app.example.com".into());
    let mut rate_limit = RateLimitConfig::default();
    rate_limit.max = Some(100);
    let mut body_limit = BodyLimitConfig::default();
    body_limit.other = ByteSize::new(64 * 1024);

    let service = ServiceBuilder::new()
        .layer(TrustProxyLayer::new(TrustProxy::hops(0)))
        .layer(SecureHeadersLayer::new(SecureHeadersPolicy::try_from(
            SecureHeadersConfig::default(),
        )?))
        .layer(CorsLayer::new(CorsPolicy::try_from(cors)?))
        .layer(RateLimitLayer::by_address(RateLimitPolicy::try_from(
            rate_limit,
        )?))
        .layer(BodyLimitLayer::new(BodyLimitPolicy::try_from(body_limit)?))
        .service(service_fn(echo));

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    loop {
        let (stream, address) = listener.accept().await?;
        // What the layers know of the connection, they know from this.
        let peer = Peer::new(address, Scheme::Http);
        let service = ServiceBuilder::new()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                request
            })
            .service(service.clone());
        tokio::spawn(async move {
            let connection = auto::Builder::new(TokioExecutor::new());
            let _ = connection
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .await;
        });
    }
}

/// Sends the body back.
async fn echo(request: Request<Limited<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await;
    Ok(Response::new(Full::from(
        body.map(|body| body.to_bytes()).unwrap_or_default(),
    )))
}
