//! Outgoing connections: through an outbound proxy, and over TLS with certificates of one's own.

use std::net::SocketAddr;
use std::sync::Arc;

use proactions_testkit::{
    Gate, OutboundMode, OutboundProxy, RawResponse, Reply, TestCertificates, TlsFront, Upstream,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Hub, PATIENCE, Req, TOKEN, TOKEN_AUTH};

const USER: &str = "hub-user:p%40ss-canary";
/// [`USER`] as the proxy gets it.
const SHOWN: &str = "hub-user:p@ss-canary";

/// An upstream over TLS, and an outbound proxy that is spoken to over TLS, each with an authority of its own.
struct Fixture {
    upstream: Upstream,
    front: TlsFront,
    proxy: OutboundProxy,
    proxy_front: TlsFront,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn start(upstream: Upstream) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ours, of_proxy) = (TestCertificates::new(), TestCertificates::new());
        std::fs::write(folder.path().join("upstream.pem"), &ours.ca).unwrap();
        std::fs::write(folder.path().join("proxy.pem"), &of_proxy.ca).unwrap();
        let both = format!("{}{}", ours.ca, of_proxy.ca);
        std::fs::write(folder.path().join("both.pem"), both).unwrap();
        let proxy = OutboundProxy::for_user(SHOWN);
        Self {
            front: TlsFront::start(upstream.addr(), &ours),
            proxy_front: TlsFront::start(proxy.addr(), &of_proxy),
            upstream,
            proxy,
            folder,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Two targets and two proxies, over TLS and without, behind the outbound proxy.
    fn config(&self, user: &str, rules: &str) -> String {
        format!(
            "hub: {{egress: {{proxy: 'https://{user}@{}', {rules}}}}}
targets:
  - {{id: tls, provider: custom, apiKey: provider-key, endpoint: '{}'}}
  - {{id: plain, provider: custom, apiKey: provider-key, endpoint: '{}'}}
proxies:
  - {{id: tls, url: '{}', options: {{ssl: {{ca: '{}'}}}}}}
  - {{id: plain, url: '{}'}}
{TOKEN_AUTH}",
            self.proxy_front.addr(),
            self.front.url("/v1/{path}"),
            self.upstream.url("/v1/{path}"),
            self.front.url("/base"),
            self.path("upstream.pem"),
            self.upstream.url("/base"),
        )
    }

    /// A hub that trusts the authorities of this file besides what its configuration says.
    async fn hub(&self, yaml: &str, authorities: &str) -> Hub {
        Hub::start_with(yaml, [("SSL_CERT_FILE", &self.path(authorities))]).await
    }
}

fn chat(target: &str) -> Req {
    Req::chat(false).bearer().header("x-target", target)
}

fn forward(id: &str) -> Req {
    Req::get(&format!("/proxy/forward/{id}/x")).bearer()
}

/// A refusal that tells nothing of the inside.
fn assert_bad_gateway(answer: &RawResponse, what: &str) {
    assert_eq!(answer.status, 502, "{what}: {}", answer.body_text());
    let text = format!("{:?} {}", answer.headers, answer.body_text());
    for inside in ["127.0.0.1", "canary", "proxy-authenticate"] {
        assert!(!text.contains(inside), "{what}: {text}");
    }
    // Not in the whole: ids are random, and may have any three digits in them.
    let message = answer.json()["message"].to_string();
    assert!(!message.contains("407"), "{what}: {message}");
}

