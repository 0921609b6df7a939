//! Where values come from: the file, `.env`, the environment, secret files.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;

use proactions_config::{Loaded, Loader};
use tempfile::TempDir;

fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        set_mode(&path, 0o600);
    }
    dir
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn load(dir: &TempDir, env: &[(&str, &str)]) -> Loaded {
    Loader::new(dir.path().join("config.yaml"))
        .env(env.iter().copied())
        .load()
        .unwrap_or_else(|report| panic!("{report}"))
}

fn problems(dir: &TempDir, env: &[(&str, &str)]) -> String {
    Loader::new(dir.path().join("config.yaml"))
        .env(env.iter().copied())
        .load()
        .unwrap_err()
        .to_string()
}

fn message(loaded: &Loaded) -> &str {
    &loaded
        .config
        .hub
        .security
        .rate_limit
        .as_ref()
        .unwrap()
        .message
}

#[test]
fn the_environment_stands_above_the_env_file() {
    let dir = dir(&[
        (
            "config.yaml",
            "hub:\n  host: ${HOST}\n  port: ${PORT-3000}\n",
        ),
        (
            ".env",
            "# comment\nPORT=1\nexport HOST='10.0.0.1'\nPORT=4000\n",
        ),
    ]);
    let loaded = load(&dir, &[]);
    assert_eq!(loaded.policies.public.host, "10.0.0.1");
    assert_eq!(loaded.policies.public.port, 4000);
    let loaded = load(&dir, &[("HOST", "10.0.0.2")]);
    assert_eq!(loaded.policies.public.host, "10.0.0.2");
    assert_eq!(
        loaded.files_read,
        [dir.path().join(".env"), dir.path().join("config.yaml")]
    );
}

#[test]
fn overrides_stand_above_everything() {
    let dir = dir(&[
        ("config.yaml", "hub:\n  port: 3000\n"),
        (".env", "PROACTIONS_HUB_PORT=4000\n"),
    ]);
    assert_eq!(load(&dir, &[]).policies.public.port, 4000);
    let loaded = load(&dir, &[("PROACTIONS_HUB_PORT", "5000")]);
    assert_eq!(loaded.policies.public.port, 5000);
    // An empty one is none, in the environment too.
    let loaded = load(&dir, &[("PROACTIONS_HUB_PORT", "")]);
    assert_eq!(loaded.policies.public.port, 3000);
    let loaded = load(&dir, &[("PROACTIONS_HUB_AILINK_PORT", "4001")]);
    assert_eq!(loaded.policies.ailink.unwrap().port, 4001);
    let report = problems(&dir, &[("PROACTIONS_HUB_AILINK_PORT", "many")]);
    assert_eq!(
        report,
        "PROACTIONS_HUB_AILINK_PORT: hub.ailink_port: expected a whole number from 0 to 65535, found text"
    );
}

#[test]
fn overrides_are_not_expanded() {
    let dir = dir(&[("config.yaml", "hub: {}\n")]);
    let report = problems(&dir, &[("PROACTIONS_HUB_PORT", "${PORT}"), ("PORT", "1")]);
    assert_eq!(
        report,
        "PROACTIONS_HUB_PORT: hub.port: expected a whole number from 0 to 65535, found text"
    );
}

#[test]
fn a_value_is_expanded_once() {
    let dir = dir(&[(
        "config.yaml",
        "hub:\n  security:\n    rateLimit:\n      message: ${A}\nlogging:\n  text_format: ${A} ${message}\n",
    )]);
    let loaded = load(&dir, &[("A", "$(B)-${B}"), ("B", "never")]);
    assert_eq!(message(&loaded), "$(B)-${B}");
    // That key's own placeholders stay.
    assert_eq!(loaded.config.logging.text_format, "${A} ${message}");
}

