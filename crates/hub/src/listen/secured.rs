//! TLS on an accepted socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{Protocol, cut};

/// The TLS configuration that new connections get; it can be exchanged while others are open.
#[derive(Clone, Debug)]
pub(crate) struct TlsSlot(Arc<ArcSwap<ServerConfig>>);

impl TlsSlot {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(ArcSwap::new(config)))
    }

    pub(crate) fn store(&self, config: Arc<ServerConfig>) {
        self.0.store(config);
    }
}

pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) protocol: Protocol,
}

/// The handshake, within its deadline. What fails is counted and told at debug level: anybody can make it fail.
pub(super) async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    tls: &TlsSlot,
    deadline: Duration,
) -> Option<Secured> {
    let config = tls.0.load_full();
    match tokio::time::timeout(deadline, negotiate(stream, config)).await {
        Ok(Ok(Some(stream))) => Some(secured(stream, peer)),
        Ok(Ok(None)) => {
            failed("plain_http");
            None
        }
        Ok(Err(error)) => {
            failed(if error.kind() == io::ErrorKind::InvalidData {
                "refused"
            } else {
                "gone"
            });
            tracing::debug!(ip = %peer.ip(), error = %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            cut("tls_handshake");
            failed("deadline");
            None
        }
    }
}

fn failed(reason: &'static str) {
    metrics::counter!("hub_tls_handshakes_failed_total", "reason" => reason).increment(1);
}

/// `None` when the client spoke plain HTTP and has been told so.
async fn negotiate(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0; 1];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // Every TLS record that can come first begins with 22, every HTTP method with a letter.
    if first.first().is_some_and(u8::is_ascii_alphabetic) {
        answer_plain_http(&mut stream).await?;
        return Ok(None);
    }
    TlsAcceptor::from(config).accept(stream).await.map(Some)
}

async fn answer_plain_http(stream: &mut TcpStream) -> io::Result<()> {
    const BODY: &str =
        r#"{"statusCode":400,"message":"This port speaks HTTPS","error":"Bad Request"}"#;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\
         X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the answer with it.
    let mut rest = [0; 1024];
    let drain = async {
        for _ in 0..64 {
            if !matches!(stream.read(&mut rest).await, Ok(1..)) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
    Ok(())
}

fn secured(stream: TlsStream<TcpStream>, peer: SocketAddr) -> Secured {
    let session = stream.get_ref().1;
    let protocol = match session.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    if let Some(subject) = shown.and_then(crate::tls::subject_of) {
        tracing::info!(
            target: "security",
            event = "client_certificate",
            ip = %peer.ip(),
            port = peer.port(),
            subject = %subject,
            "a client has shown its certificate",
        );
    }
    Secured { stream, protocol }
}
