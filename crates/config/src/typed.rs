//! From the tree to the types, with every problem and not only the first.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use crate::de::{Fault, NodeDeserializer, Reason};
use crate::node::{Node, Origin, Path, Segment, Typed};

/// More problems than this are not looked for.
const MAX_PROBLEMS: usize = 200;

/// A message about the value at a path.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: Path,
    pub(crate) message: String,
    /// Somebody else than this crate chose the words.
    pub(crate) foreign_words: bool,
}

impl Finding {
    pub(crate) fn new(path: Path, message: impl Into<String>) -> Self {
        Self {
            path,
            message: message.into(),
            foreign_words: false,
        }
    }
}

/// What came of a tree.
pub(crate) struct Outcome<T> {
    pub(crate) value: Option<T>,
    pub(crate) problems: Vec<Finding>,
    /// Unknown keys, when they are to be passed over.
    pub(crate) warnings: Vec<Finding>,
}

/// Reads a `T` out of `tree`.
///
/// serde stops at the first problem. So the value that it stopped at is noted, taken out of the tree and put
/// on `removed`, and the tree is read again, until it is good or nothing more can be taken out.
pub(crate) fn read<T: DeserializeOwned>(
    tree: &mut Node,
    removed: &mut Vec<Path>,
    skip_unknown_keys: bool,
) -> Outcome<T> {
    let mut outcome = Outcome {
        value: None,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let mut before_text: Vec<(Path, String)> = Vec::new();
    while outcome.problems.len() + outcome.warnings.len() < MAX_PROBLEMS {
        let fault = match T::deserialize(NodeDeserializer(tree)) {
            Ok(value) => {
                outcome.value = Some(value);
                break;
            }
            Err(fault) => fault,
        };
        let path = fault.path();
        let message = explain(&fault, tree.get(&path.0), &path);
        if wants_text(&fault) && take_as_text(tree, &path) {
            before_text.push((path, message));
            continue;
        }
        let message = before_text
            .iter()
            .find_map(|(seen, message)| (*seen == path).then(|| message.clone()))
            .unwrap_or(message);
        let unknown = matches!(fault.reason, Reason::UnknownKey { .. });
        let mut about = path.clone();
        if let Reason::Missing { key } = &fault.reason {
            about.0.push(Segment::Key((*key).to_owned()));
        }
        // What is missing only because it was taken out has been told already.
        if !removed.contains(&about) {
            let finding = Finding {
                path: about,
                message,
                foreign_words: matches!(fault.reason, Reason::Other(_)),
            };
            if skip_unknown_keys && unknown {
                outcome.warnings.push(finding);
            } else {
                outcome.problems.push(finding);
            }
        }
        if !tree.remove(&path.0) {
            break;
        }
        // Nothing can be missing for want of a key that nobody knows.
        if !unknown {
            removed.push(path);
        }
    }
    outcome
}

const fn wants_text(fault: &Fault) -> bool {
    matches!(
        fault.reason,
        Reason::WrongType { .. } | Reason::WrongValue { .. } | Reason::Other(_)
    )
}

/// A variable's value that looks like a number or a boolean becomes text where a number or boolean was
/// refused; says whether there was one. The token `12345` must fit wherever a token fits.
fn take_as_text(tree: &mut Node, path: &Path) -> bool {
    let Some(node) = tree.get_mut(&path.0) else {
        return false;
    };
    let crate::node::Kind::Scalar(scalar) = &mut node.kind else {
        return false;
    };
    if scalar.typed == Typed::Text || !scalar.is_substituted() {
        return false;
    }
    scalar.typed = Typed::Text;
    scalar.offered_as_text = true;
    true
}

fn explain(fault: &Fault, node: Option<&Node>, path: &Path) -> String {
    let mut message = match &fault.reason {
        Reason::UnknownKey { known } => return unknown_key(path, known),
        Reason::Missing { .. } => return "is required".to_owned(),
        Reason::WrongType { expected, .. } | Reason::WrongValue { expected } => {
            let found = node.map_or("something else", Node::found);
            match &fault.reason {
                Reason::WrongValue { .. } => format!("expected {expected}"),
                _ => format!("expected {expected}, found {found}"),
            }
        }
        Reason::UnknownName { .. } | Reason::Other(_) => fault.to_string(),
    };
    if let Some(hint) = hint(fault, node) {
        message.push_str(&hint);
    }
    if let Some(names) = substituted(node) {
        message.push_str(&names);
    }
    message
}

/// How to mend a value of the wrong type.
fn hint(fault: &Fault, node: Option<&Node>) -> Option<Cow<'static, str>> {
    let scalar = node?.scalar()?;
    if let Reason::UnknownName { known } = &fault.reason {
        // What a variable holds is not guessed at: the guess would tell about it.
        if scalar.origin != Origin::File {
            return None;
        }
        let near = nearest(scalar.text(), known)?;
        return Some(format!("; did you mean {near}?").into());
    }
    let Reason::WrongType { expected, .. } = &fault.reason else {
        return None;
    };
    let text = scalar.text();
    let would_be = Typed::of(text);
    match (scalar.typed, would_be) {
        (Typed::Text, Typed::Unsigned(_) | Typed::Signed(_) | Typed::Float(_))
            if expected.contains("number") =>
        {
            Some("; remove the quotes".into())
        }
        (Typed::Text, Typed::Bool(_)) if expected.contains("true") => {
            Some("; remove the quotes".into())
        }
        (Typed::Text, Typed::Text) if expected.contains("true") => {
            let lower = text.to_ascii_lowercase();
            matches!(lower.as_str(), "yes" | "no" | "on" | "off" | "y" | "n")
                .then_some("; write true or false".into())
        }
        (Typed::Text, Typed::Text)
            if expected.contains("number") && text.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            Some("; write it in plain digits, such as 3000".into())
        }
        (Typed::Bool(_) | Typed::Unsigned(_) | Typed::Signed(_) | Typed::Float(_), _)
            if expected.contains("text") && scalar.origin == Origin::File =>
        {
            Some("; put it in quotes".into())
        }
        _ => None,
    }
}

