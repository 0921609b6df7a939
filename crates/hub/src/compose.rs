//! The pipeline: which layer stands where, and why there.

use std::sync::Arc;

use proactions_ai_link::AiLink;
use proactions_auth_edapi::{AccessPolicy, AuthLayer};
use proactions_body_limit::BodyLimitLayer;
use proactions_config::Policies;
use proactions_cors::CorsLayer;
use proactions_ratelimit::RateLimitLayer;
use proactions_redact_log::{AccessLogLayer, Logging, RequestIdLayer};
use proactions_secure_headers::SecureHeadersLayer;
use proactions_session_store::{MemoryStore, SessionLayer};
use proactions_trust_proxy::TrustProxyLayer;
use tower::ServiceBuilder;
use tower::util::option_layer;

use crate::StartError;
use crate::body_deadline::{BodyDeadlineLayer, BodyDeadlines};
use crate::head_limit::{HeadLimitLayer, HeadLimits};
use crate::panic_guard::PanicGuardLayer;
use crate::pipeline::Pipeline;
use crate::readiness::Readiness;
use crate::routes::{RouteTable, Router};

/// How many sessions are kept in memory; then those that end first go.
const MAX_SESSIONS: usize = 100_000;

/// Builds the pipeline of the public listener, outermost layer first.
pub(crate) fn pipeline(
    policies: &Policies,
    logging: &Logging,
    readiness: &Arc<Readiness>,
    ai_link: AiLink,
) -> Result<Pipeline, StartError> {
    let health = policies.health.as_ref();
    let table = Arc::new(RouteTable::new(
        health.map(|health| Arc::clone(&health.path)),
        health.map(|health| Arc::clone(&health.readiness_path)),
    ));
    let rate_limit = policies.rate_limit.clone().exempt(table.probes());
    let listener = &policies.listener;
    let (session, auth) = entry(policies, &table)?;

    let stack = ServiceBuilder::new()
        // Everything below goes by the client's address.
        .layer(TrustProxyLayer::new(policies.trust_proxy.clone()))
        // Every line and every refusal below names the exchange.
        .layer(RequestIdLayer::new().map_err(|_| StartError::Random)?)
        // Sees each answer that anything below gives, and the end of its body.
        .layer(AccessLogLayer::new(logging.clone()))
        // On every answer from below, the one for a panic included.
        .layer(SecureHeadersLayer::new(policies.secure_headers.clone()))
        // A panic below costs that request alone.
        .layer(PanicGuardLayer)
        // Nothing below reads a head that is too large or ambiguous.
        .layer(HeadLimitLayer(HeadLimits {
            max_headers: listener.max_headers,
            max_header_bytes: listener.max_header_bytes,
            max_uri_bytes: listener.max_uri_bytes,
        }))
        // A preflight carries no credentials, so it is answered before anybody asks for them.
        .layer(CorsLayer::new(policies.cors.clone()))
        // Before the entry check, which it protects from guessing.
        .layer(RateLimitLayer::by_address(rate_limit.clone()))
        // Around whoever reads the body: its deadlines, then its size.
        .layer(BodyDeadlineLayer(BodyDeadlines {
            frame: listener.body_frame_timeout,
            whole: listener.body_timeout,
        }))
        .layer(BodyLimitLayer::new(policies.body_limit))
        // The entry check asks for the session first.
        .layer(option_layer(session))
        // Nobody passes who is not known, unless the route is public.
        .layer(auth)
        // Counts users, so it stands where they are known.
        .layer(RateLimitLayer::by_caller(rate_limit))
        .service(Router::new(table, Arc::clone(readiness), ai_link));
    Ok(Pipeline::new(stack))
}

/// Sessions and the entry check; without authentication there are no sessions and everybody may enter.
fn entry(
    policies: &Policies,
    table: &RouteTable,
) -> Result<(Option<SessionLayer>, AuthLayer), StartError> {
    let Some(auth) = &policies.auth else {
        return Ok((None, AuthLayer::disabled()));
    };
    let mut access = AccessPolicy::new();
    for (methods, path) in table.public() {
        access = access.with_public(methods, path)?;
    }
    let authenticator = auth
        .entry
        .local_authenticator()
        .ok_or(StartError::Unavailable("auth.type edapi"))?;
    let session = SessionLayer::new(
        auth.session.clone(),
        Arc::new(MemoryStore::new(MAX_SESSIONS)),
    );
    Ok((Some(session), AuthLayer::new(access, authenticator)))
}
