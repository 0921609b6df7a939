use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use redis::{ErrorKind, ServerErrorKind};

/// Why Redis did not do what it was asked. It shows no key, no value, no address and no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisError {
    kind: RedisErrorKind,
    detail: Cow<'static, str>,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RedisErrorKind {
    /// Redis cannot be reached, does not answer in time, is loading, or cannot be written to.
    Outage,
    /// No TLS connection comes about: a certificate is not trusted, or one side does not speak TLS.
    Tls,
    /// The password is wrong, or missing.
    Auth,
    /// The user may not do this (ACL).
    Denied,
    /// The memory that Redis may use is full, and it evicts nothing.
    Full,
    /// The key holds something of another type.
    WrongType,
    /// Redis answered what was not expected.
    Protocol,
}

impl RedisErrorKind {
    /// A word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outage => "outage",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::WrongType => "wrong_type",
            Self::Protocol => "protocol",
        }
    }
}

impl RedisError {
    pub(crate) fn new(kind: RedisErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
        }
    }

    pub(crate) fn outage(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RedisErrorKind::Outage, detail)
    }

    /// What kind of failure.
    #[must_use]
    pub const fn kind(&self) -> RedisErrorKind {
        self.kind
    }
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            RedisErrorKind::Outage => "Redis is out of reach",
            RedisErrorKind::Tls => "no TLS connection to Redis comes about",
            RedisErrorKind::Auth => "Redis refuses the login",
            RedisErrorKind::Denied => "Redis denies the command to this user",
            RedisErrorKind::Full => "the memory of Redis is full",
            RedisErrorKind::WrongType => "a key in Redis holds something else",
            RedisErrorKind::Protocol => "Redis gave an unexpected answer",
        };
        write!(f, "{what}: {}", self.detail)
    }
}

impl Error for RedisError {}

/// What came of a request to one server.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The server does not know the script. It was not run.
    NoScript,
    /// Another server of the cluster holds the key, for good. The command was not run.
    Moved { address: String },
    /// Another server of the cluster holds the key, this once. The command was not run.
    Ask { address: String },
    /// Anything else.
    Error {
        error: RedisError,
        /// Whether a fresh connection may help.
        reconnect: bool,
    },
}

impl Failure {
    pub(crate) fn lasting(error: RedisError) -> Self {
        Self::Error {
            error,
            reconnect: false,
        }
    }

    pub(crate) fn into_error(self) -> RedisError {
        match self {
            Self::Error { error, .. } => error,
            Self::NoScript => {
                RedisError::new(RedisErrorKind::Protocol, "it lost the script at once")
            }
            Self::Moved { .. } | Self::Ask { .. } => {
                RedisError::outage("the cluster's servers disagree on who holds a key")
            }
        }
    }
}

impl From<redis::RedisError> for Failure {
    /// Only what is known to be harmless is taken over: a server's texts may repeat what it was sent.
    fn from(error: redis::RedisError) -> Self {
        use RedisErrorKind as Kind;
        let (kind, detail, reconnect): (_, Cow<'static, str>, _) = match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => return Self::NoScript,
            ErrorKind::Server(ServerErrorKind::Moved) => match error.redirect_node() {
                Some((address, _)) => {
                    return Self::Moved {
                        address: address.to_owned(),
                    };
                }
                None => (Kind::Protocol, "MOVED".into(), false),
            },
            ErrorKind::Server(ServerErrorKind::Ask) => match error.redirect_node() {
                Some((address, _)) => {
                    return Self::Ask {
                        address: address.to_owned(),
                    };
                }
                None => (Kind::Protocol, "ASK".into(), false),
            },
            ErrorKind::Server(ServerErrorKind::BusyLoading) => {
                (Kind::Outage, "it is loading its data".into(), true)
            }
            ErrorKind::Server(ServerErrorKind::ReadOnly) => {
                (Kind::Outage, "the server is a read-only replica".into(), true)
            }
            ErrorKind::Server(
                kind @ (ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain),
            ) => (Kind::Outage, code_of(kind).into(), false),
            ErrorKind::Server(ServerErrorKind::NoPerm) => (
                Kind::Denied,
                "NOPERM; the user needs the commands GET, SET, DEL, INCR, DECR, EXISTS, STRLEN, PTTL, PEXPIRE, \
                 EVAL and EVALSHA, and the keys sess:* and rl:*"
                    .into(),
                false,
            ),
            ErrorKind::AuthenticationFailed => (
                Kind::Auth,
                "the user or the password in the URL is wrong".into(),
                true,
            ),
            ErrorKind::Io if is_tls(&error) => (Kind::Tls, error.to_string().into(), true),
            ErrorKind::Io => (Kind::Outage, error.to_string().into(), true),
            ErrorKind::Parse => (Kind::Protocol, "it does not speak Redis".into(), true),
            kind => match error.code() {
                _ if is_full(&error) => (Kind::Full, "OOM; `maxmemory` is reached".into(), false),
                Some("NOAUTH") => (
                    Kind::Auth,
                    "it asks for a password, and the URL holds none".into(),
                    true,
                ),
                Some("WRONGPASS") => (
                    Kind::Auth,
                    "the user or the password in the URL is wrong".into(),
                    true,
                ),
                Some("MISCONF") => (
                    Kind::Outage,
                    "MISCONF; it cannot write to its disk and takes no changes".into(),
                    false,
                ),
                Some("BUSY") => (Kind::Outage, "BUSY; a script runs too long".into(), false),
                Some("NOREPLICAS") => (Kind::Outage, "NOREPLICAS".into(), false),
                Some("WRONGTYPE") => (Kind::WrongType, "WRONGTYPE".into(), false),
                _ => (Kind::Protocol, format!("{kind:?}").into(), false),
            },
        };
        Self::Error {
            error: RedisError::new(kind, detail),
            reconnect,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        redis::RedisError::from(error).into()
    }
}

const fn code_of(kind: ServerErrorKind) -> &'static str {
    match kind {
        ServerErrorKind::ClusterDown => "CLUSTERDOWN",
        ServerErrorKind::MasterDown => "MASTERDOWN",
        _ => "TRYAGAIN",
    }
}

