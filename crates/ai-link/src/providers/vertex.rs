//! Google's Vertex AI: its OpenAI-compatible address, and Anthropic's models in their own words.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use proactions_edge::ConfigError;
use proactions_forward::{BaseUrl, Outgoing};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::anthropic::{self, Messages};
use super::{
    Call, PrepareError, Prepared, bearer, check_header_text, check_label, check_word,
    extra_headers, refuse_endpoint, require,
};
use crate::gcp_token::ServiceAccount;
use crate::translate::{Adapter, Chat};
use crate::{Endpoint, TargetConfig};

/// Stands in the body in place of the header that Anthropic's own address wants.
const ANTHROPIC_VERSION: &str = "vertex-2023-10-16";

/// How long the name of a model may be, in characters.
const MAX_MODEL: usize = 128;

/// A target at Vertex AI.
#[derive(Clone, Debug)]
pub(crate) struct Vertex {
    base: BaseUrl,
    /// `/v1/projects/{project}/locations/{region}`
    location: String,
    credential: Credential,
    anthropic_version: String,
    /// `anthropic-beta`, for Anthropic's models.
    anthropic_beta: Option<HeaderValue>,
    extra: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Debug)]
enum Credential {
    Account(ServiceAccount),
    /// An access token that somebody else renews.
    Token(HeaderValue),
}

impl Vertex {
    pub(crate) fn new(target: &TargetConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let project = target.vertex_project_id.as_deref();
        let region = target.vertex_region.as_deref();
        let key = "vertexProjectId";
        found.extend(require(key, project).or_else(|| check_word(key, project)));
        let key = "vertexRegion";
        found.extend(require(key, region).or_else(|| check_label(key, region)));
        let version = target.anthropic_version.as_deref();
        found.extend(check_word("anthropicVersion", version));
        let beta = target.anthropic_beta.as_deref();
        found.extend(check_header_text("anthropicBeta", beta));
        let key = "vertexServiceAccountJson";
        let credential = match (&target.vertex_service_account_json, &target.api_key) {
            (Some(json), _) => ServiceAccount::parse(json)
                .map(Credential::Account)
                .map_err(|message| found.push(ConfigError::new(key, message))),
            (None, Some(token)) => bearer(token)
                .map(|(_, value)| Credential::Token(value))
                .map_err(|error| found.push(error)),
            (None, None) => {
                found.push(ConfigError::new(key, "is required"));
                Err(())
            }
        };
        let (project, region) = (project.unwrap_or_default(), region.unwrap_or_default());
        let default = match region {
            "global" => "https://aiplatform.googleapis.com".to_owned(),
            // Not a place but several, which have an address of their own.
            "eu" | "us" => format!("https://aiplatform.{region}.rep.googleapis.com"),
            region => format!("https://{region}-aiplatform.googleapis.com"),
        };
        let base = match (&target.endpoint, found.is_empty()) {
            (None, false) => None,
            _ => super::base(target, &default, &mut found),
        };
        let extra = extra_headers(target);
        super::finish(base.zip(credential.ok()), found, |(base, credential)| {
            Self {
                base,
                location: format!("/v1/projects/{project}/locations/{region}"),
                credential,
                anthropic_version: version.unwrap_or(ANTHROPIC_VERSION).to_owned(),
                anthropic_beta: beta.and_then(|beta| HeaderValue::from_str(beta).ok()),
                extra,
            }
        })
    }

    pub(super) async fn prepare(&self, call: &Call<'_>) -> Result<Prepared<'static>, PrepareError> {
        if call.endpoint != Endpoint::ChatCompletions {
            return Err(refuse_endpoint("vertex-ai", call.endpoint));
        }
        let named = Named::parse(call.body)
            .ok_or_else(|| PrepareError::Refused("The request needs `model`".to_owned()))?;
        let mut prepared = match named.of_anthropic() {
            Some(model) => self.anthropic(call, model)?,
            None => {
                let tail = format!("{}/endpoints/openapi/chat/completions", self.location);
                Prepared {
                    outgoing: Outgoing::new(call.endpoint.method(), &self.base, &tail, None)?,
                    headers: Vec::with_capacity(self.extra.len() + 1).into(),
                    body: named.with_publisher(call.body),
                    adapter: None,
                }
            }
        };
        // Last of all, so that a request that is refused asks for no token.
        let authorization = match &self.credential {
            Credential::Account(account) => account
                .authorization(call.client, call.clock)
                .await
                .map_err(PrepareError::Credential)?,
            Credential::Token(token) => token.clone(),
        };
        let headers = prepared.headers.to_mut();
        headers.push((AUTHORIZATION, authorization));
        headers.extend_from_slice(&self.extra);
        Ok(prepared)
    }

    fn anthropic(&self, call: &Call<'_>, model: &str) -> Result<Prepared<'static>, PrepareError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._@".contains(&b);
        if model.is_empty()
            || model.len() > MAX_MODEL
            || !model.bytes().all(plain)
            || model.bytes().all(|b| b == b'.')
        {
            return Err(PrepareError::Refused(
                "`model` is not the name of a model".to_owned(),
            ));
        }
        let chat = Chat::parse(call.body).map_err(PrepareError::Refused)?;
        let verb = if call.stream {
            "streamRawPredict"
        } else {
            "rawPredict"
        };
        let tail = format!(
            "{}/publishers/anthropic/models/{model}:{verb}",
            self.location
        );
        let mut request = anthropic::request(&chat, &self.anthropic_version);
        let version = Value::from(self.anthropic_version.as_str());
        request.insert("anthropic_version".to_owned(), version);
        if call.stream {
            request.insert("stream".to_owned(), Value::Bool(true));
        }
        let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        if let Some(beta) = &self.anthropic_beta {
            headers.push((HeaderName::from_static("anthropic-beta"), beta.clone()));
        }
        Ok(Prepared {
            outgoing: Outgoing::new(call.endpoint.method(), &self.base, &tail, None)?,
            headers: headers.into(),
            body: Some(anthropic::body(&request)),
            adapter: Some(Adapter::new(Messages::new(&chat, call), call.stream)),
        })
    }
}

/// The model that a request names, and where in the body its name stands.
struct Named {
    model: String,
    at: usize,
    len: usize,
}

impl Named {
    fn parse(body: &Bytes) -> Option<Self> {
        #[derive(Deserialize)]
        struct Request<'a> {
            #[serde(borrow)]
            model: &'a RawValue,
        }

        let request: Request<'_> = serde_json::from_slice(body).ok()?;
        let written = request.model.get();
        let model: String = serde_json::from_str(written).ok()?;
        let at = (written.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
        (!model.is_empty()).then_some(Self {
            model,
            at,
            len: written.len(),
        })
    }

    /// The name at Anthropic of a model of theirs.
    fn of_anthropic(&self) -> Option<&str> {
        let model = self.model.as_str();
        let stripped = ["anthropic/", "anthropic."]
            .iter()
            .find_map(|prefix| model.strip_prefix(prefix));
        stripped.or_else(|| model.starts_with("claude").then_some(model))
    }

    /// The body with `google/` before a model without a publisher; nothing else of it is written anew.
    fn with_publisher(&self, body: &Bytes) -> Option<Bytes> {
        if self.model.contains('/') {
            return None;
        }
        let name = Value::from(format!("google/{}", self.model)).to_string();
        let (before, rest) = body.split_at_checked(self.at)?;
        let after = rest.get(self.len..)?;
        Some(Bytes::from([before, name.as_bytes(), after].concat()))
    }
}

#[cfg(test)]
#[path = "vertex_tests.rs"]
mod tests;
