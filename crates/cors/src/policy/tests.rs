#![allow(
    clippy::field_reassign_with_default,
    reason = "users of the crate have no other way to fill in a configuration"
)]

use proptest::prelude::*;

use super::*;

fn policy(origins: &[&str]) -> CorsPolicy {
    let mut config = CorsConfig::default();
    config.origin = Some(origins.iter().copied().collect());
    CorsPolicy::try_from(config).unwrap()
}

fn matched(policy: &CorsPolicy, origin: &str) -> OriginMatch {
    policy.match_origin(&HeaderValue::from_bytes(origin.as_bytes()).unwrap())
}

#[test]
fn listed_origins_are_compared_by_their_parts() {
    let policy = policy(&[
        "https://example.com",
        "https://APP.example.com:443",
        "http://localhost:3000",
        "http://[0::1]:3000",
        "chrome-extension://abcdef",
    ]);
    for origin in [
        "https://example.com",
        "https://example.com:443",
        "HTTPS://EXAMPLE.COM",
        "https://app.example.com",
        "http://localhost:3000",
        "http://[::1]:3000",
        "chrome-extension://abcdef",
    ] {
        assert_eq!(matched(&policy, origin), OriginMatch::Named, "{origin}");
    }
    for origin in [
        "https://evilexample.com",
        "https://example.com.evil",
        "https://example.community",
        "https://example.com:444",
        "https://example.com:80",
        "http://example.com",
        "https://example.com.",
        "https://example.com/",
        "https://example.com\\@evil",
        "https://example.com@evil",
        "https://evil@example.com",
        "https://ex\u{e4}mple.com",
        "https://xn--exmple-cua.com",
        "https://b.example.com",
        "https://localhost:3000",
        "http://localhost",
        "null",
        "*",
        "",
        "https://example.com, https://example.com",
        "https://example.com https://evil.example",
    ] {
        assert_eq!(matched(&policy, origin), OriginMatch::Refused, "{origin}");
    }
}

#[test]
fn a_wildcard_stands_for_whole_labels() {
    let policy = policy(&["https://*.example.com", "http://*.localhost:3000"]);
    for (origin, good) in [
        ("https://a.example.com", true),
        ("https://a.b.example.com", true),
        ("https://A.EXAMPLE.com:443", true),
        ("http://a.localhost:3000", true),
        ("https://example.com", false),
        ("https://.example.com", false),
        ("https://evilexample.com", false),
        ("https://a.example.com.evil", false),
        ("https://a.example.com:444", false),
        ("http://a.example.com", false),
        ("https://*.example.com", false),
        ("https://evil/.example.com", false),
        ("https://evil@a.example.com", false),
        ("https://a..example.com", false),
        ("http://a.localhost", false),
        ("http://localhost:3000", false),
    ] {
        let expected = if good {
            OriginMatch::Named
        } else {
            OriginMatch::Refused
        };
        assert_eq!(matched(&policy, origin), expected, "{origin}");
    }
}

#[test]
fn null_only_where_it_is_listed() {
    assert_eq!(
        matched(&policy(&["null", "https://a.example"]), "null"),
        OriginMatch::Null
    );
    assert_eq!(
        matched(&policy(&["https://a.example"]), "null"),
        OriginMatch::Refused
    );
    let mut config = CorsConfig::default();
    config.origin = Some(CorsOrigin::Reflect);
    let reflect = CorsPolicy::try_from(config).unwrap();
    assert_eq!(matched(&reflect, "null"), OriginMatch::Refused);
    assert_eq!(matched(&reflect, "<script>"), OriginMatch::Refused);
    assert_eq!(matched(&reflect, "https://x.example"), OriginMatch::Anybody);
    assert_eq!(
        matched(&CorsPolicy::off(), "https://x.example"),
        OriginMatch::Refused
    );
}

