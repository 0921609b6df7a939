use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use proactions_edge::{
    AuthMethod, Clock, ConfigError, DigestKey, Principal, SecretDigest, SystemClock, TtlMap,
};
use proactions_session_store::KeyRing;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::EdapiPolicy;
use super::cache::{Cache, Known, Outcome, Terms, Yes};
use super::flight::{Flights, Ticket};
use super::pulse::Pulse;
use super::seal::{Credential, Sealer, digest};
use super::transport::Transport;
use super::wire::{Answer, Fault, Wire};
use crate::{Authenticate, Credentials, Grant, StoredLogin, Verdict, VerdictFuture};

/// Asks EDAPI whether credentials are good; see the [module's docs](super).
///
/// Clones are the same authenticator.
#[derive(Clone)]
pub struct EdapiAuthenticator {
    core: Arc<Core>,
}

/// What an [`EdapiAuthenticator`] remembers between requests, for a new one to go on with when the configuration is
/// read again: answers, calls under way, and whether EDAPI answers at all. Everything in it is bounded.
pub struct EdapiState {
    digests: DigestKey,
    cache: Cache,
    flights: Arc<Flights>,
    calls: Semaphore,
    pulse: Pulse,
}

struct Core {
    wire: Wire,
    transport: Transport,
    sealer: Sealer,
    terms: Terms,
    timeout: Duration,
    /// What the proofs of sessions hold, so that a request need not open a seal.
    vouched: TtlMap<Arc<str>, Vouched>,
    state: Arc<EdapiState>,
    clock: Arc<dyn Clock>,
}

/// What a session's proof says.
#[derive(Clone)]
struct Vouched {
    principal: Principal,
    /// The digest of the credential.
    key: SecretDigest,
    /// When EDAPI last said yes, as far as the proof tells.
    at: SystemTime,
}

/// How many calls are made at the same time. More wait, within their deadline.
const MAX_CALLS: usize = 256;
/// How many sessions' proofs are remembered.
const MAX_VOUCHED: usize = 50_000;
/// When a client may try again while EDAPI is unavailable.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl EdapiAuthenticator {
    /// Asks the EDAPI of `policy` through `client`.
    ///
    /// Sessions keep credentials sealed under keys that are derived from `keys`, the secrets of the session cookie.
    ///
    /// `client` is an HTTP client as a tower service, such as hyper-util's. It resolves, connects and speaks TLS;
    /// it must follow no redirects and repeat no requests. Deadlines and limits are kept here.
    ///
    /// # Errors
    /// When the policy's URL and paths make no URL, with keys below `auth`; or when the operating system gives
    /// no random bytes.
    pub fn new<C, B, ResB>(
        policy: &EdapiPolicy,
        keys: &KeyRing,
        client: C,
    ) -> Result<Self, ConfigError>
    where
        C: Service<Request<B>, Response = Response<ResB>> + Clone + Send + Sync + 'static,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::Future: Send,
        B: From<Bytes> + Send + 'static,
        ResB: Body<Data = Bytes> + Send + 'static,
        ResB::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let state = Arc::new(EdapiState::new()?);
        Self::with_parts(policy, keys, client, state, Arc::new(SystemClock::new()))
    }

    /// The same with a state that outlives the authenticator, and a clock.
    ///
    /// # Errors
    /// As [`EdapiAuthenticator::new`].
    pub fn with_parts<C, B, ResB>(
        policy: &EdapiPolicy,
        keys: &KeyRing,
        client: C,
        state: Arc<EdapiState>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError>
    where
        C: Service<Request<B>, Response = Response<ResB>> + Clone + Send + Sync + 'static,
        C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        C::Future: Send,
        B: From<Bytes> + Send + 'static,
        ResB: Body<Data = Bytes> + Send + 'static,
        ResB::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let config = &policy.config;
        let core = Core {
            wire: Wire::new(policy)?,
            transport: Transport::new(client),
            sealer: Sealer::new(keys),
            terms: Terms {
                revalidate_after: config.revalidate_after,
                stale_if_error: config.stale_if_error,
            },
            timeout: config.timeout,
            vouched: TtlMap::new(MAX_VOUCHED),
            state,
            clock,
        };
        let core = Arc::new(core);
        Ok(Self { core })
    }

    /// Whether EDAPI seems to be down: the last three calls failed, or a probe did, within the last 30 seconds.
    /// Without traffic only [`EdapiAuthenticator::probe`] finds out.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.core.state.pulse.is_down(self.core.clock.now())
    }

    /// Makes the check call without a credential, and says whether EDAPI answered it: any status from 200 to 499
    /// but a redirect will do. It takes no longer than the configured deadline.
    pub fn probe(&self) -> impl Future<Output = bool> + Send + 'static {
        let core = self.core.clone();
        async move {
            let request = core.wire.probe();
            let answer = async {
                let request = request.ok_or(Fault::Unreachable(None))?;
                let status = core.transport.send(request).await?.status();
                let answers = status.is_success() || status.is_client_error();
                if answers {
                    Ok(())
                } else {
                    Err(Fault::Status(status))
                }
            };
            let answer = tokio::time::timeout(core.timeout, answer).await;
            match answer.unwrap_or(Err(Fault::TimedOut)) {
                Ok(()) => {
                    core.state.pulse.answered();
                    true
                }
                Err(fault) => {
                    core.state.pulse.is_unreachable(&fault, core.clock.now());
                    false
                }
            }
        }
    }
}

