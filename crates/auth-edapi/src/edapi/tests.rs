use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Full};
use proactions_edge::{ManualClock, SecretString};
use tokio::sync::Semaphore;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::Presented;
use crate::edapi::EdapiConfig;

/// An EDAPI without a network. Users are named after their credentials.
#[derive(Clone)]
struct Fake(Arc<Shared>);

struct Shared {
    calls: AtomicUsize,
    mode: Mutex<Mode>,
    /// Each call needs a permit; there are plenty unless a test takes them.
    gate: Semaphore,
}

#[derive(Clone, Copy)]
enum Mode {
    Answer,
    /// Everything is this user's.
    User(&'static str),
    Status(u16),
    Hang,
    Refuse,
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot fetch http://edapi/?token=hunter2-secret")
    }
}

impl std::error::Error for Refused {}

impl Fake {
    fn set(&self, mode: Mode) {
        *self.0.mode.lock().unwrap() = mode;
    }

    fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.0.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn open(&self) {
        self.0.gate.add_permits(1000);
    }

    async fn answer(self, request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Refused> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let mode = *self.0.mode.lock().unwrap();
        self.0.gate.acquire().await.unwrap().forget();
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|never: Infallible| match never {})?;
        let user =
            match mode {
                Mode::User(user) => user.to_owned(),
                Mode::Status(status) => {
                    let mut response = Response::new(Full::from("no"));
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    return Ok(response);
                }
                Mode::Hang => std::future::pending().await,
                Mode::Refuse => return Err(Refused),
                Mode::Answer => match head.uri.query() {
                    Some(query) => query.strip_prefix("token=").unwrap().to_owned(),
                    None => serde_json::from_slice::<serde_json::Value>(&body.to_bytes()).unwrap()
                        ["username"]
                        .as_str()
                        .unwrap()
                        .to_owned(),
                },
            };
        let json = serde_json::json!({"username": user});
        Ok(Response::new(Full::from(json.to_string())))
    }
}

impl Service<Request<Full<Bytes>>> for Fake {
    type Response = Response<Full<Bytes>>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    edapi: Fake,
    hub: EdapiAuthenticator,
}

fn ring(secrets: &[&str]) -> KeyRing {
    let secrets: Vec<_> = secrets
        .iter()
        .map(|secret| SecretString::from(secret.repeat(32)))
        .collect();
    KeyRing::new(&secrets).unwrap()
}

fn policy(url: &str) -> EdapiPolicy {
    EdapiPolicy {
        url: url.into(),
        config: EdapiConfig::default(),
    }
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let edapi = Fake(Arc::new(Shared {
            calls: AtomicUsize::new(0),
            mode: Mutex::new(Mode::Answer),
            gate: Semaphore::new(100_000),
        }));
        let hub = hub(&edapi, &clock, &["k"], "http://edapi", state());
        Self { clock, edapi, hub }
    }

    /// Another hub before the same EDAPI, which shares no memory with this one.
    fn another(&self, secrets: &[&str]) -> EdapiAuthenticator {
        hub(&self.edapi, &self.clock, secrets, "http://edapi", state())
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn check(&self, token: &str) -> String {
        shown(&self.hub.check(&bearer(token)).await)
    }

    async fn proof(&self, token: &str) -> Arc<str> {
        proof(&self.hub.check(&bearer(token)).await).unwrap()
    }
}

fn state() -> Arc<EdapiState> {
    Arc::new(EdapiState::new().unwrap())
}

fn hub(
    edapi: &Fake,
    clock: &Arc<ManualClock>,
    secrets: &[&str],
    url: &str,
    state: Arc<EdapiState>,
) -> EdapiAuthenticator {
    let (policy, keys) = (policy(url), ring(secrets));
    EdapiAuthenticator::with_parts(&policy, &keys, edapi.clone(), state, clock.clone()).unwrap()
}

fn credentials(value: &str) -> Credentials {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    match Credentials::from_headers(&headers) {
        Presented::Credentials(credentials) => credentials,
        other => panic!("{other:?}"),
    }
}

fn bearer(token: &str) -> Credentials {
    credentials(&format!("Bearer {token}"))
}

fn basic(pair: &str) -> Credentials {
    credentials(&format!("Basic {}", STANDARD.encode(pair)))
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Granted(grant) => grant.principal.id.to_string(),
        Verdict::Denied => "denied".to_owned(),
        Verdict::Unavailable(wait) => format!("unavailable for {wait:?}"),
    }
}

