use std::collections::BTreeMap;
use std::time::Duration;

use proactions_edge::{ConfigError, ConfigProblem, SecretString};
use proactions_forward::{BaseUrl, ConfigUrl, check_headers, check_id, check_millis};
use serde_json::{Map, Value};

use crate::providers::{self, Provider};

/// How deep strategies may nest.
const MAX_DEPTH: usize = 4;

/// How many targets one strategy may choose from.
const MAX_CHOICES: usize = 32;

/// One entry of `targets`: a provider with its key, under the name that `x-target` calls.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct TargetConfig {
    /// The name in `x-target`: 1 to 64 of `A-Z a-z 0-9 . _ -`. Required.
    pub id: String,
    /// The provider's name. Either this or [`Self::config`] is required.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub provider: Option<String>,
    /// The provider's key.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secret"))]
    pub api_key: Option<SecretString>,
    /// Members that are added to a request's JSON body where the request does not have them.
    pub options: Map<String, Value>,
    /// How long the provider may take to begin its answer, and be silent within it, in milliseconds;
    /// the client's own time-out unless set.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::number"))]
    pub request_timeout: Option<u64>,
    /// Header fields that every request gets. The values are secrets.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secrets"))]
    pub headers: BTreeMap<String, SecretString>,
    /// The base URL, instead of the provider's public one. For `custom` it may hold `{path}`, which becomes
    /// the rest of the request's path (`chat/completions`).
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::url"))]
    pub endpoint: Option<ConfigUrl>,
    /// `OpenAI-Organization`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub openai_organization: Option<String>,
    /// `OpenAI-Project`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub openai_project: Option<String>,
    /// The name of the Azure OpenAI resource (`https://{name}.openai.azure.com`).
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub azure_resource_name: Option<String>,
    /// The Azure region, instead of a resource (`https://{region}.api.cognitive.microsoft.com`).
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub azure_region: Option<String>,
    /// The Azure deployment. Without it the request's `model` names one (Azure's v1 API).
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub azure_deployment_id: Option<String>,
    /// The version of Azure's API; `2024-10-21` unless set.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub azure_api_version: Option<String>,
    /// The Cloudflare account. Required for `workers-ai` without an `endpoint`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub workers_ai_account_id: Option<String>,
    /// `anthropic-version`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub anthropic_version: Option<String>,
    /// `anthropic-beta`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub anthropic_beta: Option<String>,
    /// The AWS region.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub aws_region: Option<String>,
    /// The AWS access key.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secret"))]
    pub aws_access_key_id: Option<SecretString>,
    /// The AWS secret key.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secret"))]
    pub aws_secret_access_key: Option<SecretString>,
    /// The AWS session token, with temporary keys.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secret"))]
    pub aws_session_token: Option<SecretString>,
    /// The Google Cloud project.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub vertex_project_id: Option<String>,
    /// The Google Cloud region.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub vertex_region: Option<String>,
    /// The service account's key file, as JSON text or as a map.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::json_secret"))]
    pub vertex_service_account_json: Option<SecretString>,
    /// When the provider counts as down, and for how long.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::breaker"))]
    pub breaker: Option<BreakerConfig>,
    /// Several providers under one name, instead of [`Self::provider`]. [`Self::options`], [`Self::headers`],
    /// [`Self::request_timeout`] and [`Self::breaker`] then count for each of them.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::strategy"))]
    pub config: Option<StrategyConfig>,
}

