use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use memchr::memchr;
use proactions_edge::{ByteSet, ConfigError};

use crate::SessionId;

/// The attribute `SameSite` (RFC 6265bis section 4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// Never sent with a request that another site made.
    Strict,
    /// Sent when a link from another site is followed.
    Lax,
    /// Sent always; browsers take it with `Secure` only.
    None,
}

impl SameSite {
    pub(crate) const fn as_lower(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Lax => "lax",
            Self::None => "none",
        }
    }

    const fn attribute(self) -> &'static str {
        match self {
            Self::Strict => "; SameSite=Strict",
            Self::Lax => "; SameSite=Lax",
            Self::None => "; SameSite=None",
        }
    }
}

/// Name and attributes of the session cookie.
///
/// The path is always `/` and there is never a `Domain`, so the prefix `__Host-` can be used.
#[derive(Clone, Debug)]
pub struct CookiePolicy {
    name: Box<str>,
    http_only: bool,
    secure: bool,
    same_site: Option<SameSite>,
    max_age: Duration,
}

impl CookiePolicy {
    /// The name of a secure cookie, unless another is chosen.
    pub const SECURE_NAME: &'static str = "__Host-proactions_session";
    /// The name of a cookie that also travels over plain HTTP, unless another is chosen.
    pub const PLAIN_NAME: &'static str = "proactions_session";
    /// The longest life of a cookie: ten years.
    pub const MAX_MAX_AGE: Duration = Duration::from_secs(3_650 * 86_400);

    /// A cookie of this name, `HttpOnly`, `Secure`, `SameSite=Strict`, for 24 hours.
    ///
    /// # Errors
    /// When the name is not a token of at most 64 characters, or spells a prefix such as `__Host-` in another case.
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        let found = check_name(name).map(|message| ConfigError::new("name", message));
        let policy = Self {
            name: name.into(),
            http_only: true,
            secure: true,
            same_site: Some(SameSite::Strict),
            max_age: Duration::from_secs(86_400),
        };
        ConfigError::check(policy, found)
    }

    /// Sends the cookie over plain HTTP too. The session can then be read off the wire, so this is for
    /// development on one machine; a name with the prefix `__Host-` or `__Secure-` loses the prefix.
    #[must_use]
    pub fn dangerous_insecure(mut self) -> Self {
        self.secure = false;
        if let Some(plain) = ["__Host-", "__Secure-"]
            .iter()
            .find_map(|prefix| self.name.strip_prefix(prefix))
        {
            self.name = plain.into();
        }
        if self.same_site == Some(SameSite::None) {
            self.same_site = Some(SameSite::Lax);
        }
        self
    }

    /// Lets scripts of the page read the cookie.
    #[must_use]
    pub fn dangerous_script_readable(mut self) -> Self {
        self.http_only = false;
        self
    }

    /// Sets `SameSite`; `None` leaves the attribute out. [`SameSite::None`] needs a secure cookie and is
    /// otherwise taken as [`SameSite::Lax`].
    #[must_use]
    pub fn with_same_site(mut self, same_site: Option<SameSite>) -> Self {
        self.same_site = match same_site {
            Some(SameSite::None) if !self.secure => Some(SameSite::Lax),
            other => other,
        };
        self
    }

    /// Sets how long a browser keeps the cookie: at least a second, at most [`Self::MAX_MAX_AGE`].
    #[must_use]
    pub fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age.clamp(Duration::from_secs(1), Self::MAX_MAX_AGE);
        self
    }

    /// The cookie's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether scripts cannot read it.
    #[must_use]
    pub const fn http_only(&self) -> bool {
        self.http_only
    }

    /// Whether it travels over HTTPS only.
    #[must_use]
    pub const fn secure(&self) -> bool {
        self.secure
    }

    /// The attribute `SameSite`, if it is sent.
    #[must_use]
    pub const fn same_site(&self) -> Option<SameSite> {
        self.same_site
    }

    /// How long a browser keeps it.
    #[must_use]
    pub const fn max_age(&self) -> Duration {
        self.max_age
    }

    /// `Set-Cookie` for a signed value that lives for `lifetime`.
    #[must_use]
    pub fn set(&self, value: &str, now: SystemTime, lifetime: Duration) -> Option<HeaderValue> {
        let expires = (now + lifetime).clamp(UNIX_EPOCH, UNIX_EPOCH + LAST_HTTP_DATE);
        // A fraction of a second is not worth a cookie that ends early.
        let seconds = lifetime.as_secs() + u64::from(lifetime.subsec_nanos() > 0);
        self.text(value, expires, seconds)
    }

    /// `Set-Cookie` that removes the cookie. The attributes are the same, or a browser would keep a cookie
    /// whose name has the prefix `__Host-`.
    #[must_use]
    pub fn remove(&self) -> Option<HeaderValue> {
        self.text("", UNIX_EPOCH, 0)
    }

    fn text(&self, value: &str, expires: SystemTime, max_age: u64) -> Option<HeaderValue> {
        use std::fmt::Write as _;
        let flags = [
            if self.http_only { "; HttpOnly" } else { "" },
            if self.secure { "; Secure" } else { "" },
            self.same_site.map_or("", SameSite::attribute),
        ];
        let digits = usize::try_from(max_age.checked_ilog10().unwrap_or_default()).ok()? + 1;
        let fixed = "=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=".len();
        // A text of exactly this size becomes a header value without being copied.
        let len = self.name.len() + value.len() + fixed + digits;
        let mut text =
            String::with_capacity(len + flags.iter().map(|flag| flag.len()).sum::<usize>());
        text.push_str(&self.name);
        text.push('=');
        text.push_str(value);
        let expires = httpdate::HttpDate::from(expires);
        let _ = write!(text, "; Path=/; Expires={expires}; Max-Age={max_age}");
        for flag in flags {
            text.push_str(flag);
        }
        HeaderValue::try_from(text).ok()
    }
}

