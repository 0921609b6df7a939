//! What the fuzz targets reach besides the public interface.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use proactions_forward::SendError;
use tokio::time::Instant;

use crate::event_stream::EventStream;
use crate::meter::{Meter, Metered};
use crate::providers::dialect_for_fuzzing;
use crate::tally::{Tally, Usage};
use crate::translate::{SseLines, Translating};
use crate::{TargetConfig, Targets};

/// What an answer says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "nothing outside of the fuzz targets reads it"
)]
pub struct Seen {
    /// The model's name.
    pub model: Option<String>,
    /// The tokens of the prompt, of the answer, and of both.
    pub tokens: [Option<u64>; 3],
    /// The answer's text.
    pub text: Option<String>,
}

/// What is read out of an answer of this type that comes in these pieces.
#[must_use]
pub fn usage(content_type: &str, pieces: &[&[u8]], want_text: bool) -> Seen {
    let mut tally = Tally::new(content_type, want_text);
    for piece in pieces {
        tally.feed(&Bytes::copy_from_slice(piece));
    }
    let usage: Usage = tally.finish();
    Seen {
        model: usage.model,
        tokens: [
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
        ],
        text: usage.text,
    }
}

/// What the client gets of an answer that comes in these pieces and then ends, or breaks off: the bytes, and whether
/// they end with an error.
#[must_use]
pub fn passed_on(content_type: &str, pieces: &[&[u8]], breaks_off: bool) -> (Vec<u8>, bool) {
    let targets = Targets::try_from(vec![TargetConfig::new("fuzz", "echo")]).unwrap_or_default();
    let Some(target) = targets.only() else {
        return (Vec::new(), true);
    };
    let mut meter = Meter::new(target, Instant::now(), &http::Extensions::new());
    meter.answered(StatusCode::OK, Tally::new(content_type, true));
    let mut pieces = Pieces::new(pieces);
    if breaks_off {
        let fault = SendError::broken("broken off");
        pieces.0.push_back(Err(fault));
    }
    read(Metered::new(pieces, meter))
}

/// All that a body gives, and whether it ends with an error.
fn read<B: Body<Data = Bytes> + Unpin>(mut body: B) -> (Vec<u8>, bool) {
    let mut context = Context::from_waker(Waker::noop());
    let mut passed = Vec::new();
    loop {
        match Pin::new(&mut body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => {
                passed.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            }
            Poll::Ready(Some(Err(_))) => return (passed, true),
            Poll::Ready(None) | Poll::Pending => return (passed, false),
        }
    }
}

struct Pieces(VecDeque<Result<Bytes, SendError>>);

impl Pieces {
    fn new(pieces: &[&[u8]]) -> Self {
        let copies = pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece)));
        Self(copies.collect())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        Poll::Ready(self.0.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

/// The fields and the payload of each message of a stream in AWS's binary framing, and whether it ended with a fault.
#[must_use]
#[allow(clippy::type_complexity, reason = "it is taken apart at once")]
pub fn messages(pieces: &[&[u8]]) -> (Vec<(Vec<(String, String)>, Vec<u8>)>, Option<&'static str>) {
    let mut stream = EventStream::default();
    let mut found = Vec::new();
    for piece in pieces {
        let fed = stream.feed(piece, |message| {
            found.push((message.headers, message.payload));
        });
        if let Err(why) = fed {
            return (found, Some(why));
        }
    }
    (found, None)
}

/// The data of each event of a stream of server-sent events.
#[must_use]
pub fn events(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut lines = SseLines::default();
    let mut found = Vec::new();
    for piece in pieces {
        if lines.feed(piece, |data| found.push(data.to_vec())).is_err() {
            break;
        }
    }
    found
}

/// What a provider's stream becomes in OpenAI's form, and whether it ended with a fault. Only `anthropic` and
/// `bedrock` have streams of their own.
#[must_use]
pub fn translated(provider: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let dialect = dialect_for_fuzzing(provider);
    let mut head = HeaderMap::new();
    head.insert("x-amzn-requestid", http::HeaderValue::from_static("fuzz"));
    let (decoder, chunks) = dialect.stream(&head);
    let body = Translating::new(Pieces::new(pieces), decoder, chunks);
    read(body)
}
