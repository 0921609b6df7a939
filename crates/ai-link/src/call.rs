//! One call of one provider, and what has to be kept of a request so that there can be another.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Frame, SizeHint};
use proactions_edge::{Clock, Rejection, RejectionKind, RequestId};
use proactions_forward::{Body, BoxError, HttpClient, SendError, SendErrorKind, UpstreamBody};
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::merge::Merged;
use crate::providers::{Call, PrepareError, Prepared, echo};
use crate::service::OwnBody;
use crate::strategy::tree::{Leaf, Verdict};
use crate::translate::Adapted;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Parameters of a client's query that would act as the provider's credential.
const CREDENTIALS: &str =
    "access_token&api-key&api_key&apikey&key&subscription-key&token&x-api-key";

/// The name of a failure that is the request's own.
pub(crate) const REFUSED: &str = "refused";

/// What a client asks, ready to be sent to any provider.
pub(crate) struct Question {
    pub(crate) endpoint: Endpoint,
    /// What of the client's header may travel.
    pub(crate) headers: HeaderMap,
    /// The client's, where it may travel.
    pub(crate) query: Option<String>,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) content: Content,
    /// No other call can follow this one, so nothing has to be kept.
    pub(crate) once: bool,
}

pub(crate) enum Content {
    /// Passed on as it comes.
    Form(Upload),
    Json(Bytes),
    None,
}

impl Question {
    /// Whether it can be sent (again).
    pub(crate) fn is_whole(&self) -> bool {
        match &self.content {
            Content::Form(upload) => upload.is_untouched(),
            Content::Json(_) | Content::None => true,
        }
    }

    /// The request's JSON as this provider gets it, with its model's name where that is wanted.
    pub(crate) fn merged(&self, leaf: &Leaf, name_model: bool) -> Result<Merged, Rejection> {
        let Content::Json(body) = &self.content else {
            return Ok(Merged::default());
        };
        leaf.defaults
            .under(body, name_model)
            .map_err(|error| Rejection::new(RejectionKind::BadRequest).with_message(error.as_str()))
    }

    fn header(&mut self) -> HeaderMap {
        if self.once {
            std::mem::take(&mut self.headers)
        } else {
            self.headers.clone()
        }
    }
}

/// What came instead of an answer.
pub(crate) struct Failure {
    pub(crate) rejection: Rejection,
    /// A name for the log.
    pub(crate) name: &'static str,
    /// For the log.
    pub(crate) details: String,
    /// What it says about the provider, so that another one may do better; none where it is the request's own
    /// fault, or this program's.
    pub(crate) verdict: Option<Verdict>,
}

impl Failure {
    pub(crate) fn refused(rejection: Rejection) -> Self {
        Self {
            name: REFUSED,
            details: rejection.message().to_owned(),
            rejection,
            verdict: None,
        }
    }

    /// This provider cannot do what is asked.
    fn not_here(rejection: Rejection) -> Self {
        Self {
            verdict: Some(Verdict::Answered(rejection.status())),
            ..Self::refused(rejection)
        }
    }

    fn late() -> Self {
        let kind = SendErrorKind::Timeout;
        Self {
            rejection: Rejection::new(kind.rejection_kind()),
            name: kind.as_str(),
            details: "the upstream did not answer within requestTimeout, earlier attempts included"
                .to_owned(),
            verdict: Some(Verdict::NoAnswer),
        }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Credential(details) => Self {
                rejection: Rejection::new(RejectionKind::BadGateway),
                name: "no_credential",
                details,
                verdict: Some(Verdict::NoAnswer),
            },
            PrepareError::Refused(message) => {
                Self::not_here(Rejection::new(RejectionKind::BadRequest).with_message(message))
            }
            PrepareError::Url(error) => Self {
                rejection: Rejection::new(RejectionKind::Internal),
                name: "bad_url",
                details: error.to_string(),
                verdict: None,
            },
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self {
            rejection: error.rejection(),
            name: error.kind().as_str(),
            details: error.to_string(),
            // What the client did or did not send says nothing about the provider.
            verdict: (!matches!(
                error.kind(),
                SendErrorKind::RequestBody | SendErrorKind::RequestTimeout
            ))
            .then_some(Verdict::NoAnswer),
        }
    }
}

