use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proactions_edge::{ConfigError, ExposeSecret};
use proactions_forward::BaseUrl;

use crate::{YoutubeAccount, YoutubeConfig, YoutubeEndpoints};

/// [`YoutubeConfig`], checked. Cloning it copies one pointer.
#[derive(Clone, Debug)]
pub struct YoutubeAccounts(Arc<Checked>);

#[derive(Debug)]
struct Checked {
    config: YoutubeConfig,
    urls: Urls,
}

/// Google's URLs, ready to be called.
#[derive(Debug)]
pub(crate) struct Urls {
    pub(crate) authorize: BaseUrl,
    pub(crate) token: BaseUrl,
    pub(crate) revoke: BaseUrl,
    pub(crate) api: BaseUrl,
}

impl YoutubeAccounts {
    /// The account of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&YoutubeAccount> {
        self.0
            .config
            .accounts
            .iter()
            .find(|account| account.id == id)
    }

    /// All accounts, in the order of the configuration.
    #[must_use]
    pub fn accounts(&self) -> &[YoutubeAccount] {
        &self.0.config.accounts
    }

    /// Google's URLs.
    #[must_use]
    pub fn endpoints(&self) -> &YoutubeEndpoints {
        &self.0.config.endpoints
    }

    pub(crate) fn urls(&self) -> &Urls {
        &self.0.urls
    }

    /// Where the token files are kept.
    pub(crate) fn token_folder(&self) -> &Path {
        &self.0.config.token_storage_path
    }

    /// Where the tokens of an account are kept; `None` for an account that is not configured.
    #[must_use]
    pub fn token_file(&self, id: &str) -> Option<PathBuf> {
        let account = self.get(id)?;
        let name = self
            .0
            .config
            .token_storage_file
            .replace("{id}", &account.id);
        Some(self.0.config.token_storage_path.join(name))
    }
}

impl TryFrom<YoutubeConfig> for YoutubeAccounts {
    type Error = ConfigError;

    fn try_from(config: YoutubeConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        if config.accounts.is_empty() {
            found.push(ConfigError::new(
                "accounts",
                "expected at least one account",
            ));
        }
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (index, account) in config.accounts.iter().enumerate() {
            let within = format!("accounts[{index}]");
            found.extend(check_account(account).map(|error| error.within(&within)));
            if let Some(first) = seen.get(account.id.as_str()) {
                let message = format!("accounts[{first}] has this id already");
                found.push(ConfigError::new(format!("{within}.id"), message));
            } else if !account.id.is_empty() {
                seen.insert(&account.id, index);
            }
        }
        let file = config.token_storage_file.as_str();
        if !file.contains("{id}") || file.contains(['/', '\\', '\0']) {
            let message = "expected the name of a file, without a directory, that holds {id}";
            found.push(ConfigError::new("token_storage_file", message));
        }
        if config.token_storage_path.as_os_str().is_empty() {
            found.push(ConfigError::new(
                "token_storage_path",
                "expected a directory",
            ));
        }
        drop(seen);
        let endpoints = &config.endpoints;
        let mut url = |key: &str, url: &str| {
            let parsed = BaseUrl::parse(url).ok().filter(|_| is_safe_url(url));
            if parsed.is_none() {
                found.push(ConfigError::new(format!("endpoints.{key}"), URL));
            }
            parsed
        };
        let authorize = url("authorize", &endpoints.authorize);
        let token = url("token", &endpoints.token);
        let revoke = url("revoke", &endpoints.revoke);
        let api = url("api", &endpoints.api);
        let urls = (|| {
            Some(Urls {
                authorize: authorize?,
                token: token?,
                revoke: revoke?,
                api: api?,
            })
        })();
        let urls = match urls {
            Some(urls) => ConfigError::check(urls, found)?,
            // Each of them that is missing has been reported above.
            None => match ConfigError::check((), found) {
                Err(error) => return Err(error),
                Ok(()) => return Err(ConfigError::new("endpoints", URL)),
            },
        };
        Ok(Self(Arc::new(Checked { config, urls })))
    }
}

const URL: &str =
    "expected an absolute https URL without user, query and fragment (http for localhost)";

