//! How the keys are read from a file: strictly, and with errors that say what was expected.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

use crate::headers::StandardHeaders;

pub(crate) fn whole_number<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    from.deserialize_any(WholeNumber {
        max: u32::MAX,
        expected: "a whole number from 0 to 4294967295, without quotes",
    })
}

pub(crate) fn some_whole_number<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<u32>, D::Error> {
    whole_number(from).map(Some)
}

pub(crate) fn status<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    let status = from.deserialize_any(WholeNumber {
        max: 599,
        expected: "a status from 400 to 599, without quotes",
    })?;
    Ok(u16::try_from(status).unwrap_or_default())
}

/// Text, where the key may be left out but not be empty.
pub(crate) fn some_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

/// A list, where the key may be left out but not be empty.
pub(crate) fn some_list<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(from).map(Some)
}

pub(crate) fn ipv6_subnet<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u8>, D::Error> {
    from.deserialize_any(Ipv6Subnet)
}

struct WholeNumber {
    max: u32,
    expected: &'static str,
}

impl Visitor<'_> for WholeNumber {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u32, E> {
        u32::try_from(value)
            .ok()
            .filter(|value| *value <= self.max)
            .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u32, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }
}

struct Ipv6Subnet;

impl Visitor<'_> for Ipv6Subnet {
    type Value = Option<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bits from 32 to 64, or false")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Option<u8>, E> {
        if value {
            return Err(E::invalid_value(Unexpected::Bool(value), &self));
        }
        Ok(None)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Option<u8>, E> {
        u8::try_from(value)
            .map(Some)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Option<u8>, E> {
        u8::try_from(value)
            .map(Some)
            .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }
}

impl<'de> Deserialize<'de> for StandardHeaders {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Edition;

        impl Visitor<'_> for Edition {
            type Value = StandardHeaders;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, draft-6, draft-7 or draft-8")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<StandardHeaders, E> {
                Ok(if value {
                    StandardHeaders::Draft6
                } else {
                    StandardHeaders::Off
                })
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<StandardHeaders, E> {
                match value {
                    "draft-6" => Ok(StandardHeaders::Draft6),
                    "draft-7" => Ok(StandardHeaders::Draft7),
                    "draft-8" => Ok(StandardHeaders::Draft8),
                    _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
                }
            }
        }

        from.deserialize_any(Edition)
    }
}
