//! A stand-in for an AI provider, for checks that run real clients against a real hub.
//!
//! `testkit-upstream [ADDRESS]` listens there (else on a port of 127.0.0.1 that the system picks), says
//! `listening on http://…` on standard output, and runs until it is killed.
//!
//! What it answers depends on the end of the path (`/chat/completions`, `/embeddings`, `/models`, `/messages` in the
//! words of Anthropic's API, else an echo of the request), and for completions on the model:
//!
//! | model | answer |
//! |---|---|
//! | `status-NNN` | an error with that status |
//! | `silent` | none; the connection stays open |
//! | `closing` | none; the connection is closed |
//! | `dying` | a stream that breaks off after two chunks |
//! | `gated-NAME` | a stream of five chunks, each held back until someone calls `POST /release/NAME` |
//! | `echo` | the request, described in JSON, as the text of the completion |
//! | any other | a completion, or with `"stream": true` a stream of five chunks |

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use proactions_testkit::{ANY_PORT, Gate, Received, Reply, Step, Upstream};
use serde_json::{Value, json};

const CHUNKS: usize = 5;

type Gates = Mutex<HashMap<String, Gate>>;

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program"
)]
fn main() -> ExitCode {
    let addr = match std::env::args().nth(1).map(|addr| addr.parse()) {
        None => ANY_PORT,
        Some(Ok(addr)) => addr,
        Some(Err(_)) => {
            eprintln!("usage: testkit-upstream [IP:PORT]");
            return ExitCode::from(2);
        }
    };
    let gates = Gates::default();
    let upstream = Upstream::builder()
        .at(addr)
        .recording_at_most(1 << 20)
        .serve(move |request| reply(request, &gates));
    println!("listening on {}", upstream.url(""));
    loop {
        std::thread::park();
    }
}

fn reply(request: &Received, gates: &Gates) -> Reply {
    let path = request.path();
    if let Some(name) = path.strip_prefix("/release/") {
        gate(gates, name).release(1);
        return Reply::new(204);
    }
    if path.ends_with("/messages") {
        return message(request);
    }
    if path.ends_with("/embeddings") {
        return Reply::embeddings();
    }
    if path.ends_with("/models") {
        return Reply::models();
    }
    if path.ends_with("/completions") {
        return completion(request, gates);
    }
    Reply::echo()
}

fn completion(request: &Received, gates: &Gates) -> Reply {
    let body = request.json();
    let field = |name| body.get(name);
    let model = field("model").and_then(Value::as_str).unwrap_or_default();
    if let Some(status) = model.strip_prefix("status-").and_then(|s| s.parse().ok()) {
        return Reply::error(status);
    }
    if let Some(name) = model.strip_prefix("gated-") {
        return Reply::chat_stream(CHUNKS).gated(&gate(gates, name));
    }
    match model {
        "silent" => Reply::silence(),
        "closing" => Reply::new(200).before_head(Step::Close),
        "dying" => Reply::chat_stream(CHUNKS).cut_after(2, Step::Close),
        "echo" => {
            let seen =
                json!({"headers": request.header_lines(), "target": request.target, "body": body});
            Reply::chat(&seen.to_string())
        }
        _ if field("stream") == Some(&Value::Bool(true)) => Reply::chat_stream(CHUNKS),
        _ => Reply::chat("Hello from the stand-in"),
    }
}

/// A text and the call of a tool, as Anthropic's Messages API writes them.
fn message(request: &Received) -> Reply {
    let body = request.json();
    if body.get("model") == Some(&json!("overloaded")) {
        let error = json!({"type": "overloaded_error", "message": "Overloaded"});
        return Reply::json(529, &json!({"type": "error", "error": error}));
    }
    let usage = json!({"input_tokens": 10, "output_tokens": 5});
    if body.get("stream") != Some(&Value::Bool(true)) {
        return Reply::json(
            200,
            &json!({
                "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-standin",
                "content": [
                    {"type": "text", "text": "Hello"},
                    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Kyiv"}},
                ],
                "stop_reason": "tool_use", "stop_sequence": null, "usage": usage,
            }),
        );
    }
    let text = |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    let arguments = |piece: &str| json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}});
    Reply::sse(
        [
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-standin", "content": [], "usage": usage}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "ping"}),
            text("Hel"),
            text("lo"),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}}),
            arguments("{\"city\":"),
            arguments(" \"Kyiv\"}"),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 5}}),
            json!({"type": "message_stop"}),
        ]
        .map(|event| format!("event: message\ndata: {event}\n\n")),
    )
}

fn gate(gates: &Gates, name: &str) -> Gate {
    let mut gates = gates.lock().unwrap_or_else(PoisonError::into_inner);
    gates
        .entry(name.to_owned())
        .or_insert_with(Gate::closed)
        .clone()
}
