use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, response};
use http_body::{Body as HttpBody, Frame};
use proactions_forward::{Body, SendError, UpstreamBody};

use super::{Chunks, Delta, error_body};

/// How long an answer may be that is translated as a whole, in bytes.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

/// How much of an error is read, in bytes.
const MAX_ERROR: usize = 256 * 1024;

/// How long an error's text may be, in characters.
const MAX_MESSAGE: usize = 2000;

/// Reads a provider's stream.
pub(crate) trait StreamDecoder: Send {
    /// Reads the next piece and tells what it says.
    ///
    /// # Errors
    /// When it cannot be a part of such a stream.
    fn feed(&mut self, piece: &[u8], deltas: &mut Vec<Delta>) -> Result<(), &'static str>;

    /// Whether the end of the body is the end of the answer, once the answer has said why it ended.
    fn ends_with_body(&self) -> bool {
        false
    }
}

/// How one provider's answers are read.
pub(crate) trait Dialect: Send {
    /// The content type of its streams.
    fn stream_type(&self) -> &'static str;

    /// The reader of a stream, and the writer of what it is to become.
    fn stream(&self, head: &HeaderMap) -> (Box<dyn StreamDecoder>, Chunks);

    /// A whole answer in OpenAI's form.
    fn whole(&self, head: &HeaderMap, body: &[u8]) -> Option<Bytes>;

    /// Name and text of an error.
    fn error(&self, head: &HeaderMap, body: &[u8]) -> (Option<String>, Option<String>);
}

/// Turns one answer of a provider into OpenAI's form.
pub(crate) struct Adapter {
    dialect: Box<dyn Dialect>,
    stream: bool,
}

impl Adapter {
    pub(crate) fn new(dialect: impl Dialect + 'static, stream: bool) -> Self {
        Self {
            dialect: Box::new(dialect),
            stream,
        }
    }

    /// The answer as a client of OpenAI's API expects it. The status stays.
    ///
    /// # Errors
    /// When the body breaks off, or is not what the provider's API documents.
    pub(crate) async fn adapt(
        self,
        answer: Response<UpstreamBody>,
    ) -> Result<Response<Adapted>, SendError> {
        let (mut head, body) = answer.into_parts();
        if head.headers.contains_key(CONTENT_ENCODING) {
            return Err(broken("a compressed answer, which was not asked for"));
        }
        if !head.status.is_success() {
            let body = Body::new(body).collect_up_to(MAX_ERROR).await;
            let (kind, message) = match &body {
                Ok(body) => self.dialect.error(&head.headers, body),
                Err(_) => (None, None),
            };
            let kind = kind.as_deref().unwrap_or("upstream_error");
            let message: String = match message {
                Some(message) => message.chars().take(MAX_MESSAGE).collect(),
                None => format!("The provider answered with the status {}", head.status),
            };
            return Ok(json(head, error_body(kind, &message)));
        }
        if self.stream {
            if media_type(&head.headers) != self.dialect.stream_type() {
                return Err(broken("an answer that is not a stream"));
            }
            let (decoder, chunks) = self.dialect.stream(&head.headers);
            set_type(&mut head, "text/event-stream");
            let stream = Translating::new(body, decoder, chunks);
            return Ok(Response::from_parts(
                head,
                Adapted(Kind::Stream(Box::new(stream))),
            ));
        }
        let body = match Body::new(body).collect_up_to(MAX_ANSWER).await {
            Ok(body) => body,
            Err(error) if error.is_too_large() => return Err(broken("an answer of over 32 MiB")),
            Err(error) => return Err(SendError::broken(error)),
        };
        match self.dialect.whole(&head.headers, &body) {
            Some(body) => Ok(json(head, body)),
            None => Err(broken("an answer in a form that is not documented")),
        }
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

/// An answer that cannot be read.
pub(crate) fn broken(why: &'static str) -> SendError {
    SendError::broken(why)
}

fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

fn json(mut head: response::Parts, body: Bytes) -> Response<Adapted> {
    set_type(&mut head, "application/json");
    Response::from_parts(head, Adapted(Kind::Whole(Some(body))))
}

fn set_type(head: &mut response::Parts, content_type: &'static str) {
    /// Tells which account this program has at the provider.
    const ORGANIZATION: HeaderName = HeaderName::from_static("anthropic-organization-id");

    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(ORGANIZATION);
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
}

/// The body of an answer that was translated.
pub(crate) struct Adapted(Kind);

enum Kind {
    Stream(Box<Translating<UpstreamBody>>),
    Whole(Option<Bytes>),
}

impl HttpBody for Adapted {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        match &mut self.0 {
            Kind::Stream(stream) => Pin::new(&mut **stream).poll_frame(cx),
            Kind::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Stream(stream) => stream.done,
            Kind::Whole(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match &self.0 {
            Kind::Stream(_) => http_body::SizeHint::default(),
            Kind::Whole(body) => {
                http_body::SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64))
            }
        }
    }
}

/// What a provider told in the middle of its stream, for the client.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) kind: String,
    pub(crate) message: String,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Told {}

/// A stream on its way: every piece is translated when it comes, and passed on at once.
pub(crate) struct Translating<B> {
    body: B,
    decoder: Box<dyn StreamDecoder>,
    chunks: Chunks,
    deltas: Vec<Delta>,
    /// What the stream ends with, once what came before it was passed on.
    failure: Option<SendError>,
    done: bool,
}

impl<B> Translating<B> {
    pub(crate) fn new(body: B, decoder: Box<dyn StreamDecoder>, chunks: Chunks) -> Self {
        Self {
            body,
            decoder,
            chunks,
            deltas: Vec::new(),
            failure: None,
            done: false,
        }
    }

