use std::fmt;
use std::sync::Arc;

/// Who is calling, after the credentials were found good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Principal {
    /// The user's name in canonical form. It is not a credential and may be logged.
    pub id: Arc<str>,
    /// What vouches for the user.
    pub method: AuthMethod,
}

impl Principal {
    /// The user `id`, vouched for by `method`.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, method: AuthMethod) -> Self {
        Self {
            id: id.into(),
            method,
        }
    }
}

/// What vouches for a [`Principal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// The publisher's EDAPI service.
    Edapi,
    /// A static token from the configuration.
    Token,
}

impl AuthMethod {
    /// `edapi` or `token`, as in configurations and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edapi => "edapi",
            Self::Token => "token",
        }
    }

    /// The method of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "edapi" => Some(Self::Edapi),
            "token" => Some(Self::Token),
            _ => None,
        }
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
