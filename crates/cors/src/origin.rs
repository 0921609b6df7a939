use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

/// The longest DNS name, in characters.
const MAX_HOST: usize = 253;

/// An origin in its parts (RFC 6454 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin<'a> {
    /// As it was written; schemes are compared without regard to letter case.
    pub(crate) scheme: &'a str,
    /// In lower case; an IPv6 address in brackets and in its shortest form.
    pub(crate) host: Cow<'a, str>,
    /// `None` for the scheme's default port.
    pub(crate) port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// Reads `scheme://host` or `scheme://host:port` and nothing else: no path, no user information, no
    /// trailing dot, no space.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !good {
            return None;
        }
        Self::with_authority(scheme, rest)
    }

    /// The origin of a scheme and what stands in `Host`.
    pub(crate) fn with_authority(scheme: &'a str, authority: &'a str) -> Option<Self> {
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let (inner, rest) = rest.split_once(']')?;
            let ip: Ipv6Addr = inner.parse().ok()?;
            (Cow::Owned(format!("[{ip}]")), rest)
        } else {
            let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            if !is_name(host) {
                return None;
            }
            let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
                Cow::Owned(host.to_ascii_lowercase())
            } else {
                Cow::Borrowed(host)
            };
            (host, rest)
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(parse_port(digits)?),
            None if port.is_empty() => None,
            None => return None,
        };
        Some(Self {
            scheme,
            host,
            port: port.filter(|port| default_port(scheme) != Some(*port)),
        })
    }
}

/// As browsers write it in `Origin`: in lower case, without the scheme's default port.
impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.to_ascii_lowercase(), self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Whether this is a host name of non-empty labels; an IPv4 address is one as well.
pub(crate) fn is_name(host: &str) -> bool {
    host.len() <= MAX_HOST
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

fn parse_port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    plain.then(|| digits.parse().ok()).flatten()
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_apart() {
        for (text, scheme, host, port) in [
            ("https://example.com", "https", "example.com", None),
            ("HTTPS://Example.COM", "HTTPS", "example.com", None),
            ("https://example.com:443", "https", "example.com", None),
            ("https://example.com:80", "https", "example.com", Some(80)),
            ("http://example.com:80", "http", "example.com", None),
            ("http://localhost:3000", "http", "localhost", Some(3000)),
            ("http://127.0.0.1", "http", "127.0.0.1", None),
            ("http://[::1]:8080", "http", "[::1]", Some(8080)),
            ("http://[0:0::1]", "http", "[::1]", None),
            (
                "https://xn--bcher-kva.example",
                "https",
                "xn--bcher-kva.example",
                None,
            ),
            (
                "chrome-extension://abcdef",
                "chrome-extension",
                "abcdef",
                None,
            ),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!(
                (origin.scheme, &*origin.host, origin.port),
                (scheme, host, port),
                "{text}"
            );
            let spelled = origin.to_string();
            let again = Origin::parse(&spelled).unwrap();
            assert_eq!((&*again.host, again.port), (host, port), "{text}");
            assert_eq!(again.to_string(), spelled);
            assert!(
                !spelled.bytes().any(|b| b.is_ascii_uppercase()),
                "{spelled}"
            );
        }
    }

    #[test]
    fn everything_else_is_no_origin() {
        for text in [
            "",
            "null",
            "*",
            "example.com",
            "https:example.com",
            "https:/example.com",
            "://example.com",
            "1https://example.com",
            "https://",
            "https://:443",
            "https://example.com/",
            "https://example.com/x",
            "https://example.com?x",
            "https://example.com#x",
            "https://example.com.",
            "https://.example.com",
            "https://a..example.com",
            "https://example.com\\@evil",
            "https://user@example.com",
            "https://user:pw@example.com",
            "https://example.com:",
            "https://example.com:0",
            "https://example.com:0443",
            "https://example.com:+443",
            "https://example.com:65536",
            "https://example.com:443:443",
            "https://[::1",
            "https://[example.com]",
            "https://[::1]x",
            "https://*.example.com",
            "https://exam ple.com",
            " https://example.com",
            "https://example.com ",
            "https://example.com,https://evil.example",
            "https://ex\u{e4}mple.com",
            "https://example%2ecom",
        ] {
            assert_eq!(Origin::parse(text), None, "{text:?}");
        }
        let long = format!("https://{}com", "a.".repeat(130));
        assert_eq!(Origin::parse(&long), None);
    }
}
