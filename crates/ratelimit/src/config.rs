use std::time::Duration;

use http::Method;
use proactions_edge::{ConfigError, ConfigProblem};

use crate::addresses::parse_net;
use crate::fixed_window::Quota;
use crate::glob::Glob;
use crate::headers::{ResetFormat, StandardHeaders};

/// What a configuration file says about limits. [`RateLimitPolicy`](crate::RateLimitPolicy) is made of it.
///
/// The defaults are those of `express-rate-limit`. Its own keys keep their names; `rules`, the two lists,
/// `resetFormat`, `store` and `onStoreError` are added.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct RateLimitConfig {
    /// Whether anything is limited; `true`.
    pub enabled: bool,
    /// The length of a window in milliseconds, 1 to 2147483647; `60000`.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::de::whole_number")
    )]
    pub window_ms: u32,
    /// How many requests of one address a window allows; `5`. `0` refuses everything.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::de::some_whole_number")
    )]
    pub max: Option<u32>,
    /// Another name for `max`; only one of them may be given.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::de::some_whole_number")
    )]
    pub limit: Option<u32>,
    /// What a refused client is told; `Too many requests, please try again later.`
    pub message: String,
    /// The status of a refusal, 400 to 599; `429`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::status"))]
    pub status_code: u16,
    /// Which RateLimit fields are sent: `false`, `true` (draft-6), `draft-6`, `draft-7` or `draft-8`; `false`.
    pub standard_headers: StandardHeaders,
    /// Whether `X-RateLimit-Limit`, `-Remaining` and `-Reset` are sent; `true`.
    pub legacy_headers: bool,
    /// The name of the general limit in draft-8 fields; by default like `100-in-15min`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::some_text"))]
    pub identifier: Option<String>,
    /// What `RateLimit-Reset` of draft-6 holds: `seconds` until the window ends, or its end as `epoch`;
    /// `seconds`.
    pub reset_format: ResetFormat,
    /// Whether answers with a status of 400 and above are not counted; `false`.
    pub skip_failed_requests: bool,
    /// Whether answers with a status below 400 are not counted; `false`.
    pub skip_successful_requests: bool,
    /// How many bits of an IPv6 address make a client, 32 to 64, or `false` for the whole address; `56`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::ipv6_subnet"))]
    pub ipv6_subnet: Option<u8>,
    /// Where requests are counted; `memory`.
    pub store: StoreKind,
    /// What happens while the store is out of reach; `local`.
    pub on_store_error: OnStoreError,
    /// Addresses and networks that are never limited.
    pub allowlist: Vec<String>,
    /// Addresses and networks that get 403; they win over the allow list.
    pub denylist: Vec<String>,
    /// Limits that hold in addition to the general one.
    pub rules: Vec<RuleConfig>,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            window_ms: 60_000,
            max: None,
            limit: None,
            message: "Too many requests, please try again later.".to_owned(),
            status_code: 429,
            standard_headers: StandardHeaders::Off,
            legacy_headers: true,
            identifier: None,
            reset_format: ResetFormat::Seconds,
            skip_failed_requests: false,
            skip_successful_requests: false,
            ipv6_subnet: Some(56),
            store: StoreKind::Memory,
            on_store_error: OnStoreError::Local,
            allowlist: Vec::new(),
            denylist: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// A limit for some paths and methods, by address, user or target.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct RuleConfig {
    /// The paths, as a pattern: `*` stands for anything within a segment, `**` for any number of segments, so
    /// that `/v1/**` covers `/v1` and all below. Every path if it is left out.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::some_text"))]
    pub path: Option<String>,
    /// The methods in capitals; `GET` covers `HEAD`. Every method if it is left out.
    #[cfg_attr(feature = "config", serde(deserialize_with = "crate::de::some_list"))]
    pub methods: Option<Vec<String>>,
    /// Whose requests are counted together; `ip`.
    pub by: KeyOf,
    /// The length of a window in milliseconds; that of the general limit if it is left out.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::de::some_whole_number")
    )]
    pub window_ms: Option<u32>,
    /// How many requests a window allows. It must be given.
    #[cfg_attr(
        feature = "config",
        serde(deserialize_with = "crate::de::some_whole_number")
    )]
    pub max: Option<u32>,
}

/// Whose requests a limit counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum KeyOf {
    /// Those from one address, or one IPv6 network.
    #[default]
    Ip,
    /// Those of one [`Principal`](proactions_edge::Principal); of one address where nobody is logged in.
    User,
    /// Those of one user for one target; where there are no targets, those of one user.
    Target,
}

impl KeyOf {
    /// `ip`, `user` or `target`, as in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::User => "user",
            Self::Target => "target",
        }
    }
}

/// Where requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum StoreKind {
    /// In this process.
    #[default]
    Memory,
    /// In Redis, together with other processes.
    Redis,
}

/// What happens to requests while the counter store is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(feature = "config", serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum OnStoreError {
    /// They get 503.
    Closed,
    /// They are counted in this process.
    #[default]
    Local,
    /// They pass without limit.
    Open,
}

