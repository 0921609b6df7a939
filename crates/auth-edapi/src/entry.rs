use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use proactions_edge::{Clock, Principal, Rejection, RejectionKind, RequestId};
use proactions_session_store::{Commit, Load, Session, SessionId, StoreError};
use tokio::runtime::Handle;

use crate::authenticate::{
    Authenticate, Grant, MEMBER, Verdict, VerdictFuture, login_of, proof_of,
};
use crate::lockout::Leave;
use crate::opened::Turn;
use crate::{AccessPolicy, AuthState, Credentials, UserId};

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) access: AccessPolicy,
    pub(crate) authenticator: Arc<dyn Authenticate>,
    pub(crate) state: Arc<AuthState>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) challenge: HeaderValue,
}

/// One request on its way in: session, then credentials, then a session for them.
///
/// It knows nothing of the service behind, so the whole decision can be read here.
pub(crate) struct Entry {
    pub(crate) core: Arc<Core>,
    pub(crate) session: Option<Session>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) ip: Option<IpAddr>,
    /// Another site may have made the browser send this, so what a browser adds by itself must not vouch for it.
    pub(crate) cross_site: bool,
    step: Step,
}

enum Step {
    Begin,
    /// The session of the cookie is being read.
    Read(Load),
    /// Its user is being checked again.
    Resume(VerdictFuture),
    /// The credentials are being checked.
    Check(Checking),
    /// They are good; the session that they opened before is being read.
    Return(Load, Grant, SessionId),
    /// They are good; a session for them is being stored.
    Store(Commit, Grant),
}

/// How a step ends.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one step, and a box would cost each request an allocation"
)]
enum Turned {
    Next(Step),
    Done(Outcome),
}

pub(crate) type Outcome = Result<Principal, Box<Rejection>>;

/// Credentials that are being checked.
///
/// Whoever goes away does not take the question back, so its answer is waited for and counted all the same: else a
/// guesser who hangs up on every guess could have any number of them asked.
struct Checking(Option<Asked>);

struct Asked {
    verdict: VerdictFuture,
    leave: Leave,
    login: Login,
}

/// Who tries to log in.
struct Login {
    core: Arc<Core>,
    ip: Option<IpAddr>,
    user: Option<UserId>,
}

impl Entry {
    pub(crate) const fn new(
        core: Arc<Core>,
        session: Option<Session>,
        credentials: Option<Credentials>,
        ip: Option<IpAddr>,
        cross_site: bool,
    ) -> Self {
        Self {
            core,
            session,
            credentials,
            ip,
            cross_site,
            step: Step::Begin,
        }
    }

