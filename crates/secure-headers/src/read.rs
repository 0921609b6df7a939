//! Readers whose errors tell an operator what to write.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use crate::Setting;

pub(crate) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Boolean.deserialize(deserializer)
}

pub(crate) fn optional_boolean<'de, D>(deserializer: D) -> Result<Option<bool>, D::Error>
where
    D: Deserializer<'de>,
{
    boolean(deserializer).map(Some)
}

/// `true` or `false`, and nothing that looks like one.
pub(crate) struct Boolean;

impl<'de> DeserializeSeed<'de> for Boolean {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Boolean {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true` or `false`, without quotes")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        Ok(value)
    }
}

/// A key that may be absent but not `null`: an empty value says nothing about what was meant.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

pub(crate) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Seconds;

    impl Visitor<'_> for Seconds {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of seconds from 0, without quotes")
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
            u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<u64, E> {
            if value.is_finite() && value >= 0.0 {
                // Saturates, and drops the fraction as helmet does.
                Ok(value as u64)
            } else {
                Err(E::invalid_value(Unexpected::Float(value), &self))
            }
        }
    }

    deserializer.deserialize_any(Seconds).map(Some)
}

pub(crate) fn text_or_list<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    struct TextOrList;

    impl<'de> Visitor<'de> for TextOrList {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok(vec![value.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            texts(seq)
        }
    }

    deserializer.deserialize_any(TextOrList).map(Some)
}

pub(crate) fn texts<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<String>, A::Error> {
    let mut items = Vec::new();
    while let Some(item) = seq.next_element::<String>()? {
        items.push(item);
    }
    Ok(items)
}

/// A list of texts, and not one text: `camera: self` would leave open whether `self` is the only member.
pub(crate) struct List;

impl<'de> DeserializeSeed<'de> for List {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list such as [self, \"https://maps.example.com\"], where [] means nobody")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        texts(seq)
    }
}

/// Reads `bool | map`, and `text` where that is a form of its own.
pub(crate) struct SettingSeed<T> {
    key: &'static str,
    form: Form,
    options: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy)]
enum Form {
    /// Options in a map; a bare word is an error that names this option and a value for it.
    Options(&'static str, &'static str),
    /// The type itself says what it takes.
    Own(&'static str),
}

impl<T> SettingSeed<T> {
    /// `option` is what a bare word was meant for, `example` a value of it.
    pub(crate) const fn options(
        key: &'static str,
        option: &'static str,
        example: &'static str,
    ) -> Self {
        Self {
            key,
            form: Form::Options(option, example),
            options: PhantomData,
        }
    }

    /// A setting that is more than options; `expected` tells what.
    pub(crate) const fn own(key: &'static str, expected: &'static str) -> Self {
        Self {
            key,
            form: Form::Own(expected),
            options: PhantomData,
        }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for SettingSeed<T> {
    type Value = Setting<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for SettingSeed<T> {
    type Value = Setting<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Options(option, example) => write!(
                f,
                "`true`, `false` or a map of options, as in `{}: {{{option}: {example}}}`",
                self.key
            ),
            Form::Own(expected) => f.write_str(expected),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(if value { Setting::On } else { Setting::Off })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        if matches!(value, "true" | "false") {
            return Err(E::custom(format_args!(
                "`{value}` in quotes is a text; write it without quotes"
            )));
        }
        match self.form {
            Form::Own(_) => T::deserialize(value.into_deserializer()).map(Setting::With),
            Form::Options(option, example) => {
                // What could be a value of the option is shown where it belongs.
                let word = if is_word(value) && is_word(example) {
                    value
                } else {
                    example
                };
                Err(E::custom(format_args!(
                    "a bare text is no option; write `{}: {{{option}: {word}}}`",
                    self.key
                )))
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Setting::With)
    }
}

fn is_word(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text != "false"
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
