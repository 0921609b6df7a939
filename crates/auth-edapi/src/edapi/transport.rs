use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tower_service::Service;

use super::wire::Fault;

/// What carries calls to EDAPI. Boxed: a call over the network is behind it, and whoever holds an
/// authenticator need not know what kind of client it has.
pub(super) struct Transport(Box<dyn Dispatch>);

pub(super) type AnswerBody = UnsyncBoxBody<Bytes, BoxError>;

type BoxError = Box<dyn Error + Send + Sync>;
type Call = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, BoxError>> + Send>>;

trait Dispatch: Send + Sync {
    fn dispatch(&self, request: Request<Bytes>) -> Call;
}

struct Client<C, B> {
    client: C,
    body: PhantomData<fn(B)>,
}

impl Transport {
    pub(super) fn new<C, B, ResB>(client: C) -> Self
    where
        C: Service<Request<B>, Response = Response<ResB>> + Clone + Send + Sync + 'static,
        C::Error: Into<BoxError>,
        C::Future: Send,
        B: From<Bytes> + Send + 'static,
        ResB: Body<Data = Bytes> + Send + 'static,
        ResB::Error: Into<BoxError>,
    {
        let body = PhantomData;
        Self(Box::new(Client { client, body }))
    }

    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let answer = self.0.dispatch(request).await;
        answer.map_err(|error| Fault::Unreachable(cause(&*error)))
    }
}

impl<C, B, ResB> Dispatch for Client<C, B>
where
    C: Service<Request<B>, Response = Response<ResB>> + Clone + Send + Sync + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
    B: From<Bytes> + Send + 'static,
    ResB: Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
{
    fn dispatch(&self, request: Request<Bytes>) -> Call {
        let mut client = self.client.clone();
        Box::pin(async move {
            poll_fn(|cx| client.poll_ready(cx))
                .await
                .map_err(Into::<BoxError>::into)?;
            let response = client
                .call(request.map(B::from))
                .await
                .map_err(Into::<BoxError>::into)?;
            Ok(response.map(|body| body.map_err(Into::<BoxError>::into).boxed_unsync()))
        })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport(..)")
    }
}

/// What the operating system or the TLS library said: the innermost I/O error. Nothing else of a client's error
/// is taken, because clients put the URL into theirs, and the URL may hold the token.
fn cause(error: &(dyn Error + 'static)) -> Option<Box<str>> {
    let mut innermost = None;
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        innermost = io.map(ToString::to_string).or(innermost);
        next = error.source();
    }
    let text: String = innermost?.chars().take(200).collect();
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As clients build theirs.
    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("error sending request for url (https://edapi/v3/user/me?token=hunter2)")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_cause_is_the_systems_and_never_the_url() {
        let outer = Outer(io::Error::other("invalid peer certificate: UnknownIssuer"));
        assert_eq!(
            cause(&outer).as_deref(),
            Some("invalid peer certificate: UnknownIssuer")
        );
        assert_eq!(cause(&fmt::Error), None);
    }
}
