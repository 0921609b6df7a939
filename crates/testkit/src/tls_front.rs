//! TLS before a server that speaks none.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::TestCertificates;

/// Takes TLS connections on a port of `127.0.0.1` and hands what they say to a server that speaks plain TCP, such
/// as an [`Edapi`](crate::Edapi) or an [`Upstream`](crate::Upstream). It is stopped when this is dropped.
pub struct TlsFront {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TlsFront {
    /// Stands before `server`, with the server's certificate of `certificates`, which is for `localhost` and
    /// `127.0.0.1`.
    #[must_use]
    pub fn start(server: SocketAddr, certificates: &TestCertificates) -> Self {
        Self::run(server, certificates, WebPkiClientVerifier::no_client_auth())
    }

    /// As [`Self::start`], and takes only clients that show a certificate of the same authority.
    #[must_use]
    pub fn demanding(server: SocketAddr, certificates: &TestCertificates) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(certificates.ca.as_bytes());
        roots.add(ca.expect("a certificate")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().expect("a verifier");
        Self::run(server, certificates, verifier)
    }

    fn run(
        server: SocketAddr,
        certificates: &TestCertificates,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Self {
        let chain = CertificateDer::from_pem_slice(certificates.server.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(certificates.server_key.as_bytes());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![chain.expect("a certificate")], key.expect("a key"))
            .expect("a key that fits");
        let acceptor = TlsAcceptor::from(Arc::new(config));

        let listener = TcpListener::bind(crate::ANY_PORT).expect("a free port");
        listener
            .set_nonblocking(true)
            .expect("a non-blocking socket");
        let addr = listener.local_addr().expect("a bound address");
        let (stop, mut stopped) = oneshot::channel::<()>();
        let accept = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            loop {
                let stream = tokio::select! {
                    _ = &mut stopped => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(_) => continue,
                    },
                };
                tokio::spawn(pass_on(acceptor.clone(), stream, server));
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a run time");
        let thread = std::thread::Builder::new()
            .name("tls-front".to_owned())
            .spawn(move || runtime.block_on(accept))
            .expect("a thread");
        Self {
            addr,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `https://127.0.0.1:PORT` followed by `path`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.addr)
    }
}

impl fmt::Debug for TlsFront {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFront")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whatever goes wrong is the client's to find out.
async fn pass_on(acceptor: TlsAcceptor, stream: TcpStream, server: SocketAddr) {
    let Ok(mut inside) = acceptor.accept(stream).await else {
        return;
    };
    if let Ok(mut outside) = TcpStream::connect(server).await {
        let _ = copy_bidirectional(&mut inside, &mut outside).await;
    }
}
