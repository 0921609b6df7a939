//! The providers: one row of a table for each that speaks OpenAI's protocol at a public address, a file for
//! each that does not.

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use proactions_edge::{ConfigError, ExposeSecret, SecretString};

use crate::{Endpoint, TargetConfig};

pub(crate) mod azure;
pub(crate) mod compatible;
pub(crate) mod custom;
pub(crate) mod echo;

/// A provider that targets can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    Anthropic,
    AzureOpenAi,
    Bedrock,
    Compatible(&'static compatible::Row),
    Custom,
    Echo,
    VertexAi,
}

/// Those that are not rows of the table.
const OTHERS: [Provider; 6] = [
    Provider::Anthropic,
    Provider::AzureOpenAi,
    Provider::Bedrock,
    Provider::Custom,
    Provider::Echo,
    Provider::VertexAi,
];

impl Provider {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let row = compatible::ROWS.iter().find(|row| row.name == name);
        row.map(Self::Compatible)
            .or_else(|| OTHERS.into_iter().find(|provider| provider.name() == name))
    }

    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        let others = OTHERS.iter().map(|provider| provider.name());
        compatible::ROWS.iter().map(|row| row.name).chain(others)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::AzureOpenAi => "azure-openai",
            Self::Bedrock => "bedrock",
            Self::Compatible(row) => row.name,
            Self::Custom => "custom",
            Self::Echo => "echo",
            Self::VertexAi => "vertex-ai",
        }
    }

    pub(crate) const fn is_available(self) -> bool {
        !matches!(self, Self::Anthropic | Self::Bedrock | Self::VertexAi)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Checks what a provider needs, and that nothing in it can change the host of a URL.
pub(crate) fn check(provider: Provider, target: &TargetConfig) -> Result<(), ConfigError> {
    match provider {
        Provider::AzureOpenAi => azure::Azure::new(target).map(drop),
        Provider::Compatible(row) => compatible::Compatible::new(row, target).map(drop),
        Provider::Custom => custom::Custom::new(target).map(drop),
        Provider::Echo => Ok(()),
        Provider::Anthropic => ConfigError::check(
            (),
            [
                require_key(target),
                check_word("anthropicVersion", target.anthropic_version.as_deref()),
                check_header_text("anthropicBeta", target.anthropic_beta.as_deref()),
                check_endpoint(target),
            ]
            .into_iter()
            .flatten(),
        ),
        Provider::Bedrock => ConfigError::check((), check_bedrock(target)),
        Provider::VertexAi => ConfigError::check((), check_vertex(target)),
    }
}

fn check_bedrock(target: &TargetConfig) -> Vec<ConfigError> {
    let mut found = Vec::new();
    if target.endpoint.is_none() {
        found.extend(require("awsRegion", target.aws_region.as_deref()));
    }
    found.extend(check_word("awsRegion", target.aws_region.as_deref()));
    found.extend(check_endpoint(target));
    match (&target.aws_access_key_id, &target.aws_secret_access_key) {
        (Some(_), Some(_)) => {}
        (None, None) if target.api_key.is_some() => {}
        (None, None) => found.push(ConfigError::new(
            "awsAccessKeyId",
            "is required, with awsSecretAccessKey (or apiKey for a bearer key)",
        )),
        _ => found.push(ConfigError::new(
            "awsAccessKeyId",
            "and awsSecretAccessKey belong together: set both",
        )),
    }
    found
}

fn check_vertex(target: &TargetConfig) -> Vec<ConfigError> {
    let mut found = Vec::new();
    for (key, value) in [
        ("vertexProjectId", target.vertex_project_id.as_deref()),
        ("vertexRegion", target.vertex_region.as_deref()),
    ] {
        found.extend(require(key, value).or_else(|| check_word(key, value)));
    }
    found.extend(check_endpoint(target));
    let key = "vertexServiceAccountJson";
    match &target.vertex_service_account_json {
        None if target.api_key.is_some() => {}
        None => found.push(ConfigError::new(key, "is required")),
        Some(json) => {
            let json: Option<serde_json::Map<String, serde_json::Value>> =
                serde_json::from_str(json.expose_secret()).ok();
            let complete = json.is_some_and(|json| {
                ["client_email", "private_key"]
                    .iter()
                    .all(|member| json.get(*member).is_some_and(serde_json::Value::is_string))
            });
            if !complete {
                found.push(ConfigError::new(
                    key,
                    "expected a service account's key file with client_email and private_key",
                ));
            }
        }
    }
    found
}

/// The credential as a header field that no log shows.
fn bearer(key: &SecretString) -> Result<(HeaderName, HeaderValue), ConfigError> {
    sensitive(AUTHORIZATION, &format!("Bearer {}", key.expose_secret()))
}

fn sensitive(name: HeaderName, value: &str) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        ConfigError::new(
            "apiKey",
            "holds a character that cannot stand in a header (a line break at its end?)",
        )
    })?;
    value.set_sensitive(true);
    Ok((name, value))
}

