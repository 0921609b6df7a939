use std::fmt;
use std::time::Duration;

use proactions_edge::{ConfigError, ConfigProblem, ExposeSecret, SecretString};

use crate::{CookiePolicy, KeyRing, SameSite, SessionPolicy, cookie};

/// The section `auth.session`, as it stands in the file.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, expecting = "a map of session options")
)]
#[non_exhaustive]
pub struct SessionConfig {
    /// Where records are kept.
    pub store: StoreKind,
    /// How Redis is reached; needed for [`StoreKind::Redis`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "de::present"))]
    pub redis_client: Option<RedisClientConfig>,
    /// The cookie.
    pub cookie: CookieConfig,
    /// Ends a session that was not used for this long; milliseconds in the file.
    #[cfg_attr(
        feature = "config",
        serde(rename = "idleTimeout", deserialize_with = "de::millis")
    )]
    pub idle_timeout: Option<Duration>,
    /// Ends a session this long after it began; milliseconds in the file. The cookie's `maxAge` unless set.
    #[cfg_attr(
        feature = "config",
        serde(rename = "absoluteTimeout", deserialize_with = "de::millis")
    )]
    pub absolute_timeout: Option<Duration>,
}

/// The section `auth.session.cookie`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, expecting = "a map of cookie options")
)]
#[non_exhaustive]
pub struct CookieConfig {
    /// The name; [`CookiePolicy::SECURE_NAME`] or [`CookiePolicy::PLAIN_NAME`] unless set.
    #[cfg_attr(feature = "config", serde(deserialize_with = "de::present"))]
    pub name: Option<String>,
    /// The secrets that sign it: the first signs, all verify.
    pub secret: SecretList,
    /// Hides it from scripts. On unless set.
    #[cfg_attr(feature = "config", serde(rename = "httpOnly"))]
    pub http_only: bool,
    /// Sends it over HTTPS only. When unset, on if HTTPS is expected.
    #[cfg_attr(feature = "config", serde(deserialize_with = "de::present"))]
    pub secure: Option<bool>,
    /// The attribute `SameSite`; strict unless set, left out for `false`.
    #[cfg_attr(
        feature = "config",
        serde(rename = "sameSite", deserialize_with = "de::same_site")
    )]
    pub same_site: Option<SameSite>,
    /// How long a browser keeps it; milliseconds in the file. 24 hours unless set.
    #[cfg_attr(
        feature = "config",
        serde(rename = "maxAge", deserialize_with = "de::millis")
    )]
    pub max_age: Option<Duration>,
}

impl Default for CookieConfig {
    fn default() -> Self {
        Self {
            name: None,
            secret: SecretList::default(),
            http_only: true,
            secure: None,
            same_site: Some(SameSite::Strict),
            max_age: None,
        }
    }
}

/// The section `auth.session.redis_client`.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, expecting = "a map with `url`")
)]
#[non_exhaustive]
pub struct RedisClientConfig {
    /// One `redis://` or `rediss://` URL, those of a cluster's nodes, or those of sentinels, such as
    /// `redis+sentinel://host:26379/name-of-the-master`. They may hold a password.
    pub url: SecretList,
    /// TLS to Redis.
    pub tls: RedisTlsConfig,
}

#[cfg(feature = "redis")]
impl RedisClientConfig {
    /// How to reach Redis, with everything checked that can be checked without connecting.
    ///
    /// # Errors
    /// All problems, with keys below `auth.session.redis_client`. They show no URL and no key.
    pub fn settings(&self) -> Result<proactions_redis_client::RedisSettings, ConfigError> {
        let mut tls = proactions_redis_client::RedisTls::default();
        if !self.tls.reject_unauthorized {
            tls = tls.dangerous_accept_any_certificate();
        }
        if let Some(ca) = &self.tls.ca {
            tls = tls.with_ca(ca);
        }
        if let Some(cert) = &self.tls.cert {
            tls = tls.with_cert(cert);
        }
        if let Some(key) = &self.tls.key {
            tls = tls.with_key(key.clone());
        }
        proactions_redis_client::RedisSettings::new(self.url.as_slice(), &tls)
    }
}

