use std::sync::Arc;

use proactions_edge::{ConfigError, path};
use serde::Deserialize;

/// Section `healthCheck`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HealthConfig {
    /// Whether the two paths are served; true unless set.
    pub enabled: bool,
    /// Answers 200 while the process serves; `/health` unless set.
    pub path: String,
    /// Answers 200 while requests can be served, else 503; `/ready` unless set.
    pub readiness_path: String,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "/health".to_owned(),
            readiness_path: "/ready".to_owned(),
        }
    }
}

/// The two public paths: plain, absolute, different, and nobody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthSettings {
    /// Answers 200 while the process serves.
    pub path: Arc<str>,
    /// Answers 200 while requests can be served, else 503.
    pub readiness_path: Arc<str>,
}

/// What other routes live below; a public path there would open them.
const TAKEN: [&str; 5] = ["/auth", "/metrics", "/proxy", "/v1", "/youtube"];

impl TryFrom<HealthConfig> for Option<HealthSettings> {
    type Error = ConfigError;

    fn try_from(config: HealthConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        found.extend(check("path", &config.path));
        found.extend(check("readinessPath", &config.readiness_path));
        if config.path == config.readiness_path {
            let message = "expected another path than healthCheck.path";
            found.push(ConfigError::new("readinessPath", message));
        }
        let settings = config.enabled.then(|| HealthSettings {
            path: config.path.into(),
            readiness_path: config.readiness_path.into(),
        });
        ConfigError::check(settings, found)
    }
}

fn check(key: &str, value: &str) -> Option<ConfigError> {
    let message = match path::check_route(value) {
        Err(fault) => format!("expected a path such as /health; this one has {fault}"),
        Ok(()) if value.contains(['?', '#']) => "expected a path alone, without ? and #".to_owned(),
        Ok(()) if !value.bytes().all(|b| b.is_ascii_graphic()) || value.contains('%') => {
            "expected a path of visible ASCII characters without %".to_owned()
        }
        Ok(()) if value.len() < 2 || value.ends_with('/') => {
            "expected a path such as /health, not / and without / at its end".to_owned()
        }
        Ok(()) => {
            let taken = TAKEN.iter().find(|taken| {
                value
                    .strip_prefix(**taken)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })?;
            format!("expected a path outside of {taken}, which belongs to other routes")
        }
    };
    Some(ConfigError::new(key, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_of_its_own_are_public() {
        for (path, part) in [
            ("/healthz", None),
            ("/internal/health", None),
            ("/v1health", None),
            ("health", Some("no leading slash")),
            ("", Some("no leading slash")),
            ("/", Some("not /")),
            ("/health/", Some("without / at its end")),
            ("//health", Some("an empty segment")),
            ("/a/../b", Some("a dot segment")),
            ("/health?x=1", Some("without ? and #")),
            ("/h%41", Some("without %")),
            ("/v1/models", Some("outside of /v1")),
            ("/auth", Some("outside of /auth")),
            ("/youtube/upload", Some("outside of /youtube")),
            ("/a b", Some("visible ASCII")),
        ] {
            let config = HealthConfig {
                path: path.to_owned(),
                ..HealthConfig::default()
            };
            let error = Option::<HealthSettings>::try_from(config).err();
            match (part, error) {
                (None, None) => {}
                (Some(part), Some(error)) => {
                    assert_eq!(error.problems()[0].key, "path");
                    assert!(error.to_string().contains(part), "{path}: {error}");
                }
                (_, error) => panic!("{path}: {error:?}"),
            }
        }
    }
}
