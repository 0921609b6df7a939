use std::net::IpAddr;
use std::time::Duration;

use http::{Method, Request};
use proactions_edge::{ClientInfo, ConfigError, Principal};

use crate::config::{KeyOf, Problems, RateLimitConfig, Rule};
use crate::fixed_window::Quota;
use crate::glob::{Glob, plain_path};
use crate::headers::LimitHeaders;
use crate::key::{AddressKey, CounterKey, Subject, scope};
use crate::target::{TargetRoute, target_of};

/// A quota, whom it is for and which requests it covers.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) quota: Quota,
    pub(crate) by: KeyOf,
    pub(crate) headers: LimitHeaders,
    scope: u64,
    path: Option<Glob>,
    methods: Option<Box<[Method]>>,
}

impl Limit {
    /// The limit for every request of an address.
    pub(crate) fn general(quota: Quota, name: Option<&str>) -> Self {
        Self {
            quota,
            by: KeyOf::Ip,
            headers: LimitHeaders::new(quota, name),
            scope: 0,
            path: None,
            methods: None,
        }
    }

    /// Whether the limit covers requests of this method and path.
    pub(crate) fn covers(&self, method: &Method, path: &str) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.contains(method))
            && self
                .path
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&plain_path(path)))
    }

    /// The counter that a request goes to.
    pub(crate) fn key<B>(
        &self,
        request: &Request<B>,
        address: Option<AddressKey>,
        targets: &[TargetRoute],
    ) -> CounterKey {
        let subject = match self.by {
            KeyOf::Ip => address.map_or(Subject::Unknown, Subject::Address),
            KeyOf::User => match request.extensions().get::<Principal>() {
                Some(user) => {
                    Subject::digest(&[user.method.as_str().as_bytes(), user.id.as_bytes()])
                }
                None => address.map_or(Subject::Unknown, Subject::Address),
            },
            KeyOf::Target => {
                let target = target_of(targets, request.uri().path(), request.headers());
                let target = target.as_bytes();
                match request.extensions().get::<Principal>() {
                    Some(user) => {
                        let method = user.method.as_str().as_bytes();
                        Subject::digest(&[method, user.id.as_bytes(), target])
                    }
                    None => {
                        let address = address.map(|key| key.to_string()).unwrap_or_default();
                        Subject::digest(&[address.as_bytes(), target])
                    }
                }
            }
        };
        CounterKey::new(self.scope, subject)
    }
}

/// The client's address, if a layer further out found it.
pub(crate) fn client_ip<B>(request: &Request<B>) -> Option<IpAddr> {
    request
        .extensions()
        .get::<ClientInfo>()
        .map(|client| client.ip)
}

/// The limits of a configuration's rules, in their order.
pub(crate) fn rules(config: &RateLimitConfig, window: Duration) -> Result<Vec<Limit>, ConfigError> {
    let mut found = Problems::default();
    let mut limits: Vec<(usize, Limit)> = Vec::new();
    for (index, rule) in config.rules.iter().enumerate() {
        let key = format!("rules[{index}]");
        let checked = rule.check(window).map_err(|error| error.within(&key));
        let Some(Rule {
            path,
            methods,
            quota,
        }) = found.take(checked)
        else {
            continue;
        };
        let methods_text = methods.as_ref().map(|methods| {
            let names: Vec<_> = methods.iter().map(Method::as_str).collect();
            names.join(",")
        });
        let scope = scope(&[
            rule.path.as_deref().unwrap_or("/**").as_bytes(),
            methods_text.as_deref().unwrap_or("*").as_bytes(),
            rule.by.as_str().as_bytes(),
            &quota.window().as_millis().to_be_bytes(),
        ]);
        if let Some((twin, _)) = limits.iter().find(|(_, limit)| limit.scope == scope) {
            found.add(
                key,
                format!(
                    "it has the path, methods, by and windowMs of rules[{twin}]; keep one of them"
                ),
            );
            continue;
        }
        let limit = Limit {
            quota,
            by: rule.by,
            headers: LimitHeaders::new(quota, None),
            scope,
            path,
            methods,
        };
        limits.push((index, limit));
    }
    let limits = limits.into_iter().map(|(_, limit)| limit).collect();
    found.finish(Some(limits))
}