#[tokio::test]
async fn everything_goes_through_a_proxy_that_speaks_tls() {
    let fixture = Fixture::start(Upstream::start(Reply::chat("hi")));
    let mut hub = fixture.hub(&fixture.config(USER, ""), "both.pem").await;
    for request in [chat("tls"), chat("plain"), forward("tls"), forward("plain")] {
        let answer = hub.send(&request).await;
        assert_eq!(answer.status, 200, "{request:?}: {}", answer.body_text());
    }
    let heads = fixture.proxy.heads();
    let (at, tls) = (fixture.upstream.addr(), fixture.front.addr());
    let expected = [
        // Each has a pool of its own, so each asks for a tunnel.
        format!("CONNECT {tls} HTTP/1.1"),
        format!("POST http://{at}/v1/chat/completions HTTP/1.1"),
        format!("CONNECT {tls} HTTP/1.1"),
        format!("GET http://{at}/base/x HTTP/1.1"),
    ];
    let lines: Vec<_> = heads
        .iter()
        .filter_map(|head| head.lines().next())
        .collect();
    assert_eq!(lines, expected);
    for head in &heads {
        let head = head.to_ascii_lowercase();
        assert_eq!(
            head.matches("proxy-authorization: basic ").count(),
            1,
            "{head}"
        );
    }
    // What a tunnel carries is for the upstream, the credentials of the proxy are not.
    assert_eq!(fixture.upstream.request_count(), 4);
    for received in fixture.upstream.requests() {
        let in_tunnel = received.target.starts_with('/');
        let seen = received.header("proxy-authorization").is_some();
        assert!(!(in_tunnel && seen), "{received:?}");
    }
    hub.stop().await;
    let output = hub.output();
    assert!(
        !output.contains("canary") && !output.contains("aHViLXVzZXI"),
        "{output}"
    );
}

#[tokio::test]
async fn a_proxy_that_is_not_trusted_gets_nothing() {
    let fixture = Fixture::start(Upstream::start(Reply::chat("hi")));
    // The authority of an upstream does not vouch for the proxy, nor does the proxy's for an upstream.
    let mut hub = fixture.hub(&fixture.config(USER, ""), "upstream.pem").await;
    for request in [chat("tls"), chat("plain"), forward("tls"), forward("plain")] {
        assert_bad_gateway(&hub.send(&request).await, "proxy not trusted");
    }
    assert_eq!(fixture.proxy.heads(), [""; 0]);
    hub.process.wait_for_lines("upstream_unreachable", 4).await;

    let hub = fixture.hub(&fixture.config(USER, ""), "proxy.pem").await;
    assert_bad_gateway(&hub.send(&chat("tls")).await, "upstream not trusted");
    assert_eq!(hub.send(&forward("tls")).await.status, 200);
}

#[tokio::test]
async fn a_proxy_that_refuses_or_dies_is_a_bad_gateway() {
    let fixture = Fixture::start(Upstream::start(Reply::chat("hi")));
    let wrong = fixture.config("hub-user:wrong-canary", "");
    let mut hub = fixture.hub(&wrong, "both.pem").await;
    for request in [chat("tls"), chat("plain"), forward("tls"), forward("plain")] {
        assert_bad_gateway(&hub.send(&request).await, "wrong password");
    }
    hub.process
        .wait_for_lines("the outbound proxy refuses the credentials (407)", 4)
        .await;
    hub.stop().await;
    assert!(!hub.output().contains("canary"), "{}", hub.output());

    let mut hub = fixture.hub(&fixture.config(USER, ""), "both.pem").await;
    for (index, (mode, said)) in [
        (OutboundMode::Refuse(403), "refuses the connection (403)"),
        (OutboundMode::Refuse(502), "refuses the connection (502)"),
        (OutboundMode::Die, "\"outcome\":\"upstream_unreachable\""),
    ]
    .into_iter()
    .enumerate()
    {
        fixture.proxy.set(mode);
        assert_bad_gateway(&hub.send(&chat("tls")).await, said);
        assert_bad_gateway(&hub.send(&forward("tls")).await, said);
        hub.process.wait_for_lines(said, 2).await;
        let all = "\"outcome\":\"upstream_unreachable\"";
        hub.process.wait_for_lines(all, 2 * (index + 1)).await;
    }
    // Without a tunnel nobody can tell whose answer that is, but for the one about the credentials.
    fixture.proxy.set(OutboundMode::Refuse(403));
    let answer = hub.send(&forward("plain")).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("proxy-authenticate"), None);
    assert_eq!(fixture.upstream.request_count(), 0);
    // It was the proxy, and it is back.
    fixture.proxy.set(OutboundMode::Pass);
    assert_eq!(hub.send(&forward("tls")).await.status, 200);
}

