//! The pipeline: which layer stands where, and why there.

use std::sync::{Arc, Mutex, PoisonError};

use proactions_ai_link::{AiLink, Breakers};
use proactions_auth_edapi::edapi::{EdapiAuthenticator, EdapiState};
use proactions_auth_edapi::{AccessPolicy, AuthLayer, AuthState, Authenticate, EntryPolicy};
use proactions_body_limit::{BodyKind, BodyLimitLayer};
use proactions_config::{ListenAddress, ListenerSettings, Policies};
use proactions_cors::CorsLayer;
use proactions_edge::SystemClock;
use proactions_forward::{EgressPolicy, ForwardProxies, HttpClient, HttpClientConfig, ProxyPolicy};
use proactions_ratelimit::{RateLimitLayer, TargetRoute};
use proactions_redact_log::{AccessLogLayer, Logging, RequestIdLayer};
use proactions_secure_headers::SecureHeadersLayer;
use proactions_session_store::SessionLayer;
use proactions_trust_proxy::{TrustProxy, TrustProxyLayer};
use proactions_youtube::{YouTube, YoutubeAccounts};
use tower::ServiceBuilder;
use tower::util::option_layer;

use crate::StartError;
use crate::body_deadline::{BodyDeadlineLayer, BodyDeadlines};
use crate::head_limit::{HeadLimitLayer, HeadLimits};
use crate::internal::Internal;
use crate::outside::{self, Outside};
use crate::panic_guard::PanicGuardLayer;
use crate::pipeline::Pipeline;
use crate::readiness::Readiness;
use crate::request_metrics::RequestMetricsLayer;
use crate::routes::{RouteTable, Router};
use crate::tls;

/// The routes whose rest belongs to an upstream.
const FORWARD: &str = "/proxy/forward/{id}/";

/// What outlives a reload: each pipeline is built around it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) outside: Outside,
    auth: Arc<AuthState>,
    breakers: Breakers,
    listener: ListenerSettings,
    /// Where the internal listener was bound at the start, whatever a later configuration says.
    ailink: Option<ListenAddress>,
    client: Mutex<(HttpClientConfig, EgressPolicy, HttpClient)>,
    youtube: Mutex<Option<YouTube>>,
}

impl Kept {
    pub(crate) fn new(policies: &Policies) -> Result<Self, StartError> {
        let config = policies.http_client;
        let readiness = Arc::new(Readiness::default());
        Ok(Self {
            outside: Outside::new(policies, &readiness)?,
            readiness,
            auth: Arc::new(AuthState::new()),
            breakers: Breakers::default(),
            listener: policies.listener,
            ailink: policies.ailink.clone(),
            client: Mutex::new((
                config,
                policies.egress.clone(),
                http_client(&config, &policies.egress)?,
            )),
            youtube: Mutex::new(None),
        })
    }

    /// The client for upstreams: the same, with its open connections, as long as its settings are the same.
    fn http_client(&self, policies: &Policies) -> Result<HttpClient, StartError> {
        let (config, egress) = (&policies.http_client, &policies.egress);
        let kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 == *config && kept.1 == *egress {
            Ok(kept.2.clone())
        } else {
            http_client(config, egress)
        }
    }

    /// From now on these parts are the ones that are kept.
    pub(crate) fn adopt(&self, policies: &Policies, parts: &Parts) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = (
            policies.http_client,
            policies.egress.clone(),
            parts.client.clone(),
        );
        if let Some(youtube) = &parts.youtube {
            let mut kept = self.youtube.lock().unwrap_or_else(PoisonError::into_inner);
            *kept = Some(youtube.clone());
        }
        self.outside.watch_redis(policies);
        self.outside.watch_edapi(parts.edapi.as_ref());
    }
}

/// What the pipelines are built of and might not be had. It is made as a whole, without touching what serves, so
/// that a configuration that cannot be served changes nothing.
pub(crate) struct Parts {
    table: Arc<RouteTable>,
    request_ids: RequestIdLayer,
    session: Option<SessionLayer>,
    auth: AuthLayer,
    edapi: Option<EdapiAuthenticator>,
    client: HttpClient,
    forward: ForwardProxies,
    youtube: Option<YouTube>,
}

