use proactions_edge::SystemClock;
use proactions_forward::{HttpClient, HttpClientConfig};
use proptest::prelude::*;

use super::*;
use crate::translate::test_support::translated;

fn written(chat: &Value) -> Result<Value, String> {
    Chat::parse(chat.to_string().as_bytes()).map(|chat| Value::Object(request(&chat, VERSION)))
}

#[test]
fn a_version_gets_what_it_takes() {
    let chat = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 1, "top_p": 0.9, "top_k": 5,
    });
    let chat = Chat::parse(chat.to_string().as_bytes()).unwrap();
    for (version, takes) in [
        ("2023-01-01", true),
        (VERSION, true),
        ("vertex-2023-10-16", true),
        ("2026-10-20", true),
        ("2026-10-21", false),
        ("vertex-2026-10-21", false),
        ("2027-01-01", false),
    ] {
        let request = request(&chat, version);
        for name in ["temperature", "top_p", "top_k"] {
            assert_eq!(request.contains_key(name), takes, "{name} in {version}");
        }
    }
}

fn dialect(with_usage: bool) -> Messages {
    Messages {
        model: "asked".to_owned(),
        created: 1_700_000_000,
        with_usage,
    }
}

#[test]
fn a_whole_conversation() {
    let chat = json!({
        "model": "claude-x",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "Weather?"},
            {"role": "user", "content": [
                {"type": "text", "text": "In these places:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.jpg"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "get", "arguments": "{\"q\":1}"}},
                {"id": "t2", "type": "function", "function": {"name": "now", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "t1", "content": "rain"},
            {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "noon"}]},
            {"role": "user", "content": "And?"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "get", "description": "d", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "now"}},
        ],
        "tool_choice": "required",
        "parallel_tool_calls": false,
        "max_completion_tokens": 77,
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["a", "b"],
        "user": "u-1",
        "seed": 1,
        "logit_bias": {},
        "store": null,
        "unknown": {"x": []},
    });
    assert_eq!(
        written(&chat).unwrap(),
        json!({
            "max_tokens": 77,
            "system": [
                {"type": "text", "text": "Be brief."},
                {"type": "text", "text": "Be kind."},
            ],
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "Weather?"},
                    {"type": "text", "text": "In these places:"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
                    {"type": "image", "source": {"type": "url", "url": "https://a.example/b.jpg"}},
                    {"type": "document", "title": "a.pdf",
                     "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}},
                ]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "t1", "name": "get", "input": {"q": 1}},
                    {"type": "tool_use", "id": "t2", "name": "now", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "rain"}]},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "noon"}]},
                    {"type": "text", "text": "And?"},
                ]},
            ],
            "tools": [
                {"name": "get", "input_schema": {"type": "object"}, "description": "d"},
                {"name": "now", "input_schema": {"type": "object", "properties": {}}},
            ],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "temperature": 0.5,
            "top_p": 0.9,
            "stop_sequences": ["a", "b"],
            "metadata": {"user_id": "u-1"},
        })
    );
}

#[test]
fn what_is_not_said_is_not_sent() {
    let chat = json!({"model": "m", "messages": [
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": ""},
    ], "temperature": null, "tools": null, "stop": null});
    assert_eq!(
        written(&chat).unwrap(),
        json!({
            "max_tokens": DEFAULT_MAX_TOKENS,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        })
    );
}

#[test]
fn every_choice_of_tools() {
    for (choice, parallel, expected) in [
        (json!("auto"), Value::Null, json!({"type": "auto"})),
        (json!("none"), json!(false), json!({"type": "none"})),
        (json!("required"), json!(true), json!({"type": "any"})),
        (
            json!({"type": "function", "function": {"name": "f"}}),
            Value::Null,
            json!({"type": "tool", "name": "f"}),
        ),
        (Value::Null, Value::Null, Value::Null),
        (
            Value::Null,
            json!(false),
            json!({"type": "auto", "disable_parallel_tool_use": true}),
        ),
    ] {
        let chat = json!({
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": choice,
            "parallel_tool_calls": parallel,
        });
        assert_eq!(written(&chat).unwrap()["tool_choice"], expected, "{choice}");
    }
}

