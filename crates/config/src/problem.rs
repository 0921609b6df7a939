//! What is told to the operator.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong with a configuration, or, as a warning, dangerous about it.
///
/// Shown as one line: `config.yaml:12: hub.security.rateLimit.maxx: unknown key, did you mean max?`
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// The file, or the environment variable in its place, that the value comes from.
    pub source: PathBuf,
    /// The line in that file, from 1.
    pub line: Option<usize>,
    /// The key's path from the root, such as `targets[2].apiKey`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what was expected. It never holds a secret's value.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(
        source: impl Into<PathBuf>,
        line: Option<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            source: source.into(),
            line,
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name or message with control characters must not be able to forge a line or move the cursor.
        let mut text = self.source.display().to_string();
        if let Some(line) = self.line {
            text.push_str(&format!(":{line}"));
        }
        for part in [&self.key, &self.message] {
            if !part.is_empty() {
                text.push_str(": ");
                text.push_str(part);
            }
        }
        for c in text.chars() {
            if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                f.write_str(c.encode_utf8(&mut [0; 4]))?;
            }
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration; shown as one line a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.source, a.line).cmp(&(&b.source, b.line)));
        problems.dedup();
        Self { problems }
    }

    /// The problems, by file and line; never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Puts `[hidden]` in the place of texts that messages must not show.
///
/// The types and checks behind the loader are written so that they never repeat a value; this is the net
/// below them.
#[derive(Default)]
pub(crate) struct Scrubber {
    hidden: Vec<proactions_edge::SecretString>,
}

impl Scrubber {
    /// Shorter texts occur in messages by chance.
    const SHORTEST: usize = 4;

    /// A message may show the beginning of a long text; so much of it is enough to be hidden.
    const BEGINNING: usize = 12;

    pub(crate) fn hide(&mut self, text: &str) {
        use proactions_edge::ExposeSecret;
        let known = |hidden: &proactions_edge::SecretString| hidden.expose_secret() == text;
        if text.len() >= Self::SHORTEST && !self.hidden.iter().any(known) {
            self.hidden.push(text.into());
        }
    }

    pub(crate) fn scrub(&self, problem: &mut Problem) {
        use proactions_edge::ExposeSecret;
        for hidden in &self.hidden {
            problem.message = without(&problem.message, hidden.expose_secret());
        }
    }
}

/// `message` with `[hidden]` in place of `hidden`, or of a long enough beginning of it.
fn without(message: &str, hidden: &str) -> String {
    let end = hidden
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .find(|end| *end >= Scrubber::BEGINNING)
        .unwrap_or(hidden.len());
    let beginning = hidden.get(..end).unwrap_or(hidden);
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(beginning) {
        out.push_str(before);
        out.push_str("[hidden]");
        let more = hidden.get(end..).unwrap_or_default();
        let same: usize = after
            .chars()
            .zip(more.chars())
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a.len_utf8())
            .sum();
        rest = after.get(same..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

pub(crate) fn file_name(path: &Path) -> PathBuf {
    path.file_name()
        .map_or_else(|| path.to_owned(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_shown_is_not() {
        let mut scrubber = Scrubber::default();
        scrubber.hide("hunter2");
        scrubber.hide("a-very-long-secret-of-many-letters");
        scrubber.hide("x");
        let mut problem = Problem::new(
            "f",
            None,
            "k",
            "x hunter2, `a-very-long-secret-of` and a-very-long-secret-of-many-letters, hunter2",
        );
        scrubber.scrub(&mut problem);
        assert_eq!(
            problem.to_string(),
            "f: k: x [hidden], `[hidden]` and [hidden], [hidden]"
        );
    }

    #[test]
    fn a_problem_is_one_line() {
        let problem = Problem::new("c\n.yaml", Some(3), "a\u{1b}[2J", "x\r\ny\u{2028}");
        assert_eq!(
            problem.to_string(),
            "c\\u{a}.yaml:3: a\\u{1b}[2J: x\\u{d}\\u{a}y\\u{2028}"
        );
    }
}
