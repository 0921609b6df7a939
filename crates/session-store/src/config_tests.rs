use super::*;

fn good_secret() -> SecretList {
    SecretList::from_iter(["0123456789abcdef0123456789abcdef"])
}

fn with_secret() -> SessionConfig {
    let mut config = SessionConfig::default();
    config.cookie.secret = good_secret();
    config
}

fn problems(config: SessionConfig, https: bool) -> Vec<(String, String)> {
    let error = config.into_policy(https).unwrap_err();
    let pair = |problem: ConfigProblem| (problem.key, problem.message);
    error.into_problems().into_iter().map(pair).collect()
}

#[test]
fn an_unset_secure_follows_what_is_expected() {
    let https = with_secret().into_policy(true).unwrap();
    assert!(https.cookie().secure());
    assert_eq!(https.cookie().name(), "__Host-proactions_session");
    let http = with_secret().into_policy(false).unwrap();
    assert!(!http.cookie().secure());
    assert_eq!(http.cookie().name(), "proactions_session");

    let mut config = with_secret();
    config.cookie.secure = Some(true);
    assert_eq!(
        config.into_policy(false).unwrap().cookie().name(),
        "__Host-proactions_session"
    );
}

#[test]
fn a_configured_name_is_taken_as_it_is() {
    let mut config = with_secret();
    config.cookie.name = Some("proactions_session".to_owned());
    let policy = config.into_policy(true).unwrap();
    assert_eq!(policy.cookie().name(), "proactions_session");
    assert!(policy.cookie().secure());
}

#[test]
fn all_problems_are_told_at_once_and_no_secret_with_them() {
    let mut config = SessionConfig::default();
    config.cookie.secret = SecretList::from_iter(["hunter2-hunter2"]);
    config.cookie.name = Some("a b".to_owned());
    config.cookie.same_site = Some(SameSite::None);
    config.cookie.max_age = Some(Duration::ZERO);
    config.idle_timeout = Some(Duration::from_millis(5));
    config.absolute_timeout = Some(Duration::MAX);
    config.store = StoreKind::Redis;
    let mut redis = RedisClientConfig {
        url: SecretList::from_iter(["http://user:hunter2@host", "redis://good"]),
        ..RedisClientConfig::default()
    };
    redis.tls.cert = Some(" ".to_owned());
    config.redis_client = Some(redis);
    let found = problems(config, false);
    let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "cookie.secret",
            "cookie.name",
            "cookie.sameSite",
            "cookie.maxAge",
            "idleTimeout",
            "absoluteTimeout",
            "redis_client.url[0]",
            "redis_client.tls",
            "redis_client.tls.cert",
        ]
    );
    assert!(!format!("{found:?}").contains("hunter2"));
}

#[test]
fn single_problems() {
    let broken = |change: fn(&mut SessionConfig)| {
        let mut config = with_secret();
        change(&mut config);
        problems(config, false)
    };
    for (change, key, message) in [
        (
            (|c| c.cookie.secret = SecretList::default()) as fn(&mut SessionConfig),
            "cookie.secret",
            "expected a secret, or a list",
        ),
        (
            |c| c.cookie.secret = SecretList::from_iter(["x".repeat(31)]),
            "cookie.secret",
            "is 31 bytes long, expected at least 32",
        ),
        (
            |c| c.cookie.secret = SecretList::from_iter(["x".repeat(32), String::new()]),
            "cookie.secret[1]",
            "is 0 bytes long",
        ),
        (
            |c| c.cookie.name = Some("__Host-x".to_owned()),
            "cookie.name",
            "browsers refuse this prefix",
        ),
        (
            |c| c.cookie.name = Some("__host-x".to_owned()),
            "cookie.name",
            "expected the prefix as __Host-",
        ),
        (
            |c| c.store = StoreKind::Redis,
            "redis_client.url",
            "is missing",
        ),
        (
            |c| c.redis_client = Some(RedisClientConfig::default()),
            "redis_client.url",
            "expected a URL",
        ),
    ] {
        let found = broken(change);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, key);
        assert!(found[0].1.starts_with(message), "{found:?}");
    }
}

#[test]
fn dangerous_settings_are_warned_of() {
    let mut config = with_secret();
    assert!(config.warnings().is_empty());
    config.cookie.http_only = false;
    config.cookie.secure = Some(false);
    config.cookie.same_site = None;
    config.store = StoreKind::Redis;
    let mut redis = RedisClientConfig {
        url: SecretList::from_iter(["redis://:pw@redis.internal:6379"]),
        ..RedisClientConfig::default()
    };
    redis.tls.reject_unauthorized = false;
    config.redis_client = Some(redis);
    let keys: Vec<_> = config.warnings().into_iter().map(|p| p.key).collect();
    assert_eq!(
        keys,
        [
            "cookie.httpOnly",
            "cookie.secure",
            "cookie.sameSite",
            "redis_client.tls.rejectUnauthorized",
            "redis_client.url",
        ]
    );
}

