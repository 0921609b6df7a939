//! What a redirect means, decided without I/O.

use http::header::LOCATION;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use proactions_edge::path::check_tail;

use crate::BaseUrl;

/// The only fields of a client that another origin gets to see: they hold no credential.
const FOR_ANYBODY: [HeaderName; 10] = [
    http::header::ACCEPT,
    http::header::ACCEPT_ENCODING,
    http::header::ACCEPT_LANGUAGE,
    http::header::CACHE_CONTROL,
    http::header::IF_MODIFIED_SINCE,
    http::header::IF_NONE_MATCH,
    http::header::IF_RANGE,
    http::header::RANGE,
    http::header::USER_AGENT,
    HeaderName::from_static("x-request-id"),
];

/// Where the next request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) uri: Uri,
    pub(super) method: Method,
}

/// The request that follows an answer, if one does: `GET` and `HEAD` without a body follow every redirect, others
/// only `303 See Other`, as a `GET`. A body is never sent twice, and no redirect leads from `https` to `http`.
pub(super) fn next(
    method: &Method,
    has_body: bool,
    at: &Uri,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Next> {
    let repeatable = matches!(*method, Method::GET | Method::HEAD) && !has_body;
    let method = match status {
        StatusCode::SEE_OTHER if *method == Method::HEAD => Method::HEAD,
        StatusCode::SEE_OTHER => Method::GET,
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT
            if repeatable =>
        {
            method.clone()
        }
        _ => return None,
    };
    let uri = location(at, headers)?.0;
    let downgrade = at.scheme() == Some(&Scheme::HTTPS) && uri.scheme() != Some(&Scheme::HTTPS);
    (!downgrade).then_some(Next { uri, method })
}

/// Whether both have the same scheme, host and port.
pub(super) fn same_origin(base: &BaseUrl, uri: &Uri) -> bool {
    let https = uri.scheme() == Some(&Scheme::HTTPS);
    let own = base.authority();
    let default = if https { 443 } else { 80 };
    https == base.is_https()
        && uri
            .host()
            .is_some_and(|host| host.eq_ignore_ascii_case(own.host()))
        && uri.port_u16().unwrap_or(default) == own.port_u16().unwrap_or(default)
}

/// Leaves what another origin may see; nothing that the configuration has `set` is.
pub(super) fn keep_for_anybody(
    headers: &HeaderMap,
    set: &[(HeaderName, HeaderValue)],
) -> HeaderMap {
    FOR_ANYBODY
        .into_iter()
        .filter(|name| set.iter().all(|(own, _)| own != name))
        .filter_map(|name| {
            let value = headers.get(&name)?.clone();
            Some((name, value))
        })
        .collect()
}

/// `Location` as a client has to call it: below the proxy's own path where it leads below the proxy's URL, else
/// with the host that is meant, and without the base's own query, which may hold a key. What cannot be read stays as it
/// is.
pub(super) fn rewritten(
    base: &BaseUrl,
    prefix: &str,
    at: &Uri,
    headers: &HeaderMap,
) -> Option<HeaderValue> {
    let (uri, fragment) = location(at, headers)?;
    let same_origin = same_origin(base, &uri);
    let below = uri
        .path()
        .strip_prefix(base.path())
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .filter(|_| same_origin);
    let mut text = match below {
        Some(rest) => format!("{prefix}{rest}"),
        None => format!("{}://{}{}", uri.scheme()?, uri.authority()?, uri.path()),
    };
    if let Some(query) = uri
        .query()
        .and_then(|query| base.shown_of(query, same_origin))
    {
        text.push('?');
        text.push_str(&query);
    }
    if let Some(fragment) = fragment {
        text.push('#');
        text.push_str(fragment);
    }
    HeaderValue::try_from(text).ok()
}

/// The URL that `Location` means for an answer from `at`, and its fragment (RFC 3986 section 5.2).
fn location<'a>(at: &Uri, headers: &'a HeaderMap) -> Option<(Uri, Option<&'a str>)> {
    let mut all = headers.get_all(LOCATION).iter();
    let text = all.next()?.to_str().ok()?;
    if all.next().is_some() || text.is_empty() || text.contains(['\\', ' ']) {
        return None;
    }
    let (text, fragment) = match text.split_once('#') {
        Some((text, fragment)) => (text, Some(fragment)),
        None => (text, None),
    };
    let (scheme, rest) = match text.find(':') {
        Some(end) if is_scheme(text.get(..end)?) => {
            let scheme = match text.get(..end)?.to_ascii_lowercase().as_str() {
                "http" => Scheme::HTTP,
                "https" => Scheme::HTTPS,
                _ => return None,
            };
            // `https:path` is read in several ways.
            let rest = text.get(end + 1..).filter(|rest| rest.starts_with("//"))?;
            (scheme, rest)
        }
        _ => (at.scheme()?.clone(), text),
    };
    let (authority, rest) = match rest.strip_prefix("//") {
        None => (at.authority()?.clone(), rest),
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at_checked(end)?;
            let url = BaseUrl::parse(&format!("{scheme}://{authority}")).ok()?;
            (Authority::clone(url.authority()), rest)
        }
    };
    let is_absolute = rest.len() < text.len();
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let (path, query) = if path.is_empty() && is_absolute {
        ("/".to_owned(), query)
    } else if path.is_empty() {
        (at.path().to_owned(), query.or(at.query()))
    } else if path.starts_with('/') {
        (path.to_owned(), query)
    } else {
        let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        (format!("{folder}/{path}"), query)
    };
    let path = without_dots(&path);
    check_tail(&path).ok()?;
    let mut path_and_query = path;
    if let Some(query) = query {
        path_and_query.push('?');
        path_and_query.push_str(query);
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Some((Uri::from_parts(parts).ok()?, fragment))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// The path with its dot segments carried out (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(location: &str) -> HeaderMap {
        let value = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        HeaderMap::from_iter([(LOCATION, value)])
    }

    fn follow(location: &str) -> Option<String> {
        let at: Uri = "https://a.example/base/x?q=1".parse().unwrap();
        let next = next(&Method::GET, false, &at, StatusCode::FOUND, &to(location));
        next.map(|next| next.uri.to_string())
    }

    #[test]
    fn locations_are_resolved() {
        for (location, url) in [
            ("/y", Some("https://a.example/y")),
            ("y?r=2", Some("https://a.example/base/y?r=2")),
            ("./y", Some("https://a.example/base/y")),
            ("../y", Some("https://a.example/y")),
            ("../../../y", Some("https://a.example/y")),
            ("?r=2", Some("https://a.example/base/x?r=2")),
            ("#f", Some("https://a.example/base/x?q=1")),
            ("//b.example", Some("https://b.example/")),
            ("//b.example/y?z#f", Some("https://b.example/y?z")),
            ("HTTPS://b.example:8443/y", Some("https://b.example:8443/y")),
            ("https://b.example?z", Some("https://b.example/?z")),
            ("http://a.example/y", None),
            ("", None),
            ("ftp://a/", None),
            ("javascript:alert(1)", None),
            ("file:///etc/passwd", None),
            ("https:y", None),
            ("https:///y", None),
            ("https://u:p@b.example/", None),
            ("https://b.example@c.example/", None),
            ("https://b.example\\@c.example/", None),
            ("https://b.example:0/", None),
            ("/%2e%2e/y", None),
            ("/y z", None),
            ("/\u{e9}", None),
        ] {
            assert_eq!(follow(location).as_deref(), url, "{location}");
        }
        let mut twice = to("/a");
        twice.append(LOCATION, HeaderValue::from_static("/b"));
        let at = Uri::from_static("http://a/");
        assert_eq!(
            next(&Method::GET, false, &at, StatusCode::FOUND, &twice),
            None
        );
    }

    #[test]
    fn only_what_may_be_repeated_is() {
        let at = Uri::from_static("http://a.example/x");
        let (get, head, post) = (Method::GET, Method::HEAD, Method::POST);
        for (method, body, status, becomes) in [
            (&get, false, 301, Some(Method::GET)),
            (&get, false, 302, Some(Method::GET)),
            (&get, false, 307, Some(Method::GET)),
            (&get, false, 308, Some(Method::GET)),
            (&head, false, 301, Some(Method::HEAD)),
            (&head, false, 303, Some(Method::HEAD)),
            (&get, true, 302, None),
            (&get, true, 303, Some(Method::GET)),
            (&post, true, 303, Some(Method::GET)),
            (&post, false, 301, None),
            (&post, true, 302, None),
            (&post, true, 307, None),
            (&post, true, 308, None),
            (&get, false, 200, None),
            (&get, false, 201, None),
            (&get, false, 300, None),
            (&get, false, 304, None),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let next = next(method, body, &at, status, &to("/y"));
            assert_eq!(next.map(|next| next.method), becomes, "{method} {status}");
        }
    }

    #[test]
    fn locations_below_the_base_lead_through_the_proxy() {
        let base = BaseUrl::parse("https://a.example/base").unwrap();
        let at = Uri::from_static("https://a.example/base/x");
        for (location, rewritten_to) in [
            ("https://a.example/base/y?z=1#f", "/p/y?z=1#f"),
            ("https://A.example:443/base/y", "/p/y"),
            ("/base/y", "/p/y"),
            ("/base", "/p"),
            ("y", "/p/y"),
            ("/basement", "https://a.example/basement"),
            ("/elsewhere", "https://a.example/elsewhere"),
            ("https://b.example/base/y", "https://b.example/base/y"),
            ("http://a.example/base/y", "http://a.example/base/y"),
        ] {
            let value = rewritten(&base, "/p", &at, &to(location)).unwrap();
            assert_eq!(value, rewritten_to, "{location}");
        }
        assert_eq!(rewritten(&base, "/p", &at, &to("mailto:a@b")), None);
    }

    #[test]
    fn no_location_tells_what_the_bases_query_holds() {
        let base = BaseUrl::parse_with_query("https://a.example/base?key=hunter2&v=1").unwrap();
        let at = Uri::from_static("https://a.example/base/x?key=hunter2&v=1&q=2");
        for (location, rewritten_to) in [
            ("/base/x/?key=hunter2&v=1&q=2", "/p/x/?q=2"),
            ("/base/x/?key=hunter2&v=1", "/p/x/"),
            ("/base/x/?%6bey=hunter%32&q=key", "/p/x/?q=key"),
            ("#f", "/p/x?q=2#f"),
            ("?r=3", "/p/x?r=3"),
            ("/else?key=hunter2", "https://a.example/else"),
            // The same names mean something else there.
            (
                "https://b.example/y?key=theirs&v=2&q=2",
                "https://b.example/y?key=theirs&v=2&q=2",
            ),
            (
                "https://www.a.example/base/x?key=hunter2&v=1&q=2",
                "https://www.a.example/base/x?q=2",
            ),
            (
                "http://a.example/base/x?q=2&key=hunter2",
                "http://a.example/base/x?q=2",
            ),
        ] {
            let value = rewritten(&base, "/p", &at, &to(location)).unwrap();
            assert_eq!(value, rewritten_to, "{location}");
        }
    }

    #[test]
    fn origins_are_compared_whole() {
        let base = BaseUrl::parse("https://a.example").unwrap();
        for (url, same) in [
            ("https://a.example/x", true),
            ("https://A.EXAMPLE:443/x", true),
            ("https://a.example:444/x", false),
            ("http://a.example/x", false),
            ("https://b.a.example/x", false),
        ] {
            assert_eq!(same_origin(&base, &url.parse().unwrap()), same, "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_relative_location_stays_with_its_host(location in "[/.a-z?%2eE@:]{1,20}") {
            let at = Uri::from_static("https://a.example/base/x");
            if let Some((uri, _)) = super::location(&at, &to(&location))
                && !location.starts_with("//") {
                prop_assert_eq!(uri.host(), Some("a.example"));
                prop_assert!(!uri.path().split('/').any(|segment| segment == ".."));
            }
        }
    }
}