impl Default for CookiePolicy {
    /// [`CookiePolicy::SECURE_NAME`], `HttpOnly`, `Secure`, `SameSite=Strict`, for 24 hours.
    fn default() -> Self {
        Self {
            name: Self::SECURE_NAME.into(),
            http_only: true,
            secure: true,
            same_site: Some(SameSite::Strict),
            max_age: Duration::from_secs(86_400),
        }
    }
}

/// What is wrong with a cookie's name, if anything is.
pub(crate) fn check_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 64 || !ByteSet::TOKEN.contains_all(name.as_bytes()) {
        return Some(
            "expected 1 to 64 letters, digits or characters out of !#$%&'*+-.^_`|~ (RFC 6265)",
        );
    }
    // Browsers compare prefixes without case, some servers with: only one spelling is the same to all.
    for prefix in ["__Host-", "__Secure-", "__Http-", "__Host-Http-"] {
        let head = name.get(..prefix.len()).unwrap_or_default();
        if head.eq_ignore_ascii_case(prefix) && head != prefix {
            return Some("expected the prefix as __Host- or __Secure-, in exactly this spelling");
        }
    }
    None
}

/// What the `Cookie` fields of a request say about the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// No cookie of the session's name.
    Nothing,
    /// Exactly one cookie that is signed by one of the secrets.
    Signed(SessionId),
    /// Cookies of that name, and not exactly one good one.
    Refused,
}

/// How many cookies of the session's name are looked at. Each costs a MAC, and an honest browser sends one,
/// or two where another host of the domain set one as well.
const MAX_CANDIDATES: usize = 4;

/// Looks for the session, and takes every cookie of its name out of the request. `verify` tells the id that a
/// value was signed for.
pub(crate) fn take(
    headers: &mut HeaderMap,
    name: &str,
    verify: impl FnMut(&[u8]) -> Option<SessionId>,
) -> Presented {
    let mut lines = headers.get_all(COOKIE).iter();
    let Some(first) = lines.next() else {
        return Presented::Nothing;
    };
    // Most requests hold the session's cookie and no other: nothing to split, nothing to join again.
    let only = match lines.next() {
        None => lone_value(first.as_bytes(), name),
        Some(_) => None,
    };
    if let Some(value) = only {
        let presented = { verify }(value).map_or(Presented::Refused, Presented::Signed);
        headers.remove(COOKIE);
        return presented;
    }
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let presented = find(lines, name, verify);
    if presented != Presented::Nothing {
        strip(headers, name);
    }
    presented
}

/// The value in a line that is `name=value` and nothing else.
fn lone_value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    let plain = !matches!(value, [] | [.., b' ' | b'\t']) && memchr(b';', value).is_none();
    plain.then_some(value)
}

