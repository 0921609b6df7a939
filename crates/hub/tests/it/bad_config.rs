//! A configuration that cannot be served is answered at once: exit code 2, one line a problem, no secret shown.

use proactions_testkit::{HubProcess, TempConfig, TestCertificates};
use tokio::time::{Instant, timeout};

use crate::harness::{BINARY, PATIENCE, SOON};

/// Stands in every broken configuration, under a key that is a secret.
const PLANTED: &str = "planted-secret-4711";

/// Broken configurations: the text, the line, and what the message says besides.
const BROKEN: [(&str, u32, &[&str]); 47] = [
    (
        "hub:\n  prot: 3000\n",
        2,
        &["hub.prot", "did you mean port"],
    ),
    ("hbu:\n  port: 3000\n", 1, &["hbu", "hub"]),
    ("hub:\n  port: high\n", 2, &["hub.port", "number"]),
    ("hub:\n  port: 70000\n", 2, &["hub.port", "65535"]),
    ("hub:\n  port: '3000'\n", 2, &["hub.port", "quotes"]),
    ("hub:\n  port: -1\n", 2, &["hub.port"]),
    ("hub:\n  host: 'http://x'\n", 2, &["hub.host"]),
    (
        "hub:\n  tls: {enabled: yes}\n",
        2,
        &["hub.tls.enabled", "true or false"],
    ),
    (
        "hub:\n  ailink_port: 3001\n  ailink_host: 0.0.0.0\n",
        3,
        &["hub.ailink_host"],
    ),
    (
        "hub:\n  ailink_port: 3001\n  ailink_hosts: [hub, 'hub:3001']\n",
        3,
        &["hub.ailink_hosts[1]", "without a port"],
    ),
    (
        "hub:\n  security:\n    helmet:\n      hsts: {maxage: 1}\n",
        4,
        &["maxage", "maxAge"],
    ),
    (
        "hub:\n  security:\n    helmet:\n      hsts: {maxAge: -1}\n",
        4,
        &["maxAge"],
    ),
    (
        "hub:\n  security:\n    helmet:\n      frameguard: deny\n",
        4,
        &["frameguard", "action"],
    ),
    (
        "hub:\n  security:\n    helmet:\n      frameguard: {action: allow-from}\n",
        4,
        &["action"],
    ),
    (
        "hub:\n  security:\n    helmet:\n      referrerPolicy: {policy: []}\n",
        4,
        &["referrerPolicy"],
    ),
    (
        "hub:\n  security:\n    helmet:\n      hsts:\n",
        4,
        &["hsts"],
    ),
    (
        "hub:\n  security:\n    helmet:\n      contentSecurityPolicy: {directives: {scriptSrc: [self]}}\n",
        4,
        &["scriptSrc", "quote"],
    ),
    (
        "hub:\n  security:\n    helmet:\n      contentSecurityPolicy: {directives: {scriptSrc: [\"a;b\"]}}\n",
        4,
        &["scriptSrc"],
    ),
    (
        "hub:\n  security:\n    cors: {origin: '*', credentials: true}\n",
        3,
        &["cors", "credentials"],
    ),
    (
        "hub:\n  security:\n    cors: {origin: 'https://a.test/path'}\n",
        3,
        &["cors.origin"],
    ),
    (
        "hub:\n  security:\n    cors: {origin: 'https://a.test', credentials: 'true'}\n",
        3,
        &["credentials"],
    ),
    (
        "hub:\n  security:\n    cors: {orgin: 'https://a.test'}\n",
        3,
        &["orgin", "origin"],
    ),
    (
        "hub:\n  security:\n    rateLimit: {maxx: 5}\n",
        3,
        &["rateLimit.maxx", "max"],
    ),
    (
        "hub:\n  security:\n    rateLimit: {max: '5'}\n",
        3,
        &["rateLimit.max"],
    ),
    (
        "hub:\n  security:\n    rateLimit: {windowMs: 0}\n",
        3,
        &["windowMs"],
    ),
    (
        "hub:\n  security:\n    rateLimit: {standardHeaders: draft-9}\n",
        3,
        &["standardHeaders"],
    ),
    (
        "hub:\n  security:\n    rateLimit: {allowlist: [1.2.3.400]}\n",
        3,
        &["allowlist"],
    ),
    (
        "hub:\n  security:\n    rateLimit: {ipv6Subnet: 129}\n",
        3,
        &["ipv6Subnet"],
    ),
    (
        "hub:\n  security:\n    limits: {json: 50m}\n",
        3,
        &["limits.json", "mb"],
    ),
    (
        "hub:\n  security:\n    limits: {json: '10MB '}\n",
        3,
        &["limits.json"],
    ),
    (
        "hub:\n  security:\n    trustProxy: '1'\n",
        3,
        &["trustProxy"],
    ),
    (
        "hub:\n  security:\n    trustProxy: [0.0.0.0/0]\n",
        3,
        &["trustProxy"],
    ),
    (
        "hub:\n  security:\n    trustProxy: cloudflare\n",
        3,
        &["trustProxy"],
    ),
    (
        "auth:\n  enabled: true\n  type: token\n  tokens: ['']\n",
        4,
        &["auth.tokens"],
    ),
    ("auth:\n  enabled: true\n  type: token\n", 1, &["tokens"]),
    (
        "auth:\n  enabled: true\n  type: magic\n",
        3,
        &["auth.type", "edapi"],
    ),
    (
        "auth:\n  enabled: true\n  type: token\n  tokens: [abcdefghijklmnop]\n  session: {cookie: {secret: short}}\n",
        5,
        &["secret", "32"],
    ),
    (
        "auth:\n  session: {cookie: {maxAge: '86400000'}}\n",
        2,
        &["maxAge"],
    ),
    (
        "auth:\n  session: {cookie: {sameSite: sometimes}}\n",
        2,
        &["sameSite"],
    ),
    (
        "targets:\n  - {id: a, provider: echo}\n  - {id: a, provider: echo}\n",
        3,
        &["targets", "a"],
    ),
    (
        "targets:\n  - {id: a, provider: opnai, apiKey: k}\n",
        2,
        &["provider", "openai"],
    ),
    (
        "targets:\n  - {id: a, provider: custom, apiKey: k, endpoint: 'ftp://x'}\n",
        2,
        &["endpoint"],
    ),
    (
        "targets:\n  - {id: a, provider: openai, apiKey: '${NOT_SET_ANYWHERE}'}\n",
        2,
        &["NOT_SET_ANYWHERE"],
    ),
    (
        "logging: {types: {acess: {enabled: true}}}\n",
        1,
        &["acess", "access"],
    ),
    ("logging: {maxFileSize: lots}\n", 1, &["maxFileSize"]),
    ("hub: {port: 1}\nhub: {port: 2}\n", 2, &["hub"]),
    ("hub: [\n", 1, &["bracket"]),
];

