use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proactions_edge::{ConfigError, ExposeSecret, SecretString};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::tls;
use crate::url::{Address, Login, RedisUrl};

/// Where Redis is, and how to get in: checked, and ready to connect.
#[derive(Clone)]
pub struct RedisSettings {
    pub(crate) layout: Layout,
    pub(crate) addresses: Vec<Address>,
    pub(crate) login: Login,
    pub(crate) sentinel_login: Login,
    pub(crate) db: i64,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) deadline: Duration,
}

/// What the addresses are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One server.
    Server,
    /// Servers of a cluster.
    Cluster,
    /// Sentinels, which know the server that is the master of this name now.
    Sentinels { master: String },
}

/// How TLS is spoken to servers named by `rediss://` URLs.
///
/// The server's certificate is checked against those that the operating system trusts, unless told otherwise.
/// Each method takes a file's path or PEM text.
#[derive(Clone, Debug, Default)]
pub struct RedisTls {
    pub(crate) accepts_any: bool,
    pub(crate) ca: Option<String>,
    pub(crate) cert: Option<String>,
    pub(crate) key: Option<SecretString>,
}

impl RedisTls {
    /// Trusts these certificates, and no others.
    #[must_use]
    pub fn with_ca(mut self, ca: impl Into<String>) -> Self {
        self.ca = Some(ca.into());
        self
    }

    /// Shows the server this certificate, with the chain that follows it. It needs a [key](Self::with_key).
    #[must_use]
    pub fn with_cert(mut self, cert: impl Into<String>) -> Self {
        self.cert = Some(cert.into());
        self
    }

    /// The key of the certificate, not encrypted.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<SecretString>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Accepts any certificate. Whoever can redirect the traffic then reads and changes everything in it; use it
    /// only where nobody else is on the way.
    #[must_use]
    pub const fn dangerous_accept_any_certificate(mut self) -> Self {
        self.accepts_any = true;
        self
    }
}

impl RedisSettings {
    /// How long a command may take unless another time is chosen, connecting included.
    pub const DEFAULT_DEADLINE: Duration = Duration::from_millis(700);

    /// Reads one URL, those of several servers of a cluster, or those of sentinels, and the files that `tls`
    /// names. Nothing is connected.
    ///
    /// The forms are `redis://[user[:password]@]host[:port][/database]`, `rediss://…` for TLS, and
    /// `redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/database]`, where user and password
    /// are those of the Redis server; those of the sentinels follow as `?sentinelUsername=…&sentinelPassword=…`.
    /// With `rediss+sentinel://`, sentinels and server speak TLS. Special characters in a password are written
    /// as percent escapes.
    ///
    /// # Errors
    /// All problems, under the keys `url`, `url[1]`, `tls.ca` and so on. They show no URL and no key.
    pub fn new<'a>(
        urls: impl IntoIterator<Item = &'a SecretString>,
        tls: &RedisTls,
    ) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let mut read = Vec::new();
        let urls: Vec<_> = urls.into_iter().collect();
        for (index, url) in urls.iter().enumerate() {
            let key = match urls.len() {
                1 => "url".to_owned(),
                _ => format!("url[{index}]"),
            };
            match RedisUrl::parse(url.expose_secret()) {
                Ok(url) => read.push((key, url)),
                Err(message) => found.push(ConfigError::new(key, message)),
            }
        }
        let settings = merge(read, &mut found);
        let tls = if settings.as_ref().is_some_and(|(_, tls)| *tls) {
            tls::client_config(tls).map(Some).unwrap_or_else(|error| {
                found.push(error.within("tls"));
                None
            })
        } else {
            None
        };
        match settings {
            Some((settings, _)) => ConfigError::check(Self { tls, ..settings }, found),
            None => {
                if found.is_empty() {
                    found.push(ConfigError::new(
                        "url",
                        "expected a URL such as redis://localhost:6379, or a list of at least one",
                    ));
                }
                ConfigError::check((), found)?;
                Err(ConfigError::new("url", "expected a URL"))
            }
        }
    }

    /// Speaks TLS as `config` says, instead of what was built from [`RedisTls`]. Without effect on `redis://`.
    #[must_use]
    pub fn with_tls_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = self.tls.map(|_| config);
        self
    }

    /// Gives up on a command after this long, 50 ms to 5 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.clamp(Duration::from_millis(50), Duration::from_secs(5));
        self
    }

    /// Whether the servers are spoken to over TLS.
    #[must_use]
    pub const fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("layout", &self.layout)
            .field("addresses", &self.addresses)
            .field("db", &self.db)
            .field("tls", &self.tls.is_some())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// One set of settings, and whether it needs TLS, out of URLs that must agree in all but the host.
