use std::error::Error;
use std::fmt;

use proactions_edge::{Rejection, RejectionKind};

use crate::BoxError;
use crate::direct::DirectError;
use crate::egress::EgressRefused;
use crate::proxy::ClientSilent;

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
    /// The egress rules do not allow the connection.
    Refused,
    /// The client's own body broke off or was cut.
    RequestBody,
    /// The client was silent for too long while it sent its body.
    RequestTimeout,
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
            Self::Refused => "egress_refused",
            Self::RequestBody => "request_body",
            Self::RequestTimeout => "request_timeout",
            Self::Timeout => "upstream_timeout",
        }
    }

    /// The one table that says what the client is told.
    #[must_use]
    pub const fn rejection_kind(self) -> RejectionKind {
        match self {
            Self::Connect | Self::Protocol | Self::Refused => RejectionKind::BadGateway,
            Self::ConnectTimeout | Self::Timeout => RejectionKind::GatewayTimeout,
            Self::RequestBody => RejectionKind::BadRequest,
            Self::RequestTimeout => RejectionKind::RequestTimeout,
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

    pub(crate) const fn client_silent() -> Self {
        Self {
            kind: SendErrorKind::RequestTimeout,
            source: None,
        }
    }

    pub(crate) fn protocol(why: &'static str) -> Self {
        Self {
            kind: SendErrorKind::Protocol,
            source: Some(why.into()),
        }
    }

    pub(crate) fn connect(why: &'static str) -> Self {
        Self {
            kind: SendErrorKind::Connect,
            source: Some(why.into()),
        }
    }

    pub(crate) fn of_client(error: hyper_util::client::legacy::Error) -> Self {
        let connecting = error.is_connect();
        Self::of_call(Box::new(error), connecting)
    }

    pub(crate) fn of_direct(error: DirectError) -> Self {
        match error {
            DirectError::Connect(error) => Self::of_call(error, true),
            DirectError::Exchange(error) => Self::of_call(Box::new(error), false),
        }
    }

    fn of_call(source: BoxError, connecting: bool) -> Self {
        let error: &(dyn Error + 'static) = &*source;
        let kind = if causes::<EgressRefused>(error).next().is_some() {
            SendErrorKind::Refused
        } else if causes::<ClientSilent>(error).next().is_some() {
            SendErrorKind::RequestTimeout
        } else if causes::<hyper::Error>(error).any(hyper::Error::is_user) {
            SendErrorKind::RequestBody
        } else if connecting {
            let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut;
            if causes::<std::io::Error>(error).any(timed_out) {
                SendErrorKind::ConnectTimeout
            } else {
                SendErrorKind::Connect
            }
        } else {
            SendErrorKind::Protocol
        };
        Self {
            kind,
            source: Some(source),
        }
    }

    pub(crate) fn of_body(error: hyper::Error) -> Self {
        Self {
            kind: SendErrorKind::Protocol,
            source: Some(Box::new(error)),
        }
    }

    /// An upstream whose answer cannot be used, found out by the caller: as if it had broken off.
    pub fn broken(why: impl Into<BoxError>) -> Self {
        Self {
            kind: SendErrorKind::Protocol,
            source: Some(why.into()),
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
            SendErrorKind::Refused => "the egress rules do not allow this connection",
            SendErrorKind::RequestBody => "the request body broke off",
            SendErrorKind::RequestTimeout => "the client was silent for too long",
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
