//! The configuration of EDAPI, the publisher's own REST service that knows its users.
//!
//! EDAPI's wire contract is not public. The defaults are this project's assumption; `auth.edapi` fits them to
//! another contract.

use std::time::Duration;

use http::{HeaderName, Method};
use proactions_edge::{ConfigError, ConfigProblem, ExposeSecret, SecretString};

/// The section `auth.edapi`, as it stands in the file.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(
        default,
        deny_unknown_fields,
        rename_all = "camelCase",
        expecting = "a map of EDAPI options"
    )
)]
#[non_exhaustive]
pub struct EdapiConfig {
    /// The call that says whether a token is good, and whose it is.
    pub check: CheckConfig,
    /// The call that turns user and password into a token.
    pub login: LoginConfig,
    /// Where the user's name stands in the answer: a JSON pointer (RFC 6901).
    pub user_pointer: String,
    /// How long a call may take; milliseconds in the file.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::millis"))]
    pub timeout: Duration,
    /// How long a yes counts; milliseconds in the file.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::millis"))]
    pub revalidate_after: Duration,
    /// How much longer open sessions go on while EDAPI is down; milliseconds in the file.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::millis"))]
    pub stale_if_error: Duration,
    /// The longest answer that is read, in bytes.
    pub max_body_bytes: u64,
    /// TLS to EDAPI.
    pub tls: EdapiTlsConfig,
}

impl Default for EdapiConfig {
    fn default() -> Self {
        Self {
            check: CheckConfig::default(),
            login: LoginConfig::default(),
            user_pointer: "/username".to_owned(),
            timeout: Duration::from_secs(5),
            revalidate_after: Duration::from_secs(300),
            stale_if_error: Duration::from_secs(600),
            max_body_bytes: 262_144,
            tls: EdapiTlsConfig::default(),
        }
    }
}

/// The section `auth.edapi.check`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(
        default,
        deny_unknown_fields,
        rename_all = "camelCase",
        expecting = "a map of method, path, tokenIn and tokenName"
    )
)]
#[non_exhaustive]
pub struct CheckConfig {
    /// The method.
    pub method: String,
    /// The path below `edapi_url`.
    pub path: String,
    /// Where the token goes.
    pub token_in: TokenIn,
    /// The name of the query parameter, header or cookie.
    pub token_name: String,
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/v3/user/me".to_owned(),
            token_in: TokenIn::Query,
            token_name: "token".to_owned(),
        }
    }
}

/// Where a call carries the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum TokenIn {
    /// In a query parameter.
    Query,
    /// In a header.
    Header,
    /// As `Authorization: Bearer`.
    Bearer,
    /// In a cookie.
    Cookie,
}

/// The section `auth.edapi.login`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(
        default,
        deny_unknown_fields,
        expecting = "a map of method, path and format"
    )
)]
#[non_exhaustive]
pub struct LoginConfig {
    /// The method.
    pub method: String,
    /// The path below `edapi_url`.
    pub path: String,
    /// How user and password are sent.
    pub format: LoginFormat,
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            method: "POST".to_owned(),
            path: "/v3/login".to_owned(),
            format: LoginFormat::Json,
        }
    }
}

/// How a login sends user and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum LoginFormat {
    /// As a JSON object.
    Json,
    /// As a form.
    Form,
    /// As `Authorization: Basic`.
    Basic,
}

/// The section `auth.edapi.tls`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(
        default,
        deny_unknown_fields,
        rename_all = "camelCase",
        expecting = "a map of ca and rejectUnauthorized"
    )
)]
#[non_exhaustive]
pub struct EdapiTlsConfig {
    /// Certificates to trust: a file's path, or PEM text.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::present"))]
    pub ca: Option<String>,
    /// Whether the server's certificate is checked. On unless set.
    pub reject_unauthorized: bool,
}

impl Default for EdapiTlsConfig {
    fn default() -> Self {
        Self {
            ca: None,
            reject_unauthorized: true,
        }
    }
}

