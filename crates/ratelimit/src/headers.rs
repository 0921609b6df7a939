//! The header fields that tell a client how much it may still ask.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use proactions_edge::headers::decimal;
use sha2::{Digest, Sha256};

use crate::fixed_window::{Decision, Quota};
use crate::key::CounterKey;

/// Which edition of the IETF's RateLimit fields is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StandardHeaders {
    /// None (`false`).
    #[default]
    Off,
    /// `RateLimit-Limit`, `-Remaining`, `-Reset`, `-Policy` (`true` or `draft-6`).
    Draft6,
    /// `RateLimit: limit=100, remaining=95, reset=873` and `RateLimit-Policy` (`draft-7`).
    Draft7,
    /// `RateLimit: "100-in-15min"; r=95; t=873` and `RateLimit-Policy`, one item for each limit (`draft-8`).
    Draft8,
}

/// What `RateLimit-Reset` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum ResetFormat {
    /// The seconds until the window ends, as the draft has it.
    #[default]
    Seconds,
    /// The end of the window in seconds since 1970-01-01 UTC.
    Epoch,
}

const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Which fields are sent, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeaderStyle {
    pub(crate) standard: StandardHeaders,
    pub(crate) legacy: bool,
    pub(crate) reset: ResetFormat,
}

impl HeaderStyle {
    pub(crate) fn is_off(self) -> bool {
        self.standard == StandardHeaders::Off && !self.legacy
    }

    /// Whether each limit has an item of its own, so that more than the tightest must be remembered.
    pub(crate) fn shows_every_limit(self) -> bool {
        self.standard == StandardHeaders::Draft8
    }

    /// How many fields one limit needs.
    pub(crate) fn field_count(self) -> usize {
        let standard = match self.standard {
            StandardHeaders::Off => 0,
            StandardHeaders::Draft6 => 4,
            StandardHeaders::Draft7 | StandardHeaders::Draft8 => 2,
        };
        standard + if self.legacy { 3 } else { 0 }
    }

    /// Removes the fields that somebody further in has sent under the names of those above, all of them or only
    /// those that this style does not write: else the number of an upstream stands beside ours.
    pub(crate) fn strip(self, headers: &mut HeaderMap, all: bool) {
        // An answer has few fields, and hardly ever one of these.
        let theirs = |name: &&HeaderName| {
            let ours = self.writes(name.as_str());
            ours.is_some_and(|ours| all || !ours)
        };
        while let Some(name) = headers.keys().find(theirs).cloned() {
            headers.remove(name);
        }
    }

    /// Whether this style sends the field; `None` for one that no style sends.
    fn writes(self, name: &str) -> Option<bool> {
        use StandardHeaders::{Draft6, Draft7, Draft8, Off};
        match name {
            "x-ratelimit-limit" | "x-ratelimit-remaining" | "x-ratelimit-reset" => {
                Some(self.legacy)
            }
            "ratelimit-limit" | "ratelimit-remaining" | "ratelimit-reset" => {
                Some(self.standard == Draft6)
            }
            "ratelimit" => Some(matches!(self.standard, Draft7 | Draft8)),
            "ratelimit-policy" => Some(self.standard != Off),
            _ => None,
        }
    }

    /// What the fields say is left, if they are there.
    pub(crate) fn remaining_in(self, headers: &HeaderMap) -> Option<u32> {
        let text = |name| headers.get(name)?.to_str().ok();
        if self.legacy {
            return text(LEGACY_REMAINING)?.parse().ok();
        }
        match self.standard {
            StandardHeaders::Draft6 => text(REMAINING)?.parse().ok(),
            StandardHeaders::Draft7 => text(RATELIMIT)?
                .split(", ")
                .find_map(|part| part.strip_prefix("remaining="))?
                .parse()
                .ok(),
            StandardHeaders::Off | StandardHeaders::Draft8 => None,
        }
    }

    /// Sets the fields that hold one limit only.
    pub(crate) fn set(self, headers: &mut HeaderMap, names: &LimitHeaders, told: &Told) {
        let Told { decision, ends_at } = told;
        let remaining = || decimal(decision.remaining.into());
        if self.legacy {
            headers.insert(LEGACY_LIMIT, names.limit.clone());
            headers.insert(LEGACY_REMAINING, remaining());
            headers.insert(LEGACY_RESET, decimal(epoch_seconds(*ends_at)));
        }
        match self.standard {
            StandardHeaders::Draft6 => {
                headers.insert(POLICY, names.policy.clone());
                headers.insert(LIMIT, names.limit.clone());
                headers.insert(REMAINING, remaining());
                let reset = match self.reset {
                    ResetFormat::Seconds => whole_seconds(decision.reset_after),
                    ResetFormat::Epoch => epoch_seconds(*ends_at),
                };
                headers.insert(RESET, decimal(reset));
            }
            StandardHeaders::Draft7 => {
                headers.insert(POLICY, names.policy.clone());
                let line = Line::of(format_args!(
                    "limit={}, remaining={}, reset={}",
                    decision.limit,
                    decision.remaining,
                    whole_seconds(decision.reset_after)
                ));
                set_or_append(headers, RATELIMIT, &line, false);
            }
            StandardHeaders::Off | StandardHeaders::Draft8 => {}
        }
    }

