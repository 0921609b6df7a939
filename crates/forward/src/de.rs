//! Readers for configuration fields, with messages for the people who write the file.
//!
//! serde's own messages print the value that does not fit; a secret must not be printed. An `Option` also takes
//! an empty value (`key:`), which hides a mistake. These readers do neither. They say what they expect
//! (`deserialize_str`, `deserialize_u64`), so that a reader that knows the text of a scalar can hand that over.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use proactions_edge::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::ConfigUrl;

/// Reads text.
///
/// # Errors
/// When it is anything else.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer
        .deserialize_str(Text::<String>(PhantomData))
        .map(Some)
}

/// Reads a secret. No message shows any of it.
///
/// # Errors
/// When it is not text.
pub fn secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    hidden(deserializer).map(Some)
}

/// Reads a URL. No message shows any of it, as it may hold a password.
///
/// # Errors
/// When it is not text.
pub fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ConfigUrl>, D::Error> {
    hidden(deserializer).map(|secret| Some(ConfigUrl::from(secret)))
}

fn hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    // The error of the reader may hold the value: it is replaced whole.
    deserializer
        .deserialize_str(Text::<SecretString>(PhantomData))
        .map_err(|_| D::Error::custom("expected text: put it in quotes, or leave the key out"))
}

/// Reads a map of secrets, such as header fields.
///
/// # Errors
/// When it is not a map, or one of its values is not text.
pub fn secrets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, SecretString>, D::Error> {
    struct Secret(SecretString);

    impl<'de> Deserialize<'de> for Secret {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            hidden(deserializer).map(Self)
        }
    }

    struct Secrets;

    impl<'de> Visitor<'de> for Secrets {
        type Value = BTreeMap<String, SecretString>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of names and texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut secrets = BTreeMap::new();
            while let Some((name, Secret(value))) = map.next_entry::<String, Secret>()? {
                secrets.insert(name, value);
            }
            Ok(secrets)
        }
    }

    deserializer.deserialize_map(Secrets)
}

/// Reads a whole number that is not negative.
///
/// # Errors
/// When it is anything else.
pub fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Number;

    impl Visitor<'_> for Number {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, not negative")
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
            u64::try_from(value).map_err(|_| E::custom("expected a number that is not negative"))
        }
    }

    deserializer.deserialize_u64(Number).map(Some)
}

/// Text as one of the types that hold it.
struct Text<T>(PhantomData<T>);

impl<T: for<'a> From<&'a str>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        Ok(T::from(value))
    }
}
