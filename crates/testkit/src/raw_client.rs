use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

/// A client that sends exact bytes on one socket.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// How reading came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// The server closed the connection in order.
    Closed,
    /// The connection was open still when the time was up.
    Deadline,
    /// The server reset the connection.
    Reset,
}

/// Everything that came until the end of the connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transcript {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How it ended.
    pub ending: Ending,
}

impl Transcript {
    /// The bytes as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The responses in it, for requests that were no HEAD.
    #[must_use]
    pub fn responses(&self) -> Vec<RawResponse> {
        RawResponse::parse_all(&self.bytes)
    }
}

impl RawClient {
    /// Connects.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Connects with a receive buffer as small as the system allows, so that what is not read soon fills it.
    ///
    /// # Errors
    /// When the connection is refused.
    pub async fn connect_narrow(addr: SocketAddr) -> io::Result<Self> {
        let socket = match addr {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_recv_buffer_size(4096)?;
        Ok(Self {
            stream: socket.connect(addr).await?,
            unread: Vec::new(),
        })
    }

    /// Connects, sends `bytes`, and reads until the connection ends or `limit` has passed.
    ///
    /// # Errors
    /// When the connection is refused. A server that closes while it is written to is no error.
    pub async fn exchange(
        addr: SocketAddr,
        bytes: impl AsRef<[u8]>,
        limit: Duration,
    ) -> io::Result<Transcript> {
        let mut client = Self::connect(addr).await?;
        let _ = client.send(bytes).await;
        Ok(client.read_to_end(limit).await)
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// When the server has closed.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    /// Tells the server that nothing more will come, and goes on reading.
    ///
    /// # Errors
    /// When the server has closed.
    pub async fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Leaves with a TCP reset. Dropping the client leaves in order.
    pub fn reset(self) {
        let _ = self.stream.set_zero_linger();
    }

    /// Reads until the connection ends or `limit` has passed.
    pub async fn read_to_end(&mut self, limit: Duration) -> Transcript {
        let deadline = Instant::now() + limit;
        let mut bytes = std::mem::take(&mut self.unread);
        let ending = loop {
            match timeout_at(deadline, self.stream.read_buf(&mut bytes)).await {
                Err(_) => break Ending::Deadline,
                Ok(Ok(0)) => break Ending::Closed,
                Ok(Ok(_)) => {}
                Ok(Err(_)) => break Ending::Reset,
            }
        };
        Transcript { bytes, ending }
    }

    /// Reads until `seen` is among what has come and was not given out yet; that is then returned.
    ///
    /// # Errors
    /// `TimedOut` after `limit`, `UnexpectedEof` or `ConnectionReset` when the connection ends; the message holds
    /// what came instead.
    pub async fn read_until(&mut self, seen: &str, limit: Duration) -> io::Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            if contains(&self.unread, seen.as_bytes()) {
                let bytes = std::mem::take(&mut self.unread);
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            self.more(deadline).await?;
        }
    }

    /// Reads the next response, interim (1xx) ones included, to a request that was no HEAD.
    ///
    /// # Errors
    /// As [`Self::read_until`]; a body that is cut short is no error but [`RawResponse::complete`] being false.
    pub async fn next_response(&mut self, limit: Duration) -> io::Result<RawResponse> {
        self.response(limit, false).await
    }

    /// Reads the next response to a HEAD request: a head without a body.
    ///
    /// # Errors
    /// As [`Self::read_until`].
    pub async fn next_head(&mut self, limit: Duration) -> io::Result<RawResponse> {
        self.response(limit, true).await
    }

    async fn response(&mut self, limit: Duration, head_only: bool) -> io::Result<RawResponse> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some((response, len)) = RawResponse::parse(&self.unread, head_only, false) {
                self.unread.drain(..len);
                return Ok(response);
            }
            match self.more(deadline).await {
                Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                    let Some((response, len)) = RawResponse::parse(&self.unread, head_only, true)
                    else {
                        return Err(error);
                    };
                    self.unread.drain(..len);
                    return Ok(response);
                }
                other => other?,
            }
        }
    }

    async fn more(&mut self, deadline: Instant) -> io::Result<()> {
        let came = |unread: &[u8]| format!("came so far: {:?}", String::from_utf8_lossy(unread));
        match timeout_at(deadline, self.stream.read_buf(&mut self.unread)).await {
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, came(&self.unread))),
            Ok(Ok(0)) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                came(&self.unread),
            )),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), came(&self.unread))),
        }
    }
}

/// A response as it came over HTTP/1.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RawResponse {
    /// The status; 0 where the status line has none.
    pub status: u16,
    /// The status line.
    pub status_line: String,
    /// Name, as it was written, and value of each header line.
    pub headers: Vec<(String, String)>,
    /// The body, with the chunked coding removed.
    pub body: Vec<u8>,
    /// Whether the body came whole.
    pub complete: bool,
}

