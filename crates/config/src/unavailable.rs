//! The one list of what can be configured and cannot be served yet.
//!
//! These keys are read and checked like all others. Only switching one on is a problem, and a clear one.
//! Providers and strategies of targets say the same for themselves, in their own crate.

use proactions_auth_edapi::AuthType;
use proactions_edge::ConfigProblem;
use proactions_ratelimit::StoreKind as RateLimitStore;
use proactions_session_store::StoreKind as SessionStore;

use crate::Config;

type Feature = (&'static str, &'static str, fn(&Config) -> bool);

/// Key, what it would switch on, and whether a configuration does.
const FEATURES: [Feature; 8] = [
    ("auth.type", "type edapi", |config| {
        config.auth.enabled && config.auth.kind == Some(AuthType::Edapi)
    }),
    ("auth.session.store", "the session store redis", |config| {
        config.auth.enabled && config.auth.session.store == SessionStore::Redis
    }),
    ("hub.ailink_port", "the internal listener", |config| {
        config.hub.ailink_port.is_some()
    }),
    ("hub.egress", "limiting outgoing calls", |config| {
        config.hub.egress.is_some()
    }),
    (
        "hub.security.rateLimit.store",
        "the rate limit store redis",
        |config| {
            let limit = config.hub.security.rate_limit.as_ref();
            limit.is_some_and(|limit| limit.enabled && limit.store == RateLimitStore::Redis)
        },
    ),
    ("hub.tls.enabled", "TLS", |config| config.hub.tls.enabled),
    ("proxies", "forwarding", |config| !config.proxies.is_empty()),
    ("youtube", "uploading to YouTube", |config| {
        config.youtube.is_some()
    }),
];

/// What this configuration switches on and cannot have.
pub(crate) fn enabled(config: &Config) -> Vec<ConfigProblem> {
    FEATURES
        .iter()
        .filter(|(_, _, is_on)| is_on(config))
        .map(|(key, what, _)| {
            ConfigProblem::new(*key, format!("{what} is not available yet in this version"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_has_the_same_list() {
        let page = include_str!("../../../docs/config-reference.md");
        let (_, list) = page.split_once("### Not available yet").unwrap();
        let (list, _) = list.split_once("\n## ").unwrap();
        for (key, ..) in FEATURES {
            let told = [format!("`{key}`"), format!("`{key}:")];
            assert!(told.iter().any(|told| list.contains(told)), "{key}");
        }
    }

    #[test]
    fn defaults_need_nothing_that_is_not_available() {
        assert_eq!(enabled(&Config::default()), []);
    }
}
