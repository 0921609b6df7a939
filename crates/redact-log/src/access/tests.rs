use std::convert::Infallible;
use std::future::pending;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::USER_AGENT;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, StreamBody};
use proactions_edge::{
    AuthMethod, ClientInfo, Exchange, JsonRejection, ManualClock, Peer, Principal, Rejection,
    RejectionKind, RequestId, Scheme,
};
use serde_json::{Value, json};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::{LogFormat, LogGuard, Logging, LoggingConfig, LoggingPolicy};

#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Log {
    logging: Logging,
    console: Console,
    clock: Arc<ManualClock>,
    _guard: LogGuard,
}

fn log(config: LoggingConfig) -> Log {
    let console = Console::default();
    let clock = Arc::new(ManualClock::default());
    let policy = LoggingPolicy::try_from(config).unwrap();
    let (logging, guard) =
        Logging::start_with(policy, console.clone(), Arc::clone(&clock) as _).unwrap();
    Log {
        logging,
        console,
        clock,
        _guard: guard,
    }
}

impl Log {
    fn text(&self) -> String {
        assert!(self.logging.flush());
        String::from_utf8(self.console.0.lock().unwrap().clone()).unwrap()
    }

    /// The only line so far.
    fn line(&self) -> Value {
        let text = self.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    fn layer(&self) -> AccessLogLayer {
        AccessLogLayer::new(self.logging.clone())
    }
}

fn request(method: Method, target: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().unwrap();
    let ip: IpAddr = "192.0.2.7".parse().unwrap();
    let facts = request.extensions_mut();
    facts.insert(ClientInfo::new(ip, Scheme::Https, None, 0));
    facts.insert(RequestId::from_header("id-1".parse().unwrap()).unwrap());
    request
}

fn answer(body: &'static str) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(body.as_bytes())))
}

#[tokio::test]
async fn a_line_has_the_documented_fields_and_comes_when_the_body_ends() {
    let log = log(LoggingConfig::default());
    let clock = Arc::clone(&log.clock);
    let service = log.layer().layer(service_fn(move |request: Request<()>| {
        clock.advance(Duration::from_micros(12_345));
        let exchange = request.extensions().get::<Exchange>().unwrap();
        exchange.note_principal(Principal::new("ann", AuthMethod::Token));
        async { Ok::<_, Infallible>(answer("hello")) }
    }));
    let mut request = request(
        Method::POST,
        "/v1/x/sk-abcdefgh1234?page=2&api_key=abc&code=d",
    );
    request
        .headers_mut()
        .insert(USER_AGENT, "curl/8 (key=abc)".parse().unwrap());
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(log.text(), "");
    assert_eq!(response.body().size_hint().exact(), Some(5));
    assert_eq!(response.collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(
        log.line(),
        json!({
            "timestamp": "2026-01-01T00:00:00.012Z",
            "level": "info",
            "message": "POST /v1/x/[FILTERED] 200",
            "module": "access",
            "method": "POST",
            "url": "/v1/x/[FILTERED]?page=2&api_key=[FILTERED]&code=[FILTERED]",
            "statusCode": 200,
            "responseTime": 12.345,
            "ip": "192.0.2.7",
            "userAgent": "curl/8 (key=[FILTERED])",
            "requestId": "id-1",
            "username": "ann",
            "bytesSent": 5,
        })
    );
}

#[tokio::test]
async fn a_refusal_is_logged_with_its_reason_and_the_address_of_the_peer() {
    let log = log(LoggingConfig::default());
    let service = log.layer().layer(service_fn(|_: Request<()>| async {
        let refused = Rejection::new(RejectionKind::RateLimited);
        Ok::<_, Infallible>(refused.into_response::<Full<Bytes>, _>(&JsonRejection, None))
    }));
    let mut request = Request::new(());
    let addr = SocketAddr::from(([198, 51, 100, 9], 1234));
    request
        .extensions_mut()
        .insert(Peer::new(addr, Scheme::Http));
    let response = service.oneshot(request).await.unwrap();
    drop(response.collect().await.unwrap());
    let line = log.line();
    assert_eq!(line["statusCode"], 429);
    assert_eq!(line["reason"], "rate_limited");
    assert_eq!(line["ip"], "198.51.100.9");
    assert_eq!(line.get("username"), None);
    assert_eq!(line.get("aborted"), None);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_gets_499() {
    let log = log(LoggingConfig::default());
    let mut service = log.layer().layer(service_fn(|_: Request<()>| {
        pending::<Result<Response<Full<Bytes>>, Infallible>>()
    }));
    let future = service.call(request(Method::GET, "/slow"));
    drop(future);
    let line = log.line();
    assert_eq!(line["statusCode"], 499);
    assert_eq!(line["aborted"], true);
    assert_eq!(line["message"], "GET /slow 499");
}

#[tokio::test]
async fn a_body_that_is_dropped_or_breaks_is_told_from_one_that_ended() {
    type Item = Result<http_body::Frame<Bytes>, io::Error>;
    let part = || Ok(http_body::Frame::data(Bytes::from_static(b"abc")));
    // (method, status, items of the body, frames that are read, aborted)
    let cases: Vec<(Method, StatusCode, Vec<Item>, usize, bool)> = vec![
        (Method::GET, StatusCode::OK, vec![part(), part()], 1, true),
        (Method::GET, StatusCode::OK, vec![part(), part()], 3, false),
        (
            Method::GET,
            StatusCode::OK,
            vec![part(), Err(io::Error::other("x"))],
            2,
            true,
        ),
        (Method::HEAD, StatusCode::OK, vec![part()], 0, false),
        (
            Method::GET,
            StatusCode::NOT_MODIFIED,
            vec![part()],
            0,
            false,
        ),
    ];
    for (method, status, items, reads, aborted) in cases {
        let log = log(LoggingConfig::default());
        let mut items = Some(items);
        let mut service = log.layer().layer(service_fn(move |_: Request<()>| {
            let body = StreamBody::new(stream::iter(items.take().unwrap()));
            let mut response = Response::new(body);
            *response.status_mut() = status;
            async { Ok::<_, Infallible>(response) }
        }));
        let mut response = service.call(request(method.clone(), "/")).await.unwrap();
        for _ in 0..reads {
            let _ = response.body_mut().frame().await;
        }
        drop(response);
        let line = log.line();
        assert_eq!(
            line.get("aborted").is_some(),
            aborted,
            "{method} {status} {reads}"
        );
        assert_eq!(
            line["bytesSent"],
            3 * reads.min(2) - usize::from(aborted && reads == 2) * 3
        );
    }
}

#[tokio::test]
async fn a_body_of_known_length_need_not_be_asked_for_its_end() {
    let log = log(LoggingConfig::default());
    let service = log.layer().layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(answer("hello"))
    }));
    let mut response = service.oneshot(request(Method::GET, "/")).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    assert_eq!(log.line().get("aborted"), None);
}