impl RawResponse {
    /// The value of a header, whatever its case; of several, the first.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter();
        let found = named.find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The values of all header lines of that name.
    pub fn header_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.headers
            .iter()
            .filter(move |(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// All responses in a transcript of a connection that has ended. What is no response ends the list.
    #[must_use]
    pub fn parse_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut responses = Vec::new();
        while let Some((response, len)) = Self::parse(bytes, false, true) {
            responses.push(response);
            bytes = &bytes[len..];
        }
        responses
    }

    /// The first response and its length; `None` while it is not all there, unless the connection has `ended`.
    fn parse(bytes: &[u8], head_only: bool, ended: bool) -> Option<(Self, usize)> {
        let head_len = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..head_len - 4]).into_owned();
        let mut lines = head.split("\r\n");
        let status_line = lines.next()?.to_owned();
        if !status_line.starts_with("HTTP/") {
            return None;
        }
        let status = status_line.split(' ').nth(1).and_then(|s| s.parse().ok());
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        let mut response = Self {
            status: status.unwrap_or_default(),
            status_line,
            headers,
            body: Vec::new(),
            complete: true,
        };
        if head_only || matches!(response.status, 100..=199 | 204 | 304) {
            return Some((response, head_len));
        }
        let rest = &bytes[head_len..];
        let chunked = response
            .header("transfer-encoding")
            .is_some_and(|coding| coding.to_ascii_lowercase().ends_with("chunked"));
        let length = response
            .header("content-length")
            .and_then(|len| len.parse::<usize>().ok());
        let used = match (chunked, length) {
            (true, _) => {
                let (body, used, complete) = unchunk(rest);
                (response.body, response.complete) = (body, complete);
                used
            }
            (false, Some(len)) => {
                let used = len.min(rest.len());
                (response.body, response.complete) = (rest[..used].to_vec(), used == len);
                used
            }
            (false, None) => {
                (response.body, response.complete) = (rest.to_vec(), ended);
                rest.len()
            }
        };
        (response.complete || ended).then_some((response, head_len + used))
    }
}

/// The decoded body, how many bytes it took, and whether it came to its end.
fn unchunk(bytes: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = line(&bytes[at..]) else {
            return (body, bytes.len(), false);
        };
        let size = line.split(|b| *b == b';').next().unwrap_or_default();
        let Some(size) = std::str::from_utf8(size)
            .ok()
            .and_then(|size| usize::from_str_radix(size.trim(), 16).ok())
        else {
            return (body, bytes.len(), false);
        };
        at += line.len() + 2;
        if size == 0 {
            // Trailer fields, up to the empty line.
            while let Some(line) = self::line(&bytes[at..]) {
                at += line.len() + 2;
                if line.is_empty() {
                    return (body, at, true);
                }
            }
            return (body, bytes.len(), false);
        }
        let end = at.saturating_add(size);
        body.extend_from_slice(&bytes[at..end.min(bytes.len())]);
        if end + 2 > bytes.len() {
            return (body, bytes.len(), false);
        }
        at = end + 2;
    }
}

fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|window| window == b"\r\n")?;
    Some(&bytes[..end])
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(u16, String, bool)> {
        RawResponse::parse_all(text.as_bytes())
            .into_iter()
            .map(|r| (r.status, r.body_text(), r.complete))
            .collect()
    }

    #[test]
    fn several_responses_are_told_apart() {
        assert_eq!(
            parsed(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\
                 Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nt: v\r\n\r\nHTTP/1.1 204 No\r\n\r\n\
                 HTTP/1.0 404 Not Found\r\n\r\nrest"
            ),
            [
                (100, String::new(), true),
                (200, "ab".to_owned(), true),
                (200, "abcd".to_owned(), true),
                (204, String::new(), true),
                (404, "rest".to_owned(), true),
            ]
        );
    }

    #[test]
    fn what_is_cut_short_says_so() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
        ] {
            assert_eq!(parsed(text), [(200, "ab".to_owned(), false)], "{text:?}");
        }
        assert!(parsed("").is_empty());
        assert!(parsed("HTTP/1.1 200 OK\r\n").is_empty());
        assert!(parsed("nonsense\r\n\r\n").is_empty());
    }

    #[test]
    fn headers_keep_their_spelling_and_are_found_by_any() {
        let text = b"HTTP/1.1 200 OK\r\nX-A:1\r\nx-a:  2 \r\ncontent-length: 0\r\n\r\n";
        let response = &RawResponse::parse_all(text)[0];
        assert_eq!(response.headers[0].0, "X-A");
        assert_eq!(response.header_all("x-A").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(response.header("none"), None);
    }
}