const UNAVAILABLE: &str = "unavailable for 5s";

fn proof(verdict: &Verdict) -> Option<Arc<str>> {
    match verdict {
        Verdict::Granted(grant) => grant.proof.clone(),
        other => panic!("{other:?}"),
    }
}

fn stored<'a>(subject: &'a str, proof: &'a str) -> StoredLogin<'a> {
    StoredLogin {
        method: AuthMethod::Edapi,
        subject,
        proof: Some(proof),
    }
}

async fn resume(hub: &EdapiAuthenticator, subject: &str, proof: &str) -> Verdict {
    hub.resume(stored(subject, proof)).await
}

#[tokio::test(start_paused = true)]
async fn equal_checks_are_one_call() {
    let bench = Bench::new();
    bench.edapi.close();
    let waiting: Vec<_> = (0..500)
        .map(|_| tokio::spawn(bench.hub.check(&bearer("bob"))))
        .collect();
    tokio::task::yield_now().await;
    bench.edapi.open();
    for verdict in waiting {
        assert_eq!(shown(&verdict.await.unwrap()), "bob");
    }
    assert_eq!(bench.edapi.calls(), 1);
    assert_eq!(bench.hub.core.state.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_without_whoever_started_it() {
    let bench = Bench::new();
    bench.edapi.close();
    let first = bench.hub.check(&bearer("bob"));
    let second = bench.hub.check(&bearer("bob"));
    drop(first);
    bench.edapi.open();
    assert_eq!(shown(&second.await), "bob");
    // With nobody left at all the answer is still remembered.
    drop(bench.hub.check(&bearer("eve")));
    while bench.hub.core.state.flights.len() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.check("eve").await, "eve");
    assert_eq!(bench.edapi.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_anothers_identity() {
    let bench = Bench::new();
    bench.edapi.close();
    let pairs = ["a:bc", "ab:c", "a:b:c", "a:", "abc:"];
    let waiting: Vec<_> = (0..200)
        .map(|n| {
            let pair = pairs[n % pairs.len()];
            (pair, tokio::spawn(bench.hub.check(&basic(pair))))
        })
        .collect();
    bench.edapi.open();
    for (pair, verdict) in waiting {
        let (user, _) = pair.split_once(':').unwrap();
        assert_eq!(shown(&verdict.await.unwrap()), user, "{pair}");
    }
    assert_eq!(bench.edapi.calls(), pairs.len());
    // A token of the same text is another credential.
    assert_eq!(bench.check("abc").await, "abc");
    assert_eq!(bench.edapi.calls(), pairs.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn answers_are_remembered_for_their_time_only() {
    let bench = Bench::new();
    assert_eq!(bench.check("bob").await, "bob");
    bench.edapi.set(Mode::Status(401));
    bench.pass(299);
    assert_eq!(
        (bench.check("bob").await.as_str(), bench.edapi.calls()),
        ("bob", 1)
    );
    bench.pass(1);
    assert_eq!(
        (bench.check("bob").await.as_str(), bench.edapi.calls()),
        ("denied", 2)
    );
    bench.clock.advance(Duration::from_millis(999));
    assert_eq!(
        (bench.check("bob").await.as_str(), bench.edapi.calls()),
        ("denied", 2)
    );
    bench.edapi.set(Mode::Answer);
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(
        (bench.check("bob").await.as_str(), bench.edapi.calls()),
        ("bob", 3)
    );

    bench.edapi.set(Mode::Status(500));
    assert_eq!(bench.check("eve").await, UNAVAILABLE);
    assert_eq!(
        (bench.check("eve").await.as_str(), bench.edapi.calls()),
        (UNAVAILABLE, 4)
    );
    bench.edapi.set(Mode::Answer);
    bench.clock.advance(Duration::from_millis(500));
    assert_eq!(
        (bench.check("eve").await.as_str(), bench.edapi.calls()),
        ("eve", 5)
    );
}

#[tokio::test(start_paused = true)]
async fn a_yes_counts_from_when_it_was_asked_for() {
    let bench = Bench::new();
    bench.edapi.close();
    let verdict = bench.hub.check(&bearer("bob"));
    tokio::task::yield_now().await;
    bench.pass(4);
    bench.edapi.open();
    let granted = verdict.await;
    bench.pass(296);
    let proof = proof(&granted).unwrap();
    bench.edapi.set(Mode::Status(401));
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "denied");
    assert_eq!(bench.edapi.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_with_the_deadline() {
    let bench = Bench::new();
    bench.edapi.set(Mode::Hang);
    let start = tokio::time::Instant::now();
    assert_eq!(bench.check("bob").await, UNAVAILABLE);
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(bench.hub.core.state.flights.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_cap_wait_within_their_deadline() {
    let bench = Bench::new();
    bench.edapi.set(Mode::Hang);
    let start = tokio::time::Instant::now();
    let waiting: Vec<_> = (0..MAX_CALLS + 100)
        .map(|n| tokio::spawn(bench.hub.check(&bearer(&format!("token-{n}")))))
        .collect();
    tokio::time::sleep(Duration::from_millis(4999)).await;
    assert_eq!(bench.edapi.calls(), MAX_CALLS);
    for verdict in waiting {
        assert_eq!(shown(&verdict.await.unwrap()), UNAVAILABLE);
    }
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_checked_again_once_when_its_time_is_over() {
    let bench = Bench::new();
    let old = bench.proof("bob").await;
    bench.pass(299);
    let verdict = resume(&bench.hub, "bob", &old).await;
    assert_eq!(
        (
            shown(&verdict).as_str(),
            proof(&verdict),
            bench.edapi.calls()
        ),
        ("bob", None, 1)
    );
    bench.pass(1);
    bench.edapi.close();
    let waiting: Vec<_> = (0..100)
        .map(|_| tokio::spawn(bench.hub.resume(stored("bob", &old))))
        .collect();
    bench.edapi.open();
    let mut proofs = Vec::new();
    for verdict in waiting {
        let verdict = verdict.await.unwrap();
        assert_eq!(shown(&verdict), "bob");
        proofs.push(proof(&verdict).unwrap());
    }
    assert_eq!(bench.edapi.calls(), 2);
    proofs.dedup();
    assert_eq!(proofs.len(), 1);
    // Until the new proof is stored, the old one does; afterwards nothing changes any more.
    bench.pass(299);
    let verdict = resume(&bench.hub, "bob", &old).await;
    assert_eq!(proof(&verdict).as_ref(), proofs.first());
    let verdict = resume(&bench.hub, "bob", &proofs[0]).await;
    assert_eq!((proof(&verdict), bench.edapi.calls()), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_credential_is_revoked_ends() {
    let bench = Bench::new();
    let bob = bench.proof("bob").await;
    let grant = bench.hub.check(&basic("eve:password")).await;
    let eve = proof(&grant).unwrap();
    bench.edapi.set(Mode::Status(403));
    bench.pass(300);
    assert_eq!(shown(&resume(&bench.hub, "bob", &bob).await), "denied");
    assert_eq!(shown(&resume(&bench.hub, "eve", &eve).await), "denied");
    assert_eq!(bench.edapi.calls(), 4);
    // For a moment that need not be asked again.
    assert_eq!(shown(&resume(&bench.hub, "bob", &bob).await), "denied");
    assert_eq!(bench.edapi.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_no_to_a_login_ends_the_sessions_of_its_credential() {
    let bench = Bench::new();
    let old = bench.proof("bob").await;
    // A hub that has not heard of the credential before, and so asks at once.
    let other = bench.another(&["k"]);
    assert_eq!(shown(&resume(&other, "bob", &old).await), "bob");
    bench.edapi.set(Mode::Status(401));
    bench.pass(10);
    assert_eq!(shown(&other.check(&bearer("bob")).await), "denied");
    assert_eq!(shown(&resume(&other, "bob", &old).await), "denied");
    assert_eq!(bench.edapi.calls(), 2);
    bench.pass(2);
    assert_eq!(shown(&resume(&other, "bob", &old).await), "denied");
    assert_eq!(bench.edapi.calls(), 3);
    // One that had a yes.
    bench.pass(288);
    assert_eq!(bench.check("bob").await, "denied");
    bench.pass(2);
    assert_eq!(shown(&resume(&bench.hub, "bob", &old).await), "denied");
    // A login that is good again is another matter, and so are its sessions.
    bench.edapi.set(Mode::Answer);
    bench.pass(1);
    let new = bench.proof("bob").await;
    assert_eq!(shown(&resume(&bench.hub, "bob", &new).await), "bob");
    assert_eq!(shown(&resume(&other, "bob", &new).await), "bob");
}

#[tokio::test(start_paused = true)]
async fn a_no_that_was_a_mistake_ends_no_session_after_its_second() {
    let bench = Bench::new();
    let old = bench.proof("bob").await;
    let other = bench.another(&["k"]);
    bench.edapi.set(Mode::Status(404));
    bench.pass(10);
    assert_eq!(shown(&other.check(&bearer("bob")).await), "denied");
    bench.edapi.set(Mode::Answer);
    bench.clock.advance(Duration::from_millis(999));
    assert_eq!(shown(&resume(&other, "bob", &old).await), "denied");
    assert_eq!(bench.edapi.calls(), 2);
    bench.clock.advance(Duration::from_millis(1));
    let verdict = resume(&other, "bob", &old).await;
    assert_eq!((shown(&verdict).as_str(), bench.edapi.calls()), ("bob", 3));
    // The yes counts as any does.
    let new = proof(&verdict).unwrap();
    bench.pass(299);
    for proof in [&old, &new] {
        assert_eq!(shown(&resume(&other, "bob", proof).await), "bob");
    }
    assert_eq!(bench.edapi.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_refused_does_not_go_on_without_an_answer_and_does_not_end() {
    let bench = Bench::new();
    let proof = bench.proof("bob").await;
    let other = bench.another(&["k"]);
    bench.edapi.set(Mode::Status(401));
    bench.pass(10);
    assert_eq!(shown(&other.check(&bearer("bob")).await), "denied");
    bench.edapi.set(Mode::Status(500));
    bench.pass(1);
    // However often it fails, and as long as the session could go on without the no.
    for calls in 3..50 {
        assert_eq!(shown(&resume(&other, "bob", &proof).await), UNAVAILABLE);
        bench.clock.advance(Duration::from_millis(4999));
        assert_eq!(shown(&resume(&other, "bob", &proof).await), UNAVAILABLE);
        assert_eq!(bench.edapi.calls(), calls);
        bench.pass(15);
    }
    bench.edapi.set(Mode::Answer);
    assert_eq!(shown(&resume(&other, "bob", &proof).await), "bob");
}

#[tokio::test(start_paused = true)]
async fn a_no_counts_from_when_it_was_asked_for() {
    let bench = Bench::new();
    let old = bench.proof("bob").await;
    let other = bench.another(&["k"]);
    bench.edapi.set(Mode::Status(401));
    bench.edapi.close();
    let slow = tokio::spawn(other.check(&bearer("bob")));
    while bench.edapi.calls() < 2 {
        tokio::task::yield_now().await;
    }
    // While that is under way the credential becomes good, and somebody logs in elsewhere.
    bench.pass(2);
    let elsewhere = Bench::new().edapi;
    let elsewhere = hub(&elsewhere, &bench.clock, &["k"], "http://edapi", state());
    let new = proof(&elsewhere.check(&bearer("bob")).await).unwrap();
    bench.clock.advance(Duration::from_millis(2900));
    bench.edapi.open();
    assert_eq!(shown(&slow.await.unwrap()), "denied");
    assert_eq!(shown(&resume(&other, "bob", &new).await), "bob");
    assert_eq!(shown(&resume(&other, "bob", &old).await), "denied");
    assert_eq!(bench.edapi.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_became_somebody_elses_ends_the_session() {
    let bench = Bench::new();
    let proof = bench.proof("bob").await;
    bench.edapi.set(Mode::User("eve"));
    bench.pass(300);
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "denied");
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "denied");
    assert_eq!(bench.check("bob").await, "eve");
}

#[tokio::test(start_paused = true)]
async fn the_newer_of_what_two_hubs_know_counts() {
    let bench = Bench::new();
    let other = bench.another(&["k"]);
    bench.edapi.set(Mode::User("eve"));
    assert_eq!(shown(&other.check(&bearer("t")).await), "eve");
    bench.pass(1);
    bench.edapi.set(Mode::User("bob"));
    let bob = bench.proof("t").await;
    // The other hub believes that the credential is Eve's, and the proof knows better.
    assert_eq!(shown(&resume(&other, "bob", &bob).await), "bob");
    bench.pass(300);
    assert_eq!(shown(&resume(&other, "bob", &bob).await), "bob");
    assert_eq!(bench.edapi.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_proof_from_the_future_is_checked_and_replaced() {
    let bench = Bench::new();
    bench.pass(3600);
    let ahead = bench.proof("bob").await;
    bench
        .clock
        .set(bench.clock.now() - Duration::from_secs(3600));
    // A process whose clock is an hour behind.
    let behind = bench.another(&["k"]);
    let verdict = resume(&behind, "bob", &ahead).await;
    let new = proof(&verdict).unwrap();
    assert_ne!(new, ahead);
    assert_eq!(bench.edapi.calls(), 2);
    assert_eq!(proof(&resume(&behind, "bob", &new).await), None);
    bench.edapi.set(Mode::Status(401));
    bench.pass(300);
    assert_eq!(shown(&resume(&behind, "bob", &ahead).await), "denied");
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_their_outcome() {
    let bench = Bench::new();
    let counts = Counts::default();
    let guard = metrics::set_default_local_recorder(&counts);
    for (token, mode) in [
        ("a", Mode::Answer),
        ("a", Mode::Status(500)),
        ("b", Mode::Status(401)),
        ("c", Mode::Status(500)),
        ("d", Mode::Refuse),
    ] {
        bench.edapi.set(mode);
        bench.check(token).await;
    }
    drop(guard);
    assert_eq!(
        *counts.0.lock().unwrap(),
        ["yes", "no", "unavailable", "unavailable"]
            .map(|outcome| format!("hub_edapi_checks_total outcome={outcome}"))
    );
}

/// The counters that were asked for.
#[derive(Default)]
struct Counts(Mutex<Vec<String>>);

impl metrics::Recorder for Counts {
    fn describe_counter(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_gauge(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn describe_histogram(
        &self,
        _: metrics::KeyName,
        _: Option<metrics::Unit>,
        _: metrics::SharedString,
    ) {
    }
    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let labels = key
            .labels()
            .map(|label| format!(" {}={}", label.key(), label.value()));
        let line = format!("{}{}", key.name(), labels.collect::<String>());
        self.0.lock().unwrap().push(line);
        metrics::Counter::noop()
    }
    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }
    fn register_histogram(
        &self,
        _: &metrics::Key,
        _: &metrics::Metadata<'_>,
    ) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_go_on_while_edapi_is_down_and_not_for_ever() {
    let bench = Bench::new();
    let proof = bench.proof("bob").await;
    bench.edapi.set(Mode::Status(500));
    bench.pass(300);
    for _ in 0..20 {
        assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "bob");
        assert_eq!(bench.check("new").await, UNAVAILABLE);
        bench.pass(29);
    }
    bench.clock.advance(Duration::from_millis(19_999));
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "bob");
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), UNAVAILABLE);
    // The session was not ended: it goes on when EDAPI is back.
    bench.edapi.set(Mode::Answer);
    bench.pass(5);
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "bob");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_request_of_a_session_waits_for_a_dead_edapi() {
    let bench = Bench::new();
    let proof = bench.proof("bob").await;
    bench.edapi.set(Mode::Hang);
    bench.pass(300);
    let start = tokio::time::Instant::now();
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "bob");
    assert_eq!(
        (start.elapsed(), bench.edapi.calls()),
        (Duration::from_secs(5), 2)
    );
    // No attempt, then one in the background.
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "bob");
    assert_eq!(bench.edapi.calls(), 2);
    bench.pass(5);
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "bob");
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.edapi.calls(), 3);
    // What the background finds out counts with the next request.
    bench.edapi.set(Mode::Status(401));
    bench.pass(5);
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "bob");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(shown(&resume(&bench.hub, "bob", &proof).await), "denied");
}

#[tokio::test(start_paused = true)]
async fn every_hub_checks_a_session_again_and_none_asks_early() {
    let bench = Bench::new();
    let proof = bench.proof("bob").await;
    // Another process, or this one after a restart: it has nothing but the record and the secret.
    let other = bench.another(&["k"]);
    bench.pass(299);
    assert_eq!(shown(&resume(&other, "bob", &proof).await), "bob");
    assert_eq!(bench.edapi.calls(), 1);
    bench.pass(1);
    bench.edapi.set(Mode::Status(401));
    assert_eq!(shown(&resume(&other, "bob", &proof).await), "denied");
    assert_eq!(bench.edapi.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn proofs_follow_the_cookies_secrets() {
    let bench = Bench::new();
    let proof = bench.proof("bob").await;
    let rotated = bench.another(&["new", "k"]);
    assert_eq!(shown(&resume(&rotated, "bob", &proof).await), "bob");
    let changed = bench.another(&["new"]);
    assert_eq!(shown(&resume(&changed, "bob", &proof).await), "denied");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_made_up_is_no_login() {
    let bench = Bench::new();
    let proof = bench.proof("bob").await;
    let calls = bench.edapi.calls();
    for (subject, proof) in [
        ("eve", &*proof),
        ("bob", "e1.AAAA"),
        ("bob", ""),
        ("bob", "bob"),
    ] {
        assert_eq!(
            shown(&resume(&bench.hub, subject, proof).await),
            "denied",
            "{subject}"
        );
    }
    let without = StoredLogin {
        method: AuthMethod::Edapi,
        subject: "bob",
        proof: None,
    };
    assert_eq!(shown(&bench.hub.resume(without).await), "denied");
    let by_token = StoredLogin {
        method: AuthMethod::Token,
        ..stored("bob", &proof)
    };
    assert_eq!(shown(&bench.hub.resume(by_token).await), "denied");
    assert_eq!(bench.edapi.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_grant_continues_the_session_of_its_own_credential() {
    let bench = Bench::new();
    let first = bench.hub.check(&bearer("bob")).await;
    let old = proof(&first).unwrap();
    bench.pass(300);
    let Verdict::Granted(second) = bench.hub.check(&bearer("bob")).await else {
        panic!("a grant");
    };
    assert!(bench.hub.continues(&second, stored("bob", &old)));
    assert!(!bench.hub.continues(&second, stored("eve", &old)));
    bench.edapi.set(Mode::User("bob"));
    let other = bench.proof("another-token-of-bob").await;
    assert!(!bench.hub.continues(&second, stored("bob", &other)));
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_goes_on_with_what_is_known_unless_it_asks_elsewhere() {
    let bench = Bench::new();
    bench.proof("bob").await;
    let state = bench.hub.core.state.clone();
    let same = hub(
        &bench.edapi,
        &bench.clock,
        &["k"],
        "http://edapi",
        state.clone(),
    );
    assert_eq!(shown(&same.check(&bearer("bob")).await), "bob");
    assert_eq!(bench.edapi.calls(), 1);
    let moved = hub(&bench.edapi, &bench.clock, &["k"], "http://other", state);
    assert_eq!(shown(&moved.check(&bearer("bob")).await), "bob");
    assert_eq!(bench.edapi.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_probe_tells_whether_edapi_is_there() {
    let bench = Bench::new();
    for (mode, up) in [
        (Mode::Status(401), true),
        (Mode::Status(404), true),
        (Mode::Status(302), false),
        (Mode::Status(500), false),
        (Mode::User("x"), true),
        (Mode::Refuse, false),
        (Mode::Hang, false),
    ] {
        bench.edapi.set(mode);
        assert_eq!(bench.hub.probe().await, up);
        assert_eq!(bench.hub.is_down(), !up);
    }
    bench.pass(30);
    assert!(!bench.hub.is_down());
}

/// Everything that was logged, a line an event.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<String>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text<'a>(&'a mut String);
        impl tracing::field::Visit for Text<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut log = self.0.lock().unwrap();
        event.record(&mut Text(&mut log));
        log.push('\n');
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_an_event_once_a_minute_and_shows_no_credential() {
    let bench = Bench::new();
    let log = Log::default();
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
    let mut verdicts = Vec::new();
    for mode in [
        Mode::Refuse,
        Mode::Status(500),
        Mode::Hang,
        Mode::Status(401),
        Mode::User("bob"),
    ] {
        bench.edapi.set(mode);
        bench.pass(1);
        verdicts.push(bench.hub.check(&bearer("hunter2-secret")).await);
        verdicts.push(bench.hub.check(&basic("bob:hunter2-secret")).await);
    }
    bench.edapi.set(Mode::Status(503));
    bench.pass(360);
    verdicts.push(bench.hub.check(&bearer("hunter2-secret")).await);
    drop(guard);
    let log = log.0.lock().unwrap().clone();
    assert_eq!(log.matches("edapi_unavailable").count(), 2, "{log}");
    assert!(log.contains("reason=\"unreachable\""), "{log}");
    assert!(
        log.contains("reason=\"status\" status=503 heldBack=5"),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
    let shown = format!("{:?} {:?} {verdicts:?}", bench.hub, bench.hub.core.state);
    assert!(!shown.contains("hunter2"), "{shown}");
}
