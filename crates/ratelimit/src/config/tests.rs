use super::*;
use crate::RateLimitPolicy;

fn problems(config: RateLimitConfig) -> Vec<(String, String)> {
    let error = RateLimitPolicy::try_from(config).unwrap_err();
    let problems = error.into_problems().into_iter();
    problems.map(|p| (p.key, p.message)).collect()
}

#[test]
fn the_defaults_can_be_used_and_are_those_of_node() {
    let config = RateLimitConfig::default();
    assert_eq!(config.quota().unwrap().max(), 5);
    assert_eq!(config.quota().unwrap().window(), Duration::from_secs(60));
    assert!(config.legacy_headers);
    assert_eq!(config.standard_headers, StandardHeaders::Off);
    assert_eq!(config.ipv6_subnet, Some(56));
    assert_eq!(config.status_code, 429);
    assert!(config.warnings().is_empty());
    assert!(RateLimitPolicy::try_from(config).is_ok());
}

#[test]
fn every_problem_is_told_at_once() {
    let rule = RuleConfig {
        path: Some("v1".to_owned()),
        methods: Some(vec!["GET".to_owned(), "post".to_owned(), String::new()]),
        window_ms: Some(0),
        ..RuleConfig::default()
    };
    let found = problems(RateLimitConfig {
        window_ms: 0,
        max: Some(1),
        limit: Some(1),
        status_code: 200,
        identifier: Some("a\"b".to_owned()),
        ipv6_subnet: Some(65),
        store: StoreKind::Redis,
        allowlist: vec!["10.0.0.0/8".to_owned(), "10.0.0/8".to_owned()],
        denylist: vec!["localhost".to_owned()],
        rules: vec![RuleConfig::default(), rule],
        ..RateLimitConfig::default()
    });
    let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "store",
            "limit",
            "windowMs",
            "rules[0].max",
            "rules[1].path",
            "rules[1].methods[1]",
            "rules[1].methods[2]",
            "rules[1].max",
            "rules[1].windowMs",
            "allowlist[1]",
            "denylist[0]",
            "statusCode",
            "ipv6Subnet",
            "identifier",
        ]
    );
    assert!(found[1].1.contains("another name for max"));
    assert!(found[2].1.contains("1 to 2147483647"));
}

#[test]
fn values_at_the_edge() {
    type Change = fn(&mut RateLimitConfig);
    let cases: [(Change, bool); 11] = [
        (|c| c.window_ms = 2_147_483_647, true),
        (|c| c.window_ms = 2_147_483_648, false),
        (|c| c.status_code = 400, true),
        (|c| c.status_code = 599, true),
        (|c| c.status_code = 399, false),
        (|c| c.status_code = 600, false),
        (|c| c.ipv6_subnet = Some(32), true),
        (|c| c.ipv6_subnet = Some(64), true),
        (|c| c.ipv6_subnet = Some(31), false),
        (|c| c.ipv6_subnet = None, true),
        (|c| c.identifier = Some("x".repeat(65)), false),
    ];
    for (index, (change, good)) in cases.into_iter().enumerate() {
        let mut config = RateLimitConfig::default();
        change(&mut config);
        assert_eq!(
            RateLimitPolicy::try_from(config).is_ok(),
            good,
            "case {index}"
        );
    }
}

#[test]
fn two_rules_that_are_one() {
    let rule = |methods: &[&str], max| RuleConfig {
        methods: Some(methods.iter().map(|m| (*m).to_owned()).collect()),
        max: Some(max),
        ..RuleConfig::default()
    };
    let found = problems(RateLimitConfig {
        rules: vec![
            rule(&["POST"], 1),
            rule(&["GET", "PUT"], 1),
            rule(&["PUT", "HEAD", "GET"], 2),
        ],
        ..RateLimitConfig::default()
    });
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "rules[2]");
    assert!(found[0].1.contains("rules[1]"), "{found:?}");
}

#[test]
fn what_is_legal_but_dangerous_is_warned_of() {
    type Change = fn(&mut RateLimitConfig);
    let cases: [(Change, &[&str]); 14] = [
        (|c| c.max = Some(0), &["max"]),
        (|c| c.limit = Some(0), &["limit"]),
        (|c| c.window_ms = 999, &["windowMs"]),
        (|c| c.legacy_headers = false, &["standardHeaders"]),
        (|c| c.reset_format = ResetFormat::Epoch, &["resetFormat"]),
        (|c| c.skip_failed_requests = true, &["skipFailedRequests"]),
        (|c| c.skip_successful_requests = true, &[]),
        (
            |c| {
                c.skip_failed_requests = true;
                c.skip_successful_requests = true;
            },
            &["skipSuccessfulRequests"],
        ),
        (|c| c.ipv6_subnet = None, &["ipv6Subnet"]),
        (|c| c.on_store_error = OnStoreError::Open, &["onStoreError"]),
        (
            |c| c.allowlist = vec!["::/0".to_owned(), "10.1.2.3".to_owned()],
            &["allowlist[0]"],
        ),
        (
            |c| c.denylist = vec!["10.1.2.3/8".to_owned()],
            &["denylist[0]"],
        ),
        (
            |c| {
                let rule = |by, max| RuleConfig {
                    by,
                    max: Some(max),
                    ..RuleConfig::default()
                };
                c.rules = vec![
                    rule(KeyOf::Ip, 4),
                    rule(KeyOf::Ip, 5),
                    rule(KeyOf::User, 5),
                    rule(KeyOf::User, 0),
                ];
            },
            &["rules[1]", "rules[3].max"],
        ),
        (
            |c| {
                c.enabled = false;
                c.max = Some(0);
            },
            &[],
        ),
    ];
    for (index, (change, keys)) in cases.into_iter().enumerate() {
        let mut config = RateLimitConfig::default();
        change(&mut config);
        let warned: Vec<_> = config.warnings().into_iter().map(|p| p.key).collect();
        assert_eq!(warned, keys, "case {index}");
    }
}

