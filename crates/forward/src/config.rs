use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use http::{HeaderName, HeaderValue};
use proactions_edge::{ConfigError, ExposeSecret, SecretString};

use crate::headers::is_framing;
use crate::{BaseUrl, ConfigUrl};

/// Section `hub.http_client`: outgoing calls in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct HttpClientConfig {
    /// How long an upstream may take to begin its answer, and how long it may then be silent between two
    /// parts of it, in milliseconds; 120000 unless set, at most one day.
    #[cfg_attr(feature = "config", serde(deserialize_with = "required_number"))]
    pub timeout: u64,
    /// How many redirects are followed where following is allowed at all; 5 unless set, at most 20.
    #[cfg_attr(feature = "config", serde(deserialize_with = "required_number"))]
    pub max_redirects: u64,
}

impl Default for HttpClientConfig {
    fn default() -> Self {
        Self {
            timeout: 120_000,
            max_redirects: 5,
        }
    }
}

impl HttpClientConfig {
    /// Whether the values can be used.
    ///
    /// # Errors
    /// Everything that is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let found = [
            check_millis("timeout", Some(self.timeout)),
            check_redirects("maxRedirects", Some(self.max_redirects)),
        ];
        ConfigError::check((), found.into_iter().flatten())
    }

    /// [`Self::timeout`] as a duration.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }
}

/// One entry of `proxies`: where `/proxy/forward/{id}` leads.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ProxyConfig {
    /// The name in the path: 1 to 64 of `A-Z a-z 0-9 . _ -`. Required.
    pub id: String,
    /// The upstream's URL; what follows the id in a request's path is appended to it. Required.
    #[cfg_attr(feature = "config", serde(deserialize_with = "required_url"))]
    pub url: ConfigUrl,
    /// Which of the client's headers are left out beyond those that never travel.
    pub remove_source_headers: RemoveSourceHeaders,
    /// Everything else.
    pub options: ProxyOptions,
}

impl ProxyConfig {
    /// Whether the entry can be used.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut found = Vec::new();
        found.extend(check_id("id", &self.id));
        if self.url.is_empty() {
            found.push(ConfigError::new("url", "is required"));
        } else if let Err(error) = BaseUrl::parse_with_query(self.url.as_str()) {
            found.push(ConfigError::new("url", error.to_string()));
        }
        if let RemoveSourceHeaders::Named(names) = &self.remove_source_headers {
            for (index, name) in names.iter().enumerate() {
                if HeaderName::from_bytes(name.as_bytes()).is_err() {
                    let key = format!("remove_source_headers[{index}]");
                    found.push(ConfigError::new(key, "is not a header name"));
                }
            }
        }
        if let Err(error) = self.options.check() {
            found.push(error.within("options"));
        }
        ConfigError::check((), found)
    }

    /// Settings that are legal and dangerous, or without effect.
    #[must_use]
    pub fn warnings(&self) -> Vec<proactions_edge::ConfigProblem> {
        let mut warnings = Vec::new();
        let ProxySsl { ca, cert, .. } = &self.options.ssl;
        let plain = BaseUrl::parse_with_query(self.url.as_str()).is_ok_and(|url| !url.is_https());
        for (key, idle, message) in [
            (
                "options.maxRedirects",
                self.options.max_redirects.is_some() && !self.options.follow_redirects,
                "has no effect without followRedirects",
            ),
            (
                "options.ssl",
                (ca.is_some() || cert.is_some()) && plain,
                "has no effect: the URL is not https",
            ),
            (
                "options.ssl.ca",
                ca.is_some() && !self.options.secure,
                "has no effect with `secure: false`: no certificate of the upstream is checked",
            ),
        ] {
            if idle {
                warnings.push(proactions_edge::ConfigProblem::new(key, message));
            }
        }
        if !self.options.secure {
            warnings.push(proactions_edge::ConfigProblem::new(
                "options.secure",
                "the upstream's certificate is not checked: whoever sits between can read and change everything",
            ));
        }
        if !self.options.change_origin {
            warnings.push(proactions_edge::ConfigProblem::new(
                "options.changeOrigin",
                "clients choose the Host that the upstream sees: it must not pick a site or build links by it",
            ));
        }
        warnings
    }
}