impl Authenticate for EdapiAuthenticator {
    fn method(&self) -> AuthMethod {
        AuthMethod::Edapi
    }

    fn accepts_basic(&self) -> bool {
        true
    }

    fn check(&self, credentials: &Credentials) -> VerdictFuture {
        let core = &self.core;
        let state = &core.state;
        let key = digest(&state.digests, core.wire.realm(), credentials);
        if let Some(outcome) = state.cache.fresh(&key, &core.terms, core.clock.now()) {
            return VerdictFuture::ready(verdict(outcome, key));
        }
        let Some(credential) = Credential::of(credentials) else {
            return VerdictFuture::ready(Verdict::Denied);
        };
        let ticket = core.ask(key, credential);
        VerdictFuture::boxed(async move { verdict(ticket.outcome().await, key) })
    }

    fn resume(&self, login: StoredLogin<'_>) -> VerdictFuture {
        let core = &self.core;
        let now = core.clock.now();
        let Some((proof, vouched)) = core.vouched(login, now) else {
            return VerdictFuture::ready(Verdict::Denied);
        };
        let known = core.state.cache.get(&vouched.key, now);
        let known = known.as_ref();
        let Some(holder) = Holder::new(vouched, known) else {
            return VerdictFuture::ready(Verdict::Denied);
        };
        if holder.last_yes.is_none() && known.is_some_and(|known| known.just_refused(now)) {
            return VerdictFuture::ready(Verdict::Denied);
        }
        if holder.is_fresh(&core.terms, now) {
            return VerdictFuture::ready(Verdict::Granted(holder.grant()));
        }
        if known.is_some_and(|known| known.just_failed(now)) {
            return VerdictFuture::ready(holder.without_answer(&core.terms, now));
        }
        let Some(unsealed) = core.sealer.open(login.subject, proof) else {
            return VerdictFuture::ready(Verdict::Denied);
        };
        let ticket = core.ask(holder.vouched.key, unsealed.credential);
        // After a failure the session does not wait for the next attempt, or each would cost it the deadline.
        let is_failing = known.is_some_and(|known: &Known| known.is_failing(now));
        if is_failing && holder.may_go_on(&core.terms, now) {
            return VerdictFuture::ready(Verdict::Granted(holder.grant()));
        }
        let core = core.clone();
        VerdictFuture::boxed(async move {
            match ticket.outcome().await {
                Outcome::Yes(yes) => Holder::renewed(holder.vouched, &yes)
                    .map_or(Verdict::Denied, |holder| Verdict::Granted(holder.grant())),
                Outcome::No(_) => Verdict::Denied,
                Outcome::Unavailable => holder.without_answer(&core.terms, core.clock.now()),
            }
        })
    }