/// Looks for the session. Names are compared byte by byte, nothing is unquoted, trimmed beyond spaces and tabs,
/// or folded.
fn find<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    name: &str,
    mut verify: impl FnMut(&[u8]) -> Option<SessionId>,
) -> Presented {
    let mut candidates = 0;
    let mut good = None;
    let mut several = false;
    for (key, value) in lines.into_iter().flat_map(pairs) {
        if key != name.as_bytes() || value.is_empty() {
            continue;
        }
        candidates += 1;
        if candidates > MAX_CANDIDATES {
            return Presented::Refused;
        }
        if let Some(id) = verify(value) {
            several |= good.is_some();
            good = Some(id);
        }
    }
    match good {
        Some(id) if !several => Presented::Signed(id),
        None if candidates == 0 => Presented::Nothing,
        _ => Presented::Refused,
    }
}

/// Takes every cookie of this name out of the request; the other cookies stay, joined in one field.
fn strip(headers: &mut HeaderMap, name: &str) {
    let lines = headers.get_all(COOKIE);
    let ours = |pair: &(&[u8], &[u8])| pair.0 == name.as_bytes();
    let mut left = Vec::new();
    for segment in lines.iter().flat_map(|line| segments(line.as_bytes())) {
        if segment.is_empty() || split(segment).as_ref().is_some_and(ours) {
            continue;
        }
        if !left.is_empty() {
            left.extend_from_slice(b"; ");
        }
        left.extend_from_slice(segment);
    }
    match HeaderValue::from_bytes(&left) {
        Ok(mut rest) if !left.is_empty() => {
            rest.set_sensitive(true);
            headers.insert(COOKIE, rest);
        }
        _ => {
            headers.remove(COOKIE);
        }
    }
}

fn segments(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(trim)
}

fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    segments(line).filter_map(split)
}

fn split(segment: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = segment.iter().position(|byte| *byte == b'=')?;
    Some((segment.get(..equals)?, segment.get(equals + 1..)?))
}

