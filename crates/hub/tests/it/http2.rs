//! Cleartext HTTP/2 with prior knowledge.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::harness::{ECHO_TARGET, Hub, TOKEN, TOKEN_AUTH};

#[tokio::test]
async fn many_streams_on_one_connection() {
    let hub = Hub::start(&format!("{TOKEN_AUTH}{ECHO_TARGET}")).await;
    let stream = TcpStream::connect(hub.addr).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..50 {
        let mut sender = sender.clone();
        let stream = index % 2 == 0;
        let body = format!(
            r#"{{"model":"m","stream":{stream},"messages":[{{"role":"user","content":"n{index}"}}]}}"#
        );
        let request = Request::post(format!("http://{}/v1/chat/completions", hub.addr))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(Full::<Bytes>::from(body))
            .unwrap();
        tasks.spawn(async move {
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(response.headers().contains_key("x-content-type-options"));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            assert_eq!(text.contains("[DONE]"), stream, "{text}");
        });
    }
    tasks.join_all().await;

    let mut sender = sender;
    for (path, status) in [("/health", 200), ("/nothing", 401), ("/a/../b", 400)] {
        let uri = format!("http://{}{path}", hub.addr);
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
}