#[test]
fn values_are_typed_like_the_file() {
    let text = "\
hub:
  port: ${PORT}
  security:
    rateLimit:
      message: ${TEXT}
metrics:
  enabled: ${ON}
logging:
  sensitiveData: [\"${PORT}\", '${ON}', '${TEXT}']
";
    let dir = dir(&[("config.yaml", text)]);
    let loaded = load(
        &dir,
        &[("PORT", "8080"), ("ON", "true"), ("TEXT", "a: b #c")],
    );
    assert_eq!(loaded.policies.public.port, 8080);
    assert!(loaded.config.metrics.enabled);
    assert_eq!(message(&loaded), "a: b #c");
    assert_eq!(
        loaded.config.logging.sensitive_data,
        ["8080", "true", "a: b #c"]
    );
}

#[test]
fn secrets_that_look_like_numbers_stay_text() {
    let text = "\
auth:
  enabled: true
  type: token
  tokens:
    - ${TOKEN}
  session:
    cookie:
      secret: ${SECRET}
targets:
  - id: ${ID}
    provider: openai
    apiKey: ${TOKEN}
";
    let dir = dir(&[("config.yaml", text)]);
    for token in [
        "12345678901234567890123456789012345",
        "1234567890123456",
        "-1.5000000000000000",
        "007",
    ] {
        let env = [
            ("TOKEN", token),
            ("SECRET", "12345678901234567890123456789012"),
            ("ID", "42"),
        ];
        let loaded = load(&dir, &env);
        assert_eq!(loaded.config.targets[0].id, "42");
    }
    let env = [
        ("TOKEN", "true"),
        ("SECRET", "12345678901234567890123456789012"),
        ("ID", "true"),
    ];
    assert_eq!(load(&dir, &env).config.targets[0].id, "true");
}

#[test]
fn a_secret_file_is_read_and_named() {
    let dir = dir(&[
        ("config.yaml", "hub:\n  host: ${HOST}\n"),
        ("host", "10.1.1.1\n"),
    ]);
    let path = dir.path().join("host");
    let loaded = load(&dir, &[("HOST_FILE", path.to_str().unwrap())]);
    assert_eq!(loaded.policies.public.host, "10.1.1.1");
    assert_eq!(loaded.files_read, [dir.path().join("config.yaml"), path]);

    let missing = dir.path().join("gone");
    let report = problems(&dir, &[("HOST_FILE", missing.to_str().unwrap())]);
    assert!(report.contains("HOST_FILE names"), "{report}");
    assert!(report.contains("does not exist"), "{report}");
    let report = problems(&dir, &[("HOST_FILE", dir.path().to_str().unwrap())]);
    assert!(report.contains("is a directory"), "{report}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let report = problems(&dir, &[]);
    assert!(report.ends_with("config.yaml: does not exist"), "{report}");
    fs::write(dir.path().join("config.yaml"), b"hub: {}\n# \xff\n").unwrap();
    let report = problems(&dir, &[]);
    assert!(report.ends_with("is not UTF-8 text (line 2)"), "{report}");
    fs::write(dir.path().join("config.yaml"), "hub: {}\n").unwrap();
    fs::write(dir.path().join(".env"), "A=1\nnonsense hunter2\n").unwrap();
    let report = problems(&dir, &[]);
    assert_eq!(report, ".env:2: expected KEY=VALUE");
}

#[test]
fn secrets_that_others_can_read_are_warned_about() {
    let text = "targets:\n  - id: a\n    provider: openai\n    apiKey: sk-inline-secret\n";
    let dir = dir(&[("config.yaml", text), (".env", "A=1\n")]);
    let shown = |dir: &TempDir| {
        let warnings = load(dir, &[]).warnings;
        let lines: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        lines.join("\n")
    };
    let all = shown(&dir);
    assert!(
        all.contains("config.yaml:4: targets[0].apiKey: a secret stands in the file itself"),
        "{all}"
    );
    assert!(!all.contains("chmod"), "{all}");
    set_mode(&dir.path().join("config.yaml"), 0o644);
    set_mode(&dir.path().join(".env"), 0o640);
    let all = shown(&dir);
    assert!(
        all.contains(
            "config.yaml: holds secrets and everybody on this machine can read it (mode 644)"
        ),
        "{all}"
    );
    assert!(
        all.contains(".env: holds secrets and its group can read it (mode 640)"),
        "{all}"
    );
    set_mode(&dir.path().join(".env"), 0o602);
    let all = shown(&dir);
    assert!(
        all.contains(".env: holds secrets and everybody on this machine can write it (mode 602)"),
        "{all}"
    );
    assert!(!all.contains("sk-inline"), "{all}");
    // Without a secret inside, the configuration's mode does not matter.
    fs::write(dir.path().join("config.yaml"), "hub: {}\n").unwrap();
    assert!(!shown(&dir).contains("config.yaml: holds"), "{all}");
}

#[test]
fn private_keys_that_others_can_read_are_warned_about() {
    let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let key = pem("PRIVATE KEY");
    let dir = dir(&[
        ("a.pem", &pem("CERTIFICATE")),
        ("a.key", &key),
        ("b.key", &key),
    ]);
    let at = |name: &str| dir.path().join(name).display().to_string();
    let text = format!(
        "auth:\n  session:\n    redis_client:\n      url: rediss://redis.test\n      tls: {{cert: {pem}, key: {key}}}\n\
         proxies:\n  - id: a\n    url: https://a.test\n    options: {{ssl: {{cert: {pem}, key: {other}}}}}\n",
        pem = at("a.pem"),
        key = at("a.key"),
        other = at("b.key"),
    );
    fs::write(dir.path().join("config.yaml"), text).unwrap();
    set_mode(&dir.path().join("config.yaml"), 0o600);
    let shown = || {
        let warnings = load(&dir, &[]).warnings;
        let lines: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        lines.join("\n")
    };
    let all = shown();
    assert!(!all.contains("chmod"), "{all}");
    set_mode(&dir.path().join("a.key"), 0o640);
    set_mode(&dir.path().join("b.key"), 0o604);
    let all = shown();
    for warning in [
        "auth.session.redis_client.tls.key: the file holds secrets and its group can read it (mode 640)",
        "proxies[0].options.ssl.key: the file holds secrets and everybody on this machine can read it (mode 604)",
    ] {
        assert!(all.contains(warning), "{all}");
    }
}
