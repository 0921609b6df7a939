//! The tree that a configuration is between its sources and its types.

use std::fmt;

use proactions_edge::{ExposeSecret, SecretString};

/// A value of the configuration, with what a message about it needs to know.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Line in the file, from 1; 0 when the value comes from somewhere else.
    pub(crate) line: usize,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Scalar(Scalar),
    /// The items with the index that they had in the file: one that was taken out leaves the others theirs.
    List(Vec<(usize, Node)>),
    Map(Vec<(String, Node)>),
}

/// A scalar keeps its text whatever its type: a token that reads `12345` is a number only to who wants one.
#[derive(Clone)]
pub(crate) struct Scalar {
    pub(crate) text: SecretString,
    pub(crate) typed: Typed,
    pub(crate) plain: bool,
    pub(crate) origin: Origin,
    /// It was a number or a boolean by its looks, was not wanted as one, and is offered as text.
    pub(crate) offered_as_text: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Typed {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

/// Where a scalar's text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It stands in the file as it is.
    File,
    /// It stands in the file with `${…}`, and these are the names.
    Variables(Vec<String>),
    /// An environment variable of this name put it over the file's value.
    Environment(&'static str),
}

impl Scalar {
    pub(crate) fn new(text: String, plain: bool, origin: Origin) -> Self {
        let typed = if plain { Typed::of(&text) } else { Typed::Text };
        Self {
            text: SecretString::from(text),
            typed,
            plain,
            origin,
            offered_as_text: false,
        }
    }

    pub(crate) fn text(&self) -> &str {
        self.text.expose_secret()
    }

    /// Whether somebody else than the file's author chose the text.
    pub(crate) fn is_substituted(&self) -> bool {
        self.origin != Origin::File
    }

    /// What a message calls the value, without showing it.
    pub(crate) const fn found(&self) -> &'static str {
        match self.typed {
            Typed::Null => "nothing",
            Typed::Bool(_) => "true or false",
            Typed::Unsigned(_) | Typed::Signed(_) | Typed::Float(_) => "a number",
            Typed::Text => "text",
        }
    }
}

impl Typed {
    /// The type of a plain scalar. Only spellings that every reader takes for the same value count: `yes`,
    /// `010`, `0x10`, `1e3` and `1_000` are text.
    pub(crate) fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
            return Self::Text;
        }
        if let Some(fraction) = fraction {
            return match text.parse() {
                Ok(value) if all_digits(fraction) => Self::Float(value),
                _ => Self::Text,
            };
        }
        match (text.parse(), text.parse()) {
            (Ok(value), _) => Self::Unsigned(value),
            (_, Ok(value)) => Self::Signed(value),
            _ => Self::Text,
        }
    }
}

impl Node {
    pub(crate) const fn new(kind: Kind, line: usize) -> Self {
        Self { kind, line }
    }

    pub(crate) const fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar()
            .is_some_and(|scalar| scalar.typed == Typed::Null)
    }

    pub(crate) const fn found(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.found(),
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map of keys",
        }
    }

    pub(crate) fn child(&self, segment: &Segment) -> Option<&Self> {
        match (&self.kind, segment) {
            (Kind::Map(entries), Segment::Key(key)) => entries
                .iter()
                .find_map(|(name, node)| (name == key).then_some(node)),
            (Kind::List(items), Segment::Index(index)) => {
                let place = place(items, *index)?;
                items.get(place).map(|(_, node)| node)
            }
            _ => None,
        }
    }

    pub(crate) fn get(&self, path: &[Segment]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |node, segment| node.child(segment))
    }

    /// A value by its keys alone.
    pub(crate) fn at(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| {
            let Kind::Map(entries) = &node.kind else {
                return None;
            };
            entries
                .iter()
                .find_map(|(name, node)| (name == key).then_some(node))
        })
    }

    pub(crate) fn get_mut(&mut self, path: &[Segment]) -> Option<&mut Self> {
        path.iter()
            .try_fold(self, |node, segment| match (&mut node.kind, segment) {
                (Kind::Map(entries), Segment::Key(key)) => entries
                    .iter_mut()
                    .find_map(|(name, node)| (name == key).then_some(node)),
                (Kind::List(items), Segment::Index(index)) => {
                    let place = place(items, *index)?;
                    items.get_mut(place).map(|(_, node)| node)
                }
                _ => None,
            })
    }

    /// Takes the value at `path` out; says whether there was one.
    pub(crate) fn remove(&mut self, path: &[Segment]) -> bool {
        let Some((last, parent)) = path.split_last() else {
            return false;
        };
        let Some(parent) = self.get_mut(parent) else {
            return false;
        };
        match (&mut parent.kind, last) {
            (Kind::Map(entries), Segment::Key(key)) => {
                let before = entries.len();
                entries.retain(|(name, _)| name != key);
                before != entries.len()
            }
            (Kind::List(items), Segment::Index(index)) => {
                let before = items.len();
                items.retain(|(at, _)| at != index);
                before != items.len()
            }
            _ => false,
        }
    }

    /// Calls `visit` with every node and its path, parents first.
    pub(crate) fn walk(&self, visit: &mut impl FnMut(&Path, &Self)) {
        fn down(node: &Node, path: &mut Path, visit: &mut impl FnMut(&Path, &Node)) {
            visit(path, node);
            match &node.kind {
                Kind::Scalar(_) => {}
                Kind::List(items) => {
                    for (index, item) in items {
                        path.0.push(Segment::Index(*index));
                        down(item, path, visit);
                        path.0.pop();
                    }
                }
                Kind::Map(entries) => {
                    for (key, value) in entries {
                        path.0.push(Segment::Key(key.clone()));
                        down(value, path, visit);
                        path.0.pop();
                    }
                }
            }
        }
        down(self, &mut Path::default(), visit);
    }
}

