use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{Preset, SecureHeadersConfig, SecureHeadersLayer};

fn api() -> SecureHeadersPolicy {
    let config = SecureHeadersConfig {
        preset: Some(Preset::Api),
        ..SecureHeadersConfig::default()
    };
    SecureHeadersPolicy::try_from(config).unwrap()
}

async fn send(
    policy: SecureHeadersPolicy,
    method: Method,
    status: StatusCode,
    inner: HeaderMap,
) -> Response<Full<Bytes>> {
    let service = SecureHeadersLayer::new(policy).layer(service_fn(move |_: Request<()>| {
        let inner = inner.clone();
        async move {
            let mut response = Response::new(Full::from("body"));
            *response.status_mut() = status;
            *response.headers_mut() = inner;
            Ok::<_, Infallible>(response)
        }
    }));
    let request = Request::builder().method(method).body(()).unwrap();
    service.oneshot(request).await.unwrap()
}

fn assert_full_set(policy: &SecureHeadersPolicy, headers: &HeaderMap) {
    for (name, value) in policy.headers() {
        assert_eq!(
            headers.get_all(name).iter().collect::<Vec<_>>(),
            [value],
            "{name}"
        );
    }
}

#[tokio::test]
async fn every_status_and_method_gets_the_full_set_once() {
    let policy = api();
    let mut inner = HeaderMap::new();
    for (name, _) in policy.headers() {
        inner.append(name, HeaderValue::from_static("a"));
        inner.append(name, HeaderValue::from_static("b"));
    }
    for status in (100..600).filter_map(|code| StatusCode::from_u16(code).ok()) {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST] {
            for headers in [HeaderMap::new(), inner.clone()] {
                let response = send(policy.clone(), method.clone(), status, headers).await;
                assert_eq!(response.status(), status);
                assert_full_set(&policy, response.headers());
            }
        }
    }
}

#[tokio::test]
async fn bodies_pass_untouched_and_streams_are_not_waited_for() {
    let response = send(api(), Method::GET, StatusCode::OK, HeaderMap::new()).await;
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "body"
    );

    // The sender lives on, so that the body never ends.
    let (_sender, body) = Channel::<Bytes>::new(1);
    let mut body = Some(body);
    let service = SecureHeadersLayer::new(api()).layer(service_fn(move |_: Request<()>| {
        let body = body.take().unwrap();
        async move { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_full_set(&api(), response.headers());
}

#[tokio::test]
async fn errors_pass_untouched() {
    let service = SecureHeadersLayer::default().layer(service_fn(|_: Request<()>| async {
        Err::<Response<()>, _>("broken")
    }));
    assert_eq!(
        service.oneshot(Request::new(())).await.unwrap_err(),
        "broken"
    );
}

#[tokio::test]
async fn off_leaves_the_answer_alone() {
    let mut inner = HeaderMap::new();
    inner.insert("server", HeaderValue::from_static("x"));
    let response = send(
        SecureHeadersPolicy::off(),
        Method::GET,
        StatusCode::OK,
        inner.clone(),
    )
    .await;
    assert_eq!(response.headers(), &inner);
}