#[test]
fn sentinels_are_taken_and_warned_of_like_servers() {
    for (urls, warned) in [
        (&["redis+sentinel://redis.internal/main"][..], true),
        (&["redis+sentinel://localhost,redis.internal:1/main"], true),
        (&["redis+sentinel://localhost,127.0.0.1:1/main"], false),
        (&["rediss+sentinel://redis.internal/main"], false),
        (
            &["rediss://redis.internal", "rediss://other.internal"],
            false,
        ),
        (&["redis://localhost", "redis://other.internal"], true),
    ] {
        let mut config = with_secret();
        config.store = StoreKind::Redis;
        config.redis_client = Some(RedisClientConfig {
            url: SecretList::from_iter(urls.iter().copied()),
            ..RedisClientConfig::default()
        });
        assert_eq!(!config.warnings().is_empty(), warned, "{urls:?}");
        assert!(config.into_policy(true).is_ok(), "{urls:?}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let mut config = with_secret();
    let mut redis = RedisClientConfig {
        url: SecretList::from_iter(["redis://:hunter2@h"]),
        ..RedisClientConfig::default()
    };
    redis.tls.key = Some("hunter2".into());
    config.redis_client = Some(redis);
    config.cookie.secret = SecretList::from_iter(["hunter2"]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[cfg(feature = "config")]
mod file {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<SessionConfig, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_guides_section_is_read() {
        let config = read(json!({
            "store": "redis",
            "cookie": {
                "name": "proactions_session", "secret": "0123456789abcdef0123456789abcdef", "secure": true,
                "httpOnly": true, "sameSite": "strict", "maxAge": 86_400_000,
            },
            "redis_client": {
                "url": "redis://localhost:6379",
                "tls": {"rejectUnauthorized": true, "ca": "/ca.pem", "cert": "/c.pem", "key": "/k.pem"},
            },
            "idleTimeout": 1_800_000, "absoluteTimeout": 43_200_000,
        }))
        .unwrap();
        assert_eq!(config.store, StoreKind::Redis);
        assert_eq!(config.idle_timeout, Some(Duration::from_secs(1800)));
        let policy = config.into_policy(false).unwrap();
        assert_eq!(policy.cookie().max_age(), Duration::from_secs(86_400));
        assert_eq!(policy.cookie().same_site(), Some(SameSite::Strict));
    }

    #[test]
    fn secrets_and_urls_may_be_lists() {
        let config = read(json!({
            "cookie": {"secret": ["a", "b"]}, "redis_client": {"url": ["redis://a", "redis://b"]},
        }))
        .unwrap();
        assert_eq!(config.cookie.secret.as_slice().len(), 2);
        assert_eq!(config.redis_client.unwrap().url.as_slice().len(), 2);
    }

    #[test]
    fn same_site_is_a_word_or_a_switch() {
        for (value, expected) in [
            (json!("Strict"), Some(SameSite::Strict)),
            (json!("LAX"), Some(SameSite::Lax)),
            (json!("none"), Some(SameSite::None)),
            (json!(true), Some(SameSite::Strict)),
            (json!(false), None),
        ] {
            let config = read(json!({"cookie": {"sameSite": value}})).unwrap();
            assert_eq!(config.cookie.same_site, expected);
        }
    }

    #[test]
    fn what_node_would_misread_is_refused() {
        for (value, message) in [
            (json!({"stroe": "redis"}), "unknown field `stroe`"),
            (
                json!({"store": "disk"}),
                "unknown variant `disk`, expected `memory` or `redis`",
            ),
            (json!({"store": null}), "invalid type: null"),
            (json!({"cookie": null}), "expected a map of cookie options"),
            (json!({"redis_client": null}), "expected a map with `url`"),
            (json!({"cookie": {"maxage": 1}}), "unknown field `maxage`"),
            (
                json!({"cookie": {"maxAge": "86400000"}}),
                "expected a number of milliseconds, without quotes",
            ),
            (json!({"cookie": {"maxAge": "1d"}}), "such as 86400000"),
            (
                json!({"cookie": {"maxAge": null}}),
                "expected a number of milliseconds",
            ),
            (json!({"cookie": {"maxAge": -1}}), "must not be negative"),
            (json!({"cookie": {"maxAge": 1.5}}), "a whole number"),
            (json!({"cookie": {"secure": "true"}}), "expected a boolean"),
            (json!({"cookie": {"secure": null}}), "expected a boolean"),
            (
                json!({"cookie": {"sameSite": "hard"}}),
                "expected strict, lax, none",
            ),
            (
                json!({"cookie": {"sameSite": null}}),
                "expected strict, lax, none",
            ),
            (json!({"cookie": {"secret": null}}), "expected a text"),
        ] {
            let error = read(value.clone()).unwrap_err();
            assert!(error.contains(message), "{value}: {error}");
        }
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_shown() {
        for value in [
            json!({"cookie": {"secret": 987_654}}),
            json!({"cookie": {"secret": [987_654]}}),
            json!({"cookie": {"secret": [["987654"]]}}),
            json!({"redis_client": {"url": 987_654.5}}),
            json!({"redis_client": {"tls": {"key": -987_654}}}),
            json!({"redis_client": {"tls": {"key": ["987654"]}}}),
        ] {
            let error = read(value).unwrap_err();
            assert!(!error.contains("987"), "{error}");
            assert!(error.contains("expected a text"), "{error}");
        }
    }
}

#[test]
fn tls_that_no_url_asks_for_is_warned_of() {
    for (url, ca, warned) in [
        ("redis://localhost", Some("/ca.pem"), true),
        ("redis://localhost", None, false),
        ("rediss://localhost", Some("/ca.pem"), false),
        ("rediss+sentinel://localhost/main", Some("/ca.pem"), false),
    ] {
        let mut config = with_secret();
        config.store = StoreKind::Redis;
        let mut client = RedisClientConfig {
            url: SecretList::from_iter([url]),
            ..RedisClientConfig::default()
        };
        client.tls.ca = ca.map(str::to_owned);
        config.redis_client = Some(client);
        let keys: Vec<_> = config.warnings().into_iter().map(|p| p.key).collect();
        let wanted: &[&str] = if warned { &["redis_client.tls"] } else { &[] };
        assert_eq!(keys, wanted, "{url}");
    }
}