#[test]
fn origins_that_mean_nothing_are_refused() {
    for (entry, part) in [
        ("", "an empty text is no origin"),
        ("*", "cannot stand in a list"),
        ("https://a.example,https://b.example", "an item"),
        ("https://a.example/", "write `https://a.example`"),
        ("https://a.example/x", "is no origin: write scheme"),
        (
            "https://user@a.example",
            "without path and user information",
        ),
        ("https://b\u{fc}cher.example", "punycode"),
        ("a.example", "is no origin: write scheme"),
        ("https://a.example.", "is no origin: write scheme"),
        ("https://a.example:0", "is no origin: write scheme"),
        ("https://*example.com", "whole labels"),
        ("https://a.*.example.com", "whole labels"),
        ("https://app-*.example.com", "whole labels"),
        ("https://*.*.example.com", "whole labels"),
        ("*.example.com", "whole labels"),
        ("https://*", "whole labels"),
        ("https://*.", "whole labels"),
        ("https://*.example.com/", "whole labels"),
        ("https://*.com", "top-level domain"),
        ("https://*.0.0.1", "not before an address"),
        ("https://*.[::1]", "not before an address"),
    ] {
        let mut config = CorsConfig::default();
        config.origin = Some(["https://good.example", entry].into_iter().collect());
        let error = CorsPolicy::try_from(config).unwrap_err();
        let [problem] = error.problems() else {
            panic!("{entry}: {error}")
        };
        assert_eq!(problem.key, "origin[1]", "{entry}");
        assert!(problem.message.contains(part), "{entry}: {error}");
    }
}

#[test]
fn any_origin_and_credentials_cannot_be_built() {
    for (origin, part) in [
        (None, "needs `origin`"),
        (Some("*".into()), "`origin: '*'`"),
        (Some(CorsOrigin::Reflect), "`origin: true`"),
        (
            Some(["null", "https://a.example"].into_iter().collect()),
            "`null`",
        ),
    ] {
        let mut config = CorsConfig::default();
        config.origin = origin;
        config.credentials = true;
        let error = CorsPolicy::try_from(config.clone()).unwrap_err();
        assert_eq!(error.problems().len(), 1);
        assert_eq!(error.problems()[0].key, "credentials");
        assert!(error.to_string().contains(part), "{error}");

        config.credentials = false;
        assert!(CorsPolicy::try_from(config.clone()).unwrap().is_on());
        config.credentials = true;
        config.enabled = false;
        assert!(!CorsPolicy::try_from(config).unwrap().is_on());
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let mut config = CorsConfig::default();
    config.enabled = false;
    config.origin = Some("x".into());
    config.methods = Some("GET,post,P T".into());
    config.allowed_headers = Some("".into());
    config.exposed_headers = Some(["x-a", "", "x b"].into_iter().collect());
    config.options_success_status = Some(404);
    let error = CorsPolicy::try_from(config).unwrap_err();
    let found: Vec<_> = error.problems().iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        found,
        [
            "origin",
            "methods[1]",
            "methods[2]",
            "allowedHeaders",
            "exposedHeaders[1]",
            "exposedHeaders[2]",
            "optionsSuccessStatus",
        ]
    );
    assert!(error.to_string().contains("write `POST` for `post`"));

    let mut config = CorsConfig::default();
    config.origin = Some(CorsOrigin::List(vec![]));
    config.methods = Some(CommaList::from_iter::<[&str; 0]>([]));
    config.allowed_headers = Some("x-a\r\nset-cookie: x".into());
    config.options_success_status = Some(65_740);
    let error = CorsPolicy::try_from(config).unwrap_err();
    let found: Vec<_> = error.problems().iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        found,
        [
            "origin",
            "methods",
            "allowedHeaders[0]",
            "optionsSuccessStatus"
        ]
    );

    let mut config = CorsConfig::default();
    config.origin = Some("https://a.example".into());
    config.credentials = true;
    config.allowed_headers = Some("*".into());
    let error = CorsPolicy::try_from(config).unwrap_err();
    assert_eq!(error.problems()[0].key, "allowedHeaders");
}

proptest! {
    /// Against a plain model: only names that end in a dot and the base are covered.
    #[test]
    fn wildcards_follow_the_model(labels in "[a-z.-]{0,12}", tail in "[.]?(example[.]com|ample[.]com|com)") {
        let host = format!("{labels}{tail}");
        let policy = policy(&["https://*.example.com"]);
        let model = host.split('.').all(|label| !label.is_empty())
            && host.split('.').count() > 2
            && host.split('.').rev().take(2).eq(["com", "example"]);
        let found = matched(&policy, &format!("https://{host}")) == OriginMatch::Named;
        prop_assert_eq!(found, model, "{}", host);
    }

    #[test]
    fn no_bytes_are_allowed_by_chance(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let found = policy(&["https://a.example", "https://*.example.com"]).match_origin(&value);
            prop_assert_eq!(found, OriginMatch::Refused);
        }
    }
}
