//! Counters of the whole process in the Prometheus text format, on a listener of their own.

use std::convert::Infallible;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proactions_edge::{JsonRejection, Rejection, RejectionKind};

use crate::listen::Stack;

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

/// Answers `GET /metrics` and nothing else.
pub(crate) fn stack(recorder: PrometheusHandle) -> impl Stack<ResponseBody = Full<Bytes>> {
    tower::service_fn(move |request: Request<Incoming>| {
        let answer = answer(&recorder, request.method(), request.uri().path());
        std::future::ready(Ok::<_, Infallible>(answer))
    })
}

fn answer(recorder: &PrometheusHandle, method: &Method, path: &str) -> Response<Full<Bytes>> {
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
