//! Broken configurations: each is answered with the key, the line and what was expected.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail, and takes time to be measured"
)]

use std::time::{Duration, Instant};

use proactions_config::{Loader, Report};

const ENV: [(&str, &str); 9] = [
    ("COOKIE_SECRET", "0123456789abcdef0123456789abcdef-cookie"),
    ("TOKEN", "a-token-of-the-environment-000000001"),
    ("EMPTY", ""),
    ("NUMBER", "12345"),
    ("WORD", "shibboleth"),
    ("BOTH", "both-direct"),
    ("BOTH_FILE", "/nowhere/both"),
    ("GONE_FILE", "/nowhere/gone"),
    ("BIG_PORT", "70000"),
];

fn load(text: &str, env: &[(&str, &str)]) -> Result<(), Report> {
    let started = Instant::now();
    let result = Loader::from_text("config.yaml", text)
        .env(env.iter().copied())
        .load();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "too slow: {text}"
    );
    result.map(|_| ())
}

/// A configuration, and all that is said about it: line, key and a part of the message.
type Case = (&'static str, &'static [(usize, &'static str, &'static str)]);

const CASES: &[Case] = &[
    // The file itself.
    ("", &[(1, "", "no configuration")]),
    ("# only a comment\n", &[(1, "", "no configuration")]),
    ("~\n", &[(1, "", "no configuration")]),
    (
        "- a\n- b\n",
        &[(1, "", "expected sections such as hub:, found a list")],
    ),
    (
        "just text\n",
        &[(1, "", "expected sections such as hub:, found text")],
    ),
    ("hub: {port: 1\n", &[(1, "", "not valid YAML")]),
    ("hub:\n  port: 'open\n", &[(2, "", "not valid YAML")]),
    ("hub:\n\tport: 1\n", &[(2, "", "not valid YAML")]),
    ("hub: a: b\n", &[(1, "", "not valid YAML")]),
    ("hub: *nowhere\n", &[(1, "", "unknown anchor")]),
    ("hub: !secret x\n", &[(1, "", "tags are not supported")]),
    (
        "hub: {}\n---\nhub: {}\n",
        &[(2, "", "second YAML document")],
    ),
    (
        "hub:\n  port: 1\n  port: 2\n",
        &[(3, "hub.port", "twice; it is at line 2")],
    ),
    (
        "hub: {}\nauth: {}\nhub: {}\n",
        &[(3, "hub", "twice; it is at line 1")],
    ),
    // Sections and keys.
    ("hub:\n", &[(1, "hub", "has no value")]),
    ("auth: null\n", &[(1, "auth", "has no value")]),
    (
        "hub:\n  security:\n    cors: ~\n",
        &[(3, "hub.security.cors", "has no value")],
    ),
    ("hub:\n  host:\n", &[(2, "hub.host", "has no value")]),
    ("hbu: {}\n", &[(1, "hbu", "unknown key, did you mean hub?")]),
    (
        "hub:\n  prot: 1\n",
        &[(2, "hub.prot", "did you mean port?")],
    ),
    (
        "hub:\n  security:\n    rateLimit:\n      maxx: 5\n",
        &[(
            4,
            "hub.security.rateLimit.maxx",
            "unknown key, did you mean max?",
        )],
    ),
    (
        "hub:\n  security:\n    ratelimit: {}\n",
        &[(3, "hub.security.ratelimit", "did you mean rateLimit?")],
    ),
    (
        "hub:\n  httpClient: {}\n",
        &[(2, "hub.httpClient", "did you mean http_client?")],
    ),
    (
        "healthCheck:\n  readiness_path: /r\n",
        &[(
            2,
            "healthCheck.readiness_path",
            "did you mean readinessPath?",
        )],
    ),
    (
        "metrics:\n  qqqqqq: 1\n",
        &[(
            2,
            "metrics.qqqqqq",
            "the known ones are enabled, host, port",
        )],
    ),
    (
        "hub: [1]\n",
        &[(1, "hub", "expected a map of keys, found a list")],
    ),
    (
        "hub: true\n",
        &[(1, "hub", "expected a map of keys, found true or false")],
    ),
    (
        "targets: {a: 1}\n",
        &[(1, "targets", "expected a list, found a map")],
    ),
    (
        "targets:\n  - echo\n",
        &[(2, "targets[0]", "expected a map of keys, found text")],
    ),
    // Types.
    (
        "hub:\n  port: \"3000\"\n",
        &[(
            2,
            "hub.port",
            "expected a whole number from 0 to 65535, found text; remove the quotes",
        )],
    ),
    ("hub:\n  port: abc\n", &[(2, "hub.port", "found text")]),
    ("hub:\n  port: 1e3\n", &[(2, "hub.port", "plain digits")]),
    ("hub:\n  port: 0x50\n", &[(2, "hub.port", "plain digits")]),
    ("hub:\n  port: 080\n", &[(2, "hub.port", "plain digits")]),
    (
        "hub:\n  port: 70000\n",
        &[(2, "hub.port", "from 0 to 65535")],
    ),
    ("hub:\n  port: -1\n", &[(2, "hub.port", "from 0 to 65535")]),
    (
        "hub:\n  port: 80.5\n",
        &[(2, "hub.port", "from 0 to 65535")],
    ),
    (
        "hub:\n  port: true\n",
        &[(2, "hub.port", "found true or false")],
    ),
    (
        "hub:\n  host: 127\n",
        &[(
            2,
            "hub.host",
            "expected text, found a number; put it in quotes",
        )],
    ),
    (
        "metrics:\n  enabled: yes\n",
        &[(2, "metrics.enabled", "write true or false")],
    ),
    (
        "metrics:\n  enabled: 'true'\n",
        &[(2, "metrics.enabled", "remove the quotes")],
    ),
    (
        "metrics:\n  enabled: 1\n",
        &[(
            2,
            "metrics.enabled",
            "expected true or false, found a number",
        )],
    ),
    (
        "hub:\n  tls:\n    minVersion: TLSv1.1\n",
        &[(
            3,
            "hub.tls.minVersion",
            "expected TLSv1.2 or TLSv1.3; did you mean",
        )],
    ),
    (
        "hub:\n  tls:\n    keyPermissions: ignore\n",
        &[(3, "hub.tls.keyPermissions", "expected refuse or warn")],
    ),
    // Values.
    (
        "hub:\n  host: 300.1.1.1\n",
        &[(2, "hub.host", "expected an IP address")],
    ),
    (
        "hub:\n  host: '127.0.0.1:80'\n",
        &[(2, "hub.host", "without a port")],
    ),
    (
        "hub:\n  ailink_host: 0.0.0.0\n",
        &[(2, "hub.ailink_host", "ailink_allow_external")],
    ),
    (
        "hub:\n  ailink_host: 10.0.0.1\n  ailink_allow_external: no\n",
        &[
            (2, "hub.ailink_host", "expected localhost"),
            (3, "hub.ailink_allow_external", "write true or false"),
        ],
    ),
    (
        "hub:\n  port: 3001\n  ailink_port: 3001\n",
        &[(3, "hub.ailink_port", "another port than hub.port")],
    ),
    (
        "hub:\n  shutdownTimeout: 99999999\n",
        &[(2, "hub.shutdownTimeout", "at most 3600000")],
    ),
    (
        "hub:\n  listener:\n    maxConnections: 0\n",
        &[
            (3, "hub.listener.maxConnections", "expected between"),
            (
                2,
                "hub.listener.maxConnectionsPerAddress",
                "at most maxConnections",
            ),
        ],
    ),
    (
        "hub:\n  listener:\n    headerTimeout: 0\n",
        &[(3, "hub.listener.headerTimeout", "between 1 and 86400000")],
    ),
    (
        "hub:\n  http_client:\n    timeout: 0\n",
        &[(3, "hub.http_client.timeout", "between 1 and 86400000")],
    ),
    (
        "hub:\n  tls:\n    enabled: false\n    ciphers: HIGH:!aNULL\n",
        &[(4, "hub.tls.ciphers", "a keyword of OpenSSL")],
    ),
    (
        "hub:\n  tls:\n    requestCert: true\n",
        &[(2, "hub.tls.ca", "is required with requestCert")],
    ),
    (
        "hub:\n  tls:\n    enabled: true\n",
        &[
            (2, "hub.tls.cert", "is required"),
            (2, "hub.tls.key", "is required"),
        ],
    ),
    (
        "healthCheck:\n  path: health\n",
        &[(2, "healthCheck.path", "no leading slash")],
    ),
    (
        "healthCheck:\n  path: /health/\n",
        &[(2, "healthCheck.path", "without / at its end")],
    ),
    (
        "healthCheck:\n  path: /v1/models\n",
        &[(2, "healthCheck.path", "outside of /v1")],
    ),
    (
        "healthCheck:\n  path: /ready\n",
        &[(1, "healthCheck.readinessPath", "another path")],
    ),
    (
        "metrics: {enabled: true, port: 3000}\n",
        &[(1, "metrics.port", "another port than hub.port")],
    ),
    // Sections of the layers.
    (
        "hub:\n  security:\n    trustProxy: -1\n",
        &[(3, "hub.security.trustProxy", "cannot be negative")],
    ),
    (
        "hub:\n  security:\n    trustProxy: [10.0.0.0/33]\n",
        &[(3, "hub.security.trustProxy[0]", "")],
    ),
    (
        "hub:\n  security:\n    trustProxy: '1'\n",
        &[(3, "hub.security.trustProxy", "without quotes")],
    ),
    (
        "hub:\n  security:\n    limits:\n      json: 50m\n",
        &[(4, "hub.security.limits.json", "")],
    ),
    (
        "hub:\n  security:\n    cors:\n      credentials: true\n      origin: '*'\n",
        &[(4, "hub.security.cors.credentials", "list the origins")],
    ),
    (
        "hub:\n  security:\n    cors:\n      credentials: 'true'\n",
        &[(4, "hub.security.cors.credentials", "")],
    ),
    (
        "hub:\n  security:\n    rateLimit:\n      windowMs: '900000'\n",
        &[(4, "hub.security.rateLimit.windowMs", "")],
    ),
    (
        "hub:\n  security:\n    rateLimit: {store: redis}\n",
        &[(0, "auth.session.redis_client", "needs its url")],
    ),
    (
        "hub:\n  security:\n    rateLimit: {store: redsi}\n",
        &[(3, "hub.security.rateLimit.store", "did you mean redis?")],
    ),
    (
        "logging:\n  format: xml\n",
        &[(2, "logging.format", "json")],
    ),
    (
        "logging:\n  types:\n    acces: {}\n",
        &[(3, "logging.types.acces", "did you mean access?")],
    ),
    (
        "hub:\n  egress: {allowHosts: [good.example, 'https://bad.example']}\n",
        &[(2, "hub.egress.allowHosts[1]", "expected a host name")],
    ),
    (
        "hub:\n  egress:\n    proxy: socks5://proxy.example:1080\n",
        &[(3, "hub.egress.proxy", "must begin with http:// or https://")],
    ),
    ("youtube: {}\n", &[(1, "youtube.accounts", "at least one")]),
    (
        "proxies:\n  - id: a\n    url: ftp://x\n",
        &[(3, "proxies[0].url", "must begin with http:// or https://")],
    ),
    (
        "proxies:\n  - id: a\n    url: https://x\n    options: {ssl: {ca: /nowhere/ca.pem}}\n",
        &[(4, "proxies[0].options.ssl.ca", "cannot be read")],
    ),
    (
        "proxies:\n  - {id: a, url: 'https://x'}\n  - {id: a, url: 'https://y'}\n",
        &[(3, "proxies[1].id", "this id is taken")],
    ),
    (
        "hub:\n  security:\n    helmet:\n      frameguard: deny\n",
        &[(4, "hub.security.helmet.frameguard", "")],
    ),
    (
        "hub:\n  security:\n    helmet:\n      frameguards: true\n",
        &[(
            4,
            "hub.security.helmet.frameguards",
            "did you mean frameguard?",
        )],
    ),
    (
        "hub:\n  security:\n    helmet:\n      hsts:\n        maxage: 5\n",
        &[(5, "hub.security.helmet.hsts.maxage", "did you mean maxAge?")],
    ),
    (
        "hub:\n  security:\n    helmet:\n      hsts:\n        maxAge: '5'\n",
        &[(5, "hub.security.helmet.hsts.maxAge", "")],
    ),
    (
        "hub:\n  security:\n    helmet:\n      hsts:\n",
        &[(4, "hub.security.helmet.hsts", "has no value")],
    ),
    (
        "hub:\n  security:\n    helmet:\n      hsts: true\n      strictTransportSecurity: true\n",
        &[(5, "hub.security.helmet.strictTransportSecurity", "")],
    ),
    (
        "hub:\n  security:\n    helmet:\n      contentSecurityPolicy:\n        directives:\n          defaultSrc: [self]\n",
        &[(
            6,
            "hub.security.helmet.contentSecurityPolicy.directives.defaultSrc",
            "",
        )],
    ),
    (
        "hub:\n  security:\n    helmet:\n      contentSecurityPolicy:\n        directives:\n          defaultSrc:\n",
        &[(
            6,
            "hub.security.helmet.contentSecurityPolicy.directives.defaultSrc",
            "",
        )],
    ),
    (
        "hub:\n  security:\n    helmet: on\n",
        &[(3, "hub.security.helmet", "true")],
    ),
    // Targets.
    (
        "targets:\n  - id: a\n    provider: echo\n  - id: b\n    provider: echo\n  - provider: echo\n    id: a\n",
        &[(7, "targets[2].id", "targets[0].id has it, at line 2")],
    ),
    (
        "targets:\n  - provider: echo\n",
        &[(2, "targets[0].id", "is required")],
    ),
    (
        "targets:\n  - id: a\n",
        &[(2, "targets[0].provider", "is required")],
    ),
    (
        "targets:\n  - id: a\n    provider: anthropic\n",
        &[(2, "targets[0].apiKey", "is required")],
    ),
    (
        "targets:\n  - id: a\n    provider: opnai\n    apiKey: ${TOKEN}\n",
        &[(3, "targets[0].provider", "openai")],
    ),
    (
        "targets:\n  - id: a\n    provider: echo\n    apikey: ${TOKEN}\n",
        &[(4, "targets[0].apikey", "did you mean apiKey?")],
    ),
    (
        "targets:\n  - id: a\n    provider: openai\n    apiKey: 12345\n",
        &[(4, "targets[0].apiKey", "")],
    ),
    (
        "targets:\n  - id: a\n    provider: openai\n    apiKey: ${TOKEN}\n    headers:\n      X-A: \"a\\r\\nb\"\n",
        &[(6, "targets[0].headers.X-A", "")],
    ),
    // Entry.
    (
        "auth:\n  type: tokn\n",
        &[(2, "auth.type", "did you mean token?")],
    ),
    (
        "auth:\n  enabled: true\n  type: token\n  tokens: ['${TOKEN}']\n  session:\n    store: redis\n    redis_client: {url: 'rediss://localhost', tls: {ca: /no/such/file}}\n    cookie: {secret: '${COOKIE_SECRET}'}\n",
        &[(7, "auth.session.redis_client.tls.ca", "")],
    ),
    (
        "auth:\n  enabled: true\n  type: token\n  tokens: ['${TOKEN}']\n  session:\n    cookie:\n      secret: ${COOKIE_SECRET}\n      sameSite: stric\n",
        &[(8, "auth.session.cookie.sameSite", "strict")],
    ),
    (
        "auth:\n  enabled: true\n  type: token\n  tokens: ['${TOKEN}']\n  session:\n    cookie:\n      secret: too-short\n",
        &[(7, "auth.session.cookie.secret", "expected at least 32")],
    ),
    (
        "auth:\n  enabled: true\n  type: token\n  tokens: ['${EMPTY}']\n  session:\n    cookie: {secret: '${COOKIE_SECRET}'}\n",
        &[(4, "auth.tokens[0]", "")],
    ),
    // Variables.
    (
        "hub:\n  host: ${NOT_SET}\n",
        &[(
            2,
            "hub.host",
            "NOT_SET is not set; set NOT_SET or NOT_SET_FILE",
        )],
    ),
    (
        "hub:\n  host: ${BOTH}\n",
        &[(2, "hub.host", "BOTH and BOTH_FILE are both set")],
    ),
    (
        "hub:\n  host: ${GONE}\n",
        &[(2, "hub.host", "/nowhere/gone, does not exist")],
    ),
    (
        "hub:\n  host: ${OPEN\n",
        &[(2, "hub.host", "without its closing }")],
    ),
    (
        "hub:\n  host: ${BAD NAME}\n",
        &[(2, "hub.host", "write $${")],
    ),
    (
        "hub:\n  host: ${A-${B}}\n",
        &[(2, "hub.host", "cannot name variables")],
    ),
    (
        "hub:\n  port: ${BIG_PORT}\n",
        &[(2, "hub.port", "(the value comes from ${BIG_PORT})")],
    ),
    (
        "hub:\n  port: \"${NUMBER}\"\n",
        &[(
            2,
            "hub.port",
            "found text; remove the quotes (the value comes from ${NUMBER})",
        )],
    ),
    (
        "hub:\n  port: ${WORD}\n",
        &[(2, "hub.port", "found text (the value comes from ${WORD})")],
    ),
    (
        "targets:\n  - id: a\n    provider: ${WORD}\n",
        &[(3, "targets[0].provider", "")],
    ),
    (
        "auth:\n  enabled: true\n  type: token\n  tokens: ['${TOKEN}', '${NOT_SET}']\n  session:\n    cookie: {secret: '${NOT_SET}'}\n",
        &[
            (4, "auth.tokens[1]", "NOT_SET is not set"),
            (6, "auth.session.cookie.secret", "NOT_SET is not set"),
        ],
    ),
];