#[tokio::test]
async fn an_error_of_the_service_passes_through_and_is_logged() {
    let log = log(LoggingConfig::default());
    let service = log.layer().layer(service_fn(|_: Request<()>| async {
        Err::<Response<Full<Bytes>>, _>("broken")
    }));
    let error = service
        .oneshot(request(Method::GET, "/"))
        .await
        .unwrap_err();
    assert_eq!(error, "broken");
    let line = log.line();
    assert_eq!(
        (&line["statusCode"], &line["reason"]),
        (&json!(500), &json!("service_error"))
    );
}

#[tokio::test]
async fn what_a_client_sends_cannot_forge_a_line() {
    let log = log(LoggingConfig::default());
    let service = log
        .layer()
        .layer(service_fn(|request: Request<()>| async move {
            let exchange = request.extensions().get::<Exchange>().unwrap();
            exchange.note_principal(Principal::new(
                "a\n{\"level\":\"info\"}\u{1b}[2J",
                AuthMethod::Edapi,
            ));
            Ok::<_, Infallible>(answer(""))
        }));
    let mut request = request(Method::GET, "/%0a%7b%22level%22:%22error%22%7d?${SECRET}");
    let agent = http::HeaderValue::from_bytes(b"x\"}\t\xc2\x9b\xff{\"level\":\"error\"}").unwrap();
    request.headers_mut().insert(USER_AGENT, agent);
    drop(service.oneshot(request).await.unwrap());
    let line = log.line();
    assert_eq!(line["level"], "info");
    assert_eq!(line["url"], "/%0a%7b%22level%22:%22error%22%7d?${SECRET}");
    assert_eq!(line["username"], "a\n{\"level\":\"info\"}\u{1b}[2J");
    let raw = log.text();
    assert!(!raw.trim_end().chars().any(char::is_control), "{raw:?}");
}

#[tokio::test]
async fn a_long_user_agent_is_cut_without_half_a_secret() {
    // The end that shows what it is lies before, at and behind the cut.
    for len in [300, 495, 505, 511, 600] {
        let log = log(LoggingConfig::default());
        let service = log.layer().layer(service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(answer(""))
        }));
        let agent = format!(
            "{} https://bob:LongPassword@host/ {}",
            "a".repeat(len - 20),
            "b".repeat(400)
        );
        let mut request = request(Method::GET, "/");
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, agent.parse().unwrap());
        drop(service.oneshot(request).await.unwrap());
        let line = log.line();
        let agent = line["userAgent"].as_str().unwrap();
        assert!(!agent.contains("Long"), "{agent}");
        assert!(agent.ends_with("[TRUNCATED]"), "{agent}");
        assert!(
            agent.len() <= 512 + "[FILTERED][TRUNCATED]".len(),
            "{agent}"
        );
    }
}

#[tokio::test]
async fn text_lines_follow_the_template() {
    let config = LoggingConfig {
        format: LogFormat::Text,
        text_format: "${level} ${ip} ${username} ${message} ${bytesSent}".to_owned(),
        ..LoggingConfig::default()
    };
    let log = log(config);
    let service = log.layer().layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(answer("hello"))
    }));
    let response = service
        .oneshot(request(Method::GET, "/a?token=b"))
        .await
        .unwrap();
    drop(response.collect().await.unwrap());
    assert_eq!(log.text(), "info 192.0.2.7 - GET /a 200 5\n");
}

#[tokio::test]
async fn switched_off_the_layer_only_passes_on() {
    let mut config = LoggingConfig::default();
    config.types.access.enabled = false;
    let log = log(config);
    let service = log
        .layer()
        .layer(service_fn(|request: Request<()>| async move {
            assert!(request.extensions().get::<Exchange>().is_none());
            Ok::<_, Infallible>(answer("hello"))
        }));
    let response = service.oneshot(request(Method::GET, "/")).await.unwrap();
    assert_eq!(response.collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(log.text(), "");
}
