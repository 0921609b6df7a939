use super::*;

#[tokio::test]
async fn without_credentials_nobody_enters() {
    let bench = Bench::new();
    for headers in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Basic Zmlyc3QtcmFuZG9tLXRva2VuOg==")],
        &[("authorization", "first-random-token")],
        &[("cookie", "__Host-proactions_session=s%3Aabc.def")],
        &[("user-agent", "kube-probe/1.0")],
        &[("x-forwarded-uri", "/health")],
        &[("x-original-url", "/health")],
        &[("x-rewrite-url", "/health")],
        &[("x-http-method-override", "GET")],
    ] {
        let response = bench.get(headers).await;
        assert_eq!(response.status(), 401, "{headers:?}");
        assert_eq!(kind(&response), Some(RejectionKind::Unauthorized));
        assert_eq!(
            response.headers()["www-authenticate"],
            r#"Bearer realm="ProActions Hub""#
        );
        assert!(cookie_of(&response).is_none());
    }
    for path in ["/", "/nowhere", "/v1/models?/health", "/health/x"] {
        let response = bench.send(request(Method::GET, path, &[])).await;
        assert_eq!(response.status(), 401, "{path}");
    }
    assert_eq!(bench.calls(), 0);
    assert!(bench.store.inner.is_empty());
}

#[tokio::test]
async fn public_routes_need_nothing_and_hand_nothing_on() {
    let bench = Bench::new();
    let public = request(Method::GET, "/health?x=1", &[("authorization", "Bearer x")]);
    let response = bench.send(public).await;
    assert_eq!(response.body(), "anybody");
    assert!(response.headers().get(CACHE_CONTROL).is_none());
    assert!(bench.seen.lock().unwrap().get(AUTHORIZATION).is_none());
    let absolute = request(Method::GET, "http://h.example/health", &[]);
    assert_eq!(bench.send(absolute).await.body(), "anybody");
}

#[tokio::test]
async fn refused_before_anybody_is_asked() {
    let bench = Bench::new();
    for (method, path, status) in [
        (Method::TRACE, "/health", 405),
        (Method::GET, "/health/../v1/models", 400),
        (Method::GET, "/health%2f..%2fv1", 400),
        (Method::GET, "//health", 400),
        (Method::GET, "/proxy/forward/a/%2e%2e/x", 400),
    ] {
        let request = request(method, path, &[("authorization", TOKEN)]);
        assert_eq!(bench.send(request).await.status(), status, "{path}");
    }
    let mut connect = request(Method::CONNECT, "/", &[]);
    *connect.uri_mut() = "h.example:443".parse().unwrap();
    let response = bench.send(connect).await;
    assert_eq!(response.status(), 405);
    assert!(response.headers().contains_key("allow"));
    let twice = [("authorization", TOKEN), ("authorization", TOKEN)];
    let response = bench.get(&twice).await;
    assert_eq!(kind(&response), Some(RejectionKind::BadRequest));
    assert_eq!(bench.calls(), 0);
}

#[tokio::test]
async fn a_token_opens_a_session_and_its_cookie_enters() {
    let bench = Bench::new();
    let exchange = Exchange::new();
    let mut first = request(Method::POST, "/v1/x", &[("authorization", TOKEN)]);
    first.extensions_mut().insert(exchange.clone());
    let response = bench.send(first).await;
    assert_eq!(user(&response), "token-1");
    assert_eq!(exchange.principal().map(|p| &*p.id), Some("token-1"));
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    assert!(bench.seen.lock().unwrap().get(AUTHORIZATION).is_none());

    let cookie = cookie_of(&response).unwrap();
    let response = bench.get(&[("cookie", &cookie)]).await;
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"user": "token-1", "method": "token", "expiresAt": 1_767_312_000_000_u64})
    );
    assert!(cookie_of(&response).is_none());
    assert!(bench.seen.lock().unwrap().get(COOKIE).is_none());
}

#[tokio::test]
async fn the_cookie_comes_before_the_credential() {
    let bench = Bench::new();
    let cookie = bench.log_in(TOKEN).await;
    for authorization in [OTHER, "Bearer wrong"] {
        let response = bench
            .get(&[("cookie", &cookie), ("authorization", authorization)])
            .await;
        assert_eq!(user(&response), "token-1");
        assert!(bench.seen.lock().unwrap().get(AUTHORIZATION).is_none());
    }
}