impl Parts {
    pub(crate) fn new(policies: &Policies, kept: &Kept) -> Result<Self, StartError> {
        let health = policies.health.as_ref();
        let table = Arc::new(RouteTable::new(
            health.map(|health| Arc::clone(&health.path)),
            health.map(|health| Arc::clone(&health.readiness_path)),
            policies.youtube.is_some(),
        ));
        let Entry {
            session,
            auth,
            edapi,
        } = entry(policies, &table, kept)?;
        let client = kept.http_client(policies)?;
        Ok(Self {
            table,
            request_ids: RequestIdLayer::new().map_err(|_| StartError::Random)?,
            session,
            auth,
            edapi,
            forward: forward(policies)?,
            youtube: youtube(policies, kept, &client)?,
            client,
        })
    }
}

/// Finds what [`Parts::new`] would refuse, without a runtime and without touching anything.
pub(crate) fn check(policies: &Policies) -> Result<(), StartError> {
    if let Some(auth) = &policies.auth
        && let EntryPolicy::Edapi(edapi) = &auth.entry
    {
        outside::edapi(edapi, auth.session.keys(), Arc::new(EdapiState::new()?))?;
    }
    forward(policies).map(drop)
}

fn http_client(config: &HttpClientConfig, egress: &EgressPolicy) -> Result<HttpClient, StartError> {
    let tls = tls::client_config().map_err(StartError::Tls)?;
    Ok(HttpClient::with_egress(config, tls, egress))
}

/// The proxies of `/proxy/forward`, each with connections of its own.
fn forward(policies: &Policies) -> Result<ForwardProxies, StartError> {
    if policies.proxies.is_empty() {
        // Reading the certificates that the system trusts is most of the start.
        return Ok(ForwardProxies::none());
    }
    let tls = tls::client_config().map_err(StartError::Tls)?;
    ForwardProxies::new(
        &policies.proxies,
        &policies.http_client,
        &tls,
        &policies.egress,
    )
    .map_err(|error| StartError::Config(error.within("proxies")))
}

/// The targets, over the connections and circuit breakers that all pipelines share.
fn ai_link(policies: &Policies, logging: &Logging, kept: &Kept, parts: &Parts) -> AiLink {
    let ai_link = AiLink::new(policies.targets.clone(), parts.client.clone())
        .breakers(kept.breakers.clone())
        .log_usage(logging.policy().ai_link_logged())
        .log_prompt(logging.policy().prompt_logged())
        .log_response(logging.policy().response_logged());
    let limits = &policies.body_limit;
    if !limits.is_on() {
        // Its own limit stays: it holds what it reads in memory.
        return ai_link;
    }
    let json = limits.limit(BodyKind::Json);
    ai_link.max_body(usize::try_from(json).unwrap_or(usize::MAX))
}

/// Builds the pipeline of the internal listener, if there is one: nobody is asked for credentials, no address is
/// believed but the peer's, and there is nothing but AI-Link.
pub(crate) fn internal(
    policies: &Policies,
    logging: &Logging,
    kept: &Kept,
    parts: &Parts,
) -> Option<Pipeline> {
    let address = kept.ailink.as_ref()?;
    let listener = kept.listener;
    // The reasons for the order are those of the public listener.
    let stack = ServiceBuilder::new()
        .layer(TrustProxyLayer::new(TrustProxy::default()))
        .layer(parts.request_ids.clone())
        .layer(AccessLogLayer::new(logging.clone()))
        .layer(RequestMetricsLayer::new())
        .layer(SecureHeadersLayer::new(policies.secure_headers.clone()))
        .layer(PanicGuardLayer)
        .layer(HeadLimitLayer(HeadLimits::from(&listener)))
        .layer(BodyDeadlineLayer(BodyDeadlines {
            frame: listener.body_frame_timeout,
            whole: listener.body_timeout,
        }))
        .layer(BodyLimitLayer::new(policies.body_limit))
        // It refuses ambiguous paths, and nobody.
        .layer(AuthLayer::disabled())
        .service(Internal::new(
            ai_link(policies, logging, kept, parts),
            std::iter::once(&address.host).chain(&policies.ailink_hosts),
        ));
    Some(Pipeline::new(stack))
}