/// A configuration of EDAPI that was checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EdapiPolicy {
    /// The base URL; paths are appended.
    pub url: SecretString,
    /// Everything else.
    pub config: EdapiConfig,
}

impl EdapiConfig {
    /// Everything that is wrong, with keys below `auth.edapi`.
    pub(crate) fn check(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        let check = &self.check;
        for (section, method, path) in [
            ("check", &check.method, &check.path),
            ("login", &self.login.method, &self.login.path),
        ] {
            if ![Method::GET, Method::POST, Method::PUT]
                .iter()
                .any(|known| known == method.as_str())
            {
                found.push(ConfigError::new(
                    format!("{section}.method"),
                    "expected GET, POST or PUT",
                ));
            }
            if proactions_edge::path::check_route(path).is_err() || path.contains(['?', '#']) {
                found.push(ConfigError::new(
                    format!("{section}.path"),
                    "expected a path such as /v3/user/me, without query and dot segments",
                ));
            }
        }
        let name_fits = match check.token_in {
            TokenIn::Bearer => true,
            TokenIn::Query => !check.token_name.is_empty(),
            TokenIn::Header | TokenIn::Cookie => {
                HeaderName::try_from(check.token_name.as_str()).is_ok()
            }
        };
        if !name_fits {
            found.push(ConfigError::new(
                "check.tokenName",
                "expected the name of the query parameter, header or cookie",
            ));
        }
        if !self.user_pointer.starts_with('/') {
            found.push(ConfigError::new(
                "userPointer",
                "expected a JSON pointer such as /username or /user/name",
            ));
        }
        let day = Duration::from_secs(86_400);
        for (key, time, least, most, range) in [
            (
                "timeout",
                self.timeout,
                1,
                Duration::from_secs(60),
                "1 and 60000 (a minute)",
            ),
            (
                "revalidateAfter",
                self.revalidate_after,
                1000,
                day,
                "1000 (a second) and 86400000 (a day)",
            ),
            (
                "staleIfError",
                self.stale_if_error,
                0,
                day,
                "0 and 86400000 (a day)",
            ),
        ] {
            if !(Duration::from_millis(least)..=most).contains(&time) {
                found.push(ConfigError::new(
                    key,
                    format!("expected a number of milliseconds between {range}"),
                ));
            }
        }
        if !(1..=16 * 1024 * 1024).contains(&self.max_body_bytes) {
            found.push(ConfigError::new(
                "maxBodyBytes",
                "expected a number of bytes between 1 and 16777216",
            ));
        }
        if self
            .tls
            .ca
            .as_deref()
            .is_some_and(|ca| ca.trim().is_empty())
        {
            found.push(ConfigError::new(
                "tls.ca",
                "is empty; expected the path of a PEM file",
            ));
        }
        found
    }
}

/// What is wrong with `auth.edapi_url`. It may hold a password, so the message does not show it.
pub(crate) fn check_url(url: &SecretString) -> Option<ConfigError> {
    const EXPECTED: &str = "expected a URL such as https://edapi.example.com/edapi";
    let url = url.expose_secret();
    let authority = authority(url);
    let message = match authority {
        None => EXPECTED,
        Some(authority) if authority.contains('@') => {
            "holds a user or password; expected a URL without"
        }
        Some(_) if url.contains(['?', '#']) => "holds a query or fragment; expected a URL without",
        Some(_) => return None,
    };
    Some(ConfigError::new("edapi_url", message))
}

pub(crate) fn url_warning(url: &SecretString) -> Option<ConfigProblem> {
    let url = url.expose_secret();
    let host = authority(url)?;
    let local = ["localhost", "127.", "[::1]"]
        .iter()
        .any(|local| host.starts_with(local));
    (url.starts_with("http://") && !local).then(|| {
        ConfigProblem::new(
            "edapi_url",
            "credentials travel to another host unencrypted; https:// encrypts them",
        )
    })
}

fn authority(url: &str) -> Option<&str> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let parses =
        http::uri::Authority::try_from(authority).is_ok() && url.parse::<http::Uri>().is_ok();
    (parses && !host.is_empty() && !host.starts_with(':')).then_some(authority)
}
