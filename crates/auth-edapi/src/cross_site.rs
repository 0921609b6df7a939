use std::net::IpAddr;

use http::header::{HeaderName, ORIGIN, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, Method};
use proactions_edge::{ClientInfo, Scheme};

/// Whether another site may have made the browser send this request, so that what a browser adds by itself, a cookie
/// or a remembered user and password, must not vouch for it.
///
/// 1. `GET`, `HEAD` and `OPTIONS` change nothing, unless they open a WebSocket.
/// 2. A request whose `Origin` the CORS policy names may act.
/// 3. `Sec-Fetch-Site` must be `same-origin`, or `none` for what the user typed.
/// 4. Without it (an old browser), `Origin` must be the host that was asked for.
/// 5. With neither, no browser of today sent it.
pub(crate) fn is_cross_site(
    method: &Method,
    headers: &HeaderMap,
    client: Option<&ClientInfo>,
    origin_is_allowed: bool,
) -> bool {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if (safe && !headers.contains_key(UPGRADE)) || origin_is_allowed {
        return false;
    }
    let mut sites = headers.get_all(&SEC_FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return !sites.all(|site| site == "same-origin" || site == "none");
    }
    headers.get_all(ORIGIN).iter().any(|origin| {
        let own = client.zip(origin.to_str().ok());
        !own.is_some_and(|(client, origin)| is_own(origin, client))
    })
}

/// Whether a web page may have made the browser send this request, where nobody is asked for credentials and reaching
/// the service is all it takes.
///
/// As [`is_cross_site`], and an `Origin` that is the host itself vouches only if that host cannot be made to point
/// elsewhere: a page at `http://evil.example` can have its own name lead here (DNS rebinding), and is then of the
/// «same» origin.
pub(crate) fn is_from_a_page(
    method: &Method,
    headers: &HeaderMap,
    client: Option<&ClientInfo>,
    origin_is_allowed: bool,
) -> bool {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if (safe && !headers.contains_key(UPGRADE)) || origin_is_allowed {
        return false;
    }
    let host = client.and_then(ClientInfo::host_str);
    is_cross_site(method, headers, client, origin_is_allowed)
        || (headers.contains_key(ORIGIN) && !host.is_some_and(is_fixed))
}

/// Whether the name of this host always leads to the same machine: an address, or a name of this one.
fn is_fixed(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || address.parse::<IpAddr>().is_ok()
}

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

fn is_own(origin: &str, client: &ClientInfo) -> bool {
    let Some(host) = client.host_str() else {
        return false;
    };
    let (scheme, port) = match client.scheme {
        Scheme::Https => ("https://", ":443"),
        _ => ("http://", ":80"),
    };
    let without_port = |host| str::strip_suffix(host, port).unwrap_or(host);
    origin
        .strip_prefix(scheme)
        .is_some_and(|authority| without_port(authority).eq_ignore_ascii_case(without_port(host)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proactions_edge::Peer;

    use super::*;

    fn client(scheme: Scheme, host: &'static str) -> ClientInfo {
        let peer = Peer::new("192.0.2.1:1".parse().unwrap(), scheme);
        ClientInfo::direct(peer, Some(HeaderValue::from_static(host)))
    }

    fn decide(method: &Method, headers: &[(&'static str, &'static str)], allowed: bool) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let hub = client(Scheme::Https, "hub.example.com");
        is_cross_site(method, &map, Some(&hub), allowed)
    }

    #[test]
    fn who_may_act_with_a_cookie() {
        let site = "sec-fetch-site";
        for (headers, cross) in [
            (&[][..], false),
            (&[(site, "same-origin")], false),
            (&[(site, "none")], false),
            (&[(site, "same-site")], true),
            (&[(site, "cross-site")], true),
            (&[(site, "Same-Origin")], true),
            (&[(site, "")], true),
            (&[(site, "same-origin"), (site, "cross-site")], true),
            (
                &[(site, "cross-site"), ("origin", "https://hub.example.com")],
                true,
            ),
            (&[("origin", "https://hub.example.com")], false),
            (&[("origin", "https://HUB.example.com:443")], false),
            (&[("origin", "https://hub.example.com:8443")], true),
            (&[("origin", "http://hub.example.com")], true),
            (&[("origin", "https://hub.example.com.evil")], true),
            (&[("origin", "https://evil.com")], true),
            (&[("origin", "null")], true),
            (&[("origin", "")], true),
            (
                &[
                    ("origin", "https://hub.example.com"),
                    ("origin", "https://evil.com"),
                ],
                true,
            ),
        ] {
            assert_eq!(decide(&Method::POST, headers, false), cross, "{headers:?}");
            assert!(
                !decide(&Method::POST, headers, true),
                "an allowed origin may"
            );
            assert!(!decide(&Method::GET, headers, false), "reading is free");
        }
    }

    #[test]
    fn a_page_needs_to_be_allowed_where_nobody_is_asked_for_credentials() {
        for (host, headers, page) in [
            ("localhost:3000", &[][..], false),
            ("evil.example", &[], false),
            (
                "localhost:3000",
                &[("origin", "http://localhost:3000")],
                false,
            ),
            (
                "127.0.0.1:3000",
                &[("origin", "http://127.0.0.1:3000")],
                false,
            ),
            ("[::1]:3000", &[("origin", "http://[::1]:3000")], false),
            (
                "app.localhost",
                &[("origin", "http://app.localhost")],
                false,
            ),
            (
                "localhost:3000",
                &[("origin", "http://localhost:5173")],
                true,
            ),
            ("evil.example", &[("origin", "http://evil.example")], true),
            (
                "evil.localhost.example",
                &[("origin", "http://evil.localhost.example")],
                true,
            ),
            (
                "evil.example",
                &[
                    ("origin", "http://evil.example"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            ("localhost", &[("sec-fetch-site", "cross-site")], true),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let here = client(Scheme::Http, host);
            let decide = |method, allowed| is_from_a_page(method, &map, Some(&here), allowed);
            assert_eq!(decide(&Method::POST, false), page, "{host} {headers:?}");
            assert!(!decide(&Method::POST, true), "an allowed origin may");
            assert!(!decide(&Method::GET, false), "reading is free");
        }
    }

    #[test]
    fn opening_a_web_socket_is_no_mere_reading() {
        let headers = [("upgrade", "websocket"), ("origin", "https://evil.com")];
        assert!(decide(&Method::GET, &headers, false));
        let headers = [
            ("upgrade", "websocket"),
            ("origin", "https://hub.example.com"),
        ];
        assert!(!decide(&Method::GET, &headers, false));
    }

    #[test]
    fn the_host_counts_with_its_port() {
        for (scheme, host, origin, own) in [
            (
                Scheme::Http,
                "localhost:3000",
                "http://localhost:3000",
                true,
            ),
            (
                Scheme::Http,
                "localhost:3000",
                "http://localhost:3001",
                false,
            ),
            (Scheme::Http, "localhost", "http://localhost:80", true),
            (Scheme::Https, "h:443", "https://h", true),
            (Scheme::Https, "h", "http://h", false),
        ] {
            assert_eq!(
                is_own(origin, &client(scheme, host)),
                own,
                "{host} {origin}"
            );
        }
        let peer = Peer::new("192.0.2.1:1".parse().unwrap(), Scheme::Http);
        assert!(!is_own("http://", &ClientInfo::direct(peer, None)));
    }
}
