use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::{Ending, Gate, RawClient, Reply, Step, Upstream};

const LIMIT: Duration = Duration::from_secs(10);

const GET: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n";

fn post(body: &str) -> Vec<u8> {
    format!(
        "POST /p HTTP/1.1\r\nHost: x\r\nX-B: 1\r\nx-a: 2\r\nx-b: 3\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn client(upstream: &Upstream) -> RawClient {
    RawClient::connect(upstream.addr()).await.unwrap()
}

#[tokio::test]
async fn echo_tells_what_came() {
    let upstream = Upstream::start(Reply::echo());
    let mut client = client(&upstream).await;
    client.send(post("h\u{e9}llo")).await.unwrap();
    let echo = client.next_response(LIMIT).await.unwrap().json();
    assert_eq!(
        echo,
        json!({
            "method": "POST", "target": "/p", "version": "HTTP/1.1", "body": "h\u{e9}llo",
            "bodyHex": "68c3a96c6c6f", "bodyLength": 6,
            "headers": [["host", "x"], ["x-b", "1"], ["x-b", "3"], ["x-a", "2"], ["content-length", "6"]],
        })
    );
    client.send(GET).await.unwrap();
    client.next_response(LIMIT).await.unwrap();
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(
        (requests[1].target.as_str(), requests[1].path()),
        ("/a?b=c", "/a")
    );
    assert_eq!((requests[0].connection, requests[1].connection), (0, 0));
    assert_eq!(
        upstream.connections()[0].wire,
        [&post("h\u{e9}llo"), GET].concat()
    );
    assert!(requests.iter().all(|r| r.body_complete && !r.abandoned));
}

#[tokio::test]
async fn a_body_is_echoed_as_it_comes() {
    let upstream = Upstream::builder()
        .answer_before_body()
        .start(Reply::echo_body());
    let mut client = client(&upstream).await;
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await
        .unwrap();
    client.read_until("abc", LIMIT).await.unwrap();
    assert!(!upstream.requests()[0].body_complete);
    client.send("2\r\nde\r\n0\r\n\r\n").await.unwrap();
    client.read_until("0\r\n\r\n", LIMIT).await.unwrap();
    let request = upstream.last_request();
    assert_eq!(
        (&request.body[..], request.body_complete),
        (&b"abcde"[..], true)
    );
}

#[tokio::test]
async fn replies_are_picked_by_the_request() {
    let upstream = Upstream::serve(|request| match request.json()["model"].as_str() {
        Some("busy") => Reply::error(429),
        Some(model) => Reply::chat(model),
        None => Reply::error(404),
    });
    let mut client = client(&upstream).await;
    for (body, status, retry_after) in [
        ("{\"model\":\"m\"}", 200, None),
        ("{\"model\":\"busy\"}", 429, Some("7")),
        ("{}", 404, None),
    ] {
        client.send(post(body)).await.unwrap();
        let response = client.next_response(LIMIT).await.unwrap();
        assert_eq!(
            (response.status, response.header("retry-after")),
            (status, retry_after)
        );
    }
}

#[tokio::test]
async fn a_gated_stream_sends_one_piece_at_a_time() {
    let gate = Gate::closed();
    let upstream = Upstream::start(Reply::chat_stream(3).gated(&gate));
    let mut client = client(&upstream).await;
    client.send(GET).await.unwrap();
    let head = client.read_until("\r\n\r\n", LIMIT).await.unwrap();
    assert!(head.contains("text/event-stream") && !head.contains("w0"));
    for word in ["w0 ", "w1 ", "w2 "] {
        gate.release(1);
        let came = client.read_until(word, LIMIT).await.unwrap();
        assert_eq!(came.matches("data: {").count(), 1, "{came}");
    }
    gate.open();
    client.read_until("data: [DONE]\n\n", LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_stream_breaks_off_after_what_it_sent() {
    for (ending, seen) in [(Step::Close, Ending::Closed), (Step::Reset, Ending::Reset)] {
        let gate = Gate::closed();
        let reply = Reply::chat_stream(5)
            .cut_after(2, Step::Wait(gate.clone()))
            .then(ending);
        let upstream = Upstream::start(reply);
        let mut client = client(&upstream).await;
        client.send(GET).await.unwrap();
        let came = client.read_until("w1 ", LIMIT).await.unwrap();
        gate.open();
        let rest = client.read_to_end(LIMIT).await;
        assert_eq!(rest.ending, seen);
        assert!(!came.contains("w2") && !rest.text().contains("0\r\n\r\n"));
        upstream.until_connections(0).await;
        assert!(!upstream.requests()[0].abandoned);
    }
}

#[tokio::test]
async fn what_was_sent_arrives_before_the_connection_breaks() {
    for _ in 0..50 {
        let upstream = Upstream::start(Reply::chat_stream(5).cut_after(5, Step::Close));
        let came = RawClient::exchange(upstream.addr(), GET, LIMIT)
            .await
            .unwrap();
        assert!(came.text().contains("w4 ") && !came.text().contains("DONE"));
        assert!(!came.responses()[0].complete);
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    for reply in [
        Reply::silence(),
        Reply::chat_stream(2).cut_after(1, Step::Hang),
        Reply::new(200).then(Step::Repeat(Bytes::from_static(b"on and on "))),
    ] {
        let upstream = Upstream::start(reply);
        let mut client = client(&upstream).await;
        client.send(GET).await.unwrap();
        upstream.until_requests(1).await;
        assert_eq!(upstream.open_connections(), 1);
        assert!(!upstream.requests()[0].abandoned);
        drop(client);
        upstream.until_abandoned(0).await;
        upstream.until_connections(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_shorten_the_patience() {
    let upstream = Upstream::start(Reply::silence());
    let mut client = client(&upstream).await;
    client.send(GET).await.unwrap();
    upstream.until_requests(1).await;
    drop(client);
    upstream.until_abandoned(0).await;
}

#[tokio::test]
async fn broken_replies_are_broken() {
    let before = Reply::new(200).before_head(Step::Close);
    let cases = [
        (Upstream::start(before), "", Ending::Closed),
        (Upstream::nonsense(), "\u{16}\u{3}\u{1} SSH", Ending::Closed),
        (
            Upstream::wrong_length(9, "abc"),
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\nabc",
            Ending::Closed,
        ),
        (
            Upstream::wrong_length(1, "abc"),
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\nabc",
            Ending::Closed,
        ),
        (Upstream::raw([Step::Reset]), "", Ending::Reset),
    ];
    for (upstream, start, ending) in cases {
        let came = RawClient::exchange(upstream.addr(), GET, LIMIT)
            .await
            .unwrap();
        assert!(
            came.text().starts_with(start),
            "{start:?}: {:?}",
            came.text()
        );
        assert_eq!(came.ending, ending, "{start:?}");
        assert_eq!(upstream.connections()[0].wire, GET);
    }
    let upstream = Upstream::start(Reply::bytes(200, "text/plain", "abc").declaring(9));
    let came = RawClient::exchange(upstream.addr(), GET, LIMIT)
        .await
        .unwrap();
    let response = &came.responses()[0];
    assert_eq!(
        (response.body_text().as_str(), response.complete),
        ("abc", false)
    );
}

#[tokio::test]
async fn headers_go_on_until_the_client_leaves() {
    let upstream = Upstream::endless_headers();
    let mut client = client(&upstream).await;
    client.send(GET).await.unwrap();
    for _ in 0..3 {
        client
            .read_until("x-more: and more\r\nx-more", LIMIT)
            .await
            .unwrap();
    }
    drop(client);
    upstream.until_connections(0).await;
}

#[tokio::test]
async fn a_huge_body_has_its_length() {
    let upstream = Upstream::start(Reply::huge(3_000_001));
    let mut client = client(&upstream).await;
    client.send(GET).await.unwrap();
    let response = client.next_response(LIMIT).await.unwrap();
    assert_eq!(response.header("content-length"), Some("3000001"));
    assert_eq!((response.body.len(), response.complete), (3_000_001, true));
}

#[tokio::test]
async fn a_dripping_body_comes_whole() {
    let reply = Reply::bytes(200, "text/plain", "slow").dripping(Duration::from_millis(1));
    let upstream = Upstream::start(reply);
    let came = RawClient::exchange(
        upstream.addr(),
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        LIMIT,
    );
    let came = came.await.unwrap();
    assert_eq!(came.responses()[0].body_text(), "slow");
    assert_eq!(came.text().matches("\r\n1\r\n").count(), 4);
}

#[tokio::test]
async fn recording_has_a_limit() {
    let upstream = Upstream::builder()
        .recording_at_most(4)
        .start(Reply::new(204));
    let mut client = client(&upstream).await;
    client.send(post("123456789")).await.unwrap();
    assert_eq!(client.next_response(LIMIT).await.unwrap().status, 204);
    let request = upstream.last_request();
    assert_eq!((&request.body[..], request.body_len), (&b"1234"[..], 9));
    assert_eq!(upstream.connections()[0].wire, b"POST");
}

#[tokio::test]
async fn an_early_answer_leaves_the_body_unread() {
    let upstream = Upstream::builder()
        .answer_before_body()
        .start(Reply::error(413));
    let mut client = client(&upstream).await;
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.next_response(LIMIT).await.unwrap().status, 413);
    assert_eq!(upstream.last_request().body_len, 0);
}

#[tokio::test]
async fn http2_without_tls() {
    let upstream = Upstream::start(Reply::echo());
    let stream = tokio::net::TcpStream::connect(upstream.addr())
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post(upstream.url("/v1/x?y"))
        .body(Full::new(Bytes::from_static(b"body")))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let echo: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&echo["version"], &echo["body"]),
        (&json!("HTTP/2.0"), &json!("body"))
    );
    let request = upstream.last_request();
    assert_eq!(
        (request.version, request.method),
        (Version::HTTP_2, Method::POST)
    );
}

#[test]
fn it_stops_when_dropped_and_can_come_back_at_its_place() {
    let upstream = Upstream::start(Reply::echo());
    let addr = upstream.addr();
    let held = std::net::TcpStream::connect(addr).unwrap();
    drop(upstream);
    assert!(std::net::TcpStream::connect(addr).is_err());
    drop(held);
    let again = Upstream::builder().at(addr).start(Reply::echo());
    assert_eq!(again.addr(), addr);
    std::net::TcpStream::connect(addr).unwrap();
}
