//! Calls to upstreams over real sockets: good ones, slow ones and broken ones.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use proactions_edge::RejectionKind;
use proactions_forward::{
    BaseUrl, Body, BoxError, HttpClient, HttpClientConfig, Outgoing, SendError, SendErrorKind,
    UpstreamBody,
};
use proactions_testkit::{Gate, Reply, Step, Upstream, closed_address};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn client() -> HttpClient {
    HttpClient::without_tls(&HttpClientConfig::default())
}

fn get(url: &str) -> Outgoing {
    Outgoing::new(Method::GET, &BaseUrl::parse(url).unwrap(), "", None).unwrap()
}

async fn call(upstream: &Upstream) -> Result<http::Response<UpstreamBody>, SendError> {
    client().send(get(&upstream.url("/"))).await
}

#[tokio::test]
async fn only_what_may_travel_reaches_the_wire() {
    let upstream = Upstream::start(Reply::chat("hi"));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (
            "connection",
            "close, X-Forwarded-For, x-real-ip, Authorization, Cookie, x-api-key",
        ),
        ("host", "evil.example"),
        ("authorization", "Bearer hub-token"),
        ("cookie", "__Host-proactions_session=s"),
        ("x-target", "main"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-host", "evil.example"),
        ("x_forwarded_user", "admin"),
        ("forwarded", "for=1.2.3.4"),
        ("x-hub-user", "admin"),
        ("x-original-url", "/admin"),
        ("te", "trailers"),
        ("upgrade", "websocket"),
        ("content-length", "99"),
        ("expect", "100-continue"),
        ("accept", "application/json"),
        ("traceparent", "00-1-2-01"),
    ] {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let base = BaseUrl::parse(&upstream.url("/v1")).unwrap();
    let outgoing = Outgoing::new(Method::POST, &base, "/x", Some("a=b"))
        .unwrap()
        .headers_from_client(headers)
        .header(HeaderName::from_static("x-api-key"), "k".parse().unwrap())
        .header(header::HOST, "evil.example".parse().unwrap())
        .header(header::TRANSFER_ENCODING, "gzip".parse().unwrap())
        .body("{}");
    let answer = client().send(outgoing).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);

    let received = upstream.last_request();
    assert_eq!(received.target, "/v1/x?a=b");
    assert_eq!(received.body, "{}");
    let mut lines = received.header_lines();
    lines.sort_unstable();
    let host = upstream.addr().to_string();
    let expected = [
        ("accept", "application/json"),
        ("content-length", "2"),
        ("host", host.as_str()),
        ("traceparent", "00-1-2-01"),
        ("x-api-key", "k"),
    ];
    let lines: Vec<_> = lines
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn an_answer_loses_what_tells_about_the_upstream() {
    let upstream = Upstream::start(
        Reply::json(429, &serde_json::json!({"a": 1}))
            .with_header("server", "nginx/1.2.3")
            .with_header("x-powered-by", "PHP")
            .with_header("set-cookie", "a=b")
            .with_header("set-cookie", "c=d")
            .with_header("connection", "x-secret")
            .with_header("x-secret", "1")
            .with_header("retry-after", "7"),
    );
    let answer = call(&upstream).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()["retry-after"], "7");
    for gone in [
        "server",
        "x-powered-by",
        "set-cookie",
        "connection",
        "x-secret",
    ] {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
    let body = Body::from(answer.into_body());
    assert_eq!(body.collect_up_to(100).await.unwrap(), r#"{"a":1}"#);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_bad_gateway() {
    let url = format!("http://{}/", closed_address());
    let error = client().send(get(&url)).await.unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Connect);
    assert_eq!(error.rejection().kind(), RejectionKind::BadGateway);
    let told = error.rejection().to_string();
    assert!(
        !told.contains("127.0.0.1") && !told.contains("refused"),
        "{told}"
    );
    assert!(
        error
            .to_string()
            .starts_with("no connection to the upstream: ")
    );
}

#[tokio::test]
async fn what_is_not_http_is_a_bad_gateway() {
    for upstream in [
        Upstream::nonsense(),
        Upstream::endless_headers(),
        Upstream::raw([Step::Close]),
        Upstream::raw([Step::Reset]),
    ] {
        let error = call(&upstream).await.unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::Protocol, "{error}");
        assert_eq!(error.rejection().kind(), RejectionKind::BadGateway);
    }
}

/// What is read ahead of an answer is bounded; its head is read under the same bound.
#[tokio::test]
async fn a_head_beyond_what_is_read_ahead_is_a_bad_gateway() {
    for (fields, fits) in [(1, true), (5, false)] {
        let long = "x".repeat(60 * 1024);
        let reply = (0..fields).fold(Reply::chat("hi"), |reply, _| {
            reply.with_header("x-long", &long)
        });
        let upstream = Upstream::start(reply);
        assert_eq!(call(&upstream).await.is_ok(), fits, "{fields}");
    }
}

