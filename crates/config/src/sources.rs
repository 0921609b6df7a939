//! The sources of a configuration, merged by figment.
//!
//! figment sees the shape and the keys; in the place of each scalar it sees a number, the scalar's place in
//! a table beside it. So its errors have no value to show, its strings hold no secret, and line, quoting and
//! order, which its own values cannot carry, are all still there after the merge.

use std::collections::HashMap;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::expand::Variables;
use crate::node::{Kind, Node, Origin, Path, Scalar, Segment};

/// Environment variables that stand above the file, and the key that each sets.
pub(crate) const OVERRIDES: [(&str, &[&str]); 3] = [
    ("PROACTIONS_HUB_PORT", &["hub", "port"]),
    ("PROACTIONS_HUB_AILINK_PORT", &["hub", "ailink_port"]),
    (
        "PROACTIONS_SKIP_SCHEMA_VALIDATION",
        &["validation", "skipSchemaValidation"],
    ),
];

/// What figment does not carry.
#[derive(Default)]
struct Side {
    scalars: Vec<Node>,
    /// Order and line of every list and map, and the order of every key in its map.
    places: HashMap<Path, Place>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    line: usize,
    turn: usize,
}

/// The file with the environment's overrides put over it.
pub(crate) fn merge(file: &Node, variables: &Variables) -> Result<Node, String> {
    let mut side = Side::default();
    let mut figment = Figment::new().merge(Source {
        name: "file",
        dict: side.dict(file, &mut Path::default()),
    });
    for (name, keys) in OVERRIDES {
        // Compose files pass variables on that are not set as empty ones.
        if let Some(value) = variables.get(name).filter(|value| !value.is_empty()) {
            let value = match (name, value) {
                ("PROACTIONS_SKIP_SCHEMA_VALIDATION", "1") => "true",
                ("PROACTIONS_SKIP_SCHEMA_VALIDATION", "0") => "false",
                (_, value) => value,
            };
            let scalar = Scalar::new(value.to_owned(), true, Origin::Environment(name));
            let index = side.push(Node::new(Kind::Scalar(scalar), 0));
            figment = figment.merge(Source {
                name,
                dict: nest(keys, index),
            });
        }
    }
    let merged = figment
        .data()
        .map_err(|error| format!("the sources cannot be merged: {:?}", error.kind))?;
    let dict = merged.get(&Profile::Default).cloned().unwrap_or_default();
    Ok(side.node(&Value::from(dict), &mut Path::default()))
}

struct Source {
    name: &'static str,
    dict: Dict,
}

impl Provider for Source {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

fn nest(keys: &[&str], value: Value) -> Dict {
    match keys.split_first() {
        None => Dict::new(),
        Some((key, [])) => Dict::from([((*key).to_owned(), value)]),
        Some((key, rest)) => Dict::from([((*key).to_owned(), Value::from(nest(rest, value)))]),
    }
}

impl Side {
    fn push(&mut self, node: Node) -> Value {
        let index = self.scalars.len();
        self.scalars.push(node);
        Value::from(index)
    }

    fn dict(&mut self, node: &Node, path: &mut Path) -> Dict {
        match self.value(node, path, 0) {
            Value::Dict(_, dict) => dict,
            _ => Dict::new(),
        }
    }

    fn value(&mut self, node: &Node, path: &mut Path, turn: usize) -> Value {
        let line = node.line;
        self.places.insert(path.clone(), Place { line, turn });
        match &node.kind {
            Kind::Scalar(_) => self.push(node.clone()),
            Kind::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items {
                    path.0.push(Segment::Index(*index));
                    values.push(self.value(item, path, *index));
                    path.0.pop();
                }
                Value::from(values)
            }
            Kind::Map(entries) => {
                let mut dict = Dict::new();
                for (turn, (key, value)) in entries.iter().enumerate() {
                    path.0.push(Segment::Key(key.clone()));
                    dict.insert(key.clone(), self.value(value, path, turn));
                    path.0.pop();
                }
                Value::from(dict)
            }
        }
    }

    fn node(&self, value: &Value, path: &mut Path) -> Node {
        let line = self.places.get(path).map_or(0, |place| place.line);
        let kind = match value {
            Value::Dict(_, dict) => {
                let mut entries: Vec<(usize, String, Node)> = dict
                    .iter()
                    .map(|(key, value)| {
                        path.0.push(Segment::Key(key.clone()));
                        let turn = self.places.get(path).map_or(usize::MAX, |place| place.turn);
                        let node = self.node(value, path);
                        path.0.pop();
                        (turn, key.clone(), node)
                    })
                    .collect();
                entries.sort_by_key(|(turn, ..)| *turn);
                Kind::Map(
                    entries
                        .into_iter()
                        .map(|(_, key, node)| (key, node))
                        .collect(),
                )
            }
            Value::Array(_, values) => Kind::List(
                values
                    .iter()
                    .enumerate()
                    .map(|(index, value)| {
                        path.0.push(Segment::Index(index));
                        let node = self.node(value, path);
                        path.0.pop();
                        (index, node)
                    })
                    .collect(),
            ),
            leaf => {
                let index = leaf.to_u128().and_then(|index| usize::try_from(index).ok());
                if let Some(node) = index.and_then(|index| self.scalars.get(index)) {
                    return node.clone();
                }
                Kind::Scalar(Scalar::new(String::new(), true, Origin::File))
            }
        };
        Node::new(kind, line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_stand_above_and_the_rest_keeps_order_line_and_quotes() {
        let (tree, _) =
            crate::yaml::parse("z: \"1\"\nhub:\n  port: 1\n  b: x\n  a: [q, {n: 1, m: 2}]\n");
        let mut variables = Variables::default();
        variables.add_default("PROACTIONS_HUB_PORT".into(), "8080".into());
        variables.add_default("PROACTIONS_HUB_AILINK_PORT".into(), "81".into());
        let merged = merge(&tree.unwrap(), &variables).unwrap();
        let mut seen = Vec::new();
        merged.walk(&mut |path, node| {
            let text = node.scalar().map_or("", |s| s.text()).to_owned();
            seen.push((path.to_string(), node.line, text));
        });
        let seen: Vec<_> = seen
            .iter()
            .map(|(p, l, t)| (p.as_str(), *l, t.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("", 1, ""),
                ("z", 1, "1"),
                ("hub", 2, ""),
                ("hub.port", 0, "8080"),
                ("hub.b", 4, "x"),
                ("hub.a", 5, ""),
                ("hub.a[0]", 5, "q"),
                ("hub.a[1]", 5, ""),
                ("hub.a[1].n", 5, "1"),
                ("hub.a[1].m", 5, "2"),
                ("hub.ailink_port", 0, "81"),
            ]
        );
        assert!(!merged.at(&["z"]).unwrap().scalar().unwrap().plain);
    }
}
