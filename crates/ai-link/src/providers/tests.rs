use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::header::AUTHORIZATION;
use proactions_edge::SystemClock;
use proactions_forward::HttpClientConfig;

use super::*;

fn target(provider: &str) -> TargetConfig {
    TargetConfig {
        api_key: Some(SecretString::from("k-1")),
        azure_resource_name: Some("res".to_owned()),
        azure_deployment_id: Some("gpt-4.1".to_owned()),
        workers_ai_account_id: Some("acc".to_owned()),
        endpoint: (provider == "custom").then(|| "https://ai.example/api/{path}/run?v=2".into()),
        ..TargetConfig::new("t", provider)
    }
}

fn upstream(config: &TargetConfig) -> Result<Upstream, ConfigError> {
    let provider = Provider::from_name(config.provider.as_deref().unwrap()).unwrap();
    Upstream::new(provider, config)
}

fn prepared(upstream: &Upstream, endpoint: Endpoint) -> Prepared<'_> {
    let call = Call {
        endpoint,
        stream: false,
        body: &Bytes::from_static(b"{}"),
        client: &HttpClient::without_tls(&HttpClientConfig::default()),
        clock: &SystemClock::new(),
    };
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(upstream.prepare(call)).poll(&mut cx) {
        Poll::Ready(prepared) => prepared.unwrap().unwrap(),
        Poll::Pending => panic!("nothing is waited for"),
    }
}

fn url(upstream: &Upstream, endpoint: Endpoint) -> String {
    prepared(upstream, endpoint).outgoing.uri().to_string()
}

#[test]
fn without_a_deployment_the_model_names_it() {
    let mut config = target("azure-openai");
    config.azure_resource_name = None;
    config.azure_deployment_id = None;
    config.azure_region = Some("westeurope".to_owned());
    let upstream = upstream(&config).unwrap();
    for (endpoint, address) in [
        (
            Endpoint::ChatCompletions,
            "https://westeurope.api.cognitive.microsoft.com/openai/v1/chat/completions",
        ),
        (
            Endpoint::Models,
            "https://westeurope.api.cognitive.microsoft.com/openai/models?api-version=2024-10-21",
        ),
    ] {
        assert_eq!(url(&upstream, endpoint), address);
    }
}

