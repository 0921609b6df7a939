use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{AUTHORIZATION, CACHE_CONTROL, Entry as HeaderEntry};
use http::{HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use proactions_edge::{Exchange, Principal, RenderRejection, RequestId};
use tower_service::Service;

use crate::entry::Entry;

pin_project! {
    /// The answer of the inner service, or a refusal.
    ///
    /// It reads the session, checks, writes the session and calls the inner service, in this order; each of them
    /// is a named state, and nothing is boxed unless a store or an authenticator needs I/O. What needs none was
    /// decided before there was a future.
    pub struct AuthFuture<S, ReqBody, ResBody, R>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, ReqBody, ResBody, R, S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, ReqBody, ResBody, R, F> {
        // Boxed, because it is large, and there is I/O behind it.
        Entering { entering: Box<Entering<S, ReqBody, R>> },
        Calling { #[pin] future: F, authenticated: bool },
        Refused { response: Option<Response<ResBody>> },
    }
}

struct Entering<S, ReqBody, R> {
    entry: Entry,
    waiting: Option<Waiting<S, ReqBody>>,
    renderer: R,
}

struct Waiting<S, ReqBody> {
    service: S,
    request: Request<ReqBody>,
}

impl<S, ReqBody, ResBody, R> AuthFuture<S, ReqBody, ResBody, R>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) const fn calling(future: S::Future) -> Self {
        Self {
            state: State::Calling {
                future,
                authenticated: false,
            },
        }
    }

    pub(crate) const fn admitted(future: S::Future) -> Self {
        Self {
            state: State::Calling {
                future,
                authenticated: true,
            },
        }
    }

    pub(crate) fn entering(
        entry: Entry,
        service: S,
        request: Request<ReqBody>,
        renderer: R,
    ) -> Self {
        Self {
            state: State::Entering {
                entering: Box::new(Entering {
                    entry,
                    waiting: Some(Waiting { service, request }),
                    renderer,
                }),
            },
        }
    }

    pub(crate) const fn refused(response: Response<ResBody>) -> Self {
        Self {
            state: State::Refused {
                response: Some(response),
            },
        }
    }
}

impl<S, ReqBody, ResBody, R> Future for AuthFuture<S, ReqBody, ResBody, R>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    R: RenderRejection<ResBody>,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Entering { entering } => {
                    let Entering {
                        entry,
                        waiting,
                        renderer,
                    } = &mut **entering;
                    let request_id = waiting
                        .as_ref()
                        .and_then(|waiting| waiting.request.extensions().get::<RequestId>());
                    let outcome = ready!(entry.poll(cx, request_id));
                    match (outcome, waiting.take()) {
                        (Ok(principal), Some(mut waiting)) => {
                            admit(&mut waiting.request, principal);
                            State::Calling {
                                future: waiting.service.call(waiting.request),
                                authenticated: true,
                            }
                        }
                        (Err(rejection), Some(waiting)) => {
                            let request_id = waiting.request.extensions().get::<RequestId>();
                            State::Refused {
                                response: Some(rejection.into_response(&*renderer, request_id)),
                            }
                        }
                        // Polled after its end.
                        (_, None) => return Poll::Pending,
                    }
                }
                StateProj::Calling {
                    future,
                    authenticated,
                } => {
                    // Changed where it is: taken out and put back, an answer is copied twice.
                    let mut polled = future.poll(cx);
                    if let Poll::Ready(Ok(response)) = &mut polled
                        && *authenticated
                        && let HeaderEntry::Vacant(vacant) =
                            response.headers_mut().entry(CACHE_CONTROL)
                    {
                        vacant.insert(HeaderValue::from_static("no-store"));
                    }
                    return polled;
                }
                StateProj::Refused { response } => {
                    return response
                        .take()
                        .map_or(Poll::Pending, |response| Poll::Ready(Ok(response)));
                }
            };
            state.set(next);
        }
    }
}

impl<S, ReqBody, ResBody, R> fmt::Debug for AuthFuture<S, ReqBody, ResBody, R>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFuture").finish_non_exhaustive()
    }
}

/// The request as the inner service gets it: who it is instead of what proves it.
pub(crate) fn admit<B>(request: &mut Request<B>, principal: Principal) {
    request.headers_mut().remove(AUTHORIZATION);
    if let Some(exchange) = request.extensions().get::<Exchange>() {
        exchange.note_principal(principal.clone());
    }
    request.extensions_mut().insert(principal);
}
