use std::borrow::Cow;
use std::fmt;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use proactions_edge::path::check_tail;
use proactions_edge::{ExposeSecret, SecretString};

/// A URL as it stands in a configuration. It may hold a password by mistake, so `Debug` shows only its host.
#[derive(Clone, Default)]
pub struct ConfigUrl(SecretString);

impl ConfigUrl {
    /// The URL itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
}

impl From<&str> for ConfigUrl {
    fn from(url: &str) -> Self {
        Self(SecretString::from(url))
    }
}

impl From<SecretString> for ConfigUrl {
    fn from(url: SecretString) -> Self {
        Self(url)
    }
}

impl fmt::Debug for ConfigUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BaseUrl::parse(self.as_str()) {
            Ok(base) => fmt::Debug::fmt(&base, f),
            Err(_) => f.write_str("ConfigUrl(..)"),
        }
    }
}

/// Where requests go: scheme, host, port and the beginning of the path, checked once.
///
/// Whatever a client sends can only be appended to it. Scheme and authority are copied from here into every
/// URL that [`BaseUrl::join`] makes; they are never parsed out of joined text.
///
/// ```
/// use proactions_forward::BaseUrl;
///
/// let base = BaseUrl::parse("https://api.example.com/v1/")?;
/// let url = base.join("/chat/completions", None)?;
/// assert_eq!(url, "https://api.example.com/v1/chat/completions");
/// assert!(base.join("/../admin", None).is_err());
/// assert!(base.join("@evil.example", None).is_err());
/// # Ok::<(), proactions_forward::UrlError>(())
/// ```
#[derive(Clone)]
pub struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end.
    path: String,
    query: Option<String>,
}

impl BaseUrl {
    /// Parses a URL without user, query and fragment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let base = Self::parse_with_query(url)?;
        match base.query {
            None => Ok(base),
            Some(_) => Err(UrlError::Query),
        }
    }

    /// Parses a URL that may have a query, which then stands on every request: see [`BaseUrl::join`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_with_query(url: &str) -> Result<Self, UrlError> {
        // `Uri` drops a fragment without a word.
        if url.contains('#') {
            return Err(UrlError::Fragment);
        }
        let uri: Uri = url.parse().map_err(|_| UrlError::Syntax)?;
        let parts = uri.into_parts();
        let scheme = match parts.scheme {
            Some(scheme) if scheme == Scheme::HTTP || scheme == Scheme::HTTPS => scheme,
            _ => return Err(UrlError::Scheme),
        };
        let authority = parts.authority.ok_or(UrlError::Host)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        check_host(&authority)?;
        let path_and_query = parts
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        check_tail(path_and_query.path()).map_err(|_| UrlError::Path)?;
        Ok(Self {
            scheme,
            authority,
            path: path_and_query.path().trim_end_matches('/').to_owned(),
            query: path_and_query.query().map(str::to_owned),
        })
    }

    /// Host and port, as `Host` carries them.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether requests are encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The path that every request's path begins with, without a slash at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The base with `tail` after its path and `query` after its own query. An empty tail gives the base's
    /// own path.
    ///
    /// A parameter of `query` that a server could take for one of the base's own is left out: of two with one name
    /// many servers take the last.
    ///
    /// # Errors
    /// When the tail does not begin with `/`, holds a dot segment (raw or encoded), a query or a fragment, or
    /// when anything in it or in the query cannot stand in a URL.
    pub fn join(&self, tail: &str, query: Option<&str>) -> Result<Uri, UrlError> {
        if !tail.is_empty() && !tail.starts_with('/') {
            return Err(UrlError::Path);
        }
        if tail.contains(['?', '#']) || query.is_some_and(|query| query.contains('#')) {
            return Err(UrlError::Fragment);
        }
        check_tail(tail).map_err(|_| UrlError::Path)?;
        let more = match (&self.query, query) {
            (Some(own), Some(query)) => without([own.as_str()], query, name_of).map(Cow::Owned),
            (_, query) => query.map(Cow::Borrowed),
        };
        let queries = [self.query.as_deref(), more.as_deref()];
        let extra: usize = queries.iter().flatten().map(|query| query.len() + 1).sum();
        let mut text = String::with_capacity(self.path.len() + tail.len() + extra + 1);
        text.push_str(&self.path);
        text.push_str(tail);
        if text.is_empty() {
            text.push('/');
        }
        for (query, sign) in queries.into_iter().flatten().zip(['?', '&']) {
            text.push(sign);
            text.push_str(query);
        }
        let path_and_query = PathAndQuery::from_maybe_shared(text).map_err(|_| UrlError::Syntax)?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts).map_err(|_| UrlError::Syntax)
    }
}

