//! The log of what was done.

use std::fmt;
use std::sync::Arc;

use proactions_edge::{Principal, Rejection, RejectionKind, RequestId};
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::google::GoogleError;
use crate::multipart::FormError;
use crate::tokens::TokenError;

/// Why a request is not answered as it wishes: what the client is told, and what the log is.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) rejection: Rejection,
    /// A name for the log.
    outcome: &'static str,
    /// Details for the log alone.
    details: Option<String>,
}

impl Refusal {
    pub(crate) fn bad(message: &'static str) -> Self {
        Rejection::new(RejectionKind::BadRequest)
            .with_message(message)
            .into()
    }

    /// Google did what it should not.
    pub(crate) fn nonsense(what: &'static str) -> Self {
        GoogleError::Nonsense(what).into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.details {
            Some(details) => f.write_str(details),
            None => f.write_str(self.rejection.message()),
        }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            outcome: "refused",
            details: None,
        }
    }
}

impl From<FormError> for Refusal {
    fn from(error: FormError) -> Self {
        error.rejection().into()
    }
}

impl From<GoogleError> for Refusal {
    fn from(error: GoogleError) -> Self {
        Self {
            rejection: error.rejection(),
            outcome: error.as_str(),
            details: Some(error.to_string()),
        }
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Google(error) => error.into(),
            TokenError::NotConnected => Rejection::new(RejectionKind::Forbidden)
                .with_message("The YouTube account is not connected")
                .into(),
            TokenError::File(_) => Self {
                rejection: Rejection::new(RejectionKind::Internal),
                outcome: "token_file",
                details: Some(error.to_string()),
            },
        }
    }
}

impl From<getrandom::Error> for Refusal {
    fn from(error: getrandom::Error) -> Self {
        Self {
            rejection: Rejection::new(RejectionKind::Internal),
            outcome: "no_random_bytes",
            details: Some(error.to_string()),
        }
    }
}

/// One request. When it is dropped it leaves one event in the log, whichever way it ended.
#[derive(Debug)]
pub(crate) struct Entry {
    endpoint: Endpoint,
    started: Instant,
    request_id: Option<RequestId>,
    pub(crate) username: Option<Arc<str>>,
    pub(crate) target: Option<Arc<str>>,
    /// Of the video.
    pub(crate) bytes: Option<u64>,
    ending: Ending,
}

#[derive(Debug)]
enum Ending {
    ClientLeft,
    Done(&'static str),
    Failed {
        status: u16,
        outcome: &'static str,
        details: Option<String>,
    },
    Refused {
        status: u16,
        message: String,
    },
}

impl Entry {
    pub(crate) fn new(endpoint: Endpoint, extensions: &http::Extensions) -> Self {
        Self {
            endpoint,
            started: Instant::now(),
            request_id: extensions.get().cloned(),
            username: extensions
                .get::<Principal>()
                .map(|principal| Arc::clone(&principal.id)),
            target: None,
            bytes: None,
            ending: Ending::ClientLeft,
        }
    }

    pub(crate) fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    pub(crate) fn done(&mut self, outcome: &'static str) {
        self.ending = Ending::Done(outcome);
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        let status = refusal.rejection.status().as_u16();
        self.ending = if refusal.outcome == "refused" {
            Ending::Refused {
                status,
                message: refusal.rejection.message().to_owned(),
            }
        } else {
            Ending::Failed {
                status,
                outcome: refusal.outcome,
                details: refusal.details.clone(),
            }
        };
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let duration = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // The event's level has to be a constant.
        macro_rules! event {
            ($level:ident, $message:literal, $($field:ident = $value:expr),*) => {
                tracing::$level!(
                    target: "youtube",
                    requestId = self.request_id.as_ref().map(RequestId::as_str),
                    username = self.username.as_deref(),
                    action = self.endpoint.action(),
                    target = self.target.as_deref(),
                    bytes = self.bytes,
                    duration,
                    $($field = $value,)*
                    $message
                )
            };
        }
        match &self.ending {
            Ending::Done(outcome) if self.endpoint == Endpoint::Status => {
                event!(debug, "YouTube request done", outcome = *outcome);
            }
            Ending::Done(outcome) => event!(info, "YouTube request done", outcome = *outcome),
            Ending::ClientLeft => event!(
                info,
                "YouTube request left by the client",
                outcome = "client_left"
            ),
            Ending::Refused { status, message } => event!(
                info,
                "YouTube request refused",
                outcome = "refused",
                statusCode = *status,
                error = message.as_str()
            ),
            Ending::Failed {
                status,
                outcome,
                details,
            } => event!(
                error,
                "YouTube request failed",
                outcome = *outcome,
                statusCode = *status,
                error = details.as_deref()
            ),
        }
    }
}
