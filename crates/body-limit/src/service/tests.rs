use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full};
use proptest::prelude::*;
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::{BodyLimitConfig, BodyLimitLayer, ByteSize, LengthLimitError};

/// A body of unknown length that counts how often it is asked for a part.
struct Chunked {
    chunks: Vec<Bytes>,
    trailers: bool,
    asked: Arc<AtomicUsize>,
}

impl Chunked {
    fn new(sizes: &[usize]) -> (Self, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let body = Self {
            chunks: sizes
                .iter()
                .rev()
                .map(|len| vec![b'x'; *len].into())
                .collect(),
            trailers: true,
            asked: Arc::clone(&asked),
        };
        (body, asked)
    }
}

impl Body for Chunked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.asked.fetch_add(1, Relaxed);
        if let Some(chunk) = self.chunks.pop() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let trailers = std::mem::take(&mut self.trailers);
        Poll::Ready(trailers.then(|| Ok(Frame::trailers(HeaderMap::new()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn layer() -> BodyLimitLayer {
    let config = BodyLimitConfig {
        json: ByteSize::new(10),
        ..BodyLimitConfig::default()
    };
    BodyLimitLayer::new(BodyLimitPolicy::try_from(config).unwrap())
}

/// The answer of a service that reads the whole body and tells its length.
async fn answer<B>(request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let service = layer().layer(service_fn(|request: Request<Limited<B>>| async {
        let (status, text) = match request.into_body().collect().await {
            Ok(body) => (200, body.to_bytes().len().to_string()),
            Err(error) => (500, LengthLimitError::caused(&*error).to_string()),
        };
        Ok::<_, Infallible>(
            Response::builder()
                .status(status)
                .body(Full::from(text))
                .unwrap(),
        )
    }));
    service.oneshot(request).await.unwrap()
}

fn json() -> http::request::Builder {
    Request::post("/").header("content-type", "application/json")
}

#[tokio::test]
async fn declared_and_chunked_bodies_end_at_the_same_limit() {
    for (len, status) in [(9, 200), (10, 200), (11, 413)] {
        let declared = json()
            .header("content-length", len)
            .body(Full::from(vec![b'x'; len]))
            .unwrap();
        assert_eq!(answer(declared).await.status(), status, "declared {len}");
        let (chunked, _) = Chunked::new(&[4, len - 4]);
        let response = answer(json().body(chunked).unwrap()).await;
        assert_eq!(response.status(), status, "chunked {len}");
        if status == 413 {
            assert_eq!(response.headers()["connection"], "close");
            let kind = response.extensions().get::<Rejection>().unwrap().kind();
            assert_eq!(kind, RejectionKind::PayloadTooLarge);
        }
    }
}

#[tokio::test]
async fn a_declared_excess_is_not_read_and_a_chunked_one_no_further() {
    let (body, asked) = Chunked::new(&[4, 4]);
    let response = answer(json().header("content-length", 11).body(body).unwrap()).await;
    assert_eq!((response.status().as_u16(), asked.load(Relaxed)), (413, 0));

    let (body, asked) = Chunked::new(&[4, 4, 4, 4, 4]);
    assert_eq!(answer(json().body(body).unwrap()).await.status(), 413);
    assert_eq!(asked.load(Relaxed), 3);
}

#[tokio::test]
async fn a_body_that_lies_about_its_length_is_cut_too() {
    let (body, _) = Chunked::new(&[8, 8]);
    let response = answer(json().header("content-length", 8).body(body).unwrap()).await;
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn http2_connections_stay_open() {
    let request = json()
        .version(Version::HTTP_2)
        .header("content-length", 11)
        .body(Full::<Bytes>::default());
    let response = answer(request.unwrap()).await;
    assert_eq!(response.status(), 413);
    assert!(!response.headers().contains_key("connection"));
}

#[tokio::test]
async fn unclear_lengths_are_400() {
    let request = json()
        .header("content-length", "5")
        .header("content-length", "5")
        .body(Full::<Bytes>::default());
    assert_eq!(answer(request.unwrap()).await.status(), 400);
}

#[tokio::test]
async fn an_answer_given_before_the_excess_stands() {
    let (body, _) = Chunked::new(&[4, 4, 4]);
    let plain = |rejection: &Rejection, _: Option<&RequestId>| -> Response<Limited<Chunked>> {
        panic!("refused: {rejection}")
    };
    let echo = service_fn(|request: Request<Limited<Chunked>>| async {
        Ok::<_, Infallible>(Response::new(request.into_body()))
    });
    let response = layer()
        .rendering(plain)
        .layer(echo)
        .oneshot(json().body(body).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let error = response
        .into_body()
        .collect()
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(LengthLimitError::caused(&*error));
}

#[tokio::test]
async fn requests_without_a_body_pass_without_a_flag() {
    let body = Limited::new(Empty::<Bytes>::new(), 10);
    assert!(body.exceeded().is_none() && body.is_end_stream());
    let body = Limited::new(Full::<Bytes>::from("0123456789"), 10);
    assert!(body.exceeded().is_none());
    assert_eq!(body.size_hint().exact(), Some(10));
    let (chunked, _) = Chunked::new(&[1]);
    let body = Limited::new(chunked, 10);
    assert!(body.exceeded().is_some());
    assert_eq!(body.size_hint().upper(), Some(10));
}

#[tokio::test]
async fn trailers_pass() {
    let (chunked, _) = Chunked::new(&[10]);
    let collected = Limited::new(chunked, 10).collect().await.unwrap();
    assert!(collected.trailers().is_some());
    assert_eq!(collected.to_bytes().len(), 10);
}

#[tokio::test]
async fn errors_of_the_inner_service_pass_untouched() {
    let service = layer().layer(service_fn(|_: Request<Limited<Full<Bytes>>>| async {
        Err::<Response<Full<Bytes>>, _>("as it was")
    }));
    let request = json().body(Full::<Bytes>::default()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap_err(), "as it was");
}

#[tokio::test]
async fn another_renderer_may_answer() {
    let plain = |rejection: &Rejection, _: Option<&RequestId>| {
        let mut response = Response::new(Full::from(rejection.message().to_owned()));
        *response.status_mut() = rejection.status();
        response
    };
    let service =
        layer()
            .rendering(plain)
            .layer(service_fn(|_: Request<Limited<Full<Bytes>>>| async {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            }));
    let request = json()
        .header("content-length", 11)
        .body(Full::<Bytes>::default())
        .unwrap();
    let body = service.oneshot(request).await.unwrap().into_body();
    assert_eq!(
        body.collect().await.unwrap().to_bytes(),
        "request entity too large"
    );
}

proptest! {
    #[test]
    fn whatever_the_chunks_never_more_than_the_limit_passes(
        sizes in prop::collection::vec(0_usize..40, 0..20),
        limit in 0_u64..200,
    ) {
        let total: usize = sizes.iter().sum();
        let (body, _) = Chunked::new(&sizes);
        let mut body = Limited::new(body, limit);
        let run = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (passed, failed) = run.block_on(async {
            let mut passed = 0;
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => passed += frame.data_ref().map_or(0, Bytes::len),
                    Err(error) => return (passed, LengthLimitError::caused(&*error)),
                }
            }
            (passed, false)
        });
        prop_assert!(passed as u64 <= limit);
        prop_assert_eq!(failed, total as u64 > limit);
        prop_assert!(failed || passed == total);
    }
}
