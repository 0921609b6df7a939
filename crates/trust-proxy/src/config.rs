use proactions_edge::ConfigProblem;

use crate::policy::parse_net;

/// The setting `trustProxy` as it stands in a file.
///
/// With the feature `config` it is read from a boolean, a whole number, a text or a list of texts. `null`,
/// negative numbers, fractions and numbers inside a list are refused while reading; what the texts say is
/// checked when a [`TrustProxy`](crate::TrustProxy) is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrustProxyConfig {
    /// `false` trusts nobody; `true` means that the peer is one proxy, as the number 1 does.
    Switch(bool),
    /// How many proxies stand in front, counted from this process outwards. 0 trusts nobody.
    Hops(u64),
    /// One address, network or name, or several with commas between.
    Text(String),
    /// Addresses, networks and names, one an item. An empty list trusts nobody.
    List(Vec<String>),
}

impl Default for TrustProxyConfig {
    /// `false`.
    fn default() -> Self {
        Self::Switch(false)
    }
}

impl TrustProxyConfig {
    /// What is legal here and still worth a line in the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        match self {
            Self::Switch(true) => vec![ConfigProblem::new(
                "",
                "`true` means that exactly one proxy stands in front, as the number 1 does: the right-most \
                 entry of X-Forwarded-For is taken as the client. Whoever can connect is believed, so make \
                 sure that only the proxy can, or list the addresses of the proxies",
            )],
            Self::Text(text) => text
                .split(',')
                .filter_map(|entry| broad("", entry.trim()))
                .collect(),
            Self::List(items) => items
                .iter()
                .enumerate()
                .filter_map(|(index, entry)| broad(&format!("[{index}]"), entry))
                .collect(),
            Self::Switch(false) | Self::Hops(_) => Vec::new(),
        }
    }
}

/// A network wider than any that one organisation runs its proxies in.
fn broad(key: &str, entry: &str) -> Option<ConfigProblem> {
    let net = parse_net(entry).ok()?;
    let widest = if net.addr().is_ipv4() { 8 } else { 7 };
    (net.prefix_len() < widest).then(|| {
        ConfigProblem::new(
            key,
            format!("`{entry}` trusts a large part of the Internet to name the client"),
        )
    })
}

#[cfg(feature = "config")]
mod read {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

    use super::TrustProxyConfig;

    impl<'de> Deserialize<'de> for TrustProxyConfig {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Setting)
        }
    }

    struct Setting;

    impl<'de> Visitor<'de> for Setting {
        type Value = TrustProxyConfig;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(
                "`false`, `true`, a number of proxies, or a list of IP addresses, networks such as 10.0.0.0/8 \
                 and the names loopback, linklocal and uniquelocal",
            )
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok(TrustProxyConfig::Switch(value))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            u64::try_from(value)
                .map(TrustProxyConfig::Hops)
                .map_err(|_| {
                    E::custom(format_args!(
                        "a number of proxies cannot be negative, but this is {value}; write `false` to trust none"
                    ))
                })
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            Ok(TrustProxyConfig::Hops(value))
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
            Err(E::custom(format_args!(
                "a number of proxies is a whole number such as 1, but this is {value}"
            )))
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok(TrustProxyConfig::Text(value.to_owned()))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(Item(item)) = seq.next_element()? {
                items.push(item);
            }
            Ok(TrustProxyConfig::List(items))
        }
    }

    struct Item(String);

    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(ItemVisitor)
        }
    }

    struct ItemVisitor;

    impl ItemVisitor {
        fn number<E: Error>(value: impl fmt::Display) -> Result<Item, E> {
            Err(E::custom(format_args!(
                "the number {value} cannot stand in a list, which holds addresses; write the number of \
                 proxies by itself, as in `trustProxy: 1`"
            )))
        }
    }

    impl Visitor<'_> for ItemVisitor {
        type Value = Item;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(
                "an IP address, a network such as 10.0.0.0/8, or one of the names loopback, linklocal and \
                 uniquelocal",
            )
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            Self::number(value)
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            Self::number(value)
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
            Self::number(value)
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok(Item(value.to_owned()))
        }
    }
}

#[cfg(all(test, feature = "config"))]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<TrustProxyConfig, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_of_the_setting_is_read() {
        for (json, expected) in [
            ("false", TrustProxyConfig::Switch(false)),
            ("true", TrustProxyConfig::Switch(true)),
            ("0", TrustProxyConfig::Hops(0)),
            ("2", TrustProxyConfig::Hops(2)),
            ("\"loopback\"", TrustProxyConfig::Text("loopback".into())),
            ("[]", TrustProxyConfig::List(vec![])),
            (
                r#"["10.0.0.0/8", "loopback"]"#,
                TrustProxyConfig::List(vec!["10.0.0.0/8".into(), "loopback".into()]),
            ),
        ] {
            assert_eq!(read(json), Ok(expected), "{json}");
        }
        assert_eq!(TrustProxyConfig::default(), TrustProxyConfig::Switch(false));
    }

    #[test]
    fn other_types_are_refused_with_the_mend() {
        for (json, part) in [
            ("-1", "cannot be negative"),
            ("1.5", "whole number"),
            ("null", "expected `false`, `true`, a number of proxies"),
            (
                "{\"hops\": 1}",
                "expected `false`, `true`, a number of proxies",
            ),
            ("[1]", "`trustProxy: 1`"),
            ("[-1]", "`trustProxy: 1`"),
            ("[0.5]", "`trustProxy: 1`"),
            ("[true]", "expected an IP address"),
            ("[null]", "expected an IP address"),
            ("[[]]", "expected an IP address"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn dangerous_settings_are_warned_about() {
        for (json, keys) in [
            ("true", vec![""]),
            ("false", vec![]),
            ("1", vec![]),
            (r#"["10.0.0.0/8", "uniquelocal"]"#, vec![]),
            (r#"["10.0.0.0/8", "0.0.0.0/1", "::/1"]"#, vec!["[1]", "[2]"]),
            (r#""128.0.0.0/1, loopback""#, vec![""]),
        ] {
            let found: Vec<_> = read(json)
                .unwrap()
                .warnings()
                .into_iter()
                .map(|problem| problem.key)
                .collect();
            assert_eq!(found, keys, "{json}");
        }
    }
}