/// Uploads to YouTube; consents that are under way outlive a reload.
fn youtube(
    policies: &Policies,
    kept: &Kept,
    client: &HttpClient,
) -> Result<Option<YouTube>, StartError> {
    let Some(accounts) = policies.youtube.clone() else {
        return Ok(None);
    };
    let client = client.clone();
    let before = kept.youtube.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Some(match &*before {
        Some(before) => before.clone().with_accounts(accounts, client),
        None => YouTube::new(accounts, client).map_err(|_| StartError::Random)?,
    }))
}

/// Builds the pipeline of the public listener, outermost layer first.
pub(crate) fn pipeline(
    policies: &Policies,
    logging: &Logging,
    kept: &Kept,
    parts: &Parts,
) -> Pipeline {
    let accounts = policies
        .youtube
        .as_ref()
        .map_or(&[][..], YoutubeAccounts::accounts);
    let rate_limit = policies
        .rate_limit
        .clone()
        .counting_in(Arc::clone(&kept.outside.counters))
        .exempt(parts.table.probes())
        .with_targets([
            TargetRoute::by_header("/v1/", policies.targets.ids()),
            TargetRoute::by_segment(
                "/proxy/forward/",
                policies.proxies.iter().map(ProxyPolicy::id),
            ),
            TargetRoute::by_header("/youtube/", accounts.iter().map(|account| &*account.id)),
        ]);
    let listener = kept.listener;

    let stack = ServiceBuilder::new()
        // Everything below goes by the client's address.
        .layer(TrustProxyLayer::new(policies.trust_proxy.clone()))
        // Every line and every refusal below names the exchange.
        .layer(parts.request_ids.clone())
        // Sees each answer that anything below gives, and the end of its body.
        .layer(AccessLogLayer::new(logging.clone()))
        // Counts what the access log tells.
        .layer(RequestMetricsLayer::new())
        // On every answer from below, the one for a panic included.
        .layer(SecureHeadersLayer::new(policies.secure_headers.clone()))
        // A panic below costs that request alone.
        .layer(PanicGuardLayer)
        // Nothing below reads a head that is too large or ambiguous.
        .layer(HeadLimitLayer(HeadLimits::from(&listener)))
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
        .layer(option_layer(parts.session.clone()))
        // Nobody passes who is not known, unless the route is public.
        .layer(parts.auth.clone())
        // Counts users, so it stands where they are known.
        .layer(RateLimitLayer::by_caller(rate_limit))
        .service(Router::new(
            Arc::clone(&parts.table),
            Arc::clone(&kept.readiness),
            ai_link(policies, logging, kept, parts),
            parts.forward.clone(),
            parts.youtube.clone(),
        ));
    Pipeline::new(stack)
}

struct Entry {
    session: Option<SessionLayer>,
    auth: AuthLayer,
    edapi: Option<EdapiAuthenticator>,
}

/// Sessions and the entry check; without authentication there are no sessions and everybody may enter.
fn entry(policies: &Policies, table: &RouteTable, kept: &Kept) -> Result<Entry, StartError> {
    let mut access = AccessPolicy::new().with_tail(FORWARD)?;
    let Some(auth) = &policies.auth else {
        return Ok(Entry {
            session: None,
            auth: AuthLayer::open(access),
            edapi: None,
        });
    };
    for (methods, path) in table.public() {
        access = access.with_public(methods, path)?;
    }
    let mut asked = None;
    let authenticator: Arc<dyn Authenticate> = match &auth.entry {
        EntryPolicy::Edapi(edapi) => {
            let state = Arc::clone(&kept.outside.edapi);
            let edapi = outside::edapi(edapi, auth.session.keys(), state)?;
            asked = Some(edapi.clone());
            Arc::new(edapi)
        }
        EntryPolicy::Token(tokens) => Arc::new(tokens.clone()),
        _ => return Err(StartError::Unavailable("this kind of authentication")),
    };
    let session = SessionLayer::new(auth.session.clone(), Arc::clone(&kept.outside.sessions));
    let auth = AuthLayer::with_parts(
        access,
        authenticator,
        Arc::clone(&kept.auth),
        Arc::new(SystemClock::new()),
    );
    Ok(Entry {
        session: Some(session),
        auth,
        edapi: asked,
    })
}
