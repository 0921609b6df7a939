//! serde over a [`Node`] tree, with errors that know where they happened and never hold a value.

use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use crate::node::{Kind, Node, Path, Scalar, Segment, Typed};

/// Why a tree is not what a type wants.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Innermost step first, because that is the order in which an error comes up.
    steps: Vec<Segment>,
    pub(crate) reason: Reason,
}

#[derive(Debug)]
pub(crate) enum Reason {
    /// No key of this name is known.
    UnknownKey { known: &'static [&'static str] },
    /// The text is none of these.
    UnknownName { known: &'static [&'static str] },
    /// The value is of another type.
    WrongType {
        found: &'static str,
        expected: String,
    },
    /// The type is right, and the value is not.
    WrongValue { expected: String },
    /// A key is missing in the map at the path.
    Missing { key: &'static str },
    /// In the words of whoever looked at the value.
    Other(String),
}

impl Fault {
    fn new(reason: Reason) -> Self {
        Self {
            steps: Vec::new(),
            reason,
        }
    }

    fn below(mut self, segment: Segment) -> Self {
        self.steps.push(segment);
        self
    }

    pub(crate) fn path(&self) -> Path {
        Path(self.steps.iter().rev().cloned().collect())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::UnknownKey { .. } => f.write_str("unknown key"),
            Reason::UnknownName { known } => {
                f.write_str("expected ")?;
                write_choice(f, known)
            }
            Reason::WrongType { found, expected } => {
                write!(f, "expected {expected}, found {found}")
            }
            Reason::WrongValue { expected } => write!(f, "expected {expected}"),
            Reason::Missing { key } => write!(f, "the key {key} is missing"),
            Reason::Other(message) => f.write_str(message),
        }
    }
}

/// `a, b or c`
fn write_choice(f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            f.write_str(if at + 1 == names.len() { " or " } else { ", " })?;
        }
        f.write_str(name)?;
    }
    Ok(())
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Reason::Other(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = plain_words(expected);
        // A float for a whole number, a negative one for a positive: the type is right to who reads the file.
        if matches!(unexpected, Unexpected::Float(_) | Unexpected::Signed(_))
            && expected.contains("number")
        {
            return Self::new(Reason::WrongValue { expected });
        }
        Self::new(Reason::WrongType {
            found: name_of(unexpected),
            expected,
        })
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Reason::WrongValue {
            expected: plain_words(expected),
        })
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::new(Reason::WrongValue {
            expected: plain_words(expected),
        })
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Reason::UnknownName { known })
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Reason::UnknownKey { known })
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Reason::Missing { key })
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::new(Reason::Other(format!("the key {key} stands twice")))
    }
}

fn name_of(unexpected: Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "text",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map of keys",
        _ => "something else",
    }
}

/// What serde's own visitors expect, said to somebody who writes YAML.
fn plain_words(expected: &dyn Expected) -> String {
    let words = expected.to_string();
    match words.as_str() {
        "a boolean" => "true or false".to_owned(),
        "a string" | "a borrowed string" | "a string slice" | "a path" | "path string" => {
            "text".to_owned()
        }
        "a sequence" => "a list".to_owned(),
        "a map" => "a map of keys".to_owned(),
        "u8" => format!("a whole number from 0 to {}", u8::MAX),
        "u16" => format!("a whole number from 0 to {}", u16::MAX),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number of 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        words if words.starts_with("struct ") => "a map of keys".to_owned(),
        words if words.starts_with("enum ") => "one of the known names".to_owned(),
        _ => words,
    }
}

pub(crate) struct NodeDeserializer<'a>(pub(crate) &'a Node);

impl<'a> NodeDeserializer<'a> {
    fn scalar(&self) -> Option<&'a Scalar> {
        self.0.scalar()
    }

    fn wrong(&self, expected: &dyn Expected) -> Fault {
        Fault::new(Reason::WrongType {
            found: self.0.found(),
            expected: plain_words(expected),
        })
    }

    /// The text, for who wants text: what stands in the file as a bare number is refused there, what was put
    /// in by a variable is text as well as whatever it looks like.
    fn text(&self) -> Option<&'a str> {
        let scalar = self.scalar()?;
        (scalar.typed == Typed::Text || (scalar.is_substituted() && scalar.typed != Typed::Null))
            .then(|| scalar.text())
    }

    fn number<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar().map(|scalar| scalar.typed) {
            Some(Typed::Unsigned(value)) => visitor.visit_u64(value),
            Some(Typed::Signed(value)) => visitor.visit_i64(value),
            Some(Typed::Float(value)) => visitor.visit_f64(value),
            _ => Err(self.wrong(&visitor)),
        }
    }
}

macro_rules! forward {
    ($to:ident: $($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$to(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Scalar(scalar) => match scalar.typed {
                Typed::Null => visitor.visit_unit(),
                Typed::Bool(value) => visitor.visit_bool(value),
                Typed::Text => visitor.visit_str(scalar.text()),
                _ => self.number(visitor),
            },
            Kind::List(items) => visitor.visit_seq(Items { rest: items.iter() }),
            Kind::Map(entries) => visitor.visit_map(Entries {
                rest: entries.iter(),
                value: None,
            }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar().map(|scalar| scalar.typed) {
            Some(Typed::Bool(value)) => visitor.visit_bool(value),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text() {
            Some(text) => visitor.visit_str(text),
            None => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.0.is_null() {
            visitor.visit_unit()
        } else {
            Err(self.wrong(&visitor))
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::List(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Map(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.scalar() {
            // `standardHeaders: true` and the like are for visitors; an enum is always a name.
            Some(scalar) if scalar.typed != Typed::Null => visitor.visit_enum(Name(scalar.text())),
            _ => Err(Fault::new(Reason::WrongType {
                found: self.0.found(),
                expected: Fault::unknown_variant("", known)
                    .to_string()
                    .trim_start_matches("expected ")
                    .to_owned(),
            })),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward!(number:
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64);
    forward!(deserialize_str:
        deserialize_char deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_identifier);
}

struct Items<'a> {
    rest: std::slice::Iter<'a, (usize, Node)>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((index, item)) = self.rest.next() else {
            return Ok(None);
        };
        seed.deserialize(NodeDeserializer(item))
            .map(Some)
            .map_err(|fault| fault.below(Segment::Index(*index)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, (String, Node)>,
    value: Option<&'a (String, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(entry) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(entry);
        let key = IntoDeserializer::<Fault>::into_deserializer(entry.0.as_str());
        seed.deserialize(key)
            .map(Some)
            .map_err(|fault| fault.below(Segment::Key(entry.0.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, value)) = self.value.take() else {
            return Err(Fault::custom("a value was asked for before its key"));
        };
        seed.deserialize(NodeDeserializer(value))
            .map_err(|fault| fault.below(Segment::Key(key.clone())))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Name<'a>(&'a str);

impl<'de, 'a> EnumAccess<'de> for Name<'a> {
    type Error = Fault;
    type Variant = NoContent;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, NoContent), Fault> {
        let name = IntoDeserializer::<Fault>::into_deserializer(self.0);
        Ok((seed.deserialize(name)?, NoContent))
    }
}

/// A name alone, nothing inside.
struct NoContent;

impl<'de> VariantAccess<'de> for NoContent {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::custom("expected more than a name"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::custom("expected more than a name"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault::custom("expected more than a name"))
    }
}
