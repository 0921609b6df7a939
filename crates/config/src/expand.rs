//! `${VAR}` in the values of a configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// How long a file may be that `VAR_FILE` names.
const MAX_SECRET_FILE: u64 = 1024 * 1024;

/// The variables that `${…}` can name, and the files that were read for them.
#[derive(Default)]
pub(crate) struct Variables {
    values: BTreeMap<String, String>,
    files_read: Vec<PathBuf>,
}

impl Variables {
    pub(crate) fn new(values: BTreeMap<String, String>) -> Self {
        Self {
            values,
            files_read: Vec::new(),
        }
    }

    /// Adds a variable of the `.env` file: what the process has already stays.
    pub(crate) fn add_default(&mut self, name: String, value: String) {
        self.values.entry(name).or_insert(value);
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(crate) fn into_files_read(self) -> Vec<PathBuf> {
        self.files_read
    }

    /// The value of a variable: its own, or the content of the file that `{name}_FILE` names.
    fn resolve(&mut self, name: &str) -> Result<Option<String>, Fault> {
        let file_name = format!("{name}_FILE");
        match (self.values.get(name), self.values.get(&file_name)) {
            (Some(_), Some(_)) => Err(Fault::Both(name.to_owned())),
            (Some(value), None) => Ok(Some(value.clone())),
            (None, None) => Ok(None),
            (None, Some(path)) => {
                let path = PathBuf::from(path);
                let value = read_secret(&path).map_err(|reason| Fault::File {
                    name: file_name,
                    path: path.clone(),
                    reason,
                })?;
                if !self.files_read.contains(&path) {
                    self.files_read.push(path);
                }
                Ok(Some(value))
            }
        }
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").finish_non_exhaustive()
    }
}

/// A text after expansion, and the variables that it named.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    pub(crate) names: Vec<String>,
}

/// Why a text cannot be expanded. Values are not part of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    BadName,
    Both(String),
    File {
        name: String,
        path: PathBuf,
        reason: String,
    },
    NestedDefault(String),
    Unclosed,
    Unset(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str(
                "expected a variable's name of letters, digits and _ after ${; write $${ for a literal ${",
            ),
            Self::Both(name) => write!(
                f,
                "{name} and {name}_FILE are both set; unset one of them"
            ),
            Self::File { name, path, reason } => {
                write!(f, "the file that {name} names, {}, {reason}", path.display())
            }
            Self::NestedDefault(name) => write!(
                f,
                "the default of ${{{name}}} holds another ${{; a default is taken as it stands and cannot name variables"
            ),
            Self::Unclosed => {
                f.write_str("${ without its closing }; write $${ for a literal ${")
            }
            Self::Unset(name) => write!(
                f,
                "the variable {name} is not set; set {name} or {name}_FILE, or give a default with ${{{name}-default}}"
            ),
        }
    }
}

/// Expands every `${…}` of `text` once. `None` means that there was none, and no `$${` either.
pub(crate) fn expand(
    text: &str,
    variables: &mut Variables,
) -> Result<Option<Expanded>, Vec<Fault>> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut names = Vec::new();
    let mut faults = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let after = from.strip_prefix("${").unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            faults.push(Fault::Unclosed);
            rest = "";
            break;
        };
        rest = after;
        match expression(inside, variables, &mut names) {
            Ok(value) => out.push_str(&value),
            Err(fault) => faults.push(fault),
        }
    }
    out.push_str(rest);
    if faults.is_empty() {
        Ok(Some(Expanded { text: out, names }))
    } else {
        Err(faults)
    }
}

fn expression(
    inside: &str,
    variables: &mut Variables,
    names: &mut Vec<String>,
) -> Result<String, Fault> {
    let end = inside
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(inside.len());
    let (name, rest) = inside.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Fault::BadName);
    }
    let (default, also_when_empty) = match (rest.strip_prefix(":-"), rest.strip_prefix('-')) {
        (Some(default), _) => (Some(default), true),
        (None, Some(default)) => (Some(default), false),
        (None, None) if rest.is_empty() => (None, false),
        (None, None) => return Err(Fault::BadName),
    };
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Fault::NestedDefault(name.to_owned()));
    }
    names.push(name.to_owned());
    match (variables.resolve(name)?, default) {
        (Some(value), Some(default)) if also_when_empty && value.is_empty() => {
            Ok(default.to_owned())
        }
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault::Unset(name.to_owned())),
    }
}

