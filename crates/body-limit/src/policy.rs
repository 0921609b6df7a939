use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use proactions_edge::ConfigError;

use crate::BodyLimitConfig;

/// The limits, ready to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimitPolicy {
    json: u64,
    urlencoded: u64,
    other: u64,
}

/// What a body is, as far as its limit is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyKind {
    /// `application/json`, or a type with the suffix `+json` (RFC 6839).
    Json,
    /// Everything else.
    Other,
    /// `application/x-www-form-urlencoded`.
    Urlencoded,
}

impl BodyKind {
    /// The kind that these headers declare.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else {
            return Self::Other;
        };
        if value == b"application/json" {
            return Self::Json;
        }
        let essence = value
            .split(|b| *b == b';')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        let suffix = essence
            .len()
            .checked_sub(5)
            .and_then(|at| essence.get(at..));
        if essence.eq_ignore_ascii_case(b"application/json")
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
        {
            Self::Json
        } else if essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            Self::Urlencoded
        } else {
            Self::Other
        }
    }
}

/// What is known of a body before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be read up to so many bytes.
    Admitted(u64),
    /// Its length is not declared clearly.
    Ambiguous,
    /// It says itself that it is too large.
    TooLarge,
}

impl BodyLimitPolicy {
    /// No limit.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            json: u64::MAX,
            urlencoded: u64::MAX,
            other: u64::MAX,
        }
    }

    /// Whether anything is limited.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.json != u64::MAX || self.urlencoded != u64::MAX || self.other != u64::MAX
    }

    /// The limit for this kind of body, in bytes.
    #[must_use]
    pub const fn limit(&self, kind: BodyKind) -> u64 {
        match kind {
            BodyKind::Json => self.json,
            BodyKind::Other => self.other,
            BodyKind::Urlencoded => self.urlencoded,
        }
    }

    /// Decides from the headers alone.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> Verdict {
        let limit = self.limit(BodyKind::of(headers));
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let Some(declared) = lengths.next() else {
            return Verdict::Admitted(limit);
        };
        if lengths.next().is_some() {
            return Verdict::Ambiguous;
        }
        match plain_number(declared.as_bytes()) {
            None => Verdict::Ambiguous,
            Some(length) if length > limit => Verdict::TooLarge,
            Some(_) => Verdict::Admitted(limit),
        }
    }
}

impl TryFrom<BodyLimitConfig> for BodyLimitPolicy {
    type Error = ConfigError;

    fn try_from(config: BodyLimitConfig) -> Result<Self, ConfigError> {
        if !config.enabled {
            return Ok(Self::off());
        }
        let zero = [
            ("json", config.json),
            ("urlencoded", config.urlencoded),
            ("other", config.other),
        ]
        .into_iter()
        .filter(|(_, size)| size.bytes() == 0)
        .map(|(key, _)| {
            ConfigError::new(key, "expected a size above 0; every body would be refused")
        });
        let policy = Self {
            json: config.json.bytes(),
            urlencoded: config.urlencoded.bytes(),
            other: config.other.bytes(),
        };
        ConfigError::check(policy, zero)
    }
}

/// Digits only: no sign, no space, no list.
fn plain_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::ByteSize;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    #[test]
    fn the_kind_goes_by_the_essence_of_the_type() {
        for (value, kind) in [
            ("application/json", BodyKind::Json),
            ("Application/JSON ; charset=utf-8", BodyKind::Json),
            ("application/vnd.api+json", BodyKind::Json),
            ("application/problem+JSON;x=y", BodyKind::Json),
            (
                "application/x-www-form-urlencoded; charset=utf-8",
                BodyKind::Urlencoded,
            ),
            ("text/plain; x=application/json", BodyKind::Other),
            ("application/jsonp", BodyKind::Other),
            ("multipart/form-data; boundary=+json", BodyKind::Other),
            ("json", BodyKind::Other),
            ("", BodyKind::Other),
        ] {
            assert_eq!(
                BodyKind::of(&headers(&[("content-type", value)])),
                kind,
                "{value}"
            );
        }
        assert_eq!(BodyKind::of(&HeaderMap::new()), BodyKind::Other);
    }

    #[test]
    fn declared_lengths() {
        let policy = BodyLimitPolicy {
            json: 10,
            urlencoded: 20,
            other: 30,
        };
        for (lengths, verdict) in [
            (&[][..], Verdict::Admitted(10)),
            (&["0"], Verdict::Admitted(10)),
            (&["10"], Verdict::Admitted(10)),
            (&["11"], Verdict::TooLarge),
            (&["0000000010"], Verdict::Admitted(10)),
            (&["18446744073709551616"], Verdict::Ambiguous),
            (&["5", "5"], Verdict::Ambiguous),
            (&["5, 5"], Verdict::Ambiguous),
            (&["+5"], Verdict::Ambiguous),
            (&["-5"], Verdict::Ambiguous),
            (&["0x5"], Verdict::Ambiguous),
            (&[""], Verdict::Ambiguous),
        ] {
            let mut lines = vec![("content-type", "application/json")];
            lines.extend(lengths.iter().map(|length| ("content-length", *length)));
            assert_eq!(policy.judge(&headers(&lines)), verdict, "{lengths:?}");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_an_error() {
        let config = BodyLimitConfig {
            json: ByteSize::new(0),
            other: ByteSize::new(0),
            ..BodyLimitConfig::default()
        };
        let error = BodyLimitPolicy::try_from(config.clone()).unwrap_err();
        let keys: Vec<_> = error.problems().iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, ["json", "other"]);
        let off = BodyLimitConfig {
            enabled: false,
            ..config
        };
        assert_eq!(BodyLimitPolicy::try_from(off), Ok(BodyLimitPolicy::off()));
        assert!(!BodyLimitPolicy::off().is_on());
        assert!(
            BodyLimitPolicy::try_from(BodyLimitConfig::default())
                .unwrap()
                .is_on()
        );
    }
}