impl BaseUrl {
    pub(crate) const fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// What of a query may be shown to a client: no parameter with a name of the own query, or elsewhere than at this
    /// URL's origin, where names mean something else, none with its name and value.
    pub(crate) fn shown_of<'a>(&self, query: &'a str, same_origin: bool) -> Option<Cow<'a, str>> {
        let Some(own) = self.query.as_deref() else {
            return Some(Cow::Borrowed(query));
        };
        let left = if same_origin {
            without([own], query, name_of)
        } else {
            without([own], query, |parameter| parameter.as_bytes().to_vec())
        };
        left.map(Cow::Owned)
    }
}

/// A URL below a [`BaseUrl`], joined once for many requests. Cloning is cheap.
///
/// ```
/// use http::Method;
/// use proactions_forward::{BaseUrl, Outgoing};
///
/// let chat = BaseUrl::parse("https://api.example.com/v1")?.joined("/chat/completions", None)?;
/// let outgoing = Outgoing::to_joined(Method::POST, &chat);
/// assert_eq!(outgoing.uri(), "https://api.example.com/v1/chat/completions");
/// # Ok::<(), proactions_forward::UrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct JoinedUrl(pub(crate) Uri);

impl BaseUrl {
    /// As [`BaseUrl::join`], for more than one request.
    ///
    /// # Errors
    /// As [`BaseUrl::join`].
    pub fn joined(&self, tail: &str, query: Option<&str>) -> Result<JoinedUrl, UrlError> {
        self.join(tail, query).map(JoinedUrl)
    }
}

impl fmt::Debug for JoinedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query may hold a key.
        write!(f, "JoinedUrl({})", self.0.path())
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query may hold a key.
        write!(f, "BaseUrl({}://{})", self.scheme, self.authority)
    }
}

/// The URL with those parameters of `query` behind its own whose names neither it nor `except`, a query too, has.
pub(crate) fn with_more(uri: &Uri, query: &str, except: &str) -> Result<Uri, UrlError> {
    if query.contains('#') {
        return Err(UrlError::Fragment);
    }
    let own = uri.query();
    let Some(more) = without([own.unwrap_or_default(), except], query, name_of) else {
        return Ok(uri.clone());
    };
    let text = match own {
        None => format!("{}?{more}", uri.path()),
        Some(own) => format!("{}?{own}&{more}", uri.path()),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query =
        Some(PathAndQuery::from_maybe_shared(text).map_err(|_| UrlError::Syntax)?);
    Uri::from_parts(parts).map_err(|_| UrlError::Syntax)
}

/// What is left of `query` without the parameters that are in `queries`, compared by what `key` makes of them; `None` if
/// that is nothing.
fn without<const N: usize>(
    queries: [&str; N],
    query: &str,
    key: fn(&str) -> Vec<u8>,
) -> Option<String> {
    // Some servers end a parameter at a `;` too.
    let names = queries.iter().flat_map(|own| own.split(['&', ';']));
    let names = names.filter(|part| !part.is_empty());
    let taken: Vec<Vec<u8>> = names.map(key).collect();
    let kept: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let parts = pair.split(';');
            let parts: Vec<&str> = parts.filter(|p| !taken.contains(&key(p))).collect();
            (!parts.is_empty()).then(|| parts.join(";"))
        })
        .collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// A parameter's name as the most lenient of servers reads it: decoded, in any case, with `.` or a space for `_`, with