/// Which of the client's headers a proxy leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoveSourceHeaders {
    /// All but those that describe the body (`true`).
    All,
    /// These (a list of names).
    Named(Vec<String>),
    /// None (`false`).
    #[default]
    None,
}

#[cfg(feature = "config")]
impl<'de> serde::Deserialize<'de> for RemoveSourceHeaders {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RemoveSourceHeaders;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("true, false or a list of header names")
            }

            fn visit_bool<E>(self, all: bool) -> Result<Self::Value, E> {
                Ok(if all {
                    RemoveSourceHeaders::All
                } else {
                    RemoveSourceHeaders::None
                })
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Self::Value, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(RemoveSourceHeaders::Named(names))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// `options` of a [`ProxyConfig`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are switches in the file"
)]
pub struct ProxyOptions {
    /// Whether the upstream's certificate is checked; true unless set.
    pub secure: bool,
    /// Whether `Host` names the upstream; true unless set. False sends the host that the client asked for.
    pub change_origin: bool,
    /// Header fields that replace what the client sent. The values are secrets.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::secrets"))]
    pub headers: BTreeMap<String, SecretString>,
    /// How long the client may be silent, in milliseconds.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::number"))]
    pub timeout: Option<u64>,
    /// How long the upstream may be silent, in milliseconds; `hub.http_client.timeout` unless set.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::number"))]
    pub proxy_timeout: Option<u64>,
    /// Whether redirects are followed instead of passed on; false unless set.
    pub follow_redirects: bool,
    /// How many are followed; `hub.http_client.maxRedirects` unless set.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::number"))]
    pub max_redirects: Option<u64>,
    /// Certificates for this upstream.
    pub ssl: ProxySsl,
    /// Whether WebSocket upgrades pass; false unless set.
    pub ws: bool,
    /// Whether `X-Forwarded-For`, `-Proto` and `-Host` are sent; false unless set.
    pub xfwd: bool,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            secure: true,
            change_origin: true,
            headers: BTreeMap::new(),
            timeout: None,
            proxy_timeout: None,
            follow_redirects: false,
            max_redirects: None,
            ssl: ProxySsl::default(),
            ws: false,
            xfwd: false,
        }
    }
}

impl ProxyOptions {
    fn check(&self) -> Result<(), ConfigError> {
        let mut found = Vec::new();
        if let Err(error) = check_headers("headers", &self.headers) {
            found.push(error);
        }
        found.extend(check_millis("timeout", self.timeout));
        found.extend(check_millis("proxyTimeout", self.proxy_timeout));
        found.extend(check_redirects("maxRedirects", self.max_redirects));
        if self.ssl.cert.is_some() != self.ssl.key.is_some() {
            found.push(ConfigError::new(
                "ssl",
                "cert and key belong together: set both or neither",
            ));
        }
        ConfigError::check((), found)
    }
}

/// `options.ssl` of a [`ProxyConfig`]: paths of PEM files, or PEM text.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ProxySsl {
    /// The authorities that may vouch for the upstream, instead of the system's.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::text"))]
    pub ca: Option<String>,
    /// The certificate that is shown to the upstream.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::text"))]
    pub cert: Option<String>,
    /// Its key.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::secret"))]
    pub key: Option<SecretString>,
}

/// Section `hub.egress`: where outgoing calls may go at all.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct EgressConfig {
    /// URL of the HTTP proxy that outgoing calls go through; user and password may stand in it.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::secret"))]
    pub proxy: Option<SecretString>,
    /// Host names that may be called (`api.example.com`, `*.example.com`), with a port if only that one is meant; all
    /// unless set.
    pub allow_hosts: Vec<String>,
    /// Whether private, loopback and link-local addresses are refused after the name was resolved.
    pub deny_private: bool,
}

impl EgressConfig {
    /// Whether the section can be used.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut found = Vec::new();
        if let Some(proxy) = &self.proxy
            && let Some(message) = check_proxy(proxy.expose_secret())
        {
            found.push(ConfigError::new("proxy", message));
        }
        for (index, host) in self.allow_hosts.iter().enumerate() {
            if let Some(message) = crate::egress::check_rule(host) {
                found.push(ConfigError::new(format!("allowHosts[{index}]"), message));
            }
        }
        ConfigError::check((), found)
    }

    /// Settings that are legal and leave a gap.
    #[must_use]
    pub fn warnings(&self) -> Vec<proactions_edge::ConfigProblem> {
        let mut warnings = Vec::new();
        if self.deny_private && self.proxy.is_some() {
            warnings.push(proactions_edge::ConfigProblem::new(
                "denyPrivate",
                "the outbound proxy resolves names, so what they resolve to cannot be judged here: it needs such a rule of its own",
            ));
        }
        warnings
    }
}

