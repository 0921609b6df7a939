//! Which header fields travel, in one place.
//!
//! A field that a client may not decide about is dropped whatever its value; what the program itself has to
//! say is set afterwards. So a client can neither add to nor replace it.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};
use proactions_edge::headers::strip_hop_by_hop;

/// Removes from a client's header what must not reach an upstream:
///
/// 1. hop-by-hop fields, those that `Connection` names too;
/// 2. `Host`, `Content-Length` and `Expect`: the outgoing message gets its own;
/// 3. credentials meant for this program: `Authorization`, `Cookie`, `x-target`, `x-admin-key`;
/// 4. claims about the client's address, host, path or method, in all of their spellings;
/// 5. claims about who the user is;
/// 6. names with `_`, which some servers read as `-`.
pub fn strip_request(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    retain(headers, |name| !is_dropped_from_request(name));
}

/// Removes from an upstream's header what must not reach a client: hop-by-hop fields, cookies (they would be
/// set for this program's own host), what tells about the upstream's software, what would bind the client
/// to the upstream's policies, and orders to a reverse proxy in front of this program, such as to send a file of its
/// own (`X-Accel-Redirect`, `X-Sendfile`). `X-Accel-Buffering`, which harms nobody, stays. So does `Content-Length`,
/// unless the message was chunked: then it does not say how long it is (RFC 9112 section 6.3).
pub fn strip_response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    retain(headers, |name| !is_dropped_from_response(name));
}

/// Fields that belong to the framing of a message.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION | CONTENT_LENGTH | EXPECT | HOST | TE | TRAILER | TRANSFER_ENCODING | UPGRADE
    ) || matches!(
        name.as_str(),
        "keep-alive" | "proxy-connection" | "proxy-authorization" | "proxy-authenticate"
    )
}

/// Removes every field whose name is not to be kept, without a list on the heap: this is done four times a request.
pub fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    loop {
        let mut dropped = [const { None::<HeaderName> }; 8];
        let mut names = headers.keys().filter(|name| !keep(name));
        for (slot, name) in dropped.iter_mut().zip(&mut names) {
            *slot = Some(name.clone());
        }
        let more = names.next().is_some();
        for name in dropped.into_iter().flatten() {
            headers.remove(name);
        }
        if !more {
            return;
        }
    }
}

