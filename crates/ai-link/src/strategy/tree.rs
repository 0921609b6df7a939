//! A target as a tree: providers at its leaves, strategies above them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use proactions_edge::{ConfigError, SecretString};
use serde_json::{Map, Value};

use super::Codes;
use super::balance::{Balance, Place};
use super::breaker::BreakerPolicy;
use super::retry::Retry;
use crate::config::{in_snake_case, unknown_provider};
use crate::merge::Defaults;
use crate::providers::{Provider, Upstream};
use crate::{
    BreakerConfig, Mode, ModeConfig, NestedTargetConfig, RetryConfig, StrategyConfig, TargetConfig,
};

/// A provider, or a choice of several.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Leaf(Arc<Leaf>),
    Choice(Arc<Choice>),
}

/// One provider with its key, ready to be called.
pub(crate) struct Leaf {
    /// The target's name and the place in each strategy on the way down, from 0: `main`, `main/1`, `main/1/0`.
    pub(crate) path: Arc<str>,
    pub(crate) provider: &'static str,
    pub(crate) upstream: Upstream,
    pub(crate) defaults: Defaults,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Retry,
    pub(crate) breaker: BreakerPolicy,
}

/// Several, and how one of them is chosen.
#[derive(Debug)]
pub(crate) struct Choice {
    mode: Mode,
    codes: Codes,
    balance: Balance,
    children: Box<[Node]>,
}

/// What a target, or a strategy, says for all the providers in it.
struct Inherited<'a> {
    options: &'a Map<String, Value>,
    headers: &'a BTreeMap<String, SecretString>,
    timeout: Option<u64>,
    retry: Retry,
    breaker: BreakerConfig,
}

impl Node {
    /// The tree of a target that was checked.
    pub(crate) fn new(config: &TargetConfig) -> Result<Self, ConfigError> {
        let path = Arc::from(config.id.as_str());
        let breaker = config.breaker.clone().unwrap_or_default();
        let Some(strategy) = &config.config else {
            let leaf = Leaf::new(config, path, &Map::new(), Retry::NEVER, &breaker)?;
            return Ok(Self::Leaf(Arc::new(leaf)));
        };
        let inherited = Inherited {
            options: &config.options,
            headers: &config.headers,
            timeout: config.request_timeout,
            retry: Retry::NEVER,
            breaker,
        };
        let StrategyConfig {
            strategy,
            retry,
            targets,
        } = strategy;
        Choice::new(&path, strategy, Some(retry), targets, inherited)
            .map(|choice| Self::Choice(Arc::new(choice)))
            .map_err(|error| error.within("config"))
    }

    fn nested(
        path: Arc<str>,
        config: &NestedTargetConfig,
        above: &Inherited<'_>,
    ) -> Result<Self, ConfigError> {
        let timeout = config.request_timeout.or(above.timeout);
        let breaker = config.breaker.as_ref().unwrap_or(&above.breaker);
        if config.provider.is_none() {
            let inherited = Inherited {
                options: above.options,
                headers: above.headers,
                timeout,
                retry: above.retry.clone(),
                breaker: breaker.clone(),
            };
            let mode = config.strategy.clone().unwrap_or_default();
            let retry = config.retry.as_ref();
            return Choice::new(&path, &mode, retry, &config.targets, inherited)
                .map(|choice| Self::Choice(Arc::new(choice)));
        }
        let mut target = config.as_target();
        target.options = above.options.clone();
        target.request_timeout = timeout;
        for (name, value) in above.headers {
            let mut own = target.headers.keys();
            if !own.any(|own| own.eq_ignore_ascii_case(name)) {
                target.headers.insert(name.clone(), value.clone());
            }
        }
        let retry = above.retry.clone();
        Leaf::new(&target, path, &config.override_params, retry, breaker)
            .map(|leaf| Self::Leaf(Arc::new(leaf)))
            .map_err(in_snake_case)
    }

    /// Calls `found` with every leaf.
    pub(crate) fn each_leaf(&self, found: &mut impl FnMut(&Leaf)) {
        match self {
            Self::Leaf(leaf) => found(leaf),
            Self::Choice(choice) => {
                for child in &choice.children {
                    child.each_leaf(found);
                }
            }
        }
    }
}

