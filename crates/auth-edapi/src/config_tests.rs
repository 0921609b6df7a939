use std::time::Duration;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn with_tokens(tokens: &[&str]) -> AuthConfig {
    let mut config = AuthConfig {
        enabled: true,
        kind: Some(AuthType::Token),
        tokens: tokens.iter().copied().collect(),
        ..AuthConfig::default()
    };
    config.session.cookie.secret = SecretList::from_iter([SECRET]);
    config
}

fn with_edapi(url: &str) -> AuthConfig {
    AuthConfig {
        kind: Some(AuthType::Edapi),
        edapi_url: Some(url.into()),
        ..with_tokens(&[])
    }
}

fn problems(config: AuthConfig) -> Vec<(String, String)> {
    let error = config.into_policy(true).unwrap_err();
    let pair = |problem: ConfigProblem| (problem.key, problem.message);
    error.into_problems().into_iter().map(pair).collect()
}

#[test]
fn what_is_off_is_not_checked() {
    assert!(AuthConfig::default().into_policy(true).unwrap().is_none());
}

#[test]
fn both_types_are_built() {
    let policy = with_tokens(&["a-long-random-token"])
        .into_policy(true)
        .unwrap()
        .unwrap();
    assert!(policy.entry.local_authenticator().is_some());
    let policy = with_edapi("https://edapi.example.com/edapi")
        .into_policy(true)
        .unwrap()
        .unwrap();
    let EntryPolicy::Edapi(edapi) = policy.entry else {
        panic!("{:?}", policy.entry);
    };
    assert_eq!(edapi.config.check.path, "/v3/user/me");
    assert_eq!(edapi.config.stale_if_error, Duration::from_secs(600));
}

#[test]
fn every_problem_has_its_key() {
    for (config, expected) in [
        (with_tokens(&[]), &[("tokens", "expected a list")][..]),
        (
            with_tokens(&["good-enough-token", ""]),
            &[("tokens[1]", "is empty")],
        ),
        (
            with_tokens(&["same", "same"]),
            &[("tokens[1]", "is the same")],
        ),
        (
            AuthConfig {
                kind: None,
                ..with_tokens(&["x"])
            },
            &[("type", "is missing; expected edapi or token")],
        ),
        (
            AuthConfig {
                edapi_url: None,
                ..with_edapi("")
            },
            &[("edapi_url", "is missing")],
        ),
        (with_edapi(""), &[("edapi_url", "expected a URL")]),
        (
            with_edapi("edapi.example.com"),
            &[("edapi_url", "expected a URL")],
        ),
        (
            with_edapi("ftp://edapi.example.com"),
            &[("edapi_url", "expected a URL")],
        ),
        (
            with_edapi("https:///edapi"),
            &[("edapi_url", "expected a URL")],
        ),
        (
            with_edapi("https://u:hunter2@e.example/"),
            &[("edapi_url", "holds a user")],
        ),
        (
            with_edapi("https://e.example/?a=b"),
            &[("edapi_url", "holds a query")],
        ),
        (
            AuthConfig {
                session: SessionConfig::default(),
                ..with_tokens(&[""])
            },
            &[
                ("tokens[0]", "is empty"),
                ("session.cookie.secret", "expected a secret"),
            ],
        ),
    ] {
        let found = problems(config);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((key, message), (expected_key, start)) in found.iter().zip(expected) {
            assert_eq!(key, expected_key);
            assert!(message.starts_with(start), "{message}");
        }
        assert!(!format!("{found:?}").contains("hunter2"));
    }
}

#[test]
fn the_wire_details_are_checked() {
    let mut config = with_edapi("https://edapi.example.com");
    let edapi = &mut config.edapi;
    edapi.check.method = "get".to_owned();
    edapi.check.path = "v3/user/me".to_owned();
    edapi.check.token_in = edapi::TokenIn::Header;
    edapi.check.token_name = "a b".to_owned();
    edapi.login.method = "BREW".to_owned();
    edapi.login.path = "/a/../b".to_owned();
    edapi.user_pointer = "username".to_owned();
    edapi.timeout = Duration::ZERO;
    edapi.revalidate_after = Duration::from_secs(90_000);
    edapi.stale_if_error = Duration::from_secs(90_000);
    edapi.max_body_bytes = 0;
    edapi.tls.ca = Some(String::new());
    let keys: Vec<_> = problems(config).into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        keys,
        [
            "edapi.check.method",
            "edapi.check.path",
            "edapi.login.method",
            "edapi.login.path",
            "edapi.check.tokenName",
            "edapi.userPointer",
            "edapi.timeout",
            "edapi.revalidateAfter",
            "edapi.staleIfError",
            "edapi.maxBodyBytes",
            "edapi.tls.ca",
        ]
    );
}

