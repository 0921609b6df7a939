use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use proactions_edge::Principal;
use proactions_session_store::{Session, StoreError};

/// The answer to «who am I»: `{"user":…,"method":…,"expiresAt":…}`.
///
/// `expiresAt` is when the session ends if it is not used again, in milliseconds since 1970, or `null` where a
/// credential vouches for the request without a session.
#[must_use]
pub fn whoami(session: Option<&Session>, principal: &Principal) -> Bytes {
    let millis = |at: SystemTime| {
        at.duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_millis()).ok())
    };
    let expires_at = session.and_then(Session::expires_at).and_then(millis);
    let user = serde_json::Value::from(&*principal.id);
    let expires_at = serde_json::Value::from(expires_at);
    let method = principal.method.as_str();
    Bytes::from(format!(
        r#"{{"user":{user},"method":"{method}","expiresAt":{expires_at}}}"#
    ))
}

/// Ends the session, in the store too, and has the browser forget the cookie.
///
/// Which credential opened it need not be forgotten separately: the next request with that credential finds the
/// session ended and opens a new one.
///
/// # Errors
/// When the store cannot be reached: the session is then still open, and the answer should be 503.
pub async fn logout(session: &Session) -> Result<(), StoreError> {
    session.destroy();
    session.commit().await
}
