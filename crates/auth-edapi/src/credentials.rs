use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use icu_normalizer::ComposingNormalizerBorrowed;
use proactions_edge::SecretString;

/// What a client presents in `Authorization`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// `Bearer` (RFC 6750).
    Bearer(BearerToken),
    /// `Basic` (RFC 7617).
    Basic(BasicLogin),
}

/// A bearer token. It shares the memory of the header that it came in.
#[derive(Clone)]
pub struct BearerToken {
    header: HeaderValue,
    start: usize,
}

/// User and password.
#[derive(Clone)]
#[non_exhaustive]
pub struct BasicLogin {
    /// The user as sent. It may be logged.
    pub user: String,
    /// The password as sent.
    pub password: SecretString,
    /// One user has one of these, however the name is spelt.
    pub canonical: UserId,
}

/// What is in `Authorization`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Presented {
    /// Nothing.
    Nothing,
    /// Credentials of a kind that is known.
    Credentials(Credentials),
    /// Something that cannot be checked: another scheme, or malformed.
    Unusable,
    /// Two fields: two readers may choose differently.
    Several,
}

impl Credentials {
    /// The longest `Authorization` that is read, in bytes.
    pub const MAX_LEN: usize = 8 * 1024;

    /// Reads `Authorization`. The scheme is compared without case (RFC 9110 section 11.1).
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Presented {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        match (fields.next(), fields.next()) {
            (None, _) => Presented::Nothing,
            (Some(_), Some(_)) => Presented::Several,
            (Some(field), None) => {
                Self::parse(field).map_or(Presented::Unusable, Presented::Credentials)
            }
        }
    }

    fn parse(field: &HeaderValue) -> Option<Self> {
        let bytes = field.as_bytes();
        if bytes.len() > Self::MAX_LEN {
            return None;
        }
        let scheme = bytes.split(|b| *b == b' ').next()?;
        let spaces = bytes
            .get(scheme.len()..)?
            .iter()
            .take_while(|b| **b == b' ')
            .count();
        let start = scheme.len() + spaces;
        let token = bytes.get(start..)?;
        if token.is_empty() || spaces == 0 || !token.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        if scheme.eq_ignore_ascii_case(b"bearer") {
            let header = field.clone();
            return Some(Self::Bearer(BearerToken { header, start }));
        }
        if scheme.eq_ignore_ascii_case(b"basic") {
            return BasicLogin::parse(token).map(Self::Basic);
        }
        None
    }

    /// The user that it claims to be, if it says so.
    #[must_use]
    pub const fn user(&self) -> Option<&UserId> {
        match self {
            Self::Bearer(_) => None,
            Self::Basic(login) => Some(&login.canonical),
        }
    }
}

impl BearerToken {
    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.header.as_bytes().get(self.start..).unwrap_or_default()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

impl BasicLogin {
    fn parse(encoded: &[u8]) -> Option<Self> {
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        if password.contains(|c: char| c.is_control()) {
            return None;
        }
        Some(Self {
            canonical: UserId::new(user)?,
            user: user.to_owned(),
            password: SecretString::from(password),
        })
    }
}

impl fmt::Debug for BasicLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicLogin")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A user's name as it is counted: the spellings `Bob`, `bob ` and `ｂob` are one.
///
/// Composed and decomposed letters, full-width forms, ligatures and the like become the usual ones (NFKC), upper case
/// becomes lower case, white space at the ends goes. Names with control characters or invisible characters, empty
/// names, and names over 256 bytes are no names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserId(Box<str>);

impl UserId {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 256;

