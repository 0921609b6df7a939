//! Azure OpenAI: the deployment stands in the path, the key in `api-key`.

use http::{HeaderName, HeaderValue};
use proactions_edge::{ConfigError, ExposeSecret};
use proactions_forward::{BaseUrl, Outgoing, UrlError};

use super::{check_label, check_word, require_key, sensitive};
use crate::{Endpoint, TargetConfig};

/// The newest version that Azure calls generally available for the paths below.
const DEFAULT_API_VERSION: &str = "2024-10-21";

/// A target at Azure OpenAI.
#[derive(Clone, Debug)]
pub(crate) struct Azure {
    /// `https://{resource}.openai.azure.com`
    base: BaseUrl,
    /// Without one, the request's `model` names it.
    deployment: Option<String>,
    /// `api-version=…`
    query: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Azure {
    pub(crate) fn new(target: &TargetConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let resource = target.azure_resource_name.as_deref();
        let region = target.azure_region.as_deref();
        found.extend(check_label("azureResourceName", resource));
        found.extend(check_label("azureRegion", region));
        let base = match (&target.endpoint, resource, region) {
            (Some(endpoint), _, _) => endpoint.as_str().trim_end_matches('/').to_owned(),
            (None, Some(_), Some(_)) => {
                found.push(ConfigError::new(
                    "azureRegion",
                    "stands instead of azureResourceName: set one of the two",
                ));
                String::new()
            }
            (None, Some(resource), None) => format!("https://{resource}.openai.azure.com"),
            (None, None, Some(region)) => {
                format!("https://{region}.api.cognitive.microsoft.com")
            }
            (None, None, None) => {
                found.push(ConfigError::new(
                    "azureResourceName",
                    "is required (or azureRegion, or endpoint)",
                ));
                String::new()
            }
        };
        let base = BaseUrl::parse(&base).map_err(|error| {
            if target.endpoint.is_some() {
                found.push(ConfigError::new("endpoint", error.to_string()));
            }
        });

        let key = "azureDeploymentId";
        let deployment = target.azure_deployment_id.as_deref();
        found.extend(check_word(key, deployment));
        let version = target
            .azure_api_version
            .as_deref()
            .unwrap_or(DEFAULT_API_VERSION);
        found.extend(check_word("azureApiVersion", Some(version)));

        let mut headers = Vec::new();
        found.extend(require_key(target));
        if let Some(key) = &target.api_key {
            match sensitive(HeaderName::from_static("api-key"), key.expose_secret()) {
                Ok(header) => headers.push(header),
                Err(error) => found.push(error),
            }
        }
        headers.extend(super::extra_headers(target));

        match (ConfigError::check((), found), base) {
            (Ok(()), Ok(base)) => Ok(Self {
                base,
                deployment: deployment.map(str::to_owned),
                query: format!("api-version={version}"),
                headers,
            }),
            (Err(error), _) => Err(error),
            (Ok(()), Err(())) => Err(ConfigError::new("azureResourceName", "is required")),
        }
    }

    pub(super) fn outgoing(&self, endpoint: Endpoint) -> Result<Outgoing, UrlError> {
        let (tail, query) = match (endpoint, &self.deployment) {
            (Endpoint::Models, _) => ("/openai/models".to_owned(), Some(self.query.as_str())),
            // Azure's v1 API knows no deployments in the path: the request's `model` names one. It takes no version.
            (Endpoint::Responses, _) | (_, None) => {
                (format!("/openai/v1{}", endpoint.tail()), None)
            }
            (_, Some(deployment)) => (
                format!("/openai/deployments/{deployment}{}", endpoint.tail()),
                Some(self.query.as_str()),
            ),
        };
        Outgoing::new(endpoint.method(), &self.base, &tail, query)
    }
}