fn merge(
    urls: Vec<(String, RedisUrl)>,
    found: &mut Vec<ConfigError>,
) -> Option<(RedisSettings, bool)> {
    let several = urls.len() > 1;
    let mut urls = urls.into_iter();
    let (_, first) = urls.next()?;
    let mut addresses = first.addresses.clone();
    for (key, url) in urls {
        let same = url.tls == first.tls
            && url.master == first.master
            && url.db == first.db
            && is_same(&url.login, &first.login)
            && is_same(&url.sentinel_login, &first.sentinel_login);
        if !same {
            found.push(ConfigError::new(
                key,
                "differs from the first URL in more than the host; expected the same scheme, user, password and \
                 path",
            ));
        }
        for address in url.addresses {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    if several && first.master.is_none() && first.db != 0 {
        found.push(ConfigError::new(
            "url[0]",
            "names a database; a cluster has only number 0",
        ));
    }
    if first.tls
        && addresses
            .iter()
            .any(|address| ServerName::try_from(address.host.as_str()).is_err())
    {
        found.push(ConfigError::new(
            "url",
            "names a host that no certificate can name",
        ));
    }
    let layout = match first.master {
        Some(master) => Layout::Sentinels { master },
        None if several => Layout::Cluster,
        None => Layout::Server,
    };
    let settings = RedisSettings {
        layout,
        addresses,
        login: first.login,
        sentinel_login: first.sentinel_login,
        db: first.db,
        tls: None,
        deadline: RedisSettings::DEFAULT_DEADLINE,
    };
    Some((settings, first.tls))
}

fn is_same(a: &Login, b: &Login) -> bool {
    let password = |login: &Login| {
        login
            .password
            .as_ref()
            .map(|password| password.expose_secret().to_owned())
    };
    a.username == b.username && password(a) == password(b)
}

/// The PEM text that `value` is, or that the file it names holds.
pub(crate) fn pem(key: &str, value: &str) -> Result<Vec<u8>, ConfigError> {
    if value.contains("-----BEGIN ") {
        return Ok(value.as_bytes().to_vec());
    }
    std::fs::read(Path::new(value.trim())).map_err(|error| {
        // The key's own text could stand here by mistake, so the path is not repeated.
        ConfigError::new(
            key,
            format!(
                "cannot be read ({}); expected the path of a PEM file",
                error.kind()
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(urls: &[&str], tls: &RedisTls) -> Result<RedisSettings, Vec<(String, String)>> {
        let urls: Vec<SecretString> = urls.iter().map(|url| SecretString::from(*url)).collect();
        RedisSettings::new(&urls, tls).map_err(|error| {
            let problems = error.into_problems().into_iter();
            problems.map(|p| (p.key, p.message)).collect()
        })
    }

    #[test]
    fn layouts() {
        let layout = |urls: &[&str]| {
            let settings = settings(urls, &RedisTls::default()).unwrap();
            (settings.layout, settings.addresses.len())
        };
        assert_eq!(layout(&["redis://a"]), (Layout::Server, 1));
        assert_eq!(
            layout(&["redis://a", "redis://b:1", "redis://a:6379"]),
            (Layout::Cluster, 2)
        );
        let master = "m".to_owned();
        assert_eq!(
            layout(&["redis+sentinel://a,b/m", "redis+sentinel://c/m"]),
            (Layout::Sentinels { master }, 3)
        );
    }

    #[test]
    fn every_problem_is_named() {
        for (urls, keys) in [
            (&[][..], &["url"][..]),
            (&["http://x"], &["url"]),
            (
                &["redis://a", "http://hunter2", "redis://h:x"],
                &["url[1]", "url[2]"],
            ),
            (&["redis://a", "rediss://b"], &["url[1]"]),
            (&["redis://:hunter2@a", "redis://:hunter3@b"], &["url[1]"]),
            (&["redis://a/1", "redis://b/1"], &["url[0]"]),
            (
                &["redis+sentinel://a/m", "redis+sentinel://a/n"],
                &["url[1]"],
            ),
        ] {
            let found = settings(urls, &RedisTls::default()).unwrap_err();
            let named: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(named, keys, "{urls:?}");
            assert!(!format!("{found:?}").contains("hunter"));
        }
    }

    #[test]
    fn tls_files_are_read_for_rediss_only() {
        let tls = RedisTls::default()
            .with_ca("/does/not/exist")
            .with_cert("/nor/this");
        assert!(!settings(&["redis://a"], &tls).unwrap().uses_tls());
        let found = settings(&["rediss://a"], &tls).unwrap_err();
        let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["tls.ca", "tls.key"], "{found:?}");
    }

    #[test]
    fn debug_shows_no_secret() {
        let settings = settings(&["redis://u:hunter2@a"], &RedisTls::default()).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
