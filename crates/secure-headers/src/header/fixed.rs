//! The headers without options: there is one value, or no header.

use http::header::{X_CONTENT_TYPE_OPTIONS, X_XSS_PROTECTION};
use http::{HeaderName, HeaderValue};

pub(crate) type Fixed = (HeaderName, HeaderValue);

pub(crate) const ORIGIN_AGENT_CLUSTER: Fixed = (
    HeaderName::from_static("origin-agent-cluster"),
    HeaderValue::from_static("?1"),
);

/// Browsers take the content type as it is.
pub(crate) const NO_SNIFF: Fixed = (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// Old browsers of Microsoft do not open a download in the site's name.
pub(crate) const IE_NO_OPEN: Fixed = (
    HeaderName::from_static("x-download-options"),
    HeaderValue::from_static("noopen"),
);

/// Switches a filter off that could itself be used for attacks.
pub(crate) const XSS_FILTER: Fixed = (X_XSS_PROTECTION, HeaderValue::from_static("0"));