impl RateLimitConfig {
    /// Settings that can be meant, but are dangerous or without effect.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        if !self.enabled {
            return found;
        }
        let mut warn = |key: &str, message: &str| found.push(ConfigProblem::new(key, message));
        let max = self.effective_max();
        if max == 0 {
            let key = if self.limit.is_some() { "limit" } else { "max" };
            warn(key, "0 refuses every request");
        }
        if self.window_ms < 1000 {
            warn(
                "windowMs",
                "the unit is milliseconds; this window is shorter than a second",
            );
        }
        if self.standard_headers == StandardHeaders::Off && !self.legacy_headers {
            warn(
                "standardHeaders",
                "with legacyHeaders off too, clients learn neither their limit nor, by Retry-After, when to come again",
            );
        }
        if self.reset_format == ResetFormat::Epoch {
            if self.standard_headers == StandardHeaders::Draft6 {
                warn(
                    "resetFormat",
                    "clients that follow the draft take the value for seconds to wait",
                );
            } else {
                warn(
                    "resetFormat",
                    "it has an effect on the draft-6 fields only (standardHeaders: true)",
                );
            }
        }
        if self.skip_failed_requests && self.skip_successful_requests {
            warn(
                "skipSuccessfulRequests",
                "with skipFailedRequests on too, nothing is counted",
            );
        } else if self.skip_failed_requests {
            warn(
                "skipFailedRequests",
                "requests with wrong credentials are not counted either, so that guessing is not limited here",
            );
        }
        if self.ipv6_subnet.is_none() {
            warn(
                "ipv6Subnet",
                "every IPv6 client has more addresses than it needs to escape the limit; 56 is usual",
            );
        }
        if self.on_store_error == OnStoreError::Open {
            warn(
                "onStoreError",
                "nothing is limited while the store is out of reach",
            );
        }
        for (key, list) in [("allowlist", &self.allowlist), ("denylist", &self.denylist)] {
            for (index, entry) in list.iter().enumerate() {
                let Some(net) = parse_net(entry) else {
                    continue;
                };
                let key = format!("{key}[{index}]");
                if net.prefix_len() == 0 {
                    warn(&key, "this is every address there is");
                } else if net.addr() != net.network() {
                    let message = format!("this is read as {}", net.trunc());
                    warn(&key, &message);
                }
            }
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let key = format!("rules[{index}]");
            let window = rule.window_ms.unwrap_or(self.window_ms);
            match rule.max {
                Some(0) => warn(&format!("{key}.max"), "0 refuses every request"),
                Some(rule_max)
                    if rule.by == KeyOf::Ip && rule_max >= max && window <= self.window_ms =>
                {
                    warn(
                        &key,
                        "it never bites: the general limit holds for these requests too and is at least as tight",
                    );
                }
                _ => {}
            }
        }
        found
    }

    fn effective_max(&self) -> u32 {
        self.max.or(self.limit).unwrap_or(5)
    }

    /// The quota of the general limit.
    pub(crate) fn quota(&self) -> Result<Quota, ConfigError> {
        let mut found = Problems::default();
        if self.max.is_some() && self.limit.is_some() {
            found.add(
                "limit",
                "it is another name for max; write only one of them",
            );
        }
        let window = Duration::from_millis(self.window_ms.into());
        let quota = found.take(Quota::new(self.effective_max(), window));
        found.finish(quota)
    }
}

/// What a rule says, checked.
pub(crate) struct Rule {
    pub(crate) path: Option<Glob>,
    pub(crate) methods: Option<Box<[Method]>>,
    pub(crate) quota: Quota,
}

impl RuleConfig {
    /// The checked parts of this rule, in a section whose windows last `window` unless told otherwise.
    pub(crate) fn check(&self, window: Duration) -> Result<Rule, ConfigError> {
        let mut found = Problems::default();
        let path = found.take(self.path.as_deref().map(Glob::parse).transpose());
        let methods = self
            .methods
            .as_deref()
            .map(|names| parse_methods(names, &mut found));
        if self.max.is_none() {
            found.add(
                "max",
                "it is missing; expected how many requests a window allows",
            );
        }
        let window = self
            .window_ms
            .map_or(window, |millis| Duration::from_millis(millis.into()));
        let quota = found.take(Quota::new(self.max.unwrap_or_default(), window));
        let rule = path.zip(quota).map(|(path, quota)| Rule {
            path,
            methods,
            quota,
        });
        found.finish(rule)
    }
}

fn parse_methods(names: &[String], found: &mut Problems) -> Box<[Method]> {
    if names.is_empty() {
        found.add(
            "methods",
            "the list is empty; leave it out for every method",
        );
    }
    let mut methods = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let in_capitals = name.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        match Method::from_bytes(name.as_bytes()) {
            Ok(method) if in_capitals => methods.push(method),
            _ => found.add(
                format!("methods[{index}]"),
                "expected a method in capitals, such as GET or POST",
            ),
        }
    }
    // A HEAD request does the work of a GET.
    if methods.contains(&Method::GET) {
        methods.push(Method::HEAD);
    }
    methods.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    methods.dedup();
    methods.into()
}

/// Collects problems while a policy is built, so that all of them are told at once.
#[derive(Default)]
pub(crate) struct Problems(Vec<ConfigError>);

impl Problems {
    pub(crate) fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(ConfigError::new(key, message));
    }

    /// The value, or `None` with the problem kept.
    pub(crate) fn take<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// The value if it could be made and there was no problem.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        let checked = ConfigError::check((), self.0);
        match (value, checked) {
            (Some(value), Ok(())) => Ok(value),
            (_, Err(error)) => Err(error),
            // A missing value always left its problem here.
            (None, Ok(())) => Err(ConfigError::new("", "invalid")),
        }
    }
}

#[cfg(test)]
mod tests;
