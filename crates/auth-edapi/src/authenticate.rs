use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use proactions_edge::{AuthMethod, Principal, SecretDigest};
use proactions_session_store::Record;
use serde_json::Value;

use crate::Credentials;

/// Decides whether credentials are good.
///
/// It answers within a deadline of its own: what cannot be found out is [`Verdict::Unavailable`].
pub trait Authenticate: fmt::Debug + Send + Sync + 'static {
    /// What vouches for the users that it admits.
    fn method(&self) -> AuthMethod;

    /// Whether user and password are worth presenting.
    fn accepts_basic(&self) -> bool;

    /// Checks credentials that a client presents.
    fn check(&self, credentials: &Credentials) -> VerdictFuture;

    /// Checks whether somebody whom it admitted before, and whose session says so, may go on.
    ///
    /// A proof in the grant that differs from the session's is what the session keeps from now on. A session that is
    /// denied is ended; one without a proof is only refused, since another program that shares the store may have opened
    /// it.
    fn resume(&self, login: StoredLogin<'_>) -> VerdictFuture;

    /// Whether a session's login is by the very credentials that were granted just now, so that whoever presents
    /// them again can go on with that session.
    fn continues(&self, grant: &Grant, login: StoredLogin<'_>) -> bool {
        let principal = &grant.principal;
        login.method == principal.method
            && login.subject == &*principal.id
            && login.proof == grant.proof.as_deref()
    }
}

/// What was found out about credentials.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// They are good.
    Granted(Grant),
    /// They are not.
    Denied,
    /// It cannot be told now; perhaps after this time.
    Unavailable(Duration),
}

/// Who was admitted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Grant {
    /// Who it is.
    pub principal: Principal,
    /// The same for the same credentials, and for no others: a digest of everything that was presented.
    pub key: SecretDigest,
    /// A text that the session keeps and [`Authenticate::resume`] gets back. It is stored, so it must not
    /// be the credential, nor let anybody find it out.
    pub proof: Option<Arc<str>>,
}

impl Grant {
    /// Admits `principal`, whose credentials have the digest `key`.
    #[must_use]
    pub const fn new(principal: Principal, key: SecretDigest) -> Self {
        Self {
            principal,
            key,
            proof: None,
        }
    }

    /// Has the session keep `proof`.
    #[must_use]
    pub fn with_proof(mut self, proof: Arc<str>) -> Self {
        self.proof = Some(proof);
        self
    }

    /// The session's member [`MEMBER`].
    pub(crate) fn to_member(&self) -> Value {
        let mut member = serde_json::json!({
            "type": self.principal.method.as_str(),
            "subject": &*self.principal.id,
        });
        if let (Some(proof), Some(member)) = (&self.proof, member.as_object_mut()) {
            member.insert("proof".to_owned(), (&**proof).into());
        }
        member
    }
}

/// What a session keeps of the login that opened it: its member `auth`.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct StoredLogin<'a> {
    /// What vouched for the user.
    pub method: AuthMethod,
    /// The user's id at that time.
    pub subject: &'a str,
    /// The proof of the [`Grant`].
    pub proof: Option<&'a str>,
}

/// A [`StoredLogin`] that keeps its texts itself.
struct Login {
    method: AuthMethod,
    subject: Box<str>,
    proof: Option<Box<str>>,
}

impl<'a> StoredLogin<'a> {
    pub(crate) fn from_member(member: &'a Value) -> Option<Self> {
        Some(Self {
            method: AuthMethod::from_name(member.get("type")?.as_str()?)?,
            subject: member.get("subject")?.as_str()?,
            proof: proof_of(member),
        })
    }
}

impl Login {
    fn of(login: StoredLogin<'_>) -> Self {
        Self {
            method: login.method,
            subject: login.subject.into(),
            proof: login.proof.map(Box::from),
        }
    }

    fn stored(&self) -> StoredLogin<'_> {
        StoredLogin {
            method: self.method,
            subject: &self.subject,
            proof: self.proof.as_deref(),
        }
    }
}

/// Who a session belongs to.
pub(crate) fn login_of(record: &Record) -> Option<StoredLogin<'_>> {
    fn read(record: &Record) -> Option<StoredLogin<'_>> {
        StoredLogin::from_member(record.get(MEMBER)?)
    }
    match record.derived(|record| read(record).map(Login::of)) {
        Some(login) => login.as_ref().map(Login::stored),
        // A handler has put something of its own there.
        None => read(record),
    }
}

pub(crate) fn proof_of(member: &Value) -> Option<&str> {
    member.get("proof").and_then(Value::as_str)
}

impl fmt::Debug for StoredLogin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredLogin")
            .field("method", &self.method)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// The name of a session's member that says who it belongs to: `{"type","subject","proof"}`.
pub(crate) const MEMBER: &str = "auth";

/// A [`Verdict`]: there already, or on its way.
#[must_use = "nothing happens until it is awaited"]
pub struct VerdictFuture(Inner);

enum Inner {
    Ready(Option<Verdict>),
    Boxed(Pin<Box<dyn Future<Output = Verdict> + Send>>),
}

impl VerdictFuture {
    /// A verdict that is there.
    pub const fn ready(verdict: Verdict) -> Self {
        Self(Inner::Ready(Some(verdict)))
    }

    /// A verdict that needs I/O.
    pub fn boxed(verdict: impl Future<Output = Verdict> + Send + 'static) -> Self {
        Self(Inner::Boxed(Box::pin(verdict)))
    }
}

impl Future for VerdictFuture {
    type Output = Verdict;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Verdict> {
        match &mut self.0 {
            Inner::Ready(verdict) => verdict.take().map_or(Poll::Pending, Poll::Ready),
            Inner::Boxed(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for VerdictFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerdictFuture(..)")
    }
}
