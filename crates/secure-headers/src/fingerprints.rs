//! Fields that tell what an answer was made with.

use http::HeaderMap;

/// The fields that `hidePoweredBy` removes, in lower case and in order.
///
/// `x-powered-by` is helmet's; the rest is the list of fields to remove of the
/// [OWASP Secure Headers Project](https://owasp.org/www-project-secure-headers/) of July 2026.
pub const FINGERPRINTS: [&str; 87] = [
    "$wsep",
    "host-header",
    "k-proxy-request",
    "liferay-portal",
    "oraclecommercecloud-version",
    "pega-host",
    "powered-by",
    "product",
    "server",
    "sourcemap",
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "x-atmosphere-error",
    "x-atmosphere-first-request",
    "x-atmosphere-tracking-id",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-backside-transport",
    "x-beserver",
    "x-calculatedbetarget",
    "x-cf-powered-by",
    "x-cms",
    "x-cocoon-version",
    "x-content-encoded-by",
    "x-datadog-origin",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "x-datadog-trace-id",
    "x-diaginfo",
    "x-dtagentid",
    "x-dthealthcheck",
    "x-dtinjectedservlet",
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-original-dst-host",
    "x-envoy-upstream-service-time",
    "x-feserver",
    "x-framework",
    "x-generated-by",
    "x-generator",
    "x-gitlab-meta",
    "x-jitsi-release",
    "x-joomla-version",
    "x-kong-admin-latency",
    "x-kong-client-latency",
    "x-kong-proxy-latency",
    "x-kong-request-id",
    "x-kong-response-latency",
    "x-kong-third-party-latency",
    "x-kong-total-latency",
    "x-kong-upstream-latency",
    "x-kong-upstream-status",
    "x-kubernetes-pf-flowschema-ui",
    "x-kubernetes-pf-prioritylevel-uid",
    "x-litespeed-cache",
    "x-litespeed-cache-control",
    "x-litespeed-purge",
    "x-litespeed-tag",
    "x-litespeed-vary",
    "x-mod-pagespeed",
    "x-nextjs-cache",
    "x-nextjs-matched-path",
    "x-nextjs-page",
    "x-nextjs-redirect",
    "x-old-content-length",
    "x-oneagent-js-injection",
    "x-owa-version",
    "x-page-speed",
    "x-php-version",
    "x-powered-by",
    "x-powered-by-plesk",
    "x-powered-cms",
    "x-redirect-by",
    "x-ruxit-js-agent",
    "x-server-powered-by",
    "x-sourcefiles",
    "x-sourcemap",
    "x-turbo-charged-by",
    "x-tyk-trace-id",
    "x-umbraco-version",
    "x-varnish-backend",
    "x-varnish-server",
    "x-woodpecker-version",
];

/// Removes every field of [`FINGERPRINTS`].
pub(crate) fn strip(headers: &mut HeaderMap) {
    // An answer has few fields and the list is long, so the answer's fields are looked up in the list.
    while let Some(found) = headers.keys().find_map(|name| listed(name.as_str())) {
        headers.remove(found);
    }
}

fn listed(name: &str) -> Option<&'static str> {
    // Most fields of an answer are told apart by their first letter.
    let first = name.as_bytes().first()?;
    if !matches!(first, b'$' | b'h' | b'k' | b'l' | b'o' | b'p' | b's' | b'x') {
        return None;
    }
    let at = FINGERPRINTS.binary_search(&name).ok()?;
    FINGERPRINTS.get(at).copied()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_list_is_ordered_and_each_entry_is_found() {
        assert!(FINGERPRINTS.is_sorted_by(|a, b| a < b));
        for name in FINGERPRINTS {
            assert_eq!(listed(name), Some(name));
        }
        for name in [
            "x-request-id",
            "content-type",
            "set-cookie",
            "x",
            "servers",
            "link",
        ] {
            assert_eq!(listed(name), None);
        }
    }

    #[test]
    fn every_listed_field_goes_and_the_others_stay() {
        let mut headers = HeaderMap::new();
        for name in FINGERPRINTS {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name.clone(), HeaderValue::from_static("1"));
            headers.append(name, HeaderValue::from_static("2"));
        }
        headers.insert("x-request-id", HeaderValue::from_static("a"));
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        strip(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "x-request-id"]);
    }
}