    /// Adds a limit's items to the fields that hold a list; with `append` unset it begins the list.
    pub(crate) fn list(
        self,
        headers: &mut HeaderMap,
        names: &LimitHeaders,
        told: &Told,
        key: &CounterKey,
        append: bool,
    ) {
        if self.standard != StandardHeaders::Draft8 {
            return;
        }
        let decision = &told.decision;
        let state = Line::of(format_args!(
            "\"{}\"; r={}; t={}",
            names.name,
            decision.remaining,
            whole_seconds(decision.reset_after)
        ));
        set_or_append(headers, RATELIMIT, &state, append);
        let policy = Line::of(format_args!(
            "\"{}\"; q={}; w={}; pk=:{}:",
            names.name,
            decision.limit,
            names.window_seconds,
            partition_key(key)
        ));
        set_or_append(headers, POLICY, &policy, append);
    }
}

/// What a request is told about one limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) decision: Decision,
    pub(crate) ends_at: SystemTime,
}

/// The parts of the fields that never change for a limit.
#[derive(Clone, Debug)]
pub(crate) struct LimitHeaders {
    limit: HeaderValue,
    policy: HeaderValue,
    name: Box<str>,
    window_seconds: u64,
}

impl LimitHeaders {
    /// The parts for `quota`. The name is shown by draft-8 only; the usual one is like `100-in-15min`.
    pub(crate) fn new(quota: Quota, name: Option<&str>) -> Self {
        let window_seconds = whole_seconds(quota.window());
        let policy = Line::of(format_args!("{};w={window_seconds}", quota.max()));
        let name = match name {
            Some(name) => name.into(),
            None => format!("{}-in-{}", quota.max(), duration_name(quota.window())).into(),
        };
        Self {
            limit: decimal(quota.max().into()),
            policy: policy.value().unwrap_or(HeaderValue::from_static("")),
            name,
            window_seconds,
        }
    }
}

/// Whole seconds, rounded up.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn epoch_seconds(time: SystemTime) -> u64 {
    whole_seconds(
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// `15min`, `1hr`, `1.5hrs`: the largest unit that fits, not rounded.
fn duration_name(window: Duration) -> String {
    let plural = |count: f64, unit| {
        let s = if count > 1.0 { "s" } else { "" };
        format!("{count}{unit}{s}")
    };
    let seconds = window.as_secs_f64();
    match seconds {
        ..60.0 => format!("{seconds}sec"),
        ..3600.0 => format!("{}min", seconds / 60.0),
        ..86400.0 => plural(seconds / 3600.0, "hr"),
        _ => plural(seconds / 86400.0, "day"),
    }
}

/// A short digest of the client's key: the base64 form of the first 12 hexadecimal digits of its SHA-256.
fn partition_key(key: &CounterKey) -> PartitionKey {
    struct Hashing(Sha256);
    impl std::fmt::Write for Hashing {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.update(text);
            Ok(())
        }
    }
    let mut hashing = Hashing(Sha256::new());
    let _ = write!(hashing, "{key}");
    let digest: [u8; 32] = hashing.0.finalize().into();
    let mut digits = [0; 12];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    let mut encoded = PartitionKey([0; 16]);
    // Twelve bytes are sixteen characters: it fits.
    let _ = BASE64_STANDARD.encode_slice(digits, &mut encoded.0);
    encoded
}

struct PartitionKey([u8; 16]);

impl std::fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

fn set_or_append(headers: &mut HeaderMap, name: HeaderName, line: &Line, append: bool) {
    let Some(value) = line.value() else {
        return;
    };
    if append {
        headers.append(name, value);
    } else {
        headers.insert(name, value);
    }
}

/// A header value in the making, on the stack, so that the finished one is the only allocation.
struct Line {
    bytes: [u8; 192],
    len: usize,
}

impl Line {
    /// The longest line holds a name of 64 characters and five numbers, which fits with room to spare.
    fn of(text: std::fmt::Arguments<'_>) -> Self {
        let mut line = Self {
            bytes: [0; 192],
            len: 0,
        };
        let _ = line.write_fmt(text);
        line
    }

