//! What several sections of the configuration read in the same strict way.

use std::fmt;
use std::time::Duration;

use proactions_edge::SecretString;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A key that is there has a value: `null` is an error, not «unset».
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

pub(crate) fn millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_any(Millis)
}

/// A text whose errors show nothing of it: serde's own would print what it found.
pub(crate) fn secret<'de, D>(deserializer: D) -> Result<Option<SecretString>, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Secret).map(Some)
}

struct Millis;

impl Visitor<'_> for Millis {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of milliseconds, such as 5000")
    }

    fn visit_u64<E: Error>(self, millis: u64) -> Result<Self::Value, E> {
        Ok(Duration::from_millis(millis))
    }

    fn visit_i64<E: Error>(self, millis: i64) -> Result<Self::Value, E> {
        u64::try_from(millis)
            .map(Duration::from_millis)
            .map_err(|_| E::custom("must not be negative; expected milliseconds"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Err(E::custom("expected a whole number of milliseconds"))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Err(E::custom(if text.parse::<u64>().is_ok() {
            "expected a number of milliseconds, without quotes"
        } else {
            "expected a number of milliseconds, such as 5000"
        }))
    }
}

struct Secret;

impl Secret {
    fn wrong<T, E: Error>() -> Result<T, E> {
        Err(E::custom("expected a text"))
    }
}

impl Visitor<'_> for Secret {
    type Value = SecretString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(SecretString::from(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Self::wrong()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Self::wrong()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Self::wrong()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Self::wrong()
    }
}