#[tokio::test]
async fn a_proxy_that_dies_mid_stream_leaves_one_error_chunk() {
    let gate = Gate::closed();
    let fixture = Fixture::start(Upstream::start(Reply::chat_stream(5).gated(&gate)));
    let mut hub = fixture.hub(&fixture.config(USER, ""), "both.pem").await;
    let mut client = hub.connect().await;
    let request = Req::chat(true).bearer().header("x-target", "tls");
    client.send(request.to_bytes()).await.unwrap();
    gate.release(1);
    client.read_until("w0 ", PATIENCE).await.unwrap();
    fixture.proxy.cut();
    let rest = client.read_until("\r\n0\r\n\r\n", PATIENCE).await.unwrap();
    assert_eq!(rest.matches("data: ").count(), 1, "{rest}");
    assert_eq!(rest.matches("\"error\"").count(), 1, "{rest}");
    hub.stop().await;
    let lines: Vec<Value> = (hub.output().lines())
        .filter(|line| line.contains("\"module\":\"aiLink\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["outcome"], "upstream_error");
}

#[tokio::test]
async fn the_rules_hold_before_the_proxy_is_asked() {
    let fixture = Fixture::start(Upstream::start(Reply::chat("hi")));
    let port = fixture.upstream.addr().port();
    let yaml = |rules: &str| {
        let named = format!(
            "proxies:
  - {{id: named, url: 'http://upstream.test:{port}/'}}
  - {{id: local, url: 'http://localhost:{port}/'}}
  - {{id: odd, url: 'http://2130706433:{port}/'}}"
        );
        fixture.config(USER, rules).replace("proxies:", &named)
    };
    // What a name resolves to is the proxy's to judge; an address in a URL is judged here.
    let mut hub = fixture.hub(&yaml("denyPrivate: true"), "both.pem").await;
    assert_eq!(hub.send(&forward("named")).await.status, 200);
    assert_eq!(fixture.proxy.heads().len(), 1);
    let refused = [
        forward("local"),
        forward("odd"),
        forward("tls"),
        forward("plain"),
        chat("tls"),
    ];
    for request in refused {
        assert_bad_gateway(&hub.send(&request).await, "denyPrivate");
    }
    hub.process
        .wait_for_lines("\"event\":\"egress_refused\"", 5)
        .await;
    assert_eq!(fixture.proxy.heads().len(), 1);

    let listed = yaml(&format!("allowHosts: ['*.test', 'localhost:{}']", port ^ 1));
    let mut hub = fixture.hub(&listed, "both.pem").await;
    assert_eq!(hub.send(&forward("named")).await.status, 200);
    for request in [
        forward("local"),
        forward("odd"),
        forward("tls"),
        chat("plain"),
    ] {
        assert_bad_gateway(&hub.send(&request).await, "allowHosts");
    }
    hub.process
        .wait_for_lines("\"event\":\"egress_refused\"", 4)
        .await;
    assert_eq!(fixture.proxy.heads().len(), 2);
}

#[tokio::test]
async fn certificates_for_one_upstream() {
    let folder = tempfile::tempdir().unwrap();
    let ours = TestCertificates::new();
    ours.write_to(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let other = TestCertificates::new();
    std::fs::write(folder.path().join("other.pem"), &other.ca).unwrap();
    let upstream = Upstream::start(Reply::bytes(200, "text/plain", "in"));
    let open = TlsFront::start(upstream.addr(), &ours);
    let demanding = TlsFront::demanding(upstream.addr(), &ours);
    let (ca, other_ca) = (path("ca.pem"), path("other.pem"));
    let shown = format!(
        "cert: '{}', key: '{}'",
        path("client.pem"),
        path("client.key")
    );
    let mut yaml = "proxies:\n".to_owned();
    let cases = [
        ("usual", &open, String::new(), 502),
        ("private", &open, format!("ssl: {{ca: '{ca}'}}"), 200),
        ("wrong", &open, format!("ssl: {{ca: '{other_ca}'}}"), 502),
        ("unchecked", &open, "secure: false".to_owned(), 200),
        (
            "shown",
            &demanding,
            format!("ssl: {{ca: '{ca}', {shown}}}"),
            200,
        ),
        ("hidden", &demanding, format!("ssl: {{ca: '{ca}'}}"), 502),
        (
            "unchecked-shown",
            &demanding,
            format!("secure: false, ssl: {{{shown}}}"),
            200,
        ),
        (
            "unchecked-hidden",
            &demanding,
            "secure: false".to_owned(),
            502,
        ),
    ];
    for (id, front, options, _) in &cases {
        yaml += &format!(
            "  - {{id: {id}, url: '{}', options: {{{options}}}}}\n",
            front.url("/")
        );
    }
    let mut hub = Hub::start(&(yaml + TOKEN_AUTH)).await;
    for (id, _, _, status) in &cases {
        let answer = hub.send(&forward(id)).await;
        if *status == 200 {
            assert_eq!(
                (answer.status, answer.body_text().as_str()),
                (200, "in"),
                "{id}"
            );
        } else {
            assert_bad_gateway(&answer, id);
        }
    }
    let warnings = hub.output();
    assert!(
        warnings.contains("the upstream's certificate is not checked"),
        "{warnings}"
    );
    hub.stop().await;
    assert!(!hub.output().contains("PRIVATE KEY"));
}

/// A server that opens a WebSocket for whoever asks, and sends back what comes.
async fn websocket_server() -> SocketAddr {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.ok()?);
                }
                stream.write_all(SWITCH.as_bytes()).await.ok()?;
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok()
            });
        }
    });
    addr
}