/// Without spaces and tabs at the ends; other white space is part of a name.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// 9999-12-31 23:59:59, the last moment that an HTTP date can name.
const LAST_HTTP_DATE: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::KeyRing;

    fn keys() -> KeyRing {
        KeyRing::unchecked(["keyboard cat"])
    }

    fn id(text: &str) -> SessionId {
        SessionId::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_text_has_express_sessions_order() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_449_600);
        let policy = CookiePolicy::default();
        assert_eq!(
            policy.set("v", now, policy.max_age()).unwrap(),
            "__Host-proactions_session=v; Path=/; Expires=Tue, 24 Nov 2026 16:00:00 GMT; Max-Age=86400; \
             HttpOnly; Secure; SameSite=Strict"
        );
        assert_eq!(
            policy.remove().unwrap(),
            "__Host-proactions_session=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; \
             HttpOnly; Secure; SameSite=Strict"
        );
        let plain = CookiePolicy::new("sid")
            .unwrap()
            .dangerous_insecure()
            .dangerous_script_readable()
            .with_same_site(None);
        assert_eq!(
            plain.set("v", now, Duration::from_millis(1500)).unwrap(),
            "sid=v; Path=/; Expires=Mon, 23 Nov 2026 16:00:01 GMT; Max-Age=2"
        );
    }

    #[test]
    fn builders_cannot_make_a_cookie_that_browsers_refuse() {
        let plain = CookiePolicy::default().dangerous_insecure();
        assert_eq!(plain.name(), "proactions_session");
        let none = plain.with_same_site(Some(SameSite::None));
        assert_eq!(none.same_site(), Some(SameSite::Lax));
        let late = CookiePolicy::default()
            .with_same_site(Some(SameSite::None))
            .dangerous_insecure();
        assert_eq!(late.same_site(), Some(SameSite::Lax));
    }

    #[test]
    fn names_are_tokens_with_exact_prefixes() {
        for (name, good) in [
            ("proactions_session", true),
            ("__Host-s", true),
            ("__Secure-s", true),
            ("__host-s", false),
            ("__hOsT-s", false),
            ("__SECURE-s", false),
            ("", false),
            ("a b", false),
            ("a=b", false),
            ("a;b", false),
            ("\u{fc}", false),
        ] {
            assert_eq!(CookiePolicy::new(name).is_ok(), good, "{name}");
        }
    }

    #[test]
    fn only_one_good_cookie_counts() {
        let name = "__Host-s";
        let (a, b) = (id("a"), id("b"));
        let (good, other) = (keys().sign(&a), keys().sign(&b));
        let foreign = KeyRing::unchecked(["other"]).sign(&a);
        for (lines, expected) in [
            (vec![], Presented::Nothing),
            (vec!["x=1; y=2".to_owned()], Presented::Nothing),
            (
                vec![format!("__Host-s={good}")],
                Presented::Signed(a.clone()),
            ),
            (
                vec![format!("x=1;\t__Host-s={good} ;y=2")],
                Presented::Signed(a.clone()),
            ),
            (vec!["__Host-s=".to_owned()], Presented::Nothing),
            (vec!["__Host-s=bad".to_owned()], Presented::Refused),
            (vec![format!("__Host-s={foreign}")], Presented::Refused),
            (
                vec![format!("__Host-s=bad; __Host-s={good}")],
                Presented::Signed(a.clone()),
            ),
            (
                vec![format!("__Host-s={good}; __Host-s=bad")],
                Presented::Signed(a.clone()),
            ),
            (
                vec![format!("__Host-s={good}"), "__Host-s=bad".to_owned()],
                Presented::Signed(a.clone()),
            ),
            (
                vec![format!("__Host-s={good}; __Host-s={other}")],
                Presented::Refused,
            ),
            (
                vec![format!("__Host-s={good}; __Host-s={good}")],
                Presented::Refused,
            ),
            (vec![format!("\u{2000}__Host-s={good}")], Presented::Nothing),
            (vec![format!("\u{a0}__Host-s={good}")], Presented::Nothing),
            (vec![format!("__Host-s ={good}")], Presented::Nothing),
            (vec![format!("=__Host-s={good}")], Presented::Nothing),
            (
                vec![format!("$Version=1; __hOsT-s={good}")],
                Presented::Nothing,
            ),
            (
                vec![format!("$Version=1, __Host-s={good}")],
                Presented::Nothing,
            ),
            (vec![format!("x=\"; __Host-s={good}\"")], Presented::Refused),
            (vec![format!("__Host-s=\"{good}\"")], Presented::Refused),
            (vec!["__Host-s".to_owned()], Presented::Nothing),
            (
                vec![format!("{}__Host-s={good}", "__Host-s=bad; ".repeat(4))],
                Presented::Refused,
            ),
        ] {
            let bytes = lines.iter().map(String::as_bytes);
            let found = find(bytes, name, |value| keys().verify(value));
            assert_eq!(found, expected, "{lines:?}");
            let mut headers = fields(&lines);
            let taken = take(&mut headers, name, |value| keys().verify(value));
            assert_eq!(taken, expected, "{lines:?}");
        }
    }

    fn fields(lines: &[impl AsRef<[u8]>]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_ref()).unwrap());
        }
        headers
    }

    #[test]
    fn the_session_is_stripped_and_other_cookies_stay() {
        for (lines, left) in [
            (vec!["s=1"], None),
            (vec!["s=1 "], None),
            (vec!["s=1;"], None),
            (vec!["s=1; s=2", "s=3"], None),
            (vec!["s="], Some("s=")),
            (vec!["st=1"], Some("st=1")),
            (vec!["a=1; s=1; b=2"], Some("a=1; b=2")),
            (vec!["a=1", "s=1", "b=2;c"], Some("a=1; b=2; c")),
            (vec!["S=1; as=2"], Some("S=1; as=2")),
        ] {
            let mut headers = fields(&lines);
            take(&mut headers, "s", |_| None);
            let found: Vec<_> = headers.get_all(COOKIE).iter().collect();
            assert_eq!(found, left.iter().collect::<Vec<_>>(), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_cookie_line_panics_or_enters(line in prop::collection::vec(any::<u8>(), 0..300)) {
            let found = find([line.as_slice()], "s", |value| keys().verify(value));
            prop_assert!(!matches!(found, Presented::Signed(_)));
        }

        #[test]
        fn the_short_way_finds_and_leaves_the_same(line in "[st]?[=; a\t]{0,3}[st]?=?[^\\x00-\\x08\\x0a-\\x1f\\x7f]{0,4}[; ]?") {
            let verify = |value: &[u8]| value.contains(&b'a').then(|| id("a"));
            let expected = find([line.as_bytes()], "s", verify);
            let (mut short, mut long) = (fields(&[&line]), fields(&[&line]));
            prop_assert_eq!(&take(&mut short, "s", verify), &expected);
            if expected != Presented::Nothing {
                strip(&mut long, "s");
            }
            prop_assert_eq!(short, long);
        }

        #[test]
        fn clocks_far_off_do_not_panic(seconds in any::<u32>(), lifetime in 0_u64..400_000_000) {
            let now = UNIX_EPOCH + Duration::from_secs(u64::from(seconds) * 100);
            let set = CookiePolicy::default().set("v", now, Duration::from_secs(lifetime));
            prop_assert!(set.is_some());
        }
    }
}