impl TargetConfig {
    /// A target `id` at `provider`.
    #[must_use]
    pub fn new(id: impl Into<String>, provider: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            provider: Some(provider.into()),
            ..Self::default()
        }
    }

    /// Whether the entry can be used, by this version or by a later one.
    ///
    /// # Errors
    /// Everything that is wrong with it. No message shows a secret.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut found = Vec::new();
        found.extend(check_id("id", &self.id));
        found.extend(check_millis("requestTimeout", self.request_timeout));
        if let Err(error) = check_headers("headers", &self.headers) {
            found.push(error);
        }
        found.extend(check_breaker(self.breaker.as_ref()));
        match (&self.provider, &self.config) {
            (None, None) => found.push(ConfigError::new("provider", "is required")),
            (Some(_), Some(_)) => found.push(ConfigError::new(
                "config",
                "stands instead of `provider`: set one of the two",
            )),
            (None, Some(config)) => {
                found.extend(self.belongs_below());
                if let Err(error) = config.check(0) {
                    found.push(error.within("config"));
                }
            }
            (Some(name), None) => match Provider::from_name(name) {
                Some(provider) => {
                    if let Err(error) = providers::check(provider, self) {
                        found.push(error);
                    }
                }
                None => found.push(unknown_provider("provider", name)),
            },
        }
        ConfigError::check((), found)
    }

    /// What says something about one provider, where there are several.
    fn belongs_below(&self) -> Option<ConfigError> {
        let fields = self.provider_fields();
        let found = fields.iter().filter(|field| field.is_set).map(|field| {
            let message = "belongs to one provider: move it into config.targets";
            ConfigError::new(field.key, message)
        });
        ConfigError::check((), found).err()
    }

    /// The keys that say something about one provider.
    fn provider_fields(&self) -> [ProviderField; 18] {
        let provider = self.provider.as_deref().and_then(Provider::from_name);
        let is = |wanted| provider == Some(wanted);
        let called = !is(Provider::Echo);
        let own_address = self.endpoint.is_none();
        let compatible = matches!(provider, Some(Provider::Compatible(_)));
        let azure = is(Provider::AzureOpenAi);
        let account = matches!(provider, Some(Provider::Compatible(row)) if row.wants_account());
        let claude = is(Provider::Anthropic) || is(Provider::VertexAi);
        let bedrock = is(Provider::Bedrock);
        let vertex = is(Provider::VertexAi);
        let keys = self.aws_access_key_id.is_some();
        let service_account = self.vertex_service_account_json.is_some();
        let field = |key, is_set, is_read| ProviderField {
            key,
            is_set,
            is_read,
        };
        [
            field(
                "apiKey",
                self.api_key.is_some(),
                called && !(bedrock && keys) && !(vertex && service_account),
            ),
            field("endpoint", self.endpoint.is_some(), called),
            field(
                "openaiOrganization",
                self.openai_organization.is_some(),
                compatible,
            ),
            field("openaiProject", self.openai_project.is_some(), compatible),
            field(
                "azureResourceName",
                self.azure_resource_name.is_some(),
                azure && own_address,
            ),
            field(
                "azureRegion",
                self.azure_region.is_some(),
                azure && own_address,
            ),
            field(
                "azureDeploymentId",
                self.azure_deployment_id.is_some(),
                azure,
            ),
            field("azureApiVersion", self.azure_api_version.is_some(), azure),
            field(
                "workersAiAccountId",
                self.workers_ai_account_id.is_some(),
                account && own_address,
            ),
            field("anthropicVersion", self.anthropic_version.is_some(), claude),
            field("anthropicBeta", self.anthropic_beta.is_some(), claude),
            field("awsRegion", self.aws_region.is_some(), bedrock),
            field("awsAccessKeyId", keys, bedrock),
            field(
                "awsSecretAccessKey",
                self.aws_secret_access_key.is_some(),
                bedrock,
            ),
            field(
                "awsSessionToken",
                self.aws_session_token.is_some(),
                bedrock && keys,
            ),
            field("vertexProjectId", self.vertex_project_id.is_some(), vertex),
            field("vertexRegion", self.vertex_region.is_some(), vertex),
            field("vertexServiceAccountJson", service_account, vertex),
        ]
    }

    /// The keys that are set and that the provider does not read.
    fn without_effect(&self) -> Vec<ConfigProblem> {
        let provider = self.provider.as_deref().and_then(Provider::from_name);
        let Some(provider) = provider else {
            return Vec::new();
        };
        let beside = |key: &str| match (key, provider) {
            ("apiKey", Provider::Bedrock) => Some("beside awsAccessKeyId"),
            ("apiKey", Provider::VertexAi) => Some("beside vertexServiceAccountJson"),
            ("awsSessionToken", Provider::Bedrock) => Some("without awsAccessKeyId"),
            ("azureResourceName" | "azureRegion", Provider::AzureOpenAi) => Some("beside endpoint"),
            ("workersAiAccountId", Provider::Compatible(row)) if row.wants_account() => {
                Some("beside endpoint")
            }
            _ => None,
        };
        let fields = self.provider_fields();
        let idle = fields.iter().filter(|field| field.is_set && !field.is_read);
        idle.map(|field| {
            let message = match beside(field.key) {
                Some(what) => format!("has no effect {what}"),
                None => format!("has no effect: the provider {provider} does not read it"),
            };
            ConfigProblem::new(field.key, message)
        })
        .collect()
    }

    /// Settings that are legal and dangerous, or without effect.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let mut warnings = self.without_effect();
        if let Some(config) = &self.config {
            let mode = &config.strategy;
            warn_of_mode(mode, &config.targets, "config", &mut warnings);
            warn_below(&config.targets, "config.targets", &mut warnings);
        }
        let plain = self.endpoint.as_ref().is_some_and(|endpoint| {
            BaseUrl::parse_with_query(&endpoint.as_str().replace("{path}", "x"))
                .is_ok_and(|base| !base.is_https() && !is_loopback(base.authority().host()))
        });
        if plain && (self.api_key.is_some() || !self.headers.is_empty()) {
            warnings.push(ConfigProblem::new(
                "endpoint",
                "the key is sent without encryption: use https, or keep this network to yourself",
            ));
        }
        warnings
    }

    /// [`Self::request_timeout`] as a duration.
    #[must_use]
    pub fn request_timeout(&self) -> Option<Duration> {
        self.request_timeout.map(Duration::from_millis)
    }
}

