//! YAML text into a [`Node`] tree: events of the parser, with lines, quoting and limits.
//!
//! The tree is built from the parser's events and not through serde, because a value that serde has seen no
//! longer knows whether it stood in quotes, and that decides whether `${PORT}` may become a number.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::node::{Kind, Node, Origin, Path, Scalar, Segment};

/// How many values a file may hold, the copies that aliases make included.
pub(crate) const MAX_NODES: usize = 50_000;
/// How deep values may be nested.
pub(crate) const MAX_DEPTH: usize = 48;

/// Something wrong with the YAML itself.
#[derive(Debug)]
pub(crate) struct YamlFault {
    pub(crate) line: usize,
    pub(crate) path: Path,
    pub(crate) message: String,
}

/// The tree, if there is one, and what is wrong.
pub(crate) fn parse(text: &str) -> (Option<Node>, Vec<YamlFault>) {
    let mut builder = Builder::default();
    for item in Parser::new_from_str(text) {
        let step = match item {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(YamlFault {
                line: error.marker().line(),
                path: Path::default(),
                message: format!("not valid YAML: {}", error.info()),
            }),
        };
        if let Err(fault) = step {
            builder.faults.push(fault);
            return (None, builder.faults);
        }
    }
    if builder.root.is_none() && builder.faults.is_empty() {
        builder.faults.push(YamlFault {
            line: 1,
            path: Path::default(),
            message: "the file holds no configuration".to_owned(),
        });
    }
    (builder.root, builder.faults)
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    documents: usize,
    faults: Vec<YamlFault>,
}

struct Anchored {
    node: Node,
    size: usize,
}

/// A list or a map whose end has not come yet.
struct Open {
    kind: OpenKind,
    line: usize,
    anchor: usize,
    first_node: usize,
}

