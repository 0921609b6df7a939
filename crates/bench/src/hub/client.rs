//! The load: HTTP/1.1 on kept connections, a fixed number of requests by so many at a time, with as little work on
//! this side as possible.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// No run takes longer.
const LIMIT: Duration = Duration::from_secs(90);

/// A connection to what is measured.
#[derive(Debug)]
pub(crate) struct Connection<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
    read: usize,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Chunked,
    Exactly(usize),
}

/// What is looked at in the head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: Length,
    pub(crate) cookie: Option<String>,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(16 * 1024),
            read: 0,
        }
    }

    /// Sends a request and reads its answer; says how long the body was.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<(Head, usize)> {
        self.send(request).await?;
        let head = self.head().await?;
        let length = self.body(head.length).await?;
        Ok((head, length))
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await
    }

    pub(crate) async fn head(&mut self) -> io::Result<Head> {
        let mut searched = 0;
        loop {
            let rest = self.unread();
            let from = searched.min(rest.len());
            if let Some(at) = find(rest.get(from..).unwrap_or_default(), b"\r\n\r\n") {
                let end = from + at + 4;
                let head = parse_head(rest.get(..end).unwrap_or_default());
                self.read += end;
                return head;
            }
            searched = rest.len().saturating_sub(3);
            self.fill().await?;
        }
    }

    /// Reads a body to its end.
    pub(crate) async fn body(&mut self, length: Length) -> io::Result<usize> {
        match length {
            Length::Exactly(length) => {
                let mut left = length;
                loop {
                    let there = self.unread().len().min(left);
                    self.read += there;
                    left -= there;
                    if left == 0 {
                        return Ok(length);
                    }
                    self.fill().await?;
                }
            }
            Length::Chunked => {
                let mut total = 0;
                while let Some(chunk) = self.chunk().await? {
                    total += chunk.len();
                }
                Ok(total)
            }
        }
    }

    /// The next chunk of a body in chunks; none at its end.
    pub(crate) async fn chunk(&mut self) -> io::Result<Option<&[u8]>> {
        let (start, length) = loop {
            let rest = self.unread();
            if let Some(line) = find(rest, b"\r\n") {
                let digits = std::str::from_utf8(rest.get(..line).unwrap_or_default());
                let length = digits
                    .ok()
                    .and_then(|digits| usize::from_str_radix(digits, 16).ok())
                    .ok_or_else(|| io::Error::other("a chunk without a length"))?;
                if rest.len() >= line + 2 + length + 2 {
                    break (self.read + line + 2, length);
                }
            }
            self.fill().await?;
        };
        self.read = start + length + 2;
        Ok((length > 0).then(|| self.buffer.get(start..start + length).unwrap_or_default()))
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.read..).unwrap_or_default()
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.read);
        self.read = 0;
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn parse_head(head: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other("no status"))?;
    let mut found = Head {
        status,
        length: Length::Exactly(0),
        cookie: None,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            found.length = Length::Exactly(value.parse().map_err(io::Error::other)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            found.length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("set-cookie") {
            found.cookie = value.split(';').next().map(str::to_owned);
        }
    }
    Ok(found)
}

/// Connections that stay open from one run to the next.
#[derive(Debug)]
pub(crate) struct Pool {
    connections: Vec<Connection>,
    request: Arc<[u8]>,
}

/// What became of a run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Of each request that was answered with 200, in nanoseconds, in ascending order.
    pub(crate) latencies: Vec<u64>,
    pub(crate) failed: u64,
    /// Bytes of all bodies.
    pub(crate) bytes: usize,
}

impl Pool {
    pub(crate) async fn open(addr: SocketAddr, count: usize, request: &[u8]) -> io::Result<Self> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(Connection::open(addr).await?);
        }
        Ok(Self {
            connections,
            request: request.into(),
        })
    }

    /// Sends `requests`, one after the other on each connection. A connection that fails is not used any more.
    pub(crate) async fn run(&mut self, requests: u64) -> io::Result<Run> {
        let left = Arc::new(AtomicU64::new(requests));
        let mut tasks = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let (left, request) = (Arc::clone(&left), Arc::clone(&self.request));
            tasks.spawn(async move {
                let mut run = Run::default();
                while left
                    .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let began = Instant::now();
                    match connection.exchange(&request).await {
                        Ok((head, length)) if head.status == 200 => {
                            run.latencies.push(nanos(began.elapsed()));
                            run.bytes += length;
                        }
                        Ok(_) => run.failed += 1,
                        Err(_) => {
                            run.failed += 1;
                            return (None, run);
                        }
                    }
                }
                (Some(connection), run)
            });
        }
        let all = timeout(LIMIT, tasks.join_all()).await;
        let all = all.map_err(|_| io::Error::other("a run did not end in time"))?;
        let mut total = Run::default();
        for (connection, run) in all {
            self.connections.extend(connection);
            total.latencies.extend(run.latencies);
            total.failed += run.failed;
            total.bytes += run.bytes;
        }
        total.latencies.sort_unstable();
        Ok(total)
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The value that so many per cent of the sorted ones do not exceed.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// The one in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_however_they_are_cut() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answers = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=b; Path=/\r\n\r\nhelloHTTP/1.1 429 Too\r\n\
            Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        for size in [1, 3, 7, answers.len()] {
            runtime.block_on(async {
                let (near, mut far) = tokio::io::duplex(size);
                let writer = tokio::spawn(async move {
                    far.write_all(answers).await.unwrap();
                    far
                });
                let mut connection = Connection::over(near);
                let first = connection.head().await.unwrap();
                assert_eq!(first.cookie.as_deref(), Some("a=b"));
                assert_eq!(first.length, Length::Exactly(5));
                assert_eq!(connection.body(first.length).await.unwrap(), 5);
                let second = connection.head().await.unwrap();
                assert_eq!((second.status, second.length), (429, Length::Chunked));
                assert_eq!(connection.chunk().await.unwrap(), Some(&b"abc"[..]));
                assert_eq!(connection.body(second.length).await.unwrap(), 1);
                drop(writer.await);
            });
        }
    }

    #[test]
    fn percentiles_are_of_the_values() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&values, 50), 100);
        assert_eq!(percentile(&values, 99), 198);
        assert_eq!(percentile(&[], 99), 0);
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