/// The section `auth.session.redis_client.tls`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, expecting = "a map of TLS options")
)]
#[non_exhaustive]
pub struct RedisTlsConfig {
    /// Whether the server's certificate is checked. On unless set.
    #[cfg_attr(feature = "config", serde(rename = "rejectUnauthorized"))]
    pub reject_unauthorized: bool,
    /// Certificates to trust: a file's path, or PEM text.
    #[cfg_attr(feature = "config", serde(deserialize_with = "de::present"))]
    pub ca: Option<String>,
    /// The client's certificate: a file's path, or PEM text.
    #[cfg_attr(feature = "config", serde(deserialize_with = "de::present"))]
    pub cert: Option<String>,
    /// The client's key: a file's path, or PEM text.
    #[cfg_attr(feature = "config", serde(deserialize_with = "de::secret"))]
    pub key: Option<SecretString>,
}

impl RedisTlsConfig {
    /// Whether anything is asked for that plain connections cannot give.
    const fn is_given(&self) -> bool {
        self.ca.is_some() || self.cert.is_some() || self.key.is_some()
    }
}

impl Default for RedisTlsConfig {
    fn default() -> Self {
        Self {
            reject_unauthorized: true,
            ca: None,
            cert: None,
            key: None,
        }
    }
}

/// Where records are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum StoreKind {
    /// In this process; gone when it ends.
    #[default]
    Memory,
    /// In Redis, shared by several processes.
    Redis,
}

/// One secret or several. In a file: a text, or a list of texts.
#[derive(Clone, Default)]
pub struct SecretList(Vec<SecretString>);

impl SecretList {
    /// The secrets, in the file's order.
    #[must_use]
    pub fn as_slice(&self) -> &[SecretString] {
        &self.0
    }
}

impl fmt::Debug for SecretList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretList({} secrets)", self.0.len())
    }
}

impl From<Vec<SecretString>> for SecretList {
    fn from(secrets: Vec<SecretString>) -> Self {
        Self(secrets)
    }
}

impl<S: Into<SecretString>> FromIterator<S> for SecretList {
    fn from_iter<I: IntoIterator<Item = S>>(secrets: I) -> Self {
        Self(secrets.into_iter().map(Into::into).collect())
    }
}

impl SessionConfig {
    /// Checks everything and computes what can be computed once.
    ///
    /// `https_expected` says whether clients come over HTTPS, here or at a trusted proxy: it decides whether
    /// the cookie is secure when the file does not. The policy does not hold how the store is reached; take
    /// [`Self::store`] and [`Self::redis_client`] before.
    ///
    /// # Errors
    /// All problems, with keys below `auth.session`.
    pub fn into_policy(self, https_expected: bool) -> Result<SessionPolicy, ConfigError> {
        let mut found = Vec::new();
        let keys = KeyRing::new(self.cookie.secret.as_slice())
            .map_err(|error| found.push(error.within("cookie.secret")));
        let secure = self.cookie.secure.unwrap_or(https_expected);
        let name = self.cookie.name.as_deref().unwrap_or(if secure {
            CookiePolicy::SECURE_NAME
        } else {
            CookiePolicy::PLAIN_NAME
        });
        if let Some(message) = cookie::check_name(name) {
            found.push(ConfigError::new("cookie.name", message));
        } else if !secure && (name.starts_with("__Host-") || name.starts_with("__Secure-")) {
            found.push(ConfigError::new(
                "cookie.name",
                "browsers refuse this prefix without `secure: true`; use HTTPS or a name without it",
            ));
        }
        if !secure && self.cookie.same_site == Some(SameSite::None) {
            found.push(ConfigError::new(
                "cookie.sameSite",
                "browsers refuse `none` without `secure: true`; expected strict or lax",
            ));
        }
        for (key, time) in [
            ("cookie.maxAge", self.cookie.max_age),
            ("idleTimeout", self.idle_timeout),
            ("absoluteTimeout", self.absolute_timeout),
        ] {
            let range = Duration::from_secs(1)..=CookiePolicy::MAX_MAX_AGE;
            if time.is_some_and(|time| !range.contains(&time)) {
                found.push(ConfigError::new(
                    key,
                    "expected a number of milliseconds between 1000 (a second) and 315360000000 (ten years)",
                ));
            }
        }
        self.check_redis(&mut found);

        let mut cookie = CookiePolicy::new(name).unwrap_or_default();
        if !secure {
            cookie = cookie.dangerous_insecure();
        }
        if !self.cookie.http_only {
            cookie = cookie.dangerous_script_readable();
        }
        cookie = cookie.with_same_site(self.cookie.same_site);
        if let Some(max_age) = self.cookie.max_age {
            cookie = cookie.with_max_age(max_age);
        }
        let keys = keys.unwrap_or_else(|()| KeyRing::unchecked([]));
        let mut policy = SessionPolicy::new(keys, cookie);
        if let Some(timeout) = self.idle_timeout {
            policy = policy.with_idle_timeout(timeout);
        }
        if let Some(timeout) = self.absolute_timeout {
            policy = policy.with_absolute_timeout(timeout);
        }
        ConfigError::check(policy, found)
    }