impl Leaf {
    fn new(
        config: &TargetConfig,
        path: Arc<str>,
        overrides: &Map<String, Value>,
        retry: Retry,
        breaker: &BreakerConfig,
    ) -> Result<Self, ConfigError> {
        let name = config.provider.as_deref();
        let provider = name
            .and_then(Provider::from_name)
            .ok_or_else(|| unknown_provider("provider", name.unwrap_or_default()))?;
        Ok(Self {
            path,
            provider: provider.name(),
            upstream: Upstream::new(provider, config)?,
            defaults: Defaults::new(&config.options).overridden(overrides),
            timeout: config.request_timeout(),
            retry,
            breaker: BreakerPolicy::new(breaker),
        })
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("path", &self.path)
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

impl Choice {
    fn new(
        path: &str,
        mode: &ModeConfig,
        retry: Option<&RetryConfig>,
        targets: &[NestedTargetConfig],
        mut inherited: Inherited<'_>,
    ) -> Result<Self, ConfigError> {
        if let Some(retry) = retry.filter(|retry| **retry != RetryConfig::default()) {
            inherited.retry = Retry::new(retry);
        }
        let mut found = Vec::new();
        let mut children = Vec::with_capacity(targets.len());
        for (index, target) in targets.iter().enumerate() {
            let path = Arc::from(format!("{path}/{index}"));
            match Node::nested(path, target, &inherited) {
                Ok(node) => children.push(node),
                Err(error) => found.push(error.within(&format!("targets[{index}]"))),
            }
        }
        let weights = targets.iter().map(|target| target.weight.unwrap_or(1.0));
        let choice = Self {
            mode: mode.mode,
            codes: Codes::or(&mode.on_status_codes, Codes::Failures),
            balance: Balance::new(weights),
            children: children.into(),
        };
        ConfigError::check(choice, found)
    }
}

/// What came of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answered(StatusCode),
    /// No connection, no answer in time, or none that can be passed on.
    NoAnswer,
    /// It was not called, as it is known to be down.
    Unavailable,
}

/// The way of one request through a tree, from leaf to leaf.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    frames: Vec<Frame<'a>>,
    /// Every leaf is tried in turn until one answers well, whatever the strategies say.
    any: bool,
}

#[derive(Debug)]
struct Frame<'a> {
    choice: &'a Choice,
    place: Place,
    /// A bit for each child that was chosen.
    tried: u64,
}

impl<'a> Walk<'a> {
    /// Begins at the first leaf; there is always one in a tree that was checked.
    pub(crate) fn begin(root: &'a Node, any: bool) -> (Self, Option<&'a Leaf>) {
        let mut walk = Self {
            frames: Vec::new(),
            any,
        };
        let first = walk.descend(root);
        (walk, first)
    }

    /// The next leaf, after the last one came to this; or none: then that is the answer.
    pub(crate) fn after(&mut self, verdict: Verdict) -> Option<&'a Leaf> {
        self.climb(Some(verdict))
    }

    fn descend(&mut self, mut node: &'a Node) -> Option<&'a Leaf> {
        loop {
            let choice: &'a Choice = match node {
                Node::Leaf(leaf) => return Some(leaf),
                Node::Choice(choice) => choice,
            };
            let mut frame = Frame {
                choice,
                place: choice.balance.place(),
                tried: 0,
            };
            let child = frame.choose(self.any);
            self.frames.push(frame);
            match child {
                Some(child) => node = child,
                None => return self.climb(None),
            }
        }
    }

    /// Finds the innermost strategy that has another child to try.
    fn climb(&mut self, verdict: Option<Verdict>) -> Option<&'a Leaf> {
        let any = self.any;
        while let Some(frame) = self.frames.last_mut() {
            let goes_on = verdict.is_none_or(|verdict| frame.goes_on_after(verdict, any));
            match goes_on.then(|| frame.choose(any)).flatten() {
                Some(Node::Leaf(leaf)) => return Some(leaf),
                Some(choice) => return self.descend(choice),
                None => {
                    self.frames.pop();
                }
            }
        }
        None
    }
}

impl<'a> Frame<'a> {
    fn choose(&mut self, any: bool) -> Option<&'a Node> {
        let index = match self.choice.mode {
            Mode::Loadbalance if !any => self.choice.balance.pick(&mut self.place, self.tried)?,
            _ => usize::try_from(self.tried.trailing_ones()).ok()?,
        };
        let child = self.choice.children.get(index)?;
        self.tried |= 1_u64.checked_shl(u32::try_from(index).ok()?)?;
        Some(child)
    }

    fn goes_on_after(&self, verdict: Verdict, any: bool) -> bool {
        if any {
            return match verdict {
                Verdict::Answered(status) => status.is_client_error() || status.is_server_error(),
                Verdict::NoAnswer | Verdict::Unavailable => true,
            };
        }
        match (self.choice.mode, verdict) {
            (Mode::Fallback, Verdict::Answered(status)) => self.choice.codes.contain(status),
            (Mode::Fallback, Verdict::NoAnswer | Verdict::Unavailable)
            | (Mode::Loadbalance, Verdict::Unavailable) => true,
            (Mode::Single | Mode::Loadbalance, _) => false,
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
