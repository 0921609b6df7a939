use super::*;

fn keys(error: &ConfigError) -> Vec<&str> {
    error
        .problems()
        .iter()
        .map(|problem| problem.key.as_str())
        .collect()
}

#[cfg(feature = "config")]
fn read(json: &str) -> Result<TargetConfig, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

#[test]
fn every_problem_of_every_target_is_reported() {
    let targets = [
        TargetConfig::default(),
        TargetConfig::new("a b", "azure"),
        TargetConfig {
            request_timeout: Some(0),
            headers: [("bad name".to_owned(), SecretString::from("x"))].into(),
            endpoint: Some("ftp://x".into()),
            ..TargetConfig::new("a", "openai")
        },
        TargetConfig::new("a", "echo"),
    ];
    let error = check_targets(&targets).unwrap_err();
    assert_eq!(
        keys(&error),
        [
            "[0].id",
            "[0].provider",
            "[1].id",
            "[1].provider",
            "[2].requestTimeout",
            "[2].headers.bad name",
            "[2].apiKey",
            "[2].endpoint",
            "[3].id",
        ]
    );
    let text = error.to_string();
    assert!(text.contains("did you mean `azure-openai`?"), "{text}");
}

#[test]
fn strategies_are_checked_all_the_way_down() {
    let nested = NestedTargetConfig {
        strategy: Some(ModeConfig::default()),
        targets: vec![NestedTargetConfig {
            provider: Some("azure-openai".to_owned()),
            azure_resource_name: Some("evil.com#".to_owned()),
            ..NestedTargetConfig::default()
        }],
        ..NestedTargetConfig::default()
    };
    let target = TargetConfig {
        id: "a".to_owned(),
        config: Some(StrategyConfig {
            strategy: ModeConfig {
                mode: Mode::Fallback,
                on_status_codes: vec![200],
            },
            retry: RetryConfig {
                attempts: Some(6),
                ..RetryConfig::default()
            },
            targets: vec![
                nested,
                NestedTargetConfig {
                    weight: Some(-1.0),
                    ..NestedTargetConfig::default()
                },
            ],
        }),
        ..TargetConfig::default()
    };
    let error = target.check().unwrap_err();
    assert_eq!(
        keys(&error),
        [
            "config.strategy.on_status_codes",
            "config.retry.attempts",
            "config.targets[0].targets[0].azure_resource_name",
            "config.targets[0].targets[0].api_key",
            "config.targets[1].weight",
            "config.targets[1].provider",
        ]
    );
}

#[test]
fn what_belongs_to_one_provider_is_not_said_of_several() {
    let provider = || NestedTargetConfig {
        provider: Some("echo".to_owned()),
        ..NestedTargetConfig::default()
    };
    let config = |targets| {
        Some(StrategyConfig {
            targets,
            ..StrategyConfig::default()
        })
    };
    let nested = NestedTargetConfig {
        api_key: Some(SecretString::from("k")),
        override_params: [("model".to_owned(), "m".into())].into_iter().collect(),
        targets: vec![provider()],
        ..NestedTargetConfig::default()
    };
    let target = TargetConfig {
        id: "a".to_owned(),
        api_key: Some(SecretString::from("k")),
        endpoint: Some("https://a/".into()),
        breaker: Some(BreakerConfig {
            failures: Some(1001),
            window: Some(0),
            cooldown: Some(0),
        }),
        config: config(vec![nested]),
        ..TargetConfig::default()
    };
    assert_eq!(
        keys(&target.check().unwrap_err()),
        [
            "breaker.failures",
            "breaker.window",
            "breaker.cooldown",
            "apiKey",
            "endpoint",
            "config.targets[0].api_key",
            "config.targets[0].override_params",
        ]
    );
    let many = TargetConfig {
        id: "a".to_owned(),
        config: config(vec![provider(); 33]),
        ..TargetConfig::default()
    };
    assert_eq!(keys(&many.check().unwrap_err()), ["config.targets"]);
    let plain = TargetConfig {
        id: "a".to_owned(),
        config: config(vec![NestedTargetConfig {
            provider: Some("openai".to_owned()),
            api_key: Some(SecretString::from("k")),
            endpoint: Some("http://ai.corp.example/v1".into()),
            ..NestedTargetConfig::default()
        }]),
        ..TargetConfig::default()
    };
    assert_eq!(plain.warnings()[0].key, "config.targets[0].endpoint");
}

