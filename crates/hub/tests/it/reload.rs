//! A reload under load: no request fails, no stream breaks, and what is wrong is refused.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proactions_testkit::{
    Edapi, Gate, HubProcess, RawClient, Reply, TempConfig, TestCertificates, Upstream,
    closed_address,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{BINARY, Hub, PATIENCE, Req, SOON, TOKEN, TOKEN_AUTH, cookie_of};
use crate::tls::{Pki, yaml};

type Body = Full<Bytes>;

pub(crate) fn connector(pki: &Pki, alpn: &str) -> TlsConnector {
    let root = std::fs::read(pki.path("root.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&root).unwrap())
        .unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config))
}

pub(crate) async fn connect(
    connector: &TlsConnector,
    addr: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(addr).await?;
    connector
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
}

/// The certificate that a new connection gets.
async fn served(connector: &TlsConnector, addr: SocketAddr) -> Vec<u8> {
    let stream = connect(connector, addr).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

fn chat(addr: SocketAddr, stream: bool) -> Request<Body> {
    let body = format!(r#"{{"model":"m","stream":{stream},"messages":[]}}"#);
    let host = format!("localhost:{}", addr.port());
    Request::post(format!("https://{host}/v1/chat/completions"))
        .header("host", host)
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .body(Full::from(body))
        .unwrap()
}

/// Counts what the load did.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    good: AtomicUsize,
    bad: std::sync::Mutex<Vec<String>>,
}

impl Load {
    fn note(
        &self,
        what: &str,
        outcome: Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>>,
    ) {
        match outcome {
            Ok((200, _)) => {
                self.good.fetch_add(1, Relaxed);
            }
            other => self.bad.lock().unwrap().push(format!("{what}: {other:?}")),
        }
    }
}

async fn h1_load(load: Arc<Load>, connector: TlsConnector, addr: SocketAddr) {
    while !load.stop.load(Relaxed) {
        let outcome = async {
            let io = TokioIo::new(connect(&connector, addr).await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            let connection = tokio::spawn(connection);
            for _ in 0..5 {
                let answer = sender.send_request(chat(addr, true)).await?;
                let status = answer.status().as_u16();
                let body = answer.into_body().collect().await?.to_bytes();
                load.note("h1", Ok((status, body)));
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            drop(sender);
            let _ = connection.await;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        if let Err(error) = outcome.await {
            load.note("h1", Err(error));
        }
    }
}

/// One connection for the whole test.
async fn h2_load(load: Arc<Load>, connector: TlsConnector, addr: SocketAddr) {
    let io = TokioIo::new(connect(&connector, addr).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(connection);
    while !load.stop.load(Relaxed) {
        let mut sender = sender.clone();
        let outcome = async {
            let answer = sender.send_request(chat(addr, false)).await?;
            let status = answer.status().as_u16();
            Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        load.note("h2", outcome.await);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

fn config(pki: &Pki, upstream: &Upstream, max: u32) -> String {
    let tls = yaml(pki, "hub", "");
    let endpoint = upstream.url("/{path}");
    format!(
        "{tls}  security:\n    rateLimit: {{windowMs: 3600000, max: {max}, standardHeaders: true}}\n{TOKEN_AUTH}\ntargets:\n  \
         - {{id: up, provider: custom, apiKey: k, endpoint: '{endpoint}'}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_cost_nothing() {
    let pki = Pki::new();
    pki.install("hub", &pki.server("hub 0"));
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::serve(move |request| {
        if request.header("x-held").is_some() {
            Reply::chat_stream(3).gated(&held)
        } else if request.json()["stream"] == true {
            Reply::chat_stream(3)
        } else {
            Reply::chat("hi")
        }
    });
    let mut hub = Hub::start(&config(&pki, &upstream, 1_000_000)).await;
    let addr = hub.addr;
    let (h1, h2) = (connector(&pki, "http/1.1"), connector(&pki, "h2"));

    // Streams that begin before the first reload and end after the last.
    let io = TokioIo::new(connect(&h2, addr).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), io)
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut sender = sender.clone();
        let mut request = chat(addr, true);
        request.headers_mut().insert("x-held", "1".parse().unwrap());
        streams.spawn(async move {
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap().to_bytes()
        });
    }
    upstream.until_requests(20).await;

    let load = Arc::new(Load::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..2 {
        clients.spawn(h1_load(Arc::clone(&load), h1.clone(), addr));
        clients.spawn(h2_load(Arc::clone(&load), h2.clone(), addr));
    }
    for round in 1..=100 {
        let pair = pki.server(&format!("hub {round}"));
        pki.install("hub", &pair);
        let yaml = config(&pki, &upstream, 1_000_000 + round);
        hub.config.write("config.yaml", &yaml);
        hub.process.signal("HUP");
        hub.process
            .wait_for_lines("\"config_reloaded\"", round as usize)
            .await;
        assert_eq!(served(&h1, addr).await, der(&pair.0), "round {round}");
    }
    load.stop.store(true, Relaxed);
    clients.join_all().await;
    gate.open();
    for body in streams.join_all().await {
        assert!(body.ends_with(b"data: [DONE]\n\n"), "{body:?}");
    }
    let bad = std::mem::take(&mut *load.bad.lock().unwrap());
    assert!(
        bad.is_empty(),
        "{} failed: {:?}",
        bad.len(),
        &bad[..bad.len().min(5)]
    );
    assert!(load.good.load(Relaxed) > 100);
    hub.process.terminate();
    assert_eq!(hub.process.exit_code().await, 0);
}

#[tokio::test]
async fn changed_files_are_served_within_two_seconds_and_bad_ones_are_not() {
    let pki = Pki::new();
    pki.install("hub", &pki.server("first"));
    let mut hub = Hub::start(&yaml(&pki, "hub", "")).await;
    let tls = connector(&pki, "http/1.1");

    let pair = pki.server("second");
    pki.install("hub", &pair);
    let began = Instant::now();
    while served(&tls, hub.addr).await != der(&pair.0) {
        assert!(began.elapsed() < SOON, "{}", hub.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hub.process.wait_for_line("certificate_changed").await;

    for (name, text, expected) in [
        (
            "hub.key",
            pki.server("third").1,
            "does not fit the first certificate",
        ),
        ("hub.key", String::new(), "holds no private key"),
        ("hub.pem", "nonsense".to_owned(), "holds no certificate"),
    ] {
        let path = pki.path(name);
        let kept = std::fs::read_to_string(&path).unwrap();
        pki.write(name, &text);
        hub.process.wait_for_line(expected).await;
        assert_eq!(served(&tls, hub.addr).await, der(&pair.0), "{name}");
        pki.write(name, &kept);
    }
    std::fs::remove_file(pki.path("hub.key")).unwrap();
    hub.process.wait_for_line("it does not exist").await;
    assert_eq!(served(&tls, hub.addr).await, der(&pair.0));
}

/// As Kubernetes exchanges secrets: the files are links into a folder that is a link, which is switched.
#[tokio::test]
async fn switched_links_are_noticed() {
    use std::os::unix::fs::symlink;

    let pki = Pki::new();
    let base = pki.path("volume");
    let put = |version: &str, pair: &(String, String)| {
        std::fs::create_dir_all(format!("{base}/{version}")).unwrap();
        pki.install("hub", pair);
        for file in ["hub.pem", "hub.key"] {
            std::fs::rename(pki.path(file), format!("{base}/{version}/{file}")).unwrap();
        }
        symlink(version, format!("{base}/draft")).unwrap();
        std::fs::rename(format!("{base}/draft"), format!("{base}/..data")).unwrap();
    };
    put("v1", &pki.server("first"));
    for file in ["hub.pem", "hub.key"] {
        symlink(format!("{base}/..data/{file}"), pki.path(file)).unwrap();
    }
    // `install` renames over the links in the outer folder, so the hub reads those of a folder of its own.
    std::fs::create_dir(pki.path("mount")).unwrap();
    for file in ["hub.pem", "hub.key"] {
        symlink(
            format!("{base}/..data/{file}"),
            pki.path(&format!("mount/{file}")),
        )
        .unwrap();
    }
    let config = yaml(&pki, "mount/hub", "");
    let hub = Hub::start(&config).await;
    let tls = connector(&pki, "http/1.1");
    let second = pki.server("second");
    put("v2", &second);
    let began = Instant::now();
    while served(&tls, hub.addr).await != der(&second.0) {
        assert!(began.elapsed() < SOON, "{}", hub.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn limited(max: u32, extra: &str) -> String {
    format!(
        "hub:\n  security:\n    rateLimit: {{windowMs: 3600000, max: {max}, standardHeaders: true}}\n{extra}{TOKEN_AUTH}"
    )
}

#[tokio::test]
async fn what_must_outlive_a_reload_does() {
    let mut hub = Hub::start(&limited(10, "")).await;
    let answer = hub.send(&Req::get("/auth/session").bearer()).await;
    assert_eq!(answer.status, 200);
    let cookie = cookie_of(&answer);

    // Another limit, another header, another token: the counter and the session stay.
    let next = limited(6, "    helmet: {frameguard: {action: deny}}\n");
    hub.config
        .write("config.yaml", next.replace("test-token", "other-token"));
    hub.process.signal("HUP");
    hub.process.wait_for_line("config_reloaded").await;
    let answer = hub.send(&Req::get("/nothing").bearer()).await;
    assert_eq!(answer.status, 401, "the old token is gone");
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    assert_eq!(answer.header("ratelimit-limit"), Some("6"));
    assert_eq!(answer.header("ratelimit-remaining"), Some("4"));
    let token = "other-token-0123456789abcdef";
    let request = Req::get("/auth/session").header("authorization", &format!("Bearer {token}"));
    assert_eq!(hub.send(&request).await.status, 200);
    // The session was opened with a token that is no longer valid, so it is over too.
    let request = Req::get("/auth/session").header("cookie", &cookie);
    assert_eq!(hub.send(&request).await.status, 401);
    for _ in 0..2 {
        hub.send(&Req::get("/nothing")).await;
    }
    assert_eq!(hub.send(&Req::get("/nothing")).await.status, 429);
}

#[tokio::test]
async fn a_session_outlives_a_reload() {
    let mut hub = Hub::start(&limited(100, "")).await;
    let answer = hub.send(&Req::get("/auth/session").bearer()).await;
    let cookie = cookie_of(&answer);
    hub.config.write("config.yaml", limited(101, ""));
    hub.process.signal("HUP");
    hub.process.wait_for_line("config_reloaded").await;
    let answer = hub
        .send(&Req::get("/auth/session").header("cookie", &cookie))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
}

#[tokio::test]
async fn secrets_are_read_anew_from_files() {
    let config =
        format!("hub: {{}}\n{TOKEN_AUTH}").replace("test-token-0123456789abcdef", "'${ACCESS}'");
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("access");
    std::fs::write(&secret, "first-token-0123456789\n").unwrap();
    let mut hub = Hub::start_with(&config, [("ACCESS_FILE", secret.to_str().unwrap())]).await;
    let with =
        |token: &str| Req::get("/auth/session").header("authorization", &format!("Bearer {token}"));
    assert_eq!(hub.send(&with("first-token-0123456789")).await.status, 200);
    std::fs::write(&secret, "second-token-0123456789\n").unwrap();
    assert_eq!(hub.send(&with("second-token-0123456789")).await.status, 401);
    hub.process.signal("HUP");
    hub.process.wait_for_line("config_reloaded").await;
    assert_eq!(hub.send(&with("second-token-0123456789")).await.status, 200);
    assert_eq!(hub.send(&with("first-token-0123456789")).await.status, 401);
    // A secret that cannot be read does not open the door, nor close it.
    std::fs::remove_file(&secret).unwrap();
    hub.process.signal("HUP");
    hub.process.wait_for_line("config_refused").await;
    assert_eq!(hub.send(&with("second-token-0123456789")).await.status, 200);
}

#[tokio::test]
async fn a_configuration_that_is_refused_late_has_changed_nothing() {
    let yaml = |edapi: &Edapi, rest: &str| {
        format!(
            "hub: {{}}\nauth:\n  enabled: true\n  type: edapi\n  edapi_url: '{}'\n  session:\n    store: memory\n    \
             cookie: {{secret: cookie-secret-cookie-secret-cookie-secret}}\n{rest}",
            edapi.url()
        )
    };
    let (first, refused, last) = (Edapi::start(), Edapi::start(), Edapi::start());
    let mut hub = Hub::start(&yaml(&first, "")).await;
    let probed = |upstream: &Upstream| upstream.request_count() > 0;
    first.upstream().until("a probe", probed).await;
    // That a key belongs to another certificate is found when the proxies are built.
    let pki = Pki::new();
    pki.install("one", &pki.server("one"));
    pki.install("other", &pki.server("other"));
    let (cert, key) = (pki.path("one.pem"), pki.path("other.key"));
    let proxies = format!(
        "proxies:\n  - id: a\n    url: https://a.test\n    options: {{ssl: {{cert: {cert}, key: {key}}}}}\n"
    );
    hub.config.write("config.yaml", yaml(&refused, &proxies));
    hub.process.signal("HUP");
    hub.process.wait_for_line("config_refused").await;
    hub.process.wait_for_line("proxies[0].options.ssl").await;
    hub.config.write("config.yaml", yaml(&last, ""));
    hub.process.signal("HUP");
    hub.process.wait_for_line("config_reloaded").await;
    last.upstream().until("a probe", probed).await;
    assert_eq!(refused.upstream().request_count(), 0);
}

#[tokio::test]
async fn the_internal_listener_follows_a_reload_that_takes_it_away() {
    let yaml = |hub: &str, target: &str| {
        format!(
            "hub:\n  port: 0\n{hub}\ntargets:\n  - {{id: {target}, provider: echo}}\n{TOKEN_AUTH}"
        )
    };
    let mut hub = Hub::start(&yaml("  ailink_port: 0", "first")).await;
    let internal = hub.process.address("internal listener on").await;
    let chat = async |host: &str, target: &str| {
        let mut client = RawClient::connect(internal).await.unwrap();
        let request = Req::chat(false)
            .header("host", host)
            .header("x-target", target);
        client.send(request.to_bytes()).await.unwrap();
        client.next_response(PATIENCE).await.unwrap().status
    };
    assert_eq!(chat("localhost", "first").await, 200);
    let elsewhere = "  ailink_port: 0\n  ailink_host: page.test\n  ailink_allow_external: true";
    for (round, (hub_section, target, old)) in [
        (elsewhere, "second", "first"),
        ("  shutdownTimeout: 30000", "third", "second"),
        ("  shutdownTimeout: 30000", "fourth", "third"),
    ]
    .into_iter()
    .enumerate()
    {
        hub.config.write("config.yaml", yaml(hub_section, target));
        hub.process.signal("HUP");
        hub.process
            .wait_for_lines("\"config_reloaded\"", round + 1)
            .await;
        assert_eq!(chat("localhost", target).await, 200, "{target}");
        assert_eq!(chat("localhost", old).await, 404, "{target}");
        assert_eq!(chat("page.test", target).await, 403, "{target}");
    }
}

#[tokio::test]
async fn what_needs_a_restart_is_named_as_long_as_it_does() {
    let (at_start, changed) = (limited(50, ""), limited(50, "  shutdownTimeout: 5\n"));
    let mut hub = Hub::start(&at_start).await;
    for (reloads, (yaml, warnings)) in [(&changed, 1), (&changed, 2), (&at_start, 2)]
        .into_iter()
        .enumerate()
    {
        hub.config.write("config.yaml", yaml);
        hub.process.signal("HUP");
        hub.process
            .wait_for_lines("\"config_reloaded\"", reloads + 1)
            .await;
        let named = hub
            .output()
            .matches("hub.shutdownTimeout has changed")
            .count();
        assert_eq!(named, warnings, "{}", hub.output());
    }
}

#[tokio::test]
async fn a_hangup_during_the_start_is_a_reload_after_it() {
    let certificates = TestCertificates::new();
    let config = TempConfig::new("");
    // Whoever reads a pipe waits for its writer, so the start lasts until this test goes on.
    let pipe = config.folder().join("ca.pem");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    config.write(
        "config.yaml",
        format!(
            "hub: {{port: 0}}\nauth:\n  enabled: true\n  type: edapi\n  edapi_url: https://{}\n  \
             edapi: {{tls: {{ca: {}}}}}\n  session:\n    store: memory\n    \
             cookie: {{secret: cookie-secret-cookie-secret-cookie-secret}}\n",
            closed_address(),
            pipe.display()
        ),
    );
    let args = ["serve", "--config", config.path().to_str().unwrap()].map(str::to_owned);
    let mut process = HubProcess::start(BINARY, args, []);
    let path = pipe.clone();
    let opened = tokio::task::spawn_blocking(move || std::fs::File::create(path));
    let mut writer = opened.await.unwrap().unwrap();
    process.signal("HUP");
    std::fs::rename(config.write("ca.new", &certificates.ca), &pipe).unwrap();
    writer.write_all(certificates.ca.as_bytes()).unwrap();
    drop(writer);
    process.wait_for_line("listening on").await;
    process.wait_for_line("config_reloaded").await;
    process.terminate();
    assert_eq!(process.exit_code().await, 0);
}

#[tokio::test]
async fn an_edapi_that_is_no_longer_asked_does_not_count() {
    let gone = closed_address();
    let mut hub = Hub::start(&format!(
        "auth:\n  enabled: true\n  type: edapi\n  edapi_url: 'http://{gone}'\n  session:\n    store: memory\n    \
         cookie: {{secret: cookie-secret-cookie-secret-cookie-secret}}\n"
    ))
    .await;
    let began = Instant::now();
    while hub.send(&Req::get("/ready")).await.status != 503 {
        assert!(began.elapsed() < SOON, "{}", hub.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hub.config.write("config.yaml", TOKEN_AUTH);
    hub.process.signal("HUP");
    hub.process.wait_for_line("config_reloaded").await;
    let answer = hub.send(&Req::get("/ready")).await;
    assert_eq!(answer.status, 200, "{}", answer.body_text());
}

#[tokio::test]
async fn a_bad_configuration_is_refused_and_what_needs_a_restart_is_named() {
    let mut hub = Hub::start(&limited(50, "")).await;
    for (index, (yaml, expected)) in [
        (
            limited(50, "    helmt: true\n"),
            "hub.security.helmt - unknown key, did you mean helmet?",
        ),
        ("hub: [\n".to_owned(), "config.yaml"),
        (
            limited(50, "").replace("enabled: true", "enabled: false"),
            "auth.enabled",
        ),
        (
            limited(
                50,
                "  tls: {enabled: true, cert: /none.pem, key: /none.key}\n",
            ),
            "hub.tls.enabled",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        hub.config.write("config.yaml", &yaml);
        hub.process.signal("HUP");
        hub.process
            .wait_for_lines("config_refused", index + 1)
            .await;
        hub.process.wait_for_line(expected).await;
        assert_eq!(hub.send(&Req::get("/nothing")).await.status, 401);
    }
    let changed = limited(
        60,
        "  listener: {idleTimeout: 1000}\n  shutdownTimeout: 5\n",
    );
    hub.config.write(
        "config.yaml",
        format!("{changed}logging: {{format: text}}\n"),
    );
    hub.process.signal("HUP");
    for key in ["hub.listener", "hub.shutdownTimeout", "logging"] {
        hub.process
            .wait_for_line(&format!("{key} has changed and needs a restart"))
            .await;
    }
    hub.process.wait_for_line("config_reloaded").await;
    let answer = hub.send(&Req::get("/nothing")).await;
    assert_eq!(answer.header("ratelimit-limit"), Some("60"));
}