/// What is wrong with `id` as the name of a target or a proxy in a header and a path, if anything: it must be 1
/// to 64 of `A-Z a-z 0-9 . _ -`.
#[must_use]
pub fn check_id(key: &str, id: &str) -> Option<ConfigError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if id.is_empty() {
        return Some(ConfigError::new(key, "is required"));
    }
    (id.len() > 64 || !id.bytes().all(plain) || id.bytes().all(|b| b == b'.')).then(|| {
        ConfigError::new(
            key,
            "expected 1 to 64 of the characters A-Z a-z 0-9 . _ - and not dots alone",
        )
    })
}

/// What is wrong with a time in milliseconds, if anything: it must be between 1 and one day.
#[must_use]
pub fn check_millis(key: &str, millis: Option<u64>) -> Option<ConfigError> {
    let day = 86_400_000;
    millis
        .filter(|millis| !(1..=day).contains(millis))
        .map(|_| ConfigError::new(key, "expected between 1 and 86400000 (milliseconds)"))
}

/// The header fields of a configuration, ready to send and marked as sensitive.
///
/// # Errors
/// Every name and value that cannot be sent, and every name that belongs to the framing of a message. No
/// message shows a value.
pub fn check_headers(
    key: &str,
    headers: &BTreeMap<String, SecretString>,
) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let mut ready = Vec::with_capacity(headers.len());
    let mut found = Vec::new();
    for (name, value) in headers {
        let at = format!("{key}.{name}");
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            found.push(ConfigError::new(at, "is not a header name"));
            continue;
        };
        if is_framing(&header) {
            let message = "belongs to the connection and is set by the program itself";
            found.push(ConfigError::new(at, message));
            continue;
        }
        match HeaderValue::from_str(value.expose_secret()) {
            Ok(mut value) => {
                value.set_sensitive(true);
                ready.push((header, value));
            }
            Err(_) => found.push(ConfigError::new(
                at,
                "has a value with a character that cannot stand in a header",
            )),
        }
    }
    ConfigError::check(ready, found)
}

fn check_redirects(key: &str, redirects: Option<u64>) -> Option<ConfigError> {
    redirects
        .filter(|redirects| *redirects > 20)
        .map(|_| ConfigError::new(key, "expected between 0 and 20"))
}

fn check_proxy(url: &str) -> Option<String> {
    match BaseUrl::parse(&without_user(url)) {
        Err(error) => Some(error.to_string()),
        Ok(base) if !base.path().is_empty() => Some("must not have a path".to_owned()),
        Ok(_) => proxy_user(url).err().map(str::to_owned),
    }
}

/// `Proxy-Authorization` for the user in a proxy's URL, if there is one.
pub(crate) fn proxy_user(url: &str) -> Result<Option<HeaderValue>, &'static str> {
    const WRONG: &str =
        "has a user or password that cannot be sent: percent-encode what is not a letter or digit";
    let Some((_, rest)) = url.split_once("://") else {
        return Ok(None);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else {
        return Ok(None);
    };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decode =
        |text: &str| percent_decode(text).filter(|text| !text.iter().any(u8::is_ascii_control));
    let (name, password) = decode(name).zip(decode(password)).ok_or(WRONG)?;
    if name.contains(&b':') {
        return Err(WRONG);
    }
    let user = [&name[..], b":", &password].concat();
    let text = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(user)
    );
    let mut value = HeaderValue::try_from(text).map_err(|_| WRONG)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
        decoded.push(u8::try_from(value).ok()?);
    }
    Some(decoded)
}

/// The URL without `user:password@`.
pub(crate) fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{tail}")
}

#[cfg(feature = "config")]
fn required_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    crate::de::number(deserializer).map(Option::unwrap_or_default)
}

#[cfg(feature = "config")]
fn required_url<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ConfigUrl, D::Error> {
    crate::de::url(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
