//! `proactions-hub healthcheck` tells a well hub from one that is not, in one line, whatever its configuration.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};

use proactions_testkit::{HubProcess, Reply, TempConfig, Upstream, closed_address};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::harness::{BINARY, ECHO_TARGET, Hub, TOKEN_AUTH};
use crate::tls::{Pki, yaml};

/// The exit code, and what was said on both outputs.
async fn healthcheck(args: &[&str], env: &[(&'static str, String)]) -> (i32, String) {
    let args = [&["healthcheck"], args].concat();
    let mut process = HubProcess::start(BINARY, args, env.to_vec());
    let code = process.exit_code().await;
    let lines = [process.stdout(), process.stderr()].concat();
    (code, lines.join("\n"))
}

/// With this configuration, for a hub at this address.
async fn check(config: &TempConfig, addr: SocketAddr, args: &[&str]) -> (i32, String) {
    let path = config.path();
    let args = [&["--config", path.to_str().unwrap()], args].concat();
    let port = addr.port().to_string();
    healthcheck(&args, &[("PROACTIONS_HUB_PORT", port)]).await
}

async fn check_hub(hub: &Hub, args: &[&str]) -> (i32, String) {
    check(&hub.config, hub.addr, args).await
}

fn well() -> (i32, String) {
    (0, String::new())
}

#[tokio::test]
async fn a_hub_is_well_until_it_has_gone() {
    let mut hub = Hub::start(&format!("{TOKEN_AUTH}{ECHO_TARGET}")).await;
    assert_eq!(check_hub(&hub, &[]).await, well());
    assert_eq!(check_hub(&hub, &["--ready"]).await, well());
    // A bare URL needs no configuration.
    let url = format!("http://{}/ready", hub.addr);
    assert_eq!(healthcheck(&["--url", &url], &[]).await, well());
    let (code, said) = healthcheck(&["--url", &format!("http://{}/", hub.addr)], &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("answered 401"), "{said}");

    assert_eq!(hub.stop().await, 0);
    let said = format!(
        "unhealthy: http://127.0.0.1:{}/health: connection refused",
        hub.addr.port()
    );
    assert_eq!(check_hub(&hub, &[]).await, (1, said));
}

#[tokio::test]
async fn a_hub_that_drains_is_alive_and_not_ready() {
    let yaml = "hub: {preStopDelay: 600000}\nhealthCheck: {path: /livez, readinessPath: /internal/readyz}\n";
    let mut hub = Hub::start(yaml).await;
    assert_eq!(check_hub(&hub, &["--ready"]).await, well());
    hub.process.terminate();
    hub.process.wait_for_line("draining").await;
    assert_eq!(check_hub(&hub, &[]).await, well());
    let said = format!(
        "unhealthy: http://{}/internal/readyz: answered 503 (down: draining)",
        hub.addr
    );
    assert_eq!(check_hub(&hub, &["--ready"]).await, (1, said));
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_with_the_mend() {
    const PLANTED: &str = "planted-secret-4711-planted-secret-4711";
    for (yaml, args, part) in [
        (
            "healthCheck: {enabled: false}\n",
            &[][..],
            "healthCheck.enabled is false",
        ),
        ("hub: {port: 0}\n", &[], "--url"),
        ("hub: {prot: 1}\n", &[], "did you mean port"),
        (
            "targets: [{id: a, provider: openai, apiKey: [planted-secret-4711-planted-secret-4711]}]\n",
            &[],
            "apiKey",
        ),
        (
            "hub: {tls: {enabled: true, cert: /nowhere.pem, key: /nowhere.key}}\n",
            &[],
            "hub.tls.cert: cannot read",
        ),
        ("{}\n", &["--timeout", "0"], "--timeout"),
        ("{}\n", &["--client-cert", "/nowhere.pem"], "--client-key"),
        (
            "{}\n",
            &[
                "--client-cert",
                "/nowhere.pem",
                "--client-key",
                "/nowhere.key",
            ],
            "--client-cert: cannot be read",
        ),
        ("{}\n", &["--url", "ftp://127.0.0.1/"], "--url"),
        (
            "{}\n",
            &[
                "--url",
                "http://planted-secret-4711-planted-secret-4711@127.0.0.1/",
            ],
            "--url",
        ),
    ] {
        let config = TempConfig::new(yaml);
        let path = config.path();
        let args = [&["--config", path.to_str().unwrap()], args].concat();
        let (code, said) = healthcheck(&args, &[]).await;
        assert_eq!(code, 2, "{yaml}{args:?}: {said}");
        assert!(said.contains(part), "{yaml}{args:?}: {said}");
        assert!(!said.contains(PLANTED), "{said}");
    }
    let (code, said) = healthcheck(&["--config", "/nowhere/config.yaml"], &[]).await;
    assert_eq!(code, 2, "{said}");
}

#[tokio::test]
async fn a_silent_listener_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = TempConfig::new("{}\n");
    let (code, said) = check(&config, addr, &["--timeout", "1"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.ends_with("no answer within 1 s"), "{said}");
    let mut request = [0; 4];
    listener
        .accept()
        .unwrap()
        .0
        .read_exact(&mut request)
        .unwrap();
    assert_eq!(&request, b"GET ", "it did ask");
}

#[tokio::test]
async fn another_program_on_the_port_is_no_hub() {
    let page = Upstream::start(Reply::bytes(200, "text/html", "<html>welcome</html>"));
    let config = TempConfig::new("{}\n");
    let (code, said) = check(&config, page.addr(), &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("another program"), "{said}");

    let moved = Upstream::start(Reply::redirect(302, "http://127.0.0.1:1/"));
    let (code, said) = check(&config, moved.addr(), &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.ends_with("answered 302"), "{said}");

    // Whatever the answer is, it is not told.
    let hostile = r#"{"checks":{"\u001b[2J":"down","redis":"down"}}"#;
    let hostile = Upstream::start(Reply::bytes(503, "application/json", hostile));
    let (code, said) = check(&config, hostile.addr(), &["--ready"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.ends_with("answered 503 (down: redis)"), "{said}");
}

/// A certificate that signs itself and names nothing that the hub is called by, and its key.
fn for_another_name() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["ai.publisher.example".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_hub_knows_its_own_certificate_whatever_it_names() {
    let pki = Pki::new();
    pki.install("hub", &for_another_name());
    for lines in [
        "",
        "    minVersion: TLSv1.3\n",
        "    ciphers: ECDHE-ECDSA-AES256-GCM-SHA384\n",
    ] {
        let hub = Hub::start(&yaml(&pki, "hub", lines)).await;
        assert_eq!(check_hub(&hub, &[]).await, well(), "{lines}");
        assert_eq!(check_hub(&hub, &["--ready"]).await, well(), "{lines}");
    }
}

#[tokio::test]
async fn the_file_says_which_certificate_is_its_own() {
    let pki = Pki::new();
    pki.install("hub", &for_another_name());
    let hub = Hub::start(&yaml(&pki, "hub", "")).await;

    // Another hub, with another certificate, where this one should be.
    pki.install("other", &for_another_name());
    let config = TempConfig::new(&yaml(&pki, "other", ""));
    let (code, said) = check(&config, hub.addr, &["--timeout", "1"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("another certificate"), "{said}");

    // A new pair is waited for: it is served soon.
    pki.install("hub", &for_another_name());
    assert_eq!(check_hub(&hub, &[]).await, well());

    // Files that a hub refuses do not make a running hub ill: a pair that does not fit, and none at all.
    let (_, foreign_key) = for_another_name();
    let (certificate, _) = for_another_name();
    pki.install("hub", &(certificate, foreign_key));
    let (code, said) = check_hub(&hub, &[]).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("healthy, but") && said.contains("hub.tls.key"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    std::fs::remove_file(pki.path("hub.pem")).unwrap();
    std::fs::remove_file(pki.path("hub.key")).unwrap();
    let (code, said) = check_hub(&hub, &[]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    pki.install("hub", &for_another_name());

    // Nobody listens there at all.
    let (code, said) = check(&hub.config, closed_address(), &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.ends_with("connection refused"), "{said}");

    // Plain HTTP is spoken where TLS should be.
    let plain = Hub::start("{}\n").await;
    let (code, said) = check(&hub.config, plain.addr, &[]).await;
    assert_eq!(code, 1, "{said}");
}

#[tokio::test]
async fn a_url_of_another_machine_is_verified_as_usual() {
    let pki = Pki::new();
    pki.install("hub", &pki.server("hub"));
    let hub = Hub::start(&yaml(&pki, "hub", "")).await;
    let url = format!("https://127.0.0.1:{}/health", hub.addr.port());
    let trusted = ("SSL_CERT_FILE", pki.path("root.pem"));
    assert_eq!(healthcheck(&["--url", &url], &[trusted]).await, well());
    let stranger = Pki::new();
    let unknown = ("SSL_CERT_FILE", stranger.path("root.pem"));
    let (code, said) = healthcheck(&["--url", &url], &[unknown]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("invalid peer certificate"), "{said}");
}

#[tokio::test]
async fn a_hub_that_wants_certificates_gets_one() {
    let pki = Pki::new();
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let editor = pki.leaf("editor", (-1, 90), &PKCS_ECDSA_P256_SHA256, client.clone());
    pki.install("editor", &editor);
    let (cert, key) = (pki.path("editor.pem"), pki.path("editor.key"));
    let wanted = |lines: &str| {
        let ca = pki.path("bundle.pem");
        format!("    requestCert: true\n    ca: {ca}\n{lines}")
    };

    // The hub's own certificate is for servers only.
    pki.install("hub", &pki.server("hub"));
    let hub = Hub::start(&yaml(&pki, "hub", &wanted(""))).await;
    let (code, said) = check_hub(&hub, &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("--client-cert"), "{said}");
    let shown = ["--client-cert", &cert, "--client-key", &key];
    assert_eq!(check_hub(&hub, &shown).await, well());
    let args = ["--config", hub.config.path().to_str().unwrap()].map(str::to_owned);
    let env = [
        ("PROACTIONS_HUB_PORT", hub.addr.port().to_string()),
        ("PROACTIONS_HUB_HEALTHCHECK_CERT", cert.clone()),
        ("PROACTIONS_HUB_HEALTHCHECK_KEY", key.clone()),
    ];
    assert_eq!(
        healthcheck(&args.each_ref().map(String::as_str), &env).await,
        well()
    );

    // One that the authority allows to be a client as well is shown by itself.
    pki.install(
        "both",
        &pki.leaf("hub", (-1, 90), &PKCS_ECDSA_P256_SHA256, client),
    );
    let hub = Hub::start(&yaml(&pki, "both", &wanted(""))).await;
    assert_eq!(check_hub(&hub, &[]).await, well());

    // Where none is needed, none is shown.
    let lines = wanted("    rejectUnauthorized: false\n");
    let hub = Hub::start(&yaml(&pki, "hub", &lines)).await;
    assert_eq!(check_hub(&hub, &[]).await, well());
}
