use std::fmt;

/// One key of a configuration that cannot be used as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigProblem {
    /// The key's path below the section that was checked, in the file's own spelling
    /// (`directives.scriptSrc`, `rules[2].path`); empty for the section itself.
    pub key: String,
    /// What is wrong and what was expected. It never holds the value of a secret.
    pub message: String,
}

impl ConfigProblem {
    /// A problem with `key`.
    #[must_use]
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

/// Everything that is wrong with one section of a configuration.
///
/// A policy is built with `TryFrom`, and the error lists all problems at once, so that an operator mends a
/// file in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
}

impl ConfigError {
    /// One problem with one key.
    #[must_use]
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            problems: vec![ConfigProblem::new(key, message)],
        }
    }

    /// The problems, in the order in which they were found; never empty.
    #[must_use]
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }

    /// The problems themselves.
    #[must_use]
    pub fn into_problems(self) -> Vec<ConfigProblem> {
        self.problems
    }

    /// Puts `prefix` before every key: `within("rules[2]")` makes `path` into `rules[2].path`.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        for problem in &mut self.problems {
            problem.key = match problem.key.as_str() {
                "" => prefix.to_owned(),
                key if key.starts_with('[') => format!("{prefix}{key}"),
                key => format!("{prefix}.{key}"),
            };
        }
        self
    }

    /// `Ok(value)` if nothing was found, else everything that was.
    ///
    /// # Errors
    /// The collected problems, if there is one.
    pub fn check<T>(value: T, found: impl IntoIterator<Item = Self>) -> Result<T, Self> {
        let problems: Vec<_> = found.into_iter().flat_map(Self::into_problems).collect();
        if problems.is_empty() {
            Ok(value)
        } else {
            Err(Self { problems })
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if problem.key.is_empty() {
                f.write_str(&problem.message)?;
            } else {
                write!(f, "{}: {}", problem.key, problem.message)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_put_below_their_section() {
        let error = ConfigError::new("path", "must start with /").within("rules[2]");
        assert_eq!(error.problems()[0].key, "rules[2].path");
        assert_eq!(
            error.within("rateLimit").problems()[0].key,
            "rateLimit.rules[2].path"
        );
        assert_eq!(
            ConfigError::new("[1]", "x").within("a").problems()[0].key,
            "a[1]"
        );
        assert_eq!(ConfigError::new("", "x").within("a").problems()[0].key, "a");
    }

    #[test]
    fn check_keeps_every_problem() {
        assert_eq!(ConfigError::check(7, []), Ok(7));
        let both = ConfigError::check((), [ConfigError::new("a", "1"), ConfigError::new("b", "2")]);
        assert_eq!(both.unwrap_err().to_string(), "a: 1; b: 2");
    }
}
