use proactions_edge::ConfigProblem;

use crate::policy::MAX_AGE;

/// The section `cors` as it stands in a file. [`CorsPolicy`](crate::CorsPolicy) is made of it.
///
/// The default is a section that is present and empty: on, for every origin, without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "config", derive(serde::Deserialize))]
#[cfg_attr(
    feature = "config",
    serde(default, deny_unknown_fields, rename_all = "camelCase")
)]
#[non_exhaustive]
pub struct CorsConfig {
    /// `enabled`: whether the section counts. Default `true`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::boolean"))]
    pub enabled: bool,
    /// `origin`: who may call. Absent means `'*'`, which excludes credentials.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::present"))]
    pub origin: Option<CorsOrigin>,
    /// `methods`: what a preflight allows. Default `GET,HEAD,PUT,PATCH,POST,DELETE`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::present"))]
    pub methods: Option<CommaList>,
    /// `allowedHeaders`: the request fields that a preflight allows. Absent reflects what is asked for; an
    /// empty list allows none beyond those that need no preflight.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::present"))]
    pub allowed_headers: Option<CommaList>,
    /// `exposedHeaders`: the response fields that a page may read. Default none.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::present"))]
    pub exposed_headers: Option<CommaList>,
    /// `credentials`: whether a page may send cookies and other credentials. Default `false`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::boolean"))]
    pub credentials: bool,
    /// `maxAge`: for how many seconds a browser may keep the answer to a preflight; more than 86400 is sent as
    /// 86400. Absent leaves it to the browser.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::whole_number"))]
    pub max_age: Option<u64>,
    /// `optionsSuccessStatus`: the status of the answer to a preflight, 200 to 299. Absent means 204.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::whole_number"))]
    pub options_success_status: Option<u64>,
    /// `preflightContinue`: whether the inner service answers preflights. Default `false`.
    #[cfg_attr(feature = "config", serde(deserialize_with = "read::boolean"))]
    pub preflight_continue: bool,
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            origin: None,
            methods: None,
            allowed_headers: None,
            exposed_headers: None,
            credentials: false,
            max_age: None,
            options_success_status: None,
            preflight_continue: false,
        }
    }
}

impl CorsConfig {
    /// What is legal here and still worth a line in the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let mut found = Vec::new();
        if !self.enabled {
            return found;
        }
        let mut warn = |key: &str, message: &str| found.push(ConfigProblem::new(key, message));
        match &self.origin {
            None => warn(
                "origin",
                "no origin is named, so every page on the Internet may read the answers; list the origins \
                 that need it",
            ),
            Some(CorsOrigin::Reflect) => warn(
                "origin",
                "`true` allows every page on the Internet to read the answers; use it for development only \
                 and list the origins in production",
            ),
            Some(CorsOrigin::Text(text)) if text == "*" => warn(
                "origin",
                "`*` allows every page on the Internet to read the answers; use it for development only \
                 and list the origins in production",
            ),
            Some(CorsOrigin::Text(text)) => {
                if let Some(message) = risky(text, self.credentials) {
                    warn("origin", &message);
                }
            }
            Some(CorsOrigin::List(items)) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(message) = risky(item, self.credentials) {
                        warn(&format!("origin[{index}]"), &message);
                    }
                }
            }
        }
        if let Some(seconds) = self.max_age.filter(|seconds| *seconds > MAX_AGE) {
            warn(
                "maxAge",
                &format!(
                    "browsers keep the answer for {MAX_AGE} seconds at most, not for {seconds}"
                ),
            );
        }
        found
    }
}

fn risky(origin: &str, credentials: bool) -> Option<String> {
    if origin == "null" {
        return Some(
            "`null` is the origin of every sandboxed frame and local file, whoever made it"
                .to_owned(),
        );
    }
    let rest = origin.strip_prefix("http://")?;
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    let local = host == "localhost"
        || host.ends_with(".localhost")
        || host.starts_with("127.")
        || host == "[::1]";
    (credentials && !local).then(|| {
        format!(
            "`{origin}` has no TLS, so whoever sits on the network can put a page there that uses the \
             users' sessions"
        )
    })
}

/// The value of `origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorsOrigin {
    /// `true`: whichever origin asks.
    Reflect,
    /// `'*'`, one origin (`https://app.example.com`), or one with a wildcard (`https://*.example.com`).
    Text(String),
    /// Several origins; `null` may be one of them.
    List(Vec<String>),
}

impl From<&str> for CorsOrigin {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<S: Into<String>> FromIterator<S> for CorsOrigin {
    fn from_iter<I: IntoIterator<Item = S>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// Names in a list, or in one text with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommaList {
    items: Vec<String>,
}

impl CommaList {
    /// The names, without the spaces around them. An empty text is one empty name.
    #[must_use]
    pub fn items(&self) -> &[String] {
        &self.items
    }
}

impl From<&str> for CommaList {
    fn from(text: &str) -> Self {
        text.split(',').map(str::trim).collect()
    }
}

impl<S: Into<String>> FromIterator<S> for CommaList {
    fn from_iter<I: IntoIterator<Item = S>>(items: I) -> Self {
        Self {
            items: items.into_iter().map(Into::into).collect(),
        }
    }
}

#[cfg(feature = "config")]
mod read {
    use std::fmt;

    use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

    use super::{CommaList, CorsOrigin};

    /// A key that may be absent but not `null`: an empty value would otherwise read as «not restricted».
    pub(super) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        T::deserialize(deserializer).map(Some)
    }

    pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        struct Boolean;

