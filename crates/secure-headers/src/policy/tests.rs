use http::header::{CONTENT_TYPE, SERVER};
use proptest::prelude::*;

use super::*;
use crate::{CacheControlConfig, HstsConfig, PermissionsPolicyConfig, ReferrerPolicyConfig};
use crate::{CspConfig, CspSources, FrameguardConfig, Preset, ReportingEndpointsConfig, Setting};

fn with(change: impl FnOnce(&mut SecureHeadersConfig)) -> SecureHeadersPolicy {
    let mut config = SecureHeadersConfig::default();
    change(&mut config);
    SecureHeadersPolicy::try_from(config).unwrap()
}

#[test]
fn off_changes_nothing() {
    let mut headers = HeaderMap::new();
    headers.insert(SERVER, HeaderValue::from_static("x"));
    let before = headers.clone();
    SecureHeadersPolicy::off().apply(&mut headers);
    assert_eq!(headers, before);
    assert!(!SecureHeadersPolicy::off().is_on());
    assert_eq!(SecureHeadersPolicy::off().headers().count(), 0);
}

#[test]
fn the_default_is_helmets() {
    let policy = SecureHeadersPolicy::default();
    assert!(policy.is_on());
    assert_eq!(policy.headers().count(), 12);
    let mut headers = HeaderMap::new();
    policy.apply(&mut headers);
    assert_eq!(headers.len(), 12);
    assert!(!headers.contains_key(CACHE_CONTROL));
}

#[test]
fn copies_of_the_inner_service_are_replaced_and_others_stay() {
    let policy = with(|config| config.content_security_policy = Setting::Off);
    let mut headers = HeaderMap::new();
    for (name, _) in SecureHeadersPolicy::default().headers() {
        headers.append(name, HeaderValue::from_static("inner 1"));
        headers.append(name, HeaderValue::from_static("inner 2"));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    policy.apply(&mut headers);
    for (name, value) in policy.headers() {
        assert_eq!(
            headers.get_all(name).iter().collect::<Vec<_>>(),
            [value],
            "{name}"
        );
    }
    assert_eq!(headers[CONTENT_TYPE], "text/plain");
    assert_eq!(headers.get_all("content-security-policy").iter().count(), 2);
}

#[test]
fn of_the_two_content_security_policies_only_ours_stays() {
    const ENFORCED: &str = "content-security-policy";
    const REPORTED: &str = "content-security-policy-report-only";
    let reporting = with(|config| {
        config.content_security_policy = Setting::With(CspConfig {
            report_only: true,
            ..CspConfig::default()
        });
    });
    let off = with(|config| config.content_security_policy = Setting::Off);
    for (policy, enforced, reported) in [
        (SecureHeadersPolicy::default(), Some(true), None),
        (reporting, None, Some(true)),
        (off, Some(false), Some(false)),
    ] {
        let mut headers = HeaderMap::new();
        for name in [ENFORCED, REPORTED] {
            headers.append(name, HeaderValue::from_static("inner 1"));
            headers.append(name, HeaderValue::from_static("inner 2"));
        }
        policy.apply(&mut headers);
        for (name, ours) in [(ENFORCED, enforced), (REPORTED, reported)] {
            let is_ours = headers
                .get(name)
                .map(|value| !value.as_bytes().starts_with(b"inner"));
            assert_eq!(is_ours, ours, "{name}");
            let copies = ours.map_or(0, |ours| if ours { 1 } else { 2 });
            assert_eq!(headers.get_all(name).iter().count(), copies, "{name}");
        }
    }
}

#[test]
fn fingerprints_go_only_when_asked() {
    let keeping = with(|config| config.hide_powered_by = false);
    for (policy, left) in [(SecureHeadersPolicy::default(), 0), (keeping, 3)] {
        let mut headers = HeaderMap::new();
        headers.insert("x-powered-by", HeaderValue::from_static("Express"));
        headers.append(SERVER, HeaderValue::from_static("nginx/1.18.0"));
        headers.append(SERVER, HeaderValue::from_static("again"));
        policy.apply(&mut headers);
        let found =
            headers.get_all("x-powered-by").iter().count() + headers.get_all(SERVER).iter().count();
        assert_eq!(found, left);
    }
}

#[test]
fn an_answers_own_cache_control_stays() {
    let policy = with(|config| config.cache_control = Setting::With("private, max-age=60".into()));
    let mut headers = HeaderMap::new();
    policy.apply(&mut headers);
    assert_eq!(headers[CACHE_CONTROL], "private, max-age=60");
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    policy.apply(&mut headers);
    assert_eq!(
        headers.get_all(CACHE_CONTROL).iter().collect::<Vec<_>>(),
        ["no-store"]
    );
    let api = with(|config| config.preset = Some(Preset::Api));
    let mut headers = HeaderMap::new();
    api.apply(&mut headers);
    assert_eq!(headers[CACHE_CONTROL], "no-store");
}

#[test]
fn more_fields_than_a_map_can_take_are_no_way_past_the_policy() {
    let mut headers = HeaderMap::new();
    for number in 0..24_570 {
        let name = HeaderName::from_bytes(format!("a{number}").as_bytes()).unwrap();
        if headers
            .try_insert(name, HeaderValue::from_static(""))
            .is_err()
        {
            break;
        }
    }
    SecureHeadersPolicy::default().apply(&mut headers);
    assert_eq!(headers["x-content-type-options"], "nosniff");
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~\r\n\t]{0,24}",
        Just("'self'".to_owned()),
        Just("https://a.example".to_owned()),
        Just("self\r\nset-cookie: a=b".to_owned()),
        Just("deny".to_owned()),
        Just("no-store".to_owned()),
        Just("origin".to_owned()),
    ]
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![any_text(), "[a-z]{1,6}([A-Z-][a-z]{1,4}){0,2}"]
}