    fn continues(&self, grant: &Grant, login: StoredLogin<'_>) -> bool {
        let vouched = self.core.vouched(login, self.core.clock.now());
        vouched.is_some_and(|(_, vouched)| {
            vouched.key.matches(&grant.key) && vouched.principal == grant.principal
        })
    }
}

impl fmt::Debug for EdapiAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdapiAuthenticator")
            .field("terms", &self.core.terms)
            .field("timeout", &self.core.timeout)
            .finish_non_exhaustive()
    }
}

impl EdapiState {
    /// Nothing yet.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn new() -> Result<Self, ConfigError> {
        let digests = DigestKey::random()
            .map_err(|_| ConfigError::new("", "the operating system gives no random bytes"))?;
        Ok(Self {
            digests,
            cache: Cache::new(),
            flights: Arc::default(),
            calls: Semaphore::new(MAX_CALLS),
            pulse: Pulse::default(),
        })
    }
}

impl fmt::Debug for EdapiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdapiState")
            .field("pulse", &self.pulse)
            .finish_non_exhaustive()
    }
}

impl Core {
    /// What the proof of a session says; `None` when it is not one of ours for this user.
    fn vouched<'a>(&self, login: StoredLogin<'a>, now: SystemTime) -> Option<(&'a str, Vouched)> {
        if login.method != AuthMethod::Edapi {
            return None;
        }
        let proof = login.proof?;
        let known = self.vouched.get(proof, now);
        if let Some(vouched) = known.filter(|vouched| *vouched.principal.id == *login.subject) {
            return Some((proof, vouched));
        }
        let unsealed = self.sealer.open(login.subject, proof)?;
        let credential = &unsealed.credential;
        let vouched = Vouched {
            principal: Principal::new(login.subject, AuthMethod::Edapi),
            key: credential.digest(&self.state.digests, self.wire.realm()),
            at: unsealed.at,
        };
        self.remember(proof.into(), vouched.clone(), now);
        Some((proof, vouched))
    }

    fn remember(&self, proof: Arc<str>, vouched: Vouched, now: SystemTime) {
        let ends_at = now + self.terms.revalidate_after + self.terms.stale_if_error;
        self.vouched.insert(proof, vouched, ends_at, now);
    }

    /// Joins the call about a credential, or makes it.
    fn ask(self: &Arc<Self>, key: SecretDigest, credential: Credential) -> Ticket {
        let state = &self.state;
        let known = || state.cache.fresh(&key, &self.terms, self.clock.now());
        let core = self.clone();
        let call = || async move {
            let outcome = core.call(key, &credential).await;
            let now = core.clock.now();
            core.state.cache.note(key, &outcome, &core.terms, now);
            outcome
        };
        state.flights.board(key, known, call).unwrap_or_else(|| {
            state.pulse.failed(&Fault::Busy, self.clock.now());
            Ticket::landed(Outcome::Unavailable)
        })
    }

    async fn call(&self, key: SecretDigest, credential: &Credential) -> Outcome {
        let asked_at = whole_millis(self.clock.now());
        let Some(request) = self.wire.request(credential) else {
            return Outcome::No(asked_at);
        };
        let answer = async {
            let _permit = self.state.calls.acquire().await.map_err(|_| Fault::Busy)?;
            let response = self.transport.send(request).await?;
            self.wire.read(response).await
        };
        let answer = tokio::time::timeout(self.timeout, answer).await;
        let (outcome, label) = match answer.unwrap_or(Err(Fault::TimedOut)) {
            Ok(Answer::Yes(user)) => {
                self.state.pulse.answered();
                let yes = self.yes(user, asked_at, key, credential);
                (Outcome::Yes(Arc::new(yes)), "yes")
            }
            Ok(Answer::No) => {
                self.state.pulse.answered();
                (Outcome::No(asked_at), "no")
            }
            Err(mut fault) => {
                if let Fault::Unreachable(cause) = &mut fault
                    && cause
                        .as_ref()
                        .is_some_and(|cause| credential.shows_in(cause))
                {
                    *cause = None;
                }
                self.state.pulse.failed(&fault, self.clock.now());
                (Outcome::Unavailable, "unavailable")
            }
        };
        metrics::counter!("hub_edapi_checks_total", "outcome" => label).increment(1);
        outcome
    }

    fn yes(&self, user: String, at: SystemTime, key: SecretDigest, credential: &Credential) -> Yes {
        let principal = Principal::new(user, AuthMethod::Edapi);
        let proof = self.sealer.seal(&principal.id, at, credential);
        if let Some(proof) = &proof {
            let vouched = Vouched {
                principal: principal.clone(),
                key,
                at,
            };
            self.remember(proof.clone(), vouched, self.clock.now());
        }
        Yes {
            principal,
            at,
            proof,
        }
    }
}

