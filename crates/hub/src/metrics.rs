//! Counters of the whole process in the Prometheus text format, on a listener of their own.
//!
//! Nobody is asked who they are. Web pages are kept out, for a browser reaches what its machine reaches.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ORIGIN};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proactions_config::Policies;
use proactions_edge::{JsonRejection, Rejection, RejectionKind};
use proactions_secure_headers::{SecureHeadersLayer, SecureHeadersPolicy};
use proactions_trust_proxy::{TrustProxy, TrustProxyLayer};
use tower::ServiceBuilder;

use crate::head_limit::{HeadLimitLayer, HeadLimits};
use crate::internal;
use crate::listen::Stack;
use crate::panic_guard::PanicGuardLayer;

/// The one recorder of the process. Hubs that run in one process, as in tests, share it.
pub(crate) fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // Somebody who embeds the hub may have installed a recorder of their own; then theirs counts.
            let _ = metrics::set_global_recorder(recorder);
            handle
        })
        .clone()
}

/// What the stack of this listener is built of, as it was at the start.
#[derive(Debug)]
pub(crate) struct Settings {
    secure_headers: SecureHeadersPolicy,
    head_limits: HeadLimits,
    /// The name that was bound, if only this machine reaches it. Elsewhere collectors come under names that nobody told
    /// the hub.
    name: Option<Arc<str>>,
}

impl Settings {
    /// `name` is the one that the listener was bound with, if only this machine reaches it.
    pub(crate) fn new(policies: &Policies, name: Option<&str>) -> Self {
        Self {
            secure_headers: policies.secure_headers.clone(),
            head_limits: HeadLimits::from(&policies.listener),
            name: name.map(Arc::from),
        }
    }
}

/// Answers `GET /metrics` and nothing else.
pub(crate) fn stack(
    recorder: PrometheusHandle,
    settings: Settings,
) -> impl Stack<ResponseBody = Full<Bytes>> {
    let name = settings.name;
    // The reasons for the order are those of the public listener.
    ServiceBuilder::new()
        .layer(TrustProxyLayer::new(TrustProxy::default()))
        .layer(SecureHeadersLayer::new(settings.secure_headers))
        .layer(PanicGuardLayer)
        .layer(HeadLimitLayer(settings.head_limits))
        .service_fn(move |request| {
            let answer = answer(&recorder, &request, name.as_deref());
            std::future::ready(Ok::<_, Infallible>(answer))
        })
}

fn answer<B>(
    recorder: &PrometheusHandle,
    request: &Request<B>,
    name: Option<&str>,
) -> Response<Full<Bytes>> {
    if is_from_a_page(request, name) {
        return internal::refuse_page(request.extensions(), "metrics");
    }
    let (method, path) = (request.method(), request.uri().path());
    if path != "/metrics" {
        return Rejection::new(RejectionKind::NotFound).into_response(&JsonRejection, None);
    }
    if method != Method::GET && method != Method::HEAD {
        return Rejection::new(RejectionKind::MethodNotAllowed)
            .with_header(http::header::ALLOW, HeaderValue::from_static("GET, HEAD"))
            .into_response(&JsonRejection, None);
    }
    recorder.run_upkeep();
    let mut response = Response::new(Full::from(recorder.render()));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

/// Whether a browser sent this for a page. Who enters the address themselves may look.
fn is_from_a_page<B>(request: &Request<B>, name: Option<&str>) -> bool {
    let headers = request.headers();
    let site = headers.get("sec-fetch-site");
    headers.contains_key(ORIGIN)
        || site.is_some_and(|site| site != "none")
        || name.is_some_and(|name| internal::asks_for_another(request, &[name]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_may_ask_and_pages_may_not() {
        for (name, value, local, elsewhere) in [
            ("host", "127.0.0.1:9464", true, true),
            ("host", "[::1]:9464", true, true),
            ("host", "localhost:9464", true, true),
            ("host", "metrics.localdomain:9464", true, true),
            // A page reaches a loopback address under a name of its own (DNS rebinding).
            ("host", "page.test:9464", false, true),
            ("origin", "http://page.test", false, false),
            ("origin", "null", false, false),
            ("sec-fetch-site", "cross-site", false, false),
            ("sec-fetch-site", "same-origin", false, false),
            ("sec-fetch-site", "none", true, true),
            ("accept", "text/plain", true, true),
        ] {
            let request = Request::get("/metrics")
                .header(name, value)
                .body(())
                .unwrap();
            let bound = Some("metrics.localdomain");
            assert_eq!(!is_from_a_page(&request, bound), local, "{name}: {value}");
            assert_eq!(
                !is_from_a_page(&request, None),
                elsewhere,
                "{name}: {value}"
            );
        }
    }
}
