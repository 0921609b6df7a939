//! Playing replies onto connections.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::log::{Log, Received, Unanswered};
use super::reply::{Content, Reply, Step};
use super::wire::Wire;

pub(super) type Respond = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;
type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;

static FILLING: [u8; 65_536] = [b'x'; 65_536];

/// Which protocols a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocols {
    Both,
    Http1,
    Http2,
}

#[derive(Clone)]
pub(super) struct Server {
    pub(super) log: Arc<Log>,
    pub(super) respond: Respond,
    pub(super) protocols: Protocols,
    pub(super) before_body: bool,
}

impl Server {
    pub(super) async fn connection(self, wire: Wire, connection: usize, reset: Arc<AtomicBool>) {
        let builder = auto::Builder::new(TokioExecutor::new());
        let builder = match self.protocols {
            Protocols::Both => builder,
            Protocols::Http1 => builder.http1_only(),
            Protocols::Http2 => builder.http2_only(),
        };
        let service =
            service_fn(move |request| self.clone().answer(request, connection, Arc::clone(&reset)));
        // The error is the client's, or the reply's own breaking off.
        let _ = builder.serve_connection(TokioIo::new(wire), service).await;
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        connection: usize,
        reset: Arc<AtomicBool>,
    ) -> io::Result<Response<ReplyBody>> {
        let (parts, body) = request.into_parts();
        let received = Received {
            connection,
            version: parts.version,
            method: parts.method,
            target: parts.uri.to_string(),
            headers: parts.headers,
            body: Bytes::new(),
            body_len: 0,
            body_complete: body.is_end_stream(),
            abandoned: false,
        };
        let index = self.log.change(|entries| {
            entries.requests.push(received);
            entries.requests.len() - 1
        });
        let mut unanswered = Unanswered::new(Arc::clone(&self.log), index);
        let mut body = Recording::new(body, Arc::clone(&self.log), index);
        if !self.before_body {
            while let Some(frame) = body.frame().await {
                frame?;
            }
        }
        let received = self.log.read().requests[index].clone();
        let reply = (self.respond)(&received);
        for step in reply.before_head {
            match step {
                Step::Wait(gate) => gate.pass().await,
                Step::Pause(pause) => tokio::time::sleep(pause).await,
                Step::Hang => std::future::pending().await,
                Step::Close | Step::Reset => {
                    reset.store(matches!(step, Step::Reset), Ordering::Relaxed);
                    unanswered.finished();
                    return Err(io::Error::other("the reply breaks off"));
                }
                Step::Fill(_) | Step::Repeat(_) | Step::Send(_) | Step::Trailers(_) => {
                    panic!("{step:?} cannot stand before the head")
                }
            }
        }
        let declared = reply.headers.contains_key(http::header::CONTENT_LENGTH);
        let content = match reply.content {
            Content::Echo => {
                let text = received.describe().to_string();
                unanswered.finished();
                full(text.into())
            }
            Content::EchoBody if self.before_body => {
                unanswered.finished();
                body.boxed_unsync()
            }
            Content::EchoBody => {
                unanswered.finished();
                full(received.body)
            }
            Content::Steps(steps) => match (declared, steps.as_slice()) {
                (false, []) => {
                    unanswered.finished();
                    full(Bytes::new())
                }
                (false, [Step::Send(bytes)]) => {
                    unanswered.finished();
                    full(bytes.clone())
                }
                _ => play(steps, reset, unanswered),
            },
        };
        let mut response = Response::new(content);
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }
}

fn full(bytes: Bytes) -> ReplyBody {
    Full::new(bytes)
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A body that a task fills step by step; the task ends when the body is dropped.
struct Played {
    frames: mpsc::Receiver<io::Result<Frame<Bytes>>>,
    unanswered: Unanswered,
}

impl Body for Played {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.frames.poll_recv(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.unanswered.finished();
        }
        polled
    }
}

fn play(steps: Vec<Step>, reset: Arc<AtomicBool>, unanswered: Unanswered) -> ReplyBody {
    let (frames, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let left = frames.clone();
        tokio::select! {
            () = left.closed() => {}
            _ = send_frames(steps, frames, &reset) => {}
        }
    });
    Played {
        frames: receiver,
        unanswered,
    }
    .boxed_unsync()
}

