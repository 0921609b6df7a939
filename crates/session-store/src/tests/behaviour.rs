use super::*;

#[tokio::test]
async fn the_memory_store_behaves_as_a_store() {
    let clock = Arc::new(ManualClock::default());
    let store = Arc::new(MemoryStore::with_clock(1000, clock.clone()));
    conformance::check_store(store, async |time| clock.advance(time)).await;
}

#[tokio::test]
async fn a_request_that_does_nothing_reads_and_writes_nothing() {
    let bench = Bench::new();
    let answer = bench.send(None, async |_| StatusCode::OK).await;
    assert!(answer.set_cookie.is_empty());
    let cookie = bench.log_in().await;
    let answer = bench.send(Some(&cookie), async |_| StatusCode::OK).await;
    assert!(answer.set_cookie.is_empty());
    assert_eq!(bench.store.calls(), [""; 0]);
}

#[tokio::test]
async fn a_session_comes_into_being_when_something_is_written() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    assert_eq!(bench.store.inner.len(), 1);
    assert_eq!(bench.read(&cookie).await, Some(json!("bob")));
    // Read once, and not written.
    assert_eq!(bench.store.calls(), ["load"]);
}

#[tokio::test]
async fn many_handles_read_the_record_once() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    bench
        .send(Some(&cookie), async |session| {
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..20 {
                let session = session.clone();
                tasks.spawn(async move { session.get("user").await.unwrap() });
            }
            // One that gives up in the middle holds nobody back.
            let mut given_up = session.load();
            let waker = std::task::Waker::noop();
            let mut cx = std::task::Context::from_waker(waker);
            assert!(std::pin::Pin::new(&mut given_up).poll(&mut cx).is_pending());
            tokio::task::yield_now().await;
            drop(given_up);
            while let Some(user) = tasks.join_next().await {
                assert_eq!(user.unwrap(), Some(json!("bob")));
            }
            StatusCode::OK
        })
        .await;
    let loads = bench.store.calls();
    assert_eq!(
        loads,
        ["load", "load"],
        "the one given up, and one for all others"
    );
}

#[tokio::test]
async fn unknown_ids_are_not_taken_over() {
    let bench = Bench::new();
    let planted = bench.cookie_for("attacker-chose-this-id-0123456789");
    let answer = bench
        .send(Some(&planted), async |session| {
            assert_eq!(session.get("user").await.unwrap(), None);
            assert_eq!(session.id(), None);
            StatusCode::OK
        })
        .await;
    assert!(answer.set_cookie.is_empty());
    let answer = bench
        .send(Some(&planted), async |session| {
            session.insert("user", "bob").unwrap();
            StatusCode::OK
        })
        .await;
    assert_ne!(answer.cookie(), planted);
    assert_eq!(bench.read(&planted).await, None);
    assert_eq!(bench.read(&answer.cookie()).await, Some(json!("bob")));
}

#[tokio::test]
async fn a_login_leaves_nothing_of_the_session_before() {
    let bench = Bench::new();
    let before = bench.log_in().await;
    let answer = bench
        .send(Some(&before), async |session| {
            session.regenerate();
            session.insert("role", "editor").unwrap();
            StatusCode::OK
        })
        .await;
    // New before old.
    assert_eq!(bench.store.calls(), ["create", "destroy"]);
    assert_ne!(answer.cookie(), before);
    assert_eq!(bench.read(&before).await, None);
    assert_eq!(bench.read(&answer.cookie()).await, None);
    assert_eq!(bench.store.inner.len(), 1);
}

#[tokio::test]
async fn rotation_keeps_the_content_under_a_new_id() {
    let bench = Bench::new();
    let before = bench.log_in().await;
    let answer = bench
        .send(Some(&before), async |session| {
            session.rotate();
            StatusCode::OK
        })
        .await;
    assert_eq!(bench.store.calls(), ["load", "create", "destroy"]);
    assert_eq!(bench.read(&before).await, None);
    assert_eq!(bench.read(&answer.cookie()).await, Some(json!("bob")));
}

