use std::sync::Arc;

use http::Method;
use proactions_edge::ConfigError;
use proactions_edge::path::{PathFault, check_route, check_tail};

/// Which requests need no credentials: none, unless exact routes are named.
///
/// A path that could be read in two ways is refused whatever the policy says, so a route that is public here
/// cannot be another one to whoever routes the request. Nothing but the method and the path is looked at.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    enabled: bool,
    public: Arc<[PublicRoute]>,
    tails: Arc<[Tail]>,
}

#[derive(Clone, Debug)]
struct PublicRoute {
    methods: Box<[Method]>,
    path: Box<str>,
}

/// A prefix, then so many whole segments; what follows is not a route.
#[derive(Clone, Debug)]
struct Tail {
    prefix: Box<str>,
    parameters: usize,
}

/// What [`AccessPolicy::decide`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Access {
    /// Anybody may call it.
    Public,
    /// Credentials are needed.
    Protected,
    /// The path could be read in two ways.
    Ambiguous(PathFault),
    /// `CONNECT` and `TRACE` are never served.
    Forbidden,
}

impl AccessPolicy {
    /// Everything needs credentials.
    #[must_use]
    pub fn new() -> Self {
        Self {
            enabled: true,
            public: Arc::new([]),
            tails: Arc::new([]),
        }
    }

    /// Lets anybody call `path` with these methods. The path is compared byte by byte: another case, an escape
    /// or a trailing slash make another path.
    ///
    /// # Errors
    /// When the path could be read in two ways.
    pub fn with_public(mut self, methods: &[Method], path: &str) -> Result<Self, ConfigError> {
        check_route(path)
            .map_err(|fault| ConfigError::new("", format!("the path {path} holds {fault}")))?;
        let route = PublicRoute {
            methods: methods.into(),
            path: path.into(),
        };
        self.public = self.public.iter().cloned().chain([route]).collect();
        Ok(self)
    }

    /// Names a route whose rest is handed on to somebody else, such as `/proxy/forward/{id}/`. The part up to the
    /// last slash is checked as a route. The rest may hold encoded slashes and the like, but no way up.
    ///
    /// # Errors
    /// When the pattern does not begin and end with a slash, or has a parameter before a fixed segment.
    pub fn with_tail(mut self, pattern: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::new(
                "",
                format!("{pattern} is no pattern such as /proxy/forward/{{id}}/"),
            )
        };
        let end = pattern.find('{').unwrap_or(pattern.len());
        let (prefix, parameters) = pattern.split_at_checked(end).ok_or_else(wrong)?;
        let named = |part: &&str| part.starts_with('{') && part.ends_with('}') && part.len() > 2;
        let parts: Vec<_> = parameters.split_terminator('/').collect();
        let whole = parameters.is_empty() || parameters.ends_with('/');
        let absolute = prefix.starts_with('/') && prefix.ends_with('/');
        if !absolute || !whole || !parts.iter().all(named) || check_route(prefix).is_err() {
            return Err(wrong());
        }
        let tail = Tail {
            prefix: prefix.into(),
            parameters: parts.len(),
        };
        self.tails = self.tails.iter().cloned().chain([tail]).collect();
        Ok(self)
    }

    /// Lets anybody call everything. Ambiguous paths, `CONNECT` and `TRACE` are refused all the same.
    #[must_use]
    pub const fn disabled(mut self) -> Self {
        self.enabled = false;
        self
    }

    /// Whether credentials are asked for at all.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// What a request with this method and path needs.
    #[must_use]
    pub fn decide(&self, method: &Method, path: &str) -> Access {
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Access::Forbidden;
        }
        let (head, tail) = self.split(path);
        let checked = check_route(head);
        // Hardly a path has a tail.
        let checked = if tail.is_empty() {
            checked
        } else {
            checked.and_then(|()| check_tail(tail))
        };
        if let Err(fault) = checked {
            return Access::Ambiguous(fault);
        }
        let public = |route: &PublicRoute| *route.path == *path && route.methods.contains(method);
        if !self.enabled || self.public.iter().any(public) {
            Access::Public
        } else {
            Access::Protected
        }
    }

    /// The part of the path that is a route, and the rest.
    fn split<'a>(&self, path: &'a str) -> (&'a str, &'a str) {
        let end = self.tails.iter().find_map(|tail| {
            let rest = path.strip_prefix(&*tail.prefix)?;
            let mut end = tail.prefix.len();
            let mut segments = rest.split('/');
            for _ in 0..tail.parameters {
                end += segments.next()?.len() + 1;
            }
            segments.next().map(|_| end)
        });
        end.and_then(|end| path.split_at_checked(end))
            .unwrap_or((path, ""))
    }
}

