use std::time::{Duration, SystemTime};

use proactions_edge::{ManualClock, SecretString};
use proactions_forward::{HttpClient, HttpClientConfig};
use proptest::prelude::*;

use super::*;
use crate::event_stream::tests::message;
use crate::translate::test_support::translated;

fn target() -> TargetConfig {
    TargetConfig {
        aws_region: Some("eu-west-1".to_owned()),
        aws_access_key_id: Some(SecretString::from("AKIDEXAMPLE")),
        aws_secret_access_key: Some(SecretString::from("secret")),
        ..TargetConfig::new("t", "bedrock")
    }
}

fn prepared(
    target: &TargetConfig,
    body: &Value,
    stream: bool,
) -> Result<Prepared<'static>, PrepareError> {
    let call = Call {
        endpoint: Endpoint::ChatCompletions,
        stream,
        body: &Bytes::from(body.to_string()),
        client: &HttpClient::without_tls(&HttpClientConfig::default()),
        clock: &ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)),
    };
    Bedrock::new(target).unwrap().prepare(&call)
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

fn written(chat: &Value) -> Result<Value, String> {
    request(&Chat::parse(chat.to_string().as_bytes()).unwrap()).map(Value::Object)
}

#[test]
fn a_model_is_one_segment_of_the_path() {
    const HOST: &str = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/";
    for (model, segment) in [
        ("anthropic.claude-x-v1:0", "anthropic.claude-x-v1%3A0"),
        (
            "arn:aws:bedrock:eu-west-1:123:inference-profile/eu.x",
            "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123%3Ainference-profile%2Feu.x",
        ),
        ("a@evil.example", "a%40evil.example"),
        ("a?b#c", "a%3Fb%23c"),
    ] {
        for (stream, operation) in [(false, "converse"), (true, "converse-stream")] {
            let outgoing = prepared(&target(), &chat(model), stream).unwrap().outgoing;
            let expected = format!("{HOST}{segment}/{operation}");
            assert_eq!(outgoing.uri().to_string(), expected, "{model}");
        }
    }
    for model in [
        "..",
        ".",
        "a/../../b",
        "%2e%2e",
        "a\\b",
        "a\nb",
        &"x".repeat(2049),
    ] {
        assert_eq!(
            prepared(&target(), &chat(model), false).unwrap_err(),
            PrepareError::Refused("`model` is not the name of a model".to_owned()),
            "{model}"
        );
    }
}

#[test]
fn every_part_of_aws_has_its_domain() {
    for (region, host) in [
        ("us-east-1", "bedrock-runtime.us-east-1.amazonaws.com"),
        (
            "us-gov-west-1",
            "bedrock-runtime.us-gov-west-1.amazonaws.com",
        ),
        ("cn-north-1", "bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        (
            "eusc-de-east-1",
            "bedrock-runtime.eusc-de-east-1.amazonaws.eu",
        ),
        (
            "eu-isoe-west-1",
            "bedrock-runtime.eu-isoe-west-1.cloud.adc-e.uk",
        ),
        ("us-iso-east-1", "bedrock-runtime.us-iso-east-1.c2s.ic.gov"),
        (
            "us-isob-east-1",
            "bedrock-runtime.us-isob-east-1.sc2s.sgov.gov",
        ),
        (
            "us-isof-south-1",
            "bedrock-runtime.us-isof-south-1.csp.hci.ic.gov",
        ),
    ] {
        let target = TargetConfig {
            aws_region: Some(region.to_owned()),
            ..target()
        };
        let outgoing = prepared(&target, &chat("m"), false).unwrap().outgoing;
        assert_eq!(outgoing.uri().host(), Some(host));
    }
}

#[test]
fn a_request_is_signed() {
    let mut target = target();
    target.aws_session_token = Some(SecretString::from("session"));
    let prepared = prepared(&target, &chat("m"), false).unwrap();
    let headers: Vec<_> = prepared
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap(), value.is_sensitive()))
        .collect();
    assert_eq!(headers[0], ("content-type", "application/json", false));
    assert_eq!(headers[1], ("x-amz-date", "20150830T123600Z", true));
    assert_eq!(headers[2], ("x-amz-security-token", "session", true));
    let (name, value, sensitive) = headers[3];
    assert_eq!((name, sensitive), ("authorization", true));
    assert!(
        value.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="),
        "{value}"
    );
}

