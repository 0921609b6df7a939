//! `/proxy/forward/{id}`: bodies, lengths, trailers and ends of messages, over the wire.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proactions_testkit::{Gate, RawResponse, Reply, Step, Upstream};
use tokio::net::TcpStream;

use crate::harness::{Hub, PATIENCE, Req, TOKEN, TOKEN_AUTH};

fn config(url: &str) -> String {
    format!("proxies:\n  - {{id: up, url: '{url}'}}\n{TOKEN_AUTH}")
}

type Sender = SendRequest<BoxBody<Bytes, std::convert::Infallible>>;

async fn http2(hub: &Hub) -> Sender {
    let stream = TcpStream::connect(hub.addr).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

fn http2_request(hub: &Hub, method: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://{}/proxy/forward/up", hub.addr))
        .header("authorization", format!("Bearer {TOKEN}"))
}

/// One request on a connection of its own: everything that comes until its end.
async fn transcript(hub: &Hub, method: &str) -> String {
    let mut client = hub.connect().await;
    let request = Req::new(method, "/proxy/forward/up")
        .bearer()
        .header("connection", "close");
    client.send(request.to_bytes()).await.unwrap();
    client.read_to_end(PATIENCE).await.text()
}

#[tokio::test]
async fn a_body_of_unknown_length_travels_with_every_method() {
    let upstream = Upstream::start(Reply::new(204));
    let hub = Hub::start(&config(&upstream.url("/"))).await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "POST", "PUT"] {
        let request = Req::new(method, "/proxy/forward/up")
            .bearer()
            .header("transfer-encoding", "chunked");
        let mut bytes = request.to_bytes();
        bytes.extend(b"4\r\nbody\r\n0\r\n\r\n");
        assert_eq!(hub.raw(bytes).await.status, 204, "{method}");
        let received = upstream.last_request();
        assert_eq!(
            (received.method.as_str(), received.body.as_ref()),
            (method, &b"body"[..])
        );

        let frames = ["bo", "dy"].map(|data| Ok(http_body::Frame::data(Bytes::from(data))));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let request = http2_request(&hub, method)
            .body(BoxBody::new(body))
            .unwrap();
        let answer = http2(&hub).await.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 204, "{method}");
        let received = upstream.last_request();
        assert_eq!(
            (received.method.as_str(), received.body.as_ref()),
            (method, &b"body"[..])
        );
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let request = Req::new(method, "/proxy/forward/up").bearer();
        assert_eq!(hub.send(&request).await.status, 204, "{method}");
        let received = upstream.last_request();
        for name in ["transfer-encoding", "content-length"] {
            assert_eq!(received.header(name), None, "{method} {name}");
        }
    }
}

#[tokio::test]
async fn trailers_of_an_answer_stay_here() {
    let upstream = Upstream::raw([Step::send(
        "HTTP/1.1 200 OK\r\nTrailer: Set-Cookie\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\
         Set-Cookie: evil=1\r\nStrict-Transport-Security: max-age=0\r\nX-Own: 1\r\n\r\n",
    )]);
    let hub = Hub::start(&config(&upstream.url("/"))).await;
    let request = http2_request(&hub, "GET")
        .header("te", "trailers")
        .body(BoxBody::new(Full::<Bytes>::default()))
        .unwrap();
    let answer = http2(&hub).await.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap();
    assert_eq!(body.trailers(), None);
    assert_eq!(body.to_bytes(), "hello");

    let request = Req::get("/proxy/forward/up")
        .bearer()
        .header("te", "trailers");
    let answer = hub.send(&request).await;
    assert_eq!((answer.status, answer.body_text().as_str()), (200, "hello"));
}

#[tokio::test]
async fn an_answer_that_fails_at_once_still_has_a_status() {
    for (sent, is_certain) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
            true,
        ),
    ] {
        let upstream = Upstream::raw([Step::send(sent)]);
        let mut hub = Hub::start(&config(&upstream.url("/"))).await;
        let got = transcript(&hub, "GET").await;
        let status = RawResponse::parse_all(got.as_bytes())
            .first()
            .map(|first| first.status);
        // Whether the failure is there with the head is the network's choice. What the client sees is the same for
        // each choice: a status, and nothing that looks like an end of the body.
        match status {
            Some(502) if !is_certain => assert!(got.contains("\"error\""), "{got}"),
            _ => {
                assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{sent:?}: {got:?}");
                assert!(!got.contains("\r\n0\r\n"), "{got}");
                assert_eq!(got.contains("hello"), is_certain, "{got}");
            }
        }
        let line = hub.process.wait_for_line("\"module\":\"proxy\"").await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["outcome"], "upstream_error", "{line}");
        let told = if got.starts_with("HTTP/1.1 502") {
            502
        } else {
            200
        };
        assert_eq!(line["statusCode"], told, "{line}");

        let request = http2_request(&hub, "GET")
            .body(BoxBody::new(Full::<Bytes>::default()))
            .unwrap();
        let answer = http2(&hub).await.send_request(request).await.unwrap();
        match answer.status() {
            StatusCode::BAD_GATEWAY if !is_certain => {}
            status => {
                assert_eq!(status, 200);
                answer.into_body().collect().await.unwrap_err();
            }
        }
        hub.stop().await;
    }
}

