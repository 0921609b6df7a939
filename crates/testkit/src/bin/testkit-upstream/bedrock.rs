//! Answers as Amazon Bedrock's Converse API writes them.

use bytes::Bytes;
use proactions_testkit::{Received, Reply, Step};
use serde_json::{Value, json};

const REQUEST_ID: &str = "0a1b2c3d-standin";

/// A text and the call of a tool. The model stands in the path.
pub(crate) fn converse(request: &Received) -> Reply {
    let path = request.path();
    let model = path.rsplit('/').nth(1).unwrap_or_default();
    if let Some(status) = crate::status_asked(model) {
        return error(status);
    }
    let reply = if path.ends_with("/converse-stream") {
        stream(model)
    } else {
        Reply::json(200, &whole())
    };
    reply.with_header("x-amzn-requestid", REQUEST_ID)
}

fn error(status: u16) -> Reply {
    let kind = match status {
        400 => "ValidationException",
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        _ => "InternalServerException",
    };
    let origin = "http://internal.amazon.com/coral/com.amazon.bedrock/";
    Reply::json(
        status,
        &json!({"message": format!("bedrock says {status}")}),
    )
    .with_header("x-amzn-errortype", &format!("{kind}:{origin}"))
    .with_header("x-amzn-requestid", REQUEST_ID)
}

fn usage() -> Value {
    json!({
        "inputTokens": 8, "outputTokens": 5, "totalTokens": 15, "cacheReadInputTokens": 2, "cacheWriteInputTokens": 0,
    })
}

fn whole() -> Value {
    let call = json!({"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Kyiv"}});
    let message = json!({"role": "assistant", "content": [{"text": "Hello"}, {"toolUse": call}]});
    json!({
        "output": {"message": message}, "stopReason": "tool_use", "usage": usage(), "metrics": {"latencyMs": 551},
    })
}

fn stream(model: &str) -> Reply {
    let delta = |index, delta| {
        event(
            "contentBlockDelta",
            &json!({"contentBlockIndex": index, "delta": delta}),
        )
    };
    let text = |text| delta(0, json!({"text": text}));
    let arguments = |piece| delta(1, json!({"toolUse": {"input": piece}}));
    let stop = |index| event("contentBlockStop", &json!({"contentBlockIndex": index}));
    let call = json!({"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}});
    let frames = [
        event("messageStart", &json!({"role": "assistant"})),
        text("Hel"),
        text("lo"),
        stop(0),
        event(
            "contentBlockStart",
            &json!({"contentBlockIndex": 1, "start": call}),
        ),
        arguments("{\"city\":"),
        arguments(" \"Kyiv\"}"),
        stop(1),
        event("messageStop", &json!({"stopReason": "tool_use"})),
        event(
            "metadata",
            &json!({"usage": usage(), "metrics": {"latencyMs": 551}}),
        ),
    ];
    let reply = frames.into_iter().fold(
        Reply::new(200).with_header("content-type", "application/vnd.amazon.eventstream"),
        |reply, frame| reply.then(Step::send(frame)),
    );
    match model {
        "dying" => reply.cut_after(3, Step::Reset),
        "throttled" => {
            let last = framed(
                &[
                    (":message-type", "exception"),
                    (":exception-type", "throttlingException"),
                    (":content-type", "application/json"),
                ],
                &json!({"message": "Too many tokens"}),
            );
            reply.cut_after(3, Step::send(last))
        }
        _ => reply,
    }
}

fn event(name: &str, payload: &Value) -> Bytes {
    let headers = [
        (":message-type", "event"),
        (":event-type", name),
        (":content-type", "application/json"),
    ];
    framed(&headers, payload)
}

/// One message of AWS's framing of streams, `application/vnd.amazon.eventstream`.
fn framed(headers: &[(&str, &str)], payload: &Value) -> Bytes {
    /// The type of a field whose value is a string.
    const STRING: u8 = 7;

    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).expect("a short name"));
        head.extend(name.as_bytes());
        head.push(STRING);
        head.extend(
            u16::try_from(value.len())
                .expect("a short value")
                .to_be_bytes(),
        );
        head.extend(value.as_bytes());
    }
    let payload = payload.to_string();
    // The prelude with its checksum, and the checksum of everything.
    let total = 12 + head.len() + payload.len() + 4;
    let length = |len: usize| u32::try_from(len).expect("a short message").to_be_bytes();
    let mut frame = Vec::with_capacity(total);
    frame.extend(length(total));
    frame.extend(length(head.len()));
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(head);
    frame.extend(payload.as_bytes());
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    Bytes::from(frame)
}
