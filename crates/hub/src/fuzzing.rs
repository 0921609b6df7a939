//! What the fuzz targets reach besides the public interface.

use http::Method;

pub use crate::listen::fuzzing::{Passed, pass};
use crate::routes::RouteTable;

/// The route that the hub finds for a path, by name; `None` where there is nothing, `Some(None)` where there is
/// something for other methods only.
#[must_use]
#[allow(
    clippy::option_option,
    reason = "nothing and not with this method differ"
)]
pub fn route(method: &Method, path: &str) -> Option<Option<String>> {
    RouteTable::new(Some("/health".into()), Some("/ready".into()), true).named(method, path)
}

/// Whether that path and method are public.
#[must_use]
pub fn is_public(method: &Method, path: &str) -> bool {
    RouteTable::new(Some("/health".into()), Some("/ready".into()), true)
        .public()
        .any(|(methods, known)| known == path && methods.contains(method))
}
