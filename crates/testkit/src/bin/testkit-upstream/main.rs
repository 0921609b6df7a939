//! A stand-in for an AI provider, for checks that run real clients against a real hub.
//!
//! `testkit-upstream [ADDRESS]` listens there (else on a port of 127.0.0.1 that the system picks), says
//! `listening on http://…` on standard output, and runs until it is killed.
//!
//! What it answers depends on the path: `/chat/completions`, `/embeddings` and `/models` in the words of OpenAI's API;
//! `/messages`, `:rawPredict` and `:streamRawPredict` in those of Anthropic's, and `/models` too if the request has
//! `anthropic-version`; `/converse` and `/converse-stream` in those of Amazon Bedrock's; `/token` as Google's, which
//! trades a statement for an access token; else an echo of the request. `GET /recorded` answers with the requests
//! that came since it was last asked, the last 64 of them. For completions it also depends on the model:
//!
//! | model | answer |
//! |---|---|
//! | `status-NNN` | an error with that status, in the provider's own form |
//! | `silent` | none; the connection stays open |
//! | `closing` | none; the connection is closed |
//! | `dying`, `claude-dying` | a stream that breaks off after its first words |
//! | `claude-overloaded` (Anthropic), `throttled` (Bedrock) | a stream in which the provider reports an error |
//! | `gated-NAME` | a stream of five chunks, each held back until someone calls `POST /release/NAME` |
//! | `echo` | the request, described in JSON, as the text of the completion |
//! | any other | a completion, or with `"stream": true` a stream of five chunks |

#![allow(clippy::expect_used, reason = "a test kit fails by panicking")]

mod anthropic;
mod bedrock;

use std::collections::{HashMap, VecDeque};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use proactions_testkit::{ANY_PORT, Gate, Received, Reply, Step, Upstream};
use serde_json::{Value, json};

const CHUNKS: usize = 5;

/// How many requests are kept until someone asks for them.
const RECORDED: usize = 64;

type Gates = Mutex<HashMap<String, Gate>>;

type Record = Mutex<VecDeque<Value>>;

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
    let record = Record::default();
    let upstream = Upstream::builder()
        .at(addr)
        .recording_at_most(1 << 20)
        .serve(move |request| reply(request, &gates, &record));
    println!("listening on {}", upstream.url(""));
    loop {
        std::thread::park();
    }
}

fn reply(request: &Received, gates: &Gates, record: &Record) -> Reply {
    let path = request.path();
    if let Some(name) = path.strip_prefix("/release/") {
        gate(gates, name).release(1);
        return Reply::new(204);
    }
    let mut recorded = record.lock().unwrap_or_else(PoisonError::into_inner);
    if path == "/recorded" {
        let all: Vec<Value> = recorded.drain(..).collect();
        return Reply::json(200, &Value::Array(all));
    }
    if recorded.len() == RECORDED {
        recorded.pop_front();
    }
    recorded.push_back(json!({
        "method": request.method.as_str(),
        "target": request.target,
        "headers": request.header_lines(),
        "body": String::from_utf8_lossy(&request.body),
    }));
    drop(recorded);

    let ends = |ending| path.ends_with(ending);
    if ends("/messages") || ends(":rawPredict") || ends(":streamRawPredict") {
        return anthropic::message(request);
    }
    if ends("/converse") || ends("/converse-stream") {
        return bedrock::converse(request);
    }
    if ends("/token") {
        let token = json!({"access_token": "google-access-token", "expires_in": 3599, "token_type": "Bearer"});
        return Reply::json(200, &token);
    }
    if ends("/embeddings") {
        return Reply::embeddings();
    }
    if ends("/models") {
        return match request.header("anthropic-version") {
            Some(_) => anthropic::models(),
            None => Reply::models(),
        };
    }
    if ends("/completions") {
        return completion(request, gates);
    }
    Reply::echo()
}

/// The status that a model's name asks for.
fn status_asked(model: &str) -> Option<u16> {
    model.strip_prefix("status-")?.parse().ok()
}

fn completion(request: &Received, gates: &Gates) -> Reply {
    let body = request.json();
    let field = |name| body.get(name);
    let model = field("model").and_then(Value::as_str).unwrap_or_default();
    if let Some(status) = status_asked(model) {
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

fn gate(gates: &Gates, name: &str) -> Gate {
    let mut gates = gates.lock().unwrap_or_else(PoisonError::into_inner);
    gates
        .entry(name.to_owned())
        .or_insert_with(Gate::closed)
        .clone()
}
