use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::{EgressPolicy, OutboundProxy, bare};
use crate::BoxError;

/// How long a proxy's answer to CONNECT may be, in bytes.
const MAX_CONNECT_ANSWER: usize = 8 * 1024;

/// What the kernel holds of an answer that is not read yet, in bytes; Linux takes twice as much for its own account.
///
/// Left to itself it grows to half a megabyte and more behind a client that stopped reading. Some thousands of those
/// would fill the memory that the system has for TCP, and it would then drop everybody's packets. The price is that one
/// connection carries at most about as much per round trip.
const RECEIVE_BUFFER: usize = 128 * 1024;

/// The same over TLS, where the connection may turn out to be HTTP/2 and carry everybody's answers, from far away.
const TLS_RECEIVE_BUFFER: usize = 1024 * 1024;

/// Makes connections as an [`EgressPolicy`] allows them: to an upstream, or to the proxy before it.
#[derive(Clone)]
pub(crate) struct EgressConnector {
    policy: EgressPolicy,
    direct: HttpConnector<Resolver>,
    to_proxy: HttpConnector<Resolver>,
    tls: Option<Arc<ClientConfig>>,
}

impl EgressConnector {
    /// Without `tls` only `http` URLs and plain proxies work.
    pub(crate) fn new(policy: &EgressPolicy, tls: Option<Arc<ClientConfig>>) -> Self {
        Self::resolving(policy, tls, &Lookup::System)
    }

    pub(super) fn resolving(
        policy: &EgressPolicy,
        tls: Option<Arc<ClientConfig>>,
        lookup: &Lookup,
    ) -> Self {
        let connector = |policy: EgressPolicy| {
            let mut http = HttpConnector::new_with_resolver(Resolver {
                policy,
                lookup: lookup.clone(),
            });
            http.enforce_http(false);
            http.set_nodelay(true);
            http.set_keepalive(Some(Duration::from_secs(60)));
            http
        };
        Self {
            policy: policy.clone(),
            direct: connector(policy.clone()),
            to_proxy: connector(EgressPolicy::open()),
            tls,
        }
    }

    async fn connect(mut self, target: Uri) -> Result<EgressStream, BoxError> {
        let https = target.scheme() == Some(&Scheme::HTTPS);
        let buffer = if https {
            TLS_RECEIVE_BUFFER
        } else {
            RECEIVE_BUFFER
        };
        self.direct.set_recv_buffer_size(Some(buffer));
        self.to_proxy.set_recv_buffer_size(Some(buffer));
        if https && self.tls.is_none() {
            return Err("there is no TLS for this connection".into());
        }
        let host = target.host().unwrap_or_default().to_owned();
        let port = target.port_u16().unwrap_or(if https { 443 } else { 80 });
        self.policy.check_host(&host, port)?;
        let Some(proxy) = self.policy.proxy().cloned() else {
            let stream = self.direct.call(target).await?;
            return Ok(EgressStream {
                io: Io::Tcp(stream),
                absolute_form: false,
            });
        };
        let mut io = self.reach(&proxy).await?;
        if https {
            let authority = format!("{host}:{port}");
            match &mut io {
                Io::Tcp(stream) => {
                    tunnel(stream.inner_mut(), &authority, proxy.credentials.as_ref()).await?;
                }
                Io::Tls(stream) => {
                    tunnel(stream.inner_mut(), &authority, proxy.credentials.as_ref()).await?;
                }
            }
        }
        Ok(EgressStream {
            io,
            absolute_form: !https,
        })
    }

    /// A connection to the proxy itself.
    async fn reach(&mut self, proxy: &OutboundProxy) -> Result<Io, BoxError> {
        let url = proxy.url.join("", None)?;
        let stream = self.to_proxy.call(url).await?;
        if !proxy.url.is_https() {
            return Ok(Io::Tcp(stream));
        }
        let tls = self
            .tls
            .clone()
            .ok_or("there is no TLS for the outbound proxy")?;
        let name = ServerName::try_from(bare(proxy.url.authority().host()).to_owned())?;
        let stream = TlsConnector::from(tls)
            .connect(name, stream.into_inner())
            .await
            .map_err(io::Error::other)?;
        Ok(Io::Tls(Box::new(TokioIo::new(stream))))
    }
}

impl Service<Uri> for EgressConnector {
    type Response = EgressStream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<EgressStream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().connect(target))
    }
}

/// Asks a proxy for a tunnel to `authority` (RFC 9110 section 9.3.6).
async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    authority: &str,
    credentials: Option<&HeaderValue>,
) -> Result<(), BoxError> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(credentials) = credentials {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    stream.flush().await?;

    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(b"\r\n\r\n") {
        // What follows the head belongs to the upstream, so nothing may be read past it.
        if answer.len() >= MAX_CONNECT_ANSWER {
            return Err("the outbound proxy's answer is too long".into());
        }
        answer.push(stream.read_u8().await?);
    }
    let status = answer
        .strip_prefix(b"HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|status| std::str::from_utf8(status).ok())
        .unwrap_or_default();
    match status {
        // Any 2xx opens the tunnel.
        status if status.starts_with('2') && status.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        "407" => Err("the outbound proxy refuses the credentials (407)".into()),
        status if status.bytes().all(|b| b.is_ascii_digit()) && !status.is_empty() => {
            Err(format!("the outbound proxy refuses the connection ({status})").into())
        }
        _ => Err("the outbound proxy does not speak HTTP".into()),
    }
}

/// Who turns names into addresses.
#[derive(Clone)]
pub(super) enum Lookup {
    System,
    #[cfg(test)]
    Fixed(Arc<Answers>),
}

#[cfg(test)]
type Answers = dyn Fn(&str) -> Vec<std::net::IpAddr> + Send + Sync;

/// Resolves a name, and gives its addresses only if all of them may be called.
#[derive(Clone)]
pub(crate) struct Resolver {
    policy: EgressPolicy,
    lookup: Lookup,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let addresses: Vec<SocketAddr> = match &this.lookup {
                Lookup::System => tokio::net::lookup_host((host, 0)).await?.collect(),
                #[cfg(test)]
                Lookup::Fixed(lookup) => lookup(host)
                    .into_iter()
                    .map(|ip| SocketAddr::new(ip, 0))
                    .collect(),
            };
            let ips = addresses.iter().map(SocketAddr::ip);
            this.policy.check_addresses(host, ips)?;
            Ok(addresses.into_iter())
        })
    }
}

/// A connection to an upstream or a proxy.
pub(crate) struct EgressStream {
    io: Io,
    absolute_form: bool,
}

enum Io {
    Tcp(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for EgressStream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.absolute_form)
    }
}

impl Read for EgressStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl Write for EgressStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
        }
    }
}