    /// Decides. `request_id` only names the request in events.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        request_id: Option<&RequestId>,
    ) -> Poll<Outcome> {
        loop {
            let turned = match &mut self.step {
                Step::Begin => match &self.session {
                    Some(session) => Turned::Next(Step::Read(session.load())),
                    None => self.check(request_id),
                },
                Step::Read(load) => {
                    let read = ready!(Pin::new(load).poll(cx));
                    self.read(&read, request_id)
                }
                Step::Resume(verdict) => {
                    let verdict = ready!(Pin::new(verdict).poll(cx));
                    self.resumed(verdict, request_id)
                }
                Step::Check(checking) => {
                    let (verdict, asked) = ready!(Pin::new(checking).poll(cx));
                    self.checked(verdict, asked, request_id)
                }
                Step::Return(load, grant, id) => {
                    let read = ready!(Pin::new(load).poll(cx));
                    let (grant, id) = (grant.clone(), id.clone());
                    self.returned(&read, grant, &id)
                }
                Step::Store(commit, grant) => {
                    let stored = ready!(Pin::new(commit).poll(cx));
                    let grant = grant.clone();
                    self.stored(stored, grant, request_id)
                }
            };
            match turned {
                Turned::Next(step) => self.step = step,
                Turned::Done(outcome) => return Poll::Ready(outcome),
            }
        }
    }

    /// The store has said what the cookie is worth.
    fn read(&mut self, read: &Result<(), StoreError>, request_id: Option<&RequestId>) -> Turned {
        match read {
            Ok(()) => {
                let record = self.session.as_ref().and_then(Session::record);
                match record.as_deref().and_then(login_of) {
                    Some(login) => {
                        Turned::Next(Step::Resume(self.core.authenticator.resume(login)))
                    }
                    None => self.check(request_id),
                }
            }
            // Without the store nobody knows whose cookie it is. Credentials speak for themselves.
            Err(_) if self.credentials.is_some() => {
                self.session = None;
                self.check(request_id)
            }
            Err(_) => refuse(unavailable(Duration::from_secs(1))),
        }
    }

    fn resumed(&mut self, verdict: Verdict, request_id: Option<&RequestId>) -> Turned {
        match verdict {
            Verdict::Granted(_) if self.cross_site => self.refuse_cross_site(request_id),
            Verdict::Granted(grant) => {
                self.renew(&grant);
                Turned::Done(Ok(grant.principal))
            }
            // It was not opened here: a Node service that shares the store keeps no proof. It may well be good there.
            Verdict::Denied if !self.has_proof() => self.check(request_id),
            Verdict::Denied => {
                tracing::warn!(
                    target: "security",
                    event = "session_revoked",
                    ip = self.ip.map(tracing::field::display),
                    requestId = request_id.map(tracing::field::display),
                    session = ?self.session,
                    "A session was ended: its login is no longer valid"
                );
                if let Some(session) = &self.session {
                    session.destroy();
                }
                self.check(request_id)
            }
            Verdict::Unavailable(wait) => refuse(unavailable(wait)),
        }
    }

    fn has_proof(&self) -> bool {
        let record = self.session.as_ref().and_then(Session::record);
        let member = record.as_deref().and_then(|record| record.get(MEMBER));
        member.and_then(proof_of).is_some()
    }

    /// Has the session keep the proof of its grant, if that is a new one. It is written with the answer.
    fn renew(&self, grant: &Grant) {
        let (Some(session), Some(proof)) = (&self.session, &grant.proof) else {
            return;
        };
        let record = session.record();
        let member = record.as_deref().and_then(|record| record.get(MEMBER));
        if member.is_some_and(|member| proof_of(member) != Some(proof)) {
            // The name is not one of the reserved.
            let _ = session.insert(MEMBER, grant.to_member());
        }
    }

    /// No session vouches for the request: asks for credentials.
    fn check(&self, request_id: Option<&RequestId>) -> Turned {
        let Some(credentials) = &self.credentials else {
            tracing::warn!(
                target: "security",
                event = "unauthorized",
                ip = self.ip.map(tracing::field::display),
                requestId = request_id.map(tracing::field::display),
                "A request without valid credentials was refused"
            );
            return refuse(self.unauthorized());
        };
        // A browser remembers user and password, and sends them again like a cookie. Nobody tried them here, so it
        // is no attempt.
        if self.cross_site && matches!(credentials, Credentials::Basic(_)) {
            return self.refuse_cross_site(request_id);
        }
        let now = self.core.clock.now();
        let leave = self.core.state.lock_out.enter(self.ip, credentials, now);
        match leave {
            Err(wait) => refuse(locked_out(wait)),
            Ok(leave) => Turned::Next(Step::Check(Checking(Some(Asked {
                verdict: self.core.authenticator.check(credentials),
                leave,
                login: Login {
                    core: self.core.clone(),
                    ip: self.ip,
                    user: credentials.user().cloned(),
                },
            })))),
        }
    }

    fn checked(&self, verdict: Verdict, asked: Asked, request_id: Option<&RequestId>) -> Turned {
        let Asked { leave, login, .. } = asked;
        let now = self.core.clock.now();
        match verdict {
            Verdict::Granted(grant) => {
                self.core.state.lock_out.pass(&leave, self.ip, now);
                self.open(grant, now)
            }
            Verdict::Denied => {
                login.failed(leave, request_id);
                refuse(self.unauthorized())
            }
            Verdict::Unavailable(wait) => refuse(unavailable(wait)),
        }
    }

    /// The credentials are good: finds them a session, unless nobody could come back to it.
    fn open(&self, grant: Grant, now: SystemTime) -> Turned {
        let Some(session) = self.session.as_ref().filter(|s| s.can_be_sent()) else {
            return Turned::Done(Ok(grant.principal));
        };
        match self.core.state.opened.turn(grant.key, now) {
            Turn::Open => begin(session, grant),
            Turn::Wait => Turned::Done(Ok(grant.principal)),
            Turn::GoOnWith(id) => {
                session.adopt(id.clone());
                Turned::Next(Step::Return(session.load(), grant, id))
            }
        }
    }

    fn returned(&self, read: &Result<(), StoreError>, grant: Grant, id: &SessionId) -> Turned {
        let Some(session) = self.session.as_ref().filter(|_| read.is_ok()) else {
            return Turned::Done(Ok(grant.principal));
        };
        let record = session.record();
        let login = record.as_deref().and_then(login_of);
        let same = login.is_some_and(|login| self.core.authenticator.continues(&grant, login));
        if same {
            session.send_cookie();
            return Turned::Done(Ok(grant.principal));
        }
        let now = self.core.clock.now();
        match self.core.state.opened.replace(grant.key, id, now) {
            Turn::Open => begin(session, grant),
            Turn::Wait | Turn::GoOnWith(_) => Turned::Done(Ok(grant.principal)),
        }
    }

    fn stored(
        &self,
        stored: Result<(), StoreError>,
        grant: Grant,
        request_id: Option<&RequestId>,
    ) -> Turned {
        let now = self.core.clock.now();
        let id = self.session.as_ref().and_then(Session::id);
        match (stored, id) {
            (Ok(()), Some(id)) => {
                self.core.state.opened.opened(grant.key, id.clone(), now);
                tracing::info!(
                    target: "security",
                    event = "login",
                    ip = self.ip.map(tracing::field::display),
                    requestId = request_id.map(tracing::field::display),
                    username = &*grant.principal.id,
                    session = ?id,
                    "A session was opened"
                );
            }
            (outcome, _) => {
                self.core.state.opened.forget(grant.key, now);
                // The credentials are good all the same.
                if let Err(error) = outcome {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "A login goes on without a session: it could not be stored"
                    );
                }
            }
        }
        Turned::Done(Ok(grant.principal))
    }

    fn refuse_cross_site(&self, request_id: Option<&RequestId>) -> Turned {
        tracing::warn!(
            target: "security",
            event = "cross_site_refused",
            ip = self.ip.map(tracing::field::display),
            requestId = request_id.map(tracing::field::display),
            "A session cookie, or user and password, came with a request that another site made"
        );
        refuse(Rejection::new(RejectionKind::CrossSite))
    }

    fn unauthorized(&self) -> Rejection {
        Rejection::new(RejectionKind::Unauthorized)
            .with_header(WWW_AUTHENTICATE, self.core.challenge.clone())
    }
}

