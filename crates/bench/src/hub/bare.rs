//! The measure of all: hyper in front, hyper behind, and no policy in between.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

const WORKERS: usize = 2;

type Upstreams = Client<HttpConnector, Incoming>;

/// Forwards everything to `upstream` until the process is killed.
pub(crate) fn run(listen: SocketAddr, upstream: &str) -> io::Result<()> {
    let authority: Authority = upstream.parse().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let upstreams: Upstreams = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(1024)
            .build(connector);
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (upstreams, authority) = (upstreams.clone(), authority.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    forward(upstreams.clone(), authority.clone(), request)
                });
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    })
}

async fn forward(
    upstreams: Upstreams,
    authority: Authority,
    mut request: Request<Incoming>,
) -> Result<Response<Either<Incoming, Empty<Bytes>>>, Infallible> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    let answer = match Uri::from_parts(parts) {
        Ok(uri) => {
            *request.uri_mut() = uri;
            upstreams.request(request).await.ok()
        }
        Err(_) => None,
    };
    Ok(match answer {
        Some(answer) => answer.map(Either::Left),
        None => {
            let mut failed = Response::new(Either::Right(Empty::new()));
            *failed.status_mut() = StatusCode::BAD_GATEWAY;
            failed
        }
    })
}