#[test]
fn dangers_are_warned_of() {
    let keys = |config: AuthConfig| -> Vec<_> {
        config
            .warnings()
            .into_iter()
            .map(|problem| problem.key)
            .collect()
    };
    assert_eq!(keys(AuthConfig::default()), ["enabled"]);
    let mut tokens = with_tokens(&["a-long-random-token", "short"]);
    tokens.edapi_url = Some("https://e.example".into());
    tokens.session.cookie.http_only = false;
    assert_eq!(
        keys(tokens),
        ["type", "tokens[1]", "edapi_url", "session.cookie.httpOnly"]
    );
    let mut edapi = with_edapi("http://e.example/edapi");
    edapi.edapi.tls.reject_unauthorized = false;
    edapi.tokens = SecretList::from_iter(["x"]);
    assert_eq!(
        keys(edapi),
        ["edapi_url", "edapi.tls.rejectUnauthorized", "tokens"]
    );
    assert!(keys(with_edapi("http://localhost:8080/edapi")).is_empty());
    assert!(keys(with_edapi("https://e.example/edapi")).is_empty());
}

#[test]
fn debug_shows_no_secret() {
    let mut config = with_tokens(&["hunter2"]);
    config.edapi_url = Some("https://hunter2@x".into());
    assert!(!format!("{config:?}").contains("hunter2"));
    let policy = with_tokens(&["hunter2"]).into_policy(true).unwrap();
    assert!(!format!("{policy:?}").contains("hunter2"));
}

#[cfg(feature = "config")]
mod file {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<AuthConfig, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_guides_sections_are_read() {
        let config = read(json!({
            "enabled": true, "type": "edapi", "edapi_url": "https://your-edapi-instance/edapi",
            "session": {
                "store": "redis",
                "cookie": {
                    "secret": SECRET, "secure": true, "httpOnly": true, "sameSite": "strict", "maxAge": 86_400_000,
                },
                "redis_client": {"url": "redis://localhost:6379"},
            },
        }))
        .unwrap();
        assert!(config.into_policy(false).unwrap().is_some());
        let config = read(json!({
            "enabled": true, "type": "token", "tokens": ["first-random-token", "second-random-token"],
            "session": {"store": "memory", "cookie": {"secret": SECRET}},
        }))
        .unwrap();
        assert!(config.into_policy(false).unwrap().is_some());
    }

    #[test]
    fn the_wire_details_are_read() {
        let config = read(json!({"edapi": {
            "check": {"method": "POST", "path": "/me", "tokenIn": "header", "tokenName": "x-token"},
            "login": {"method": "GET", "path": "/login", "format": "basic"},
            "userPointer": "/user/name", "timeout": 1000, "revalidateAfter": 2000, "staleIfError": 0,
            "maxBodyBytes": 1024, "tls": {"ca": "/ca.pem", "rejectUnauthorized": false},
        }}))
        .unwrap();
        assert_eq!(config.edapi.check.token_in, edapi::TokenIn::Header);
        assert_eq!(config.edapi.login.format, edapi::LoginFormat::Basic);
        assert_eq!(config.edapi.timeout, Duration::from_secs(1));
        assert!(config.edapi.check().is_empty());
    }

    #[test]
    fn wrong_types_are_refused_and_secrets_not_shown() {
        for (value, message) in [
            (json!({"enabled": "true"}), "expected a boolean"),
            (
                json!({"type": "ldap"}),
                "unknown variant `ldap`, expected `edapi` or `token`",
            ),
            (json!({"type": null}), "invalid type: null"),
            (json!({"token": ["x"]}), "unknown field `token`"),
            (json!({"tokens": [987_654]}), "expected a text"),
            (json!({"tokens": null}), "expected a text"),
            (json!({"edapi_url": 987_654}), "expected a text"),
            (json!({"edapi": null}), "expected a map of EDAPI options"),
            (json!({"edapi": {"timeout": "5000"}}), "without quotes"),
            (
                json!({"edapi": {"timeout": "5s"}}),
                "expected a number of milliseconds",
            ),
            (json!({"edapi": {"timeout": -5}}), "must not be negative"),
            (
                json!({"edapi": {"check": {"token_in": "query"}}}),
                "unknown field `token_in`",
            ),
            (
                json!({"edapi": {"check": {"tokenIn": "body"}}}),
                "unknown variant `body`",
            ),
            (
                json!({"session": null}),
                "expected a map of session options",
            ),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert!(error.contains(message), "{value}: {error}");
            assert!(!error.contains("987"), "{error}");
        }
    }
}
