//! EDAPI, the publisher's own REST service that knows its users.
//!
//! **Its wire contract is not public.** What is known is that its paths are versioned, such as
//! `/v3/object/{id}/…`, and that a user's token travels in the query parameter `token`. The defaults here are this
//! project's assumption:
//!
//! | what a client presents | call below `edapi_url` | yes | no |
//! |---|---|---|---|
//! | `Authorization: Bearer t` | `GET /v3/user/me?token=t` | 2xx and `{"username":"…"}` | 401, 403, 404 |
//! | `Authorization: Basic …` | `POST /v3/login` with `{"username":"…","password":"…"}` | the same | the same |
//!
//! A few lines of YAML fit another contract:
//!
//! ```yaml
//! auth:
//!   edapi:
//!     check: {method: POST, path: /api/v2/session, tokenIn: header, tokenName: X-Session}
//!     login: {path: /api/v2/sign-in, format: form, userField: user, passwordField: pass}
//!     userPointer: /account/name
//! ```
//!
//! [`EdapiAuthenticator`] makes the calls, through an HTTP client that it is given as a tower service:
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use proactions_auth_edapi::edapi::EdapiAuthenticator;
//! use proactions_auth_edapi::{AccessPolicy, AuthConfig, AuthLayer, AuthType, EntryPolicy};
//! use proactions_edge::Principal;
//! use proactions_session_store::SecretList;
//! use tower::{ServiceExt, service_fn};
//! use tower_layer::Layer;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let mut config = AuthConfig::default();
//! config.enabled = true;
//! config.kind = Some(AuthType::Edapi);
//! config.edapi_url = Some("https://edapi.example.com/edapi".into());
//! config.session.cookie.secret = SecretList::from_iter(["a secret of at least 32 bytes, from openssl rand"]);
//! let policy = config.into_policy(true)?.expect("it is enabled");
//! let EntryPolicy::Edapi(edapi) = &policy.entry else { panic!("it is EDAPI") };
//!
//! // In earnest this is `hyper_util::client::legacy::Client`, with TLS.
//! let client = service_fn(|request: Request<Full<Bytes>>| async move {
//!     assert_eq!(request.uri(), "https://edapi.example.com/edapi/v3/user/me?token=t");
//!     Ok::<_, std::io::Error>(Response::new(Full::from(r#"{"username":"bob"}"#)))
//! });
//! let authenticator = EdapiAuthenticator::new(edapi, policy.session.keys(), client)?;
//!
//! let service = AuthLayer::new(AccessPolicy::new(), Arc::new(authenticator)).layer(service_fn(
//!     |request: Request<Bytes>| async move {
//!         let user = request.extensions().get::<Principal>().unwrap().id.to_string();
//!         Ok::<_, std::convert::Infallible>(Response::new(Bytes::from(user)))
//!     },
//! ));
//! let request = Request::get("/v1/models").header("authorization", "Bearer t").body(Bytes::new())?;
//! assert_eq!(service.oneshot(request).await?.body(), "bob");
//! # Ok::<_, Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # What it decides, in this order
//!
//! 1. What EDAPI said about the same credential counts: a yes for `revalidateAfter` from when EDAPI was asked, a no
//!    for a second, a failure for half a second. Credentials are looked up by a keyed digest of all their parts.
//!    Behind that second, a no has sessions that were last vouched for before it checked at their next use.
//! 2. Equal checks share one call. It goes on when whoever asked first goes away, and the others get its answer.
//!    At most 256 calls are made at a time; more wait, within their deadline.
//! 3. A token that the configured place cannot carry unchanged (a `;` in a cookie) is refused without a call.
//!    Everything else is percent-encoded or checked, so it cannot change the call.
//! 4. One deadline, `timeout`, covers waiting, connecting, the head and the body of the answer.
//! 5. 401, 403 and 404 are a no. Redirects are not followed.
//! 6. 2xx with JSON that has a user at `userPointer` is a yes. The body is read up to `maxBodyBytes`, must not be
//!    compressed, and may nest 128 levels. A user is a text or an integer; white space around it goes, and control
//!    or invisible characters, or more than 256 bytes, make it none. The content type does not matter.
//! 7. Everything else is [`Unavailable`](crate::Verdict::Unavailable): 503 with `Retry-After` for a login.
//! 8. A session keeps the credential that opened it, to be checked again when `revalidateAfter` has passed since
//!    the last yes. On a no, or if the credential is another user's by now, the session is ended. While EDAPI is
//!    unavailable, it goes on until `staleIfError` more has passed, then 503; only its first request waits for the
//!    deadline, later attempts are made beside the requests, every five seconds. If EDAPI has said no to the
//!    credential since, it has no such grace: 503 until EDAPI can tell, and the session is not ended.
//!
//! # What a session keeps
//!
//! The credential, sealed with XChaCha20-Poly1305 under a key that is derived from the cookie's secret, together with
//! the time of the last yes and bound to the user. So every process that shares the store and the secret can check
//! it again, also after a restart, and the store shows no credential. Whoever can write to the store can neither
//! hand a session to another user nor make it look freshly checked. Secrets are changed as for the cookie: put the
//! new one first. Whoever has both the store's content and the secret can read the credentials of open sessions.
//!
//! # What is told
//!
//! A security event `edapi_unavailable` with the reason, at once and then once a minute; `edapi_available` when
//! three or more failures in a row are over; `session_revoked` when a session was ended. The counter
//! `hub_edapi_checks_total` has the label `outcome`: `yes`, `no`, `unavailable`. None of them, no error and no
//! `Debug` shows a credential; of a client's errors only the innermost I/O error is shown, since clients put URLs
//! into theirs.

mod cache;
mod client;
mod flight;
mod pulse;
mod seal;
mod transport;
mod wire;

use std::time::Duration;

use http::{HeaderName, Method};
use proactions_edge::{ConfigError, ConfigProblem, ExposeSecret, SecretString};

pub use client::{EdapiAuthenticator, EdapiState};

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
        rename_all = "camelCase",
        expecting = "a map of method, path, format, userField and passwordField"
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
    /// The name of the field that holds the user, in JSON and forms.
    pub user_field: String,
    /// The name of the field that holds the password, in JSON and forms.
    pub password_field: String,
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            method: "POST".to_owned(),
            path: "/v3/login".to_owned(),
            format: LoginFormat::Json,
            user_field: "username".to_owned(),
            password_field: "password".to_owned(),
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

/// A configuration of EDAPI that was checked, for an [`EdapiAuthenticator`].
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
        let mut found = wire::problems(self);
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