#[test]
fn a_schema_and_members_of_anthropics_own() {
    let chat = json!({
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "top_k": 3,
    });
    let written = written(&chat).unwrap();
    assert_eq!(
        written["output_config"],
        json!({"format": {"type": "json_schema", "schema": {"type": "object"}}})
    );
    assert_eq!(written["thinking"]["budget_tokens"], 1024);
    assert_eq!(written["top_k"], 3);
}

#[test]
fn what_cannot_be_put_into_other_words_is_refused() {
    let hi = json!([{"role": "user", "content": "hi"}]);
    let user =
        |part: Value| json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
    for (chat, told) in [
        (json!({"messages": hi}), "The request needs `model`"),
        (
            json!({"model": 1, "messages": hi}),
            "`model` must be a string",
        ),
        (json!({"model": "m"}), "`messages` must be a list"),
        (json!({"model": "m", "messages": []}), "nothing to answer"),
        (
            json!({"model": "m", "messages": [1]}),
            "messages[0]: must be an object",
        ),
        (
            json!({"model": "m", "messages": [{"role": "judge", "content": "x"}]}),
            "messages[0]: `role` must be one of",
        ),
        (
            json!({"model": "m", "messages": [{"role": "tool", "content": "x"}]}),
            "messages[0]: needs `tool_call_id`",
        ),
        (
            json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [
                {"id": "t", "function": {"name": "f", "arguments": "[1]"}}]}]}),
            "must be a JSON object",
        ),
        (
            user(json!({"type": "input_audio", "input_audio": {}})),
            "type must be one of",
        ),
        (
            user(json!({"type": "image_url", "image_url": {"url": "http://a/b.png"}})),
            "must begin with https:// or data:",
        ),
        (
            user(json!({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}})),
            "must begin with https:// or data:",
        ),
        (
            user(json!({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,a"}})),
            "must hold a GIF, JPEG, PNG or WebP",
        ),
        (
            user(json!({"type": "file", "file": {"file_id": "f-1"}})),
            "must be a PDF",
        ),
        (
            json!({"model": "m", "messages": hi, "n": 2}),
            "`n` other than 1",
        ),
        (
            json!({"model": "m", "messages": hi, "max_tokens": 0}),
            "positive whole number",
        ),
        (
            json!({"model": "m", "messages": hi, "stop": [1]}),
            "`stop` must be",
        ),
        (
            json!({"model": "m", "messages": hi, "functions": []}),
            "use `tools`",
        ),
        (
            json!({"model": "m", "messages": hi, "response_format": {"type": "json_object"}}),
            "use json_schema",
        ),
        (
            json!({"model": "m", "messages": hi, "tool_choice": "any"}),
            "`tool_choice` must be",
        ),
        (
            json!({"model": "m", "messages": hi, "tools": [{"type": "web_search"}]}),
            "functions only",
        ),
        (
            json!({"model": "m", "messages": hi, "modalities": ["audio"]}),
            "Audio",
        ),
    ] {
        let why = written(&chat).unwrap_err();
        assert!(why.contains(told), "{chat}: {why}");
    }
}

fn whole(answer: &Value) -> Value {
    let body = dialect(false)
        .whole(&HeaderMap::new(), answer.to_string().as_bytes())
        .unwrap();
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_whole_answer() {
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Let me "},
            {"type": "text", "text": "see."},
            {"type": "tool_use", "id": "t1", "name": "get", "input": {"q": 1}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4,
                  "output_tokens": 5, "service_tier": "standard"},
    });
    assert_eq!(
        whole(&answer),
        json!({
            "id": "msg_1", "object": "chat.completion", "created": 1_700_000_000, "model": "claude-x-1",
            "choices": [{
                "index": 0,
                "message": {
                    "role": "assistant", "content": "Let me see.", "refusal": null,
                    "tool_calls": [{"id": "t1", "type": "function",
                                    "function": {"name": "get", "arguments": "{\"q\":1}"}}],
                },
                "logprobs": null,
                "finish_reason": "tool_calls",
            }],
            "usage": {"prompt_tokens": 17, "completion_tokens": 5, "total_tokens": 22,
                      "prompt_tokens_details": {"cached_tokens": 4}},
        })
    );
}

