//! The providers: one row of a table for each that speaks OpenAI's protocol at a public address, a file for
//! each that does not.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use proactions_edge::{Clock, ConfigError, ExposeSecret, SecretString};
use proactions_forward::{BaseUrl, ConfigUrl, HttpClient, JoinedUrl, Outgoing, UrlError};

use crate::endpoint::PerEndpoint;
use crate::translate::Adapter;
use crate::{Endpoint, TargetConfig};

pub(crate) mod anthropic;
pub(crate) mod azure;
pub(crate) mod bedrock;
pub(crate) mod compatible;
pub(crate) mod custom;
pub(crate) mod echo;
pub(crate) mod vertex;

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
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Checks what a provider needs, and that nothing in it can change the host of a URL.
pub(crate) fn check(provider: Provider, target: &TargetConfig) -> Result<(), ConfigError> {
    Upstream::new(provider, target).map(drop)
}

/// How the providers answer that have streams of their own.
#[cfg(feature = "fuzzing")]
pub(crate) fn dialect_for_fuzzing(provider: &str) -> Box<dyn crate::translate::Dialect> {
    match provider {
        "anthropic" => Box::new(anthropic::Messages::for_fuzzing()),
        _ => Box::new(bedrock::Converse::for_fuzzing()),
    }
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

/// The target's `endpoint`, or the provider's own address. What is wrong with the former is `found`.
fn base(target: &TargetConfig, default: &str, found: &mut Vec<ConfigError>) -> Option<BaseUrl> {
    let endpoint = target.endpoint.as_ref().map(ConfigUrl::as_str);
    match BaseUrl::parse(endpoint.unwrap_or(default)) {
        Ok(base) => Some(base),
        Err(error) => {
            found.push(ConfigError::new("endpoint", error.to_string()));
            None
        }
    }
}

/// What `make` makes of the parts, if nothing was found.
fn finish<P, T>(
    parts: Option<P>,
    found: Vec<ConfigError>,
    make: impl FnOnce(P) -> T,
) -> Result<T, ConfigError> {
    ConfigError::check((), found)?;
    parts
        .map(make)
        .ok_or_else(|| ConfigError::new("provider", "cannot be used"))
}

/// The refusal of a request that a provider has nothing for.
fn refuse_endpoint(provider: &str, endpoint: Endpoint) -> PrepareError {
    let known = match provider {
        "anthropic" => "/v1/chat/completions and /v1/models",
        _ => "/v1/chat/completions",
    };
    PrepareError::Refused(format!(
        "The provider {provider} does not serve {endpoint}, only {known}"
    ))
}

/// The target's own header fields. What is wrong with them is reported once, by the target's check.
fn extra_headers(target: &TargetConfig) -> Vec<(HeaderName, HeaderValue)> {
    proactions_forward::check_headers("headers", &target.headers).unwrap_or_default()
}

/// One call of a target: what a request asks, and what it takes to send it.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) stream: bool,
    /// A JSON object; empty where the endpoint takes none.
    pub(crate) body: &'a Bytes,
    /// For a credential that has to be fetched.
    pub(crate) client: &'a HttpClient,
    pub(crate) clock: &'a dyn Clock,
}

impl Call<'_> {
    /// The time of the answer, in seconds since 1970.
    fn created(&self) -> u64 {
        let now = self.clock.now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }
}

/// A request that is ready but for what every request gets.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    /// Without header fields and without a body.
    pub(crate) outgoing: Outgoing,
    /// The provider's header fields: the credential and the target's own. They are set last.
    pub(crate) headers: Cow<'a, [(HeaderName, HeaderValue)]>,
    /// A body in place of the client's.
    pub(crate) body: Option<Bytes>,
    /// What makes the answer OpenAI's. With it the client's own header fields stay here: they belong to
    /// another protocol.
    pub(crate) adapter: Option<Adapter>,
}

/// Why a request cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrepareError {
    /// There is no credential; with the details, for the log.
    Credential(String),
    /// The provider cannot do what the request asks; the client is told this.
    Refused(String),
    Url(UrlError),
}

impl From<UrlError> for PrepareError {
    fn from(error: UrlError) -> Self {
        Self::Url(error)
    }
}

/// Where a target's requests go.
#[derive(Clone, Debug)]
pub(crate) enum Upstream {
    Anthropic(anthropic::Anthropic),
    Azure(azure::Azure),
    Bedrock(Box<bedrock::Bedrock>),
    Compatible(compatible::Compatible),
    Custom(custom::Custom),
    Echo,
    Vertex(Box<vertex::Vertex>),
}

impl Upstream {
    /// The upstream of a target that was checked.
    pub(crate) fn new(provider: Provider, target: &TargetConfig) -> Result<Self, ConfigError> {
        match provider {
            Provider::Anthropic => anthropic::Anthropic::new(target).map(Self::Anthropic),
            Provider::AzureOpenAi => azure::Azure::new(target).map(Self::Azure),
            Provider::Bedrock => {
                bedrock::Bedrock::new(target).map(|bedrock| Self::Bedrock(Box::new(bedrock)))
            }
            Provider::Compatible(row) => {
                compatible::Compatible::new(row, target).map(Self::Compatible)
            }
            Provider::Custom => custom::Custom::new(target).map(Self::Custom),
            Provider::Echo => Ok(Self::Echo),
            Provider::VertexAi => {
                vertex::Vertex::new(target).map(|vertex| Self::Vertex(Box::new(vertex)))
            }
        }
    }

    /// The request to send; `None` where the program answers by itself.
    pub(crate) async fn prepare(
        &self,
        call: Call<'_>,
    ) -> Option<Result<Prepared<'_>, PrepareError>> {
        let endpoint = call.endpoint;
        let (outgoing, headers) = match self {
            Self::Echo => return None,
            Self::Anthropic(anthropic) => return Some(anthropic.prepare(&call)),
            Self::Bedrock(bedrock) => return Some(bedrock.prepare(&call)),
            // Boxed, for it may fetch a credential, and others should not make room for that.
            Self::Vertex(vertex) => return Some(Box::pin(vertex.prepare(&call)).await),
            Self::Azure(azure) => (azure.outgoing(endpoint), &azure.headers),
            Self::Compatible(compatible) => {
                (outgoing(&compatible.urls, endpoint), &compatible.headers)
            }
            Self::Custom(custom) => (outgoing(&custom.urls, endpoint), &custom.headers),
        };
        Some(match outgoing {
            Ok(outgoing) => Ok(Prepared {
                outgoing,
                headers: Cow::Borrowed(headers),
                body: None,
                adapter: None,
            }),
            Err(error) => Err(error.into()),
        })
    }
}

/// The URL of each endpoint, or what is wrong with it.
type Urls = PerEndpoint<Result<JoinedUrl, UrlError>>;

fn outgoing(urls: &Urls, endpoint: Endpoint) -> Result<Outgoing, UrlError> {
    match urls.get(endpoint) {
        Some(Ok(url)) => Ok(Outgoing::to_joined(endpoint.method(), url)),
        Some(Err(error)) => Err(*error),
        None => Err(UrlError::Path),
    }
}

#[cfg(test)]
mod tests;