/// spaces before it, as an array (`name[]`).
fn name_of(parameter: &str) -> Vec<u8> {
    let name = parameter.split('=').next().unwrap_or_default().as_bytes();
    let digit = |at: usize| char::from(*name.get(at)?).to_digit(16);
    let mut decoded = Vec::with_capacity(name.len());
    let mut at = 0;
    while let Some(byte) = name.get(at) {
        let escaped = digit(at + 1).zip(digit(at + 2));
        match (byte, escaped) {
            (b'%', Some((high, low))) => {
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(*byte),
        }
        at += 1;
    }
    let mut plain: Vec<u8> = decoded
        .trim_ascii_start()
        .iter()
        .map(|byte| match byte {
            b'.' | b' ' => b'_',
            byte => byte.to_ascii_lowercase(),
        })
        .collect();
    let end = plain.iter().skip(1).position(|b| matches!(b, b'[' | 0));
    plain.truncate(end.map_or(plain.len(), |end| end + 1));
    plain
}

fn check_host(authority: &Authority) -> Result<(), UrlError> {
    let host = authority.host();
    if host.is_empty() {
        return Err(UrlError::Host);
    }
    // A port that is there but cannot be read (`host:99999`, `host:`) would silently become the default.
    let after = authority.as_str().get(host.len()..).unwrap_or_default();
    if !after.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err(UrlError::Port);
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    if address || host.bytes().all(plain) {
        Ok(())
    } else {
        Err(UrlError::Host)
    }
}

/// What is wrong with a URL. It never shows the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UrlError {
    /// It has a fragment, or a `?` or `#` where none may be.
    Fragment,
    /// There is no host, or it is not one.
    Host,
    /// The path has a dot segment, a backslash, a control character or no leading slash.
    Path,
    /// The port is not a number between 1 and 65535.
    Port,
    /// It has a query.
    Query,
    /// The scheme is neither `http` nor `https`.
    Scheme,
    /// It cannot be read at all.
    Syntax,
    /// It holds a user name or a password.
    UserInfo,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fragment => "must not hold a # (or a ? in its path)",
            Self::Host => "has no valid host name",
            Self::Path => "has a path that could be read in two ways (such as `..`)",
            Self::Port => "has a port that is not between 1 and 65535",
            Self::Query => "must not have a query",
            Self::Scheme => "must begin with http:// or https://",
            Self::Syntax => "is not a URL",
            Self::UserInfo => {
                "must not hold a user name or password: set the header that carries them instead"
            }
        })
    }
}