impl Default for AccessPolicy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hub() -> AccessPolicy {
        let reading = [Method::GET, Method::HEAD];
        AccessPolicy::new()
            .with_public(&reading, "/health")
            .and_then(|policy| policy.with_public(&reading, "/ready"))
            .and_then(|policy| policy.with_public(&[Method::GET], "/youtube/auth/google/callback"))
            .and_then(|policy| policy.with_tail("/proxy/forward/{id}/"))
            .unwrap()
    }

    #[test]
    fn only_the_exact_routes_are_public() {
        for (method, path, access) in [
            (Method::GET, "/health", Access::Public),
            (Method::HEAD, "/health", Access::Public),
            (Method::GET, "/ready", Access::Public),
            (Method::GET, "/youtube/auth/google/callback", Access::Public),
            (
                Method::HEAD,
                "/youtube/auth/google/callback",
                Access::Protected,
            ),
            (Method::POST, "/health", Access::Protected),
            (Method::OPTIONS, "/health", Access::Protected),
            (Method::GET, "/", Access::Protected),
            (Method::GET, "/health/", Access::Protected),
            (Method::GET, "/HEALTH", Access::Protected),
            (Method::GET, "/Health", Access::Protected),
            (Method::GET, "/%68ealth", Access::Protected),
            (Method::GET, "/health.", Access::Protected),
            (Method::GET, "/health%20", Access::Protected),
            (Method::GET, "/healthz", Access::Protected),
            (Method::GET, "/v1/models/health", Access::Protected),
            (Method::GET, "/health/v1/models", Access::Protected),
            (Method::CONNECT, "/health", Access::Forbidden),
            (Method::TRACE, "/health", Access::Forbidden),
        ] {
            assert_eq!(hub().decide(&method, path), access, "{method} {path}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        use PathFault as F;
        for (path, fault) in [
            ("//health", F::EmptySegment),
            ("/health/../v1/x", F::DotSegment),
            ("/health/%2e%2e/v1/x", F::DotSegment),
            ("/health/.%2e/v1/x", F::DotSegment),
            ("/health;x", F::Parameter),
            ("/health%2f..%2fv1", F::EncodedDelimiter),
            ("/health%252f..", F::EncodedDelimiter),
            ("/health\\..\\v1", F::Backslash),
            ("/health%00", F::Control),
            ("/health%", F::BadEscape),
            ("*", F::NotAbsolute),
            ("/proxy/forward/../health", F::DotSegment),
            ("/proxy/forward/%2e%2e/x", F::DotSegment),
            ("/proxy/forward//x", F::EmptySegment),
            ("/proxy/forward/a%2fb/x", F::EncodedDelimiter),
            ("/proxy/forward/a/../b", F::DotSegment),
            ("/proxy/forward/a/%252e%252e/b", F::DotSegment),
            ("/proxy/forward/a/x%5c..", F::Backslash),
        ] {
            for policy in [hub(), hub().disabled()] {
                let access = policy.decide(&Method::GET, path);
                assert_eq!(access, Access::Ambiguous(fault), "{path}");
            }
        }
    }

    #[test]
    fn a_tail_may_hold_what_a_route_may_not() {
        for path in [
            "/proxy/forward/a/group%2Fproject",
            "/proxy/forward/a/x//y;z=1",
            "/proxy/forward/a/",
            "/proxy/forward/a",
        ] {
            assert_eq!(
                hub().decide(&Method::GET, path),
                Access::Protected,
                "{path}"
            );
        }
        let bare = AccessPolicy::new().with_tail("/files/").unwrap();
        assert_eq!(bare.decide(&Method::GET, "/files/a%2fb"), Access::Protected);
        assert!(matches!(
            bare.decide(&Method::GET, "/filesa%2fb"),
            Access::Ambiguous(_)
        ));
    }

    #[test]
    fn patterns_and_public_paths_are_checked() {
        for pattern in [
            "",
            "x",
            "/x",
            "/x/{id}",
            "/x/{id}/y/",
            "/x{id}/",
            "/x//",
            "/x/{}/",
        ] {
            assert!(AccessPolicy::new().with_tail(pattern).is_err(), "{pattern}");
        }
        for path in ["health", "/a/../b", "/a//b"] {
            assert!(
                AccessPolicy::new().with_public(&[], path).is_err(),
                "{path}"
            );
        }
    }

    #[test]
    fn without_auth_everything_else_is_open() {
        let open = hub().disabled();
        assert_eq!(open.decide(&Method::POST, "/v1/x"), Access::Public);
        assert_eq!(open.decide(&Method::TRACE, "/v1/x"), Access::Forbidden);
    }

    proptest! {
        #[test]
        fn nothing_else_becomes_public(path in "/[a-zA-Z/.%;\\\\2eEfF5cC]{0,30}") {
            let access = hub().decide(&Method::GET, &path);
            prop_assert_eq!(access == Access::Public, ["/health", "/ready"].contains(&path.as_str()));
        }

        #[test]
        fn no_path_panics(path in any::<String>()) {
            let _ = hub().decide(&Method::GET, &path);
        }
    }
}