#[tokio::test]
async fn a_client_without_cookies_has_one_session() {
    let bench = Bench::new();
    let first = bench.log_in(TOKEN).await;
    for _ in 0..20 {
        assert_eq!(bench.log_in(TOKEN).await, first);
    }
    assert_eq!(bench.store.inner.len(), 1);
    assert_ne!(bench.log_in(OTHER).await, first);
    assert_eq!(bench.store.inner.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_logins_open_one_session() {
    let bench = Arc::new(Bench::with(
        KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap(),
        Directory::new(),
    ));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let bench = bench.clone();
        tasks.spawn(async move {
            let (name, password) = if n % 2 == 0 {
                ("a", "a-password")
            } else {
                ("ab", "ab-password")
            };
            let response = bench
                .get(&[("authorization", &basic(name, password))])
                .await;
            assert_eq!(user(&response), name);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(bench.store.inner.len(), 2);
}

#[tokio::test]
async fn a_login_leaves_planted_sessions_behind() {
    let bench = Bench::new();
    // An anonymous session that an attacker has, and an id that an attacker invented.
    let planted = SessionId::random().unwrap();
    let invented = SessionId::from_bytes(b"invented").unwrap();
    let record = Arc::new(Record::parse(br#"{"cookie":{"path":"/"},"cart":1}"#).unwrap());
    let hour = Duration::from_secs(3600);
    bench
        .store
        .inner
        .create(&planted, record, hour)
        .await
        .unwrap();
    for id in [planted, invented] {
        let cookie = format!("__Host-proactions_session={}", bench.keys.sign(&id));
        assert_eq!(bench.get(&[("cookie", &cookie)]).await.status(), 401);
        let response = bench
            .get(&[("cookie", &cookie), ("authorization", TOKEN)])
            .await;
        assert_ne!(cookie_of(&response).unwrap(), cookie);
        assert!(bench.store.inner.load(&id).await.unwrap().is_none());
        assert_eq!(bench.get(&[("cookie", &cookie)]).await.status(), 401);
    }
    assert_eq!(bench.store.inner.len(), 1);
}

#[tokio::test]
async fn logout_ends_the_session_and_the_next_login_opens_another() {
    let bench = Bench::new();
    let cookie = bench.log_in(TOKEN).await;
    let response = bench
        .send(request(
            Method::POST,
            "/auth/logout",
            &[("cookie", &cookie)],
        ))
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        cookie_of(&response).as_deref(),
        Some("__Host-proactions_session=")
    );
    assert!(bench.store.inner.is_empty());
    assert_eq!(bench.get(&[("cookie", &cookie)]).await.status(), 401);
    let again = bench.log_in(TOKEN).await;
    assert_ne!(again, cookie);
    assert_eq!(bench.log_in(TOKEN).await, again);
}

#[tokio::test]
async fn a_session_ends_when_its_token_is_taken_away() {
    let mut bench = Bench::new();
    let (first, second) = (bench.log_in(TOKEN).await, bench.log_in(OTHER).await);
    let remaining = tokens(&["second-random-token"], &bench.keys);
    bench.replace(remaining);
    let response = bench.get(&[("cookie", &first)]).await;
    assert_eq!(response.status(), 401);
    assert_eq!(
        cookie_of(&response).as_deref(),
        Some("__Host-proactions_session=")
    );
    assert_eq!(bench.store.inner.len(), 1);
    assert_eq!(user(&bench.get(&[("cookie", &second)]).await), "token-1");
    assert_eq!(bench.get(&[("authorization", TOKEN)]).await.status(), 401);
}

#[tokio::test]
async fn a_session_that_a_node_service_opened_is_no_login_and_stays() {
    let bench = Bench::new();
    let id = SessionId::random().unwrap();
    let record = br#"{"cookie":{"path":"/"},"auth":{"type":"token","subject":"token-1"}}"#;
    let record = Arc::new(Record::parse(record).unwrap());
    let hour = Duration::from_secs(3600);
    bench.store.inner.create(&id, record, hour).await.unwrap();
    let cookie = format!("__Host-proactions_session={}", bench.keys.sign(&id));
    for headers in [
        &[("cookie", &*cookie)][..],
        &[("cookie", &*cookie), ("authorization", "Bearer wrong")],
    ] {
        let response = bench.get(headers).await;
        assert_eq!(response.status(), 401);
        // Its time counts from its first sight here, so the same cookie may come back.
        assert!(cookie_of(&response).is_none_or(|sent| sent == cookie));
    }
    assert!(bench.store.inner.load(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_session_enters_whatever_a_handler_has_derived_from_its_record() {
    let bench = Bench::new();
    let record = br#"{"cookie":{},"auth":{"type":"token","subject":"token-1","proof":"p"}}"#;
    let record = Record::parse(record).unwrap();
    assert_eq!(
        record.derived(|_| "a handler's own"),
        Some(&"a handler's own")
    );
    let login = crate::authenticate::login_of(&record).unwrap();
    assert_eq!(
        (login.method, login.subject, login.proof),
        (AuthMethod::Token, "token-1", Some("p"))
    );

    // The handler of the request that logs in sees the new record first.
    let derive = service_fn(|request: Request<Bytes>| async move {
        let session = request.extensions().get::<Session>().unwrap();
        let record = session.record().unwrap();
        record.derived(|_| "a handler's own");
        Ok::<_, Infallible>(Response::new(Bytes::new()))
    });
    let service = bench.sessions.layer(bench.auth.layer(derive));
    let login = request(Method::GET, "/v1/models", &[("authorization", TOKEN)]);
    let response = service.oneshot(login).await.unwrap();
    let cookie = cookie_of(&response).unwrap();
    assert_eq!(user(&bench.get(&[("cookie", &cookie)]).await), "token-1");
}

#[tokio::test]
async fn no_session_is_opened_whose_cookie_could_not_be_sent() {
    let bench = Bench::new();
    let mut plain = request(Method::GET, "/v1/models", &[("authorization", TOKEN)]);
    let peer = Peer::new("192.0.2.1:1".parse().unwrap(), Scheme::Http);
    plain
        .extensions_mut()
        .insert(ClientInfo::direct(peer, None));
    let response = bench.send(plain).await;
    assert_eq!(user(&response), "token-1");
    assert!(cookie_of(&response).is_none());
    assert!(bench.store.inner.is_empty());
}

#[tokio::test]
async fn a_store_outage_closes_cookies_and_not_credentials() {
    let bench = Bench::new();
    let cookie = bench.log_in(TOKEN).await;
    bench.store.down.store(true, Ordering::Relaxed);
    let response = bench.get(&[("cookie", &cookie)]).await;
    assert_eq!(kind(&response), Some(RejectionKind::Unavailable));
    assert_eq!(response.headers()["retry-after"], "1");
    for headers in [
        &[("authorization", TOKEN)][..],
        &[("authorization", OTHER)],
        &[("authorization", TOKEN), ("cookie", &cookie)],
    ] {
        let response = bench.get(headers).await;
        assert_eq!(response.status(), 200);
        assert!(cookie_of(&response).is_none());
    }
    let wrong = [("authorization", "Bearer wrong"), ("cookie", &cookie)];
    assert_eq!(bench.get(&wrong).await.status(), 401);
    bench.store.down.store(false, Ordering::Relaxed);
    assert_eq!(user(&bench.get(&[("cookie", &cookie)]).await), "token-1");
    assert_eq!(bench.log_in(TOKEN).await, cookie);
    bench.log_in(OTHER).await;
}

#[tokio::test]
async fn other_sites_cannot_act_with_the_cookie() {
    let bench = Bench::new();
    let cookie = bench.log_in(TOKEN).await;
    bench.calls();
    for content_type in ["text/plain", "multipart/form-data", ""] {
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let headers = [
                ("cookie", &*cookie),
                ("content-type", content_type),
                (name, value),
            ];
            let response = bench.send(request(Method::POST, "/v1/x", &headers)).await;
            assert_eq!(
                kind(&response),
                Some(RejectionKind::CrossSite),
                "{name}: {value}"
            );
            assert_eq!(response.status(), 403);

            let mut allowed = request(Method::POST, "/v1/x", &headers);
            allowed.extensions_mut().insert(AllowedOrigin::new());
            assert_eq!(bench.send(allowed).await.status(), 200);

            // A token is no cookie: no browser adds it by itself.
            let headers = [("authorization", TOKEN), (name, value)];
            let response = bench.send(request(Method::POST, "/v1/x", &headers)).await;
            assert_eq!(response.status(), 200);
        }
    }
    let own = [("cookie", &*cookie), ("origin", "https://hub.example.com")];
    assert_eq!(
        bench
            .send(request(Method::POST, "/v1/x", &own))
            .await
            .status(),
        200
    );
    let reading = [("cookie", &*cookie), ("sec-fetch-site", "cross-site")];
    assert_eq!(bench.get(&reading).await.status(), 200);
}

#[tokio::test]
async fn other_sites_cannot_act_with_the_login_that_a_browser_remembers() {
    let directory = Directory::new();
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let bench = Bench::with(keys, directory.clone());
    let (right, wrong) = (basic("bob", "bob-password"), basic("bob", "wrong"));
    let evil = ("origin", "https://evil.example");
    for (name, value) in [evil, ("sec-fetch-site", "cross-site")] {
        // More often than a login may fail.
        for authorization in [&right, &wrong].into_iter().cycle().take(20) {
            let headers = [("authorization", authorization.as_str()), (name, value)];
            let response = bench.send(request(Method::POST, "/v1/x", &headers)).await;
            assert_eq!(kind(&response), Some(RejectionKind::CrossSite));
        }
    }
    assert_eq!(directory.checks.load(Ordering::Relaxed), 0);
    assert_eq!(bench.calls(), 0);

    let headers = [("authorization", right.as_str()), evil];
    let mut allowed = request(Method::POST, "/v1/x", &headers);
    allowed.extensions_mut().insert(AllowedOrigin::new());
    assert_eq!(bench.send(allowed).await.status(), 200);
    assert_eq!(bench.get(&headers).await.status(), 200);
    let own = [
        ("authorization", right.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    let response = bench.send(request(Method::POST, "/v1/x", &own)).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn ten_failures_lock_an_address_out_for_the_minute() {
    let bench = Bench::new();
    let cookie = bench.log_in(TOKEN).await;
    for _ in 0..10 {
        let response = bench.get(&[("authorization", "Bearer wrong")]).await;
        assert_eq!(response.status(), 401);
    }
    bench.clock.advance(Duration::from_secs(15));
    for authorization in ["Bearer wrong", OTHER] {
        let response = bench.get(&[("authorization", authorization)]).await;
        assert_eq!(kind(&response), Some(RejectionKind::LockedOut));
        assert_eq!(response.headers()["retry-after"], "45");
    }
    // Who is known here goes on, and others may log in elsewhere.
    assert_eq!(bench.get(&[("cookie", &cookie)]).await.status(), 200);
    bench.log_in(TOKEN).await;
    let elsewhere = request_from(
        "192.0.2.2",
        Method::GET,
        "/v1/x",
        &[("authorization", TOKEN)],
    );
    assert_eq!(bench.send(elsewhere).await.status(), 200);
    bench.clock.advance(Duration::from_secs(45));
    bench.log_in(OTHER).await;
}

#[tokio::test]
async fn ten_failures_lock_a_user_out_in_every_spelling() {
    let directory = Directory::new();
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let bench = Bench::with(keys, directory.clone());
    let spellings = ["Bob", "bob ", "\u{ff42}ob", "BOB"];
    for n in 0..10_usize {
        let header = basic(spellings[n % spellings.len()], "wrong");
        let headers = [("authorization", header.as_str())];
        let attempt = request_from(&format!("192.0.2.{n}"), Method::GET, "/v1/x", &headers);
        let response = bench.send(attempt).await;
        assert_eq!(response.status(), 401);
        assert_eq!(
            response.headers()["www-authenticate"],
            r#"Bearer realm="ProActions Hub", Basic realm="ProActions Hub", charset="UTF-8""#
        );
    }
    let checks = directory.checks.load(Ordering::Relaxed);
    let response = bench
        .get(&[("authorization", &basic("bob", "bob-password"))])
        .await;
    assert_eq!(kind(&response), Some(RejectionKind::LockedOut));
    assert_eq!(
        directory.checks.load(Ordering::Relaxed),
        checks,
        "it was not asked"
    );
    assert_eq!(
        user(
            &bench
                .get(&[("authorization", &basic("eve", "eve-password"))])
                .await
        ),
        "eve"
    );
}

#[tokio::test]
async fn guesses_sent_at_once_get_no_further_than_guesses_in_turn() {
    let directory = Directory::new();
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let bench = Bench::with(keys, directory.clone());
    let guess = async |n: usize| {
        let header = basic("bob", &format!("guess-{n}"));
        let response = bench.get(&[("authorization", &header)]).await;
        response.status().as_u16()
    };
    let statuses = futures_util::future::join_all((0..400).map(guess)).await;
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(401), count(429)), (10, 390));
    assert_eq!(directory.checks.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn guesses_that_hang_up_are_counted_all_the_same() {
    let directory = Directory::new();
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let bench = Bench::with(keys, directory.clone());
    for n in 0..400 {
        let header = basic("bob", &format!("guess-{n}"));
        let headers = [("authorization", header.as_str())];
        // Polled once, and dropped while the directory is being asked.
        let answered = futures_util::FutureExt::now_or_never(bench.get(&headers)).is_some();
        assert_eq!(answered, n >= 10, "{n}");
    }
    assert_eq!(directory.checks.load(Ordering::Relaxed), 10);
    // The questions that nobody waits for end by themselves, and are counted.
    let header = basic("bob", "bob-password");
    let wait = async || {
        let response = bench.get(&[("authorization", &header)]).await;
        response.headers()["retry-after"].clone()
    };
    while wait().await == "1" {
        tokio::task::yield_now().await;
    }
    assert_eq!(wait().await, "60");
}

#[tokio::test]
async fn equal_logins_at_once_all_enter() {
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let bench = Bench::with(keys, Directory::new());
    let bob = basic("bob", "bob-password");
    let log_in = async |_| {
        bench
            .get(&[("authorization", bob.as_str())])
            .await
            .status()
            .as_u16()
    };
    let statuses = futures_util::future::join_all((0..500).map(log_in)).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[tokio::test]
async fn nobody_locks_out_who_has_logged_in_from_there() {
    let directory = Directory::new();
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let bench = Bench::with(keys, directory.clone());
    let bob = basic("bob", "bob-password");
    let status = async |header: &str| {
        let response = bench.get(&[("authorization", header)]).await;
        response.status().as_u16()
    };
    assert_eq!(status(&bob).await, 200);
    for n in 0..10 {
        assert_eq!(status(&basic("bob", &format!("guess-{n}"))).await, 401);
    }
    assert_eq!(status(&basic("bob", "guess")).await, 429);
    assert_eq!(status(&bob).await, 200);
    // From elsewhere it would tell a guesser that the guess is right.
    let headers = [("authorization", bob.as_str())];
    let elsewhere = request_from("192.0.2.2", Method::GET, "/v1/x", &headers);
    assert_eq!(bench.send(elsewhere).await.status(), 429);
}

#[tokio::test]
async fn an_authenticator_that_is_down_lets_nobody_in() {
    let directory = Directory::new();
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let bench = Bench::with(keys, directory.clone());
    let bob = basic("bob", "bob-password");
    let cookie = bench.log_in(&bob).await;
    directory.down.store(true, Ordering::Relaxed);
    for headers in [
        [("authorization", bob.as_str())],
        [("cookie", cookie.as_str())],
    ] {
        let response = bench.get(&headers).await;
        assert_eq!(kind(&response), Some(RejectionKind::Unavailable));
        assert_eq!(response.headers()["retry-after"], "5");
    }
    directory.down.store(false, Ordering::Relaxed);
    assert_eq!(user(&bench.get(&[("cookie", &cookie)]).await), "bob");
}

#[tokio::test]
async fn a_session_of_another_kind_of_login_does_not_enter() {
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let mut bench = Bench::with(keys, Directory::new());
    let cookie = bench.log_in(&basic("bob", "bob-password")).await;
    bench.replace(tokens(&["first-random-token"], &bench.keys));
    assert_eq!(bench.get(&[("cookie", &cookie)]).await.status(), 401);
}

#[tokio::test]
async fn the_inner_services_cache_control_stays() {
    let bench = Bench::new();
    let inner = service_fn(async |_: Request<Bytes>| {
        let mut response = Response::new(Bytes::new());
        let value = "max-age=60".parse().unwrap();
        response.headers_mut().insert(CACHE_CONTROL, value);
        Ok::<_, Infallible>(response)
    });
    let request = request(Method::GET, "/v1/x", &[("authorization", TOKEN)]);
    let response = bench.auth.layer(inner).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[CACHE_CONTROL], "max-age=60");
}

#[tokio::test]
async fn it_works_without_a_session_layer_and_with_auth_off() {
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let inner = service_fn(async |request: Request<Bytes>| {
        let known = request.extensions().get::<Principal>().is_some();
        Ok::<_, Infallible>(Response::new(Bytes::from(known.to_string())))
    });
    let set = tokens(&["first-random-token"], &keys);
    let auth = AuthLayer::new(access(), set.clone()).layer(inner);
    let with = request(Method::GET, "/v1/x", &[("authorization", TOKEN)]);
    assert_eq!(auth.clone().oneshot(with).await.unwrap().body(), "true");
    let without = || request(Method::GET, "/v1/x", &[]);
    assert_eq!(auth.oneshot(without()).await.unwrap().status(), 401);

    let open = AuthLayer::new(access().disabled(), set).layer(inner);
    assert_eq!(
        open.clone().oneshot(without()).await.unwrap().body(),
        "false"
    );
    let ambiguous = request(Method::GET, "/v1/..", &[]);
    assert_eq!(open.oneshot(ambiguous).await.unwrap().status(), 400);
}

#[tokio::test]
async fn refusals_can_be_rendered_otherwise() {
    let bench = Bench::new();
    let inner =
        service_fn(async |_: Request<Bytes>| Ok::<_, Infallible>(Response::new(Bytes::new())));
    let auth = bench.auth.clone().rendering(
        |rejection: &Rejection, _: Option<&proactions_edge::RequestId>| {
            let mut response = Response::new(Bytes::from_static(b"no"));
            *response.status_mut() = rejection.status();
            response
        },
    );
    let response = auth
        .layer(inner)
        .oneshot(request(Method::GET, "/", &[]))
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), response.body().as_ref()),
        (401, &b"no"[..])
    );
    assert!(response.headers().contains_key("www-authenticate"));
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

            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                self.0.push_str(&format!("{}={value} ", field.name()));
            }
        }
        let mut log = self.0.lock().unwrap();
        log.push_str(&format!("{} ", event.metadata().target()));
        event.record(&mut Text(&mut log));
        log.push('\n');
    }
}

#[tokio::test]
async fn security_events_name_the_fact_and_no_secret() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let keys = KeyRing::new([&SecretString::from("k".repeat(32))]).unwrap();
    let mut bench = Bench::with(keys, Directory::new());
    let cookie = bench.log_in(&basic("bob", "bob-password")).await;
    bench.get(&[]).await;
    bench.get(&[("authorization", "Bearer hunter2")]).await;
    for _ in 0..9 {
        bench
            .get(&[("authorization", &basic("bob\u{3000}", "hunter2"))])
            .await;
    }
    let cross = [("cookie", &*cookie), ("origin", "https://evil.example")];
    bench.send(request(Method::POST, "/v1/x", &cross)).await;
    bench.send(request(Method::GET, "/a/../b", &[])).await;
    bench.replace(tokens(&["x"], &bench.keys));
    bench.get(&[("cookie", &cookie)]).await;
    bench
        .get(&[("cookie", "__Host-proactions_session=s%3Aforged.hunter2")])
        .await;
    let text = log.0.lock().unwrap().clone();
    for event in [
        "login",
        "unauthorized",
        "login_failed",
        "login_locked_out",
        "cross_site_refused",
        "ambiguous_path",
        "session_revoked",
        "cookie_signature_bad",
    ] {
        let line = format!("event={event} ");
        let found = text.lines().find(|text| text.contains(&line));
        let found = found.unwrap_or_else(|| panic!("{event} is missing in\n{text}"));
        assert!(found.starts_with("security "), "{found}");
        assert!(found.contains("ip=192.0.2.1"), "{found}");
    }
    let failed = text
        .lines()
        .find(|line| line.contains("event=login_failed ") && line.contains("username=bob "));
    assert!(failed.is_some(), "{text}");
    let id = bench
        .keys
        .verify(cookie.split_once('=').unwrap().1.as_bytes())
        .unwrap();
    for secret in ["hunter2", "bob-password", id.expose(), "forged"] {
        assert!(!text.contains(secret), "{text}");
    }
}
