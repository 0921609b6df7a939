use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http::header::SET_COOKIE;
use pin_project_lite::pin_project;

use crate::Session;
use crate::commit::Commit;
use crate::session::Scope;

pin_project! {
    /// The answer of the inner service, held back until the session is written.
    pub struct SessionFuture<F, B> {
        #[pin]
        inner: F,
        session: Session,
        // Boxed, because it is rare, and every layer further out would carry the room for it.
        writing: Option<Box<Writing<B>>>,
    }
}

struct Writing<B> {
    response: Response<B>,
    commit: Commit,
}

impl<F, B> SessionFuture<F, B> {
    pub(crate) const fn new(inner: F, session: Session) -> Self {
        Self {
            inner,
            session,
            writing: None,
        }
    }
}

impl<F, B, E> Future for SessionFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.writing.is_none() {
            // Changed where it is: taken out and put back, an answer is copied twice.
            let mut polled = this.inner.poll(cx);
            let Poll::Ready(Ok(response)) = &mut polled else {
                return polled;
            };
            let scope = if response.status().is_server_error() {
                Scope::Removals
            } else {
                Scope::All
            };
            let commit = Commit::new(this.session, scope);
            if !commit.is_due() {
                finish(this.session, response);
                return polled;
            }
            let response = ready!(polled)?;
            *this.writing = Some(Box::new(Writing { response, commit }));
        }
        if let Some(writing) = this.writing.as_mut()
            && let Err(error) = ready!(Pin::new(&mut writing.commit).poll(cx))
        {
            // The work is done and the answer is true; only the session is lost.
            tracing::error!(
                session = ?this.session,
                error = &error as &dyn std::error::Error,
                "A session could not be written"
            );
        }
        match this.writing.take() {
            Some(writing) => {
                let mut response = writing.response;
                finish(this.session, &mut response);
                Poll::Ready(Ok(response))
            }
            // Polled after its end.
            None => Poll::Pending,
        }
    }
}

impl<F, B> std::fmt::Debug for SessionFuture<F, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionFuture").finish_non_exhaustive()
    }
}

fn finish<B>(session: &Session, response: &mut Response<B>) {
    if let Some(cookie) = session.take_cookie() {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}