#[tokio::test]
async fn each_problem_has_its_line_and_no_port_is_opened() {
    for (text, line, words) in BROKEN {
        let yaml = format!(
            "{text}youtube: {{accounts: [{{id: x, client_secret: {PLANTED}, nonsense: {PLANTED}}}]}}\n"
        );
        let yaml = if text.ends_with("[\n") {
            text.to_owned()
        } else {
            yaml
        };
        let config = TempConfig::new(&yaml);
        for command in ["serve", "check"] {
            let args = [command, "--config", config.path().to_str().unwrap()].map(str::to_owned);
            let began = Instant::now();
            let mut process = HubProcess::start(BINARY, args, []);
            let code = timeout(PATIENCE, process.exit_code()).await.expect(text);
            assert!(began.elapsed() < SOON, "{text}");
            assert_eq!(code, 2, "{text}{:?}", process.stderr());
            let said = process.stderr();
            let place = format!("config.yaml:{line}");
            let found = said
                .iter()
                .find(|said| said.contains(&place) && words.iter().all(|word| said.contains(word)));
            assert!(
                found.is_some(),
                "{place} {words:?} is not in {said:#?}\nfor {text}"
            );
            let all = [said, process.stdout()].concat().join("\n");
            assert!(!all.contains(PLANTED), "{all}");
        }
    }
}

#[tokio::test]
async fn files_that_only_the_clients_of_a_hub_need_are_checked_too() {
    let (one, other) = (TestCertificates::new(), TestCertificates::new());
    for (yaml, key) in [
        (
            "auth:
  enabled: true
  type: edapi
  edapi_url: https://edapi.test
  edapi: {tls: {ca: /nowhere.pem}}
  session: {cookie: {secret: cookie-secret-cookie-secret-cookie-secret}}
",
            "auth.edapi.tls.ca: cannot be read",
        ),
        (
            "proxies:
  - id: a
    url: https://a.test
    options: {ssl: {cert: one.pem, key: other.key}}
",
            "proxies[0].options.ssl: ",
        ),
    ] {
        let config = TempConfig::new("");
        let cert = config.write("one.pem", &one.client);
        let key_file = config.write("other.key", &other.client_key);
        let yaml = yaml
            .replace("one.pem", cert.to_str().unwrap())
            .replace("other.key", key_file.to_str().unwrap());
        config.write("config.yaml", format!("hub: {{port: 0}}\n{yaml}"));
        for command in ["serve", "check"] {
            let args = [command, "--config", config.path().to_str().unwrap()].map(str::to_owned);
            let mut process = HubProcess::start(BINARY, args, []);
            assert_eq!(process.exit_code().await, 2, "{command}\n{process}");
            let said = process.stderr().join("\n");
            assert!(said.contains(key), "{command}: {said}");
        }
    }
}

#[tokio::test]
async fn all_problems_are_told_at_once() {
    let config = TempConfig::new(
        "hub:\n  prot: 1\n  security:\n    rateLimit: {max: many}\n    limits: {json: 50m}\ntargets:\n  - {id: a}\n",
    );
    let args = ["check", "--config", config.path().to_str().unwrap()].map(str::to_owned);
    let mut process = HubProcess::start(BINARY, args, []);
    assert_eq!(process.exit_code().await, 2);
    let said = process.stderr();
    for line in [2, 4, 5, 7] {
        let place = format!("config.yaml:{line}");
        assert!(
            said.iter().any(|said| said.contains(&place)),
            "{place} in {said:#?}"
        );
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_told_by_its_path() {
    let args = ["serve", "--config", "/nowhere/hub.yaml"].map(str::to_owned);
    let mut process = HubProcess::start(BINARY, args, []);
    assert_eq!(process.exit_code().await, 2);
    assert!(process.stderr().join("\n").contains("/nowhere/hub.yaml"));
}
