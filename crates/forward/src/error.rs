use std::error::Error;
use std::fmt;

use proactions_edge::{Rejection, RejectionKind};

use crate::BoxError;

/// Why an upstream call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// No connection: refused, unreachable, name not found, TLS not agreed on.
    Connect,
    /// No connection within the deadline.
    ConnectTimeout,
    /// The upstream broke off or did not speak HTTP.
    Protocol,
    /// The client's own body broke off or was cut.
    RequestBody,
    /// The upstream was silent for too long.
    Timeout,
}

impl SendErrorKind {
    /// A stable name for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "upstream_unreachable",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::Protocol => "upstream_error",
            Self::RequestBody => "request_body",
            Self::Timeout => "upstream_timeout",
        }
    }

    /// The one table that says what the client is told.
    #[must_use]
    pub const fn rejection_kind(self) -> RejectionKind {
        match self {
            Self::Connect | Self::Protocol => RejectionKind::BadGateway,
            Self::ConnectTimeout | Self::Timeout => RejectionKind::GatewayTimeout,
            Self::RequestBody => RejectionKind::BadRequest,
        }
    }
}

/// A failed upstream call. Its text tells about the upstream: it is for logs, never for a client.
#[derive(Debug)]
pub struct SendError {
    kind: SendErrorKind,
    source: Option<BoxError>,
}

impl SendError {
    pub(crate) const fn timeout() -> Self {
        Self {
            kind: SendErrorKind::Timeout,
            source: None,
        }
    }

    pub(crate) fn of_client(error: hyper_util::client::legacy::Error) -> Self {
        let kind = if causes::<hyper::Error>(&error).any(hyper::Error::is_user) {
            SendErrorKind::RequestBody
        } else if error.is_connect() {
            let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut;
            if causes::<std::io::Error>(&error).any(timed_out) {
                SendErrorKind::ConnectTimeout
            } else {
                SendErrorKind::Connect
            }
        } else {
            SendErrorKind::Protocol
        };
        Self {
            kind,
            source: Some(Box::new(error)),
        }
    }

    pub(crate) fn of_body(error: hyper::Error) -> Self {
        Self {
            kind: SendErrorKind::Protocol,
            source: Some(Box::new(error)),
        }
    }

    /// Why.
    #[must_use]
    pub const fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// What the client is told: nothing about the inside.
    #[must_use]
    pub fn rejection(&self) -> Rejection {
        let rejection = Rejection::new(self.kind.rejection_kind());
        match self.kind {
            SendErrorKind::RequestBody => {
                rejection.with_message("The request body could not be read")
            }
            _ => rejection,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            SendErrorKind::Connect => "no connection to the upstream",
            SendErrorKind::ConnectTimeout => "no connection to the upstream in time",
            SendErrorKind::Protocol => "the upstream broke off",
            SendErrorKind::RequestBody => "the request body broke off",
            SendErrorKind::Timeout => "the upstream was silent for too long",
        })?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|error| error as &(dyn Error + 'static))
    }
}

/// The causes of type `T`, from the outside in.
fn causes<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a T> {
    std::iter::successors(Some(error), |error| inner(*error))
        .filter_map(|error| error.downcast_ref())
}

/// The next cause; `io::Error` hides the error that it wraps from `source`.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|error| error as &(dyn Error + 'static)),
        None => error.source(),
    }
}