        impl Visitor<'_> for Boolean {
            type Value = bool;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true` or `false`, without quotes")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
                Ok(value)
            }
        }

        deserializer.deserialize_any(Boolean)
    }

    pub(super) fn whole_number<'de, D>(deserializer: D) -> Result<Option<u64>, D::Error>
    where
        D: Deserializer<'de>,
    {
        struct Whole;

        impl Visitor<'_> for Whole {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0, without quotes")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
                Ok(value)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
                u64::try_from(value)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(value), &self))
            }
        }

        deserializer.deserialize_any(Whole).map(Some)
    }

    impl<'de> Deserialize<'de> for CorsOrigin {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct OriginVisitor;

            impl<'de> Visitor<'de> for OriginVisitor {
                type Value = CorsOrigin;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(
                        "an origin such as https://app.example.com, a list of origins, `true` or '*'",
                    )
                }

                fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
                    if value {
                        Ok(CorsOrigin::Reflect)
                    } else {
                        Err(E::custom(
                            "`false` is no origin; to switch CORS off write `enabled: false` in its section",
                        ))
                    }
                }

                fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                    Ok(CorsOrigin::Text(value.to_owned()))
                }

                fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                    texts(seq).map(CorsOrigin::List)
                }
            }

            deserializer.deserialize_any(OriginVisitor)
        }
    }

    impl<'de> Deserialize<'de> for CommaList {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct ListVisitor;

            impl<'de> Visitor<'de> for ListVisitor {
                type Value = CommaList;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a list of names, or one text with commas between the names")
                }

                fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
                    Ok(CommaList::from(value))
                }

                fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                    texts(seq).map(|items| CommaList { items })
                }
            }

            deserializer.deserialize_any(ListVisitor)
        }
    }

    fn texts<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<String>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<String>()? {
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(all(test, feature = "config"))]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<CorsConfig, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(read("{}"), Ok(CorsConfig::default()));
        let config = read(
            r#"{"enabled": true, "origin": "https://a.example", "methods": "GET, POST", "credentials": true,
                "allowedHeaders": ["x-a", "x-b"], "exposedHeaders": "x-c", "maxAge": 600,
                "optionsSuccessStatus": 200, "preflightContinue": true}"#,
        )
        .unwrap();
        assert_eq!(config.origin, Some("https://a.example".into()));
        assert_eq!(config.methods.unwrap().items(), ["GET", "POST"]);
        assert_eq!(config.allowed_headers.unwrap().items(), ["x-a", "x-b"]);
        assert_eq!(config.exposed_headers.unwrap().items(), ["x-c"]);
        assert_eq!(config.max_age, Some(600));
        assert_eq!(config.options_success_status, Some(200));
        assert!(config.credentials && config.preflight_continue);
        for (json, origin) in [
            (r#"{"origin": true}"#, CorsOrigin::Reflect),
            (r#"{"origin": "*"}"#, "*".into()),
            (
                r#"{"origin": ["a", "b"]}"#,
                ["a", "b"].into_iter().collect(),
            ),
        ] {
            assert_eq!(read(json).unwrap().origin, Some(origin), "{json}");
        }
    }

    #[test]
    fn other_types_are_refused_with_the_mend() {
        for (json, part) in [
            (r#"{"origins": "x"}"#, "unknown field `origins`"),
            (
                r#"{"allowed_headers": "x"}"#,
                "unknown field `allowed_headers`",
            ),
            (r#"{"origin": null}"#, "expected an origin such as"),
            (r#"{"origin": 1}"#, "expected an origin such as"),
            (r#"{"origin": false}"#, "`enabled: false`"),
            (r#"{"origin": [true]}"#, "expected a string"),
            (r#"{"methods": null}"#, "expected a list of names"),
            (r#"{"allowedHeaders": null}"#, "expected a list of names"),
            (r#"{"exposedHeaders": 3}"#, "expected a list of names"),
            (r#"{"credentials": "true"}"#, "without quotes"),
            (r#"{"credentials": null}"#, "without quotes"),
            (r#"{"enabled": 1}"#, "expected `true` or `false`"),
            (r#"{"maxAge": "600"}"#, "without quotes"),
            (r#"{"maxAge": -1}"#, "a whole number from 0"),
            (r#"{"maxAge": 1.5}"#, "a whole number from 0"),
            (r#"{"maxAge": null}"#, "a whole number from 0"),
            (r#"{"optionsSuccessStatus": "200"}"#, "without quotes"),
            ("null", "expected struct CorsConfig"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn dangerous_settings_are_warned_about() {
        for (json, keys) in [
            (
                r#"{"origin": "https://a.example", "credentials": true}"#,
                &[][..],
            ),
            (r#"{"enabled": false, "origin": true}"#, &[]),
            ("{}", &["origin"]),
            (r#"{"origin": true}"#, &["origin"]),
            (r#"{"origin": "*"}"#, &["origin"]),
            (
                r#"{"origin": ["https://a.example", "null"]}"#,
                &["origin[1]"],
            ),
            (
                r#"{"origin": "http://a.example", "credentials": true}"#,
                &["origin"],
            ),
            (r#"{"origin": "http://a.example"}"#, &[]),
            (
                r#"{"origin": "http://localhost:3000", "credentials": true}"#,
                &[],
            ),
            (
                r#"{"origin": "https://a.example", "maxAge": 86401}"#,
                &["maxAge"],
            ),
            (r#"{"origin": "https://a.example", "maxAge": 86400}"#, &[]),
        ] {
            let warnings = read(json).unwrap().warnings();
            let found: Vec<_> = warnings
                .iter()
                .map(|problem| problem.key.as_str())
                .collect();
            assert_eq!(found, keys, "{json}");
        }
    }
}
