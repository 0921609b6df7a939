use std::sync::Arc;

use proactions_edge::ConfigError;

use crate::TargetConfig;
use crate::config::check_targets;
use crate::strategy::tree::{Leaf, Node};

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

    /// Calls `found` with every provider of every target.
    pub(crate) fn each_leaf(&self, mut found: impl FnMut(&Leaf)) {
        for target in &*self.0 {
            target.root.each_leaf(&mut found);
        }
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
            if config.check().is_ok() {
                match Node::new(config) {
                    Ok(root) => targets.push(Target {
                        id: Arc::from(config.id.as_str()),
                        root,
                    }),
                    Err(error) => found.push(error.within(&format!("[{index}]"))),
                }
            }
        }
        ConfigError::check(Self(targets.into()), found)
    }
}

/// One target, ready to be called.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: Arc<str>,
    pub(crate) root: Node,
}