    /// The canonical form of `name`.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let unseen = |c: char| {
            c.is_control()
                || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}' | '\u{feff}')
        };
        if name.len() > Self::MAX_LEN || name.contains(unseen) {
            return None;
        }
        let nfkc = ComposingNormalizerBorrowed::new_nfkc();
        let usual = nfkc.normalize(name);
        let folded: String = usual.chars().flat_map(char::to_lowercase).collect();
        // What became lower case may compose with what follows.
        let folded = nfkc.normalize(&folded);
        let trimmed = folded.trim();
        // A single character may stand for many.
        (1..=Self::MAX_LEN)
            .contains(&trimmed.len())
            .then(|| Self(trimmed.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proactions_edge::ExposeSecret;
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> Presented {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        Credentials::from_headers(&headers)
    }

    fn bearer(value: &str) -> Option<String> {
        match read(&[value]) {
            Presented::Credentials(Credentials::Bearer(token)) => {
                Some(String::from_utf8(token.expose().to_vec()).unwrap())
            }
            Presented::Unusable => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bearer_tokens_are_read() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER   abc=", Some("abc=")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer a b", None),
            ("Bearerabc", None),
            ("Bearer\tabc", None),
            ("Token abc", None),
            ("abc", None),
            ("", None),
            ("Digest username=\"x\"", None),
        ] {
            assert_eq!(bearer(value).as_deref(), token, "{value}");
        }
        let long = |len: usize| format!("Bearer {}", "x".repeat(len - 7));
        assert!(bearer(&long(Credentials::MAX_LEN)).is_some());
        assert!(bearer(&long(Credentials::MAX_LEN + 1)).is_none());
    }

    #[test]
    fn two_fields_are_told_apart_from_none() {
        assert!(matches!(read(&[]), Presented::Nothing));
        assert!(matches!(
            read(&["Bearer a", "Bearer a"]),
            Presented::Several
        ));
    }

    #[test]
    fn basic_logins_are_read() {
        let basic = |text: &str| match read(&[&format!("Basic {}", STANDARD.encode(text))]) {
            Presented::Credentials(Credentials::Basic(login)) => {
                Some((login.user, login.password.expose_secret().to_owned()))
            }
            _ => None,
        };
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(basic("Bob:x:y"), pair("Bob", "x:y"));
        assert_eq!(basic("b\u{f6}b:"), pair("b\u{f6}b", ""));
        for bad in ["bob", ":x", " :x", "b\0b:x", "bob:x\ny", "b\u{200b}ob:x"] {
            assert_eq!(basic(bad), None, "{bad:?}");
        }
        assert!(matches!(read(&["Basic !!!"]), Presented::Unusable));
        assert!(matches!(read(&["Basic /w=="]), Presented::Unusable));
    }

    #[test]
    fn one_user_has_one_name() {
        for name in [
            "Bob",
            "bob ",
            "\tBOB".trim_start(),
            "\u{ff42}ob",
            "\u{3000}Bob",
            "BO\u{ff22}",
        ] {
            assert_eq!(UserId::new(name).unwrap().as_str(), "bob", "{name:?}");
        }
        for name in ["Ren\u{e9}", "rene\u{301}", "REN\u{c9}", "RENE\u{301} "] {
            assert_eq!(UserId::new(name).unwrap().as_str(), "ren\u{e9}", "{name:?}");
        }
        assert_eq!(UserId::new("\u{fb01}n\u{2161}"), UserId::new("finii"));
        assert_eq!(UserId::new(&"\u{fdfa}".repeat(85)), None);
        assert_ne!(UserId::new("rene"), UserId::new("ren\u{e9}"));
        assert_ne!(UserId::new("bob2"), UserId::new("bob"));
        for bad in [
            "",
            "  ",
            "a\nb",
            "a\u{202e}b",
            "\u{feff}bob",
            &"x".repeat(257),
        ] {
            assert_eq!(UserId::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let both = [
            read(&["Bearer hunter2"]),
            read(&[&format!("Basic {}", STANDARD.encode("bob:hunter2"))]),
        ];
        let shown = format!("{both:?}");
        assert!(
            shown.contains("bob") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn no_header_panics(value in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                headers.insert(AUTHORIZATION, value);
                let _ = Credentials::from_headers(&headers);
            }
        }

        #[test]
        fn a_canonical_name_stays_as_it_is(name in "\\PC{0,40}") {
            if let Some(id) = UserId::new(&name) {
                prop_assert_eq!(UserId::new(id.as_str()).map(|id| id.0), Some(id.0));
            }
        }
    }
}
