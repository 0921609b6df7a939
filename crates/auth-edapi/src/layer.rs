use std::sync::Arc;

use http::HeaderValue;
use proactions_edge::{AuthMethod, Clock, JsonRejection, SystemClock};
use tower_layer::Layer;

use crate::entry::Core;
use crate::lockout::LockOut;
use crate::opened::OpenedSessions;
use crate::{
    AccessPolicy, AuthService, Authenticate, Credentials, StoredLogin, Verdict, VerdictFuture,
};

/// Lets in who may come in; see the [crate's docs](crate).
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct AuthLayer<R = JsonRejection> {
    core: Arc<Core>,
    renderer: R,
}

impl AuthLayer {
    /// Guards what `access` does not name as public, with `authenticator`.
    pub fn new(access: AccessPolicy, authenticator: Arc<dyn Authenticate>) -> Self {
        Self::with_parts(
            access,
            authenticator,
            Arc::new(AuthState::new()),
            Arc::new(SystemClock::new()),
        )
    }

    /// Lets everybody in, and refuses ambiguous paths, `CONNECT` and `TRACE` all the same: for a stack that always
    /// holds this layer, when authentication is switched off.
    pub fn disabled() -> Self {
        Self::open(AccessPolicy::new())
    }

    /// The same as [`AuthLayer::disabled`], with these routes: what they allow a path to hold still counts.
    pub fn open(access: AccessPolicy) -> Self {
        Self::new(access.disabled(), Arc::new(Nobody))
    }

    /// The same with a state that outlives the layer, when a new configuration builds a new one, and a clock.
    pub fn with_parts(
        access: AccessPolicy,
        authenticator: Arc<dyn Authenticate>,
        state: Arc<AuthState>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let challenge = HeaderValue::from_static(if authenticator.accepts_basic() {
            r#"Bearer realm="ProActions Hub", Basic realm="ProActions Hub", charset="UTF-8""#
        } else {
            r#"Bearer realm="ProActions Hub""#
        });
        Self {
            core: Arc::new(Core {
                access,
                authenticator,
                state,
                clock,
                challenge,
            }),
            renderer: JsonRejection,
        }
    }
}

impl<R> AuthLayer<R> {
    /// Renders refusals with `renderer`.
    pub fn rendering<R2>(self, renderer: R2) -> AuthLayer<R2> {
        AuthLayer {
            core: self.core,
            renderer,
        }
    }
}

impl<S, R: Clone> Layer<S> for AuthLayer<R> {
    type Service = AuthService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthService {
            inner,
            core: self.core.clone(),
            renderer: self.renderer.clone(),
        }
    }
}

/// What an [`AuthLayer`] remembers between requests: failed logins, and which credential opened which session.
/// Both are bounded.
#[derive(Debug)]
pub struct AuthState {
    pub(crate) lock_out: LockOut,
    pub(crate) opened: OpenedSessions,
}

impl AuthState {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            lock_out: LockOut::new(),
            opened: OpenedSessions::new(),
        }
    }
}

impl Default for AuthState {
    fn default() -> Self {
        Self::new()
    }
}

/// Admits nobody. Nobody is asked for credentials where it stands.
#[derive(Debug)]
struct Nobody;

impl Authenticate for Nobody {
    fn method(&self) -> AuthMethod {
        AuthMethod::Token
    }

    fn accepts_basic(&self) -> bool {
        false
    }

    fn check(&self, _: &Credentials) -> VerdictFuture {
        VerdictFuture::ready(Verdict::Denied)
    }

    fn resume(&self, _: StoredLogin<'_>) -> VerdictFuture {
        VerdictFuture::ready(Verdict::Denied)
    }
}