#[test]
fn keys_and_regions_are_checked() {
    type Set = fn(&mut TargetConfig);
    let cases: [(Set, &str); 7] = [
        (|t| t.aws_region = None, "awsRegion: is required"),
        (
            |t| t.aws_region = Some("evil.com/".into()),
            "awsRegion: expected letters",
        ),
        (
            |t| t.aws_region = Some("a.b".into()),
            "awsRegion: expected letters",
        ),
        (
            |t| t.aws_secret_access_key = None,
            "awsAccessKeyId: and awsSecretAccessKey belong",
        ),
        (
            |t| {
                t.aws_access_key_id = None;
                t.aws_secret_access_key = None;
            },
            "awsAccessKeyId: is required",
        ),
        (
            |t| t.endpoint = Some("ftp://a".into()),
            "endpoint: must begin with",
        ),
        (
            |t| {
                t.aws_access_key_id = None;
                t.aws_secret_access_key = None;
                t.api_key = Some(SecretString::from("a\nb"));
            },
            "apiKey: holds a character",
        ),
    ];
    for (set, told) in cases {
        let mut target = target();
        set(&mut target);
        let error = Bedrock::new(&target).unwrap_err().to_string();
        assert!(error.starts_with(told), "{error}");
    }
    let china = TargetConfig {
        aws_region: Some("cn-north-1".to_owned()),
        ..target()
    };
    assert_eq!(
        Bedrock::new(&china).unwrap().host,
        "bedrock-runtime.cn-north-1.amazonaws.com.cn"
    );
}

#[test]
fn the_host_is_signed_as_it_is_sent() {
    for (endpoint, expected) in [
        ("https://a.example", "a.example"),
        ("https://a.example:443", "a.example"),
        ("https://a.example:80", "a.example:80"),
        ("http://127.0.0.1:8080/x", "127.0.0.1:8080"),
    ] {
        assert_eq!(host(&BaseUrl::parse(endpoint).unwrap()), expected);
    }
}

#[test]
fn a_whole_conversation() {
    let chat = json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/"}},
                {"type": "file", "file": {"filename": "../x.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            ]},
            {"role": "assistant", "content": "Hm.", "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "get", "arguments": "{\"q\":1}"}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        ],
        "tools": [{"type": "function", "function": {"name": "get", "description": "d", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "get"}},
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": "x",
    });
    assert_eq!(
        written(&chat).unwrap(),
        json!({
            "messages": [
                {"role": "user", "content": [
                    {"text": "Look:"},
                    {"image": {"format": "jpeg", "source": {"bytes": "/9j/"}}},
                    {"document": {"format": "pdf", "name": "document 1", "source": {"bytes": "JVBE"}}},
                ]},
                {"role": "assistant", "content": [
                    {"text": "Hm."},
                    {"toolUse": {"toolUseId": "t1", "name": "get", "input": {"q": 1}}},
                ]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "t1", "content": [{"text": "rain"}]}},
                ]},
            ],
            "system": [{"text": "Be brief."}],
            "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["x"]},
            "toolConfig": {
                "tools": [{"toolSpec": {"name": "get", "inputSchema": {"json": {"type": "object"}}, "description": "d"}}],
                "toolChoice": {"tool": {"name": "get"}},
            },
        })
    );
}

#[test]
fn every_choice_of_tools() {
    for (choice, expected) in [
        (json!("auto"), json!({"auto": {}})),
        (json!("required"), json!({"any": {}})),
        (Value::Null, Value::Null),
    ] {
        let mut chat = chat("m");
        chat["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
        chat["tool_choice"] = choice;
        assert_eq!(
            written(&chat).unwrap()["toolConfig"]["toolChoice"],
            expected
        );
        chat["tool_choice"] = json!("none");
        assert_eq!(written(&chat).unwrap().get("toolConfig"), None);
    }
}

#[test]
fn what_the_api_does_not_know_is_refused() {
    let mut with_url = chat("m");
    with_url["messages"][0]["content"] =
        json!([{"type": "image_url", "image_url": {"url": "https://169.254.169.254/x.png"}}]);
    assert!(written(&with_url).unwrap_err().contains("data: URL"));
    let mut with_schema = chat("m");
    with_schema["response_format"] = json!({"type": "json_schema", "json_schema": {"schema": {}}});
    assert!(
        written(&with_schema)
            .unwrap_err()
            .contains("response_format")
    );
}

fn dialect() -> Converse {
    Converse {
        model: "m".to_owned(),
        created: 5,
        with_usage: true,
    }
}

#[test]
fn a_whole_answer() {
    let answer = json!({
        "metrics": {"latencyMs": 1},
        "output": {"message": {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm"}}},
            {"text": "Hello"},
            {"toolUse": {"toolUseId": "t1", "name": "get", "input": {"q": 1}}},
        ]}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7, "cacheReadInputTokens": 2},
    });
    let mut head = HeaderMap::new();
    head.insert("x-amzn-requestid", HeaderValue::from_static("r-1"));
    let body = dialect()
        .whole(&head, answer.to_string().as_bytes())
        .unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["id"], "chatcmpl-r-1");
    assert_eq!(body["model"], "m");
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["content"], "Hello");
    assert_eq!(
        choice["message"]["tool_calls"][0]["function"],
        json!({"name": "get", "arguments": "{\"q\":1}"})
    );
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9,
               "prompt_tokens_details": {"cached_tokens": 2}})
    );
}