/// An upstream that answers nothing at `/silent`, and a client that is connected with it: the connection is made on the
/// real clock; from here on only silence can take time.
async fn silence_on_a_paused_clock() -> (Upstream, HttpClient) {
    let upstream = Upstream::serve(|request| match request.path() {
        "/silent" => Reply::silence(),
        _ => Reply::new(200),
    });
    let client = client();
    let warm = client.send(get(&upstream.url("/"))).await.unwrap();
    Body::from(warm.into_body())
        .collect_up_to(10)
        .await
        .unwrap();
    tokio::time::pause();
    (upstream, client)
}

#[tokio::test]
async fn a_silent_upstream_is_a_gateway_timeout() {
    let (upstream, client) = silence_on_a_paused_clock().await;
    let before = tokio::time::Instant::now();
    let outgoing = get(&upstream.url("/silent")).timeout(Duration::from_secs(7));
    let error = client.send(outgoing).await.unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Timeout);
    assert_eq!(error.rejection().kind(), RejectionKind::GatewayTimeout);
    assert_eq!(before.elapsed().as_secs(), 7);
}

#[tokio::test]
async fn a_long_body_has_time_to_be_sent() {
    let (upstream, client) = silence_on_a_paused_clock().await;
    let before = tokio::time::Instant::now();
    let outgoing = get(&upstream.url("/silent"))
        .timeout(Duration::from_secs(7))
        .body(vec![b'x'; 2 * 1024 * 1024]);
    let error = client.send(outgoing).await.unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Timeout);
    assert_eq!(before.elapsed().as_secs(), 7 + 8);
}

#[tokio::test]
async fn silence_within_an_answer_ends_it() {
    let upstream = Upstream::start(Reply::sse(["data: 1\n\n"]).then(Step::Hang));
    let mut body = call(&upstream).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "data: 1\n\n");
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Timeout);
    assert_eq!(before.elapsed().as_secs(), 120);
}

#[tokio::test]
async fn a_slow_stream_outlives_the_deadline_for_silence() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::chat_stream(5).gated(&gate));
    let outgoing = get(&upstream.url("/")).timeout(Duration::from_secs(60));
    let mut body = client().send(outgoing).await.unwrap().into_body();
    let mut text = Vec::new();
    for _ in 0..6 {
        // Fifty seconds of silence are moved past before each piece comes.
        let wait = futures_util::future::poll_immediate(body.frame()).await;
        assert!(wait.is_none());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(50)).await;
        tokio::time::resume();
        gate.release(1);
        text.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    assert!(text.ends_with(b"data: [DONE]\n\n"));
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    for ending in [Step::Close, Step::Reset] {
        let upstream = Upstream::start(Reply::chat_stream(3).cut_after(2, ending));
        let mut body = call(&upstream).await.unwrap().into_body();
        let error = loop {
            if let Err(error) = body.frame().await.expect("no clean end") {
                break error;
            }
        };
        assert_eq!(error.kind(), SendErrorKind::Protocol);
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_call_with_it() {
    let upstream = Upstream::serve(|request| match request.path() {
        "/silent" => Reply::silence(),
        _ => Reply::sse(["data: 1\n\n"]).then(Step::Hang),
    });
    let client = client();
    // Before the head of the answer.
    let outgoing = get(&upstream.url("/silent"));
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.send(outgoing).await.map(drop) }
    });
    upstream.until_requests(1).await;
    call.abort();
    upstream.until_abandoned(0).await;
    // Within the answer.
    let answer = client.send(get(&upstream.url("/"))).await.unwrap();
    drop(answer);
    upstream.until_abandoned(1).await;
    upstream.until_connections(0).await;
}

#[tokio::test]
async fn a_broken_request_body_is_the_clients_fault() {
    let upstream = Upstream::start(Reply::echo());
    let body = StreamBody::new(futures_util::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"{"))),
        Err(BoxError::from("cut")),
    ]));
    let outgoing = Outgoing::new(
        Method::POST,
        &BaseUrl::parse(&upstream.url("/")).unwrap(),
        "",
        None,
    )
    .unwrap()
    .body(Body::new(body));
    let error = client().send(outgoing).await.unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::RequestBody, "{error}");
    assert_eq!(error.rejection().kind(), RejectionKind::BadRequest);
}

#[tokio::test]
async fn connections_are_used_again_and_redirects_not_followed() {
    let upstream = Upstream::start(Reply::redirect(302, "http://127.0.0.1:1/"));
    let client = client();
    for _ in 0..3 {
        let answer = client.send(get(&upstream.url("/"))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FOUND);
        Body::from(answer.into_body())
            .collect_up_to(100)
            .await
            .unwrap();
    }
    assert_eq!(upstream.connections().len(), 1);
}

