use proactions_edge::{SecretString, SystemClock};
use proactions_forward::{HttpClient, HttpClientConfig};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn target() -> TargetConfig {
    TargetConfig {
        vertex_project_id: Some("proj".to_owned()),
        vertex_region: Some("europe-west4".to_owned()),
        api_key: Some(SecretString::from("ya29.token")),
        ..TargetConfig::new("t", "vertex-ai")
    }
}

fn prepared(body: &str, stream: bool) -> Result<Prepared<'static>, PrepareError> {
    prepared_by(&target(), body, stream)
}

fn prepared_by(
    target: &TargetConfig,
    body: &str,
    stream: bool,
) -> Result<Prepared<'static>, PrepareError> {
    let call = Call {
        endpoint: Endpoint::ChatCompletions,
        stream,
        body: &Bytes::copy_from_slice(body.as_bytes()),
        client: &HttpClient::without_tls(&HttpClientConfig::default()),
        clock: &SystemClock::new(),
    };
    let vertex = Vertex::new(target).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(vertex.prepare(&call))
}

const LOCATION: &str =
    "https://europe-west4-aiplatform.googleapis.com/v1/projects/proj/locations/europe-west4";

#[test]
fn other_models_go_to_the_compatible_address() {
    for (body, sent) in [
        (
            r#"{"model" : "gemini-x", "big":12345678901234567890123}"#,
            Some(r#"{"model" : "google/gemini-x", "big":12345678901234567890123}"#),
        ),
        (
            r#"{"a":{"model":"b"},"model":"c"}"#,
            Some(r#"{"a":{"model":"b"},"model":"google/c"}"#),
        ),
        (r#"{"model":"meta/llama-x"}"#, None),
    ] {
        let prepared = prepared(body, false).unwrap();
        assert_eq!(
            prepared.outgoing.uri().to_string(),
            format!("{LOCATION}/endpoints/openapi/chat/completions")
        );
        assert_eq!(prepared.body.as_deref(), sent.map(str::as_bytes), "{body}");
        assert!(prepared.adapter.is_none());
        let (name, value) = &prepared.headers[0];
        assert_eq!(
            (name, value.as_bytes()),
            (&AUTHORIZATION, &b"Bearer ya29.token"[..])
        );
        assert!(value.is_sensitive());
    }
}

#[test]
fn anthropics_models_are_asked_in_their_own_words() {
    for model in [
        "claude-x@20250101",
        "anthropic/claude-x@20250101",
        "anthropic.claude-x@20250101",
    ] {
        for (stream, verb) in [(false, "rawPredict"), (true, "streamRawPredict")] {
            let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
            let prepared = prepared(&body.to_string(), stream).unwrap();
            assert_eq!(
                prepared.outgoing.uri().to_string(),
                format!("{LOCATION}/publishers/anthropic/models/claude-x@20250101:{verb}")
            );
            let sent: Value = serde_json::from_slice(&prepared.body.unwrap()).unwrap();
            assert_eq!(sent["anthropic_version"], "vertex-2023-10-16");
            assert_eq!(sent.get("model"), None);
            assert_eq!(sent.get("stream").is_some(), stream);
            assert_eq!(sent["messages"][0]["content"][0]["text"], "hi");
            assert!(prepared.adapter.is_some());
        }
    }
}

#[test]
fn version_and_beta_are_sent_as_this_address_wants_them() {
    let target = TargetConfig {
        anthropic_version: Some("2026-10-21".to_owned()),
        anthropic_beta: Some("context-1m".to_owned()),
        ..target()
    };
    let body = |model| {
        let hi = json!([{"role": "user", "content": "hi"}]);
        json!({"model": model, "messages": hi, "temperature": 0.5}).to_string()
    };
    let beta = |prepared: &Prepared<'_>| {
        let headers = &prepared.headers;
        let found = headers.iter().find(|(name, _)| name == "anthropic-beta");
        found.map(|(_, value)| value.clone())
    };
    let claude = prepared_by(&target, &body("claude-x"), false).unwrap();
    assert_eq!(beta(&claude).unwrap(), "context-1m");
    let sent: Value = serde_json::from_slice(&claude.body.unwrap()).unwrap();
    assert_eq!(sent["anthropic_version"], "2026-10-21");
    assert_eq!(sent.get("temperature"), None);
    let other = prepared_by(&target, &body("gemini-x"), false).unwrap();
    assert_eq!(beta(&other), None);
}

#[test]
fn odd_models_are_refused() {
    for model in [
        "claude/../x",
        "claude?x",
        "claude#",
        "claude x",
        "anthropic/..",
        "claude%2e",
        "anthropic/",
    ] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(
            prepared(&body.to_string(), false).unwrap_err(),
            PrepareError::Refused("`model` is not the name of a model".to_owned()),
            "{model}"
        );
    }
    for body in ["{}", r#"{"model":""}"#, r#"{"model":1}"#] {
        let told = PrepareError::Refused("The request needs `model`".to_owned());
        assert_eq!(prepared(body, false).unwrap_err(), told);
    }
}

#[test]
fn projects_regions_and_credentials_are_checked() {
    type Set = fn(&mut TargetConfig);
    let cases: [(Set, &str); 6] = [
        (
            |t| t.vertex_project_id = None,
            "vertexProjectId: is required",
        ),
        (
            |t| t.vertex_project_id = Some("a/b".into()),
            "vertexProjectId: expected",
        ),
        (
            |t| t.vertex_region = Some("evil.com/".into()),
            "vertexRegion: expected",
        ),
        (
            |t| t.vertex_region = Some("a.b".into()),
            "vertexRegion: expected",
        ),
        (
            |t| t.api_key = None,
            "vertexServiceAccountJson: is required",
        ),
        (
            |t| t.vertex_service_account_json = Some(SecretString::from("{\"private_key\":\"x\"}")),
            "vertexServiceAccountJson: expected a service account's key file",
        ),
    ];
    for (set, told) in cases {
        let mut target = target();
        set(&mut target);
        let error = Vertex::new(&target).unwrap_err().to_string();
        assert!(error.starts_with(told), "{error}");
    }
    for (region, host) in [
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
    ] {
        let target = TargetConfig {
            vertex_region: Some(region.to_owned()),
            ..target()
        };
        let vertex = Vertex::new(&target).unwrap();
        assert_eq!(vertex.base.authority().as_str(), host);
    }
}

proptest! {
    #[test]
    fn no_model_moves_the_host(model in prop_oneof![any::<String>(), "claude[@./:%?#a-z]{0,12}"], stream: bool) {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        if let Ok(prepared) = prepared(&body.to_string(), stream) {
            let url = prepared.outgoing.uri().to_string();
            prop_assert!(url.starts_with(LOCATION), "{}", url);
            prop_assert_eq!(prepared.outgoing.uri().query(), None);
        }
    }
}
