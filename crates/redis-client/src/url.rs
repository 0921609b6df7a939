use std::fmt;

use percent_encoding::percent_decode_str;
use proactions_edge::SecretString;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads `host:port`, `[v6]:port` or, as clusters write it, `v6:port`. The port may be left out.
    pub(crate) fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (
                    host,
                    port.strip_prefix(':').or(port.is_empty().then_some(""))?,
                )
            }
            None => text.rsplit_once(':').unwrap_or((text, "")),
        };
        let port = match port {
            "" => default_port,
            port => port.parse().ok().filter(|port| *port != 0)?,
        };
        let is_ipv6 = host.parse::<std::net::Ipv6Addr>().is_ok();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        (is_ipv6 || (!host.is_empty() && host.chars().all(plain))).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A user and a password.
#[derive(Clone, Debug, Default)]
pub(crate) struct Login {
    pub(crate) username: Option<String>,
    pub(crate) password: Option<SecretString>,
}

/// What one URL says.
#[derive(Clone, Debug)]
pub(crate) struct RedisUrl {
    pub(crate) tls: bool,
    pub(crate) addresses: Vec<Address>,
    pub(crate) login: Login,
    pub(crate) db: i64,
    /// The name of the master that the addresses, which are sentinels, watch.
    pub(crate) master: Option<String>,
    pub(crate) sentinel_login: Login,
}

impl RedisUrl {
    /// Reads `redis[s]://[user[:password]@]host[:port][/db]` and
    /// `redis[s]+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/db]`.
    ///
    /// The messages show nothing of the URL: it may hold a password.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected redis://host:port or rediss://host:port";
        let (scheme, rest) = url.split_once("://").ok_or(EXPECTED)?;
        let (tls, sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err(EXPECTED),
        };
        if rest.contains('#') {
            return Err("holds a `#`; in a password it is written as %23");
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let default_port = if sentinel { 26379 } else { 6379 };
        let addresses: Option<Vec<_>> = hosts
            .split(',')
            .map(|host| Address::parse(host, default_port))
            .collect();
        let addresses = addresses.ok_or(EXPECTED)?;
        if addresses.len() > 1 && !sentinel {
            return Err("names several hosts; a cluster is a list of URLs");
        }
        let login = match login.split_once(':') {
            Some((user, password)) => parse_login(user, password)?,
            None => parse_login(login, "")?,
        };
        let (master, db) = if sentinel {
            let (master, db) = path.split_once('/').unwrap_or((path, ""));
            if master.is_empty() {
                return Err("expected redis+sentinel://host:port/name-of-the-master");
            }
            (Some(decode(master)?), db)
        } else {
            (None, path)
        };
        let db = match db {
            "" => 0,
            db => db
                .parse::<u16>()
                .map_err(|_| "expected the number of a database after the last `/`")?
                .into(),
        };
        Ok(Self {
            tls,
            addresses,
            login,
            db,
            sentinel_login: parse_query(query, sentinel)?,
            master,
        })
    }
}

fn parse_login(user: &str, password: &str) -> Result<Login, &'static str> {
    if user.is_empty() && password.is_empty() {
        return Ok(Login::default());
    }
    Ok(Login {
        username: Some(decode(user)?).filter(|user| !user.is_empty()),
        // A user whom the server lets in with any password still has to log in.
        password: Some(decode(password)?.into()),
    })
}

fn parse_query(query: &str, sentinel: bool) -> Result<Login, &'static str> {
    let mut user = "";
    let mut password = "";
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("sentinelUsername", value) if sentinel => user = value,
            ("sentinelPassword", value) if sentinel => password = value,
            _ => {
                return Err(
                    "has an unknown parameter after `?`; only sentinels have any: sentinelUsername, sentinelPassword",
                );
            }
        }
    }
    parse_login(user, password)
}

fn decode(text: &str) -> Result<String, &'static str> {
    percent_decode_str(text)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| "holds percent escapes that are not UTF-8")
}

#[cfg(test)]
mod tests {
    use proactions_edge::ExposeSecret;
    use proptest::prelude::*;

    use super::*;

    type Shown = (bool, String, String, String, i64);

