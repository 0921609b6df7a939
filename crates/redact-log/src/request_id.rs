//! A name for each exchange.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use proactions_edge::{ClientInfo, RequestId};
use tower_layer::Layer;
use tower_service::Service;

/// The header that carries the id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives each exchange a [`RequestId`]: in the request's extensions and in the answer's `x-request-id`.
///
/// The id that a request brings is taken over only if a trusted proxy brought it (see
/// [`ClientInfo::trusted_hops`]), it comes once, and it is plain; everybody else could forge the trail. The
/// request's own header is left as it is.
#[derive(Clone, Debug)]
pub struct RequestIdLayer {
    ids: Arc<Ids>,
}

impl RequestIdLayer {
    /// A layer whose ids differ from those of every other process and layer.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self {
            ids: Arc::new(Ids::random()?),
        })
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestIdService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestIdService {
            inner,
            ids: Arc::clone(&self.ids),
        }
    }
}

/// The service of [`RequestIdLayer`].
#[derive(Clone, Debug)]
pub struct RequestIdService<S> {
    inner: S,
    ids: Arc<Ids>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequestIdService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = RequestIdFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let is_trusted = request
            .extensions()
            .get::<ClientInfo>()
            .is_some_and(|client| client.trusted_hops > 0);
        let id = is_trusted
            .then(|| taken_over(request.headers()))
            .flatten()
            .or_else(|| self.ids.next());
        let header = id.as_ref().map(|id| id.as_header().clone());
        if let Some(id) = id {
            request.extensions_mut().insert(id);
        }
        RequestIdFuture {
            inner: self.inner.call(request),
            header,
        }
    }
}

fn taken_over(headers: &HeaderMap) -> Option<RequestId> {
    let mut values = headers.get_all(X_REQUEST_ID).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    RequestId::from_header(value.clone())
}

pin_project! {
    /// The future of [`RequestIdService`].
    #[derive(Debug)]
    pub struct RequestIdFuture<F> {
        #[pin]
        inner: F,
        header: Option<HeaderValue>,
    }
}

impl<F, B, E> Future for RequestIdFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(header)) = (&mut result, this.header.take()) {
            response.headers_mut().insert(X_REQUEST_ID, header);
        }
        Poll::Ready(result)
    }
}

/// Ids of 32 hexadecimal digits: 64 random bits of this process, and a counter that is scrambled so that
/// neighbours look different. They are unique, and that is all: whoever sees one can tell the next.
struct Ids {
    process: u64,
    counter: AtomicU64,
}

const ID_LEN: usize = 32;

/// A thread makes room for this many ids at once, which saves an allocation for each.
const IDS_A_SLAB: usize = 32;

thread_local! {
    static SLAB: RefCell<BytesMut> = RefCell::default();
}

impl Ids {
    fn random() -> Result<Self, getrandom::Error> {
        Ok(Self {
            process: getrandom::u64()?,
            counter: AtomicU64::new(getrandom::u64()?),
        })
    }

    fn next(&self) -> Option<RequestId> {
        let count = scrambled(self.counter.fetch_add(1, Ordering::Relaxed));
        let mut id = [0; ID_LEN];
        let digits = (u128::from(self.process) << 64) | u128::from(count);
        let hex = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        for (pair, byte) in id
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(digits.to_be_bytes())
        {
            *pair = [hex(byte >> 4), hex(byte & 0xf)];
        }
        let bytes = SLAB
            .try_with(|slab| {
                let mut slab = slab.borrow_mut();
                if slab.capacity() < ID_LEN {
                    *slab = BytesMut::with_capacity(ID_LEN * IDS_A_SLAB);
                }
                slab.put_slice(&id);
                slab.split_to(ID_LEN).freeze()
            })
            .ok()?;
        HeaderValue::from_maybe_shared(bytes)
            .ok()
            .and_then(RequestId::from_header)
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}

/// The finaliser of SplitMix64: every number has exactly one image, so unique stays unique.
const fn scrambled(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;
    use std::net::{IpAddr, Ipv4Addr};

    use proactions_edge::Scheme;
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn seen(headers: &[&'static str], hops: usize) -> (String, Vec<HeaderValue>) {
        let service =
            RequestIdLayer::new()
                .unwrap()
                .layer(service_fn(|request: Request<()>| async move {
                    let id = request.extensions().get::<RequestId>().unwrap().to_string();
                    let mut response = Response::new(id);
                    response
                        .headers_mut()
                        .append(X_REQUEST_ID, HeaderValue::from_static("upstream"));
                    Ok::<_, Infallible>(response)
                }));
        let mut request = Request::new(());
        for value in headers {
            request
                .headers_mut()
                .append(X_REQUEST_ID, HeaderValue::from_static(value));
        }
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        request
            .extensions_mut()
            .insert(ClientInfo::new(ip, Scheme::Http, None, hops));
        let response = service.oneshot(request).await.unwrap();
        let answered = response
            .headers()
            .get_all(X_REQUEST_ID)
            .iter()
            .cloned()
            .collect();
        (response.into_body(), answered)
    }

    #[tokio::test]
    async fn an_id_is_believed_from_a_trusted_proxy_only() {
        for (headers, hops, taken) in [
            (&["abc"][..], 1, true),
            (&["abc"], 0, false),
            (&["a b"], 1, false),
            (&["abc", "abc"], 1, false),
            (&[], 1, false),
        ] {
            let (id, answered) = seen(headers, hops).await;
            assert_eq!(id == "abc", taken, "{headers:?} {hops}");
            assert_eq!(answered, [id.as_str()]);
        }
    }

    #[test]
    fn ids_are_unique_and_plain() {
        let ids = Ids::random().unwrap();
        let made: HashSet<String> = (0..10_000)
            .map(|_| ids.next().unwrap().to_string())
            .collect();
        assert_eq!(made.len(), 10_000);
        let is_plain = |id: &String| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(made.iter().all(is_plain));
    }
}
