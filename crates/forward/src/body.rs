use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Any error that a body can fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One concrete body for everything that comes in and goes out.
///
/// It is `Send` and `Unpin`, not `Sync`. A body that is already one of the variants is not boxed again.
///
/// ```
/// use proactions_forward::Body;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let body = Body::from("hello");
/// assert_eq!(body.collect_up_to(5).await?, "hello");
/// assert!(Body::from("hello").collect_up_to(4).await.unwrap_err().is_too_large());
/// # Ok::<_, proactions_forward::CollectError>(()) }).unwrap();
/// ```
pub struct Body(Kind);

enum Kind {
    Empty,
    Full(Option<Bytes>),
    Incoming(Incoming),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// A body without a byte.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// Wraps any body; one that is a [`Body`] or hyper's own is not boxed.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut slot = Some(body);
        let any: &mut dyn Any = &mut slot;
        if let Some(body) = any.downcast_mut::<Option<Self>>().and_then(Option::take) {
            return body;
        }
        if let Some(body) = any
            .downcast_mut::<Option<Incoming>>()
            .and_then(Option::take)
        {
            return Self(Kind::Incoming(body));
        }
        match slot {
            Some(body) => Self(Kind::Boxed(Box::pin(body.map_err(Into::into)))),
            None => Self::empty(),
        }
    }

    /// Whether all of it is in memory.
    pub(crate) const fn is_whole(&self) -> bool {
        matches!(self.0, Kind::Empty | Kind::Full(_))
    }

    /// Reads the whole body if it has at most `limit` bytes. A body that says that it is longer is not read.
    ///
    /// # Errors
    /// When it is longer, or when it breaks off.
    pub async fn collect_up_to(mut self, limit: usize) -> Result<Bytes, CollectError> {
        if self.size_hint().lower() > limit as u64 {
            return Err(CollectError(Fault::TooLarge));
        }
        if let Kind::Full(bytes) = &mut self.0 {
            return Ok(bytes.take().unwrap_or_default());
        }
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let frame = frame.map_err(|error| CollectError(Fault::Broken(error)))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if first.len() + rest.len() + data.len() > limit {
                return Err(CollectError(Fault::TooLarge));
            }
            // A body of one frame is handed on without a copy.
            if first.is_empty() && rest.is_empty() {
                first = data;
                continue;
            }
            if !first.is_empty() {
                let expected = usize::try_from(self.size_hint().lower()).unwrap_or(limit);
                rest.reserve((first.len() + data.len() + expected).min(limit));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(data.chunk());
        }
        Ok(if rest.is_empty() {
            first
        } else {
            rest.freeze()
        })
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Incoming(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Kind::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Incoming(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::empty();
        }
        Self(Kind::Full(Some(bytes)))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::from(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        Self(Kind::Incoming(body))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Empty => "Body(empty)",
            Kind::Full(_) => "Body(full)",
            Kind::Incoming(_) => "Body(incoming)",
            Kind::Boxed(_) => "Body(boxed)",
        })
    }
}

/// Why a body could not be collected.
#[derive(Debug)]
pub struct CollectError(Fault);

#[derive(Debug)]
enum Fault {
    Broken(BoxError),
    TooLarge,
}

impl CollectError {
    /// Whether the body is longer than the limit; otherwise it broke off.
    #[must_use]
    pub const fn is_too_large(&self) -> bool {
        matches!(self.0, Fault::TooLarge)
    }
}

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Fault::Broken(_) => "the body broke off",
            Fault::TooLarge => "the body is too large",
        })
    }
}

impl std::error::Error for CollectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Fault::Broken(error) => Some(&**error),
            Fault::TooLarge => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use super::*;

    fn frames(parts: Vec<Vec<u8>>) -> Body {
        let parts: VecDeque<_> = parts.into();
        Body::new(StreamBody::new(futures_util::stream::iter(
            parts
                .into_iter()
                .map(|part| Ok::<_, BoxError>(Frame::data(Bytes::from(part)))),
        )))
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_body_is_not_boxed_twice() {
        let body = Body::new(Body::new(Body::from("a")));
        assert_eq!(format!("{body:?}"), "Body(full)");
    }

    #[test]
    fn a_broken_body_is_not_a_large_one() {
        let broken = StreamBody::new(futures_util::stream::iter([
            Ok(Frame::data(Bytes::from_static(b"a"))),
            Err(BoxError::from("gone")),
        ]));
        let error = block_on(Body::new(broken).collect_up_to(100)).unwrap_err();
        assert_eq!(error.to_string(), "the body broke off");
    }

    proptest! {
        #[test]
        fn collecting_keeps_bytes_and_limit(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9), limit in 0_usize..40) {
            let whole = parts.concat();
            match block_on(frames(parts).collect_up_to(limit)) {
                Ok(bytes) => prop_assert_eq!(&bytes[..], &whole[..]),
                Err(error) => prop_assert!(error.is_too_large() && whole.len() > limit),
            }
        }
    }
}