/// A key that says something about one provider.
struct ProviderField {
    key: &'static str,
    is_set: bool,
    /// Whether the target's provider reads it, next to what else is set.
    is_read: bool,
}

/// Several providers under one name, and how one of them is chosen.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct StrategyConfig {
    /// How one is chosen.
    pub strategy: ModeConfig,
    /// Whether a failed call is repeated.
    pub retry: RetryConfig,
    /// Those to choose from. Required.
    pub targets: Vec<NestedTargetConfig>,
}

impl StrategyConfig {
    fn check(&self, depth: usize) -> Result<(), ConfigError> {
        let mut found = Vec::new();
        if depth >= MAX_DEPTH {
            return Err(ConfigError::new(
                "",
                "nests deeper than 4 strategies: flatten it",
            ));
        }
        found.extend(check_codes(
            "strategy.on_status_codes",
            &self.strategy.on_status_codes,
        ));
        found.extend(check_codes(
            "retry.on_status_codes",
            &self.retry.on_status_codes,
        ));
        if self.retry.attempts.is_some_and(|attempts| attempts > 5) {
            found.push(ConfigError::new(
                "retry.attempts",
                "expected between 0 and 5",
            ));
        }
        if self.targets.is_empty() {
            found.push(ConfigError::new("targets", "needs at least one target"));
        }
        if self.targets.len() > MAX_CHOICES {
            let message =
                "expected at most 32 targets: put some of them into a strategy of their own";
            found.push(ConfigError::new("targets", message));
        }
        let mut weighs = false;
        for (index, target) in self.targets.iter().enumerate() {
            weighs |= target.weight.is_none_or(|weight| weight > 0.0);
            if let Err(error) = target.check(depth) {
                found.push(error.within(&format!("targets[{index}]")));
            }
        }
        if !self.targets.is_empty() && !weighs {
            found.push(ConfigError::new(
                "targets",
                "every weight is 0: no target could be chosen",
            ));
        }
        ConfigError::check((), found)
    }
}

/// When a provider counts as down. Then it is not called until the cool-down is over and one call, the probe,
/// has succeeded: the next target of a strategy is, or clients get 503 with `Retry-After` at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct BreakerConfig {
    /// After how many calls in a row without an answer, or with a 5xx; 5 unless set, 0 for never.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::number"))]
    pub failures: Option<u64>,
    /// How long a row may last, in milliseconds; 60000 unless set.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::number"))]
    pub window: Option<u64>,
    /// How long it is left alone then, in milliseconds; 10000 unless set.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::number"))]
    pub cooldown: Option<u64>,
}

