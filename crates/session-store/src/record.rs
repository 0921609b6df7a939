use std::any::Any;
use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::{CookiePolicy, SameSite};

/// What is stored about a session: express-session's JSON.
///
/// Beside the member `cookie`, which describes the cookie that carries the session, the application's members
/// stand at the top level. Members that this crate does not know are kept, inside `cookie` as well, so a Node
/// service may share the store. The member `hub` is this crate's own: `{"createdAt": <ms since 1970>}`.
///
/// `cookie.expires` is written and never read: a touch moves the store's own expiry and leaves it behind.
pub struct Record {
    cookie: Map<String, Value>,
    members: Map<String, Value>,
    source: Option<Box<[u8]>>,
    /// What the member `hub` says. It is asked for several times a request.
    created_at: Option<SystemTime>,
    derived: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Record {
    /// Members of a record that an application cannot set.
    pub const RESERVED: [&'static str; 2] = [COOKIE, HUB];
    /// The largest record that is read, in bytes.
    pub const MAX_LEN: usize = 256 * 1024;

    /// An empty record of a session that begins `now`, and whose cookie lives for `lifetime`.
    #[must_use]
    pub fn new(policy: &CookiePolicy, now: SystemTime, lifetime: Duration) -> Self {
        let mut cookie = Map::new();
        let max_age = policy.max_age();
        cookie.insert(ORIGINAL_MAX_AGE.to_owned(), millis(max_age).into());
        cookie.insert("secure".to_owned(), policy.secure().into());
        cookie.insert("httpOnly".to_owned(), policy.http_only().into());
        cookie.insert("path".to_owned(), "/".into());
        if let Some(same_site) = policy.same_site() {
            cookie.insert("sameSite".to_owned(), SameSite::as_lower(same_site).into());
        }
        let mut record = Self {
            cookie,
            members: Map::new(),
            source: None,
            created_at: None,
            derived: OnceLock::new(),
        };
        record.set_created_at(now);
        record.set_expires(now + lifetime);
        record
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When it is longer than [`Self::MAX_LEN`], is not a JSON object, or has no object `cookie`.
    pub fn parse(json: &[u8]) -> Result<Self, RecordError> {
        if json.len() > Self::MAX_LEN {
            return Err(RecordError::TOO_LONG);
        }
        let members: Value =
            serde_json::from_slice(json).map_err(|_| RecordError("not valid JSON"))?;
        let Value::Object(mut members) = members else {
            return Err(RecordError("not a JSON object"));
        };
        let Some(Value::Object(cookie)) = members.remove(COOKIE) else {
            return Err(RecordError("without an object `cookie`"));
        };
        Ok(Self {
            created_at: read_created_at(&members),
            cookie,
            members,
            source: Some(json.into()),
            derived: OnceLock::new(),
        })
    }

    /// The bytes that this record was parsed from, as long as it was not changed. A store that knows no
    /// versions compares them with what it holds now, before it replaces that.
    #[must_use]
    pub fn source(&self) -> Option<&[u8]> {
        self.source.as_deref()
    }

    /// Writes the record as express-session does, `cookie` first.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(256);
        out.push_str("{\"cookie\":{");
        let known = COOKIE_ORDER
            .iter()
            .filter_map(|key| self.cookie.get(*key).map(|value| (*key, value)));
        let unknown = self
            .cookie
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .filter(|(key, _)| !COOKIE_ORDER.contains(key));
        for (index, (key, value)) in known.chain(unknown).enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_member(&mut out, key, value);
        }
        out.push('}');
        for (key, value) in &self.members {
            out.push(',');
            push_member(&mut out, key, value);
        }
        out.push('}');
        out
    }

    /// A member beside `cookie`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.members.get(key)
    }

    /// What the application makes of the record, made once for all requests that share it. `None` if it was asked
    /// before for something of another type.
    pub fn derived<T: Any + Send + Sync>(&self, make: impl FnOnce(&Self) -> T) -> Option<&T> {
        let derived = self.derived.get_or_init(|| Box::new(make(self)));
        derived.downcast_ref()
    }

    /// When the session began, if this crate has seen it before.
    #[must_use]
    pub const fn created_at(&self) -> Option<SystemTime> {
        self.created_at
    }

    /// Sets a member; `None` removes it.
    pub(crate) fn set(&mut self, key: &str, value: Option<Value>) {
        self.source = None;
        self.derived = OnceLock::new();
        match value {
            Some(value) => self.members.insert(key.to_owned(), value),
            None => self.members.remove(key),
        };
        self.created_at = read_created_at(&self.members);
    }

    pub(crate) fn set_created_at(&mut self, at: SystemTime) {
        self.source = None;
        self.derived = OnceLock::new();
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let hub = self
            .members
            .entry(HUB)
            .or_insert_with(|| Value::Object(Map::new()));
        if !hub.is_object() {
            *hub = Value::Object(Map::new());
        }
        if let Some(hub) = hub.as_object_mut() {
            hub.insert(CREATED_AT.to_owned(), millis(since_epoch).into());
        }
        self.created_at = read_created_at(&self.members);
    }

    pub(crate) fn set_expires(&mut self, at: SystemTime) {
        self.source = None;
        self.derived = OnceLock::new();
        self.cookie.insert(EXPIRES.to_owned(), iso(at).into());
    }
}

impl Clone for Record {
    fn clone(&self) -> Self {
        Self {
            cookie: self.cookie.clone(),
            members: self.members.clone(),
            source: self.source.clone(),
            created_at: self.created_at,
            derived: OnceLock::new(),
        }
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.cookie == other.cookie && self.members == other.members && self.source == other.source
    }
}