/// The TLS library's errors come as I/O errors, wrapped so that only the text is left.
fn is_tls(error: &redis::RedisError) -> bool {
    let text = error.to_string();
    [
        "fatal alert",
        "peer certificate",
        "corrupt message",
        "handshake",
    ]
    .iter()
    .any(|part| text.contains(part))
}

/// An error that a script met may come under another code.
fn is_full(error: &redis::RedisError) -> bool {
    error.code() == Some("OOM")
        || error
            .detail()
            .is_some_and(|detail| detail.contains("OOM command not allowed"))
}

#[cfg(test)]
mod tests {
    use redis::{make_extension_error, parse_redis_value};

    use super::*;

    fn failure(line: &str) -> Failure {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err().into()
    }

    #[test]
    fn answers_of_a_server_are_told_apart() {
        use RedisErrorKind::{Auth, Denied, Full, Outage, Protocol, WrongType};
        for (line, kind, reconnect) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Full,
                false,
            ),
            (
                "ERR Error running script: -OOM command not allowed when",
                Full,
                false,
            ),
            (
                "NOPERM User hub has no permissions to run the 'evalsha' command",
                Denied,
                false,
            ),
            ("NOAUTH Authentication required.", Auth, true),
            ("WRONGPASS invalid username-password pair", Auth, true),
            (
                "LOADING Redis is loading the dataset in memory",
                Outage,
                true,
            ),
            (
                "READONLY You can't write against a read only replica.",
                Outage,
                true,
            ),
            ("MASTERDOWN Link with MASTER is down", Outage, false),
            ("CLUSTERDOWN Hash slot not served", Outage, false),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                Outage,
                false,
            ),
            ("WRONGTYPE Operation against a key", WrongType, false),
            (
                "ERR unknown command 'FOO', with args beginning with: 'hunter2'",
                Protocol,
                false,
            ),
        ] {
            let Failure::Error {
                error,
                reconnect: again,
            } = failure(line)
            else {
                panic!("{line}");
            };
            assert_eq!((error.kind(), again), (kind, reconnect), "{line}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn redirects_and_lost_scripts_are_no_errors_yet() {
        assert!(matches!(
            failure("NOSCRIPT No matching script."),
            Failure::NoScript
        ));
        assert!(matches!(
            failure("MOVED 3999 127.0.0.1:6381"),
            Failure::Moved { address } if address == "127.0.0.1:6381"
        ));
        assert!(
            matches!(failure("ASK 3999 [::1]:6381"), Failure::Ask { address } if address == "[::1]:6381")
        );
        assert_eq!(
            failure("NOSCRIPT x").into_error().kind(),
            RedisErrorKind::Protocol
        );
        assert_eq!(
            failure("ASK 1 a:1").into_error().kind(),
            RedisErrorKind::Outage
        );
    }

    #[test]
    fn unknown_codes_show_no_detail() {
        let error = make_extension_error("ODD".to_owned(), Some("hunter2".to_owned()));
        let error = Failure::from(error).into_error();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