/// How a strategy chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct ModeConfig {
    /// The way of choosing.
    pub mode: Mode,
    /// The statuses after which the next target is tried; 429 and 5xx unless set.
    pub on_status_codes: Vec<u16>,
}

/// The ways of choosing a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Mode {
    /// The first that answers, in order.
    Fallback,
    /// Each in turn, as often as its weight says.
    Loadbalance,
    /// The first.
    #[default]
    Single,
}

/// Whether a failed call is repeated, at the same provider. The strategies within inherit it unless they have
/// their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct RetryConfig {
    /// How often, at most 5; never unless set.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::number"))]
    pub attempts: Option<u64>,
    /// After which statuses; 429, 500, 502, 503 and 504 unless set.
    pub on_status_codes: Vec<u16>,
}

/// One provider of a strategy, or a strategy in its turn.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct NestedTargetConfig {
    /// The provider's name.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub provider: Option<String>,
    /// The provider's key.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secret"))]
    pub api_key: Option<SecretString>,
    /// The share of a load-balanced target, relative to the others'; 1 unless set.
    pub weight: Option<f64>,
    /// Members of a request's JSON body that are replaced, whatever the request says.
    pub override_params: Map<String, Value>,
    /// As [`TargetConfig::request_timeout`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::number"))]
    pub request_timeout: Option<u64>,
    /// As [`TargetConfig::breaker`]; of a strategy, for the targets in it.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::breaker"))]
    pub breaker: Option<BreakerConfig>,
    /// As [`TargetConfig::headers`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secrets"))]
    pub headers: BTreeMap<String, SecretString>,
    /// As [`TargetConfig::endpoint`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::url"))]
    pub endpoint: Option<ConfigUrl>,
    /// As [`TargetConfig::openai_organization`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub openai_organization: Option<String>,
    /// As [`TargetConfig::openai_project`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub openai_project: Option<String>,
    /// As [`TargetConfig::azure_resource_name`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub azure_resource_name: Option<String>,
    /// As [`TargetConfig::azure_region`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub azure_region: Option<String>,
    /// As [`TargetConfig::azure_deployment_id`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub azure_deployment_id: Option<String>,
    /// As [`TargetConfig::azure_api_version`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub azure_api_version: Option<String>,
    /// As [`TargetConfig::workers_ai_account_id`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub workers_ai_account_id: Option<String>,
    /// As [`TargetConfig::anthropic_version`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub anthropic_version: Option<String>,
    /// As [`TargetConfig::anthropic_beta`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub anthropic_beta: Option<String>,
    /// As [`TargetConfig::aws_region`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub aws_region: Option<String>,
    /// As [`TargetConfig::aws_access_key_id`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secret"))]
    pub aws_access_key_id: Option<SecretString>,
    /// As [`TargetConfig::aws_secret_access_key`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secret"))]
    pub aws_secret_access_key: Option<SecretString>,
    /// As [`TargetConfig::aws_session_token`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::secret"))]
    pub aws_session_token: Option<SecretString>,
    /// As [`TargetConfig::vertex_project_id`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub vertex_project_id: Option<String>,
    /// As [`TargetConfig::vertex_region`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::text"))]
    pub vertex_region: Option<String>,
    /// As [`TargetConfig::vertex_service_account_json`].
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::json_secret"))]
    pub vertex_service_account_json: Option<SecretString>,
    /// A strategy in the place of a provider.
    pub strategy: Option<ModeConfig>,
    /// The retries of that strategy.
    pub retry: Option<RetryConfig>,
    /// The targets of that strategy.
    pub targets: Vec<Self>,
}