/// What calls need besides the question.
pub(crate) struct Caller<'a> {
    pub(crate) client: &'a HttpClient,
    pub(crate) clock: &'a dyn Clock,
}

impl Caller<'_> {
    /// Asks one provider. The head of its answer has to come before the deadline.
    pub(crate) async fn call(
        &self,
        leaf: &Leaf,
        question: &mut Question,
        merged: Merged,
        deadline: Option<Instant>,
    ) -> Result<Response<AnswerBody>, Failure> {
        let call = self.call_at_leisure(leaf, question, merged);
        match deadline {
            None => call.await,
            Some(deadline) => tokio::time::timeout_at(deadline, call)
                .await
                .unwrap_or_else(|_| Err(Failure::late())),
        }
    }

    async fn call_at_leisure(
        &self,
        leaf: &Leaf,
        question: &mut Question,
        merged: Merged,
    ) -> Result<Response<AnswerBody>, Failure> {
        let call = Call {
            endpoint: question.endpoint,
            stream: merged.stream,
            body: &merged.body,
            client: self.client,
            clock: self.clock,
        };
        let Some(prepared) = leaf.upstream.prepare(call).await else {
            let answer = echo::answer(question.endpoint, &merged.body, merged.stream, self.clock);
            return answer
                .map(|answer| answer.map(AnswerBody::Own))
                .map_err(Failure::not_here);
        };
        let Prepared {
            mut outgoing,
            headers,
            body,
            adapter,
        } = prepared?;
        if adapter.is_none() {
            outgoing = outgoing.headers_from_client(question.header());
            if let Some(query) = &question.query {
                outgoing = outgoing
                    .query_from_client(query, CREDENTIALS)
                    .map_err(|_| PrepareError::Refused("The query cannot be sent".to_owned()))?;
            }
        }
        // A compressed answer could not be read for its token counts.
        outgoing = outgoing.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(id) = &question.request_id {
            outgoing = outgoing.header(REQUEST_ID, id.as_header().clone());
        }
        for (name, value) in &*headers {
            outgoing = outgoing.header(name.clone(), value.clone());
        }
        if let Some(timeout) = leaf.timeout {
            outgoing = outgoing.timeout(timeout);
        }
        let outgoing = match (&question.content, body) {
            (_, Some(body)) => outgoing.body(body),
            (Content::Form(upload), None) => outgoing.body(upload.body()),
            (Content::Json(_) | Content::None, None) => outgoing.body(merged.body),
        };
        let answer = self.client.send(outgoing).await?;
        // Its location is an address that the client must not call, and this program does not.
        if answer.status().is_redirection() && answer.headers().contains_key(LOCATION) {
            return Err(Failure {
                rejection: Rejection::new(RejectionKind::BadGateway),
                name: SendErrorKind::Protocol.as_str(),
                details: format!(
                    "the upstream answered with a redirect ({})",
                    answer.status()
                ),
                verdict: Some(Verdict::NoAnswer),
            });
        }
        Ok(match adapter {
            Some(adapter) => adapter.adapt(answer).await?.map(AnswerBody::Adapted),
            None => answer.map(AnswerBody::Upstream),
        })
    }
}

/// The body of an answer, wherever it comes from.
pub(crate) enum AnswerBody {
    /// In the words of OpenAI's API, which the provider does not speak.
    Adapted(Adapted),
    Own(OwnBody),
    Upstream(UpstreamBody),
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        match self.get_mut() {
            Self::Adapted(body) => Pin::new(body).poll_frame(cx),
            Self::Own(body) => Pin::new(body).poll_frame(cx),
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Adapted(body) => body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Adapted(body) => body.size_hint(),
            Self::Own(body) => body.size_hint(),
            Self::Upstream(body) => body.size_hint(),
        }
    }
}

/// A body that cannot be sent twice. It stays here until the first call reads from it: until then another call
/// may have it.
#[derive(Clone)]
pub(crate) struct Upload {
    waiting: Arc<Mutex<Option<Body>>>,
    model: SeenModel,
    hint: SizeHint,
    empty: bool,
}