#[tokio::test]
async fn a_rotation_takes_along_what_others_did_and_brings_nothing_back() {
    let bench = Bench::new();
    let before = bench.log_in().await;
    let rotated = bench
        .send(Some(&before), async |session| {
            session.load().await.unwrap();
            session.rotate();
            let other = bench.send(Some(&before), async |session| {
                session.insert("user", "eve").unwrap();
                StatusCode::OK
            });
            other.await;
            StatusCode::OK
        })
        .await
        .cookie();
    assert_eq!(bench.read(&rotated).await, Some(json!("eve")));
    let answer = bench
        .send(Some(&rotated), async |session| {
            session.load().await.unwrap();
            session.rotate();
            session.insert("role", "editor").unwrap();
            let logout = bench.send(Some(&rotated), async |session| {
                session.destroy();
                StatusCode::OK
            });
            assert!(logout.await.removes());
            StatusCode::OK
        })
        .await;
    assert!(answer.removes(), "{answer:?}");
    assert!(bench.store.inner.is_empty());
}

#[tokio::test]
async fn a_failed_rotation_keeps_the_old_session() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    let store = bench.store.clone();
    let answer = bench
        .send(Some(&cookie), async move |session| {
            session.load().await.unwrap();
            session.rotate();
            store.fail(Some(StoreErrorKind::Outage));
            assert!(session.commit().await.is_err());
            StatusCode::OK
        })
        .await;
    assert!(answer.set_cookie.is_empty());
    bench.store.fail(None);
    assert_eq!(bench.read(&cookie).await, Some(json!("bob")));
}

#[tokio::test]
async fn logout_removes_record_and_cookie() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    for status in [StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR] {
        let answer = bench
            .send(Some(&cookie), async |session| {
                session.destroy();
                status
            })
            .await;
        assert!(answer.removes(), "{:?}", answer.set_cookie);
        assert_eq!(bench.store.calls(), ["destroy"]);
        assert_eq!(bench.read(&cookie).await, None);
        bench.store.calls();
    }
    assert!(bench.store.inner.is_empty());
}

#[tokio::test]
async fn a_logout_that_failed_can_be_repeated() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    bench.store.fail(Some(StoreErrorKind::Outage));
    let answer = bench
        .send(Some(&cookie), async |session| {
            session.destroy();
            assert!(session.commit().await.is_err());
            StatusCode::SERVICE_UNAVAILABLE
        })
        .await;
    assert!(answer.set_cookie.is_empty(), "{answer:?}");
    // It was tried again with the answer's head.
    assert_eq!(bench.store.calls(), ["destroy", "destroy"]);
    bench.store.fail(None);
    assert_eq!(bench.read(&cookie).await, Some(json!("bob")));
    let answer = bench
        .send(Some(&cookie), async |session| {
            session.destroy();
            session.commit().await.unwrap();
            StatusCode::OK
        })
        .await;
    assert!(answer.removes(), "{answer:?}");
    assert!(bench.store.inner.is_empty());
}

#[tokio::test]
async fn a_removal_that_fails_is_not_the_end_of_the_others() {
    let bench = Bench::new();
    let (first, second) = (bench.log_in().await, bench.log_in().await);
    let (_, signed) = second.split_once('=').unwrap();
    let second = bench.keys.verify(signed.as_bytes()).unwrap();
    let store = bench.store.clone();
    let answer = bench
        .send(Some(&first), async move |session| {
            session.adopt(second);
            session.destroy();
            store.fail(Some(StoreErrorKind::Outage));
            assert!(session.commit().await.is_err());
            assert_eq!(store.calls(), ["destroy", "destroy"]);
            store.fail(None);
            StatusCode::OK
        })
        .await;
    assert!(answer.removes(), "{answer:?}");
    assert!(bench.store.inner.is_empty());
}

#[tokio::test]
async fn a_collision_draws_another_id_and_overwrites_nothing() {
    let bench = Bench::new();
    bench.store.collisions.store(1, Ordering::Relaxed);
    let answer = bench
        .send(None, async |session| {
            session.insert("user", "bob").unwrap();
            StatusCode::OK
        })
        .await;
    assert_eq!(bench.store.calls(), ["create", "create"]);
    assert_eq!(bench.read(&answer.cookie()).await, Some(json!("bob")));
}

#[tokio::test]
async fn a_server_error_saves_nothing() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    for cookie in [None, Some(cookie.as_str())] {
        let answer = bench
            .send(cookie, async |session| {
                session.insert("user", "eve").unwrap();
                session.rotate();
                StatusCode::BAD_GATEWAY
            })
            .await;
        assert!(answer.set_cookie.is_empty());
        assert_eq!(bench.store.calls(), [""; 0]);
    }
    assert_eq!(bench.read(&cookie).await, Some(json!("bob")));
}

