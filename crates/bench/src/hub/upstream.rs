//! The stand-in for a provider: reads a request, and answers as the first segment of its path says.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::client::nanos;

/// Events of a stream.
pub(crate) const EVENTS: usize = 50;
/// Between two events of a paced stream.
const PACE: Duration = Duration::from_millis(10);
/// Before the event that holds the time.
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes of the answer to a chat.
const ANSWER: usize = 610;

/// What is asked of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// A JSON answer of 610 bytes.
    Chat,
    /// 64 KiB of JSON.
    Large64k,
    /// 1 MiB of JSON.
    Large1m,
    /// 8 MiB of JSON, more than all buffers on the way hold.
    Huge,
    /// A stream of one event, at once.
    First,
    /// A stream whose event comes later and holds the time at which it was written.
    Stamped,
    /// A stream of 50 events, one each 10 ms.
    Paced,
    /// A stream of 50 events in one write.
    Burst,
    /// A stream that stays open after its first event.
    Held,
}

impl Scenario {
    pub(crate) const ALL: [Self; 9] = [
        Self::Chat,
        Self::Large64k,
        Self::Large1m,
        Self::Huge,
        Self::First,
        Self::Stamped,
        Self::Paced,
        Self::Burst,
        Self::Held,
    ];

    /// The first segment of the path, and the name of the hub's target.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Large64k => "large64k",
            Self::Large1m => "large1m",
            Self::Huge => "huge",
            Self::First => "first",
            Self::Stamped => "stamped",
            Self::Paced => "paced",
            Self::Burst => "burst",
            Self::Held => "held",
        }
    }
}

/// Nanoseconds since this program began; upstream and client are in one process.
pub(crate) fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    nanos(BEGAN.get_or_init(Instant::now).elapsed())
}

/// The answers, written out once.
#[derive(Debug)]
struct Answers {
    chat: Vec<u8>,
    large64k: Vec<u8>,
    large1m: Vec<u8>,
    huge: Vec<u8>,
    burst: Vec<u8>,
}

/// Starts the upstream on a thread of its own, for as long as the program runs.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("upstream".to_owned())
        .spawn(move || runtime.block_on(serve(listener)))?;
    Ok(addr)
}

async fn serve(listener: std::net::TcpListener) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let answers = Arc::new(Answers::new());
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(connection(stream, Arc::clone(&answers)));
        } else {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Serves until the other side closes, or says something that it should not.
async fn connection(mut stream: TcpStream, answers: Arc<Answers>) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(8 * 1024);
    loop {
        let Some(scenario) = request(&mut stream, &mut buffer).await? else {
            return Ok(());
        };
        match scenario {
            Scenario::Chat => stream.write_all(&answers.chat).await?,
            Scenario::Large64k => stream.write_all(&answers.large64k).await?,
            Scenario::Large1m => stream.write_all(&answers.large1m).await?,
            Scenario::Huge => {
                // The upstream of a real hub is another machine. Its megabytes of send buffers must not fill this
                // one's memory for TCP.
                SockRef::from(&stream).set_send_buffer_size(64 * 1024)?;
                stream.write_all(&answers.huge).await?;
            }
            Scenario::Burst => stream.write_all(&answers.burst).await?,
            Scenario::First => {
                let whole = [stream_head(), chunk(&event()), end()].concat();
                stream.write_all(&whole).await?;
            }
            Scenario::Stamped => {
                stream.write_all(&stream_head()).await?;
                sleep(PAUSE).await;
                let stamped = format!("data: {{\"at\":{}}}\n\n", now());
                stream.write_all(&chunk(stamped.as_bytes())).await?;
                stream.write_all(&end()).await?;
            }
            Scenario::Paced => {
                stream.write_all(&stream_head()).await?;
                let event = chunk(&event());
                for _ in 0..EVENTS {
                    sleep(PACE).await;
                    stream.write_all(&event).await?;
                }
                stream.write_all(&end()).await?;
            }
            Scenario::Held => {
                stream
                    .write_all(&[stream_head(), chunk(&event())].concat())
                    .await?;
                stream.read_buf(&mut buffer).await?;
                return Ok(());
            }
        }
    }
}

/// Reads one request to the end of its body; none at the end of the connection.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Scenario>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(buffer).map_err(io::Error::other)?;
        if let httparse::Status::Complete(head) = parsed {
            let length = request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case("content-length"))
                .and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok())
                .unwrap_or(0_usize);
            if buffer.len() >= head + length {
                let path = request.path.unwrap_or_default();
                let name = path.split('/').nth(1).unwrap_or_default();
                let scenario = Scenario::ALL.into_iter().find(|known| known.name() == name);
                buffer.drain(..head + length);
                return scenario.map(Some).ok_or(io::ErrorKind::NotFound.into());
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

impl Answers {
    fn new() -> Self {
        let mut burst = stream_head();
        for _ in 0..EVENTS {
            burst.extend(chunk(&event()));
        }
        burst.extend(end());
        Self {
            chat: json(ANSWER),
            large64k: json(64 * 1024),
            large1m: json(1024 * 1024),
            huge: json(8 * 1024 * 1024),
            burst,
        }
    }
}

/// An answer to a chat whose body has this length.
fn json(length: usize) -> Vec<u8> {
    let before = "{\"id\":\"chatcmpl-9f2c\",\"object\":\"chat.completion\",\"created\":1767225600,\"model\":\"m-large\",\
        \"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
    let after = "\"},\"finish_reason\":\"stop\"}],\
        \"usage\":{\"prompt_tokens\":87,\"completion_tokens\":64,\"total_tokens\":151}}";
    let text = "word ".repeat(length / 5 + 1);
    let text = text.get(..length.saturating_sub(before.len() + after.len()));
    let body = [before, text.unwrap_or_default(), after].concat();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn stream_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec()
}

/// One event as providers send it.
pub(crate) fn event() -> Vec<u8> {
    b"data: {\"id\":\"chatcmpl-9f2c\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"m-large\",\
      \"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n"
        .to_vec()
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

fn end() -> Vec<u8> {
    b"0\r\n\r\n".to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_sizes_that_are_promised() {
        let answer = json(ANSWER);
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
        assert_eq!(answer.len() - head.unwrap() - 4, ANSWER);
    }
}