enum OpenKind {
    List(Vec<(usize, Node)>),
    Map {
        entries: Vec<(String, Node)>,
        merged: Vec<(String, Node)>,
        key: Option<(String, usize)>,
    },
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlFault> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.fault(line, "a second YAML document; a configuration is one"));
                }
            }
            Event::Alias(id) => {
                let Some(anchored) = self.anchors.get(&id) else {
                    return Err(self.fault(line, "an alias inside of the value that it names"));
                };
                let (mut node, size) = (anchored.node.clone(), anchored.size);
                self.count(size, line)?;
                node.line = line;
                self.add(node)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, line)?;
                let plain = match tag.as_deref() {
                    None => style == ScalarStyle::Plain,
                    Some(tag) if is_text_tag(tag) => false,
                    Some(_) => return Err(self.fault(line, "YAML tags are not supported")),
                };
                let scalar = Scalar::new(text.into_owned(), plain, Origin::File);
                let node = Node::new(Kind::Scalar(scalar), line);
                self.anchor(anchor, &node, 1);
                self.add(node)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(OpenKind::List(Vec::new()), line, anchor, tag.as_deref())?;
            }
            Event::MappingStart(_, anchor, tag) => {
                let kind = OpenKind::Map {
                    entries: Vec::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.open(kind, line, anchor, tag.as_deref())?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            _ => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        kind: OpenKind,
        line: usize,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), YamlFault> {
        if tag.is_some() {
            return Err(self.fault(line, "YAML tags are not supported"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.fault(line, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(Open {
            kind: OpenKind::Map { key: None, .. },
            ..
        }) = self.open.last()
        {
            return Err(self.fault(line, "a key must be text"));
        }
        let first_node = self.nodes;
        self.count(1, line)?;
        self.open.push(Open {
            kind,
            line,
            anchor,
            first_node,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), YamlFault> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let kind = match open.kind {
            OpenKind::List(items) => Kind::List(items),
            OpenKind::Map {
                mut entries,
                merged,
                ..
            } => {
                for (key, node) in merged {
                    if entries.iter().all(|(name, _)| *name != key) {
                        entries.push((key, node));
                    }
                }
                Kind::Map(entries)
            }
        };
        let node = Node::new(kind, open.line);
        self.anchor(open.anchor, &node, self.nodes - open.first_node);
        self.add(node)
    }

    fn anchor(&mut self, id: usize, node: &Node, size: usize) {
        if id != 0 {
            self.anchors.insert(
                id,
                Anchored {
                    node: node.clone(),
                    size,
                },
            );
        }
    }

    fn add(&mut self, mut node: Node) -> Result<(), YamlFault> {
        let path = self.path();
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let (entries, merged, key) = match &mut open.kind {
            OpenKind::List(items) => {
                items.push((items.len(), node));
                return Ok(());
            }
            OpenKind::Map {
                entries,
                merged,
                key,
            } => (entries, merged, key),
        };
        let Some((name, line)) = key.take() else {
            let line = node.line;
            let Kind::Scalar(scalar) = node.kind else {
                return Err(self.fault(line, "a key must be text"));
            };
            *key = Some((scalar.text().to_owned(), line));
            return Ok(());
        };
        // A value that begins below its key is reported where the key stands.
        node.line = line;
        if name == "<<" {
            match merge_source(node) {
                Some(source) => merged.extend(source),
                None => return Err(self.fault(line, "<< takes a map, or a list of maps")),
            }
        } else if let Some((_, first)) = entries.iter().find(|(known, _)| *known == name) {
            let message = format!(
                "this key stands twice; it is at line {} already",
                first.line
            );
            let mut path = path;
            path.0.push(Segment::Key(name));
            self.faults.push(YamlFault {
                line,
                path,
                message,
            });
        } else {
            entries.push((name, node));
        }
        Ok(())
    }

    fn count(&mut self, more: usize, line: usize) -> Result<(), YamlFault> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            let message =
                format!("more than {MAX_NODES} values, those that aliases repeat included");
            return Err(self.fault(line, message));
        }
        Ok(())
    }

    fn path(&self) -> Path {
        let mut path = Path::default();
        for (depth, open) in self.open.iter().enumerate() {
            // The innermost collection's own key is not part of the way to it.
            if depth + 1 == self.open.len() {
                break;
            }
            match &open.kind {
                OpenKind::List(items) => path.0.push(Segment::Index(items.len())),
                OpenKind::Map {
                    key: Some((name, _)),
                    ..
                } => path.0.push(Segment::Key(name.clone())),
                OpenKind::Map { .. } => {}
            }
        }
        path
    }

    fn fault(&self, line: usize, message: impl Into<String>) -> YamlFault {
        YamlFault {
            line,
            path: self.path(),
            message: message.into(),
        }
    }
}

fn is_text_tag(tag: &Tag) -> bool {
    (tag.handle() == "tag:yaml.org,2002:" && tag.suffix() == "str")
        || (tag.handle().is_empty() && tag.suffix() == "!")
        || (tag.handle() == "!" && tag.suffix().is_empty())
}

/// What `<<` merges: earlier maps win over later ones, so the first one found stands first.
fn merge_source(node: Node) -> Option<Vec<(String, Node)>> {
    match node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::List(items) => {
            let mut all: Vec<(String, Node)> = Vec::new();
            for (_, item) in items {
                let Kind::Map(entries) = item.kind else {
                    return None;
                };
                for (key, value) in entries {
                    if all.iter().all(|(known, _)| *known != key) {
                        all.push((key, value));
                    }
                }
            }
            Some(all)
        }
        Kind::Scalar(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Typed;

    fn tree(text: &str) -> Node {
        let (tree, faults) = parse(text);
        assert!(faults.is_empty(), "{faults:?}");
        tree.unwrap()
    }

    fn faults(text: &str) -> Vec<(usize, String, String)> {
        let (_, faults) = parse(text);
        faults
            .into_iter()
            .map(|f| (f.line, f.path.to_string(), f.message))
            .collect()
    }

    #[test]
    fn quoting_and_lines_survive() {
        let tree = tree(
            "a: 3000\nb:\n  c: \"3000\"\n  d: !!str 3000\n  e: |\n    3000\nf: [1, {g: 'x'}]\n",
        );
        let scalar = |path: &[&str]| {
            let node = tree.at(path).unwrap();
            (node.scalar().unwrap().typed, node.line)
        };
        assert_eq!(scalar(&["a"]), (Typed::Unsigned(3000), 1));
        assert_eq!(scalar(&["b", "c"]), (Typed::Text, 3));
        assert_eq!(scalar(&["b", "d"]), (Typed::Text, 4));
        assert_eq!(scalar(&["b", "e"]), (Typed::Text, 5));
        assert_eq!(tree.at(&["b"]).unwrap().line, 2);
        let inner = tree.get(&Path::parse("f[1].g", &tree).0).unwrap();
        assert_eq!(inner.line, 7);
    }

    #[test]
    fn a_duplicate_key_is_told_with_both_lines() {
        assert_eq!(
            faults("hub:\n  port: 1\n  host: a\n  port: 2\nx:\n  - a: 1\n    a: 2\n"),
            [
                (
                    4,
                    "hub.port".into(),
                    "this key stands twice; it is at line 2 already".into()
                ),
                (
                    7,
                    "x[0].a".into(),
                    "this key stands twice; it is at line 6 already".into()
                ),
            ]
        );
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let tree =
            tree("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\nc: *x\nd:\n  <<: [*x, {m: 4}]\n");
        let at = |path: &[&str]| tree.at(path).unwrap().scalar().unwrap().text().to_owned();
        assert_eq!((at(&["b", "k"]), at(&["b", "l"])), ("3".into(), "2".into()));
        assert_eq!((at(&["c", "k"]), at(&["d", "m"])), ("1".into(), "4".into()));
    }

    #[test]
    fn a_billion_laughs_ends_at_the_limit() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let before = level - 1;
            let aliases = vec![format!("*a{before}"); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let faults = faults(&text);
        assert!(faults[0].2.contains("more than 50000 values"), "{faults:?}");
    }

    #[test]
    fn what_a_configuration_is_not() {
        for (text, line, fragment) in [
            ("", 1, "no configuration"),
            ("# nothing\n", 1, "no configuration"),
            ("a: 1\n---\nb: 2\n", 2, "second YAML document"),
            ("a: !secret x\n", 1, "tags are not supported"),
            ("a: !!int 5\n", 1, "tags are not supported"),
            ("? [a, b]\n: c\n", 1, "a key must be text"),
            ("a: &x [*x]\n", 1, "inside of the value"),
            ("a: *nowhere\n", 1, "unknown anchor"),
            ("a: 'open\n", 1, "not valid YAML"),
            ("a:\n\tb: 2\n", 2, "not valid YAML"),
            ("a: b: c\n", 1, "not valid YAML"),
            ("<<: 5\n", 1, "<< takes a map"),
        ] {
            let faults = faults(text);
            assert_eq!(faults.len(), 1, "{text:?}: {faults:?}");
            assert!(faults[0].2.contains(fragment), "{text:?}: {faults:?}");
            assert_eq!(faults[0].0, line, "{text:?}: {faults:?}");
        }
        let deep = format!("a: {}{}", "[".repeat(60), "]".repeat(60));
        assert!(faults(&deep)[0].2.contains("nested deeper"));
    }
}
