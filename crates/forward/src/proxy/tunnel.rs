use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, timeout};

use super::meter::Meter;

/// What is on its way in one direction at most, in bytes.
const BUFFER: usize = 8 * 1024;

/// How long one side may take to begin the tunnel, or to end it after the other has.
const PATIENCE: Duration = Duration::from_secs(10);

/// Carries bytes both ways until one side ends or both are silent for `idle`.
pub(super) async fn run(client: OnUpgrade, upstream: OnUpgrade, idle: Duration, mut meter: Meter) {
    let (client, upstream) = match timeout(PATIENCE, async { tokio::join!(client, upstream) }).await
    {
        Ok((Ok(client), Ok(upstream))) => (client, upstream),
        Ok((Err(_), _)) => return,
        Ok((_, Err(error))) => {
            meter.tunnel_ended(Some(("upstream_error", error.to_string())));
            return;
        }
        Err(_) => {
            meter.tunnel_ended(Some(("tunnel_not_begun", String::new())));
            return;
        }
    };
    let ending = carry(client, upstream, idle, &meter.received, &meter.sent).await;
    meter.tunnel_ended(ending);
}

async fn carry(
    client: Upgraded,
    upstream: Upgraded,
    idle: Duration,
    received: &AtomicU64,
    sent: &AtomicU64,
) -> Option<(&'static str, String)> {
    let (client_read, client_write) = split(TokioIo::new(client));
    let (upstream_read, upstream_write) = split(TokioIo::new(upstream));
    let moved = Moved::now();
    let mut up = pin!(pump(client_read, upstream_write, received, &moved));
    let mut down = pin!(pump(upstream_read, client_write, sent, &moved));
    let broken = |side, error: &io::Error| Some((side, error.to_string()));
    tokio::select! {
        ended = &mut up => match ended {
            Ok(()) => {
                let _ = timeout(PATIENCE, down).await;
                None
            }
            Err(error) => broken("tunnel_broken", &error),
        },
        ended = &mut down => match ended {
            Ok(()) => {
                let _ = timeout(PATIENCE, up).await;
                None
            }
            Err(error) => broken("tunnel_broken", &error),
        },
        () = moved.silent_for(idle) => Some(("idle", "both sides were silent for too long".to_owned())),
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
    moved: &Moved,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = from.read(&mut buffer).await?;
        let Some(part) = buffer.get(..len).filter(|part| !part.is_empty()) else {
            return to.shutdown().await;
        };
        moved.note();
        to.write_all(part).await?;
        to.flush().await?;
        moved.note();
        bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// When the last byte moved, in either direction.
struct Moved {
    began: Instant,
    /// In milliseconds since then.
    last: AtomicU64,
}

impl Moved {
    fn now() -> Self {
        Self {
            began: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn note(&self) {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Ordering::Relaxed);
    }

    async fn silent_for(&self, idle: Duration) {
        loop {
            let end = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + idle;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}
