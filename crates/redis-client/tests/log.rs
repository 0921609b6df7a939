//! What the log says. A test binary of its own: whether a line is wanted is remembered for the whole process, and
//! other tests want none.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that fails panics"
)]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use proactions_testkit::RedisServer;
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn the_log_is_short_and_holds_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut server = RedisServer::builder().password("hunter2").start().await;
    let client = client(&[&server.url()]);
    client.start();
    until_up_is(&client, true).await;
    assert_eq!(log.lines(), [""; 0]);
    server.kill();
    for _ in 0..100 {
        failure(&client).await;
    }
    sleep(Duration::from_millis(1500)).await;
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("ERROR redis: Redis is out of reach"),
        "{lines:?}"
    );
    server.restart().await;
    recovered(&client).await;
    let start = Instant::now();
    while log.lines().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        log.lines()[1].contains("INFO redis: Redis is back"),
        "{:?}",
        log.lines()
    );
    assert!(!log.lines().concat().contains("hunter2"));
    drop(guard);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
