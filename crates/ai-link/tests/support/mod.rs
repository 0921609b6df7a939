//! What the tests of the service share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::BodyExt;
use proactions_ai_link::{AiLink, TargetConfig, Targets};
use proactions_edge::SecretString;
use proactions_forward::{Body, HttpClient, HttpClientConfig};
use serde_json::Value;
use tower::ServiceExt;
use tracing::field::{Field, Visit};
use tracing::span;

pub(crate) fn service(targets: Vec<TargetConfig>) -> AiLink {
    let client = HttpClient::without_tls(&HttpClientConfig::default());
    AiLink::new(Targets::try_from(targets).unwrap(), client)
}

/// A target `main` at `endpoint`, with the key `sk-provider`.
pub(crate) fn openai(endpoint: &str) -> TargetConfig {
    let mut target = TargetConfig::new("main", "openai");
    target.api_key = Some(SecretString::from("sk-provider"));
    target.endpoint = Some(endpoint.into());
    target
}

pub(crate) fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

pub(crate) async fn send(service: &AiLink, request: Request<Body>) -> Response<Body> {
    service.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) async fn json(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// Keeps the events of one thread.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

impl Events {
    /// Begins to keep events, until the guard is dropped.
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let events = Self::default();
        let guard = tracing::subscriber::set_default(events.clone());
        (events, guard)
    }

    /// All so far.
    pub(crate) fn all(&self) -> Vec<BTreeMap<String, String>> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for so many.
    pub(crate) async fn until(&self, count: usize) {
        while self.0.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
    }

    /// The only event of `aiLink` so far.
    pub(crate) fn only(&self) -> BTreeMap<String, String> {
        let events = self.0.lock().unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        events[0].clone()
    }
}

struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "aiLink"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        let level = event.metadata().level().to_string();
        fields.0.insert("level".to_owned(), level);
        self.0.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