type Frames = mpsc::Sender<io::Result<Frame<Bytes>>>;

async fn send_frames(
    steps: Vec<Step>,
    frames: Frames,
    reset: &AtomicBool,
) -> Result<(), mpsc::error::SendError<io::Result<Frame<Bytes>>>> {
    let data = |bytes| Ok(Frame::data(bytes));
    for step in steps {
        match step {
            Step::Send(bytes) => frames.send(data(bytes)).await?,
            Step::Fill(mut len) => {
                while len > 0 {
                    let part = usize::try_from(len)
                        .unwrap_or(usize::MAX)
                        .min(FILLING.len());
                    frames
                        .send(data(Bytes::from_static(&FILLING[..part])))
                        .await?;
                    len -= part as u64;
                }
            }
            Step::Repeat(bytes) => loop {
                frames.send(data(bytes.clone())).await?;
            },
            Step::Trailers(trailers) => frames.send(Ok(Frame::trailers(trailers))).await?,
            Step::Wait(gate) => gate.pass().await,
            Step::Pause(pause) => tokio::time::sleep(pause).await,
            Step::Hang => std::future::pending().await,
            Step::Close | Step::Reset => {
                settle(&frames).await;
                reset.store(matches!(step, Step::Reset), Ordering::Relaxed);
                let end = io::Error::other("the reply breaks off");
                return frames.send(Err(end)).await;
            }
        }
    }
    settle(&frames).await;
    Ok(())
}

/// Lets what was sent get on its way, so that a body that ends wrongly (too early for its declared length, too) does
/// not take it along: the connection flushes when it finds nothing to send.
async fn settle(frames: &Frames) {
    drop(frames.reserve().await);
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// A request body that is noted in the log as it comes.
struct Recording {
    body: Incoming,
    log: Arc<Log>,
    request: usize,
    buffer: BytesMut,
}

impl Recording {
    fn new(body: Incoming, log: Arc<Log>, request: usize) -> Self {
        Self {
            body,
            log,
            request,
            buffer: BytesMut::new(),
        }
    }
}

impl Body for Recording {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        let mut received = 0;
        if let Some(data) = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref())
        {
            received = data.len() as u64;
            let room = this.log.record_limit.saturating_sub(this.buffer.len());
            this.buffer.extend_from_slice(&data[..data.len().min(room)]);
        }
        let complete = frame.is_none();
        this.log.change(|entries| {
            let request = &mut entries.requests[this.request];
            request.body_len += received;
            request.body_complete |= complete;
            if complete {
                request.body = std::mem::take(&mut this.buffer).freeze();
            }
        });
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let rest = std::mem::take(&mut self.buffer).freeze();
        if !rest.is_empty() {
            self.log
                .change(|entries| entries.requests[self.request].body = rest);
        }
    }
}

/// Reads one head, then does the steps, whatever they make of HTTP.
pub(super) async fn raw_connection(wire: Wire, steps: Vec<Step>, reset: &AtomicBool) {
    let (mut read, mut write) = tokio::io::split(wire);
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        match read.read_buf(&mut head).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let left = async {
        let mut sink = [0; 4096];
        while !matches!(read.read(&mut sink).await, Ok(0) | Err(_)) {}
    };
    let played = async {
        for step in steps {
            match step {
                Step::Send(bytes) => write.write_all(&bytes).await?,
                Step::Fill(mut len) => {
                    while len > 0 {
                        let part = usize::try_from(len)
                            .unwrap_or(usize::MAX)
                            .min(FILLING.len());
                        write.write_all(&FILLING[..part]).await?;
                        len -= part as u64;
                    }
                }
                Step::Repeat(bytes) => loop {
                    write.write_all(&bytes).await?;
                },
                Step::Wait(gate) => gate.pass().await,
                Step::Pause(pause) => tokio::time::sleep(pause).await,
                Step::Hang => std::future::pending().await,
                Step::Trailers(_) => {}
                Step::Close => break,
                Step::Reset => {
                    reset.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        write.shutdown().await
    };
    tokio::select! {
        () = left => {}
        _ = played => {}
    }
}

/// A head and nothing else, for replies that no HTTP library would send.
pub(super) fn head(status_line: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("{status_line}\r\n").into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head
}