fn require(key: &str, value: Option<&str>) -> Option<ConfigError> {
    value
        .is_none_or(str::is_empty)
        .then(|| ConfigError::new(key, "is required"))
}

fn require_key(target: &TargetConfig) -> Option<ConfigError> {
    let key = target.api_key.as_ref().map(ExposeSecret::expose_secret);
    require("apiKey", key)
}

/// A name that stands in a host or a path: nothing in it ends the part of the URL that it stands in.
fn check_word(key: &str, value: Option<&str>) -> Option<ConfigError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let value = value?;
    (value.is_empty()
        || value.len() > 128
        || !value.bytes().all(plain)
        || value.bytes().all(|b| b == b'.'))
    .then(|| ConfigError::new(key, "expected letters, digits and - _ . only"))
}

/// A name that stands for one label of a host.
fn check_label(key: &str, value: Option<&str>) -> Option<ConfigError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let value = value?;
    (value.is_empty() || value.len() > 63 || !value.bytes().all(plain))
        .then(|| ConfigError::new(key, "expected letters, digits and - only"))
}

fn check_header_text(key: &str, value: Option<&str>) -> Option<ConfigError> {
    HeaderValue::from_str(value?)
        .err()
        .map(|_| ConfigError::new(key, "holds a character that cannot stand in a header"))
}

fn check_endpoint(target: &TargetConfig) -> Option<ConfigError> {
    let endpoint = target.endpoint.as_ref()?;
    proactions_forward::BaseUrl::parse(endpoint.as_str())
        .err()
        .map(|error| ConfigError::new("endpoint", error.to_string()))
}

/// The target's own header fields. What is wrong with them is reported once, by the target's check.
fn extra_headers(target: &TargetConfig) -> Vec<(HeaderName, HeaderValue)> {
    proactions_forward::check_headers("headers", &target.headers).unwrap_or_default()
}

/// Where a target's requests go.
#[derive(Clone, Debug)]
pub(crate) enum Upstream {
    Azure(azure::Azure),
    Compatible(compatible::Compatible),
    Custom(custom::Custom),
    Echo,
}

impl Upstream {
    /// The upstream of a target that was checked.
    pub(crate) fn new(provider: Provider, target: &TargetConfig) -> Result<Self, ConfigError> {
        match provider {
            Provider::AzureOpenAi => azure::Azure::new(target).map(Self::Azure),
            Provider::Compatible(row) => {
                compatible::Compatible::new(row, target).map(Self::Compatible)
            }
            Provider::Custom => custom::Custom::new(target).map(Self::Custom),
            Provider::Echo => Ok(Self::Echo),
            Provider::Anthropic | Provider::Bedrock | Provider::VertexAi => Err(ConfigError::new(
                "provider",
                format!("`{provider}` is not available in this version yet"),
            )),
        }
    }

    /// A request to `endpoint` with the provider's own header fields still to be set; `None` where the
    /// program answers by itself.
    pub(crate) fn outgoing(
        &self,
        endpoint: Endpoint,
    ) -> Option<Result<proactions_forward::Outgoing, proactions_forward::UrlError>> {
        match self {
            Self::Azure(azure) => Some(azure.outgoing(endpoint)),
            Self::Compatible(compatible) => Some(proactions_forward::Outgoing::new(
                endpoint.method(),
                &compatible.base,
                endpoint.tail(),
                None,
            )),
            Self::Custom(custom) => Some(custom.outgoing(endpoint)),
            Self::Echo => None,
        }
    }

    /// The header fields that every request gets: the credential and the target's own.
    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        match self {
            Self::Azure(azure) => &azure.headers,
            Self::Compatible(compatible) => &compatible.headers,
            Self::Custom(custom) => &custom.headers,
            Self::Echo => &[],
        }
    }
}

#[cfg(test)]
mod tests;
