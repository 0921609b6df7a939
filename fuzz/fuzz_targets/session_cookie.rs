//! The session's cookie among others. Input: values of `Cookie` fields, a line each. `$1` and `$2` stand for values
//! that are signed with the ring's first and second secret, `$3` for one of somebody else's.
#![no_main]

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderValue, Request, Response};
use libfuzzer_sys::fuzz_target;
use proactions_edge::SecretString;
use proactions_fuzz::{now, percent_decode};
use proactions_session_store::{
    CookiePolicy, KeyRing, Record, Session, SessionId, SessionLayer, SessionPolicy, SessionStore,
    StoreFuture, Stored,
};
use tower_layer::Layer;
use tower_service::Service;

const NAME: &str = CookiePolicy::PLAIN_NAME;

/// As many cookies of the session's name are looked at.
const MAX_CANDIDATES: usize = 4;

struct Fixture {
    keys: KeyRing,
    /// Values, and the ids that they carry.
    signed: [(String, SessionId); 2],
    foreign: String,
    store: Arc<Asked>,
    layer: SessionLayer,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let secret = |text: &str| SecretString::from(text);
    let (first, second) = (
        secret("the first secret of at least 32 bytes"),
        secret("the second secret of at least 32 bytes"),
    );
    let other = secret("somebody else's secret of at least 32 bytes");
    let ring =
        |secrets: &[&SecretString]| KeyRing::new(secrets.iter().copied()).expect("long enough");
    let id = |text: &str| SessionId::from_bytes(text.as_bytes()).expect("plain");
    let keys = ring(&[&first, &second]);
    let store = Arc::new(Asked::default());
    let policy = SessionPolicy::new(keys.clone(), CookiePolicy::default().dangerous_insecure());
    Fixture {
        signed: [
            (
                ring(&[&first]).sign(&id("one/of+these")),
                id("one/of+these"),
            ),
            (ring(&[&second]).sign(&id("two.parts")), id("two.parts")),
        ],
        foreign: ring(&[&other]).sign(&id("one/of+these")),
        layer: SessionLayer::new(policy, store.clone()),
        store,
        keys,
    }
});

fuzz_target!(|data: &[u8]| {
    let fixture = &*FIXTURE;
    let text = expand(data, fixture);

    // A value is good only if it says, decoded, what a secret of the ring has signed.
    let value = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if let Some(id) = fixture.keys.verify(value) {
        assert!(is_signed(fixture, value), "{id:?}");
    }
    if let Some(id) = SessionId::from_bytes(data) {
        let signed = fixture.keys.sign(&id);
        assert_eq!(fixture.keys.verify(signed.as_bytes()), Some(id));
        assert!(HeaderValue::from_str(&signed).is_ok());
    }

    let mut request = Request::new(());
    for line in text.split(|byte| *byte == b'\n').take(20) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            request.headers_mut().append(COOKIE, value);
        }
    }
    let sent = cookies(&request);
    let candidates: Vec<_> = sent
        .iter()
        .filter(|cookie| name_of(cookie) == Some(NAME.as_bytes()) && cookie.len() > NAME.len() + 1)
        .map(|cookie| &cookie[NAME.len() + 1..])
        .collect();
    let mut good = candidates.iter().filter(|value| is_signed(fixture, value));
    let expected = match (good.next(), good.next()) {
        (Some(only), None) if candidates.len() <= MAX_CANDIDATES => signed_id(fixture, only),
        _ => None,
    };

    fixture.store.take();
    let mut service = fixture.layer.layer(Inner);
    let left = now(service.call(request)).expect("infallible").into_body();
    let asked = fixture.store.take();
    assert_eq!(asked, Vec::from_iter(expected), "{}", text.escape_ascii());

    // The session's cookies are gone when there was one, the others are there in their order.
    let others = sent
        .iter()
        .filter(|cookie| name_of(cookie) != Some(NAME.as_bytes()));
    let others: Vec<_> = others
        .filter(|cookie| !cookie.is_empty())
        .cloned()
        .collect();
    let left: Vec<_> = left
        .into_iter()
        .filter(|cookie| !cookie.is_empty())
        .collect();
    if candidates.is_empty() {
        assert_eq!(
            left,
            sent.into_iter()
                .filter(|cookie| !cookie.is_empty())
                .collect::<Vec<_>>()
        );
    } else {
        assert_eq!(left, others);
    }
});

fn expand(data: &[u8], fixture: &Fixture) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = data.iter();
    while let Some(byte) = rest.next() {
        let value = match (byte, rest.as_slice().first()) {
            (b'$', Some(b'1')) => &fixture.signed[0].0,
            (b'$', Some(b'2')) => &fixture.signed[1].0,
            (b'$', Some(b'3')) => &fixture.foreign,
            _ => {
                text.push(*byte);
                continue;
            }
        };
        rest.next();
        text.extend_from_slice(value.as_bytes());
    }
    text
}

fn signed_id(fixture: &Fixture, value: &[u8]) -> Option<SessionId> {
    let decoded = percent_decode(value)?;
    let same = |signed: &str| percent_decode(signed.as_bytes()).as_ref() == Some(&decoded);
    fixture
        .signed
        .iter()
        .find(|(signed, _)| same(signed))
        .map(|(_, id)| id.clone())
}

fn is_signed(fixture: &Fixture, value: &[u8]) -> bool {
    signed_id(fixture, value).is_some()
}

fn cookies<B>(request: &Request<B>) -> Vec<Vec<u8>> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let trimmed = |part: &[u8]| {
        let start = part
            .iter()
            .position(|byte| !blank(byte))
            .unwrap_or(part.len());
        let end = part
            .iter()
            .rposition(|byte| !blank(byte))
            .map_or(start, |at| at + 1);
        part[start..end].to_vec()
    };
    let lines = request.headers().get_all(COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';').map(trimmed))
        .collect()
}

fn name_of(cookie: &[u8]) -> Option<&[u8]> {
    cookie
        .iter()
        .position(|byte| *byte == b'=')
        .map(|end| &cookie[..end])
}

/// Asks for the session, and answers with the cookies that it was given.
struct Inner;

impl Service<Request<()>> for Inner {
    type Response = Response<Vec<Vec<u8>>>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        Box::pin(async move {
            let session = request
                .extensions()
                .get::<Session>()
                .expect("the layer inserts it");
            session.load().await.expect("the store answers");
            Ok(Response::new(cookies(&request)))
        })
    }
}

/// A store without records that notes which ones it is asked for.
#[derive(Debug, Default)]
struct Asked(Mutex<Vec<SessionId>>);

impl Asked {
    fn take(&self) -> Vec<SessionId> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SessionStore for Asked {
    fn create(&self, _: &SessionId, _: Arc<Record>, _: Duration) -> StoreFuture<()> {
        StoreFuture::ready(Ok(()))
    }

    fn load(&self, id: &SessionId) -> StoreFuture<Option<Stored>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(id.clone());
        StoreFuture::ready(Ok(None))
    }

    fn save(&self, _: &SessionId, _: Arc<Record>, _: Arc<Record>, _: Duration) -> StoreFuture<()> {
        StoreFuture::ready(Ok(()))
    }

    fn touch(&self, _: &SessionId, _: Duration) -> StoreFuture<bool> {
        StoreFuture::ready(Ok(false))
    }

    fn destroy(&self, _: &SessionId) -> StoreFuture<()> {
        StoreFuture::ready(Ok(()))
    }
}
