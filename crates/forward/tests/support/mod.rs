//! Servers and services that the tests of the proxies need.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use proactions_edge::{ClientInfo, Peer, Scheme};
use proactions_forward::{
    Body, EgressConfig, EgressPolicy, ForwardProxies, HttpClientConfig, ProxyConfig, ProxyPolicies,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

pub(crate) fn proxy(id: &str, url: &str) -> ProxyConfig {
    let mut config = ProxyConfig::default();
    config.id = id.to_owned();
    config.url = url.into();
    config
}

pub(crate) fn egress(change: impl FnOnce(&mut EgressConfig)) -> EgressPolicy {
    let mut config = EgressConfig::default();
    change(&mut config);
    EgressPolicy::try_from(config).unwrap()
}

/// TLS that trusts nobody.
pub(crate) fn tls() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

pub(crate) fn service_within(egress: &EgressPolicy, proxies: Vec<ProxyConfig>) -> ForwardProxies {
    let policies = ProxyPolicies::try_from(proxies).unwrap();
    ForwardProxies::new(&policies, &HttpClientConfig::default(), &tls(), egress).unwrap()
}

pub(crate) fn service(proxies: Vec<ProxyConfig>) -> ForwardProxies {
    service_within(&EgressPolicy::open(), proxies)
}

pub(crate) async fn call(service: &ForwardProxies, request: Request<Body>) -> Response<Body> {
    let answered: Result<_, Infallible> = service.clone().oneshot(request).await;
    answered.unwrap()
}

pub(crate) async fn get(service: &ForwardProxies, path: &str) -> Response<Body> {
    call(service, Request::get(path).body(Body::empty()).unwrap()).await
}

pub(crate) async fn text(answer: Response<Body>) -> String {
    let bytes = answer.into_body().collect_up_to(1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn client_at(ip: &str, host: &'static str) -> ClientInfo {
    let peer = Peer::new(SocketAddr::new(ip.parse().unwrap(), 1), Scheme::Https);
    ClientInfo::direct(peer, Some(http::HeaderValue::from_static(host)))
}

/// A private authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `127.0.0.1`, and its key.
    pub(crate) fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(certificate).unwrap();
        roots
    }

    /// A server over TLS that answers every request with 200 and the number of certificates that the client showed. It
    /// demands one if `demanding`.
    pub(crate) async fn serve(&self, demanding: bool) -> SocketAddr {
        let (certificate, key) = self.issue();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots()),
            Arc::clone(&provider),
        );
        let verifier = if demanding {
            verifier.build()
        } else {
            verifier.allow_unauthenticated().build()
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let shown = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
                    if read_head(&mut stream).await.is_some() {
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\n{shown}"
                        );
                        let _ = stream.write_all(answer.as_bytes()).await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        addr
    }
}

pub(crate) async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