impl Upload {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            hint: http_body::Body::size_hint(&body),
            empty: http_body::Body::is_end_stream(&body),
            waiting: Arc::new(Mutex::new(Some(body))),
            model: SeenModel::default(),
        }
    }

    /// What its field `model` says, once that has passed.
    pub(crate) fn model(&self) -> SeenModel {
        self.model.clone()
    }

    fn take(&self) -> Option<Body> {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn is_untouched(&self) -> bool {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    fn body(&self) -> Body {
        Body::new(UploadBody {
            upload: self.clone(),
            body: None,
            search: FieldSearch::default(),
        })
    }
}

struct UploadBody {
    upload: Upload,
    body: Option<Body>,
    search: FieldSearch,
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.body.is_none() {
            this.body = this.upload.take();
        }
        match &mut this.body {
            Some(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &frame
                    && let Some(data) = frame.data_ref()
                    && let Some(model) = this.search.feed(data)
                {
                    this.upload.model.set(model);
                }
                frame.map_err(Into::into)
            }
            None => Poll::Ready(Some(Err("the body was sent elsewhere".into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Some(body) => body.is_end_stream(),
            None => self.upload.empty,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => self.upload.hint,
        }
    }
}

/// The model that a form asks for, which is known only when it has passed.
#[derive(Clone, Default)]
pub(crate) struct SeenModel(Arc<Mutex<Option<String>>>);

impl SeenModel {
    fn set(&self, model: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(model);
    }

    pub(crate) fn get(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Looks for the field `model` in a form that passes by (RFC 7578), written as the official clients write it.
struct FieldSearch {
    /// The end of what has passed: the field may have begun there.
    tail: Vec<u8>,
    /// How much will still be looked at.
    left: usize,
}

impl Default for FieldSearch {
    fn default() -> Self {
        Self {
            tail: Vec::new(),
            left: 32 * 1024 * 1024,
        }
    }
}

impl FieldSearch {
    const FIELD: &'static [u8] = b"Content-Disposition: form-data; name=\"model\"\r\n\r\n";

    /// The longest name that is read.
    const LONGEST: usize = 128;

    fn feed(&mut self, data: &[u8]) -> Option<String> {
        if self.left == 0 {
            return None;
        }
        self.left = self.left.saturating_sub(data.len());
        let joined;
        let text = if self.tail.is_empty() {
            data
        } else {
            joined = [&self.tail, data].concat();
            joined.as_slice()
        };
        let mut candidates = text
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'C')
            .map(|(at, _)| at);
        let found = candidates.find(|at| {
            text.get(*at..)
                .is_some_and(|rest| rest.starts_with(Self::FIELD))
        });
        if let Some(at) = found {
            let value = text.get(at + Self::FIELD.len()..).unwrap_or_default();
            let end = value.windows(2).position(|pair| pair == b"\r\n");
            if end.is_none() && value.len() <= Self::LONGEST {
                self.tail = text.get(at..).unwrap_or_default().to_vec();
                return None;
            }
            self.left = 0;
            self.tail = Vec::new();
            let value = value.get(..end?.min(Self::LONGEST))?;
            return Some(String::from_utf8_lossy(value).into_owned());
        }
        let keep = text.len().min(Self::FIELD.len() - 1);
        self.tail = text.get(text.len() - keep..).unwrap_or_default().to_vec();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_a_form_is_found_however_it_is_cut() {
        let form = b"--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nCCC\r\n--b\r\n\
            Content-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b--\r\n";
        for size in 1..=form.len() {
            let mut search = FieldSearch::default();
            let found: Vec<_> = form
                .chunks(size)
                .filter_map(|part| search.feed(part))
                .collect();
            assert_eq!(found, ["whisper-1"], "pieces of {size}");
        }
        let mut search = FieldSearch::default();
        let endless = [FieldSearch::FIELD, &[b'x'; 500]].concat();
        assert_eq!(search.feed(&endless), None);
        assert!(search.tail.is_empty());
    }
}
