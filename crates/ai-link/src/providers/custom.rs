//! A provider of one's own: an address and header fields.

use http::{HeaderName, HeaderValue};
use proactions_edge::ConfigError;
use proactions_forward::BaseUrl;

use super::{Urls, bearer, require};
use crate::TargetConfig;

/// What becomes the rest of a request's path.
const PATH: &str = "{path}";

/// A target at an address of its own.
#[derive(Clone, Debug)]
pub(crate) struct Custom {
    pub(super) urls: Urls,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Custom {
    pub(crate) fn new(target: &TargetConfig) -> Result<Self, ConfigError> {
        let mut found = Vec::new();
        let mut headers = Vec::new();
        if let Some(key) = &target.api_key {
            match bearer(key) {
                Ok(header) => headers.push(header),
                Err(error) => found.push(error),
            }
        }
        headers.extend(super::extra_headers(target));

        let endpoint = target.endpoint.as_ref().map(|url| url.as_str());
        let parsed = match require("endpoint", endpoint) {
            Some(error) => Err(error),
            None => parse(endpoint.unwrap_or_default()),
        };
        match (ConfigError::check((), found), parsed) {
            (Ok(()), Ok((base, suffix))) => Ok(Self {
                urls: Urls::new(|endpoint| {
                    base.joined(&format!("{}{suffix}", endpoint.tail()), None)
                }),
                headers,
            }),
            (Err(error), Ok(_)) | (Ok(()), Err(error)) => Err(error),
            (Err(one), Err(other)) => Err(match ConfigError::check((), [one, other]) {
                Err(both) => both,
                Ok(()) => ConfigError::new("endpoint", "cannot be used"),
            }),
        }
    }
}

/// Splits `https://host/before/{path}/after?query`.
fn parse(endpoint: &str) -> Result<(BaseUrl, String), ConfigError> {
    let refuse = |message: &str| Err(ConfigError::new("endpoint", message));
    let (location, query) = match endpoint.split_once('?') {
        Some((location, query)) => (location, Some(query)),
        None => (endpoint, None),
    };
    if query.is_some_and(|query| query.contains(PATH)) {
        return refuse("{path} must stand in the path, not in the query");
    }
    let (before, after) = match location.split_once(PATH) {
        Some((_, after)) if after.contains(PATH) => return refuse("{path} must stand once"),
        Some((before, _)) if !before.ends_with('/') => {
            return refuse("{path} must stand right after a / of the path");
        }
        Some((before, after)) => (before, after),
        None => (location, ""),
    };
    // `https://{path}` would let a request choose the host.
    let whole = match query {
        Some(query) => format!("{before}?{query}"),
        None => before.to_owned(),
    };
    let base = match BaseUrl::parse_with_query(&whole) {
        Ok(base) => base,
        Err(error) => return refuse(&error.to_string()),
    };
    if !after.is_empty() && base.join(&format!("/x{after}"), None).is_err() {
        return refuse("has characters after {path} that cannot stand in a path");
    }
    Ok((base, after.to_owned()))
}
