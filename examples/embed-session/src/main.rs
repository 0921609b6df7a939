//! Sessions in Redis, in the format of express-session, without the hub: a Node service with the same secret, cookie
//! name and Redis shares them.
//!
//! ```sh
//! REDIS_URL=redis://localhost SESSION_SECRET=$(openssl rand -base64 32) cargo run -p embed-session
//! curl -i -c jar 'http://127.0.0.1:3000/set?name=ada'
//! curl -b jar http://127.0.0.1:3000/get
//! ```
//!
//! `PORT` chooses another port; 0 lets the system pick one.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use proactions_edge::SecretString;
use proactions_redis_client::{RedisClient, RedisSettings, RedisTls};
use proactions_session_store::{
    RedisStore, SecretList, Session, SessionConfig, SessionLayer, StoreError,
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut config = SessionConfig::default();
    config.cookie.name = Some("connect.sid".to_owned());
    config.cookie.secret = SecretList::from_iter([env::var("SESSION_SECRET")?]);
    let policy = config.into_policy(false)?;

    let url = SecretString::from(env::var("REDIS_URL")?);
    let redis = RedisClient::new(RedisSettings::new([&url], &RedisTls::default())?);
    redis.start();

    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(policy, Arc::new(RedisStore::new(redis))))
        .service(service_fn(answer));

    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let http = auto::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// `/set?name=…` keeps a name, `/get` tells it, `/end` ends the session.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let session = request.extensions().get::<Session>().cloned();
    let answered = match session {
        None => Ok(None),
        Some(session) => run(&session, request.uri()).await,
    };
    Ok(match answered {
        Ok(Some(text)) => Response::new(Full::from(text)),
        Ok(None) => status(StatusCode::NOT_FOUND),
        Err(_) => status(StatusCode::SERVICE_UNAVAILABLE),
    })
}

async fn run(session: &Session, uri: &http::Uri) -> Result<Option<String>, StoreError> {
    match uri.path() {
        "/set" => {
            let name = uri.query().and_then(|query| query.strip_prefix("name="));
            // Only `cookie` and `hub` are not ours to set.
            let _ = session.insert("name", name.unwrap_or_default());
            session.commit().await?;
            Ok(Some("kept".to_owned()))
        }
        "/get" => {
            let name = session.get("name").await?;
            Ok(Some(name.unwrap_or_default().to_string()))
        }
        "/end" => {
            session.destroy();
            session.commit().await?;
            Ok(Some("ended".to_owned()))
        }
        _ => Ok(None),
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