    fn translate(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let fed = self.decoder.feed(piece, &mut self.deltas);
        for delta in self.deltas.drain(..) {
            if self.chunks.ended() {
                // The answer is complete, whatever the provider still sends behind it.
                return out;
            }
            if let Delta::Failed { kind, message } = delta {
                let message = message.chars().take(MAX_MESSAGE).collect();
                self.failure = Some(SendError::broken(Told { kind, message }));
                return out;
            }
            self.chunks.push(delta, &mut out);
        }
        if let (Err(why), false) = (fed, self.chunks.ended()) {
            self.failure = Some(broken(why));
        }
        out
    }
}

impl<B> HttpBody for Translating<B>
where
    B: HttpBody<Data = Bytes, Error = SendError> + Unpin,
{
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let this = self.get_mut();
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            if let Some(failure) = this.failure.take() {
                this.done = true;
                return Poll::Ready(Some(Err(failure)));
            }
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            if this.chunks.ended() {
                // The answer is complete. One look at the body lets its connection be used again.
                this.done = true;
                return Poll::Ready(None);
            }
            let out = match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                    Some(piece) => this.translate(piece),
                    None => continue,
                },
                Poll::Ready(Some(Err(error))) => {
                    this.done = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    let mut out = Vec::new();
                    if this.decoder.ends_with_body() && this.chunks.finished() {
                        this.chunks.push(Delta::End, &mut out);
                        this.done = true;
                    } else {
                        this.failure = Some(broken("a stream without its end"));
                    }
                    out
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::VecDeque;

    use super::*;

    struct Pieces(VecDeque<Result<Bytes, SendError>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = SendError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
            Poll::Ready(self.0.pop_front().map(|piece| piece.map(Frame::data)))
        }
    }

    /// What a stream becomes that comes in these pieces: its text, and the error that it ends with.
    pub(crate) fn translated(dialect: &dyn Dialect, pieces: &[&[u8]]) -> (String, Option<String>) {
        let (decoder, chunks) = dialect.stream(&HeaderMap::new());
        let pieces = pieces.iter().map(|p| Ok(Bytes::copy_from_slice(p)));
        let mut body = Translating::new(Pieces(pieces.collect()), decoder, chunks);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut text = String::new();
        loop {
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                }
                Poll::Ready(Some(Err(error))) => return (text, Some(error.to_string())),
                Poll::Ready(None) => return (text, None),
                Poll::Pending => panic!("nothing is waited for"),
            }
        }
    }
}
