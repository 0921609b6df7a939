use super::*;
use crate::SecureHeadersPolicy;

fn read(json: &str) -> Result<SecureHeadersConfig, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn policy(json: &str) -> Result<SecureHeadersPolicy, String> {
    SecureHeadersPolicy::try_from(read(json)?).map_err(|error| error.to_string())
}

/// The one header's value, or `None` if it is not set.
fn header(json: &str, name: &str) -> Option<String> {
    let policy = policy(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    let found: Vec<_> = policy
        .headers()
        .filter(|(known, _)| *known == name)
        .collect();
    assert!(found.len() <= 1, "{json}: {name} stands twice");
    found
        .first()
        .map(|(_, value)| value.to_str().unwrap().to_owned())
}

const DEFAULT_CSP: &str = "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';\
     frame-ancestors 'self';img-src 'self' data:;object-src 'none';script-src 'self';script-src-attr 'none';\
     style-src 'self' https: 'unsafe-inline';upgrade-insecure-requests";

#[test]
fn a_bare_switch_is_read() {
    assert_eq!(read("true"), Ok(SecureHeadersConfig::default()));
    assert_eq!(read("{}"), Ok(SecureHeadersConfig::default()));
    assert!(!policy("false").unwrap().is_on());
    assert!(
        !policy(r#"{"enabled": false, "hsts": true}"#)
            .unwrap()
            .is_on()
    );
    assert!(policy(r#"{"enabled": true}"#).unwrap().is_on());
}

#[test]
fn the_map_of_the_hardening_guide_takes_effect() {
    let json = r#"{
        "enabled": true, "contentSecurityPolicy": false, "crossOriginEmbedderPolicy": true,
        "crossOriginOpenerPolicy": true, "crossOriginResourcePolicy": true, "dnsPrefetchControl": true,
        "frameguard": true, "hidePoweredBy": true, "hsts": true, "ieNoOpen": true, "noSniff": true,
        "originAgentCluster": true, "permittedCrossDomainPolicies": true, "referrerPolicy": true,
        "xssFilter": true}"#;
    let policy = policy(json).unwrap();
    let set: Vec<_> = policy
        .headers()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    assert_eq!(
        set,
        [
            "cross-origin-embedder-policy: require-corp",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
            "origin-agent-cluster: ?1",
            "referrer-policy: no-referrer",
            "strict-transport-security: max-age=31536000; includeSubDomains",
            "x-content-type-options: nosniff",
            "x-dns-prefetch-control: off",
            "x-download-options: noopen",
            "x-frame-options: SAMEORIGIN",
            "x-permitted-cross-domain-policies: none",
            "x-xss-protection: 0",
        ]
    );
}

#[test]
fn each_key_has_its_value_under_both_names() {
    for (json, name, value) in [
        ("{}", "content-security-policy", Some(DEFAULT_CSP)),
        (
            r#"{"contentSecurityPolicy": true}"#,
            "content-security-policy",
            Some(DEFAULT_CSP),
        ),
        (
            r#"{"contentSecurityPolicy": {}}"#,
            "content-security-policy",
            Some(DEFAULT_CSP),
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {}}}"#,
            "content-security-policy",
            Some(DEFAULT_CSP),
        ),
        (
            r#"{"contentSecurityPolicy": false}"#,
            "content-security-policy",
            None,
        ),
        (
            r#"{"contentSecurityPolicy": {"reportOnly": true}}"#,
            "content-security-policy",
            None,
        ),
        (
            r#"{"contentSecurityPolicy": {"reportOnly": true}}"#,
            "content-security-policy-report-only",
            Some(DEFAULT_CSP),
        ),
        ("{}", "cross-origin-embedder-policy", None),
        (
            r#"{"crossOriginEmbedderPolicy": {"policy": "credentialless"}}"#,
            "cross-origin-embedder-policy",
            Some("credentialless"),
        ),
        (
            r#"{"crossOriginEmbedderPolicy": {}}"#,
            "cross-origin-embedder-policy",
            Some("require-corp"),
        ),
        (
            r#"{"crossOriginOpenerPolicy": {"policy": "noopener-allow-popups"}}"#,
            "cross-origin-opener-policy",
            Some("noopener-allow-popups"),
        ),
        (
            r#"{"crossOriginResourcePolicy": {"policy": "same-site"}}"#,
            "cross-origin-resource-policy",
            Some("same-site"),
        ),
        (
            r#"{"originAgentCluster": false}"#,
            "origin-agent-cluster",
            None,
        ),
        (
            r#"{"referrerPolicy": {"policy": "origin"}}"#,
            "referrer-policy",
            Some("origin"),
        ),
        (
            r#"{"referrerPolicy": {"policy": ""}}"#,
            "referrer-policy",
            Some(""),
        ),
        (
            r#"{"referrerPolicy": {"policy": ["no-referrer", "strict-origin-when-cross-origin"]}}"#,
            "referrer-policy",
            Some("no-referrer,strict-origin-when-cross-origin"),
        ),
        (
            r#"{"hsts": {"maxAge": 31536000, "includeSubDomains": true, "preload": true}}"#,
            "strict-transport-security",
            Some("max-age=31536000; includeSubDomains; preload"),
        ),
        (
            r#"{"hsts": {"maxAge": 0}}"#,
            "strict-transport-security",
            Some("max-age=0; includeSubDomains"),
        ),
        (
            r#"{"hsts": {"maxAge": 12.9}}"#,
            "strict-transport-security",
            Some("max-age=12; includeSubDomains"),
        ),
        (
            r#"{"strictTransportSecurity": {"includeSubDomains": false}}"#,
            "strict-transport-security",
            Some("max-age=31536000"),
        ),
        (r#"{"hsts": false}"#, "strict-transport-security", None),
        (r#"{"noSniff": false}"#, "x-content-type-options", None),
        (
            r#"{"xContentTypeOptions": false}"#,
            "x-content-type-options",
            None,
        ),
        (
            r#"{"dnsPrefetchControl": {"allow": true}}"#,
            "x-dns-prefetch-control",
            Some("on"),
        ),
        (
            r#"{"xDnsPrefetchControl": {"allow": false}}"#,
            "x-dns-prefetch-control",
            Some("off"),
        ),
        (r#"{"xDownloadOptions": false}"#, "x-download-options", None),
        (
            r#"{"frameguard": {"action": "deny"}}"#,
            "x-frame-options",
            Some("DENY"),
        ),
        (
            r#"{"frameguard": {"action": "Same-Origin"}}"#,
            "x-frame-options",
            Some("SAMEORIGIN"),
        ),
        (
            r#"{"xFrameOptions": {"action": "DENY"}}"#,
            "x-frame-options",
            Some("DENY"),
        ),
        (
            r#"{"permittedCrossDomainPolicies": {"permittedPolicies": "by-content-type"}}"#,
            "x-permitted-cross-domain-policies",
            Some("by-content-type"),
        ),
        (
            r#"{"xPermittedCrossDomainPolicies": false}"#,
            "x-permitted-cross-domain-policies",
            None,
        ),
        (r#"{"xXssProtection": false}"#, "x-xss-protection", None),
        ("{}", "permissions-policy", None),
        (
            r#"{"permissionsPolicy": {"camera": [], "geolocation": ["self", "https://maps.example.com"],
                "fullscreen": ["*"], "clipboardRead": ["self"]}}"#,
            "permissions-policy",
            Some(
                "camera=(), geolocation=(self \"https://maps.example.com\"), fullscreen=*, clipboard-read=(self)",
            ),
        ),
        (
            r#"{"permissionsPolicy": "camera=(), geolocation=(self \"https://a.example\"), midi=*"}"#,
            "permissions-policy",
            Some("camera=(), geolocation=(self \"https://a.example\"), midi=*"),
        ),
        (
            r#"{"reportingEndpoints": {"default": "https://r.example/a?b=c", "csp": "https://r.example:8443/csp"}}"#,
            "reporting-endpoints",
            Some("default=\"https://r.example/a?b=c\", csp=\"https://r.example:8443/csp\""),
        ),
        (
            r#"{"reportingEndpoints": false}"#,
            "reporting-endpoints",
            None,
        ),
    ] {
        assert_eq!(header(json, name).as_deref(), value, "{json}");
    }
}

#[test]
fn directives_are_merged_as_helmet_does() {
    let csp = |options: &str| {
        let json = format!(r#"{{"contentSecurityPolicy": {options}}}"#);
        header(&json, "content-security-policy").unwrap()
    };
    assert_eq!(
        csp(
            r#"{"directives": {"defaultSrc": ["'self'"], "scriptSrc": ["'self'", "'unsafe-inline'"],
            "styleSrc": ["'self'", "'unsafe-inline'"], "imgSrc": ["'self'", "data:", "https:"]}}"#
        ),
        "default-src 'self';base-uri 'self';font-src 'self' https: data:;form-action 'self';\
         frame-ancestors 'self';img-src 'self' data: https:;object-src 'none';\
         script-src 'self' 'unsafe-inline';script-src-attr 'none';style-src 'self' 'unsafe-inline';\
         upgrade-insecure-requests"
    );
    for (options, expected) in [
        (
            r#"{"useDefaults": false, "directives": {"default-src": "'none'"}}"#,
            "default-src 'none'",
        ),
        (
            r#"{"useDefaults": false, "directives": {"sandbox": [], "defaultSrc": "'self'", "imgSrc": ""}}"#,
            "sandbox;default-src 'self';img-src",
        ),
        (
            r#"{"useDefaults": false, "directives": {"defaultSrc": "'self'  https:", "reportURI": "/r"}}"#,
            "default-src 'self' https:;report-u-r-i /r",
        ),
    ] {
        assert_eq!(csp(options), expected, "{options}");
    }
    let appended =
        csp(r#"{"directives": {"upgrade-insecure-requests": null, "connectSrc": ["'self'"]}}"#);
    assert!(
        appended.ends_with("'unsafe-inline';connect-src 'self'"),
        "{appended}"
    );
    assert!(!csp(r#"{"directives": {"workerSrc": null}}"#).contains("worker-src"));
}

#[test]
fn what_helmet_refuses_is_refused() {
    for (json, part) in [
        (
            r#"{"hsts": {"maxAge": -1}}"#,
            "a number of seconds from 0, without quotes",
        ),
        (
            r#"{"hsts": {"maxAge": -0.5}}"#,
            "a number of seconds from 0, without quotes",
        ),
        (
            r#"{"hsts": {"maxAge": "123"}}"#,
            "a number of seconds from 0, without quotes",
        ),
        (
            r#"{"hsts": {"maxAge": null}}"#,
            "a number of seconds from 0, without quotes",
        ),
        (
            r#"{"hsts": {"maxage": 1}}"#,
            "unknown field `maxage`, expected one of `maxAge`",
        ),
        (
            r#"{"hsts": {"includeSubdomains": true}}"#,
            "unknown field `includeSubdomains`",
        ),
        (
            r#"{"frameguard": {"action": "allow-from"}}"#,
            "frameguard.action: X-Frame-Options received an invalid action `allow-from`",
        ),
        (r#"{"frameguard": {"action": ""}}"#, "invalid action ``"),
        (r#"{"frameguard": {"action": null}}"#, "invalid type: null"),
        (
            r#"{"crossOriginEmbedderPolicy": {"policy": "x"}}"#,
            "crossOriginEmbedderPolicy.policy: Cross-Origin-Embedder-Policy does not support `x`: expected require-corp, credentialless or unsafe-none",
        ),
        (
            r#"{"crossOriginOpenerPolicy": {"policy": "x"}}"#,
            "Cross-Origin-Opener-Policy does not support `x`",
        ),
        (
            r#"{"crossOriginResourcePolicy": {"policy": "x"}}"#,
            "Cross-Origin-Resource-Policy does not support `x`",
        ),
        (
            r#"{"permittedCrossDomainPolicies": {"permittedPolicies": "x"}}"#,
            "permittedCrossDomainPolicies.permittedPolicies: X-Permitted-Cross-Domain-Policies does not support `x`",
        ),
        (
            r#"{"referrerPolicy": {"policy": []}}"#,
            "received no policy tokens",
        ),
        (
            r#"{"referrerPolicy": {"policy": "x"}}"#,
            "unexpected policy token `x`",
        ),
        (
            r#"{"referrerPolicy": {"policy": ["origin", "origin"]}}"#,
            "duplicate policy token `origin`",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"defaultSrc": "'self'", "default-src": "'self'"}}}"#,
            "contentSecurityPolicy.directives.default-src: Content-Security-Policy received a duplicate directive `default-src`",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"script_src": "x"}}}"#,
            "invalid directive name `script_src`",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"": "x"}}}"#,
            "invalid directive name ``",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"Default-src": "x"}}}"#,
            "invalid directive name",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"script-": "x"}}}"#,
            "invalid directive name",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": "a;b"}}}"#,
            "contentSecurityPolicy.directives.scriptSrc: Content-Security-Policy received an invalid directive value for `script-src`",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": ["a", "b,c"]}}}"#,
            "invalid directive value for `script-src`",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": "a\r\nset-cookie: b"}}}"#,
            "a line break",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": false}}}"#,
            "expected a list of sources",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": 0}}}"#,
            "expected a list of sources",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": true}}}"#,
            "expected a list of sources",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": {}}}}"#,
            "expected a list of sources",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": [1]}}}"#,
            "expected a string",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": "self"}}}"#,
            "`self` should be quoted; write \"'self'\"",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": "https: unsafe-inline"}}}"#,
            "`unsafe-inline` should be quoted",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": ["nonce-abc"]}}}"#,
            "`nonce-abc` should be quoted",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": ["sha512-abc"]}}}"#,
            "`sha512-abc` should be quoted",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"defaultSrc": null}}}"#,
            "needs a default-src but it was set to `null`",
        ),
        (
            r#"{"contentSecurityPolicy": {"useDefaults": false, "directives": {"scriptSrc": "a"}}}"#,
            "needs a default-src but none was provided",
        ),
        (
            r#"{"contentSecurityPolicy": {"useDefaults": false, "directives": {}}}"#,
            "has no directives",
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": null}}"#,
            "expected a map of directives",
        ),
        (
            r#"{"hsts": false, "strictTransportSecurity": false}"#,
            "strictTransportSecurity: the option was specified twice, as `strictTransportSecurity` and as `hsts`; remove `hsts`",
        ),
        (
            r#"{"xXssProtection": true, "xssFilter": true}"#,
            "remove `xssFilter`",
        ),
    ] {
        let error = policy(json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
    }
}