/// Where the item is that had this index in the file; the indices only ever rise.
fn place(items: &[(usize, Node)], index: usize) -> Option<usize> {
    items.binary_search_by_key(&index, |(at, _)| *at).ok()
}

/// One step from a value to one inside of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    Key(String),
    Index(usize),
}

/// The way from the root to a value; `targets[2].apiKey` when shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Path(pub(crate) Vec<Segment>);

impl Path {
    /// Reads what [`fmt::Display`] writes. A key that holds a dot is found again by what is in `tree`.
    pub(crate) fn parse(text: &str, tree: &Node) -> Self {
        let mut path = Self::default();
        let mut node = Some(tree);
        let mut rest = text;
        while !rest.is_empty() {
            let (segment, after) = Self::first_segment(rest, node);
            node = node.and_then(|node| node.child(&segment));
            path.0.push(segment);
            rest = after.strip_prefix('.').unwrap_or(after);
        }
        path
    }

    fn first_segment<'a>(rest: &'a str, node: Option<&Node>) -> (Segment, &'a str) {
        if let Some((index, after)) = rest
            .strip_prefix('[')
            .and_then(|inside| inside.split_once(']'))
            && let Ok(index) = index.parse()
        {
            return (Segment::Index(index), after);
        }
        if let Some(Kind::Map(entries)) = node.map(|node| &node.kind) {
            let longest = entries
                .iter()
                .filter_map(|(key, _)| {
                    let after = rest.strip_prefix(key.as_str())?;
                    (after.is_empty() || after.starts_with(['.', '['])).then_some((key, after))
                })
                .max_by_key(|(key, _)| key.len());
            if let Some((key, after)) = longest.filter(|(key, _)| !key.is_empty()) {
                return (Segment::Key(key.clone()), after);
            }
        }
        // The first byte is part of the key whatever it is, so that every round gets further.
        let end = rest
            .char_indices()
            .skip(1)
            .find_map(|(at, c)| matches!(c, '.' | '[').then_some(at))
            .unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        (Segment::Key(key.to_owned()), after)
    }

    pub(crate) fn is_key(&self, keys: &[&str]) -> bool {
        self.0.len() == keys.len()
            && self
                .0
                .iter()
                .zip(keys)
                .all(|(segment, key)| matches!(segment, Segment::Key(name) if name == key))
    }

    pub(crate) fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    if at > 0 {
                        f.write_str(".")?;
                    }
                    f.write_str(key)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_one_reading() {
        for (text, typed) in [
            ("", Typed::Null),
            ("~", Typed::Null),
            ("null", Typed::Null),
            ("true", Typed::Bool(true)),
            ("FALSE", Typed::Bool(false)),
            ("yes", Typed::Text),
            ("off", Typed::Text),
            ("0", Typed::Unsigned(0)),
            ("3000", Typed::Unsigned(3000)),
            ("-7", Typed::Signed(-7)),
            ("1.5", Typed::Float(1.5)),
            ("007", Typed::Text),
            ("0123", Typed::Text),
            ("0x10", Typed::Text),
            ("0o17", Typed::Text),
            ("1e9", Typed::Text),
            ("1_000", Typed::Text),
            ("+1", Typed::Text),
            (".5", Typed::Text),
            ("5.", Typed::Text),
            ("1.2.3", Typed::Text),
            ("-", Typed::Text),
            (".inf", Typed::Text),
            (".nan", Typed::Text),
            ("99999999999999999999", Typed::Text),
            ("12:30", Typed::Text),
            ("2024-06-01", Typed::Text),
        ] {
            assert_eq!(Typed::of(text), typed, "{text}");
        }
    }

    #[test]
    fn paths_are_read_back() {
        let leaf = || Node::new(Kind::Scalar(Scalar::new("x".into(), true, Origin::File)), 1);
        let tree = Node::new(
            Kind::Map(vec![(
                "a.b".into(),
                Node::new(Kind::List(vec![(0, leaf()), (3, leaf())]), 1),
            )]),
            1,
        );
        for text in [
            "a.b[3]",
            "a.b[3].c.d[1]",
            "hub.port",
            "[2]",
            "[2].x",
            "x..y",
        ] {
            let path = Path::parse(text, &tree);
            assert_eq!(
                path.to_string().replace("..", "."),
                text.replace("..", "."),
                "{text}"
            );
        }
        assert!(tree.get(&Path::parse("a.b[3]", &tree).0).is_some());
        assert!(tree.get(&Path::parse("a.b[1]", &tree).0).is_none());
    }
}