/// Whoever holds a session.
struct Holder {
    vouched: Vouched,
    /// `None` when EDAPI has said no since. Then only another yes lets the session go on.
    last_yes: Option<SystemTime>,
    /// For the session to keep instead of what it has.
    proof: Option<Arc<str>>,
}

impl Holder {
    /// With what is known beside the proof, if that is newer. `None` when the credential is somebody else's by now.
    fn new(vouched: Vouched, known: Option<&Known>) -> Option<Self> {
        let is_refused = known.is_some_and(|known| known.is_refused_after(vouched.at));
        match known.and_then(Known::yes) {
            Some(yes) if yes.at > vouched.at => Self::renewed(vouched, yes),
            _ => Some(Self {
                last_yes: (!is_refused).then_some(vouched.at),
                vouched,
                proof: None,
            }),
        }
    }

    /// After a new yes. `None` when it names somebody else.
    fn renewed(vouched: Vouched, yes: &Yes) -> Option<Self> {
        (yes.principal == vouched.principal).then(|| Self {
            vouched,
            last_yes: Some(yes.at),
            proof: yes.proof.clone(),
        })
    }

    fn grant(&self) -> Grant {
        let grant = Grant::new(self.vouched.principal.clone(), self.vouched.key);
        match &self.proof {
            Some(proof) => grant.with_proof(proof.clone()),
            None => grant,
        }
    }

    fn is_fresh(&self, terms: &Terms, now: SystemTime) -> bool {
        self.last_yes.is_some_and(|at| terms.is_fresh(at, now))
    }

    fn may_go_on(&self, terms: &Terms, now: SystemTime) -> bool {
        self.last_yes.is_some_and(|at| terms.may_go_on(at, now))
    }

    /// What happens while EDAPI does not say anything.
    fn without_answer(&self, terms: &Terms, now: SystemTime) -> Verdict {
        if self.may_go_on(terms, now) {
            Verdict::Granted(self.grant())
        } else {
            Verdict::Unavailable(RETRY_AFTER)
        }
    }
}

/// A proof holds milliseconds, and the same yes must have the same time wherever it is read.
fn whole_millis(at: SystemTime) -> SystemTime {
    let nanos = at
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos() % 1_000_000);
    at - Duration::from_nanos(nanos.into())
}

fn verdict(outcome: Outcome, key: SecretDigest) -> Verdict {
    match outcome {
        Outcome::Yes(yes) => {
            let grant = Grant::new(yes.principal.clone(), key);
            Verdict::Granted(match &yes.proof {
                Some(proof) => grant.with_proof(proof.clone()),
                None => grant,
            })
        }
        Outcome::No(_) => Verdict::Denied,
        Outcome::Unavailable => Verdict::Unavailable(RETRY_AFTER),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
