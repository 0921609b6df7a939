//! Several providers under one name: fallback, load balance, retries and circuit breakers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proactions_testkit::{RawClient, Reply, Step, Upstream, closed_address};
use serde_json::Value;

use crate::harness::{Hub, PATIENCE, Req, TOKEN_AUTH};

fn custom(endpoint: &str, more: &str) -> String {
    format!("        - {{provider: custom, api_key: provider-key, endpoint: '{endpoint}'{more}}}\n")
}

fn up(upstream: &Upstream, more: &str) -> String {
    custom(&upstream.url("/v1/{path}"), more)
}

fn config(mode: &str, more: &str, targets: &[String]) -> String {
    format!(
        "targets:\n  - id: main\n    config:\n      strategy: {{mode: {mode}}}\n{more}      targets:\n{}{TOKEN_AUTH}",
        targets.concat()
    )
}

fn said(answer: &proactions_testkit::RawResponse) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body_text());
    let said = &answer.json()["choices"][0]["message"]["content"];
    said.as_str().unwrap().to_owned()
}

async fn ai_lines(hub: &mut Hub, count: usize) -> Vec<Value> {
    let lines = hub.process.wait_for_lines("\"module\":\"aiLink\"", count);
    let lines = lines.await;
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn the_second_target_answers_and_the_log_tells_both() {
    let second = Upstream::start(Reply::chat("second"));
    let limited = Upstream::start(Reply::error(429).with_header("retry-after", "99"));
    let broken = Upstream::start(Reply::error(500));
    let slow = Upstream::start(Reply::silence());
    let dead = format!("http://{}/v1/{{path}}", closed_address());
    for (first, status, outcome) in [
        (custom(&dead, ""), 502, "upstream_unreachable"),
        (up(&slow, ", request_timeout: 200"), 504, "upstream_timeout"),
        (up(&limited, ""), 429, "upstream_status"),
        (up(&broken, ""), 500, "upstream_status"),
    ] {
        let targets = [first, up(&second, "")];
        let mut hub = Hub::start(&config("fallback", "", &targets)).await;
        let answer = hub.send(&Req::chat(false).bearer()).await;
        assert_eq!(said(&answer), "second", "{outcome}");
        // One clean answer: nothing of the first one is in it.
        assert_eq!(answer.header("retry-after"), None);
        let lines = ai_lines(&mut hub, 2).await;
        assert_eq!(lines[0]["outcome"], outcome);
        assert_eq!(lines[0]["statusCode"], status);
        assert_eq!(lines[0]["targetPath"], "main/0");
        assert_eq!(lines[0]["attempt"], 1);
        assert_eq!(lines[1]["targetPath"], "main/1");
        assert_eq!(lines[1]["attempt"], 2);
        assert_eq!(lines[1]["statusCode"], 200);
        assert!(lines[1]["totalTokens"].is_number());
        assert_eq!(lines[0]["requestId"], lines[1]["requestId"]);
        assert!(!hub.output().contains("provider-key"));
    }
}

#[tokio::test]
async fn a_stream_falls_back_before_its_first_byte_and_not_after() {
    let dies = Upstream::start(Reply::chat_stream(5).cut_after(2, Step::Reset));
    let broken = Upstream::start(Reply::error(503));
    let good = Upstream::start(Reply::chat_stream(3));
    let targets = [up(&broken, ""), up(&good, "")];
    let hub = Hub::start(&config("fallback", "", &targets)).await;
    let answer = hub.send(&Req::chat(true).bearer()).await;
    let body = answer.body_text();
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");

    let targets = [up(&dies, ""), up(&good, "")];
    let hub = Hub::start(&config("fallback", "", &targets)).await;
    let body = hub.send(&Req::chat(true).bearer()).await.body_text();
    assert_eq!(body.matches("\"error\"").count(), 1, "{body}");
    assert_eq!(good.request_count(), 1);
}

#[tokio::test]
async fn load_follows_the_weights() {
    let heavy = Upstream::start(Reply::chat("heavy"));
    let light = Upstream::start(Reply::chat("light"));
    let never = Upstream::start(Reply::chat("never"));
    let targets = [
        up(&heavy, ", weight: 0.7"),
        up(&never, ", weight: 0"),
        up(&light, ", weight: 0.3"),
    ];
    let hub = Hub::start(&config("loadbalance", "", &targets)).await;
    let mut client: RawClient = hub.connect().await;
    let request = Req::chat(false).bearer().to_bytes();
    for _ in 0..300 {
        client.send(&request).await.unwrap();
        assert_eq!(client.next_response(PATIENCE).await.unwrap().status, 200);
    }
    let (heavy, light) = (heavy.request_count(), light.request_count());
    assert_eq!((heavy + light, never.request_count()), (300, 0));
    assert!(heavy.abs_diff(210) <= 6, "{heavy} of 300");
}

#[tokio::test]
async fn a_call_is_repeated_where_the_operator_says_so() {
    let failing = Arc::new(AtomicBool::new(true));
    let upstream = Upstream::serve({
        let failing = Arc::clone(&failing);
        move |_| {
            if failing.swap(false, Ordering::SeqCst) {
                Reply::error(500)
            } else {
                Reply::chat("again")
            }
        }
    });
    let retry = "      retry: {attempts: 1}\n";
    let mut hub = Hub::start(&config("single", retry, &[up(&upstream, "")])).await;
    assert_eq!(said(&hub.send(&Req::chat(false).bearer()).await), "again");
    let lines = ai_lines(&mut hub, 2).await;
    assert_eq!(lines[1]["targetPath"], "main/0");
    assert_eq!(lines[1]["attempt"], 2);
}

#[tokio::test]
async fn the_breaker_opens_fails_fast_and_closes() {
    let failing = Arc::new(AtomicBool::new(true));
    let upstream = Upstream::serve({
        let failing = Arc::clone(&failing);
        move |_| {
            if failing.load(Ordering::SeqCst) {
                Reply::error(500)
            } else {
                Reply::chat("back")
            }
        }
    });
    let yaml = format!(
        "targets:\n  - {{id: main, provider: custom, endpoint: '{}', breaker: {{failures: 3, cooldown: 1000}}}}\n{TOKEN_AUTH}",
        upstream.url("/v1/{path}")
    );
    let mut hub = Hub::start(&yaml).await;
    let request = Req::chat(false).bearer();
    for _ in 0..3 {
        assert_eq!(hub.send(&request).await.status, 500);
    }
    let answer = hub.send(&request).await;
    assert_eq!(answer.status, 503, "{}", answer.body_text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["error"], "Service Unavailable");
    assert_eq!(upstream.request_count(), 3, "the provider is left alone");
    hub.process.wait_for_line("breaker opened").await;

    failing.store(false, Ordering::SeqCst);
    let probed = async {
        loop {
            let answer = hub.send(&request).await;
            if answer.status != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, probed).await.unwrap();
    assert_eq!(said(&answer), "back");
    assert_eq!(said(&hub.send(&request).await), "back");
    hub.process.wait_for_line("breaker closed").await;
}