fn substituted(node: Option<&Node>) -> Option<String> {
    match &node?.scalar()?.origin {
        Origin::Variables(names) => {
            let names: Vec<_> = names.iter().map(|name| format!("${{{name}}}")).collect();
            Some(format!(" (the value comes from {})", names.join(", ")))
        }
        Origin::File | Origin::Environment(_) => None,
    }
}

fn unknown_key(path: &Path, known: &[&str]) -> String {
    let Some(Segment::Key(name)) = path.0.last() else {
        return "unknown key".to_owned();
    };
    if let Some(near) = nearest(name, known) {
        return format!("unknown key, did you mean {near}?");
    }
    if known.is_empty() {
        return "unknown key; no key is known here".to_owned();
    }
    format!("unknown key; the known ones are {}", known.join(", "))
}

/// The known name that somebody who wrote `name` most likely meant.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let fold = |text: &str| -> String {
        text.chars()
            .filter(|c| !matches!(c, '-' | '_' | ' '))
            .flat_map(char::to_lowercase)
            .collect()
    };
    if name.len() > LONGEST {
        return None;
    }
    let name = fold(name);
    known
        .iter()
        .map(|known| (strsim::osa_distance(&name, &fold(known)), *known))
        .filter(|(distance, known)| *distance <= (known.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
    #[allow(dead_code)]
    struct Sample {
        count: u16,
        signed: i64,
        ratio: f64,
        on: bool,
        text: String,
        maybe: Option<u64>,
        mode: Mode,
        items: Vec<Item>,
        map: BTreeMap<String, String>,
        secret: proactions_edge::SecretString,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Memory,
        Redis,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Item {
        id: String,
        #[serde(default)]
        n: u8,
    }

    fn problems(text: &str) -> Vec<String> {
        let (tree, faults) = crate::yaml::parse(text);
        assert!(faults.is_empty(), "{faults:?}");
        let outcome = read::<Sample>(&mut tree.unwrap(), &mut Vec::new(), false);
        assert!(outcome.value.is_some());
        outcome
            .problems
            .iter()
            .map(|f| format!("{}: {}", f.path, f.message))
            .collect()
    }

    #[test]
    fn a_good_tree_has_no_problem() {
        let text = "count: 3\nsigned: -3\nratio: 2\non: true\ntext: x\nmaybe: 1\nmode: redis\nitems: [{id: a, n: 1}]\nmap: {k: v}\nsecret: s";
        assert_eq!(problems(text), [""; 0]);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = "count: 70000\nsigned: 1.5\nratio: '2'\non: yes\ntext: 5\nmaybe: \"1\"\nmode: rediss\nitems:\n  - n: 1\n  - {id: b, n: 300, m: 1}\n  - 5\nmap: [x]\ncuont: 1\nzzzzz: 1\n";
        assert_eq!(
            problems(text),
            [
                "count: expected a whole number from 0 to 65535",
                "signed: expected a whole number",
                "ratio: expected a number, found text; remove the quotes",
                "on: expected true or false, found text; write true or false",
                "text: expected text, found a number; put it in quotes",
                "maybe: expected a whole number of 0 or more, found text; remove the quotes",
                "mode: expected memory or redis; did you mean redis?",
                "items[0].id: is required",
                "items[1].n: expected a whole number from 0 to 255",
                "items[1].m: unknown key, did you mean n?",
                "items[2]: expected a map of keys, found a number",
                "map: expected a map of keys, found a list",
                "cuont: unknown key, did you mean count?",
                "zzzzz: unknown key; the known ones are count, signed, ratio, on, text, maybe, mode, items, map, secret",
            ]
        );
    }

    #[test]
    fn a_root_that_is_no_map_is_one_problem() {
        let (tree, _) = crate::yaml::parse("- a\n");
        let outcome = read::<Sample>(&mut tree.unwrap(), &mut Vec::new(), false);
        assert!(outcome.value.is_none());
        assert_eq!(outcome.problems.len(), 1);
    }

    #[test]
    fn near_names() {
        for (name, known, expected) in [
            ("maxx", &["max", "message"][..], Some("max")),
            ("window_ms", &["windowMs", "max"][..], Some("windowMs")),
            ("windowMS", &["windowMs"][..], Some("windowMs")),
            ("ratelimt", &["rateLimit", "cors"][..], Some("rateLimit")),
            ("qqq", &["max", "message"][..], None),
            ("", &["max"][..], None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
    }
}