    fn shown(url: &RedisUrl) -> Shown {
        let hosts: Vec<_> = url.addresses.iter().map(ToString::to_string).collect();
        (
            url.tls,
            hosts.join(","),
            url.login.username.clone().unwrap_or_default(),
            url.login
                .password
                .as_ref()
                .map_or("-", |password| password.expose_secret())
                .to_owned(),
            url.db,
        )
    }

    #[test]
    fn good_urls() {
        for (url, tls, hosts, user, password, db) in [
            ("redis://localhost", false, "localhost:6379", "", "-", 0),
            (
                "redis://localhost:6380/",
                false,
                "localhost:6380",
                "",
                "-",
                0,
            ),
            ("rediss://a.b-c_d:1/3", true, "a.b-c_d:1", "", "-", 3),
            ("redis://:pw@h", false, "h:6379", "", "pw", 0),
            (
                "redis://hub:p%40ss%3aw@h",
                false,
                "h:6379",
                "hub",
                "p@ss:w",
                0,
            ),
            ("redis://hub:p@ss@h", false, "h:6379", "hub", "p@ss", 0),
            ("redis://hub@h", false, "h:6379", "hub", "", 0),
            ("redis://[::1]:7/2", false, "[::1]:7", "", "-", 2),
            ("redis://[fe80::1]", false, "[fe80::1]:6379", "", "-", 0),
        ] {
            let read = RedisUrl::parse(url).unwrap();
            let expected = (
                tls,
                hosts.to_owned(),
                user.to_owned(),
                password.to_owned(),
                db,
            );
            assert_eq!(shown(&read), expected, "{url}");
            assert_eq!(read.master, None);
        }
    }

    #[test]
    fn sentinels() {
        let url = RedisUrl::parse(
            "rediss+sentinel://u:p@a,b:2/my%20master/4?sentinelUsername=s&sentinelPassword=t%26",
        )
        .unwrap();
        let expected = (
            true,
            "a:26379,b:2".to_owned(),
            "u".to_owned(),
            "p".to_owned(),
            4,
        );
        assert_eq!(shown(&url), expected);
        assert_eq!(url.master.as_deref(), Some("my master"));
        assert_eq!(url.sentinel_login.username.as_deref(), Some("s"));
        assert_eq!(url.sentinel_login.password.unwrap().expose_secret(), "t&");
    }

    #[test]
    fn bad_urls_are_named_and_not_shown() {
        for (url, message) in [
            ("hunter2", "expected redis://host:port"),
            ("http://hunter2", "expected redis://host:port"),
            ("redis://", "expected redis://host:port"),
            ("redis://:hunter2@", "expected redis://host:port"),
            ("redis://h:hunter2", "expected redis://host:port"),
            ("redis://h:0", "expected redis://host:port"),
            ("redis://h h", "expected redis://host:port"),
            ("redis://[::1", "expected redis://host:port"),
            ("redis://[::1]x", "expected redis://host:port"),
            ("redis://:a#hunter2@h", "holds a `#`"),
            ("redis://a,b", "names several hosts"),
            ("redis://h/hunter2", "expected the number of a database"),
            ("redis://h/-1", "expected the number of a database"),
            ("redis://h?hunter2=1", "has an unknown parameter"),
            (
                "redis://h?sentinelPassword=hunter2",
                "has an unknown parameter",
            ),
            ("redis+sentinel://h", "expected redis+sentinel://"),
            ("redis://:%ff@h", "holds percent escapes"),
        ] {
            let found = RedisUrl::parse(url).unwrap_err();
            assert!(found.starts_with(message), "{url}: {found}");
            assert!(!found.contains("hunter2"));
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let url = RedisUrl::parse("redis://hub:hunter2@h").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }

    #[test]
    fn addresses_of_a_cluster() {
        let parse = |text| Address::parse(text, 1).map(|address| address.to_string());
        assert_eq!(parse("10.0.0.1:7000").as_deref(), Some("10.0.0.1:7000"));
        assert_eq!(parse("::1:7000").as_deref(), Some("[::1]:7000"));
        assert_eq!(parse(":7000"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(url in "(redis(s)?(\\+sentinel)?://)?\\PC{0,40}") {
            let _ = RedisUrl::parse(&url);
        }
    }
}