    /// What is legal and dangerous all the same, with keys below `auth.session`.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let cookie = &self.cookie;
        let tls = self.redis_client.as_ref().map(|client| &client.tls);
        let plain_redis = self.redis_client.iter().any(|client| {
            let remote = |url: &SecretString| is_remote_plain_redis(url.expose_secret());
            client.url.as_slice().iter().any(remote)
        });
        let encrypted = self.redis_client.iter().any(|client| {
            let asks = |url: &SecretString| url.expose_secret().starts_with("rediss");
            client.url.as_slice().iter().any(asks)
        });
        let all = [
            (
                !cookie.http_only,
                "cookie.httpOnly",
                "scripts of a page can read the session cookie",
            ),
            (
                cookie.secure == Some(false),
                "cookie.secure",
                "the session cookie also travels over plain HTTP, where it can be read",
            ),
            (
                matches!(cookie.same_site, None | Some(SameSite::None)),
                "cookie.sameSite",
                "the session cookie is sent with requests that other sites make",
            ),
            (
                tls.is_some_and(|tls| !tls.reject_unauthorized),
                "redis_client.tls.rejectUnauthorized",
                "the certificate of Redis is not checked: anybody on the way can read the sessions",
            ),
            (
                self.store == StoreKind::Redis && plain_redis,
                "redis_client.url",
                "sessions travel to another host unencrypted; rediss:// encrypts them",
            ),
            (
                tls.is_some_and(RedisTlsConfig::is_given) && !encrypted,
                "redis_client.tls",
                "has no effect on redis://; rediss:// asks for TLS",
            ),
        ];
        all.into_iter()
            .filter(|(applies, ..)| *applies)
            .map(|(_, key, message)| ConfigProblem::new(key, message))
            .collect()
    }

    fn check_redis(&self, found: &mut Vec<ConfigError>) {
        let Some(client) = &self.redis_client else {
            if self.store == StoreKind::Redis {
                found.push(ConfigError::new(
                    "redis_client.url",
                    "is missing; `store: redis` needs one, such as redis://localhost:6379",
                ));
            }
            return;
        };
        let urls = client.url.as_slice();
        if urls.is_empty() {
            found.push(ConfigError::new(
                "redis_client.url",
                "expected a URL such as redis://localhost:6379, or a list of at least one",
            ));
        }
        for (index, url) in urls.iter().enumerate() {
            if redis_host(url.expose_secret()).is_none() {
                let key = if urls.len() == 1 {
                    "redis_client.url".to_owned()
                } else {
                    format!("redis_client.url[{index}]")
                };
                // The URL may hold a password, so the message does not show it.
                found.push(ConfigError::new(
                    key,
                    "expected redis://host:port or rediss://host:port",
                ));
            }
        }
        if client.tls.cert.is_some() != client.tls.key.is_some() {
            found.push(ConfigError::new(
                "redis_client.tls",
                "expected both `cert` and `key`, or neither",
            ));
        }
        for (key, value) in [("ca", &client.tls.ca), ("cert", &client.tls.cert)] {
            if value
                .as_deref()
                .is_some_and(|value| value.trim().is_empty())
            {
                found.push(ConfigError::new(
                    format!("redis_client.tls.{key}"),
                    "is empty; expected the path of a PEM file",
                ));
            }
        }
        if let Some(key) = &client.tls.key
            && key.expose_secret().trim().is_empty()
        {
            found.push(ConfigError::new(
                "redis_client.tls.key",
                "is empty; expected the path of a PEM file",
            ));
        }
    }
}

