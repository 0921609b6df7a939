use super::*;

fn keys(error: &ConfigError) -> Vec<&str> {
    error
        .problems()
        .iter()
        .map(|problem| problem.key.as_str())
        .collect()
}

#[test]
fn every_problem_of_a_proxy_is_reported() {
    let mut proxy = ProxyConfig {
        id: "a/b".to_owned(),
        url: "ftp://x".into(),
        remove_source_headers: RemoveSourceHeaders::Named(vec!["x".to_owned(), "a b".to_owned()]),
        options: ProxyOptions {
            headers: [
                ("bad name", "x"),
                ("x-break", "hunter2\r\nx: y"),
                ("Host", "x"),
                ("Transfer-Encoding", "x"),
                ("x-good", "x"),
            ]
            .map(|(name, value)| (name.to_owned(), SecretString::from(value)))
            .into(),
            timeout: Some(0),
            proxy_timeout: Some(86_400_001),
            max_redirects: Some(21),
            ..ProxyOptions::default()
        },
    };
    proxy.options.ssl.cert = Some("cert.pem".to_owned());
    let error = proxy.check().unwrap_err();
    assert_eq!(
        keys(&error),
        [
            "id",
            "url",
            "remove_source_headers[1]",
            "options.headers.Host",
            "options.headers.Transfer-Encoding",
            "options.headers.bad name",
            "options.headers.x-break",
            "options.timeout",
            "options.proxyTimeout",
            "options.maxRedirects",
            "options.ssl",
        ]
    );
    assert!(!error.to_string().contains("hunter2"));
    assert_eq!(
        keys(&ProxyConfig::default().check().unwrap_err()),
        ["id", "url"]
    );
}

#[test]
fn names_are_bounded() {
    for (id, good) in [
        ("a", true),
        ("A.b_c-9", true),
        ("..a", true),
        ("", false),
        (".", false),
        ("..", false),
        ("a b", false),
        ("a%2e", false),
        ("\u{e9}", false),
    ] {
        assert_eq!(check_id("id", id).is_none(), good, "{id}");
    }
    assert!(check_id("id", &"x".repeat(64)).is_none());
    assert!(check_id("id", &"x".repeat(65)).is_some());
}

#[test]
fn the_client_s_values_are_bounded() {
    assert_eq!(HttpClientConfig::default().check(), Ok(()));
    let config = HttpClientConfig {
        timeout: 0,
        max_redirects: 21,
    };
    assert_eq!(
        keys(&config.check().unwrap_err()),
        ["timeout", "maxRedirects"]
    );
}

#[test]
fn egress() {
    let egress = |proxy: &str, hosts: &[&str]| EgressConfig {
        proxy: Some(SecretString::from(proxy)),
        allow_hosts: hosts.iter().map(ToString::to_string).collect(),
        deny_private: true,
    };
    let good = egress(
        "http://user:p@ss@proxy.bank.example:3128",
        &["api.openai.com", "*.openai.azure.com"],
    );
    assert_eq!(good.check(), Ok(()));
    let bad = egress(
        "socks5://user:hunter2@proxy",
        &["https://a", "", "*", "*.", "a b", ".a"],
    );
    let error = bad.check().unwrap_err();
    assert_eq!(
        keys(&error),
        [
            "proxy",
            "allowHosts[0]",
            "allowHosts[1]",
            "allowHosts[2]",
            "allowHosts[3]",
            "allowHosts[4]",
            "allowHosts[5]",
        ]
    );
    assert!(!error.to_string().contains("hunter2"));
    assert!(!format!("{bad:?}").contains("hunter2"));
}

#[test]
fn what_has_no_effect_is_told() {
    let told = |url: &str, change: fn(&mut ProxyOptions)| {
        let mut proxy = ProxyConfig {
            id: "a".to_owned(),
            url: url.into(),
            ..ProxyConfig::default()
        };
        change(&mut proxy.options);
        let told: Vec<_> = proxy.warnings().into_iter().map(|p| p.key).collect();
        told.join(" ")
    };
    let (tls, plain) = ("https://a.example", "http://a.example");
    let authority: fn(&mut ProxyOptions) = |options| options.ssl.ca = Some("ca.pem".to_owned());
    assert_eq!(told(tls, authority), "");
    assert_eq!(told(plain, authority), "options.ssl");
    let unchecked: fn(&mut ProxyOptions) = |options| {
        options.ssl.ca = Some("ca.pem".to_owned());
        options.secure = false;
    };
    assert_eq!(told(tls, unchecked), "options.ssl.ca options.secure");
    let redirects: fn(&mut ProxyOptions) = |options| options.max_redirects = Some(3);
    assert_eq!(told(tls, redirects), "options.maxRedirects");
    let followed: fn(&mut ProxyOptions) = |options| {
        options.max_redirects = Some(3);
        options.follow_redirects = true;
    };
    assert_eq!(told(tls, followed), "");
}

#[test]
fn an_unchecked_certificate_is_warned_of() {
    let mut proxy = ProxyConfig::default();
    assert!(proxy.warnings().is_empty());
    proxy.options.secure = false;
    assert_eq!(proxy.warnings()[0].key, "options.secure");
}

#[cfg(feature = "config")]
#[test]
fn a_file_is_read() {
    let proxy: ProxyConfig = serde_json::from_str(
        r#"{"id": "archive", "url": "https://archive.example/api", "remove_source_headers": true,
            "options": {"secure": false, "changeOrigin": false, "headers": {"x-key": "k"}, "timeout": 1000,
                "proxyTimeout": 2000, "followRedirects": true, "maxRedirects": 3,
                "ssl": {"ca": "ca.pem", "cert": "c.pem", "key": "k.pem"}, "ws": true, "xfwd": true}}"#,
    )
    .unwrap();
    assert_eq!(proxy.check(), Ok(()));
    assert_eq!(proxy.remove_source_headers, RemoveSourceHeaders::All);
    assert_eq!(proxy.options.proxy_timeout, Some(2000));

    let list: ProxyConfig =
        serde_json::from_str(r#"{"remove_source_headers": ["origin"]}"#).unwrap();
    assert_eq!(
        list.remove_source_headers,
        RemoveSourceHeaders::Named(vec!["origin".to_owned()])
    );
    let client: HttpClientConfig = serde_json::from_str(r#"{"maxRedirects": 0}"#).unwrap();
    assert_eq!((client.timeout, client.max_redirects), (120_000, 0));
    let egress: EgressConfig =
        serde_json::from_str(r#"{"allowHosts": ["a"], "denyPrivate": true}"#).unwrap();
    assert!(egress.deny_private);
}

#[cfg(feature = "config")]
#[test]
fn mistakes_in_a_file_are_named() {
    for (json, message) in [
        (r#"{"options": null}"#, "null"),
        (r#"{"options": {"Secure": true}}"#, "unknown field `Secure`"),
        (r#"{"options": {"secure": "true"}}"#, "expected a boolean"),
        (
            r#"{"options": {"headers": {"x": 424242}}}"#,
            "expected text",
        ),
        (r#"{"url": 424242}"#, "expected text"),
        (
            r#"{"remove_source_headers": "all"}"#,
            "true, false or a list of header names",
        ),
        (r#"{"options": {"timeout": "5"}}"#, "a whole number"),
        (r#"{"options": {"ssl": {"key": 424242}}}"#, "expected text"),
    ] {
        let error = serde_json::from_str::<ProxyConfig>(json)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{json}: {error}");
        assert!(!error.contains("424242"), "{json}: {error}");
    }
}
