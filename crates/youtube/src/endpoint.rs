use std::fmt;

use http::Method;

/// The paths that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `GET /youtube/auth/google`
    Authorize,
    /// `GET /youtube/auth/google/callback`, for everybody
    Callback,
    /// `POST /youtube/auth/logout`
    Logout,
    /// `GET /youtube/auth/status`
    Status,
    /// `POST /youtube/upload`
    Upload,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Authorize,
        Self::Callback,
        Self::Logout,
        Self::Status,
        Self::Upload,
    ];

    /// The endpoint at exactly this path.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.path() == path)
    }

    /// The path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Authorize => "/youtube/auth/google",
            Self::Callback => "/youtube/auth/google/callback",
            Self::Logout => "/youtube/auth/logout",
            Self::Status => "/youtube/auth/status",
            Self::Upload => "/youtube/upload",
        }
    }

    /// The one method that it answers.
    #[must_use]
    pub const fn method(self) -> Method {
        match self {
            Self::Authorize | Self::Callback | Self::Status => Method::GET,
            Self::Logout | Self::Upload => Method::POST,
        }
    }

    /// Whether it has to be reached without credentials: Google sends the browser there from another site.
    #[must_use]
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Callback)
    }

    /// The name in the log.
    pub(crate) const fn action(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Callback => "callback",
            Self::Logout => "logout",
            Self::Status => "status",
            Self::Upload => "upload",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}
