use std::fmt;

/// How grave an event is, from the gravest to the least.
///
/// The order is the one that the hub's documentation gives. It differs from npm's, where `debug` also shows
/// `verbose`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Something failed.
    Error,
    /// Something may fail, or somebody tries what is not allowed.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Every step of this project's own code.
    Verbose,
    /// Every step of the libraries as well.
    Silly,
}

impl Level {
    /// Every level, the gravest first.
    pub const ALL: [Self; 6] = [
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Verbose,
        Self::Silly,
    ];

    /// The name as in configurations and log lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Verbose => "verbose",
            Self::Silly => "silly",
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