#[tokio::test]
async fn an_unchanged_value_is_not_written() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    let answer = bench
        .send(Some(&cookie), async |session| {
            session.insert("user", "bob").unwrap();
            session.remove("nothing").unwrap();
            StatusCode::OK
        })
        .await;
    assert_eq!(bench.store.calls(), ["load"]);
    assert!(answer.set_cookie.is_empty());
}

#[tokio::test]
async fn changes_show_before_they_are_written() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    bench
        .send(Some(&cookie), async |session| {
            session.insert("user", "eve").unwrap();
            assert_eq!(session.get("user").await.unwrap(), Some(json!("eve")));
            session.remove("user").unwrap();
            assert_eq!(session.get("user").await.unwrap(), None);
            assert_eq!(session.insert("cookie", 1), Err(ReservedKey));
            assert_eq!(session.remove("hub"), Err(ReservedKey));
            StatusCode::OK
        })
        .await;
    assert_eq!(bench.read(&cookie).await, None);
}

#[tokio::test]
async fn an_insecure_request_makes_no_session_for_a_secure_cookie() {
    let bench = Bench::new();
    let answer = bench
        .send_over(Scheme::Http, None, async |session| {
            assert!(!session.can_be_sent());
            session.insert("user", "bob").unwrap();
            StatusCode::OK
        })
        .await;
    assert!(answer.set_cookie.is_empty());
    assert!(bench.store.inner.is_empty());
}

#[tokio::test]
async fn an_outage_is_told_once_a_request_and_no_cookie_promises_a_session() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    bench.store.fail(Some(StoreErrorKind::Outage));
    let answer = bench
        .send(Some(&cookie), async |session| {
            for _ in 0..3 {
                let error = session.get("user").await.unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Outage);
            }
            StatusCode::OK
        })
        .await;
    assert!(answer.set_cookie.is_empty());
    assert_eq!(bench.store.calls(), ["load"]);
    let answer = bench
        .send(None, async |session| {
            session.insert("user", "bob").unwrap();
            StatusCode::OK
        })
        .await;
    assert!(answer.set_cookie.is_empty());
}

#[tokio::test]
async fn a_corrupt_record_is_no_session() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    bench.store.fail(Some(StoreErrorKind::Corrupt));
    assert_eq!(bench.read(&cookie).await, None);
}

#[tokio::test]
async fn a_used_session_slides_and_its_cookie_with_it() {
    let bench = Bench::with(|policy| {
        policy
            .with_idle_timeout(HOUR / 2)
            .with_absolute_timeout(2 * HOUR)
    });
    let cookie = bench.log_in().await;
    let use_it = async || {
        bench
            .send(Some(&cookie), async |session| {
                session.load().await.unwrap();
                StatusCode::OK
            })
            .await
    };
    let answer = use_it().await;
    assert!(answer.set_cookie.is_empty());
    assert_eq!(bench.store.calls(), ["load"]);

    // 25 minutes at a time: never idle for half an hour, and over after two hours all the same.
    for minutes in [25, 50, 75, 100] {
        bench.clock.advance(HOUR * 25 / 60);
        let answer = use_it().await;
        assert_eq!(bench.store.calls(), ["load", "touch"], "{minutes}");
        assert_eq!(answer.cookie(), cookie);
        let left = if minutes == 100 { 20 * 60 } else { 30 * 60 };
        assert!(
            answer.set_cookie[0].contains(&format!("; Max-Age={left};")),
            "{answer:?}"
        );
        assert!(use_it().await.set_cookie.is_empty());
        assert_eq!(bench.store.calls(), ["load"]);
    }
    bench.clock.advance(HOUR * 20 / 60);
    assert_eq!(bench.read(&cookie).await, None);
}

#[tokio::test]
async fn an_idle_session_ends() {
    let bench = Bench::with(|policy| policy.with_idle_timeout(HOUR));
    let cookie = bench.log_in().await;
    bench.clock.advance(HOUR);
    assert_eq!(bench.read(&cookie).await, None);
}

#[tokio::test]
async fn a_new_idle_timeout_reaches_the_sessions_that_exist() {
    let mut bench = Bench::new();
    let cookie = bench.log_in().await;
    let policy = SessionPolicy::new(bench.keys.clone(), CookiePolicy::default());
    let policy = policy.with_idle_timeout(HOUR);
    bench.layer = SessionLayer::with_clock(policy, bench.store.clone(), bench.clock.clone());
    for calls in [&["load", "touch"][..], &["load"]] {
        assert_eq!(bench.read(&cookie).await, Some(json!("bob")));
        assert_eq!(bench.store.calls(), calls);
    }
    bench.clock.advance(HOUR);
    assert_eq!(bench.read(&cookie).await, None);
}

