use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::SecureHeadersConfig;
use crate::preset::Preset;
use crate::read::{Boolean, SettingSeed};

const KEYS: &[&str] = &[
    "enabled",
    "preset",
    "contentSecurityPolicy",
    "crossOriginEmbedderPolicy",
    "crossOriginOpenerPolicy",
    "crossOriginResourcePolicy",
    "originAgentCluster",
    "referrerPolicy",
    "hsts",
    "strictTransportSecurity",
    "noSniff",
    "xContentTypeOptions",
    "dnsPrefetchControl",
    "xDnsPrefetchControl",
    "ieNoOpen",
    "xDownloadOptions",
    "frameguard",
    "xFrameOptions",
    "permittedCrossDomainPolicies",
    "xPermittedCrossDomainPolicies",
    "hidePoweredBy",
    "xPoweredBy",
    "xssFilter",
    "xXssProtection",
    "permissionsPolicy",
    "reportingEndpoints",
    "cacheControl",
];

impl<'de> Deserialize<'de> for SecureHeadersConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Helmet)
    }
}

struct Helmet;

impl<'de> Visitor<'de> for Helmet {
    type Value = SecureHeadersConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, `false` or a map of headers")
    }

    fn visit_bool<E: Error>(self, enabled: bool) -> Result<Self::Value, E> {
        Ok(SecureHeadersConfig {
            enabled,
            ..SecureHeadersConfig::default()
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut config = SecureHeadersConfig::default();
        while let Some(Key(key)) = map.next_key()? {
            if config.spelled.contains(&key) {
                return Err(A::Error::duplicate_field(key));
            }
            config.spelled.push(key);
            read_entry(&mut config, key, &mut map)?;
        }
        Ok(config)
    }
}

fn read_entry<'de, A: MapAccess<'de>>(
    config: &mut SecureHeadersConfig,
    key: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    match key {
        "enabled" => config.enabled = map.next_value_seed(Boolean)?,
        "preset" => config.preset = Some(map.next_value::<Preset>()?),
        "contentSecurityPolicy" => {
            let seed = SettingSeed::options(key, "directives", "{defaultSrc: [\"'self'\"]}");
            config.content_security_policy = map.next_value_seed(seed)?;
        }
        "crossOriginEmbedderPolicy" => {
            let seed = SettingSeed::options(key, "policy", "require-corp");
            config.cross_origin_embedder_policy = map.next_value_seed(seed)?;
        }
        "crossOriginOpenerPolicy" => {
            let seed = SettingSeed::options(key, "policy", "same-origin");
            config.cross_origin_opener_policy = map.next_value_seed(seed)?;
        }
        "crossOriginResourcePolicy" => {
            let seed = SettingSeed::options(key, "policy", "same-origin");
            config.cross_origin_resource_policy = map.next_value_seed(seed)?;
        }
        "originAgentCluster" => config.origin_agent_cluster = map.next_value_seed(Boolean)?,
        "referrerPolicy" => {
            let seed = SettingSeed::options(key, "policy", "no-referrer");
            config.referrer_policy = map.next_value_seed(seed)?;
        }
        "hsts" | "strictTransportSecurity" => {
            let seed = SettingSeed::options(key, "maxAge", "31536000");
            config.hsts = map.next_value_seed(seed)?;
        }
        "noSniff" | "xContentTypeOptions" => config.no_sniff = map.next_value_seed(Boolean)?,
        "dnsPrefetchControl" | "xDnsPrefetchControl" => {
            let seed = SettingSeed::options(key, "allow", "false");
            config.dns_prefetch_control = map.next_value_seed(seed)?;
        }
        "ieNoOpen" | "xDownloadOptions" => config.ie_no_open = map.next_value_seed(Boolean)?,
        "frameguard" | "xFrameOptions" => {
            let seed = SettingSeed::options(key, "action", "deny");
            config.frameguard = map.next_value_seed(seed)?;
        }
        "permittedCrossDomainPolicies" | "xPermittedCrossDomainPolicies" => {
            let seed = SettingSeed::options(key, "permittedPolicies", "none");
            config.permitted_cross_domain_policies = map.next_value_seed(seed)?;
        }
        "hidePoweredBy" | "xPoweredBy" => config.hide_powered_by = map.next_value_seed(Boolean)?,
        "xssFilter" | "xXssProtection" => config.xss_filter = map.next_value_seed(Boolean)?,
        "permissionsPolicy" => {
            let seed = SettingSeed::own(
                key,
                "`true`, `false`, a text such as `camera=()`, or a map of features, as in `camera: []`",
            );
            config.permissions_policy = map.next_value_seed(seed)?;
        }
        "reportingEndpoints" => {
            let seed = SettingSeed::own(
                key,
                "`false`, or a map of names and https URLs, as in `default: https://reports.example.com/`",
            );
            config.reporting_endpoints = map.next_value_seed(seed)?;
        }
        "cacheControl" => {
            let seed = SettingSeed::own(key, "`true`, `false` or a text such as `no-store`");
            config.cache_control = map.next_value_seed(seed)?;
        }
        _ => return Err(A::Error::unknown_field(key, KEYS)),
    }
    Ok(())
}

struct Key(&'static str);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a header's key")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Key, E> {
                KEYS.iter()
                    .find(|known| **known == value)
                    .map(|known| Key(known))
                    .ok_or_else(|| E::unknown_field(value, KEYS))
            }
        }

        deserializer.deserialize_identifier(KeyVisitor)
    }
}