#[cfg(feature = "config")]
mod file {
    use super::*;

    fn read(json: &str) -> Result<RateLimitConfig, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_operators_guide() {
        let config = read(
            r#"{"enabled": true, "windowMs": 900000, "max": 100,
                "message": "Too many requests from this IP, please try again later.",
                "standardHeaders": true, "legacyHeaders": false}"#,
        )
        .unwrap();
        assert_eq!(config.standard_headers, StandardHeaders::Draft6);
        assert!(!config.legacy_headers);
        assert!(config.warnings().is_empty());
        assert_eq!(config.quota().unwrap().max(), 100);
    }

    #[test]
    fn every_key() {
        let config = read(
            r#"{"enabled": false, "windowMs": 1000, "limit": 7, "message": "m", "statusCode": 503,
                "standardHeaders": "draft-7", "legacyHeaders": true, "identifier": "hub", "resetFormat": "epoch",
                "skipFailedRequests": true, "skipSuccessfulRequests": true, "ipv6Subnet": false,
                "store": "redis", "onStoreError": "closed", "allowlist": ["::1"], "denylist": [],
                "rules": [{"path": "/v1/**", "methods": ["POST"], "by": "target", "windowMs": 5, "max": 6}]}"#,
        )
        .unwrap();
        assert_eq!(config.standard_headers, StandardHeaders::Draft7);
        assert_eq!((config.limit, config.max), (Some(7), None));
        assert_eq!(config.ipv6_subnet, None);
        assert_eq!(config.store, StoreKind::Redis);
        assert_eq!(config.on_store_error, OnStoreError::Closed);
        assert_eq!(config.rules[0].by, KeyOf::Target);
        assert_eq!(read(r#"{"ipv6Subnet": 64}"#).unwrap().ipv6_subnet, Some(64));
        for (value, read_as) in [
            ("false", StandardHeaders::Off),
            ("true", StandardHeaders::Draft6),
            (r#""draft-6""#, StandardHeaders::Draft6),
            (r#""draft-8""#, StandardHeaders::Draft8),
        ] {
            let config = read(&format!(r#"{{"standardHeaders": {value}}}"#)).unwrap();
            assert_eq!(config.standard_headers, read_as);
        }
    }

    #[test]
    fn mistakes_are_answered_with_what_was_expected() {
        for (json, message) in [
            ("null", "expected struct RateLimitConfig"),
            (
                r#"{"max": "100"}"#,
                "a whole number from 0 to 4294967295, without quotes",
            ),
            (r#"{"max": -1}"#, "a whole number from 0"),
            (r#"{"max": 1.5}"#, "a whole number from 0"),
            (r#"{"max": 4294967296}"#, "a whole number from 0"),
            (r#"{"max": null}"#, "a whole number from 0"),
            (r#"{"windowMs": "15m"}"#, "a whole number from 0"),
            (r#"{"windowMs": true}"#, "a whole number from 0"),
            (
                r#"{"statusCode": "429"}"#,
                "a status from 400 to 599, without quotes",
            ),
            (r#"{"statusCode": 70000}"#, "a status from 400 to 599"),
            (
                r#"{"standardHeaders": "draft-9"}"#,
                "true, false, draft-6, draft-7 or draft-8",
            ),
            (r#"{"standardHeaders": "true"}"#, "true, false, draft-6"),
            (r#"{"standardHeaders": 6}"#, "true, false, draft-6"),
            (r#"{"legacyHeaders": "no"}"#, "expected a boolean"),
            (r#"{"enabled": 1}"#, "expected a boolean"),
            (r#"{"message": {"a": 1}}"#, "expected a string"),
            (r#"{"message": null}"#, "expected a string"),
            (r#"{"identifier": null}"#, "expected a string"),
            (r#"{"ipv6Subnet": true}"#, "from 32 to 64, or false"),
            (r#"{"ipv6Subnet": "56"}"#, "from 32 to 64, or false"),
            (r#"{"ipv6Subnet": 300}"#, "from 32 to 64, or false"),
            (
                r#"{"resetFormat": "date"}"#,
                "expected `seconds` or `epoch`",
            ),
            (r#"{"store": "file"}"#, "expected `memory` or `redis`"),
            (
                r#"{"onStoreError": "pass"}"#,
                "expected one of `closed`, `local`, `open`",
            ),
            (r#"{"allowlist": "10.0.0.0/8"}"#, "expected a sequence"),
            (r#"{"allowlist": null}"#, "expected a sequence"),
            (r#"{"rules": {}}"#, "expected a sequence"),
            (
                r#"{"rules": [{"by": "key"}]}"#,
                "expected one of `ip`, `user`, `target`",
            ),
            (r#"{"rules": [{"limit": 1}]}"#, "unknown field `limit`"),
            (r#"{"rules": [{"methods": "GET"}]}"#, "expected a sequence"),
            (r#"{"rules": [{"path": null}]}"#, "expected a string"),
            (
                r#"{"windowms": 1}"#,
                "unknown field `windowms`, expected one of `enabled`, `windowMs`",
            ),
            (
                r#"{"passOnStoreError": true}"#,
                "unknown field `passOnStoreError`",
            ),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        }
    }
}