/// A secret's file, less one newline at its end.
fn read_secret(path: &std::path::Path) -> Result<String, String> {
    let mut text = crate::files::read_text(path, MAX_SECRET_FILE)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables() -> Variables {
        Variables::new(
            [
                ("A", "${B}"),
                ("B", "bee"),
                ("EMPTY", ""),
                ("DOLLAR", "$${x}"),
                ("YAML", "a: b #c"),
                ("BOTH", "1"),
                ("BOTH_FILE", "/nowhere"),
                ("GONE_FILE", "/nowhere/at/all"),
                ("_x1", "under"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        )
    }

    #[test]
    fn every_form() {
        for (text, expected) in [
            ("${B}", "bee"),
            ("${_x1}", "under"),
            ("x${B}y${B}z", "xbeeybeez"),
            ("${A}", "${B}"),
            ("${DOLLAR}", "$${x}"),
            ("${YAML}", "a: b #c"),
            ("${NONE-dflt}", "dflt"),
            ("${NONE:-dflt}", "dflt"),
            ("${NONE-}", ""),
            ("${NONE-a:-b-c}", "a:-b-c"),
            ("${EMPTY}", ""),
            ("${EMPTY-dflt}", ""),
            ("${EMPTY:-dflt}", "dflt"),
            ("${B-dflt}", "bee"),
            ("${B:-dflt}", "bee"),
            ("$${B}", "${B}"),
            ("$${B}${B}", "${B}bee"),
            ("$$${B}", "$${B}"),
            ("${A}${B}", "${B}bee"),
            ("cost $5 ${B}", "cost $5 bee"),
        ] {
            let expanded = expand(text, &mut variables());
            assert_eq!(expanded.unwrap().unwrap().text, expected, "{text}");
        }
        for text in ["", "plain", "$B", "$", "{B}", "$ {B}", "$(B)"] {
            assert_eq!(expand(text, &mut variables()), Ok(None), "{text}");
        }
    }

    #[test]
    fn every_fault() {
        for (text, expected) in [
            ("${NONE}", Fault::Unset("NONE".into())),
            ("${BOTH}", Fault::Both("BOTH".into())),
            ("${BOTH-x}", Fault::Both("BOTH".into())),
            ("${", Fault::Unclosed),
            ("${B", Fault::Unclosed),
            ("${}", Fault::BadName),
            ("${1A}", Fault::BadName),
            ("${B C}", Fault::BadName),
            ("${B?err}", Fault::BadName),
            ("${B:+alt}", Fault::BadName),
            ("${ B }", Fault::BadName),
            ("${Ü}", Fault::BadName),
            ("${NONE-${B}}", Fault::NestedDefault("NONE".into())),
        ] {
            assert_eq!(
                expand(text, &mut variables()),
                Err(vec![expected]),
                "{text}"
            );
        }
        let faults = expand("${GONE}", &mut variables()).unwrap_err();
        assert_eq!(
            faults[0].to_string(),
            "the file that GONE_FILE names, /nowhere/at/all, does not exist"
        );
        let both = expand("${NONE} ${ALSO_NONE}", &mut variables()).unwrap_err();
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn a_secret_file_loses_one_newline() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected) in [
            ("s", "s"),
            ("s\n", "s"),
            ("s\r\n", "s"),
            ("s\n\n", "s\n"),
            ("", ""),
        ] {
            let path = dir.path().join("secret");
            std::fs::write(&path, content).unwrap();
            let mut variables = Variables::default();
            variables.add_default("S_FILE".into(), path.display().to_string());
            let expanded = expand("${S}", &mut variables).unwrap().unwrap();
            assert_eq!(
                (expanded.text.as_str(), expanded.names.as_slice()),
                (expected, &["S".to_owned()][..])
            );
            assert_eq!(variables.into_files_read(), [path]);
        }
    }

    proptest! {
        #[test]
        fn a_value_is_never_expanded_again(value in any::<String>(), around in "[a-z $]{0,8}") {
            let mut variables = Variables::new([("V".to_owned(), value.clone()), ("W".to_owned(), "never".to_owned())].into());
            let around = around.trim_end_matches('$');
            let expanded = expand(&format!("{around}${{V}}"), &mut variables).unwrap().unwrap();
            prop_assert_eq!(expanded.text, format!("{around}{value}"));
        }

        #[test]
        fn no_text_panics(text in "[${}A-Z:_\\-ü ]{0,24}") {
            let _ = expand(&text, &mut variables());
        }
    }
}
