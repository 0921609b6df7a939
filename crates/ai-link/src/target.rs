use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use proactions_edge::ConfigError;

use crate::TargetConfig;
use crate::config::check_targets;
use crate::merge::Defaults;
use crate::providers::{Provider, Upstream};

/// The targets of a configuration, checked and ready to be called. Cloning is cheap.
///
/// ```
/// use proactions_ai_link::{TargetConfig, Targets};
///
/// let targets = Targets::try_from(vec![TargetConfig::new("probe", "echo")])?;
/// assert_eq!(targets.ids().collect::<Vec<_>>(), ["probe"]);
/// # Ok::<(), proactions_edge::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Targets(Arc<[Target]>);

impl Targets {
    /// The names, in the order of the configuration.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|target| &*target.id)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Target> {
        self.0.iter().find(|target| &*target.id == id)
    }

    /// The target, if it is the only one.
    pub(crate) fn only(&self) -> Option<&Target> {
        match &*self.0 {
            [target] => Some(target),
            _ => None,
        }
    }
}

impl TryFrom<Vec<TargetConfig>> for Targets {
    type Error = ConfigError;

    fn try_from(configs: Vec<TargetConfig>) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        found.extend(check_targets(&configs).err());
        let mut targets = Vec::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            if let Some(problem) = config.unavailable() {
                let error = ConfigError::new(problem.key, problem.message);
                found.push(error.within(&format!("[{index}]")));
            } else if config.check().is_ok() {
                match Target::new(config) {
                    Ok(target) => targets.push(target),
                    Err(error) => found.push(error.within(&format!("[{index}]"))),
                }
            }
        }
        ConfigError::check(Self(targets.into()), found)
    }
}

/// One target, ready to be called.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) id: Arc<str>,
    pub(crate) provider: &'static str,
    pub(crate) upstream: Upstream,
    pub(crate) defaults: Defaults,
    pub(crate) timeout: Option<Duration>,
}

impl Target {
    fn new(config: &TargetConfig) -> Result<Self, ConfigError> {
        let provider = config
            .provider
            .as_deref()
            .and_then(Provider::from_name)
            .ok_or_else(|| ConfigError::new("provider", "is required"))?;
        Ok(Self {
            id: Arc::from(config.id.as_str()),
            provider: provider.name(),
            upstream: Upstream::new(provider, config)?,
            defaults: Defaults::new(&config.options),
            timeout: config.request_timeout(),
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("id", &self.id)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}
