//! Every provider that speaks OpenAI's protocol: one row each.

use http::{HeaderName, HeaderValue};
use proactions_edge::ConfigError;
use proactions_forward::BaseUrl;

use super::{Urls, bearer, check_header_text, check_word, require};
use crate::TargetConfig;

/// Whether a provider wants a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// It may be left out.
    Optional,
    /// `Authorization: Bearer`.
    Required,
}

/// A provider at a public address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// What stands before `/chat/completions`. `{account}` becomes the account's name.
    pub(crate) base: &'static str,
    pub(crate) key: Key,
}

impl Row {
    /// Whether its address holds the name of an account.
    pub(crate) fn wants_account(&self) -> bool {
        self.base.contains("{account}")
    }
}

const fn row(name: &'static str, base: &'static str) -> Row {
    Row {
        name,
        base,
        key: Key::Required,
    }
}

pub(crate) static ROWS: [Row; 31] = [
    row("ai21", "https://api.ai21.com/studio/v1"),
    row("cerebras", "https://api.cerebras.ai/v1"),
    row("cohere", "https://api.cohere.ai/compatibility/v1"),
    row(
        "dashscope",
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    ),
    row("deepinfra", "https://api.deepinfra.com/v1/openai"),
    row("deepseek", "https://api.deepseek.com/v1"),
    row("fireworks-ai", "https://api.fireworks.ai/inference/v1"),
    row("github", "https://models.github.ai/inference"),
    row(
        "google",
        "https://generativelanguage.googleapis.com/v1beta/openai",
    ),
    row("groq", "https://api.groq.com/openai/v1"),
    row("huggingface", "https://router.huggingface.co/v1"),
    row("hyperbolic", "https://api.hyperbolic.xyz/v1"),
    row("inference-net", "https://api.inference.net/v1"),
    row("jina", "https://api.jina.ai/v1"),
    row("lambda", "https://api.lambda.ai/v1"),
    row("mistral-ai", "https://api.mistral.ai/v1"),
    row("moonshot", "https://api.moonshot.ai/v1"),
    row("nebius", "https://api.studio.nebius.com/v1"),
    row("novita-ai", "https://api.novita.ai/v3/openai"),
    Row {
        name: "ollama",
        base: "http://127.0.0.1:11434/v1",
        key: Key::Optional,
    },
    row("openai", "https://api.openai.com/v1"),
    row("openrouter", "https://openrouter.ai/api/v1"),
    row("perplexity-ai", "https://api.perplexity.ai"),
    row("sambanova", "https://api.sambanova.ai/v1"),
    row("siliconflow", "https://api.siliconflow.cn/v1"),
    row("together-ai", "https://api.together.xyz/v1"),
    row("upstage", "https://api.upstage.ai/v1"),
    row("voyage", "https://api.voyageai.com/v1"),
    row(
        "workers-ai",
        "https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1",
    ),
    row("x-ai", "https://api.x.ai/v1"),
    row("zhipu", "https://open.bigmodel.cn/api/paas/v4"),
];

/// A target at one of them.
#[derive(Clone, Debug)]
pub(crate) struct Compatible {
    pub(crate) urls: Urls,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Compatible {
    pub(crate) fn new(row: &Row, target: &TargetConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let mut headers = Vec::new();
        match &target.api_key {
            Some(key) => match bearer(key) {
                Ok(header) => headers.push(header),
                Err(error) => found.push(error),
            },
            None if row.key == Key::Required && !brings_key(target) => {
                found.push(ConfigError::new("apiKey", "is required"));
            }
            None => {}
        }
        for (key, name, value) in [
            (
                "openaiOrganization",
                "openai-organization",
                &target.openai_organization,
            ),
            ("openaiProject", "openai-project", &target.openai_project),
        ] {
            found.extend(check_header_text(key, value.as_deref()));
            if let Some(value) = value.as_deref().and_then(|v| HeaderValue::from_str(v).ok()) {
                headers.push((HeaderName::from_static(name), value));
            }
        }
        headers.extend(super::extra_headers(target));
        let base = match &target.endpoint {
            Some(endpoint) => Some(endpoint.as_str().to_owned()),
            None if row.wants_account() => {
                let account = target.workers_ai_account_id.as_deref();
                let key = "workersAiAccountId";
                found.extend(require(key, account).or_else(|| check_word(key, account)));
                account.map(|account| row.base.replace("{account}", account))
            }
            None => Some(row.base.to_owned()),
        };
        let base = base.and_then(|base| match BaseUrl::parse(&base) {
            Ok(base) => Some(base),
            Err(error) => {
                if target.endpoint.is_some() {
                    found.push(ConfigError::new("endpoint", error.to_string()));
                }
                None
            }
        });
        match (ConfigError::check((), found), base) {
            (Ok(()), Some(base)) => Ok(Self {
                urls: Urls::new(|endpoint| base.joined(endpoint.tail(), None)),
                headers,
            }),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(ConfigError::new("endpoint", "is required")),
        }
    }
}

/// Whether the target's own header fields carry its credential.
fn brings_key(target: &TargetConfig) -> bool {
    target.headers.keys().any(|name| {
        ["authorization", "api-key", "x-api-key"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    })
}
