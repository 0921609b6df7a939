use std::fmt;
use std::str::FromStr;

/// The section `limits` of a configuration: how large a body may be, by its content type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct BodyLimitConfig {
    /// Whether bodies are limited at all. Default: `true`.
    pub enabled: bool,
    /// For `application/json` and `+json`. Default: 50 MiB.
    pub json: ByteSize,
    /// For `application/x-www-form-urlencoded`. Default: 10 MiB.
    pub urlencoded: ByteSize,
    /// For every other body. Default: 2 GiB.
    pub other: ByteSize,
}

impl Default for BodyLimitConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            json: ByteSize::new(50 << 20),
            urlencoded: ByteSize::new(10 << 20),
            other: ByteSize::new(2 << 30),
        }
    }
}

/// A number of bytes, written as a number or as text such as `10mb`.
///
/// The units are `b`, `kb`, `mb`, `gb` and `tb` in any case, in powers of 1024, with spaces between number and unit if
/// one likes: the part of the grammar of Node's `bytes` package that cannot be misread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// That many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unit_at = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let power = match unit.trim_start_matches(' ').to_ascii_lowercase().as_str() {
            "b" => 0,
            // A bare number is a number of bytes, but a trailing space is a slip.
            "" if unit.is_empty() => 0,
            "kb" => 1,
            "mb" => 2,
            "gb" => 3,
            "tb" => 4,
            _ => return Err(ParseByteSizeError),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
            return Err(ParseByteSizeError);
        }
        if power == 0 && number.contains('.') {
            return Err(ParseByteSizeError);
        }
        let digits = |text: &str| text.parse::<u64>().map_err(|_| ParseByteSizeError);
        let scale = 1_u64 << (10 * power);
        let decimals = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| ParseByteSizeError)?);
        let part = u128::from(digits(fraction)?) * u128::from(scale) / decimals;
        digits(whole)?
            .checked_mul(scale)
            .and_then(|bytes| bytes.checked_add(u64::try_from(part).ok()?))
            .map(Self)
            .ok_or(ParseByteSizeError)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}b", self.0)
    }
}

/// The text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseByteSizeError;

impl fmt::Display for ParseByteSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }
}

impl std::error::Error for ParseByteSizeError {}

const EXPECTED: &str =
    "expected a number of bytes or a size such as 50mb (units b, kb, mb, gb, tb)";

#[cfg(feature = "config")]
impl<'de> serde::Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl serde::de::Visitor<'_> for SizeVisitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a size such as 50mb")
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                u64::try_from(bytes)
                    .map(ByteSize)
                    .map_err(|_| E::custom("expected a size of 0 or more"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_that_mean_one_thing_are_read() {
        for (text, bytes) in [
            ("50mb", 52_428_800),
            ("50MB", 52_428_800),
            ("50 mb", 52_428_800),
            ("10mb", 10_485_760),
            ("1.5kb", 1536),
            ("0.5kb", 512),
            ("100", 100),
            ("100b", 100),
            ("0", 0),
            ("1gb", 1_073_741_824),
            ("2tb", 2_199_023_255_552),
            ("1.999999999kb", 2047),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_that_node_misreads_are_refused() {
        for text in [
            "50m",
            "50M",
            "50mib",
            "10MB ",
            " 10mb",
            "1e3",
            "1.5",
            "1,000",
            "-5mb",
            "+5mb",
            "abc",
            "",
            "mb",
            ".5kb",
            "5.kb",
            "1.2.3kb",
            "100 ",
            "1pb",
            "99999999999tb",
            "1\tmb",
            "0x10",
            "1.0000000000mb",
            "१mb",
        ] {
            assert_eq!(
                text.parse::<ByteSize>(),
                Err(ParseByteSizeError),
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_reads_again(text in any::<String>()) {
            if let Ok(size) = text.parse::<ByteSize>() {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
        }

        #[test]
        fn whole_numbers_scale(number in 0_u64..1_000_000, power in 0_u32..5) {
            let unit = ["b", "kb", "mb", "gb", "tb"][power as usize];
            prop_assert_eq!(format!("{number}{unit}").parse(), Ok(ByteSize(number << (10 * power))));
        }
    }
}
