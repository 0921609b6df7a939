use http::{HeaderMap, HeaderName};

use crate::glob::plain_path;

/// The header that names a target.
const TARGET: HeaderName = HeaderName::from_static("x-target");

/// What counts as the target of a request that names none there is. No target can have this name.
const UNKNOWN: &str = "?";

/// Which targets the paths below a prefix lead to, and how a request names one of them.
///
/// Rules with `by: target` tell these names apart and no others, so a client cannot make up counters.
#[derive(Clone, Debug)]
pub struct TargetRoute {
    below: Box<str>,
    names: Box<[Box<str>]>,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Header,
    Segment,
}

impl TargetRoute {
    /// Below `prefix` the header `x-target` names the target; where there is only one, it need not.
    #[must_use]
    pub fn by_header<N: Into<Box<str>>>(prefix: &str, names: impl IntoIterator<Item = N>) -> Self {
        Self::new(prefix, names, How::Header)
    }

    /// The segment of the path that follows `prefix` names the target.
    #[must_use]
    pub fn by_segment<N: Into<Box<str>>>(prefix: &str, names: impl IntoIterator<Item = N>) -> Self {
        Self::new(prefix, names, How::Segment)
    }

    fn new<N: Into<Box<str>>>(prefix: &str, names: impl IntoIterator<Item = N>, how: How) -> Self {
        Self {
            below: prefix.into(),
            names: names.into_iter().map(Into::into).collect(),
            how,
        }
    }

    fn named(&self, rest: &[u8], headers: &HeaderMap) -> &str {
        let known = |name: &[u8]| {
            let known = self.names.iter().find(|known| known.as_bytes() == name);
            known.map_or(UNKNOWN, |known| known)
        };
        if matches!(self.how, How::Segment) {
            return known(rest.split(|b| *b == b'/').next().unwrap_or_default());
        }
        let mut fields = headers.get_all(TARGET).iter();
        match (fields.next(), fields.next(), &*self.names) {
            (None, _, [only]) => only,
            (Some(field), None, [only]) if field.is_empty() => only,
            (Some(field), None, _) => known(field.as_bytes()),
            _ => UNKNOWN,
        }
    }
}

/// The target of a request: one of those names, one for all that are unknown, or none where there are no targets.
pub(crate) fn target_of<'r>(routes: &'r [TargetRoute], path: &str, headers: &HeaderMap) -> &'r str {
    let path = plain_path(path);
    routes
        .iter()
        .find_map(|route| Some((route, path.strip_prefix(route.below.as_bytes())?)))
        .map_or("", |(route, rest)| route.named(rest, headers))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_names_that_there_are_make_a_difference() {
        let routes = [
            TargetRoute::by_header("/v1/", ["main", "spare"]),
            TargetRoute::by_header("/youtube/", ["only"]),
            TargetRoute::by_segment("/proxy/forward/", ["cms"]),
        ];
        for (path, fields, expected) in [
            ("/v1/models", &["main"][..], "main"),
            ("/v1/models", &["spare"], "spare"),
            ("/v1/models", &["Main"], "?"),
            ("/v1/models", &["made-up"], "?"),
            ("/v1/models", &[], "?"),
            ("/v1/models", &[""], "?"),
            ("/v1/models", &["main", "spare"], "?"),
            ("/%761/models", &["main"], "main"),
            ("/youtube/upload", &["only"], "only"),
            ("/youtube/upload", &[], "only"),
            ("/youtube/upload", &[""], "only"),
            ("/youtube/upload", &["main"], "?"),
            ("/youtube/upload", &["only", "only"], "?"),
            ("/proxy/forward/cms", &["made-up"], "cms"),
            ("/proxy/forward/cms/a/b", &[], "cms"),
            ("/proxy/forward/%63ms/", &[], "cms"),
            ("/proxy/forward/cmsx", &["cms"], "?"),
            ("/proxy/forward/", &["cms"], "?"),
            ("/auth/whoami", &["main"], ""),
            ("/v1", &["main"], ""),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(TARGET, HeaderValue::from_static(field));
            }
            assert_eq!(
                target_of(&routes, path, &headers),
                expected,
                "{path} {fields:?}"
            );
        }
        assert_eq!(target_of(&[], "/v1/models", &HeaderMap::new()), "");
    }
}