fn is_dropped_from_request(name: &HeaderName) -> bool {
    const PREFIXES: [&str; 12] = [
        "proxy-",
        "ssl-client-",
        "x-auth-request-",
        "x-client-cert",
        "x-envoy-",
        "x-forwarded",
        "x-hub-",
        "x-original-",
        "x-proactions-",
        "x-remote-",
        "x-ssl-client-",
        "x-webauth-",
    ];
    if matches!(*name, AUTHORIZATION | COOKIE | SET_COOKIE) || is_framing(name) {
        return true;
    }
    let name = name.as_str();
    name.contains('_')
        || matches!(
            name,
            "cdn-loop"
                | "cf-connecting-ip"
                | "cf-connecting-ipv6"
                | "cf-pseudo-ipv4"
                | "cf-visitor"
                | "client-ip"
                | "cookie2"
                | "fastly-client-ip"
                | "fly-client-ip"
                | "forwarded"
                | "front-end-https"
                | "remote-addr"
                | "remote-user"
                | "true-client-ip"
                | "via"
                | "wl-proxy-client-ip"
                | "x-admin-key"
                | "x-appengine-user-ip"
                | "x-authenticated-user"
                | "x-azure-clientip"
                | "x-azure-socketip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-host"
                | "x-http-host-override"
                | "x-http-method"
                | "x-http-method-override"
                | "x-method-override"
                | "x-originating-ip"
                | "x-proxyuser-ip"
                | "x-real-ip"
                | "x-rewrite-url"
                | "x-target"
                | "x-user"
                | "x-user-id"
        )
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_dropped_from_response(name: &HeaderName) -> bool {
    const PREFIXES: [&str; 16] = [
        "oraclecommercecloud-",
        "x-accel-",
        "x-atmosphere-",
        "x-b3-",
        "x-dt",
        "x-envoy-",
        "x-kubernetes-",
        "x-lighttpd-",
        "x-litespeed-",
        "x-nextjs-",
        "x-powered-",
        "x-reproxy-",
        "x-ruxit-",
        "x-sendfile",
        "x-umbraco-",
        "x-varnish",
    ];
    if *name == SET_COOKIE {
        return true;
    }
    let name = name.as_str();
    if name == "x-accel-buffering" {
        return false;
    }
    matches!(
        name,
        "$wsep"
            | "alt-svc"
            | "cdn-cache-control"
            | "clear-site-data"
            | "edge-control"
            | "expect-ct"
            | "host-header"
            | "k-proxy-request"
            | "liferay-portal"
            | "nel"
            | "origin-agent-cluster"
            | "pega-host"
            | "powered-by"
            | "product"
            | "public-key-pins"
            | "public-key-pins-report-only"
            | "report-to"
            | "reporting-endpoints"
            | "server"
            | "set-cookie2"
            | "sourcemap"
            | "strict-transport-security"
            | "surrogate-control"
            | "via"
            | "x-amz-cf-id"
            | "x-amz-cf-pop"
            | "x-aspnet-version"
            | "x-aspnetmvc-version"
            | "x-backside-transport"
            | "x-beserver"
            | "x-calculatedbetarget"
            | "x-cf-powered-by"
            | "x-cms"
            | "x-cocoon-version"
            | "x-content-encoded-by"
            | "x-diaginfo"
            | "x-feserver"
            | "x-framework"
            | "x-generated-by"
            | "x-generator"
            | "x-jitsi-release"
            | "x-joomla-version"
            | "x-mod-pagespeed"
            | "x-old-content-length"
            | "x-oneagent-js-injection"
            | "x-owa-version"
            | "x-page-speed"
            | "x-php-version"
            | "x-redirect-by"
            | "x-server-powered-by"
            | "x-sourcefiles"
            | "x-sourcemap"
            | "x-turbo-charged-by"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_number_of_fields_can_be_dropped() {
        for count in 0..40 {
            let mut headers = HeaderMap::new();
            for index in 0..count {
                for prefix in ["drop", "keep"] {
                    let name = HeaderName::from_bytes(format!("{prefix}-{index}").as_bytes());
                    let name = name.unwrap();
                    headers.append(name.clone(), HeaderValue::from_static("a"));
                    headers.append(name, HeaderValue::from_static("b"));
                }
            }
            retain(&mut headers, |name| name.as_str().starts_with("keep"));
            assert_eq!(headers.len(), 2 * count);
            assert!(headers.keys().all(|name| name.as_str().starts_with("keep")));
        }
    }

    fn left(strip: fn(&mut HeaderMap), names: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for name in names {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name.clone(), HeaderValue::from_static("first"));
            headers.append(name, HeaderValue::from_static("second"));
        }
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(ToString::to_string).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn what_a_client_may_not_say_stays_here() {
        let forbidden = [
            "Authorization",
            "Cookie",
            "X-Target",
            "x-admin-key",
            "Host",
            "Content-Length",
            "Expect",
            "Proxy-Authorization",
            "Proxy-Foo",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded",
            "x-forwarded-user",
            "X_Forwarded_User",
            "x_real_ip",
            "X-Real-IP",
            "True-Client-IP",
            "CF-Connecting-IP",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "X-Hub-User",
            "Remote-User",
            "Via",
        ];
        assert_eq!(left(strip_request, &forbidden), [""; 0]);
        assert_eq!(
            left(
                strip_request,
                &["Accept", "content-type", "OpenAI-Beta", "traceparent"]
            ),
            ["accept", "content-type", "openai-beta", "traceparent"]
        );
    }

    #[test]
    fn what_tells_about_an_upstream_stays_here() {
        let dropped = [
            "Server",
            "X-Powered-By",
            "X-AspNet-Version",
            "Set-Cookie",
            "Alt-Svc",
            "Via",
            "X-Envoy-Upstream-Service-Time",
            "Connection",
            "Transfer-Encoding",
        ];
        assert_eq!(left(strip_response, &dropped), [""; 0]);
        assert_eq!(
            left(
                strip_response,
                &[
                    "content-type",
                    "content-length",
                    "x-accel-buffering",
                    "x-ratelimit-remaining-requests",
                    "retry-after",
                    "etag"
                ]
            ),
            [
                "content-length",
                "content-type",
                "etag",
                "retry-after",
                "x-accel-buffering",
                "x-ratelimit-remaining-requests"
            ]
        );
    }

    #[test]
    fn nothing_orders_a_proxy_in_front_about() {
        let dropped = [
            "X-Accel-Redirect",
            "X-Accel-Expires",
            "X-Accel-Limit-Rate",
            "X-Accel-Charset",
            "X-Accel-Anything",
            "X-Sendfile",
            "X-Sendfile2",
            "X-Sendfile-Temporary",
            "X-LIGHTTPD-send-file",
            "X-LIGHTTPD-send-tempfile",
            "X-LiteSpeed-Location",
            "X-Reproxy-URL",
            "X-Reproxy-File",
            "Surrogate-Control",
            "CDN-Cache-Control",
            "Edge-Control",
        ];
        assert_eq!(left(strip_response, &dropped), [""; 0]);
    }

    #[test]
    fn the_length_of_a_chunked_answer_is_not_told() {
        let names = ["Content-Length", "Transfer-Encoding", "Content-Type"];
        assert_eq!(left(strip_response, &names), ["content-type"]);
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_forwarding_header_passes(tail in "[-_a-zA-Z]{0,12}", upper in any::<bool>()) {
            let name = format!("x-forwarded-{tail}x");
            let name = if upper { name.to_uppercase() } else { name };
            prop_assert!(left(strip_request, &[&name]).is_empty());
        }
    }
}