fn setting<T: Clone + std::fmt::Debug + 'static>(
    options: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Setting<T>> {
    prop_oneof![
        Just(Setting::Unset),
        Just(Setting::Off),
        Just(Setting::On),
        options.prop_map(Setting::With),
    ]
}

prop_compose! {
    fn any_csp()(
        use_defaults in any::<bool>(),
        report_only in any::<bool>(),
        directives in prop::collection::vec(
            (any_name(), prop_oneof![
                Just(CspSources::Removed),
                any_text().prop_map(CspSources::Text),
                prop::collection::vec(any_text(), 0..3).prop_map(CspSources::List),
            ]),
            0..3,
        ),
    ) -> CspConfig {
        CspConfig {
            use_defaults,
            report_only,
            directives: directives.into_iter().collect(),
        }
    }
}

prop_compose! {
    fn any_config()(
        api in any::<bool>(),
        csp in setting(any_csp()),
        action in prop::option::of(any_text()),
        referrer in prop::option::of(prop::collection::vec(any_text(), 0..2)),
        hsts in (any::<Option<u64>>(), any::<Option<bool>>(), any::<Option<bool>>()),
        permissions in setting(prop_oneof![
            Just(PermissionsPolicyConfig::DenyAll),
            any_text().prop_map(PermissionsPolicyConfig::Text),
            prop::collection::vec((any_name(), prop::collection::vec(any_text(), 0..2)), 0..2)
                .prop_map(PermissionsPolicyConfig::Features),
        ]),
        endpoints in prop::collection::vec((any_name(), any_text()), 1..3),
        report in any::<bool>(),
        cache in setting(any_text().prop_map(|text| CacheControlConfig::from(text.as_str()))),
    ) -> SecureHeadersConfig {
        let endpoints: ReportingEndpointsConfig = endpoints.into_iter().collect();
        let (max_age, include_sub_domains, preload) = hsts;
        SecureHeadersConfig {
            preset: api.then_some(Preset::Api),
            content_security_policy: csp,
            frameguard: Setting::With(FrameguardConfig { action }),
            referrer_policy: Setting::With(ReferrerPolicyConfig { policy: referrer }),
            hsts: Setting::With(HstsConfig { max_age, include_sub_domains, preload }),
            permissions_policy: permissions,
            reporting_endpoints: if report { Setting::With(endpoints) } else { Setting::Unset },
            cache_control: cache,
            ..SecureHeadersConfig::default()
        }
    }
}

/// Only the parts that were drawn as free text are taken from `drawn`, one at a time, so that most are accepted.
fn one_at_a_time(drawn: &SecureHeadersConfig) -> Vec<SecureHeadersConfig> {
    let only = |change: fn(&mut SecureHeadersConfig, SecureHeadersConfig)| {
        let mut config = SecureHeadersConfig::default();
        change(&mut config, drawn.clone());
        config
    };
    vec![
        drawn.clone(),
        only(|config, drawn| config.content_security_policy = drawn.content_security_policy),
        only(|config, drawn| config.frameguard = drawn.frameguard),
        only(|config, drawn| config.referrer_policy = drawn.referrer_policy),
        only(|config, drawn| config.permissions_policy = drawn.permissions_policy),
        only(|config, drawn| config.reporting_endpoints = drawn.reporting_endpoints),
        only(|config, drawn| config.cache_control = drawn.cache_control),
    ]
}

proptest! {
    #[test]
    fn what_is_accepted_holds_no_line_break_and_each_name_once(drawn in any_config()) {
        for config in one_at_a_time(&drawn) {
            // Must not panic, whatever the configuration.
            let _ = config.warnings();
            let Ok(policy) = SecureHeadersPolicy::try_from(config) else {
                continue;
            };
            let mut names: Vec<_> = policy.headers().map(|(name, _)| name.clone()).collect();
            let count = names.len();
            names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
            names.dedup();
            prop_assert_eq!(names.len(), count);

            let mut headers = HeaderMap::new();
            for name in &names {
                headers.append(name, HeaderValue::from_static("inner"));
                headers.append(name, HeaderValue::from_static("inner"));
            }
            policy.apply(&mut headers);
            for (name, value) in &headers {
                prop_assert!(value.as_bytes().iter().all(|b| matches!(b, b' '..=b'~')), "{name}: {value:?}");
                prop_assert_eq!(headers.get_all(name).iter().count(), 1);
                prop_assert_ne!(value, "inner");
            }
        }
    }
}