    fn value(&self) -> Option<HeaderValue> {
        let bytes = self.bytes.get(..self.len)?;
        HeaderValue::from_bytes(bytes).ok()
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes
            .get_mut(self.len..end)
            .ok_or(std::fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{AddressKey, Subject};

    fn quota(max: u32, millis: u64) -> Quota {
        Quota::new(max, Duration::from_millis(millis)).unwrap()
    }

    fn told(limit: u32, remaining: u32, reset_millis: u64) -> Told {
        let mut decision = Decision::of(
            crate::fixed_window::Window::new(0, SystemTime::UNIX_EPOCH),
            quota(limit, 1),
            SystemTime::UNIX_EPOCH,
        );
        decision.remaining = remaining;
        decision.reset_after = Duration::from_millis(reset_millis);
        Told {
            decision,
            ends_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_642_345_677_100),
        }
    }

    fn key(ip: &str) -> CounterKey {
        CounterKey::new(
            0,
            Subject::Address(AddressKey::new(ip.parse().unwrap(), Some(56))),
        )
    }

    fn lines(style: HeaderStyle) -> Vec<String> {
        let mut headers = HeaderMap::new();
        let names = LimitHeaders::new(quota(100, 900_000), None);
        let told = told(100, 95, 872_001);
        style.set(&mut headers, &names, &told);
        style.list(&mut headers, &names, &told, &key("127.0.0.1"), true);
        assert_eq!(headers.len(), style.field_count());
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn each_style_byte_for_byte() {
        let style = |standard, legacy, reset| HeaderStyle {
            standard,
            legacy,
            reset,
        };
        use ResetFormat::{Epoch, Seconds};
        use StandardHeaders::{Draft6, Draft7, Draft8, Off};
        assert_eq!(lines(style(Off, false, Seconds)), Vec::<String>::new());
        assert_eq!(
            lines(style(Off, true, Seconds)),
            [
                "x-ratelimit-limit: 100",
                "x-ratelimit-remaining: 95",
                "x-ratelimit-reset: 1642345678"
            ]
        );
        assert_eq!(
            lines(style(Draft6, false, Seconds)),
            [
                "ratelimit-policy: 100;w=900",
                "ratelimit-limit: 100",
                "ratelimit-remaining: 95",
                "ratelimit-reset: 873"
            ]
        );
        assert_eq!(
            lines(style(Draft6, false, Epoch)).last().unwrap(),
            "ratelimit-reset: 1642345678"
        );
        assert_eq!(
            lines(style(Draft7, false, Seconds)),
            [
                "ratelimit-policy: 100;w=900",
                "ratelimit: limit=100, remaining=95, reset=873"
            ]
        );
        assert_eq!(
            lines(style(Draft8, false, Seconds)),
            [
                "ratelimit: \"100-in-15min\"; r=95; t=873",
                "ratelimit-policy: \"100-in-15min\"; q=100; w=900; pk=:MTJjYTE3YjQ5YWYy:"
            ]
        );
    }

    #[test]
    fn the_partition_key_of_a_network() {
        assert_eq!(
            partition_key(&key("2001:db8:85a3:12ff::1")).to_string(),
            "ZTY4ZTQ4Y2JlNjAy"
        );
    }

    #[test]
    fn names_of_windows() {
        for (millis, name) in [
            (1, "0.001sec"),
            (1500, "1.5sec"),
            (59_999, "59.999sec"),
            (60_000, "1min"),
            (900_000, "15min"),
            (100_000, "1.6666666666666667min"),
            (3_600_000, "1hr"),
            (5_400_000, "1.5hrs"),
            (86_400_000, "1day"),
            (172_800_000, "2days"),
        ] {
            assert_eq!(duration_name(Duration::from_millis(millis)), name);
        }
    }

    #[test]
    fn the_longest_lines_fit() {
        let mut headers = HeaderMap::new();
        let style = HeaderStyle {
            standard: StandardHeaders::Draft8,
            ..HeaderStyle::default()
        };
        let names = LimitHeaders::new(quota(u32::MAX, 2_147_483_647), Some(&"x".repeat(64)));
        let told = told(u32::MAX, u32::MAX, 2_147_483_647);
        style.list(&mut headers, &names, &told, &key("::1"), false);
        assert!(headers[POLICY].to_str().unwrap().ends_with(':'));
        assert!(headers[RATELIMIT].to_str().unwrap().ends_with("t=2147484"));
    }

    #[test]
    fn what_is_left_is_read_back() {
        for (standard, legacy) in [
            (StandardHeaders::Draft6, false),
            (StandardHeaders::Draft7, false),
            (StandardHeaders::Off, true),
            (StandardHeaders::Draft8, true),
        ] {
            let style = HeaderStyle {
                standard,
                legacy,
                ..HeaderStyle::default()
            };
            let mut headers = HeaderMap::new();
            assert_eq!(style.remaining_in(&headers), None);
            let names = LimitHeaders::new(quota(100, 1000), None);
            style.set(&mut headers, &names, &told(100, 42, 1));
            assert_eq!(style.remaining_in(&headers), Some(42), "{style:?}");
        }
    }
}