fn check_account(account: &YoutubeAccount) -> impl Iterator<Item = ConfigError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let id = account.id.as_bytes();
    let good_id = (1..=64).contains(&id.len())
        && id.iter().copied().all(plain)
        && !id.iter().all(|b| *b == b'.');
    let checks = [
        (
            "id",
            good_id,
            "expected 1 to 64 of the characters A-Z a-z 0-9 . _ - and not dots alone",
        ),
        ("client_id", !account.client_id.is_empty(), "is required"),
        (
            "client_secret",
            !account.client_secret.expose_secret().is_empty(),
            "is required",
        ),
        ("redirect_uri", is_safe_url(&account.redirect_uri), URL),
        (
            "scope",
            account.scope.split_whitespace().next().is_some(),
            "expected at least one scope",
        ),
    ];
    checks
        .into_iter()
        .filter(|(_, good, _)| !good)
        .map(|(key, _, message)| ConfigError::new(key, message))
}

/// `https://host…`, or `http://` for the machine itself, nothing in it that readers could disagree about.
fn is_safe_url(url: &str) -> bool {
    if !url.bytes().all(|b| b.is_ascii_graphic()) || url.contains(['?', '#', '\\', '"', '<', '>']) {
        return false;
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => match inside.split_once(']') {
            Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
            None => return false,
        },
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let good_port = port.is_empty() || port.parse::<u16>().is_ok_and(|port| port != 0);
    if host.is_empty() || authority.contains('@') || !good_port {
        return false;
    }
    match scheme {
        "https" => true,
        "http" => matches!(host, "localhost" | "127.0.0.1" | "::1"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: &str) -> YoutubeAccount {
        YoutubeAccount {
            id: id.to_owned(),
            client_id: "c".to_owned(),
            client_secret: "hunter2".into(),
            redirect_uri: "https://hub.example.com/youtube/auth/google/callback".to_owned(),
            ..YoutubeAccount::default()
        }
    }

    fn keys(config: YoutubeConfig) -> Vec<String> {
        match YoutubeAccounts::try_from(config) {
            Ok(_) => Vec::new(),
            Err(error) => error.into_problems().into_iter().map(|p| p.key).collect(),
        }
    }

    #[test]
    fn every_problem_is_told() {
        let config = YoutubeConfig {
            accounts: vec![
                account("main"),
                YoutubeAccount::default(),
                account("main"),
                account(".."),
            ],
            token_storage_path: PathBuf::new(),
            token_storage_file: "../{id}".to_owned(),
            endpoints: YoutubeEndpoints {
                token: "http://example.com/token".to_owned(),
                ..YoutubeEndpoints::default()
            },
        };
        assert_eq!(
            keys(config),
            [
                "accounts[1].id",
                "accounts[1].client_id",
                "accounts[1].client_secret",
                "accounts[1].redirect_uri",
                "accounts[2].id",
                "accounts[3].id",
                "token_storage_file",
                "token_storage_path",
                "endpoints.token",
            ]
        );
        assert_eq!(keys(YoutubeConfig::default()), ["accounts"]);
    }

    #[test]
    fn urls() {
        for (url, good) in [
            ("https://hub.example.com/cb", true),
            ("https://hub.example.com:8443/cb", true),
            ("http://localhost:3000/cb", true),
            ("http://127.0.0.1/cb", true),
            ("http://[::1]:3000/cb", true),
            ("http://example.com/cb", false),
            ("http://localhost.example.com/cb", false),
            ("http://localhost@example.com/cb", false),
            ("https://u:p@example.com/", false),
            ("https://example.com:0/", false),
            ("https://example.com:x/", false),
            ("https:///cb", false),
            ("https://a/#b", false),
            ("https://a/?b", false),
            ("ftp://a/", false),
            ("/cb", false),
            ("", false),
            ("https://a\r\nX: y/", false),
        ] {
            assert_eq!(is_safe_url(url), good, "{url}");
        }
    }

    #[test]
    fn the_whole_account_is_warned_about_and_no_secret_shows() {
        let mut config = YoutubeConfig::default();
        config.accounts.push(account("main"));
        assert!(config.warnings().is_empty());
        config.accounts[0].scope = "https://www.googleapis.com/auth/youtube".to_owned();
        assert_eq!(config.warnings()[0].key, "accounts[0].scope");
        assert!(!format!("{config:?}").contains("hunter2"));
        let accounts = YoutubeAccounts::try_from(config).unwrap();
        assert!(accounts.token_file("other").is_none());
        assert!(!format!("{accounts:?}").contains("hunter2"));
    }
}
