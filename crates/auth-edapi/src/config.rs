use std::sync::Arc;

use proactions_edge::{ConfigError, ConfigProblem, ExposeSecret, SecretString};
use proactions_session_store::{SecretList, SessionConfig, SessionPolicy};

use crate::edapi::{self, EdapiConfig, EdapiPolicy};
use crate::tokens::check_tokens;
use crate::{Authenticate, TokenSet};

/// The section `auth`, as it stands in the file.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, expecting = "a map of auth options")
)]
#[non_exhaustive]
pub struct AuthConfig {
    /// Whether anybody is asked for credentials. Off unless set.
    pub enabled: bool,
    /// Who checks credentials; needed when enabled.
    #[cfg_attr(
        feature = "config",
        serde(rename = "type", deserialize_with = "crate::de::present")
    )]
    pub kind: Option<AuthType>,
    /// The base URL of EDAPI; needed for [`AuthType::Edapi`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::secret"))]
    pub edapi_url: Option<SecretString>,
    /// The tokens; needed for [`AuthType::Token`].
    pub tokens: SecretList,
    /// The wire details of EDAPI.
    pub edapi: EdapiConfig,
    /// The sessions.
    pub session: SessionConfig,
}

/// Who checks credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum AuthType {
    /// The publisher's EDAPI service.
    Edapi,
    /// A list of static tokens.
    Token,
}

/// A section `auth` that is enabled and was checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthPolicy {
    /// What a [`SessionLayer`](proactions_session_store::SessionLayer) runs on.
    pub session: SessionPolicy,
    /// Who checks credentials.
    pub entry: EntryPolicy,
}

/// Who checks credentials, and with what.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EntryPolicy {
    /// The publisher's EDAPI service.
    Edapi(Box<EdapiPolicy>),
    /// Static tokens, ready to be used.
    Token(TokenSet),
}

impl EntryPolicy {
    /// The authenticator, where it needs no service outside.
    #[must_use]
    pub fn local_authenticator(&self) -> Option<Arc<dyn Authenticate>> {
        match self {
            Self::Token(tokens) => Some(Arc::new(tokens.clone())),
            Self::Edapi(_) => None,
        }
    }
}

impl AuthConfig {
    /// Checks everything and computes what can be computed once; `None` when it is not enabled.
    ///
    /// `https_expected` says whether clients come over HTTPS, see [`SessionConfig::into_policy`].
    ///
    /// # Errors
    /// All problems, with keys below `auth`.
    pub fn into_policy(self, https_expected: bool) -> Result<Option<AuthPolicy>, ConfigError> {
        if !self.enabled {
            return Ok(None);
        }
        let mut found = Vec::new();
        match self.kind {
            None => found.push(ConfigError::new(
                "type",
                "is missing; expected edapi or token",
            )),
            Some(AuthType::Edapi) => {
                match &self.edapi_url {
                    None => found.push(ConfigError::new(
                        "edapi_url",
                        "is missing; `type: edapi` needs it, such as https://edapi.example.com/edapi",
                    )),
                    Some(url) => found.extend(edapi::check_url(url)),
                }
                let problems = self.edapi.check().into_iter();
                found.extend(problems.map(|error| error.within("edapi")));
            }
            Some(AuthType::Token) => {
                let tokens = self.tokens.as_slice().iter();
                let tokens: Vec<_> = tokens.map(ExposeSecret::expose_secret).collect();
                if let Err(error) = check_tokens(&tokens) {
                    found.push(error.within("tokens"));
                }
            }
        }
        let session = self.session.into_policy(https_expected);
        let session = match (session, found.is_empty()) {
            (Ok(session), true) => session,
            (Ok(session), false) => return ConfigError::check(session, found).map(|_| None),
            (Err(error), _) => {
                found.push(error.within("session"));
                return ConfigError::check(None, found);
            }
        };
        let entry = match (self.kind, self.edapi_url) {
            (Some(AuthType::Edapi), Some(url)) => EntryPolicy::Edapi(Box::new(EdapiPolicy {
                url,
                config: self.edapi,
            })),
            _ => EntryPolicy::Token(
                TokenSet::new(self.tokens.as_slice(), session.keys())
                    .map_err(|error| error.within("tokens"))?,
            ),
        };
        Ok(Some(AuthPolicy { session, entry }))
    }

    /// What is legal and dangerous all the same, or has no effect, with keys below `auth`.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        if !self.enabled {
            return vec![ConfigProblem::new(
                "enabled",
                "is off: whoever reaches the hub can use it",
            )];
        }
        let mut found = Vec::new();
        let tokens = self.tokens.as_slice();
        match self.kind {
            Some(AuthType::Token) => {
                found.push(ConfigProblem::new(
                    "type",
                    "static tokens are less secure than edapi: for development and tests",
                ));
                let short = |(index, token): (usize, &SecretString)| {
                    (token.expose_secret().len() < MIN_TOKEN_LEN).then(|| {
                        ConfigProblem::new(
                            format!("tokens[{index}]"),
                            "is shorter than 16 characters and can be guessed",
                        )
                    })
                };
                found.extend(tokens.iter().enumerate().filter_map(short));
                if self.edapi_url.is_some() {
                    let message = "has no effect with `type: token`";
                    found.push(ConfigProblem::new("edapi_url", message));
                }
            }
            Some(AuthType::Edapi) => {
                found.extend(self.edapi_url.as_ref().and_then(edapi::url_warning));
                if !self.edapi.tls.reject_unauthorized {
                    found.push(ConfigProblem::new(
                        "edapi.tls.rejectUnauthorized",
                        "the certificate of EDAPI is not checked: anybody on the way can read credentials",
                    ));
                }
                if !tokens.is_empty() {
                    let message = "has no effect with `type: edapi`";
                    found.push(ConfigProblem::new("tokens", message));
                }
            }
            None => {}
        }
        let session = self.session.warnings().into_iter();
        found.extend(session.map(|problem| {
            ConfigProblem::new(format!("session.{}", problem.key), problem.message)
        }));
        found
    }
}

/// Below this a token is worth a warning.
const MIN_TOKEN_LEN: usize = 16;

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
