//! Several providers under one name: which is called, when another one is, and when none.

pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod retry;
pub(crate) mod tree;

use http::StatusCode;

/// The statuses that a strategy does not take for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// 429 and every 5xx.
    Failures,
    /// 429, 500, 502, 503 and 504.
    Passing,
    These(Box<[u16]>),
}

impl Codes {
    pub(crate) fn or(listed: &[u16], default: Self) -> Self {
        if listed.is_empty() {
            default
        } else {
            Self::These(listed.into())
        }
    }

    pub(crate) fn contain(&self, status: StatusCode) -> bool {
        let code = status.as_u16();
        match self {
            Self::Failures => code == 429 || status.is_server_error(),
            Self::Passing => matches!(code, 429 | 500 | 502 | 503 | 504),
            Self::These(codes) => codes.contains(&code),
        }
    }
}
