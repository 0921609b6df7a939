//! Whether, and after how long, a failed call is made again.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::Codes;
use super::balance::fraction;
use crate::RetryConfig;

/// The wait before the first repetition, before its jitter; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// A provider that asks for more is not asked again by this request.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How often a leaf is asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retry {
    times: u32,
    codes: Codes,
}

impl Retry {
    pub(crate) const NEVER: Self = Self {
        times: 0,
        codes: Codes::Passing,
    };

    pub(crate) fn new(config: &RetryConfig) -> Self {
        let times = config.attempts.unwrap_or_default();
        Self {
            times: u32::try_from(times).unwrap_or(u32::MAX),
            codes: Codes::or(&config.on_status_codes, Codes::Passing),
        }
    }

    /// How long to wait before the next call, after `done` calls of which the last was answered like this;
    /// `None` where there is to be no other.
    pub(crate) fn wait(
        &self,
        done: u32,
        status: StatusCode,
        asked: Option<Duration>,
        jitter: &Jitter,
    ) -> Option<Duration> {
        if done > self.times || !self.codes.contain(status) {
            return None;
        }
        match asked {
            Some(asked) if asked > LONGEST_RETRY_AFTER => None,
            // Those who were told the same moment do not come back in it together.
            Some(asked) => Some(asked + backoff(0, jitter.next()) / 4),
            None => Some(backoff(done.saturating_sub(1), jitter.next())),
        }
    }
}

/// Between a half and the whole of the wait that doubles each time.
fn backoff(earlier: u32, jitter: f64) -> Duration {
    let whole = FIRST_WAIT
        .saturating_mul(1 << earlier.min(16))
        .min(LONGEST_WAIT);
    whole.mul_f64(0.5 + jitter / 2.0)
}

/// How long a provider asks to be left alone: `Retry-After` (RFC 9110, 10.2.3), or what OpenAI sends beside it.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(millis));
    }
    let asked = text(RETRY_AFTER.as_str())?.trim();
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = httpdate::parse_http_date(asked).ok()?;
    Some(moment.duration_since(now).unwrap_or_default())
}

/// Numbers between 0 and 1 that nobody needs to be unable to guess (splitmix64).
#[derive(Debug)]
pub(crate) struct Jitter(AtomicU64);

impl Default for Jitter {
    fn default() -> Self {
        Self(AtomicU64::new(RandomState::new().hash_one(0)))
    }
}

impl Jitter {
    fn next(&self) -> f64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        fraction(z ^ (z >> 31))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn retry(attempts: u64, codes: &[u16]) -> Retry {
        Retry::new(&RetryConfig {
            attempts: Some(attempts),
            on_status_codes: codes.to_vec(),
        })
    }

    #[test]
    fn a_call_is_repeated_as_often_as_asked_and_after_the_named_statuses_only() {
        let jitter = Jitter::default();
        let waits = |retry: &Retry, done, status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            retry.wait(done, status, None, &jitter).is_some()
        };
        for (status, repeated) in [
            (429, true),
            (500, true),
            (502, true),
            (503, true),
            (504, true),
            (501, false),
            (400, false),
            (408, false),
            (200, false),
        ] {
            assert_eq!(waits(&retry(2, &[]), 1, status), repeated, "{status}");
        }
        assert!(waits(&retry(2, &[]), 2, 500) && !waits(&retry(2, &[]), 3, 500));
        assert!(waits(&retry(1, &[408]), 1, 408) && !waits(&retry(1, &[408]), 1, 500));
        assert!(!waits(&Retry::NEVER, 1, 500));
        assert!(!waits(&Retry::new(&RetryConfig::default()), 1, 500));
    }

    #[test]
    fn waits_double_up_to_a_limit_and_follow_the_provider() {
        for (earlier, least, most) in [
            (0, 250, 500),
            (1, 500, 1000),
            (2, 1000, 2000),
            (4, 4000, 8000),
            (u32::MAX, 4000, 8000),
        ] {
            assert_eq!(backoff(earlier, 0.0), Duration::from_millis(least));
            assert_eq!(backoff(earlier, 1.0), Duration::from_millis(most));
        }
        let jitter = Jitter::default();
        let asked = |seconds| {
            let asked = Some(Duration::from_secs(seconds));
            retry(5, &[]).wait(1, StatusCode::TOO_MANY_REQUESTS, asked, &jitter)
        };
        assert!(asked(60).unwrap() >= Duration::from_secs(60));
        assert!(asked(2).unwrap() < Duration::from_millis(2130));
        assert_eq!(asked(61), None);
    }

    #[test]
    fn the_provider_says_how_long() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for (name, value, millis) in [
            ("retry-after", "7", Some(7_000)),
            ("retry-after", " 7 ", Some(7_000)),
            ("retry-after", "0", Some(0)),
            ("retry-after", "Sun, 09 Sep 2001 01:46:50 GMT", Some(10_000)),
            ("retry-after", "Sun, 09 Sep 2001 01:46:30 GMT", Some(0)),
            ("retry-after-ms", "250", Some(250)),
            ("retry-after", "-1", None),
            ("retry-after", "soon", None),
            ("retry-after", "99999999999999999999999", None),
            ("x", "7", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            let found = retry_after(&headers, now);
            assert_eq!(found, millis.map(Duration::from_millis), "{name}: {value}");
        }
    }

    proptest! {
        #[test]
        fn jitter_is_a_part_of_one(seed: u64) {
            let jitter = Jitter(AtomicU64::new(seed));
            let (one, other) = (jitter.next(), jitter.next());
            prop_assert!((0.0..1.0).contains(&one) && (0.0..1.0).contains(&other));
            prop_assert!(one != other);
        }
    }
}