#[tokio::test]
async fn a_websocket_over_tls_on_both_sides() {
    let fixture = Fixture::start(Upstream::start(Reply::new(200)));
    let ours = TestCertificates::new();
    ours.write_to(fixture.folder.path());
    let path = |name: &str| fixture.path(name);
    std::fs::set_permissions(
        path("server.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let socket = TlsFront::demanding(websocket_server().await, &ours);
    let ssl = format!(
        "ws: true, ssl: {{ca: '{}', cert: '{}', key: '{}'}}",
        path("ca.pem"),
        path("client.pem"),
        path("client.key")
    );
    let egress = format!(
        ", egress: {{proxy: 'https://{USER}@{}'}}",
        fixture.proxy_front.addr()
    );
    // Straight to the upstream, and through the outbound proxy.
    for (egress, asked) in [("", 0), (egress.as_str(), 1)] {
        let yaml = format!(
            "hub: {{tls: {{enabled: true, cert: '{}', key: '{}'}}{egress}}}
proxies:
  - {{id: ws, url: '{}', options: {{{ssl}}}}}
{TOKEN_AUTH}",
            path("server.pem"),
            path("server.key"),
            socket.url("/socket"),
        );
        let mut hub = fixture.hub(&yaml, "proxy.pem").await;
        let mut client = tls_client(hub.addr, &ours).await;
        let opening = format!(
            "GET /proxy/forward/ws/room HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
             connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.write_all(opening.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // Small pieces, and more than any buffer on the way holds.
        for size in [1, 17, 300_000] {
            let sent = vec![b'w'; size];
            let (mut read, mut write) = tokio::io::split(client);
            let mut back = vec![0; size];
            let (wrote, came) = tokio::join!(
                async {
                    write.write_all(&sent).await?;
                    write.flush().await
                },
                tokio::time::timeout(PATIENCE, read.read_exact(&mut back)),
            );
            wrote.unwrap();
            came.expect("in time").unwrap();
            assert_eq!(back, sent);
            client = read.unsplit(write);
        }
        client.shutdown().await.unwrap();
        let line = hub.process.wait_for_line("\"module\":\"proxy\"").await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["statusCode"], 101, "{line}");
        assert_eq!(line["bytesSent"], 300_018, "{line}");
        assert_eq!(line["outcome"], "complete", "{line}");
        assert_eq!(fixture.proxy.heads().len(), asked);
    }
}

async fn tls_client(
    addr: SocketAddr,
    certificates: &TestCertificates,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(certificates.ca.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(addr).await.unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .unwrap()
}