#[test]
fn every_pair_of_names_excludes_itself() {
    for (older, newer) in ALIASES {
        let error = policy(&format!(r#"{{"{older}": true, "{newer}": true}}"#)).unwrap_err();
        assert!(error.contains("specified twice"), "{older}: {error}");
        let error = policy(&format!(r#"{{"{older}": true, "{older}": true}}"#)).unwrap_err();
        assert!(error.contains("duplicate field"), "{older}: {error}");
    }
}

#[test]
fn what_helmet_misreads_is_refused_with_the_mend() {
    for (json, part) in [
        ("null", "expected `true`, `false` or a map of headers"),
        (r#""on""#, "expected `true`, `false` or a map of headers"),
        (r#"{"framegard": true}"#, "unknown field `framegard`"),
        (r#"{"enabled": "true"}"#, "without quotes"),
        (
            r#"{"frameguard": "deny"}"#,
            "write `frameguard: {action: deny}`",
        ),
        (
            r#"{"frameguard": "sameorigin"}"#,
            "write `frameguard: {action: sameorigin}`",
        ),
        (
            r#"{"xFrameOptions": "DENY"}"#,
            "write `xFrameOptions: {action: DENY}`",
        ),
        (
            r#"{"frameguard": "a\r\nb"}"#,
            "write `frameguard: {action: deny}`",
        ),
        (r#"{"frameguard": "true"}"#, "write it without quotes"),
        (
            r#"{"frameguard": null}"#,
            "expected `true`, `false` or a map of options, as in `frameguard: {action: deny}`",
        ),
        (r#"{"hsts": null}"#, "as in `hsts: {maxAge: 31536000}`"),
        (r#"{"hsts": 0}"#, "as in `hsts: {maxAge: 31536000}`"),
        (r#"{"hsts": "x"}"#, "write `hsts: {maxAge: 31536000}`"),
        (
            r#"{"contentSecurityPolicy": null}"#,
            "expected `true`, `false` or a map",
        ),
        (
            r#"{"contentSecurityPolicy": "default-src 'self'"}"#,
            "write `contentSecurityPolicy: {directives: {defaultSrc: [\"'self'\"]}}`",
        ),
        (
            r#"{"contentSecurityPolicy": {"useDefaults": "false"}}"#,
            "without quotes",
        ),
        (
            r#"{"contentSecurityPolicy": {"defaultSrc": "x"}}"#,
            "unknown field `defaultSrc`",
        ),
        (
            r#"{"referrerPolicy": ["origin"]}"#,
            "as in `referrerPolicy: {policy: no-referrer}`",
        ),
        (
            r#"{"referrerPolicy": "origin"}"#,
            "write `referrerPolicy: {policy: origin}`",
        ),
        (r#"{"dnsPrefetchControl": {"allow": 1}}"#, "without quotes"),
        (
            r#"{"dnsPrefetchControl": "yes"}"#,
            "write `dnsPrefetchControl: {allow: false}`",
        ),
        (r#"{"noSniff": null}"#, "`true` or `false`, without quotes"),
        (r#"{"noSniff": 0}"#, "`true` or `false`, without quotes"),
        (r#"{"noSniff": {}}"#, "`true` or `false`, without quotes"),
        (
            r#"{"preset": "pages"}"#,
            "unknown variant `pages`, expected `api`",
        ),
        (r#"{"permissionsPolicy": null}"#, "a map of features"),
        (
            r#"{"permissionsPolicy": {}}"#,
            "permissionsPolicy: expected at least one feature",
        ),
        (
            r#"{"permissionsPolicy": {"camera": "self"}}"#,
            "where [] means nobody",
        ),
        (
            r#"{"permissionsPolicy": {"camera": ["'self'"]}}"#,
            "permissionsPolicy.camera: `'self'` is no member here",
        ),
        (
            r#"{"permissionsPolicy": {"camera": ["https://a.example/\r\nx"]}}"#,
            "is no member",
        ),
        (
            r#"{"permissionsPolicy": {"camera": ["*", "self"]}}"#,
            "nothing can stand beside it",
        ),
        (
            r#"{"permissionsPolicy": {"ca mera": []}}"#,
            "is no name of a feature",
        ),
        (
            r#"{"permissionsPolicy": {"screenWakeLock": [], "screen-wake-lock": []}}"#,
            "stands twice",
        ),
        (
            r#"{"permissionsPolicy": "camera 'none'"}"#,
            "is no Permissions-Policy",
        ),
        (
            r#"{"permissionsPolicy": "camera=(), "}"#,
            "is no Permissions-Policy",
        ),
        (
            r#"{"permissionsPolicy": "camera=(\""}"#,
            "is no Permissions-Policy",
        ),
        (
            r#"{"permissionsPolicy": "camera=()\nx: y"}"#,
            "a line break",
        ),
        (
            r#"{"reportingEndpoints": true}"#,
            "expected at least one endpoint",
        ),
        (
            r#"{"reportingEndpoints": "https://r.example"}"#,
            "a map of names and https URLs",
        ),
        (
            r#"{"reportingEndpoints": {"csp": "http://r.example"}}"#,
            "reportingEndpoints.csp: expected a URL that begins with https://",
        ),
        (
            r#"{"reportingEndpoints": {"csp": "https://"}}"#,
            "expected a URL",
        ),
        (
            r#"{"reportingEndpoints": {"csp": "https://u:p@r.example"}}"#,
            "without user",
        ),
        (
            r#"{"reportingEndpoints": {"csp": "https://r.example/\",x=\""}}"#,
            "expected a URL",
        ),
        (
            r#"{"reportingEndpoints": {"C S": "https://r.example"}}"#,
            "is no name of an endpoint",
        ),
        (r#"{"cacheControl": null}"#, "a text such as `no-store`"),
        (r#"{"cacheControl": ""}"#, "is no Cache-Control"),
        (r#"{"cacheControl": "no store"}"#, "is no Cache-Control"),
        (r#"{"cacheControl": "no-store\r\nx: y"}"#, "a line break"),
        (r#"{"cacheControl": {"a": 1}}"#, "a text such as `no-store`"),
    ] {
        let error = policy(json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
    }
}

#[test]
fn all_problems_are_told_at_once_under_the_name_in_the_file() {
    let config = read(
        r#"{"xFrameOptions": {"action": "x"}, "cacheControl": "", "referrerPolicy": {"policy": "x"},
            "contentSecurityPolicy": {"directives": {"scriptSrc": "self", "styleSrc": ["none", "a;b"]}}}"#,
    )
    .unwrap();
    let error = SecureHeadersPolicy::try_from(config).unwrap_err();
    let keys: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "contentSecurityPolicy.directives.scriptSrc",
            "contentSecurityPolicy.directives.styleSrc",
            "contentSecurityPolicy.directives.styleSrc",
            "referrerPolicy.policy",
            "xFrameOptions.action",
            "cacheControl",
        ]
    );
}

#[test]
fn no_url_of_a_collector_is_shown() {
    let error =
        policy(r#"{"reportingEndpoints": {"csp": "http://r.example/key-4711"}}"#).unwrap_err();
    assert!(!error.contains("4711"), "{error}");
}

#[test]
fn a_draft_that_is_switched_off_is_still_checked() {
    let error = policy(r#"{"enabled": false, "frameguard": {"action": "x"}}"#).unwrap_err();
    assert!(error.contains("invalid action"), "{error}");
}

#[test]
fn the_preset_gives_other_defaults_and_keys_count_for_more() {
    let all = policy(r#"{"preset": "api"}"#).unwrap();
    let set: Vec<_> = all
        .headers()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    for expected in [
        (
            "content-security-policy",
            "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none';object-src 'none'",
        ),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("referrer-policy", "no-referrer"),
        (
            "strict-transport-security",
            "max-age=63072000; includeSubDomains",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert!(set.contains(&expected), "{expected:?} in {set:?}");
    }
    for (keys, name, value) in [
        (
            r#""hsts": true"#,
            "strict-transport-security",
            Some("max-age=63072000; includeSubDomains"),
        ),
        (
            r#""hsts": {"preload": true}"#,
            "strict-transport-security",
            Some("max-age=63072000; includeSubDomains; preload"),
        ),
        (
            r#""hsts": {"maxAge": 5}"#,
            "strict-transport-security",
            Some("max-age=5; includeSubDomains"),
        ),
        (
            r#""frameguard": {"action": "sameorigin"}"#,
            "x-frame-options",
            Some("SAMEORIGIN"),
        ),
        (
            r#""crossOriginEmbedderPolicy": false"#,
            "cross-origin-embedder-policy",
            None,
        ),
        (
            r#""permissionsPolicy": {"camera": ["self"]}"#,
            "permissions-policy",
            Some("camera=(self)"),
        ),
        (r#""permissionsPolicy": false"#, "permissions-policy", None),
        (
            r#""contentSecurityPolicy": {"directives": {"connectSrc": "'self'"}}"#,
            "content-security-policy",
            Some(
                "default-src 'none';base-uri 'none';form-action 'none';frame-ancestors 'none';object-src 'none';\
                 connect-src 'self'",
            ),
        ),
    ] {
        let json = format!(r#"{{"preset": "api", {keys}}}"#);
        assert_eq!(header(&json, name).as_deref(), value, "{json}");
    }
}

#[test]
fn dangerous_settings_are_warned_about() {
    let csp = "contentSecurityPolicy";
    let script = "contentSecurityPolicy.directives.scriptSrc";
    for (json, keys) in [
        ("true", &[][..]),
        (r#"{"preset": "api"}"#, &[]),
        ("false", &[""]),
        (r#"{"contentSecurityPolicy": false}"#, &[csp]),
        (
            r#"{"contentSecurityPolicy": false, "xFrameOptions": false}"#,
            &[csp, "xFrameOptions"],
        ),
        (r#"{"frameguard": false}"#, &[]),
        (
            r#"{"frameguard": false, "contentSecurityPolicy": {"directives": {"frame-ancestors": null}}}"#,
            &["frameguard"],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": "'unsafe-inline'"}}}"#,
            &[script],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": "'unsafe-inline' 'strict-dynamic' 'sha256-x'"}}}"#,
            &[],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": ["'unsafe-eval'", "*"]}}}"#,
            &[script, script],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": ["'nonce-abc'"]}}}"#,
            &[script],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"scriptSrc": ["'none'", "a"]}}}"#,
            &[script],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"styleSrc": "'unsafe-inline'"}}}"#,
            &[],
        ),
        (
            r#"{"contentSecurityPolicy": {"useDefaults": false, "directives": {"default-src": "'unsafe-inline'"}}}"#,
            &["contentSecurityPolicy.directives.default-src"],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"reportURI": "/r"}}}"#,
            &["contentSecurityPolicy.directives.reportURI"],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"reportTo": "csp"}}}"#,
            &["contentSecurityPolicy.directives.reportTo"],
        ),
        (
            r#"{"contentSecurityPolicy": {"directives": {"reportTo": "csp"}},
                "reportingEndpoints": {"csp": "https://r.example"}}"#,
            &[],
        ),
        (
            r#"{"contentSecurityPolicy": {"reportOnly": true}}"#,
            &["contentSecurityPolicy.reportOnly"],
        ),
        (
            r#"{"xContentTypeOptions": false}"#,
            &["xContentTypeOptions"],
        ),
        (
            r#"{"referrerPolicy": {"policy": "unsafe-url"}}"#,
            &["referrerPolicy.policy"],
        ),
        (r#"{"hsts": {"maxAge": 0}}"#, &["hsts.maxAge"]),
        (r#"{"hsts": {"maxAge": 3600}}"#, &["hsts.maxAge"]),
        (
            r#"{"strictTransportSecurity": {"preload": true, "includeSubDomains": false}}"#,
            &["strictTransportSecurity.preload"],
        ),
        (r#"{"hsts": {"maxAge": 31536000, "preload": true}}"#, &[]),
    ] {
        let warnings = read(json).unwrap().warnings();
        let found: Vec<_> = warnings
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(found, keys, "{json}: {warnings:?}");
    }
}
