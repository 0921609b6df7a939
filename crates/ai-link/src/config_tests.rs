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

fn one_echo() -> NestedTargetConfig {
    NestedTargetConfig {
        provider: Some("echo".to_owned()),
        ..NestedTargetConfig::default()
    }
}

fn several(targets: Vec<NestedTargetConfig>) -> StrategyConfig {
    StrategyConfig {
        targets,
        ..StrategyConfig::default()
    }
}

#[test]
fn a_key_that_nobody_reads_is_told() {
    let text = |text: &str| Some(text.to_owned());
    let secret = |text: &str| Some(SecretString::from(text));
    let all = |provider: &str| TargetConfig {
        api_key: secret("k"),
        openai_organization: text("o"),
        openai_project: text("p"),
        azure_resource_name: text("r"),
        azure_deployment_id: text("d"),
        azure_api_version: text("2024-10-21"),
        workers_ai_account_id: text("a"),
        anthropic_version: text("2023-06-01"),
        anthropic_beta: text("b"),
        aws_region: text("eu-west-1"),
        aws_access_key_id: secret("a"),
        aws_secret_access_key: secret("s"),
        aws_session_token: secret("t"),
        vertex_project_id: text("p"),
        vertex_region: text("europe-west4"),
        vertex_service_account_json: secret("{}"),
        ..TargetConfig::new("a", provider)
    };
    let read = |target: &TargetConfig| {
        let told: Vec<_> = target.warnings().into_iter().map(|p| p.key).collect();
        let fields = target.provider_fields();
        let read = fields
            .iter()
            .filter(|field| field.is_set && !told.iter().any(|told| told == field.key));
        read.map(|field| field.key).collect::<Vec<_>>()
    };
    for (provider, expected) in [
        ("openai", "apiKey openaiOrganization openaiProject"),
        (
            "workers-ai",
            "apiKey openaiOrganization openaiProject workersAiAccountId",
        ),
        (
            "azure-openai",
            "apiKey azureResourceName azureDeploymentId azureApiVersion",
        ),
        ("anthropic", "apiKey anthropicVersion anthropicBeta"),
        (
            "bedrock",
            "awsRegion awsAccessKeyId awsSecretAccessKey awsSessionToken",
        ),
        (
            "vertex-ai",
            "anthropicVersion anthropicBeta vertexProjectId vertexRegion vertexServiceAccountJson",
        ),
        ("custom", "apiKey"),
        ("echo", ""),
    ] {
        let expected: Vec<_> = expected.split_terminator(' ').collect();
        assert_eq!(read(&all(provider)), expected, "{provider}");
    }
    let moved = TargetConfig {
        endpoint: Some("https://azure.corp.example".into()),
        ..all("azure-openai")
    };
    assert_eq!(
        read(&moved),
        ["apiKey", "endpoint", "azureDeploymentId", "azureApiVersion"]
    );
    let bearer = TargetConfig {
        aws_access_key_id: None,
        aws_secret_access_key: None,
        ..all("bedrock")
    };
    assert_eq!(read(&bearer), ["apiKey", "awsRegion"]);

    // Next to strategies none of them has a meaning at all.
    let chosen = TargetConfig {
        provider: None,
        config: Some(several(vec![one_echo()])),
        ..all("openai")
    };
    let found = chosen.check().unwrap_err();
    assert_eq!(found.problems().len(), 16, "{found}");
    let nested = NestedTargetConfig {
        azure_region: text("swedencentral"),
        vertex_region: text("europe-west4"),
        targets: vec![one_echo()],
        ..NestedTargetConfig::default()
    };
    let target = TargetConfig {
        id: "a".to_owned(),
        config: Some(several(vec![nested])),
        ..TargetConfig::default()
    };
    assert_eq!(
        keys(&target.check().unwrap_err()),
        [
            "config.targets[0].azure_region",
            "config.targets[0].vertex_region"
        ]
    );
}

#[test]
fn a_mode_that_does_not_read_a_setting_tells() {
    let told = |mode: Mode, codes: Vec<u16>, weights: [Option<f64>; 2]| {
        let mut strategy = several(
            weights
                .into_iter()
                .map(|weight| NestedTargetConfig {
                    weight,
                    ..one_echo()
                })
                .collect(),
        );
        strategy.strategy.mode = mode;
        strategy.strategy.on_status_codes = codes;
        let target = TargetConfig {
            id: "a".to_owned(),
            config: Some(strategy),
            ..TargetConfig::default()
        };
        let told: Vec<_> = target.warnings().into_iter().map(|p| p.key).collect();
        told.join(" ")
    };
    assert_eq!(told(Mode::Fallback, vec![429], [None, None]), "");
    assert_eq!(told(Mode::Loadbalance, vec![], [Some(0.7), Some(0.3)]), "");
    assert_eq!(
        told(Mode::Fallback, vec![], [Some(1.0), None]),
        "config.targets[0].weight"
    );
    assert_eq!(
        told(Mode::Loadbalance, vec![429], [None, None]),
        "config.strategy.on_status_codes"
    );
    assert_eq!(
        told(Mode::Single, vec![], [None, None]),
        "config.targets[1]"
    );
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