#[tokio::test]
async fn a_record_from_node_counts_from_first_sight() {
    let bench = Bench::with(|policy| policy.with_absolute_timeout(HOUR));
    let id = SessionId::from_bytes(b"abcdefghijklmnopqrstuvwxyz012345").unwrap();
    let text = br#"{"cookie":{"originalMaxAge":86400000,"path":"/","odd":1},"user":"bob"}"#;
    let record = Arc::new(Record::parse(text).unwrap());
    bench
        .store
        .inner
        .create(&id, record, 24 * HOUR)
        .await
        .unwrap();
    let cookie = bench.cookie_for(id.expose());
    bench.clock.advance(2 * HOUR);
    assert_eq!(bench.read(&cookie).await, Some(json!("bob")));
    assert_eq!(bench.store.calls(), ["load", "save"]);
    let stored = bench.store.inner.load(&id).await.unwrap().unwrap();
    assert_eq!(stored.record.created_at(), Some(bench.clock.now()));
    let kept: Value = serde_json::from_str(&stored.record.to_json()).unwrap();
    assert_eq!(kept["cookie"]["originalMaxAge"], 86_400_000);
    assert_eq!(kept["cookie"]["odd"], 1);
    bench.clock.advance(HOUR);
    assert_eq!(bench.read(&cookie).await, None);
}

#[tokio::test]
async fn a_session_that_ended_elsewhere_does_not_come_back() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    let store = bench.store.clone();
    let answer = bench
        .send(Some(&cookie), async move |session| {
            session.insert("user", "eve").unwrap();
            session.load().await.unwrap();
            store.inner.destroy(&session.id().unwrap()).await.unwrap();
            StatusCode::OK
        })
        .await;
    assert!(answer.removes());
    assert!(bench.store.inner.is_empty());
}