impl std::error::Error for UrlError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bases_are_checked() {
        use UrlError as E;
        for (url, verdict) in [
            ("https://api.example.com", Ok("https://api.example.com/x")),
            (
                "https://api.example.com/v1/",
                Ok("https://api.example.com/v1/x"),
            ),
            ("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080/x")),
            ("http://[::1]:8080/a", Ok("http://[::1]:8080/a/x")),
            ("", Err(E::Syntax)),
            ("api.example.com", Err(E::Scheme)),
            ("/v1", Err(E::Scheme)),
            ("ftp://a/", Err(E::Scheme)),
            ("file:///etc/passwd", Err(E::Syntax)),
            ("https://", Err(E::Syntax)),
            ("https://user:pass@a/", Err(E::UserInfo)),
            ("https://a@b/", Err(E::UserInfo)),
            ("https://a/#b", Err(E::Fragment)),
            ("https://a/?b", Err(E::Query)),
            ("https://a/../b", Err(E::Path)),
            ("https://a/%2e%2e/b", Err(E::Path)),
            ("https://a:0/", Err(E::Port)),
            ("https://a:99999/", Err(E::Port)),
            ("https://a:/", Err(E::Port)),
            ("https://a b/", Err(E::Syntax)),
            ("https://a\r\nb/", Err(E::Syntax)),
        ] {
            let joined = BaseUrl::parse(url).map(|base| base.join("/x", None).unwrap().to_string());
            assert_eq!(
                joined.as_deref().map_err(|error| *error),
                verdict,
                "{url:?}"
            );
        }
    }

    #[test]
    fn a_query_of_the_base_comes_first() {
        let base = BaseUrl::parse_with_query("https://a/b?api-version=1").unwrap();
        for (tail, query, url) in [
            ("", None, "https://a/b?api-version=1"),
            ("/c", Some("d=e"), "https://a/b/c?api-version=1&d=e"),
        ] {
            assert_eq!(base.join(tail, query).unwrap(), url);
        }
        let bare = BaseUrl::parse("https://a").unwrap();
        assert_eq!(bare.join("", Some("q")).unwrap(), "https://a/?q");
    }

    #[test]
    fn no_query_overrides_the_bases_own() {
        let base = BaseUrl::parse_with_query("https://a/?api_v=1&Key=k&flag").unwrap();
        for (query, left) in [
            ("", ""),
            ("api_v=2", ""),
            ("api_v", ""),
            ("api_v=2&api_v=3", ""),
            ("API_V=2&key=x&FLAG=", ""),
            ("%61pi%5fv=2&%4Bey=", ""),
            ("api.v=2&api+v=2&api%20v=2", ""),
            ("+api_v=2&%20%09key=2", ""),
            ("api_v[]=2&api_v%5B0%5D=2&api_v%00x=2", ""),
            ("a=1;api_v=2&b=2", "&a=1&b=2"),
            ("a=1&api_v=2&b=2", "&a=1&b=2"),
            ("&api_v=2&a=1&&", "&a=1"),
            ("a=1;2", "&a=1;2"),
            ("api=2&api_v2=3&xkey=1", "&api=2&api_v2=3&xkey=1"),
            ("a=api_v=2&b=%26api_v=2", "&a=api_v=2&b=%26api_v=2"),
            ("%=1&%zz=2&%a=3&=4&[x=5", "&%=1&%zz=2&%a=3&=4&[x=5"),
        ] {
            let expected = format!("https://a/x?api_v=1&Key=k&flag{left}");
            assert_eq!(
                base.join("/x", Some(query)).unwrap().to_string(),
                expected,
                "{query}"
            );
        }
        let bare = BaseUrl::parse("https://a").unwrap();
        assert_eq!(bare.join("/x", Some("&a=1&")).unwrap(), "https://a/x?&a=1&");
    }

    #[test]
    fn nothing_shows_a_password() {
        let url = ConfigUrl::from("https://user:hunter2@a/");
        assert_eq!(format!("{url:?}"), "ConfigUrl(..)");
        let base = BaseUrl::parse_with_query("https://a/?key=hunter2").unwrap();
        assert_eq!(format!("{base:?}"), "BaseUrl(https://a)");
    }

    #[test]
    fn tails_that_reach_elsewhere_are_refused() {
        let base = BaseUrl::parse("https://api.example.com/v1").unwrap();
        for tail in [
            "@evil",
            ".evil.com/",
            ":80@evil",
            "/..",
            "/%2e%2e/x",
            "/a#b",
            "/a?b",
            "/a\\..\\b",
            "/a%00",
            "/a b",
            "/a\r\nx: y",
            "x",
        ] {
            assert!(base.join(tail, None).is_err(), "{tail:?}");
        }
        for query in ["a#b", "a b", "a\r\nx: y"] {
            assert!(base.join("/a", Some(query)).is_err(), "{query:?}");
        }
    }

    proptest! {
        #[test]
        fn no_tail_and_no_query_moves_the_host(tail in "[/@:.#?%2eE\\\\a-f\\[\\]]{0,24}", query in proptest::option::of("[/@:.#?%&=a-f]{0,16}")) {
            let base = BaseUrl::parse("https://api.example.com:8443/v1").unwrap();
            if let Ok(url) = base.join(&tail, query.as_deref()) {
                prop_assert_eq!(url.scheme_str(), Some("https"));
                prop_assert_eq!(url.authority().map(Authority::as_str), Some("api.example.com:8443"));
                prop_assert!(url.path().starts_with("/v1"));
                prop_assert!(!url.path().split('/').any(|s| s == ".."));
            }
        }
    }
}