/// An upstream that answers each head with these bytes, and closes after the first if told so.
struct Answering {
    url: String,
    addr: std::net::SocketAddr,
    opened: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Answering {
    fn start(answer: &'static [u8], close: bool) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (opened, closed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&opened), Arc::clone(&closed));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counts.0.fetch_add(1, Ordering::SeqCst);
                let closed = Arc::clone(&counts.1);
                std::thread::spawn(move || {
                    answer_each(stream.unwrap(), answer, close);
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            url: format!("http://{addr}/"),
            addr,
            opened,
            closed,
        }
    }
}

fn answer_each(mut stream: std::net::TcpStream, answer: &[u8], close: bool) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap_or(0) > 0 {
        seen.push(byte[0]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            stream.write_all(answer).unwrap();
            if close {
                return;
            }
        }
    }
}

#[tokio::test]
async fn what_came_in_one_piece_goes_on_in_one_piece() {
    let upstream = Answering::start(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
          9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n9\r\ndata: 3\n\n\r\n9\r\ndata: 4\n\n\r\n0\r\n\r\n",
        false,
    );
    let client = client();
    for _ in 0..3 {
        let answer = client.send(get(&upstream.url)).await.unwrap();
        let mut body = answer.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "data: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n");
        assert!(body.frame().await.is_none());
    }
    assert_eq!(upstream.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_not_used() {
    let upstream = Answering::start(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true);
    let client = client();
    for round in 1..=5 {
        let answer = client.send(get(&upstream.url)).await.unwrap();
        let body = Body::from(answer.into_body()).collect_up_to(10).await;
        assert_eq!(body.unwrap(), "ok");
        // Each round has a second connection, see below.
        assert_eq!(upstream.opened.load(Ordering::SeqCst), 2 * round - 1);
        while upstream.closed.load(Ordering::SeqCst) < 2 * round - 1 {
            tokio::task::yield_now().await;
        }
        // What arrives on this one arrives after the end of the other, so the runtime has seen that too.
        let mut later = tokio::net::TcpStream::connect(upstream.addr).await.unwrap();
        later.write_all(b"\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        later.read_to_end(&mut rest).await.unwrap();
        while upstream.closed.load(Ordering::SeqCst) < 2 * round {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn calls_beside_each_other_have_connections_of_their_own() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::chat_stream(3).gated(&gate));
    let client = client();
    let mut bodies = Vec::new();
    for _ in 0..4 {
        let answer = client.send(get(&upstream.url("/"))).await.unwrap();
        bodies.push(Body::from(answer.into_body()));
    }
    gate.open();
    for body in bodies {
        let body = body.collect_up_to(10_000).await.unwrap();
        assert!(body.ends_with(b"data: [DONE]\n\n"));
    }
    assert_eq!(upstream.connections().len(), 4);
    let again = client.send(get(&upstream.url("/"))).await.unwrap();
    Body::from(again.into_body())
        .collect_up_to(10_000)
        .await
        .unwrap();
    assert_eq!(upstream.connections().len(), 4);
}

#[tokio::test]
async fn https_needs_tls() {
    let client = client();
    let error = client.send(get("https://127.0.0.1:1/")).await.unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Connect);
}

#[tokio::test]
async fn a_long_upload_is_not_a_silent_upstream() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let client = client();
    let warm = client.send(get(&upstream.url("/"))).await.unwrap();
    Body::from(warm.into_body())
        .collect_up_to(1000)
        .await
        .unwrap();
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let parts = futures_util::stream::unfold(0, |sent| async move {
        if sent == 5 {
            // From here on the answer needs real time.
            tokio::time::resume();
            return None;
        }
        tokio::time::sleep(Duration::from_secs(100)).await;
        let part = Frame::data(Bytes::from_static(b"part"));
        Some((Ok::<_, BoxError>(part), sent + 1))
    });
    let outgoing = Outgoing::new(
        Method::POST,
        &BaseUrl::parse(&upstream.url("/")).unwrap(),
        "",
        None,
    )
    .unwrap()
    .body(Body::new(StreamBody::new(Box::pin(parts))));
    let answer = client.send(outgoing).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(started.elapsed() >= Duration::from_secs(500));
    assert_eq!(upstream.last_request().body, "part".repeat(5));
}

#[tokio::test]
async fn an_upload_that_stalls_ends() {
    let upstream = Upstream::start(Reply::chat("hello"));
    let body = StreamBody::new(futures_util::stream::pending::<Result<_, BoxError>>());
    let outgoing = Outgoing::new(
        Method::POST,
        &BaseUrl::parse(&upstream.url("/")).unwrap(),
        "",
        None,
    )
    .unwrap()
    .timeout(Duration::from_secs(3))
    .body(Body::new(body));
    let client = client();
    let call = tokio::spawn(async move { client.send(outgoing).await.map(drop) });
    upstream.until_requests(1).await;
    tokio::time::pause();
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::RequestTimeout);
    assert_eq!(error.rejection().kind(), RejectionKind::RequestTimeout);
}

#[test]
fn the_client_goes_wherever_a_service_goes() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    fn owned<T: Send + Unpin + 'static>() {}
    shared::<HttpClient>();
    owned::<Body>();
    owned::<UpstreamBody>();
}
