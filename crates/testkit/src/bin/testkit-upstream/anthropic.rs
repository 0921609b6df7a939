//! Answers as Anthropic's Messages API writes them.

use proactions_testkit::{Received, Reply, Step};
use serde_json::{Value, json};

/// A text and the call of a tool. The model stands in the body, at Vertex AI in the path.
pub(crate) fn message(request: &Received) -> Reply {
    let body = request.json();
    let model = match body.get("model").and_then(Value::as_str) {
        Some(model) => model,
        None => model_in_path(request.path()),
    };
    if let Some(status) = crate::status_asked(model) {
        return error(status);
    }
    if body.get("stream") != Some(&Value::Bool(true)) {
        return Reply::json(200, &whole());
    }
    let reply = Reply::sse(events().iter().map(event));
    match model {
        "claude-dying" => reply.cut_after(4, Step::Reset),
        "claude-overloaded" => {
            let error = json!({"type": "overloaded_error", "message": "Overloaded"});
            let last = event(&json!({"type": "error", "error": error}));
            reply.cut_after(4, Step::send(last))
        }
        _ => reply,
    }
}

/// A page of the list of models.
pub(crate) fn models() -> Reply {
    let model = |id, name, lifecycle| {
        json!({
            "type": "model", "id": id, "display_name": name, "created_at": "2026-01-01T00:00:00Z", "lifecycle": lifecycle,
        })
    };
    let data = [
        model("claude-standin", "Claude", "active"),
        model("claude-large", "Claude Large", "deprecated"),
        model("claude-old", "Claude Old", "retired"),
    ];
    Reply::json(
        200,
        &json!({"data": data, "has_more": false, "first_id": "claude-standin", "last_id": "claude-old"}),
    )
}

fn model_in_path(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

fn error(status: u16) -> Reply {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let error = json!({"type": kind, "message": format!("anthropic says {status}")});
    let body = json!({"type": "error", "error": error, "request_id": "req_standin"});
    let reply = Reply::json(status, &body).with_header("request-id", "req_standin");
    if status == 429 {
        reply.with_header("retry-after", "7")
    } else {
        reply
    }
}

fn usage() -> Value {
    json!({
        "input_tokens": 8, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2, "output_tokens": 5,
        "service_tier": "standard",
    })
}

fn whole() -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-standin",
        "content": [
            {"type": "text", "text": "Hello", "citations": null},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Kyiv"}},
        ],
        "stop_reason": "tool_use", "stop_sequence": null, "usage": usage(),
    })
}

fn events() -> Vec<Value> {
    let start = |index, block| json!({"type": "content_block_start", "index": index, "content_block": block});
    let stop = |index| json!({"type": "content_block_stop", "index": index});
    let delta =
        |index, delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let text = |text| json!({"type": "text_delta", "text": text});
    let arguments = |piece| json!({"type": "input_json_delta", "partial_json": piece});
    vec![
        json!({"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-standin", "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage(),
        }}),
        start(0, json!({"type": "text", "text": ""})),
        json!({"type": "ping"}),
        delta(0, text("Hel")),
        delta(0, text("lo")),
        stop(0),
        start(
            1,
            json!({"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}),
        ),
        delta(1, arguments("{\"city\":")),
        delta(1, arguments(" \"Kyiv\"}")),
        stop(1),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ]
}

fn event(data: &Value) -> String {
    let name = data
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("message");
    format!("event: {name}\ndata: {data}\n\n")
}