fn event(kind: &str, payload: &Value) -> Vec<u8> {
    message(
        &[
            (":event-type", kind),
            (":content-type", "application/json"),
            (":message-type", "event"),
        ],
        &payload.to_string(),
    )
}

fn stream() -> Vec<u8> {
    [
        event("messageStart", &json!({"role": "assistant", "p": "abc"})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "Hel"}})),
        event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "lo"}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        event(
            "contentBlockStart",
            &json!({"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t1", "name": "get"}}}),
        ),
        event("contentBlockDelta", &json!({"contentBlockIndex": 1, "delta": {"toolUse": {"input": "{\"q\":1}"}}})),
        event("contentBlockStop", &json!({"contentBlockIndex": 1})),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        event("metadata", &json!({"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}, "metrics": {}})),
    ]
    .concat()
}

#[test]
fn a_stream() {
    let (text, error) = translated(&dialect(), &[&stream()]);
    assert_eq!(error, None);
    let events = text.strip_suffix("data: [DONE]\n\n").unwrap();
    let chunks: Vec<Value> = events
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let deltas: Vec<_> = chunks
        .iter()
        .map(|c| c["choices"][0]["delta"].clone())
        .collect();
    assert_eq!(
        deltas,
        [
            json!({"role": "assistant", "content": ""}),
            json!({"content": "Hel"}),
            json!({"content": "lo"}),
            json!({"tool_calls": [{"index": 0, "id": "t1", "type": "function",
                                   "function": {"name": "get", "arguments": ""}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"q\":1}"}}]}),
            json!({}),
            Value::Null,
        ]
    );
    assert_eq!(chunks[5]["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(chunks[6]["usage"]["total_tokens"], 7);
}

#[test]
fn streams_that_go_wrong() {
    let start = event("messageStart", &json!({"role": "assistant"}));
    let exception = message(
        &[
            (":message-type", "exception"),
            (":exception-type", "throttlingException"),
        ],
        r#"{"message":"Too many"}"#,
    );
    let error = message(
        &[
            (":message-type", "error"),
            (":error-code", "500"),
            (":error-message", "Bad day"),
        ],
        "",
    );
    let mut bent = event("messageStop", &json!({}));
    *bent.last_mut().unwrap() ^= 1;
    let unreadable = [
        message(
            &[
                (":message-type", "event"),
                (":event-type", "contentBlockDelta"),
            ],
            "{",
        ),
        event("messageStop", &json!({"stopReason": "end_turn"})),
        event("metadata", &json!({"usage": {"inputTokens": 3}})),
    ]
    .concat();
    for (end, told) in [
        (unreadable, "an event that cannot be read"),
        (exception, "throttlingException: Too many"),
        (error, "500: Bad day"),
        (bent, "a message with a wrong checksum"),
        (Vec::new(), "a stream without its end"),
        (vec![0; 3], "a stream without its end"),
    ] {
        let (text, error) = translated(&dialect(), &[&[start.clone(), end].concat()]);
        assert!(
            text.contains(r#""role":"assistant""#) && !text.contains("[DONE]"),
            "{text}"
        );
        let error = error.unwrap();
        assert!(error.ends_with(told), "{error}");
    }
}

#[test]
fn errors_keep_their_name_and_text() {
    let mut head = HeaderMap::new();
    let kind = HeaderValue::from_static("ValidationException:http://internal.amazon.com/coral/");
    head.insert("x-amzn-errortype", kind);
    assert_eq!(
        dialect().error(&head, br#"{"message":"no such model"}"#),
        (
            Some("ValidationException".to_owned()),
            Some("no such model".to_owned())
        )
    );
}

proptest! {
    #[test]
    fn splits_do_not_matter(size in 1_usize..200) {
        let stream = stream();
        let pieces: Vec<&[u8]> = stream.chunks(size).collect();
        let by = |pieces: &[&[u8]]| {
            let (text, error) = translated(&dialect(), pieces);
            // Every stream has a name of its own.
            (text.replace(|c: char| c.is_ascii_hexdigit(), ""), error)
        };
        prop_assert_eq!(by(&pieces), by(&[&stream]));
    }

    #[test]
    fn no_model_moves_the_host(model in any::<String>()) {
        if let Ok(prepared) = prepared(&target(), &chat(&model), false) {
            let uri = prepared.outgoing.uri();
            prop_assert_eq!(uri.host(), Some("bedrock-runtime.eu-west-1.amazonaws.com"));
            prop_assert_eq!(uri.path().split('/').count(), 4);
            prop_assert_eq!(uri.query(), None);
        }
    }
}