#[tokio::test]
async fn a_remembered_session_is_gone_on_with() {
    let bench = Bench::new();
    let (remembered, planted) = (bench.log_in().await, bench.log_in().await);
    let id = Arc::new(Mutex::new(None));
    let out = id.clone();
    bench
        .send(Some(&remembered), async move |session| {
            session.load().await.unwrap();
            *out.lock().unwrap() = session.id();
            StatusCode::OK
        })
        .await;
    let id = id.lock().unwrap().clone().unwrap();
    let answer = bench
        .send(Some(&planted), async |session| {
            session.adopt(id);
            session.load().await.unwrap();
            session.send_cookie();
            StatusCode::OK
        })
        .await;
    assert_eq!(answer.cookie(), remembered);
    assert_eq!(bench.read(&planted).await, None);
    assert_eq!(bench.read(&remembered).await, Some(json!("bob")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_parallel_requests_lose_nothing() {
    let bench = Arc::new(Bench::new());
    let cookie = bench.log_in().await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..50 {
        let (bench, cookie) = (bench.clone(), cookie.clone());
        tasks.spawn(async move {
            bench
                .send(Some(&cookie), async move |session| {
                    session.load().await.unwrap();
                    tokio::task::yield_now().await;
                    session.insert(format!("key{index}"), index).unwrap();
                    StatusCode::OK
                })
                .await;
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let found = Arc::new(Mutex::new(0));
    let out = found.clone();
    bench
        .send(Some(&cookie), async move |session| {
            session.load().await.unwrap();
            let record = session.record().unwrap();
            *out.lock().unwrap() = (0..50)
                .filter(|index| record.get(&format!("key{index}")) == Some(&json!(index)))
                .count();
            StatusCode::OK
        })
        .await;
    assert_eq!(*found.lock().unwrap(), 50);
}

#[tokio::test]
async fn the_cookie_does_not_reach_the_inner_service() {
    let bench = Bench::new();
    let mine = bench.log_in().await;
    let service = bench.layer.layer(service_fn(async |request: Request<()>| {
        let left = request.headers().get(COOKIE).cloned();
        Ok::<_, Infallible>(Response::new(left))
    }));
    for (cookie, left) in [
        (mine.clone(), None),
        (format!("a=1; {mine}; b=2"), Some("a=1; b=2")),
        ("__Host-proactions_session=forged".to_owned(), None),
        ("a=1".to_owned(), Some("a=1")),
    ] {
        let request = Request::builder().header(COOKIE, &cookie).body(()).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.body().as_ref().map(|v| v.to_str().unwrap()), left);
    }
}

#[tokio::test]
async fn the_inner_services_own_error_passes_through() {
    let bench = Bench::new();
    let service = bench.layer.layer(service_fn(async |_: Request<()>| {
        Err::<Response<()>, _>("broken")
    }));
    assert_eq!(
        service.oneshot(Request::new(())).await.unwrap_err(),
        "broken"
    );
}

#[test]
fn debug_of_a_session_does_not_show_its_id() {
    let bench = Bench::new();
    let id = SessionId::from_bytes(b"abcdefghijklmnopqrstuvwxyz012345").unwrap();
    let core = bench.layer.core();
    let session = Session::new(core, Some(id), true, true);
    assert!(!format!("{session:?} {:?}", session.load()).contains("abcdef"));
}

/// Collects what is logged, as text.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text<'a>(&'a mut String);
        impl tracing::field::Visit for Text<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut log = self.0.lock().unwrap();
        log.push_str(&format!("{} ", event.metadata().target()));
        event.record(&mut Text(&mut log));
        log.push('\n');
    }
}

#[tokio::test]
async fn security_events_name_the_fact_and_never_the_id() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    let id = bench
        .keys
        .verify(cookie.split_once('=').unwrap().1.as_bytes())
        .unwrap();

    let forged = format!("{cookie}x");
    bench.send(Some(&forged), async |_| StatusCode::OK).await;
    let twice = format!("{cookie}; {cookie}");
    bench.send(Some(&twice), async |_| StatusCode::OK).await;
    for _ in 0..2 {
        bench
            .send_over(Scheme::Http, None, async |session| {
                session.insert("user", "bob").unwrap();
                StatusCode::OK
            })
            .await;
    }
    bench.store.fail(Some(StoreErrorKind::Corrupt));
    bench.read(&cookie).await;
    bench.store.fail(Some(StoreErrorKind::Outage));
    bench
        .send(Some(&cookie), async |session| {
            session.destroy();
            StatusCode::OK
        })
        .await;

    let text = log.0.lock().unwrap().clone();
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(
        count("event=\"cookie_signature_bad\" ip=192.0.2.1"),
        2,
        "{text}"
    );
    assert_eq!(
        count("event=\"session_record_corrupt\" session=Some(SessionId(#"),
        1,
        "{text}"
    );
    assert_eq!(count("No session is made"), 1, "{text}");
    assert_eq!(count("could not be written"), 1, "{text}");
    let security = text
        .lines()
        .filter(|line| line.starts_with("security "))
        .count();
    assert_eq!(security, 3, "{text}");
    assert!(!text.contains(id.expose()), "{text}");
}

/// A signature that was found good is remembered by the layer that found it, under its secrets.
#[tokio::test]
async fn a_tampered_cookie_stays_bad_and_a_removed_secret_takes_its_cookies_along() {
    let mut bench = Bench::new();
    let cookie = bench.log_in().await;
    let (head, last) = cookie.split_at(cookie.len() - 1);
    let tampered = format!("{head}{}", if last == "A" { "B" } else { "A" });
    for _ in 0..2 {
        assert_eq!(bench.read(&cookie).await, Some(json!("bob")));
        assert_eq!(bench.read(&tampered).await, None);
    }
    for (secrets, user) in [
        (vec!["new", "keyboard cat"], Some(json!("bob"))),
        (vec!["new"], None),
    ] {
        let policy = SessionPolicy::new(KeyRing::unchecked(secrets), CookiePolicy::default());
        bench.layer = SessionLayer::with_clock(policy, bench.store.clone(), bench.clock.clone());
        for _ in 0..2 {
            assert_eq!(bench.read(&cookie).await, user);
        }
    }
}

#[tokio::test]
async fn a_destroyed_session_is_gone_although_its_signature_is_known() {
    let bench = Bench::new();
    let cookie = bench.log_in().await;
    assert_eq!(bench.read(&cookie).await, Some(json!("bob")));
    bench
        .send(Some(&cookie), async |session| {
            session.destroy();
            StatusCode::OK
        })
        .await;
    assert_eq!(bench.read(&cookie).await, None);
}
