//! How the values of the section are read.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::{FileSize, LogFormat, Retention};
use crate::Level;

/// A key that may be missing but not null.
pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

pub(super) fn rotation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct Rotation;

    impl Visitor<'_> for Rotation {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("true, false or daily")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<bool, E> {
            if value == "daily" {
                return Ok(true);
            }
            Err(E::invalid_value(Unexpected::Str(value), &self))
        }
    }

    deserializer.deserialize_any(Rotation)
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Level;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a level: error, warn, info, debug, verbose or silly")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Level, E> {
                Level::from_name(value)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
            }
        }

        deserializer.deserialize_any(Name)
    }
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = LogFormat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("json or text")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<LogFormat, E> {
                match value {
                    "json" => Ok(LogFormat::Json),
                    "text" => Ok(LogFormat::Text),
                    _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(Name)
    }
}

impl<'de> Deserialize<'de> for FileSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;

        impl Visitor<'_> for Size {
            type Value = FileSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 500k, 10m or 1g, or a number of bytes without quotes")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<FileSize, E> {
                Ok(FileSize::from_bytes(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<FileSize, E> {
                u64::try_from(value)
                    .map(FileSize::from_bytes)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<FileSize, E> {
                FileSize::parse(value)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
            }
        }

        deserializer.deserialize_any(Size)
    }
}

impl<'de> Deserialize<'de> for Retention {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kept;

        impl Visitor<'_> for Kept {
            type Value = Retention;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of days such as 14d, or a number of files without quotes")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Retention, E> {
                u32::try_from(value)
                    .map(Retention::Count)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Retention, E> {
                u32::try_from(value)
                    .map(Retention::Count)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Retention, E> {
                Retention::parse(value)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(value), &self))
            }
        }

        deserializer.deserialize_any(Kept)
    }
}