impl Future for Checking {
    type Output = (Verdict, Asked);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(asked) = &mut self.0 else {
            return Poll::Pending;
        };
        let verdict = ready!(Pin::new(&mut asked.verdict).poll(cx));
        self.0
            .take()
            .map_or(Poll::Pending, |asked| Poll::Ready((verdict, asked)))
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        let Some(Asked {
            verdict,
            leave,
            login,
        }) = self.0.take()
        else {
            return;
        };
        let now = login.core.clock.now();
        let Some(leave) = login.core.state.lock_out.give_up(leave, now) else {
            return;
        };
        // Without a run-time the process ends.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if matches!(verdict.await, Verdict::Denied) {
                    login.failed(leave, None);
                }
            });
        }
    }
}

impl Login {
    fn failed(self, leave: Leave, request_id: Option<&RequestId>) {
        let user = self.user.as_ref();
        tracing::warn!(
            target: "security",
            event = "login_failed",
            ip = self.ip.map(tracing::field::display),
            requestId = request_id.map(tracing::field::display),
            username = user.map(UserId::as_str),
            method = self.core.authenticator.method().as_str(),
            "Credentials were refused"
        );
        let now = self.core.clock.now();
        if self.core.state.lock_out.fail(leave, self.ip, user, now) {
            tracing::warn!(
                target: "security",
                event = "login_locked_out",
                ip = self.ip.map(tracing::field::display),
                requestId = request_id.map(tracing::field::display),
                username = user.map(UserId::as_str),
                "Too many credentials were refused; no more are checked for a minute"
            );
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// A fresh session; the one that came with the request is removed once it is stored.
fn begin(session: &Session, grant: Grant) -> Turned {
    session.regenerate();
    // The name is not one of the reserved.
    let _ = session.insert(MEMBER, grant.to_member());
    Turned::Next(Step::Store(session.commit(), grant))
}

fn refuse(rejection: Rejection) -> Turned {
    Turned::Done(Err(Box::new(rejection)))
}

fn unavailable(wait: Duration) -> Rejection {
    Rejection::new(RejectionKind::Unavailable).with_retry_after(wait)
}

fn locked_out(wait: Duration) -> Rejection {
    Rejection::new(RejectionKind::LockedOut).with_retry_after(wait)
}