#[test]
fn every_broken_configuration_is_answered_in_place() {
    assert!(CASES.len() >= 60, "{}", CASES.len());
    let mut failures = Vec::new();
    for (text, expected) in CASES {
        let Err(report) = load(text, &ENV) else {
            failures.push(format!("loads:\n{text}"));
            continue;
        };
        let found: Vec<_> = report
            .problems()
            .iter()
            .map(|p| (p.line.unwrap_or(0), p.key.as_str(), p.message.as_str()))
            .collect();
        let all_there = expected.iter().all(|(line, key, part)| {
            found
                .iter()
                .any(|(l, k, m)| l == line && k == key && m.contains(part))
        });
        if !all_there || found.len() != expected.len() {
            failures.push(format!("{text}expected {expected:#?}\nfound {found:#?}"));
        }
        for (name, value) in ENV {
            if value.len() > 6 && !name.ends_with("_FILE") && report.to_string().contains(value) {
                failures.push(format!("{text}shows {name}: {report}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n----\n"));
}

#[test]
fn all_problems_come_in_one_go() {
    let text = "\
hub:
  port: '80'
  hots: x
  security:
    rateLimit:
      maxx: 5
      max: many
targets:
  - id: a
    provider: echo
    requestTimeout: soon
  - id: a
    provider: echo
healthCheck:
  path: health
metrics:
  enabled: ${NOPE}
";
    let report = load(text, &[]).unwrap_err();
    let lines: Vec<_> = report.problems().iter().map(|p| p.line.unwrap()).collect();
    assert_eq!(lines, [2, 3, 6, 7, 11, 12, 15, 17], "{report}");
}

#[test]
fn an_override_is_named_in_the_files_place() {
    let report = load("hub: {}\n", &[("PROACTIONS_HUB_PORT", "80a")]).unwrap_err();
    assert_eq!(
        report.to_string(),
        "PROACTIONS_HUB_PORT: hub.port: expected a whole number from 0 to 65535, found text; \
         write it in plain digits, such as 3000"
    );
}

#[test]
fn hundreds_of_problems_end() {
    let mut text = "hub:\n".to_owned();
    for n in 0..1000 {
        text.push_str(&format!("  unknown{n}: 1\n"));
    }
    let report = load(&text, &[]).unwrap_err();
    assert!((100..=200).contains(&report.problems().len()));
}

#[test]
fn unknown_keys_can_be_warnings_and_types_cannot() {
    let text = "hub:\n  hots: x\nvalidation:\n  skipSchemaValidation: true\n";
    let loaded = Loader::from_text("config.yaml", text).load().unwrap();
    let shown: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(
        shown.contains(&"config.yaml:2: hub.hots: unknown key, did you mean host?".to_owned()),
        "{shown:?}"
    );

    let skip = [("PROACTIONS_SKIP_SCHEMA_VALIDATION", "1")];
    load("hub:\n  hots: x\n", &skip).unwrap();
    let report = load("hub:\n  hots: x\n  port: '1'\n", &skip).unwrap_err();
    assert_eq!(report.problems().len(), 1);
    assert_eq!(report.problems()[0].key, "hub.port");
}