/// The host that a Redis URL names, or the hosts if they are sentinels.
fn redis_host(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let known = ["redis", "rediss", "redis+sentinel", "rediss+sentinel"];
    let rest = known.contains(&scheme).then_some(rest)?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let plain = |c: char| c.is_ascii_graphic();
    (!host.is_empty() && !host.starts_with(':') && url.chars().all(plain)).then_some(host)
}

fn is_remote_plain_redis(url: &str) -> bool {
    let local = ["localhost", "127.", "[::1]"];
    let is_local = |host: &str| local.iter().any(|local| host.starts_with(local));
    (url.starts_with("redis://") || url.starts_with("redis+sentinel://"))
        && redis_host(url).is_some_and(|hosts| !hosts.split(',').all(is_local))
}

#[cfg(feature = "config")]
mod de {
    use std::fmt;
    use std::time::Duration;

    use proactions_edge::SecretString;
    use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

    use super::{SameSite, SecretList};

    /// A key that is there has a value: `null` is an error, not «unset».
    pub(super) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: Deserialize<'de>,
    {
        T::deserialize(deserializer).map(Some)
    }

    pub(super) fn millis<'de, D>(deserializer: D) -> Result<Option<Duration>, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(Millis).map(Some)
    }

    pub(super) fn same_site<'de, D>(deserializer: D) -> Result<Option<SameSite>, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_any(SameSiteText)
    }

    pub(super) fn secret<'de, D>(deserializer: D) -> Result<Option<SecretString>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let Secret(secret) = Secret::deserialize(deserializer)?;
        Ok(Some(secret))
    }

    struct Millis;

    impl Visitor<'_> for Millis {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of milliseconds, such as 86400000")
        }

        fn visit_u64<E: Error>(self, millis: u64) -> Result<Self::Value, E> {
            Ok(Duration::from_millis(millis))
        }

        fn visit_i64<E: Error>(self, millis: i64) -> Result<Self::Value, E> {
            u64::try_from(millis)
                .map(Duration::from_millis)
                .map_err(|_| E::custom("must not be negative; expected milliseconds"))
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(E::custom("expected a whole number of milliseconds"))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Err(E::custom(if text.parse::<u64>().is_ok() {
                "expected a number of milliseconds, without quotes"
            } else {
                "expected a number of milliseconds, such as 86400000"
            }))
        }
    }

    struct SameSiteText;

    impl Visitor<'_> for SameSiteText {
        type Value = Option<SameSite>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("strict, lax, none, true (as strict) or false (to leave the attribute out)")
        }

        fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
            Ok(on.then_some(SameSite::Strict))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            match text.to_ascii_lowercase().as_str() {
                "strict" => Ok(Some(SameSite::Strict)),
                "lax" => Ok(Some(SameSite::Lax)),
                "none" => Ok(Some(SameSite::None)),
                _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
            }
        }
    }

    /// A secret whose errors show nothing of it: serde's own would print what it found.
    struct Secret(SecretString);

    impl<'de> Deserialize<'de> for Secret {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer
                .deserialize_any(Secrets { list: false })?
                .0
                .pop()
                .map(Self)
                .ok_or_else(|| D::Error::custom("expected a text"))
        }
    }

    impl<'de> Deserialize<'de> for SecretList {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Secrets { list: true })
        }
    }

    struct Secrets {
        list: bool,
    }

    impl Secrets {
        fn wrong<T, E: Error>(&self) -> Result<T, E> {
            Err(E::custom(if self.list {
                "expected a text, or a list of texts (a number or a word such as true goes into quotes)"
            } else {
                "expected a text (a number or a word such as true goes into quotes)"
            }))
        }
    }

    impl<'de> Visitor<'de> for Secrets {
        type Value = SecretList;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(SecretList(vec![SecretString::from(text)]))
        }

        fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
            Ok(SecretList(vec![SecretString::from(text)]))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            if !self.list {
                return self.wrong();
            }
            let mut secrets = Vec::new();
            while let Some(Secret(secret)) = items.next_element()? {
                secrets.push(secret);
            }
            Ok(SecretList(secrets))
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            self.wrong()
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            self.wrong()
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            self.wrong()
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            self.wrong()
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Err(E::custom("is empty; expected a text"))
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