#[test]
fn a_key_over_an_open_line_is_warned_of() {
    for (endpoint, warned) in [
        ("http://ai.corp.example/{path}", true),
        ("https://ai.corp.example/{path}", false),
        ("http://127.0.0.1:8080/{path}", false),
        ("http://localhost:8080/{path}", false),
    ] {
        let target = TargetConfig {
            api_key: Some(SecretString::from("k")),
            endpoint: Some(endpoint.into()),
            ..TargetConfig::new("a", "custom")
        };
        assert_eq!(!target.warnings().is_empty(), warned, "{endpoint}");
    }
}

#[test]
fn no_debug_shows_a_secret() {
    let target = TargetConfig {
        api_key: Some(SecretString::from("hunter2")),
        aws_access_key_id: Some(SecretString::from("hunter2")),
        headers: [("x".to_owned(), SecretString::from("hunter2"))].into(),
        endpoint: Some("https://user:hunter2@a/".into()),
        ..TargetConfig::new("a", "openai")
    };
    assert!(!format!("{target:?}").contains("hunter2"));
    assert!(!target.check().unwrap_err().to_string().contains("hunter2"));
}

#[cfg(feature = "config")]
#[test]
fn a_file_is_read() {
    let target = read(
        r#"{
            "id": "main", "provider": "azure-openai", "apiKey": "k", "requestTimeout": 30000,
            "azureResourceName": "r", "azureDeploymentId": "d", "azureApiVersion": "2024-06-01",
            "options": {"temperature": 0.10, "nested": {"a": [1]}}, "headers": {"x-team": "desk"}
        }"#,
    )
    .unwrap();
    assert_eq!(target.check(), Ok(()));
    assert_eq!(target.request_timeout(), Some(Duration::from_secs(30)));
    assert_eq!(target.options["temperature"], 0.1);

    let strategy = read(
        r#"{"id": "b", "config": {
            "strategy": {"mode": "loadbalance", "on_status_codes": [429]},
            "retry": {"attempts": 3, "on_status_codes": [500]},
            "targets": [
                {"provider": "openai", "api_key": "k", "weight": 0.7, "override_params": {"model": "m"},
                 "breaker": {"failures": 3, "window": 30000, "cooldown": 5000}},
                {"provider": "vertex-ai", "vertex_project_id": "p", "vertex_region": "r", "api_key": "k"}
            ]
        }}"#,
    )
    .unwrap();
    assert_eq!(strategy.check(), Ok(()));
}

#[cfg(feature = "config")]
#[test]
fn mistakes_in_a_file_are_named_and_secrets_are_not() {
    for (json, message) in [
        (r#"{"id": 7}"#, "expected a string"),
        (r#"{"apiKey": 424242}"#, "expected text: put it in quotes"),
        (r#"{"apiKey": null}"#, "expected text"),
        (r#"{"endpoint": 424242}"#, "expected text"),
        (r#"{"headers": {"x": 424242}}"#, "expected text"),
        (r#"{"headers": null}"#, "expected a map of names and texts"),
        (r#"{"openaiProject": null}"#, "expected text"),
        (r#"{"requestTimeout": "5000"}"#, "expected a whole number"),
        (r#"{"requestTimeout": -1}"#, "not negative"),
        (r#"{"requestTimeout": 1.5}"#, "a whole number"),
        (r#"{"requestTimeout": null}"#, "a whole number"),
        (r#"{"options": null}"#, "expected a map"),
        (r#"{"config": null}"#, "null"),
        (r#"{"breaker": null}"#, "null"),
        (
            r#"{"breaker": {"failures": "5"}}"#,
            "expected a whole number",
        ),
        (r#"{"breaker": {"timeout": 5}}"#, "unknown field `timeout`"),
        (r#"{"apikey": "x"}"#, "unknown field `apikey`"),
        (r#"{"vertexServiceAccountJson": 424242}"#, "key file"),
        (
            r#"{"config": {"strategy": {"mode": "fastest"}}}"#,
            "unknown variant `fastest`",
        ),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.contains(message), "{json}: {error}");
        assert!(!error.contains("424242"), "{json}: {error}");
    }
}
