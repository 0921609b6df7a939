//! The behaviour that every [`SessionStore`] must show.
//!
//! ```
//! use std::sync::Arc;
//! use proactions_edge::ManualClock;
//! use proactions_session_store::{MemoryStore, conformance};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let clock = Arc::new(ManualClock::default());
//! let store = Arc::new(MemoryStore::with_clock(1000, clock.clone()));
//! conformance::check_store(store, async |time| clock.advance(time)).await;
//! # });
//! ```
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a test that fails panics"
)]

use std::sync::Arc;
use std::time::Duration;

use proactions_edge::SystemClock;
use serde_json::json;

use crate::session::{Core, Session};
use crate::verified::VerifiedCookies;
use crate::{
    CookiePolicy, KeyRing, Record, SessionId, SessionPolicy, SessionStore, StoreErrorKind,
};

const TTL: Duration = Duration::from_secs(3);

/// Runs the whole suite. `pass` lets the given time pass for the store. Records are made under random ids, and
/// some stay behind until they end.
pub async fn check_store(store: Arc<dyn SessionStore>, pass: impl AsyncFn(Duration)) {
    records_come_back(&*store).await;
    create_does_not_overwrite(&*store).await;
    save_needs_what_was_seen(&*store).await;
    an_ended_session_stays_ended(&*store).await;
    records_end(&*store, &pass).await;
    touch_moves_the_end(&*store, &pass).await;
    parallel_writers_all_survive(&store).await;
}

/// What was created is loaded, with its end; what was destroyed is not.
pub async fn records_come_back(store: &dyn SessionStore) {
    let id = new_id();
    assert!(store.load(&id).await.expect("load").is_none());
    let record = new_record("a");
    store
        .create(&id, record.clone(), TTL)
        .await
        .expect("create");
    let stored = store.load(&id).await.expect("load").expect("a record");
    assert_eq!(stored.record.to_json(), record.to_json());
    assert!(store.load(&new_id()).await.expect("load").is_none());
    store.destroy(&id).await.expect("destroy");
    assert!(store.load(&id).await.expect("load").is_none());
    store.destroy(&id).await.expect("destroying twice is fine");
}

/// An id that is in use is a conflict, and the record there stays.
pub async fn create_does_not_overwrite(store: &dyn SessionStore) {
    let id = new_id();
    store
        .create(&id, new_record("first"), TTL)
        .await
        .expect("create");
    let error = store.create(&id, new_record("second"), TTL).await;
    assert_eq!(error.expect_err("in use").kind(), StoreErrorKind::Conflict);
    assert_eq!(name_of(store, &id).await.as_deref(), Some("first"));
}

/// A record that changed since it was read is not replaced.
pub async fn save_needs_what_was_seen(store: &dyn SessionStore) {
    let id = new_id();
    store
        .create(&id, new_record("a"), TTL)
        .await
        .expect("create");
    let seen = store
        .load(&id)
        .await
        .expect("load")
        .expect("a record")
        .record;
    store
        .save(&id, new_record("b"), seen.clone(), TTL)
        .await
        .expect("save");
    let error = store.save(&id, new_record("c"), seen, TTL).await;
    assert_eq!(error.expect_err("changed").kind(), StoreErrorKind::Conflict);
    assert_eq!(name_of(store, &id).await.as_deref(), Some("b"));
}

/// Neither saving nor touching brings a removed record back.
pub async fn an_ended_session_stays_ended(store: &dyn SessionStore) {
    let id = new_id();
    store
        .create(&id, new_record("a"), TTL)
        .await
        .expect("create");
    let seen = store
        .load(&id)
        .await
        .expect("load")
        .expect("a record")
        .record;
    store.destroy(&id).await.expect("destroy");
    let error = store.save(&id, new_record("b"), seen, TTL).await;
    assert_eq!(error.expect_err("gone").kind(), StoreErrorKind::Conflict);
    assert!(!store.touch(&id, TTL).await.expect("touch"));
    assert!(store.load(&id).await.expect("load").is_none());
}

/// A record ends after its time, and its id is free again.
pub async fn records_end(store: &dyn SessionStore, pass: &impl AsyncFn(Duration)) {
    let id = new_id();
    store
        .create(&id, new_record("a"), TTL)
        .await
        .expect("create");
    pass(TTL + Duration::from_secs(1)).await;
    assert!(store.load(&id).await.expect("load").is_none());
    store
        .create(&id, new_record("b"), TTL)
        .await
        .expect("create");
    assert_eq!(name_of(store, &id).await.as_deref(), Some("b"));
}

/// A touched record ends later, and the end that is told moves with it.
pub async fn touch_moves_the_end(store: &dyn SessionStore, pass: &impl AsyncFn(Duration)) {
    let id = new_id();
    store
        .create(&id, new_record("a"), TTL)
        .await
        .expect("create");
    let before = store.load(&id).await.expect("load").expect("a record");
    pass(TTL - Duration::from_secs(1)).await;
    assert!(store.touch(&id, TTL).await.expect("touch"));
    let after = store.load(&id).await.expect("load").expect("a record");
    assert!(after.expires_at > before.expires_at);
    assert_eq!(after.record.to_json(), before.record.to_json());
    pass(TTL - Duration::from_secs(1)).await;
    assert!(store.load(&id).await.expect("load").is_some());
}

/// Fifty requests that read the same record and write different members lose nothing.
pub async fn parallel_writers_all_survive(store: &Arc<dyn SessionStore>) {
    let id = new_id();
    let hour = Duration::from_secs(3600);
    store
        .create(&id, new_record("a"), hour)
        .await
        .expect("create");
    let core = Arc::new(Core {
        policy: SessionPolicy::new(KeyRing::unchecked(["k"]), CookiePolicy::default()),
        store: store.clone(),
        clock: Arc::new(SystemClock::new()),
        verified: VerifiedCookies::new(),
        told: false.into(),
    });
    let sessions: Vec<_> = (0..50)
        .map(|_| Session::new(core.clone(), Some(id.clone()), true, true))
        .collect();
    for (index, session) in sessions.iter().enumerate() {
        session.load().await.expect("load");
        session
            .insert(format!("key{index}"), index)
            .expect("a plain key");
    }
    let mut commits: Vec<_> = sessions.iter().map(Session::commit).collect();
    std::future::poll_fn(|cx| {
        commits.retain_mut(
            |commit| match Future::poll(std::pin::Pin::new(commit), cx) {
                std::task::Poll::Ready(done) => {
                    done.expect("commit");
                    false
                }
                std::task::Poll::Pending => true,
            },
        );
        if commits.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    let stored = store.load(&id).await.expect("load").expect("a record");
    for index in 0..50 {
        let value = stored.record.get(&format!("key{index}"));
        assert_eq!(value, Some(&json!(index)), "key{index}");
    }
    assert_eq!(stored.record.get("name"), Some(&json!("a")));
}

fn new_id() -> SessionId {
    SessionId::random().expect("random bytes")
}

fn new_record(name: &str) -> Arc<Record> {
    let json = json!({"cookie": {"originalMaxAge": 1000, "path": "/"}, "name": name});
    Arc::new(Record::parse(json.to_string().as_bytes()).expect("a record"))
}

async fn name_of(store: &dyn SessionStore, id: &SessionId) -> Option<String> {
    let stored = store.load(id).await.expect("load")?;
    Some(stored.record.get("name")?.as_str()?.to_owned())
}