impl NestedTargetConfig {
    fn check(&self, depth: usize) -> Result<(), ConfigError> {
        let mut found = Vec::new();
        found.extend(check_millis("request_timeout", self.request_timeout));
        if let Err(error) = check_headers("headers", &self.headers) {
            found.push(error);
        }
        found.extend(check_breaker(self.breaker.as_ref()));
        if self
            .weight
            .is_some_and(|weight| !weight.is_finite() || weight < 0.0)
        {
            found.push(ConfigError::new(
                "weight",
                "expected a number that is not negative",
            ));
        }
        let nests = self.strategy.is_some() || self.retry.is_some() || !self.targets.is_empty();
        match &self.provider {
            Some(_) if nests => found.push(ConfigError::new(
                "targets",
                "stands instead of `provider`: set one of the two",
            )),
            Some(name) => match Provider::from_name(name) {
                Some(provider) => {
                    if let Err(error) = providers::check(provider, &self.as_target()) {
                        found.push(in_snake_case(error));
                    }
                }
                None => found.push(unknown_provider("provider", name)),
            },
            None if nests => {
                let fields = self.as_target().provider_fields();
                let fields = fields.iter().filter(|field| field.is_set);
                let more = [
                    ("headers", !self.headers.is_empty()),
                    ("override_params", !self.override_params.is_empty()),
                ];
                let more = more.into_iter().filter(|(_, is_set)| *is_set);
                let keys = fields.map(|field| snake_case(field.key));
                for key in keys.chain(more.map(|(key, _)| key.to_owned())) {
                    let message = "belongs to one provider: move it into the targets below";
                    found.push(ConfigError::new(key, message));
                }
                let nested = StrategyConfig {
                    strategy: self.strategy.clone().unwrap_or_default(),
                    retry: self.retry.clone().unwrap_or_default(),
                    targets: self.targets.clone(),
                };
                found.extend(nested.check(depth + 1).err());
            }
            None => found.push(ConfigError::new("provider", "is required")),
        }
        ConfigError::check((), found)
    }

    /// The same provider as a target of its own.
    pub(crate) fn as_target(&self) -> TargetConfig {
        TargetConfig {
            id: String::new(),
            provider: self.provider.clone(),
            api_key: self.api_key.clone(),
            options: Map::new(),
            request_timeout: self.request_timeout,
            headers: self.headers.clone(),
            endpoint: self.endpoint.clone(),
            openai_organization: self.openai_organization.clone(),
            openai_project: self.openai_project.clone(),
            azure_resource_name: self.azure_resource_name.clone(),
            azure_region: self.azure_region.clone(),
            azure_deployment_id: self.azure_deployment_id.clone(),
            azure_api_version: self.azure_api_version.clone(),
            workers_ai_account_id: self.workers_ai_account_id.clone(),
            anthropic_version: self.anthropic_version.clone(),
            anthropic_beta: self.anthropic_beta.clone(),
            aws_region: self.aws_region.clone(),
            aws_access_key_id: self.aws_access_key_id.clone(),
            aws_secret_access_key: self.aws_secret_access_key.clone(),
            aws_session_token: self.aws_session_token.clone(),
            vertex_project_id: self.vertex_project_id.clone(),
            vertex_region: self.vertex_region.clone(),
            vertex_service_account_json: self.vertex_service_account_json.clone(),
            breaker: self.breaker.clone(),
            config: None,
        }
    }
}

/// Warns of what a strategy of this mode does not read.
fn warn_of_mode(
    mode: &ModeConfig,
    targets: &[NestedTargetConfig],
    at: &str,
    warnings: &mut Vec<ConfigProblem>,
) {
    if mode.mode != Mode::Fallback && !mode.on_status_codes.is_empty() {
        let key = format!("{at}.strategy.on_status_codes");
        let message = "has no effect: only the mode fallback tries another target after a status";
        warnings.push(ConfigProblem::new(key, message));
    }
    for (index, target) in targets.iter().enumerate() {
        if mode.mode != Mode::Loadbalance && target.weight.is_some() {
            let key = format!("{at}.targets[{index}].weight");
            let message = "has no effect: only the mode loadbalance weighs its targets";
            warnings.push(ConfigProblem::new(key, message));
        }
        if mode.mode == Mode::Single && index > 0 {
            let key = format!("{at}.targets[{index}]");
            let message = "has no effect: the mode single calls the first target only";
            warnings.push(ConfigProblem::new(key, message));
        }
    }
}

