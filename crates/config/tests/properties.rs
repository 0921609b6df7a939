//! Whatever is fed in: no panic, no secret in what is told, and an answer within a second.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may fail, and takes time to be measured"
)]

use std::time::{Duration, Instant};

use proactions_config::Loader;
use proptest::prelude::*;

const SECRET: &str = "SeCrEt.pLaNtEd-0123456789-aBcDeFgHiJkLmNoPqRsTuVwXyZ";

/// Where a secret belongs: nothing may ever show it, `Debug` of what was loaded included.
const SECRET_PLACES: [&str; 12] = [
    "auth:\n  tokens: [@]\n",
    "auth:\n  enabled: true\n  type: token\n  tokens: ['${TOKEN}']\n  session:\n    cookie:\n      secret: @\n",
    "auth:\n  session:\n    cookie:\n      secret: ['${TOKEN}', @]\n",
    "auth:\n  session:\n    redis_client:\n      url: @\n",
    "auth:\n  session:\n    redis_client:\n      url: redis://user:@@localhost:6379\n",
    "hub:\n  tls:\n    passphrase: @\n",
    "targets:\n  - id: a\n    provider: openai\n    apiKey: @\n",
    "targets:\n  - id: a\n    provider: openai\n    apiKey: x\n    headers:\n      X-Key: @\n",
    "proxies:\n  - id: a\n    url: https://u:@@example.com/\n",
    "proxies:\n  - id: a\n    url: https://example.com/\n    options:\n      headers: {Authorization: @}\n",
    "youtube:\n  accounts:\n    - id: a\n      client_secret: @\n",
    "hub:\n  egress:\n    proxy: http://u:@@proxy.example.com:3128\n",
];

/// Keys of all kinds, where a variable may bring a secret by mistake.
const OTHER_PLACES: [&str; 22] = [
    "hub:\n  host: @\n",
    "hub:\n  port: @\n",
    "hub:\n  ailink_host: @\n",
    "hub:\n  http_client:\n    timeout: @\n",
    "hub:\n  security:\n    trustProxy: @\n",
    "hub:\n  security:\n    trustProxy: [@]\n",
    "hub:\n  security:\n    cors:\n      origin: @\n",
    "hub:\n  security:\n    cors:\n      methods: @\n      maxAge: @\n",
    "hub:\n  security:\n    rateLimit:\n      max: @\n      store: @\n      allowlist: [@]\n",
    "hub:\n  security:\n    limits:\n      json: @\n",
    "hub:\n  security:\n    helmet:\n      hsts:\n        maxAge: @\n      frameguard: {action: @}\n",
    "hub:\n  security:\n    helmet:\n      contentSecurityPolicy:\n        directives: {defaultSrc: [@]}\n",
    "hub:\n  tls:\n    ciphers: @\n    minVersion: @\n",
    "auth:\n  enabled: true\n  type: @\n",
    "auth:\n  edapi_url: @\n  enabled: @\n",
    "auth:\n  session:\n    store: @\n    cookie: {sameSite: @, name: @, maxAge: @}\n",
    "targets:\n  - id: @\n    provider: @\n",
    "targets:\n  - id: a\n    provider: custom\n    endpoint: @\n    requestTimeout: @\n",
    "proxies:\n  - id: @\n    url: @\n    remove_source_headers: @\n",
    "logging:\n  format: @\n  maxFileSize: @\n  maxFiles: @\n  logDirectory: @\n",
    "healthCheck:\n  path: @\n",
    "@\n",
];

fn secret_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(SECRET.to_owned()),
        Just(format!("{SECRET}\nsecond line")),
        Just(format!("\"{SECRET}: #'{{")),
        Just(format!("sk-{SECRET}/../%00")),
        Just("98765432109876543210987654321098765".to_owned()),
        Just("4815162342".to_owned()),
        Just("-4815162342.5".to_owned()),
    ]
}

/// What is told about a configuration, and what `Debug` shows of it.
fn told(text: &str, secret: &str) -> (String, String) {
    let started = Instant::now();
    let result = Loader::from_text("config.yaml", text)
        .env([
            ("S", secret),
            ("TOKEN", "another-token-of-forty-characters-000001"),
        ])
        .load();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "too slow: {} bytes",
        text.len()
    );
    match result {
        Err(report) => (report.to_string(), format!("{report:?}")),
        Ok(loaded) => {
            let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
            (warnings.join("\n"), format!("{loaded:?}"))
        }
    }
}

/// The secret as a whole, or so much of it that it is of use.
fn shows(text: &str, secret: &str) -> bool {
    text.contains(secret) || text.contains("pLaNtEd") || text.contains("4815162342")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = told(&text, SECRET);
    }

    #[test]
    fn nothing_like_yaml_panics(text in "([a-z]{1,4}: |- |\n|  |\\[|\\]|\\{|\\}|\"|'|&a |\\*a|<<: |\\$\\{[A-Z]?|-?\\}|[0-9~#|>!]){0,60}") {
        let _ = told(&text, SECRET);
    }

    #[test]
    fn no_section_panics_on_any_value(
        place in prop::sample::select(OTHER_PLACES.iter().chain(&SECRET_PLACES).collect::<Vec<_>>()),
        value in "(~|[0-9.eE-]{1,20}|[ -~]{0,20}|\\[[a-z, ]{0,9}\\]|\\{[a-z]{1,3}: [a-z0-9]{0,3}\\}|\"[^\"\\\\]{0,9}\"|\\PC{0,12})",
    ) {
        let _ = told(&place.replace('@', &value), SECRET);
    }

    #[test]
    fn a_secret_in_its_place_is_never_shown(
        place in prop::sample::select(&SECRET_PLACES[..]),
        secret in secret_value(),
        inline in any::<bool>(),
    ) {
        // The places with a user in a URL hold `@` twice: the first is the secret's.
        let value = if inline { format!("'{}'", secret.replace(['\n', '\''], "")) } else { "${S}".to_owned() };
        let in_url = place.contains("@@");
        let value = if in_url { value.trim_matches('\'').to_owned() } else { value };
        let text = place.replacen('@', &value, 1);
        prop_assume!(!in_url || !inline || secret == SECRET);
        let (told, debug) = told(&text, &secret);
        prop_assert!(!shows(&told, &secret), "{text}\n{told}");
        prop_assert!(!shows(&debug, &secret), "{text}\n{debug}");
    }

    #[test]
    fn a_variable_in_the_wrong_place_is_not_told(
        place in prop::sample::select(&OTHER_PLACES[..]),
        secret in secret_value(),
        quoted in any::<bool>(),
    ) {
        let value = if quoted { "'${S}'" } else { "${S}" };
        let text = place.replace('@', value);
        let (told, _) = told(&text, &secret);
        prop_assert!(!shows(&told, &secret), "{text}\n{told}");
    }
}

#[test]
fn a_file_of_anchors_is_answered_in_time() {
    let mut text = "x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n".to_owned();
    for level in 1..30 {
        let aliases = vec![format!("*x{}", level - 1); 10].join(", ");
        text.push_str(&format!("x{level}: &x{level} [{aliases}]\n"));
    }
    let (told, _) = told(&text, SECRET);
    assert!(told.contains("more than 50000 values"), "{told}");
}

#[test]
fn a_large_file_is_answered_in_time() {
    let mut text = "targets:\n".to_owned();
    for n in 0..400 {
        text.push_str(&format!(
            "  - id: t{n}\n    provider: openai\n    apiKey: ${{S}}\n"
        ));
    }
    let (told, _) = told(&text, SECRET);
    assert!(told.contains("authentication is off"), "{told}");
}