impl fmt::Debug for Record {
    /// Names the members, and shows none of their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("members", &self.members.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Why stored bytes are not a [`Record`]. It shows nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError(&'static str);

impl RecordError {
    pub(crate) const TOO_LONG: Self = Self("longer than 256 KiB");
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a session record {}", self.0)
    }
}

impl std::error::Error for RecordError {}

const COOKIE: &str = "cookie";
const HUB: &str = "hub";
const CREATED_AT: &str = "createdAt";
const EXPIRES: &str = "expires";
const ORIGINAL_MAX_AGE: &str = "originalMaxAge";
const COOKIE_ORDER: [&str; 9] = [
    ORIGINAL_MAX_AGE,
    "partitioned",
    "priority",
    EXPIRES,
    "secure",
    "httpOnly",
    "domain",
    "path",
    "sameSite",
];

fn read_created_at(members: &Map<String, Value>) -> Option<SystemTime> {
    let millis = members.get(HUB)?.get(CREATED_AT)?.as_u64()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

fn push_member(out: &mut String, key: &str, value: &Value) {
    // `Value`'s Display writes compact JSON.
    use fmt::Write as _;
    let _ = write!(out, "{}:{value}", Value::from(key));
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-24T16:00:00.000Z`, as JavaScript's `toISOString` writes it.
fn iso(at: SystemTime) -> String {
    let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since_epoch.as_secs();
    // The proleptic Gregorian calendar in eras of 400 years that begin on a 1st of March.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        since_epoch.subsec_millis(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn times_are_written_as_javascript_does() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_735_689_599_007, "2024-12-31T23:59:59.007Z"),
            (1_795_536_000_000, "2026-11-24T16:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(at(millis)), text);
        }
    }

    #[test]
    fn a_new_record_is_what_node_writes() {
        let now = at(1_795_536_000_000 - 86_400_000);
        let record = Record::new(
            &CookiePolicy::default(),
            now,
            CookiePolicy::default().max_age(),
        );
        assert_eq!(
            record.to_json(),
            concat!(
                r#"{"cookie":{"originalMaxAge":86400000,"expires":"2026-11-24T16:00:00.000Z","secure":true,"#,
                r#""httpOnly":true,"path":"/","sameSite":"strict"},"hub":{"createdAt":1795449600000}}"#
            )
        );
        assert_eq!(record.created_at(), Some(now));
    }

    #[test]
    fn what_node_wrote_is_kept() {
        let text = concat!(
            r#"{"cookie":{"originalMaxAge":86399999,"expires":null,"httpOnly":true,"path":"/","odd":[1]},"#,
            r#""auth":{"type":"edapi","subject":"bob"},"cart":{"n":1.5}}"#
        );
        let mut record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(record.source(), Some(text.as_bytes()));
        assert_eq!(record.created_at(), None);
        assert_eq!(record.get("auth").unwrap()["subject"], "bob");
        record.set_created_at(at(5));
        record.set("x", Some(json!(true)));
        assert_eq!(record.source(), None);
        let written: Value = serde_json::from_str(&record.to_json()).unwrap();
        assert_eq!(
            written,
            json!({
                "cookie": {"originalMaxAge": 86_399_999, "expires": null, "httpOnly": true, "path": "/", "odd": [1]},
                "auth": {"type": "edapi", "subject": "bob"}, "cart": {"n": 1.5}, "hub": {"createdAt": 5}, "x": true,
            })
        );
    }

    #[test]
    fn what_was_derived_is_shared_until_a_change() {
        let mut record = Record::parse(br#"{"cookie":{},"n":1}"#).unwrap();
        let n = |record: &Record| record.get("n").and_then(Value::as_u64);
        assert_eq!(record.derived(n), Some(&Some(1)));
        assert_eq!(record.derived(|_| Some(2_u64)), Some(&Some(1)));
        assert_eq!(record.derived(|_| "another type"), None);
        assert_eq!(
            record.clone().derived(|_| "not cloned"),
            Some(&"not cloned")
        );
        record.set("n", Some(json!(3)));
        assert_eq!(record.derived(n), Some(&Some(3)));
    }

    #[test]
    fn corrupt_records_are_named() {
        for (text, message) in [
            ("", "a session record not valid JSON"),
            ("{\"cookie\":{}", "a session record not valid JSON"),
            ("[]", "a session record not a JSON object"),
            ("{}", "a session record without an object `cookie`"),
            (
                r#"{"cookie":null}"#,
                "a session record without an object `cookie`",
            ),
            (
                &"x".repeat(Record::MAX_LEN + 1),
                "a session record longer than 256 KiB",
            ),
            (&"[".repeat(10_000), "a session record not valid JSON"),
        ] {
            assert_eq!(
                Record::parse(text.as_bytes()).unwrap_err().to_string(),
                message
            );
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let record = Record::parse(br#"{"cookie":{},"auth":"hunter2"}"#).unwrap();
        assert!(!format!("{record:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn bytes_from_a_store_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn numbers_keep_every_digit(number in any::<f64>().prop_filter("JSON has no such number", |n| n.is_finite())) {
            let text = format!("{{\"cookie\":{{}},\"n\":{}}}", json!(number));
            let record = Record::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(record.get("n").unwrap().as_f64(), Some(number));
            prop_assert_eq!(record.to_json(), text);
        }

        #[test]
        fn a_written_record_reads_back(key in "\\PC{1,10}", value in "\\PC{0,20}") {
            prop_assume!(!Record::RESERVED.contains(&key.as_str()));
            let mut record = Record::new(&CookiePolicy::default(), at(1), Duration::from_secs(1));
            record.set(&key, Some(value.clone().into()));
            let read = Record::parse(record.to_json().as_bytes()).unwrap();
            prop_assert_eq!(read.get(&key).and_then(Value::as_str), Some(value.as_str()));
        }
    }
}