fn warn_below(targets: &[NestedTargetConfig], at: &str, warnings: &mut Vec<ConfigProblem>) {
    for (index, target) in targets.iter().enumerate() {
        let at = format!("{at}[{index}]");
        for problem in target.as_target().warnings() {
            let key = format!("{at}.{}", snake_case(&problem.key));
            warnings.push(ConfigProblem::new(key, problem.message));
        }
        let mode = target.strategy.clone().unwrap_or_default();
        warn_of_mode(&mode, &target.targets, &at, warnings);
        warn_below(&target.targets, &format!("{at}.targets"), warnings);
    }
}

/// Checks all targets of a file, and that no two have the same name.
///
/// # Errors
/// Everything that is wrong, with keys such as `[2].endpoint`.
pub fn check_targets(targets: &[TargetConfig]) -> Result<(), ConfigError> {
    let mut found = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let at = format!("[{index}]");
        if let Err(error) = target.check() {
            found.push(error.within(&at));
        }
        let same = |other: &TargetConfig| !other.id.is_empty() && other.id == target.id;
        if targets.iter().take(index).any(same) {
            found.push(ConfigError::new(
                format!("{at}.id"),
                "is the name of a target above: every target needs its own",
            ));
        }
    }
    ConfigError::check((), found)
}

pub(crate) fn unknown_provider(key: &str, name: &str) -> ConfigError {
    let near = Provider::names()
        .filter(|known| near(known, name))
        .collect::<Vec<_>>();
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    let message = if near.is_empty() {
        let all = Provider::names().collect::<Vec<_>>().join(", ");
        format!("`{shown}` is not a provider; there are {all}")
    } else {
        format!(
            "`{shown}` is not a provider; did you mean `{}`?",
            near.join("` or `")
        )
    };
    ConfigError::new(key, message)
}

/// Whether one name holds the other, less case and punctuation: `azure` and `azure-openai`, `OpenAI` and `openai`.
fn near(known: &str, name: &str) -> bool {
    let plain = |name: &str| {
        name.chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect::<String>()
    };
    let (known, name) = (plain(known), plain(name));
    name.len() >= 3 && (known.contains(&name) || name.contains(&known))
}

fn check_breaker(breaker: Option<&BreakerConfig>) -> Option<ConfigError> {
    let breaker = breaker?;
    let mut found = Vec::new();
    if breaker.failures.is_some_and(|failures| failures > 1000) {
        found.push(ConfigError::new("failures", "expected between 0 and 1000"));
    }
    found.extend(check_millis("window", breaker.window));
    found.extend(check_millis("cooldown", breaker.cooldown));
    let error = ConfigError::check((), found).err()?;
    Some(error.within("breaker"))
}

fn check_codes(key: &str, codes: &[u16]) -> Option<ConfigError> {
    codes
        .iter()
        .any(|code| !(400..=599).contains(code))
        .then(|| ConfigError::new(key, "expected statuses between 400 and 599"))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// The keys of nested targets are spelt `azure_resource_name`, not `azureResourceName`.
pub(crate) fn in_snake_case(error: ConfigError) -> ConfigError {
    let found = error
        .into_problems()
        .into_iter()
        .map(|problem| ConfigError::new(snake_case(&problem.key), problem.message));
    match ConfigError::check((), found) {
        Err(error) => error,
        Ok(()) => ConfigError::new("", "cannot be used"),
    }
}

#[cfg(feature = "config")]
mod read {
    pub(super) use proactions_forward::de::{number, secret, secrets, text, url};

    use proactions_edge::SecretString;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde_json::Value;

    use super::{BreakerConfig, StrategyConfig};

    /// Reads JSON text or a map as a secret; no message shows any of it.
    pub(super) fn json_secret<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SecretString>, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Some(SecretString::from(text))),
            Value::Object(map) => Ok(Some(SecretString::from(Value::Object(map).to_string()))),
            _ => Err(D::Error::custom(
                "expected the service account's key file, as JSON text or as a map",
            )),
        }
    }

    /// Reads a breaker; an empty `breaker:` is a mistake, not the absence of one.
    pub(super) fn breaker<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<BreakerConfig>, D::Error> {
        BreakerConfig::deserialize(deserializer).map(Some)
    }

    /// Reads a strategy; an empty `config:` is a mistake, not the absence of one.
    pub(super) fn strategy<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<StrategyConfig>, D::Error> {
        StrategyConfig::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