#[test]
fn every_reason_to_stop() {
    for (reason, finish) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("one of tomorrow", "stop"),
    ] {
        let answer = json!({"id": "m", "content": [], "stop_reason": reason});
        let choice = &whole(&answer)["choices"][0];
        assert_eq!(choice["finish_reason"], finish, "{reason}");
        assert_eq!(choice["message"]["content"], "");
    }
}

const STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x-1","content":[],"stop_reason":null,"usage":{"input_tokens":25,"cache_read_input_tokens":5,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hé"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"llo"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"get","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"q\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" 1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: content_block_start
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t2","name":"now","input":{}}}

event: content_block_stop
data: {"type":"content_block_stop","index":2}

event: something_new
data: {"type":"something_new","index":2}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

"#;

fn chunks(text: &str) -> Vec<Value> {
    let events = text.strip_suffix("data: [DONE]\n\n").unwrap();
    events
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

#[test]
fn a_stream() {
    let (text, error) = translated(&dialect(true), &[STREAM.as_bytes()]);
    assert_eq!(error, None);
    let chunks = chunks(&text);
    for chunk in &chunks {
        assert_eq!(chunk["id"], "msg_1");
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["model"], "claude-x-1");
        assert_eq!(chunk["created"], 1_700_000_000);
    }
    let deltas: Vec<_> = chunks
        .iter()
        .map(|c| c["choices"][0]["delta"].clone())
        .collect();
    let call = |index: u64, id: &str, name: &str| {
        json!({"tool_calls": [{"index": index, "id": id, "type": "function",
                               "function": {"name": name, "arguments": ""}}]})
    };
    let piece = |index: u64, piece: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]});
    assert_eq!(
        deltas,
        [
            json!({"role": "assistant", "content": ""}),
            json!({"content": "Hé"}),
            json!({"content": "llo"}),
            call(0, "t1", "get"),
            piece(0, "{\"q\":"),
            piece(0, " 1}"),
            call(1, "t2", "now"),
            piece(1, "{}"),
            json!({}),
            Value::Null,
        ]
    );
    let finishes: Vec<_> = chunks
        .iter()
        .map(|c| &c["choices"][0]["finish_reason"])
        .collect();
    assert!(finishes[..8].iter().all(|finish| finish.is_null()));
    assert_eq!(finishes[8], "tool_calls");
    assert_eq!(chunks[9]["choices"], json!([]));
    assert_eq!(chunks[8]["usage"], Value::Null);
    assert_eq!(
        chunks[9]["usage"],
        json!({"prompt_tokens": 30, "completion_tokens": 15, "total_tokens": 45,
               "prompt_tokens_details": {"cached_tokens": 5}})
    );
}

#[test]
fn counts_come_only_when_asked_for() {
    let (text, _) = translated(&dialect(false), &[STREAM.as_bytes()]);
    assert_eq!(chunks(&text).len(), 9);
    assert!(!text.contains("usage"));
}

