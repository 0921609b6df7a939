use std::convert::Infallible;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response, StatusCode};
use proactions_edge::{ClientInfo, Clock, ManualClock, Peer, Scheme};
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;

use crate::*;

mod behaviour;

const HOUR: Duration = Duration::from_secs(3600);

/// A store that counts, and fails or collides when told to.
#[derive(Debug)]
struct Probe {
    inner: MemoryStore,
    calls: Mutex<Vec<&'static str>>,
    failure: Mutex<Option<StoreErrorKind>>,
    collisions: AtomicUsize,
}

impl Probe {
    fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn fail(&self, kind: Option<StoreErrorKind>) {
        *self.failure.lock().unwrap() = kind;
    }

    fn answer<T: Send + 'static>(
        &self,
        call: &'static str,
        answer: impl FnOnce() -> StoreFuture<T>,
    ) -> StoreFuture<T> {
        self.calls.lock().unwrap().push(call);
        if let Some(kind) = *self.failure.lock().unwrap() {
            return StoreFuture::ready(Err(StoreError::new(kind)));
        }
        let answer = answer();
        // As a server on the network would: not at once.
        StoreFuture::boxed(async move {
            tokio::task::yield_now().await;
            answer.await
        })
    }
}

impl SessionStore for Probe {
    fn create(&self, id: &SessionId, record: Arc<Record>, ttl: Duration) -> StoreFuture<()> {
        self.answer("create", || {
            let collide = self
                .collisions
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            if collide.is_ok() {
                return StoreFuture::ready(Err(StoreError::new(StoreErrorKind::Conflict)));
            }
            self.inner.create(id, record, ttl)
        })
    }

    fn load(&self, id: &SessionId) -> StoreFuture<Option<Stored>> {
        self.answer("load", || self.inner.load(id))
    }

    fn save(
        &self,
        id: &SessionId,
        record: Arc<Record>,
        seen: Arc<Record>,
        ttl: Duration,
    ) -> StoreFuture<()> {
        self.answer("save", || self.inner.save(id, record, seen, ttl))
    }

    fn touch(&self, id: &SessionId, ttl: Duration) -> StoreFuture<bool> {
        self.answer("touch", || self.inner.touch(id, ttl))
    }

    fn destroy(&self, id: &SessionId) -> StoreFuture<()> {
        self.answer("destroy", || self.inner.destroy(id))
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    store: Arc<Probe>,
    layer: SessionLayer,
    keys: KeyRing,
}

impl Bench {
    fn new() -> Self {
        Self::with(|policy| policy)
    }

    fn with(change: impl FnOnce(SessionPolicy) -> SessionPolicy) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(Probe {
            inner: MemoryStore::with_clock(1000, clock.clone()),
            calls: Mutex::default(),
            failure: Mutex::default(),
            collisions: AtomicUsize::new(0),
        });
        let keys = KeyRing::unchecked(["keyboard cat"]);
        let policy = change(SessionPolicy::new(keys.clone(), CookiePolicy::default()));
        let layer = SessionLayer::with_clock(policy, store.clone(), clock.clone());
        Self {
            clock,
            store,
            layer,
            keys,
        }
    }

    /// Sends a request over HTTPS and lets `work` act on its session.
    async fn send<F>(&self, cookie: Option<&str>, work: impl FnOnce(Session) -> F) -> Answer
    where
        F: Future<Output = StatusCode>,
    {
        self.send_over(Scheme::Https, cookie, work).await
    }

    async fn send_over<F>(
        &self,
        scheme: Scheme,
        cookie: Option<&str>,
        work: impl FnOnce(Session) -> F,
    ) -> Answer
    where
        F: Future<Output = StatusCode>,
    {
        let mut request = Request::new(());
        if let Some(cookie) = cookie {
            request
                .headers_mut()
                .insert(COOKIE, cookie.parse().unwrap());
        }
        let peer = Peer::new("192.0.2.1:1".parse().unwrap(), scheme);
        request
            .extensions_mut()
            .insert(ClientInfo::direct(peer, None));
        let mut work = Some(work);
        let service = self.layer.layer(service_fn(move |request: Request<()>| {
            let session = request.extensions().get::<Session>().unwrap().clone();
            let work = work.take().unwrap()(session);
            async move {
                let mut response = Response::new(());
                *response.status_mut() = work.await;
                Ok::<_, Infallible>(response)
            }
        }));
        let response = service.oneshot(request).await.unwrap();
        let set = response.headers().get_all(SET_COOKIE).iter();
        Answer {
            set_cookie: set
                .map(|value| value.to_str().unwrap().to_owned())
                .collect(),
        }
    }

    async fn log_in(&self) -> String {
        let answer = self
            .send(None, async |session| {
                session.insert("user", "bob").unwrap();
                StatusCode::OK
            })
            .await;
        self.store.calls();
        answer.cookie()
    }

    async fn read(&self, cookie: &str) -> Option<Value> {
        let found = Arc::new(Mutex::new(None));
        let out = found.clone();
        self.send(Some(cookie), async move |session| {
            *out.lock().unwrap() = session.get("user").await.unwrap();
            StatusCode::OK
        })
        .await;
        found.lock().unwrap().take()
    }

    fn cookie_for(&self, id: &str) -> String {
        let id = SessionId::from_bytes(id.as_bytes()).unwrap();
        format!("__Host-proactions_session={}", self.keys.sign(&id))
    }
}

#[derive(Debug)]
struct Answer {
    set_cookie: Vec<String>,
}

impl Answer {
    /// What a browser would send back.
    fn cookie(&self) -> String {
        assert_eq!(self.set_cookie.len(), 1, "{:?}", self.set_cookie);
        self.set_cookie[0].split(';').next().unwrap().to_owned()
    }

    fn removes(&self) -> bool {
        self.set_cookie.len() == 1
            && self.set_cookie[0].contains("_session=; Path=/; Expires=Thu, 01 Jan 1970")
    }
}