#[tokio::test]
async fn the_head_does_not_wait_for_the_body() {
    let gate = Gate::closed();
    let upstream = Upstream::raw([
        Step::send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        Step::Wait(gate.clone()),
        Step::send("hel"),
    ]);
    let hub = Hub::start(&config(&upstream.url("/"))).await;
    let mut client = hub.connect().await;
    let request = Req::get("/proxy/forward/up").bearer();
    client.send(request.to_bytes()).await.unwrap();
    let head = client.next_head(PATIENCE).await.unwrap();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("5"))
    );
    gate.open();
    let rest = client.read_to_end(PATIENCE).await.text();
    assert!(rest.ends_with("hel"), "{rest:?}");
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_believed() {
    let upstream = Upstream::raw([Step::send(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
         b\r\nhello there\r\n0\r\n\r\n",
    )]);
    let hub = Hub::start(&config(&upstream.url("/"))).await;
    let answer = hub.send(&Req::get("/proxy/forward/up").bearer()).await;
    assert_eq!(
        (answer.status, answer.body_text().as_str()),
        (200, "hello there")
    );
    assert_ne!(answer.header("content-length"), Some("5"));
    let request = http2_request(&hub, "GET")
        .body(BoxBody::new(Full::<Bytes>::default()))
        .unwrap();
    let answer = http2(&hub).await.send_request(request).await.unwrap();
    assert_ne!(
        answer
            .headers()
            .get("content-length")
            .map(|value| value.as_bytes()),
        Some(&b"5"[..])
    );
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "hello there"
    );
}

#[tokio::test]
async fn a_coding_that_nobody_undoes_is_a_bad_gateway() {
    for codings in [
        "gzip, chunked",
        "gzip",
        "chunked\r\nTransfer-Encoding: chunked",
        "identity",
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {codings}\r\n\r\n");
        let upstream = Upstream::raw([Step::send(format!("{head}5\r\nhello\r\n0\r\n\r\n"))]);
        let hub = Hub::start(&config(&upstream.url("/"))).await;
        let answer = hub.send(&Req::get("/proxy/forward/up").bearer()).await;
        assert_eq!(answer.status, 502, "{codings:?}");
        assert!(!answer.body_text().contains("hello"));
        if codings == "gzip, chunked" {
            // There is nothing to decode.
            let head = transcript(&hub, "HEAD").await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        }
    }
}

#[tokio::test]
async fn no_answer_orders_a_proxy_in_front_about() {
    let mut reply = Reply::bytes(200, "text/plain", "hello");
    let orders = [
        "x-accel-redirect",
        "x-accel-expires",
        "x-accel-limit-rate",
        "x-sendfile",
        "x-lighttpd-send-file",
        "x-reproxy-url",
        "surrogate-control",
    ];
    for name in orders {
        reply = reply.with_header(name, "/etc/passwd");
    }
    let upstream = Upstream::start(reply.with_header("x-accel-buffering", "no"));
    let hub = Hub::start(&config(&upstream.url("/"))).await;
    let answer = hub.send(&Req::get("/proxy/forward/up").bearer()).await;
    assert_eq!((answer.status, answer.body_text().as_str()), (200, "hello"));
    for name in orders {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
}

#[tokio::test]
async fn the_query_of_the_url_wins() {
    let upstream = Upstream::start(Reply::new(200));
    let hub = Hub::start(&config(&upstream.url("/?api=1"))).await;
    for (query, target) in [
        ("", "/x?api=1"),
        ("?api=2", "/x?api=1"),
        ("?a=1&%61pi=2&API=3&b=2", "/x?api=1&a=1&b=2"),
    ] {
        let request = Req::get(&format!("/proxy/forward/up/x{query}")).bearer();
        assert_eq!(hub.send(&request).await.status, 200);
        assert_eq!(upstream.last_request().target, target);
    }
}