#[test]
fn streams_that_go_wrong() {
    let start = r#"data: {"type":"message_start","message":{"id":"m"}}"#;
    for (end, told) in [
        (
            r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            "the upstream broke off: overloaded_error: Overloaded",
        ),
        (
            r#"data: {"type":"error"}"#,
            "The provider broke off its answer",
        ),
        ("data: {", "an event that cannot be read"),
        (
            "data: {\n\ndata: {\"type\":\"message_stop\"}",
            "an event that cannot be read",
        ),
        ("", "a stream without its end"),
        (
            r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
            "a stream without its end",
        ),
    ] {
        let stream = format!("{start}\n\n{end}\n\n");
        let (text, error) = translated(&dialect(false), &[stream.as_bytes()]);
        assert!(text.contains(r#""role":"assistant""#), "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
        let error = error.unwrap();
        assert!(error.ends_with(told), "{error}");
    }
}

#[test]
fn what_follows_the_end_is_not_read() {
    for more in [
        "data: {",
        r#"data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    ] {
        let stream = format!("{STREAM}{more}\n\n");
        let whole = translated(&dialect(true), &[stream.as_bytes()]);
        assert_eq!(whole, translated(&dialect(true), &[STREAM.as_bytes()]));
        assert!(whole.0.ends_with("data: [DONE]\n\n"), "{}", whole.0);
    }
}

#[test]
fn errors_keep_their_name_and_text() {
    for (body, kind, message) in [
        (
            r#"{"type":"error","error":{"type":"not_found_error","message":"model: x"},"request_id":"r"}"#,
            Some("not_found_error"),
            Some("model: x"),
        ),
        (
            r#"[{"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}}]"#,
            Some("PERMISSION_DENIED"),
            Some("denied"),
        ),
        ("<html>", None, None),
        (r#"{"error":"x"}"#, None, None),
    ] {
        let (told_kind, told) = dialect(false).error(&HeaderMap::new(), body.as_bytes());
        assert_eq!(
            (told_kind.as_deref(), told.as_deref()),
            (kind, message),
            "{body}"
        );
    }
}

#[test]
fn the_list_of_models() {
    let list = r#"{"data":[{"type":"model","id":"claude-x","display_name":"X","created_at":"2025-05-14T00:00:00Z","lifecycle":"active"},{"id":"y"},{"id":"z","lifecycle":"retired"}],"has_more":false}"#;
    let body = Models.whole(&HeaderMap::new(), list.as_bytes()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({"object": "list", "data": [
            {"id": "claude-x", "object": "model", "created": 1_747_180_800, "owned_by": "anthropic"},
            {"id": "y", "object": "model", "created": 0, "owned_by": "anthropic"},
        ]})
    );
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "user",
            "assistant",
            "tool",
            "text",
            "image_url",
            "data:image/png;base64,",
            "function",
            "content_block_delta",
            "text_delta",
            "tool_use",
            "error",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(
                (
                    prop::sample::select(vec![
                        "type",
                        "role",
                        "content",
                        "text",
                        "image_url",
                        "url",
                        "tool_calls",
                        "id",
                        "function",
                        "name",
                        "arguments",
                        "tool_call_id",
                        "delta",
                        "index",
                        "usage",
                        "message",
                        "content_block",
                        "error",
                        "partial_json",
                        "data",
                    ]),
                    inner
                ),
                0..5
            )
            .prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn splits_do_not_matter(cuts in prop::collection::vec(0..STREAM.len(), 0..6)) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut last = 0;
        for cut in cuts {
            pieces.push(&STREAM.as_bytes()[last..cut]);
            last = cut;
        }
        pieces.push(&STREAM.as_bytes()[last..]);
        prop_assert_eq!(
            translated(&dialect(true), &pieces),
            translated(&dialect(true), &[STREAM.as_bytes()])
        );
    }

    #[test]
    fn no_request_panics_or_moves_the_host(model in ".{0,12}", messages in arbitrary_json(), tools in arbitrary_json(), stream: bool) {
        let mut target = TargetConfig::new("t", "anthropic");
        target.api_key = Some("k".into());
        let upstream = Anthropic::new(&target).unwrap();
        let body = json!({"model": model, "messages": messages, "tools": tools}).to_string();
        let call = Call {
            endpoint: Endpoint::ChatCompletions,
            stream,
            body: &Bytes::from(body),
            client: &HttpClient::without_tls(&HttpClientConfig::default()),
            clock: &SystemClock::new(),
        };
        if let Ok(prepared) = upstream.prepare(&call) {
            prop_assert_eq!(prepared.outgoing.uri().to_string(), "https://api.anthropic.com/v1/messages");
        }
    }

    #[test]
    fn no_answer_panics(events in prop::collection::vec(arbitrary_json(), 0..6), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut stream = Vec::new();
        for event in &events {
            dialect(true).whole(&HeaderMap::new(), event.to_string().as_bytes());
            stream.extend(format!("data: {event}\n\n").into_bytes());
        }
        dialect(true).error(&HeaderMap::new(), &bytes);
        stream.extend(&bytes);
        translated(&dialect(true), &[&stream]);
    }
}
