//! Counter stores that answer later, or not at all.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::SystemTime;

use proactions_edge::{Rejection, RejectionKind};
use tower::{Layer, Service, ServiceExt};

use super::*;
use crate::{
    CounterKey, CounterOutage, CounterStore, Counting, KeyOf, MemoryCounters, OnStoreError, Quota,
    RateLimitLayer,
};

/// Counts in memory, but answers only when asked a second time; or not at all.
#[derive(Debug, Default)]
struct Remote {
    counters: MemoryCounters,
    down: bool,
    refunds: AtomicUsize,
}

impl CounterStore for Remote {
    fn hit(&self, key: &CounterKey, quota: Quota, now: SystemTime) -> Counting {
        let result = if self.down {
            Err(CounterOutage::new())
        } else {
            Ok(self.counters.count(key, quota, now))
        };
        Counting::Pending(Box::pin(async move {
            tokio::task::yield_now().await;
            result
        }))
    }

    fn refund(&self, key: &CounterKey, ends_at: SystemTime, now: SystemTime) {
        self.refunds.fetch_add(1, Ordering::SeqCst);
        self.counters.refund(key, ends_at, now);
    }
}

fn on(store: Arc<Remote>, config: RateLimitConfig) -> RateLimitPolicy {
    let policy = RateLimitPolicy::with_counters(config, store).unwrap();
    policy.with_clock(Arc::new(ManualClock::default()))
}

/// Panics unless the very service that was polled ready is called.
#[derive(Default)]
struct Strict {
    ready: bool,
    calls: Calls,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            ready: false,
            calls: self.calls.clone(),
        }
    }
}

impl Service<Request<()>> for Strict {
    type Response = Response<Bytes>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Bytes>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        self.calls.add();
        std::future::ready(Ok(Response::new(Bytes::new())))
    }
}

#[tokio::test]
async fn an_answer_that_comes_later_decides_all_the_same() {
    let policy = on(
        Arc::default(),
        RateLimitConfig {
            rules: vec![rule(KeyOf::Ip, "/x", 1)],
            ..config(3)
        },
    );
    let calls = Calls::default();
    let strict = Strict {
        ready: false,
        calls: calls.clone(),
    };
    let mut service = RateLimitLayer::by_address(policy).layer(strict);
    for (uri, status, remaining) in [
        ("/", 200, "2"),
        ("/x", 200, "0"),
        ("/x", 429, "0"),
        ("/", 429, "0"),
    ] {
        let ready = service.ready().await.unwrap();
        let response = ready.call(get(uri)).await.unwrap();
        assert_eq!(response.status(), status, "{uri}");
        assert_eq!(header(&response, "ratelimit-remaining"), remaining, "{uri}");
    }
    assert_eq!(calls.count(), 2);
}

#[tokio::test]
async fn a_store_that_is_down() {
    for (on_store_error, statuses, remaining) in [
        (OnStoreError::Local, [200, 429], "0"),
        (OnStoreError::Closed, [503, 503], "(none)"),
        (OnStoreError::Open, [200, 200], "(none)"),
    ] {
        let store = Remote {
            down: true,
            ..Remote::default()
        };
        let config = RateLimitConfig {
            on_store_error,
            skip_failed_requests: true,
            ..config(1)
        };
        let store = Arc::new(store);
        let policy = on(store.clone(), config);
        assert_eq!(policy.closes_on_store_error(), statuses == [503, 503]);
        let service = RateLimitLayer::by_address(policy).layer(Strict::default());
        for status in statuses {
            let response = service.clone().oneshot(get("/")).await.unwrap();
            assert_eq!(response.status(), status, "{on_store_error:?}");
            assert_eq!(header(&response, "ratelimit-remaining"), remaining);
            if status == 503 {
                let rejection = response.extensions().get::<Rejection>().unwrap();
                assert_eq!(rejection.kind(), RejectionKind::Unavailable);
                assert_eq!(header(&response, "retry-after"), "1");
            }
        }
        // What was counted here is taken back here.
        assert_eq!(store.refunds.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_store_that_is_up_gets_its_refunds() {
    let store: Arc<Remote> = Arc::default();
    let config = RateLimitConfig {
        skip_successful_requests: true,
        ..config(1)
    };
    let service = RateLimitLayer::by_address(on(store.clone(), config)).layer(Strict::default());
    for _ in 0..3 {
        let response = service.clone().oneshot(get("/")).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert_eq!(store.refunds.load(Ordering::SeqCst), 3);
}