#[test]
fn every_provider_is_called_at_its_own_address() {
    for (provider, chat) in [
        ("ai21", "https://api.ai21.com/studio/v1/chat/completions"),
        ("cerebras", "https://api.cerebras.ai/v1/chat/completions"),
        (
            "cohere",
            "https://api.cohere.ai/compatibility/v1/chat/completions",
        ),
        (
            "dashscope",
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions",
        ),
        (
            "deepinfra",
            "https://api.deepinfra.com/v1/openai/chat/completions",
        ),
        ("deepseek", "https://api.deepseek.com/v1/chat/completions"),
        (
            "fireworks-ai",
            "https://api.fireworks.ai/inference/v1/chat/completions",
        ),
        (
            "github",
            "https://models.github.ai/inference/chat/completions",
        ),
        (
            "google",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
        ("groq", "https://api.groq.com/openai/v1/chat/completions"),
        (
            "huggingface",
            "https://router.huggingface.co/v1/chat/completions",
        ),
        (
            "hyperbolic",
            "https://api.hyperbolic.xyz/v1/chat/completions",
        ),
        (
            "inference-net",
            "https://api.inference.net/v1/chat/completions",
        ),
        ("jina", "https://api.jina.ai/v1/chat/completions"),
        ("lambda", "https://api.lambda.ai/v1/chat/completions"),
        ("mistral-ai", "https://api.mistral.ai/v1/chat/completions"),
        ("moonshot", "https://api.moonshot.ai/v1/chat/completions"),
        (
            "nebius",
            "https://api.studio.nebius.com/v1/chat/completions",
        ),
        (
            "novita-ai",
            "https://api.novita.ai/v3/openai/chat/completions",
        ),
        ("ollama", "http://127.0.0.1:11434/v1/chat/completions"),
        ("openai", "https://api.openai.com/v1/chat/completions"),
        (
            "openrouter",
            "https://openrouter.ai/api/v1/chat/completions",
        ),
        (
            "perplexity-ai",
            "https://api.perplexity.ai/chat/completions",
        ),
        ("sambanova", "https://api.sambanova.ai/v1/chat/completions"),
        (
            "siliconflow",
            "https://api.siliconflow.cn/v1/chat/completions",
        ),
        (
            "together-ai",
            "https://api.together.xyz/v1/chat/completions",
        ),
        ("upstage", "https://api.upstage.ai/v1/chat/completions"),
        ("voyage", "https://api.voyageai.com/v1/chat/completions"),
        (
            "workers-ai",
            "https://api.cloudflare.com/client/v4/accounts/acc/ai/v1/chat/completions",
        ),
        ("x-ai", "https://api.x.ai/v1/chat/completions"),
        (
            "zhipu",
            "https://open.bigmodel.cn/api/paas/v4/chat/completions",
        ),
        (
            "azure-openai",
            "https://res.openai.azure.com/openai/deployments/gpt-4.1/chat/completions?api-version=2024-10-21",
        ),
        ("custom", "https://ai.example/api/chat/completions/run?v=2"),
    ] {
        let upstream = upstream(&target(provider)).unwrap();
        assert_eq!(
            url(&upstream, Endpoint::ChatCompletions),
            chat,
            "{provider}"
        );
        let headers = prepared(&upstream, Endpoint::ChatCompletions).headers;
        let (name, value) = &headers[0];
        if provider == "azure-openai" {
            assert_eq!((name.as_str(), value.as_bytes()), ("api-key", &b"k-1"[..]));
        } else {
            assert_eq!(
                (name, value.as_bytes()),
                (&AUTHORIZATION, &b"Bearer k-1"[..])
            );
        }
        assert!(value.is_sensitive(), "{provider}");
        assert_eq!(headers.len(), 1, "{provider}");
    }
    // No row without a line above.
    assert_eq!(compatible::ROWS.len(), 31);
}

#[test]
fn google_serves_embeddings_and_models_too() {
    let google = upstream(&target("google")).unwrap();
    for (endpoint, expected) in [
        (
            Endpoint::Embeddings,
            "https://generativelanguage.googleapis.com/v1beta/openai/embeddings",
        ),
        (
            Endpoint::Models,
            "https://generativelanguage.googleapis.com/v1beta/openai/models",
        ),
    ] {
        assert_eq!(url(&google, endpoint), expected);
    }
}

#[test]
fn every_row_takes_another_endpoint() {
    for row in &compatible::ROWS {
        let config = TargetConfig {
            endpoint: Some("http://10.0.0.1:8080/v1/".into()),
            workers_ai_account_id: None,
            ..target(row.name)
        };
        assert_eq!(
            url(&upstream(&config).unwrap(), Endpoint::Embeddings),
            "http://10.0.0.1:8080/v1/embeddings",
            "{}",
            row.name
        );
    }
}

#[test]
fn openai_sends_organization_project_and_the_targets_own_fields() {
    let config = TargetConfig {
        openai_organization: Some("org-1".to_owned()),
        openai_project: Some("proj-1".to_owned()),
        headers: [("X-Team".to_owned(), SecretString::from("desk"))].into(),
        ..target("openai")
    };
    let upstream = upstream(&config).unwrap();
    let headers = prepared(&upstream, Endpoint::ChatCompletions).headers;
    let names: Vec<_> = headers.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(
        names,
        [
            "authorization",
            "openai-organization",
            "openai-project",
            "x-team"
        ]
    );
}

#[test]
fn azure_paths() {
    let by_region = TargetConfig {
        azure_resource_name: None,
        azure_region: Some("swedencentral".to_owned()),
        azure_api_version: Some("2025-01-01-preview".to_owned()),
        ..target("azure-openai")
    };
    let by_region = upstream(&by_region).unwrap();
    for (endpoint, expected) in [
        (
            Endpoint::ChatCompletions,
            "https://swedencentral.api.cognitive.microsoft.com/openai/deployments/gpt-4.1/chat/completions?api-version=2025-01-01-preview",
        ),
        (
            Endpoint::AudioSpeech,
            "https://swedencentral.api.cognitive.microsoft.com/openai/deployments/gpt-4.1/audio/speech?api-version=2025-01-01-preview",
        ),
        (
            Endpoint::Models,
            "https://swedencentral.api.cognitive.microsoft.com/openai/models?api-version=2025-01-01-preview",
        ),
        (
            Endpoint::Responses,
            "https://swedencentral.api.cognitive.microsoft.com/openai/v1/responses",
        ),
    ] {
        assert_eq!(url(&by_region, endpoint), expected);
    }
}

#[test]
fn nothing_in_a_configuration_slips_into_the_host() {
    let hostile = [
        "evil.com#",
        "evil.com/",
        "a@evil.com",
        "a?b",
        "a/../b",
        "%2e%2e",
        "a.b/c",
        "..",
        "",
        "a b",
        "a\r\nb",
        "a:80",
    ];
    type Set = fn(&mut TargetConfig, String);
    let fields: [(&str, Set); 5] = [
        ("azureResourceName", |t, v| t.azure_resource_name = Some(v)),
        ("azureRegion", |t, v| {
            t.azure_resource_name = None;
            t.azure_region = Some(v);
        }),
        ("azureDeploymentId", |t, v| t.azure_deployment_id = Some(v)),
        ("azureApiVersion", |t, v| t.azure_api_version = Some(v)),
        ("workersAiAccountId", |t, v| {
            t.workers_ai_account_id = Some(v);
        }),
    ];
    for (key, set) in fields {
        for value in hostile {
            let provider = if key.starts_with("azure") {
                "azure-openai"
            } else {
                "workers-ai"
            };
            let mut config = target(provider);
            set(&mut config, value.to_owned());
            let error = upstream(&config).unwrap_err();
            assert_eq!(error.problems()[0].key, key, "{value:?}");
        }
    }
    // A dot would make one label into two.
    let mut config = target("azure-openai");
    config.azure_resource_name = Some("evil.com".to_owned());
    assert_eq!(
        upstream(&config).unwrap_err().problems()[0].key,
        "azureResourceName"
    );
}

#[test]
fn custom_endpoints() {
    for (endpoint, expected) in [
        ("https://a/{path}", Ok("https://a/chat/completions")),
        ("https://a/v1", Ok("https://a/v1/chat/completions")),
        ("https://a/v1/?k=v", Ok("https://a/v1/chat/completions?k=v")),
        (
            "http://a:81/x/{path}/y?k=v",
            Ok("http://a:81/x/chat/completions/y?k=v"),
        ),
        ("https://{path}/", Err("is not a URL")),
        ("https://a{path}", Err("right after a /")),
        ("https://a/?x={path}", Err("in the path, not in the query")),
        ("https://a/{path}/{path}", Err("once")),
        ("https://a/{path}/..", Err("after {path}")),
        ("https://a/{path}#b", Err("after {path}")),
        ("https://u:p@a/{path}", Err("user name or password")),
        ("https://a/../{path}", Err("two ways")),
        ("{path}", Err("right after a /")),
    ] {
        let config = TargetConfig {
            endpoint: Some(endpoint.into()),
            ..target("custom")
        };
        match (upstream(&config), expected) {
            (Ok(upstream), Ok(expected)) => {
                assert_eq!(url(&upstream, Endpoint::ChatCompletions), expected);
            }
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{endpoint}: {error}");
            }
            (other, _) => panic!("{endpoint}: {other:?}"),
        }
    }
    let none = TargetConfig::new("t", "custom");
    assert_eq!(
        upstream(&none).unwrap_err().to_string(),
        "endpoint: is required"
    );
}

#[test]
fn a_key_is_asked_for_where_one_is_needed_and_never_shown() {
    for row in &compatible::ROWS {
        let config = TargetConfig {
            api_key: None,
            ..target(row.name)
        };
        assert_eq!(
            upstream(&config).is_ok(),
            row.key == compatible::Key::Optional,
            "{}",
            row.name
        );
    }
    for provider in ["openai", "azure-openai", "custom"] {
        let config = TargetConfig {
            api_key: Some(SecretString::from("hunter2\n")),
            ..target(provider)
        };
        let error = upstream(&config).unwrap_err().to_string();
        assert!(
            error.starts_with("apiKey: ") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
