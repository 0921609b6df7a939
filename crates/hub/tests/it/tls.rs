//! TLS as `openssl` and `curl` see it, in every configured combination; and what stops the start, by name.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use proactions_testkit::{HubProcess, TempConfig};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm,
};

use crate::harness::{BINARY, Hub, PATIENCE};

/// A root, an intermediate authority, and what that one signs.
pub(crate) struct Pki {
    folder: tempfile::TempDir,
    root_pem: String,
    issuer_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params
}

impl Pki {
    pub(crate) fn new() -> Self {
        let root_key = KeyPair::generate().unwrap();
        let root_params = authority("test root");
        let root_pem = root_params.self_signed(&root_key).unwrap().pem();
        let root = Issuer::new(root_params, root_key);
        let key = KeyPair::generate().unwrap();
        let params = authority("test intermediate");
        let issuer_pem = params.signed_by(&key, &root).unwrap().pem();
        let pki = Self {
            folder: tempfile::tempdir().unwrap(),
            root_pem,
            issuer_pem,
            issuer: Issuer::new(params, key),
        };
        pki.write("root.pem", &pki.root_pem);
        pki.write("bundle.pem", &format!("{}{}", pki.issuer_pem, pki.root_pem));
        pki
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        // A new file in the place of the old one, as those who renew certificates do.
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        chmod(&draft, 0o600);
        std::fs::rename(&draft, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A certificate for this machine and its key, in PEM; valid between these days from now.
    pub(crate) fn leaf(
        &self,
        name: &str,
        days: (i64, i64),
        algorithm: &'static SignatureAlgorithm,
        usage: ExtendedKeyUsagePurpose,
    ) -> (String, String) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages.push(usage);
        params.not_before = day(days.0).into();
        params.not_after = day(days.1).into();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn server(&self, name: &str) -> (String, String) {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        self.leaf(name, (-1, 90), &PKCS_ECDSA_P256_SHA256, usage)
    }

    /// Writes `{name}.pem`, with the whole chain, and `{name}.key`.
    pub(crate) fn install(&self, name: &str, (certificate, key): &(String, String)) {
        let chain = format!("{certificate}{}", self.issuer_pem);
        self.write(&format!("{name}.key"), key);
        self.write(&format!("{name}.pem"), &chain);
    }
}

/// So many days from now.
#[allow(clippy::disallowed_methods, reason = "the hub goes by the real time")]
fn day(offset: i64) -> SystemTime {
    let distance = Duration::from_secs(offset.unsigned_abs() * 86_400);
    if offset < 0 {
        SystemTime::now() - distance
    } else {
        SystemTime::now() + distance
    }
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// `hub.tls` with these lines, for the certificate that was installed as `name`.
pub(crate) fn yaml(pki: &Pki, name: &str, lines: &str) -> String {
    format!(
        "hub:\n  tls:\n    enabled: true\n    cert: {}\n    key: {}\n{lines}",
        pki.path(&format!("{name}.pem")),
        pki.path(&format!("{name}.key")),
    )
}

/// What a program said, and whether it ended well.
async fn run(program: &str, args: &[String]) -> (bool, String) {
    let (program, args) = (program.to_owned(), args.to_vec());
    let output = tokio::task::spawn_blocking(move || {
        let output = Command::new(&program)
            .args(&args)
            .stdin(std::process::Stdio::null())
            .output();
        output.unwrap_or_else(|error| panic!("{program}: {error}"))
    });
    let output = output.await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// The status and the HTTP version that `curl` gets for `/health` with these arguments, or `None` if the handshake
/// fails.
async fn curl(hub: &Hub, pki: &Pki, args: &str) -> Option<String> {
    let mut all: Vec<String> = [
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{http_version}",
    ]
    .map(str::to_owned)
    .into();
    all.extend(["--cacert".to_owned(), pki.path("root.pem")]);
    all.extend(
        args.split_whitespace()
            .map(|arg| match arg.strip_prefix('@') {
                Some(name) => pki.path(name),
                None => arg.to_owned(),
            }),
    );
    all.push(format!("https://127.0.0.1:{}/health", hub.addr.port()));
    let (good, text) = run("curl", &all).await;
    good.then_some(text)
}

async fn s_client(hub: &Hub, pki: &Pki, args: &str) -> (bool, String) {
    let connect = format!(
        "s_client -connect {} -CAfile {}",
        hub.addr,
        pki.path("root.pem")
    );
    let args = format!("{connect} -verify_return_error {args}");
    let args: Vec<_> = args.split_whitespace().map(str::to_owned).collect();
    run("openssl", &args).await
}

#[tokio::test]
async fn each_configuration_serves_whom_it_should_and_nobody_else() {
    let pki = Pki::new();
    pki.install("ecdsa", &pki.server("hub"));
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    pki.install(
        "rsa",
        &pki.leaf("hub", (-1, 90), &PKCS_RSA_SHA256, server.clone()),
    );
    pki.install("ed25519", &pki.leaf("hub", (-1, 90), &PKCS_ED25519, server));
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let (certificate, key) = pki.leaf("editor", (-1, 90), &PKCS_ECDSA_P256_SHA256, client.clone());
    pki.write("client.pem", &format!("{certificate}{key}"));
    let (certificate, key) = pki.leaf("old", (-9, -1), &PKCS_ECDSA_P256_SHA256, client.clone());
    pki.write("expired.pem", &format!("{certificate}{key}"));
    let (certificate, key) = Pki::new().leaf("stranger", (-1, 90), &PKCS_ECDSA_P256_SHA256, client);
    pki.write("stranger.pem", &format!("{certificate}{key}"));

    const H2: Option<&str> = Some("200 2");
    const H1: Option<&str> = Some("200 1.1");
    let required = "    requestCert: true\n    ca: @bundle.pem\n";
    let optional = "    requestCert: true\n    rejectUnauthorized: false\n    ca: @bundle.pem\n";
    for (certificate, lines, clients) in [
        (
            "ecdsa",
            "",
            &[
                ("", H2),
                ("--http1.1", H1),
                ("--tlsv1.2 --tls-max 1.2", H2),
                ("--tlsv1.3", H2),
                ("--tlsv1.0 --tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0", None),
                ("--tls-max 1.2 --ciphers ECDHE-ECDSA-CHACHA20-POLY1305", H2),
                ("--tls-max 1.2 --ciphers ECDHE-ECDSA-AES256-SHA384", None),
                ("--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256", None),
                ("--tls-max 1.2 --ciphers AES128-SHA", None),
                ("--curves X25519", H2),
                ("--curves P-256", H2),
                ("--curves P-384", H2),
                ("--curves P-521", None),
            ][..],
        ),
        (
            "rsa",
            "",
            &[
                ("", H2),
                ("--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256", H2),
                ("--tls-max 1.2 --ciphers AES256-GCM-SHA384", None),
                ("--tls-max 1.2 --ciphers DHE-RSA-AES256-GCM-SHA384", None),
            ],
        ),
        ("ed25519", "", &[("", H2), ("--http1.1", H1)]),
        (
            "rsa",
            "    minVersion: TLSv1.3\n",
            &[("", H2), ("--tls-max 1.2", None)],
        ),
        (
            "rsa",
            "    ciphers: TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256\n",
            &[
                ("", H2),
                ("--tls-max 1.2", None),
                ("--tls13-ciphers TLS_AES_128_GCM_SHA256", None),
                ("--tls13-ciphers TLS_CHACHA20_POLY1305_SHA256", H2),
            ],
        ),
        (
            "rsa",
            "    ciphers: ECDHE-RSA-AES256-GCM-SHA384\n",
            &[
                ("--tlsv1.3", H2),
                ("--tls-max 1.2 --ciphers ECDHE-RSA-AES256-GCM-SHA384", H2),
                ("--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256", None),
            ],
        ),
        (
            "ecdsa",
            required,
            &[
                ("", None),
                ("--tls-max 1.2", None),
                ("--cert @client.pem", H2),
                ("--tls-max 1.2 --cert @client.pem", H2),
                ("--cert @expired.pem", None),
                ("--cert @stranger.pem", None),
            ],
        ),
        (
            "ecdsa",
            optional,
            &[
                ("", H2),
                ("--cert @client.pem", H2),
                ("--cert @stranger.pem", None),
            ],
        ),
    ] {
        let lines = lines.replace("@bundle.pem", &pki.path("bundle.pem"));
        let mut hub = Hub::start(&yaml(&pki, certificate, &lines)).await;
        for (args, expected) in clients {
            let got = curl(&hub, &pki, args).await;
            assert_eq!(
                got.as_deref(),
                *expected,
                "{certificate} {lines} {args}\n{}",
                hub.output()
            );
        }
        if lines.contains("requestCert") {
            let line = hub.process.wait_for_line("client_certificate").await;
            assert!(line.contains("CN=editor"), "{line}");
            let output = hub.output();
            assert!(!output.contains("CN=stranger"), "{output}");
        }
    }
}

#[tokio::test]
async fn the_hub_prefers_its_own_order() {
    let pki = Pki::new();
    pki.install("hub", &pki.server("hub"));
    let weakest_first =
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384";
    let older_first = "-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
    let own = "    ciphers: ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256\n";
    let any = "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305";
    for (lines, args, chosen) in [
        ("", weakest_first, "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ("", older_first, "TLS_AES_256_GCM_SHA384"),
        (own, any, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ] {
        let hub = Hub::start(&yaml(&pki, "hub", lines)).await;
        let (good, text) = s_client(&hub, &pki, args).await;
        assert!(good, "{text}");
        assert!(
            text.contains(&format!("Cipher is {chosen}")),
            "{args}: {text}"
        );
    }
}

#[tokio::test]
async fn what_openssl_sees() {
    let pki = Pki::new();
    // The certificate alone: the chain is completed from `ca`, without the root.
    let (certificate, key) = pki.server("hub");
    pki.write("leaf.pem", &certificate);
    pki.write("leaf.key", &key);
    let ca = format!("    ca: {}\n", pki.path("bundle.pem"));
    let hub = Hub::start(&yaml(&pki, "leaf", &ca)).await;
    let (good, text) = s_client(&hub, &pki, "-showcerts -alpn h2").await;
    assert!(good, "{text}");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2, "{text}");
    assert!(text.contains("ALPN protocol: h2"), "{text}");
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
    // No compression, no secure renegotiation to start from a client, no old version.
    assert!(text.contains("Compression: NONE"), "{text}");
    assert!(
        !s_client(&hub, &pki, "-tls1_1 -cipher ALL:@SECLEVEL=0")
            .await
            .0
    );
    assert!(
        !s_client(&hub, &pki, "-tls1 -cipher ALL:@SECLEVEL=0")
            .await
            .0
    );
    // Nothing in common to speak afterwards.
    assert!(!s_client(&hub, &pki, "-alpn spdy/3").await.0);
    // A session is resumed.
    let session = pki.path("session");
    let (good, text) = s_client(&hub, &pki, &format!("-tls1_2 -sess_out {session}")).await;
    assert!(good, "{text}");
    let (good, text) = s_client(&hub, &pki, &format!("-tls1_2 -sess_in {session}")).await;
    assert!(good && text.contains("Reused"), "{text}");
}

#[tokio::test]
async fn without_the_intermediate_nobody_can_verify_it() {
    let pki = Pki::new();
    let (certificate, key) = pki.server("hub");
    pki.write("leaf.pem", &certificate);
    pki.write("leaf.key", &key);
    let hub = Hub::start(&yaml(&pki, "leaf", "")).await;
    assert_eq!(curl(&hub, &pki, "").await, None);
}

#[tokio::test]
async fn plain_http_is_told_so_and_silence_is_cut() {
    let pki = Pki::new();
    pki.install("hub", &pki.server("hub"));
    let lines =
        "  listener: {tlsHandshakeTimeout: 300, firstByteTimeout: 300, headerTimeout: 300}\n";
    let hub = Hub::start(&yaml(&pki, "hub", lines)).await;
    let answer = hub.raw("GET /health HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["message"], "This port speaks HTTPS");
    assert_eq!(answer.header("connection"), Some("close"));
    for bytes in [
        &b""[..],
        b"\x16",
        b"\x16\x03\x01\x02\x00\x01",
        b"\0\0\0\0",
        b"\x80\x2e\x01",
    ] {
        let mut client = hub.connect().await;
        client.send(bytes).await.unwrap();
        let seen = client.read_to_end(PATIENCE).await;
        assert!(
            seen.ending != proactions_testkit::Ending::Deadline,
            "{bytes:?}"
        );
        assert!(!seen.text().contains("HTTP/"), "{bytes:?}");
    }
    assert_eq!(curl(&hub, &pki, "").await.as_deref(), Some("200 2"));
}

/// A ClientHello in records of one byte meets the same configuration as any other.
#[tokio::test]
async fn a_fragmented_hello_does_not_get_around_client_certificates() {
    let pki = Pki::new();
    pki.install("hub", &pki.server("hub"));
    let ca = pki.path("bundle.pem");
    for (lines, served) in [
        (format!("    requestCert: true\n    ca: {ca}\n"), false),
        (String::new(), true),
    ] {
        let hub = Hub::start(&yaml(&pki, "hub", &lines)).await;
        let (addr, root) = (hub.addr, pki.root_pem.clone());
        let fragmented = tokio::task::spawn_blocking(move || fragmented_get(addr, &root));
        let answer = fragmented.await.unwrap();
        assert_eq!(answer.contains("HTTP/1.1 200"), served, "{lines} {answer}");
    }
}

fn fragmented_get(addr: std::net::SocketAddr, root: &str) -> String {
    use rustls::pki_types::pem::PemObject as _;
    use std::io::{Read as _, Write as _};

    let mut roots = rustls::RootCertStore::empty();
    let root = rustls::pki_types::CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tls =
        rustls::ClientConnection::new(config.into(), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut socket = std::net::TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for byte in &hello[5..] {
        socket
            .write_all(&[hello[0], hello[1], hello[2], 0, 1, *byte])
            .unwrap();
    }
    let mut answer = Vec::new();
    let mut stream = rustls::Stream::new(&mut tls, &mut socket);
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    if stream.write_all(request).is_ok() {
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn openssl(args: &str) {
    let output = Command::new("openssl")
        .args(args.split_whitespace())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {args}: {error}");
}

#[tokio::test]
async fn keys_in_every_form() {
    let pki = Pki::new();
    pki.install("ecdsa", &pki.server("hub"));
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    pki.install("rsa", &pki.leaf("hub", (-1, 90), &PKCS_RSA_SHA256, usage));
    for (name, conversion, line) in [
        ("ecdsa", "ec", ""),
        ("rsa", "rsa -traditional", ""),
        (
            "rsa",
            "pkcs8 -topk8 -v2 aes-256-cbc -passout pass:secret",
            "    passphrase: secret\n",
        ),
        (
            "ecdsa",
            "pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA512 -passout pass:secret",
            "    passphrase: secret\n",
        ),
        (
            "ecdsa",
            "pkcs8 -topk8 -scrypt -passout pass:secret",
            "    passphrase: secret\n",
        ),
        // Not encrypted: a passphrase is not needed, and does no harm.
        ("rsa", "pkcs8 -topk8 -nocrypt", "    passphrase: secret\n"),
    ] {
        let (from, to) = (pki.path(&format!("{name}.key")), pki.path("converted.key"));
        openssl(&format!("{conversion} -in {from} -out {to}"));
        chmod(Path::new(&to), 0o600);
        let config = yaml(&pki, name, line).replace(&from, &to);
        let hub = Hub::start(&config).await;
        assert_eq!(
            curl(&hub, &pki, "").await.as_deref(),
            Some("200 2"),
            "{conversion}"
        );
    }
}

#[tokio::test]
async fn what_stops_the_start_is_named() {
    let pki = Pki::new();
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    let ecdsa = &PKCS_ECDSA_P256_SHA256;
    pki.install("good", &pki.server("hub"));
    pki.install("other", &pki.server("other"));
    pki.install("expired", &pki.leaf("hub", (-9, -1), ecdsa, usage.clone()));
    pki.install("early", &pki.leaf("hub", (2, 9), ecdsa, usage.clone()));
    pki.install("soon", &pki.leaf("hub", (-1, 9), ecdsa, usage));
    pki.write("empty.pem", "");
    pki.write("nonsense.key", "nonsense");
    let good = pki.path("good.key");
    let (encrypted, old) = (pki.path("encrypted.key"), pki.path("old.key"));
    openssl(&format!(
        "pkcs8 -topk8 -in {good} -out {encrypted} -passout pass:secret"
    ));
    openssl(&format!(
        "ec -aes256 -in {good} -out {old} -passout pass:secret"
    ));
    for (name, mode) in [
        ("open", 0o644),
        ("group", 0o640),
        ("written", 0o642),
        ("shared", 0o660),
    ] {
        let path = pki.write(
            &format!("{name}.key"),
            &std::fs::read_to_string(&good).unwrap(),
        );
        chmod(Path::new(&path), mode);
    }
    for path in [&encrypted, &old] {
        chmod(Path::new(path), 0o600);
    }

    for (cert, key, lines, code, expected) in [
        ("good.pem", "good.key", "", 0, ""),
        (
            "good.pem",
            "other.key",
            "",
            2,
            "does not fit the first certificate",
        ),
        ("none.pem", "good.key", "", 2, "hub.tls.cert: cannot read"),
        ("good.pem", "none.key", "", 2, "hub.tls.key: cannot read"),
        ("empty.pem", "good.key", "", 2, "holds no certificate"),
        ("good.key", "good.key", "", 2, "holds no certificate"),
        ("good.pem", "nonsense.key", "", 2, "holds no private key"),
        ("good.pem", "good.pem", "", 2, "holds no private key"),
        ("good.pem", ".", "", 2, "it is a directory"),
        (
            "expired.pem",
            "expired.key",
            "",
            2,
            "the certificate expired on",
        ),
        ("early.pem", "early.key", "", 2, "is not valid before"),
        ("soon.pem", "soon.key", "", 0, "the certificate expires on"),
        ("good.pem", "open.key", "", 2, "everybody can read"),
        (
            "good.pem",
            "open.key",
            "    keyPermissions: warn\n",
            0,
            "everybody can read",
        ),
        ("good.pem", "group.key", "", 0, "its group can read"),
        ("good.pem", "written.key", "", 2, "everybody can write"),
        ("good.pem", "shared.key", "", 2, "its group can write"),
        (
            "good.pem",
            "shared.key",
            "    keyPermissions: warn\n",
            0,
            "its group can write",
        ),
        ("good.pem", "encrypted.key", "", 2, "set hub.tls.passphrase"),
        (
            "good.pem",
            "encrypted.key",
            "    passphrase: wrong\n",
            2,
            "hub.tls.passphrase: it does not decrypt",
        ),
        (
            "good.pem",
            "encrypted.key",
            "    passphrase: secret\n",
            0,
            "",
        ),
        (
            "good.pem",
            "old.key",
            "    passphrase: secret\n",
            2,
            "openssl pkcs8 -topk8 -v2 aes-256-cbc",
        ),
        (
            "good.pem",
            "good.key",
            "    requestCert: true\n    ca: /none.pem\n",
            2,
            "hub.tls.ca: cannot read /none.pem",
        ),
    ] {
        let (cert_path, key_path) = (pki.path(cert), pki.path(key));
        let config = TempConfig::new(&format!(
            "hub:\n  port: 0\n  tls:\n    enabled: true\n    cert: {cert_path}\n    key: {key_path}\n{lines}"
        ));
        let path = config.path();
        let path = path.to_str().unwrap();
        for command in ["check", "serve"] {
            if (command, code) == ("serve", 0) {
                continue;
            }
            let mut process = HubProcess::start(BINARY, [command, "--config", path], []);
            assert_eq!(
                process.exit_code().await,
                code,
                "{command} {cert} {key} {lines} {process}"
            );
            let output = process.to_string();
            assert!(
                output.contains(expected),
                "{command} {cert} {key} {lines} {output}"
            );
            assert!(!output.contains("PRIVATE KEY-----"), "{output}");
            assert!(!output.contains("wrong"), "{output}");
        }
    }
}
